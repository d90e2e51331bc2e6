"""train.heads: its texts, its maps, one layer at a time, a killed record, the record."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import weights
from lib.lens import heads, hooks, measures
from lib.pretrained.origin import Pretrained, PretrainedError
from train import heads as study

LETTERS = [a + b + c for a in "abcd" for b in "efgh" for c in "ij"]
VOCABULARY = {"Ġ" + word: i for i, word in enumerate(LETTERS)}
VOCABULARY |= {"Ġ的": 40, "12": 41, "ab": 42}


def encode(text):
    return Words()(text).input_ids


class Words:
    """A tokenizer of words, as far as the record needs one."""

    cls_token_id = None
    all_special_ids = ()

    def get_vocab(self):
        return VOCABULARY

    def __call__(self, text, return_offsets_mapping=False, **_):
        ids, places, at = [], [], 0
        for word in text.split():
            start = text.index(word, at)
            at = start + len(word)
            ids.append(sum(map(ord, word)) % 32)
            places.append((start, at))
        found = type("Found", (), {})()
        found.input_ids, found.offset_mapping = ids, places
        return found


@pytest.fixture
def small():
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 36, "intermediate_size": 40}
    config = LlamaConfig(
        **sizes, num_hidden_layers=3, num_attention_heads=9, num_key_value_heads=3
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Pretrained(model, Words(), "small", "made here", "MIT")


def test_pieces_are_spread_over_the_prose():
    found = study.pieces(encode, 20, 6)
    assert found.shape == (6, 20) and len({tuple(row) for row in found.tolist()}) == 6
    with pytest.raises(ValueError, match="got 9999, the prose has"):
        study.pieces(encode, 20, 9999)


def test_the_record_has_texts_of_the_length_that_the_script_says():
    record = weights.trace(study.NAME)["SmolLM2"]
    shapes = {kind: torch.tensor(record[kind]["ids"]).shape for kind in study.KEEP}
    assert shapes["prose"] == (study.DRAWS, study.LENGTH)
    assert shapes["repeats"] == (study.DRAWS, 2 * study.PERIOD)


def test_random_tokens_are_plain_words_said_twice(small):
    assert study.plain(small).tolist() == [*range(32)]
    ids = study.twice(small, 0)
    assert ids.shape == (study.DRAWS, 2 * study.PERIOD)
    assert torch.equal(ids[:, : study.PERIOD], ids[:, study.PERIOD :])
    assert not torch.equal(ids, study.twice(small, 1))


def test_maps_without_the_first_token():
    maps = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0.1, 0.4]])
    rest = study.without_first(maps)
    torch.testing.assert_close(rest, torch.tensor([[1.0, 0], [0.2, 0.8]]))


def test_measures_of_a_sentence_by_hand():
    previous = torch.diag(torch.ones(3), -1)
    previous[0, 0] = 1
    ids, no = torch.tensor([5, 6, 5, 7]), torch.zeros(4, dtype=torch.bool)
    marks = torch.tensor([False, False, False, True])
    found = study.of_sentence(previous[None, None], ids, no, marks)
    told = {name: value.item() for name, value in found.items()}
    assert told["previous"] == told["previous*"] == 1
    assert told["first"] == 0.5 and told["itself"] == 0.25 and told["next"] == 0
    assert told["punctuation"] == 0 and told["same"] == 0 and told["entropy"] == 0
    none = study.of_sentence(previous[None, None], torch.arange(4), no, no)
    assert "same" not in none and "punctuation" not in none


def test_measures_of_repeats_by_hand():
    ids = torch.tensor([[1, 2, 3, 1, 2, 3]])
    keys = torch.tensor([0, 0, 0, 1, 2, 3])
    maps = torch.nn.functional.one_hot(keys, 6).float()[None, None, None]
    found = study.of_repeats(maps, ids)
    assert found["induction"].item() == found["induction*"].item() == 1
    assert found["first"].item() == 0.5 and found["same"].item() == 0


def test_hits_and_offsets_count_pairs():
    words = torch.tensor([[0.5, 0.5, 0], [0.9, 0.1, 0], [0.1, 0.8, 0.1]])
    assert study.hits(words, [(1, 0), (2, 0), (2, 1)]) == 2
    found = study.at_offsets([(1, 0), (2, 0), (2, 1)])
    assert found[8 - 1] == 2 and found[8 - 2] == 1 and found.sum() == 3


@torch.no_grad()
def test_a_layer_alone_gives_what_the_whole_model_gives(small):
    model, ids = small.model, study.twice(small, 0)
    with hooks.reading_inputs(model, r"model\.layers\.\d+") as into:
        whole = study.losses(model, ids, 5)
    assert whole.shape == (study.DRAWS,)
    for layer, state in enumerate(into.values()):
        with study.starting_at(model, layer):
            assert len(model.model.layers) == 3 - layer
            there = study.losses(model, ids, 5, inputs_embeds=state)
        torch.testing.assert_close(there, whole)
        with heads.replacing_heads(model, {(layer, 4): torch.zeros_like}):
            wanted = study.losses(model, ids, 5)
        with heads.reading_heads(model) as own:
            model(ids, use_cache=False)
        score = lambda x: study.losses(model, ids, 5, inputs_embeds=x)  # noqa: E731
        found = study.ablate(
            model, layer, "zero", score, state, own[layer], own[layer].flip(0)
        )
        assert len(found) == 9
        assert found[4] == pytest.approx(wanted.tolist(), abs=2e-4)
    assert len(model.model.layers) == 3


def test_what_stands_in_a_heads_place():
    own, other = torch.ones(2, 3, 4), torch.arange(24.0).view(2, 3, 4)
    assert not study.in_place(own, other, "zero").any()
    assert torch.equal(study.in_place(own, other, "mean"), other.mean((0, 1)))
    assert study.in_place(own, other, "resample") is other


def test_others_are_of_the_same_layers():
    group = [(3, h) for h in range(5)] + [(7, 0)]
    found = study.others_in(group, torch.Generator().manual_seed(0))
    assert len({*found}) == 6 and not {*found} & {*group}
    assert [layer for layer, _ in found].count(7) >= 1
    assert [layer for layer, _ in found[:4]] == [3] * 4  # and no fifth is left


def test_retrieval_is_a_guess_when_all_are_alike():
    N = study.DRAWS * study.PAIRS
    found = study.retrieval(torch.ones(2 * N, 5))
    assert found.tolist() == pytest.approx([math.log(N)] * study.DRAWS, abs=1e-4)
    exact = study.retrieval(torch.eye(N).repeat(2, 1))
    assert exact.max() < 1e-5


def test_a_killed_record_goes_on(small, monkeypatch, goes_on):
    monkeypatch.setattr(study, "smollm2", lambda: small)
    monkeypatch.setattr(study, "LENGTH", 14)
    monkeypatch.setattr(study, "DRAWS", 2)
    found = goes_on(study.writer, study, "ablate", (3, 11))
    for part in found.values():
        shape = torch.tensor(part["without"]["mean"]).shape
        assert shape == (3, 9, 2) and len(part["intact"]) == 2


@pytest.mark.skipif(study.NAME not in weights.names(), reason="not recorded yet")
def test_the_record_is_of_these_settings():
    trace, card = weights.trace(study.NAME), weights.card(study.NAME)
    assert card["config"]["tokens whose loss counts"] == study.KEEP
    for text, ways in ((t, trace["SmolLM2"][t]["without"]) for t in study.KEEP):
        for way in study.KINDS:
            shape = torch.tensor(ways[way]).shape
            assert shape == (30, 9, study.DRAWS), (text, way)
    assert torch.tensor(trace["MiniLM"]["without"]["zero"]).shape == (6, 12, 16)
    assert [*trace["groups"]] == [*study.BY]


@torch.no_grad()
def test_the_record_is_made_again():
    """One head's score and what it costs, from the model itself."""
    try:
        found = study.smollm2()
    except PretrainedError as error:
        pytest.skip(str(error))
    trace = weights.trace(study.NAME)
    ids, _ = study.texts(found)["repeats"]
    part = trace["SmolLM2"]["repeats"]
    assert ids.tolist() == part["ids"]
    two = ids[:2]
    maps = study.maps_of(found.model, two)[:, 18, 6]
    score = measures.share(maps, measures.after_same(two)).mean().item()
    wanted = trace["maps"]["SmolLM2"]["repeats"]["induction"]["mean"][18][6]
    assert score == pytest.approx(wanted, abs=0.05)
    with heads.replacing_heads(found.model, {(18, 6): torch.zeros_like}):
        gone = study.losses(found.model, two, study.KEEP["repeats"])
    assert gone.tolist() == pytest.approx(part["without"]["zero"][18][6][:2], abs=0.01)
