"""train.translation_search: its systems, what it records of each, and how it goes on."""

import pytest
import torch

from lib.models.encoder_decoder import EncoderDecoder
from lib.tokenizers import sentencepiece
from train import translation
from train import translation_search as study

FEW = {
    "greedy": {},
    "3 beams": {"beams": 3, "length_penalty": 0.0},
    "draw 1": {"temperature": 1.0, "draw": 1},
    "draw 2": {"temperature": 1.0, "draw": 2},
}


@pytest.fixture(scope="module")
def made():
    splits, _ = translation.load("grammar")
    processor = sentencepiece.load(translation.vocabulary(splits["train"], 120))
    torch.manual_seed(0)
    model = EncoderDecoder(120, 120, 16, 4, 1, 32, norm="pre", tied=True).eval()
    return model, processor, splits["validation"][:8]


def test_systems():
    """Greedy first, the baseline; two rankings of each beam; draws of other seeds."""
    names = list(study.SYSTEMS)
    assert names[0] == "greedy" and study.SYSTEMS["greedy"] == {}
    wide = [one["beams"] for one in study.BEAMS.values()]
    assert wide == [2, 4, 8, 16, 32, 4] and len(names) == 1 + 6 + 6
    assert [one["length_penalty"] for one in study.BEAMS.values()] == 5 * [0] + [1]


def test_a_study_goes_on_and_says_what_was_found(made):
    model, processor, pairs = made
    done = {}

    def keep(name, job):
        return done[name] if name in done else done.setdefault(name, job())

    trace = study.study(model, processor, pairs, FEW, keep)
    assert list(trace["rows"]) == list(done) == list(FEW) and trace["pairs"] == 8
    rows = trace["rows"]
    assert (
        rows["greedy"]["BLEU"]["p"] is None and rows["draw 1"]["BLEU"]["p"] is not None
    )
    assert done["draw 1"] != done["draw 2"]
    again = {name: keep(name, None) for name in FEW}
    assert again == done
    plain = translation.translate(model, processor, [s for s, _ in pairs])
    assert done["greedy"] == plain
    best = rows["3 beams"]["log_probability"]
    assert best >= rows["draw 1"]["log_probability"]


def test_of_nothing_is_the_first_token_being_the_last(made):
    model, processor, pairs = made
    sentence = pairs[0][0]
    source = torch.tensor([processor.encode(sentence, add_eos=True)])
    text = torch.tensor([[translation.BOS]])
    shares = model(source, text)[0, -1].softmax(-1)
    (found,) = study.of_nothing(model, processor, [sentence])
    assert found == pytest.approx(shares[translation.EOS].log().item(), abs=1e-5)


def test_told_counts_empty_texts_and_likelier_ones():
    row = study.told(["ein Hund", " ", "ein"], [-2.0, -9.0, -4.0], [-3.0, -9.0, -1.0])
    assert row == {
        "log_probability": -5.0,
        "words": 1.0,
        "empty": 1,
        "empty_likelier": 1,
    }


def test_the_translator_is_the_shipped_one():
    model, processor = study.shipped()
    assert not model.training
    texts, sums = translation.translate(
        model, processor, ["A man is riding a bicycle."], search=study.search({})
    )
    assert texts == ["Ein Mann fährt Fahrrad."] and sums[0] < 0
