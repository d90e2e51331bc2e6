"""train.sae: a tiny run end to end, killed and continued; what is cached and judged."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import training, weights
from lib.data.origin import Dataset
from lib.lens import sae
from train import sae as study

V, D = 64, 16


class Letters:
    """A tokenizer whose tokens are characters."""

    def encode(self, text):
        return [ord(c) % V for c in text]

    def decode(self, ids):
        return "".join(chr(i + 64) for i in ids)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    found = SimpleNamespace(
        model=model, tokenizer=Letters(), source="drawn", licence="none"
    )
    monkeypatch.setattr(study, "smollm2", lambda: found)
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "checkpoints")
    monkeypatch.setattr(study.pooch, "os_cache", lambda name: tmp_path / "cache")
    for name, value in {
        "LAYER": 1,
        "T": 16,
        "PART": 8,
        "FEATURES": 48,
        "K": 4,
        "RUN": {"batch": 32, "steps": 12, "rate": 1e-2, "warm_up": 2},
        "SEEDS": range(2),
        "LOOK": 6,
        "LOOKED_AT": 64,
        "TESTED": {"shakespeare": 4, "prose": 2},
        "ENTRIES": (2, 4),
        "UNITS": 3,
        "READ": 8,
        "OFTEN": (1e-6, 1.0),
    }.items():
        monkeypatch.setattr(study, name, value)
    text = "To be, or not to be: that is the question. " * 60
    corpus = Dataset(
        name="tiny",
        source="here",
        licence="public domain",
        is_full=True,
        rows=[{"title": "t", "content": text}],
        unit="text",
    )
    monkeypatch.setattr(study, "tiny_shakespeare", lambda: corpus)
    return found, corpus


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on, monkeypatch):
    """Killed within a run, between the runs, and in the judging."""
    again = lambda folder: study.study(*tiny, folder)[0]  # noqa: E731

    def timeless(folder):
        found = again(folder)
        found.pop("cpu minutes")
        return found

    monkeypatch.setattr(training, "fit", quick_saves(training.fit))
    trace = goes_on(timeless, study.sae, "unexplained", (2, 4, 9))
    assert trace["runs"].keys() == {"0", "1"}


def quick_saves(fit):
    return lambda *what, **given: fit(*what, **given, save_every=0.0)


def test_the_command_ships_a_checkpoint_that_opens(tiny, tmp_path):
    study.main(["--folder", str(tmp_path / "runs")])
    card, trace = weights.card(study.NAME), weights.trace(study.NAME)
    assert card["data"]["is_full"] and "public domain" in card["data"]["text"]
    assert card["metrics"]["cpu_minutes"] >= 0
    model = study.opened(weights.tensors(study.NAME))
    assert model.directions.shape == (48, D) and model.k == 4
    looks = trace["runs"]["0"]["evaluations"]
    assert looks[-1]["unexplained"] < looks[0]["unexplained"]
    losses = trace["losses"]["shakespeare"]
    for name, k in study.planned():
        assert len(losses[name][str(k)]) == 4
    assert trace["shared"].keys() == {"0 and 1", "0 and untrained"}
    for kind in ("features", "neurons"):
        assert len(trace["units"][kind]) == 3
        value, before, at, after = trace["units"][kind][0]["top"][0]
        assert value > 0 and len(at) == 1 and isinstance(before + after, str)


def test_states_are_those_of_the_whole_model_and_are_kept(tiny, tmp_path, monkeypatch):
    found, _ = tiny
    ids = torch.randint(V, (10, 16))
    x, minutes = study.states(found, ids, tmp_path / "states")
    assert x.shape == (150, D) and x.dtype == torch.float16 and minutes >= 0
    with torch.no_grad():
        out = found.model(ids, output_hidden_states=True)
    wanted = out.hidden_states[2][:, 1:].flatten(0, 1)  # after layer 1
    torch.testing.assert_close(x.float(), wanted, atol=1e-3, rtol=1e-3)
    assert len(found.model.model.layers) == 3  # put back
    assert len([*(tmp_path / "states").glob("part-*.pt")]) == 2
    monkeypatch.setattr(study, "states_of", None)  # what is kept is not run again
    assert torch.equal(study.states(found, ids, tmp_path / "states")[0], x)


def test_layers_are_put_back_after_an_error(tiny):
    model = tiny[0].model
    with pytest.raises(RuntimeError), study.stopping_after(model, 0):
        raise RuntimeError
    assert len(model.model.layers) == 3


def test_another_text_or_other_weights_are_other_states():
    one, other = torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    places = {study.cached(ids, s) for ids in (one, other) for s in ("a", "b")}
    assert len(places) == 4


def test_pieces_and_their_split(tiny):
    _, corpus = tiny
    parts = study.texts(corpus, Letters().encode)
    assert all(part.shape[1] == 16 for part in parts.values())
    assert len(parts["train"]) == 2580 * 9 // 10 // 16
    with pytest.raises(ValueError, match="wants at least 16"):
        study.pieces(Letters().encode, "short")


def test_a_place_is_shown_with_its_own_token(tiny):
    ids = torch.arange(32).view(2, 16)
    value, before, at, after = study.shown(15, torch.tensor(1.0), ids, lambda x: x)
    assert at == [17] and before == [16] and after[0] == 18  # the second piece
    assert value == 1.0


def test_hours_are_not_spent_on_the_default_unasked(
    tiny, monkeypatch, capsys, tmp_path
):
    _, corpus = tiny
    part = Dataset(**{**vars(corpus), "is_full": False})
    monkeypatch.setattr(study, "tiny_shakespeare", lambda: part)
    study.main(["--folder", str(tmp_path)])
    assert "nothing is trained" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_all_entries_in_orthonormal_directions_rebuild_the_state(tiny):
    x = torch.randn(50, D)
    code = study.codes(x, {"autoencoder 0": sae.TopK(D, 48, 4)})
    for name in ("first components", "largest components", "directions by lot"):
        torch.testing.assert_close(code[name](D)(x), x, atol=1e-4, rtol=1e-4)
    assert code["whole"](0) is None
    assert torch.equal(code["mean"](0)(x)[0], code["mean"](0)(x)[1])
    assert code["autoencoder 0"](2)(x).shape == x.shape


recorded = pytest.mark.skipif(study.NAME not in weights.names(), reason="not run yet")


@recorded
def test_the_record_is_of_these_settings():
    card, trace = weights.card(study.NAME), weights.trace(study.NAME)
    assert card["config"] == training.json.loads(training.json.dumps(study.CONFIG))
    for name, k in study.planned():
        for text, count in study.TESTED.items():
            assert len(trace["losses"][text][name][str(k)]) == count
    assert study.opened(weights.tensors(study.NAME)).k == study.K
