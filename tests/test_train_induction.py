"""train.induction: its data, its networks, what is measured, a killed study."""

import pytest
import torch

from lib import weights
from lib.lens import heads
from train import induction as study


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {"STEPS": 4, "EVERY": 2, "WARM_UP": 1, "BATCH": 4}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "SEEDS", range(1))
    monkeypatch.setattr(study, "HELD_OUT", 4)
    monkeypatch.setattr(study, "TRIALS", 2)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def test_text_follows_the_chain(generator):
    chain = study.CHAIN.diff(dim=-1, prepend=torch.zeros(study.V, 1))
    assert (chain > -1e-6).all() and torch.allclose(
        study.CHAIN[:, -1], torch.ones(study.V), atol=1e-5
    )
    tokens = study.text(800, generator)
    assert tokens.shape == (800, study.T) and tokens.max() < study.V
    counts = torch.zeros(study.V, study.V)
    pairs = (tokens[:, :-1].flatten(), tokens[:, 1:].flatten())
    counts.index_put_(pairs, torch.ones(len(pairs[0])), accumulate=True)
    seen = counts.sum(-1) > 500
    gap = (counts[seen] / counts[seen].sum(-1, keepdim=True) - chain[seen]).abs()
    assert seen.sum() > 20 and gap.max() < 0.08
    rate = -(chain * chain.clamp(min=1e-12).log()).sum(-1)  # (V,), by the token before
    mean = (counts.sum(-1) * rate).sum() / counts.sum()
    assert study.floor() == pytest.approx(mean.item(), abs=0.1)


def test_repeats_come_again(generator):
    low, high = study.PERIODS
    found = set()
    for row in study.repeats(300, generator):
        periods = [p for p in range(1, high + 1) if torch.equal(row[p:], row[:-p])]
        assert periods and low <= periods[0] <= high
        found.add(periods[0])
    assert {low, high} <= found


def test_no_token_of_the_early_places_can_be_foretold_from_its_sequence():
    assert study.EARLY.stop < study.PERIODS[0]  # loss i is that of place i + 1
    assert study.LATE.stop + 1 == study.T
    assert study.LATE.start + 1 >= 2 * study.PERIODS[1]


def test_the_mixture_is_half_and_half(generator):
    mixed = study.mixture(40, generator)
    repeat = [
        any(torch.equal(row[p:], row[:-p]) for p in range(1, study.PERIODS[1] + 1))
        for row in mixed
    ]
    assert repeat == [False, True] * 20


@pytest.mark.parametrize("arm", study.ARMS)
def test_networks_are_attention_alone(arm):
    model = study.network(*study.ARMS[arm])
    layers, smeared = study.ARMS[arm]
    assert len(model.blocks) == layers and not [
        name for name, _ in model.named_parameters() if "mlp" in name
    ]
    with heads.reading_attention(model) as maps:
        model(study.held_out()[1][:2])
    assert len(maps) == layers
    shares = [n for n, _ in model.named_parameters() if n.endswith("share")]
    assert len(shares) == layers * smeared


def test_smeared_keys_by_hand():
    layer = study.Smeared(torch.nn.Linear(study.D, study.D, bias=False))
    layer.share.data = torch.tensor([200.0, -200.0, 0.0, 0.0])  # own, before, half
    x = torch.randn(1, 3, study.D)
    key, found = layer.to_key(x), layer(x)
    d = study.D // study.HEADS
    assert torch.allclose(found[..., :d], key[..., :d])
    assert torch.allclose(found[:, 1:, d : 2 * d], key[:, :-1, d : 2 * d])
    assert not found[:, 0, d : 2 * d].any()
    assert torch.allclose(found[:, 2, 2 * d :], key[:, 1:, 2 * d :].mean(1))


@torch.no_grad()
def test_what_is_measured(tiny):
    """A stand-in that repeats what came PERIOD tokens before, and one that guesses."""
    mixed, twice = study.held_out()

    class Guess(torch.nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, study.V)

    assert torch.allclose(
        study.losses(Guess(), mixed), torch.full((4, study.T - 1), study.V).log()
    )
    torch.manual_seed(0)
    model = study.network(2, False).eval()
    found = study.evaluate(model)
    loss = study.losses(model, mixed)
    assert found["text"] == pytest.approx(loss[::2].mean().item(), abs=1e-4)
    late, early = loss[:, 47:].mean(), loss[:, 3:7].mean()
    assert found["in_context"] == pytest.approx((late - early).item(), abs=1e-4)
    assert [len(row) for row in found["induction"]] == [4, 4]
    kinds = found["in_context_text"], found["in_context_repeats"]
    assert sum(kinds) / 2 == pytest.approx(found["in_context"], abs=1e-4)
    late, early = loss[1::2, 47:].mean(), loss[1::2, 3:7].mean()
    assert kinds[1] == pytest.approx((late - early).item(), abs=1e-4)
    half = study.losses(model, twice)[:, 20:].mean().item()
    assert found["again"] == pytest.approx(half, abs=1e-4)


def test_when_it_formed_and_dropped():
    scores, again = [0.01, 0.2, 0.6, 0.9], [4.2, 3.9, 2.1, 2.0]  # ln 64 is 4.16
    found = [
        {"step": 10 * i, "induction": [[0.0, s], [s / 9, 0.0]], "again": x}
        for i, (s, x) in enumerate(zip(scores, again, strict=True))
    ]
    assert study.formed(found) == 20 and study.dropped(found) == 30
    assert study.formed(found[:2]) is None and study.dropped(found[:2]) is None


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    whole, tensors = goes_on(study.study, study, "evaluate", (2, 9))
    assert whole.keys() == study.ARMS.keys() and "blocks.1.norm.weight" not in tensors
    for runs in whole.values():
        (trace,) = runs
        assert [e["step"] for e in trace["evaluations"]] == [0, 2, 4]
    assert [*whole["two layers"][0]["without"]] == [
        f"{i}.{h}" for i in (0, 1) for h in range(4)
    ]


@pytest.mark.skipif(study.NAME not in weights.names(), reason="not trained yet")
def test_the_record_is_of_these_settings():
    record, card = weights.trace(study.NAME), weights.card(study.NAME)
    assert card["config"] == study.CONFIG and record.keys() == study.ARMS.keys()
    for runs in record.values():
        assert len(runs) == len(study.SEEDS)
        assert all(run["evaluations"][-1]["step"] == study.STEPS for run in runs)
    model = study.network(*study.ARMS["two layers"])
    model.load_state_dict(weights.tensors(study.NAME))
    with torch.no_grad():
        found = study.evaluate(model.eval())
    wanted = record["two layers"][0]["evaluations"][-1]
    assert found["in_context"] == pytest.approx(wanted["in_context"], abs=0.01)
