"""Vectors of texts and of words in them: by hand, and whatever else is in the batch."""

from importlib.util import find_spec

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from lib.pretrained import e5, minilm, smollm2, states
from lib.pretrained.origin import Pretrained
from lib.pretrained.unigram import unigram

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁bank", "s", "▁river", "東京"]
SHAPE = {"vocab_size": 12, "hidden_size": 16, "intermediate_size": 24}
SHAPE |= {"num_hidden_layers": 2, "num_attention_heads": 2}
SENTENCES = ["the banks the river", "bank", "the river the river the river"]
SPANS = [(4, 9), (0, 4), (14, 19)]
LOADERS = {
    "minilm": (minilm.minilm, minilm.PACKAGE),
    "e5": (e5.e5, e5.PACKAGE),
    "smollm2": (smollm2.smollm2, smollm2.PACKAGE),
}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    model = BertModel(BertConfig(**SHAPE), add_pooling_layer=False).eval()
    return Pretrained(model, tokens(), "tiny", "here", "MIT")


@pytest.fixture(scope="module")
def causal():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    return Pretrained(model, tokens(), "tiny", "here", "MIT")


def tokens():
    pieces = [(piece, -1.0 - place) for place, piece in enumerate(PIECES)]
    return unigram([*pieces, ("<mask>", 0.0)])


def plain(found, sentence):
    """All layers' states of one sentence, without a batch: (layers + 1, T, D)."""
    ids = torch.tensor([found.tokenizer(sentence).input_ids])
    with torch.no_grad():
        out = found.model(ids, output_hidden_states=True)
    return torch.cat(out.hidden_states)


# --- A text ----------------------------------------------------------------------


def test_a_texts_vector_is_the_mean_of_its_last_states(tiny):
    made = states.sentence_vectors(tiny, SENTENCES, 99)
    for vector, sentence in zip(made, SENTENCES, strict=True):
        mean = plain(tiny, sentence)[-1].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm())
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(3))
    assert made.shape == (3, 16) and not made.requires_grad


def test_a_text_is_cut(tiny):
    long, short = "the river the river", "the river"
    made = states.sentence_vectors(tiny, [long, short], 4)  # <s> the river </s>
    torch.testing.assert_close(made[0], made[1])
    made = states.sentence_vectors(tiny, [long, short], 5)
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_batches_join(tiny, monkeypatch):
    texts = SENTENCES * 2 + ["river"]
    whole = states.sentence_vectors(tiny, texts, 99)
    words = states.word_states(tiny, SENTENCES, SPANS)
    monkeypatch.setattr(states, "BATCH", 2)
    torch.testing.assert_close(states.sentence_vectors(tiny, texts, 99), whole)
    torch.testing.assert_close(states.word_states(tiny, SENTENCES, SPANS), words)


def test_one_string_is_not_a_list_of_texts(tiny):
    with pytest.raises(TypeError, match="a list of strings, got the string 'bank'"):
        states.sentence_vectors(tiny, "bank", 99)


# --- A word ----------------------------------------------------------------------


def test_tokens_stand_where_the_text_has_them(tiny):
    made, spans = states.token_states(tiny, "the banks 東京")
    assert tiny.tokenizer("the banks 東京").tokens()[4:6] == ["▁", "東京"]
    assert spans == [(0, 0), (0, 3), (4, 8), (8, 9), (10, 11), (10, 12), (0, 0)]
    assert made.shape == (3, len(spans), 16)
    torch.testing.assert_close(made, plain(tiny, "the banks 東京"))


@pytest.mark.parametrize("kind", ["tiny", "causal"])
def test_a_word_is_the_mean_of_its_pieces_in_a_plain_run(kind, request):
    found = request.getfixturevalue(kind)
    made = states.word_states(found, SENTENCES, SPANS)
    assert made.shape == (3, 3, 16)
    alone = [plain(found, sentence) for sentence in SENTENCES]
    wanted = [alone[0][:, 2:4].mean(1), alone[1][:, 1], alone[2][:, 4]]
    torch.testing.assert_close(made, torch.stack(wanted, 1), atol=1e-5, rtol=0)


def test_a_word_in_the_middle_of_a_piece(tiny):
    """One character in common is enough; the space before a word is not."""
    inside = states.word_states(tiny, ["the bank"], [(5, 6)])
    whole = states.word_states(tiny, ["the bank"], [(4, 8)])
    torch.testing.assert_close(inside, whole)


def test_what_is_not_there_is_named(tiny):
    with pytest.raises(ValueError, match="1 sentences, but 2 spans"):
        states.word_states(tiny, ["bank"], [(0, 4), (0, 4)])
    for span in ((9, 12), (2, 2)):
        with pytest.raises(ValueError, match=rf"no token at \({span[0]}, .*'bank'"):
            states.word_states(tiny, ["bank"], [span])


@pytest.mark.parametrize("name", LOADERS)
def test_words_of_real_models(name):
    load, package = LOADERS[name]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    found = load()
    sentences = ["The bank of the river was muddy.", "A bank lends money to people."]
    sentences.append("彼は東京の銀行で働いている。")  # he works at a bank in Tokyo
    spans = [(4, 8), (2, 6), (5, 7)]
    assert [s[a:b] for s, (a, b) in zip(sentences, spans, strict=True)][2] == "銀行"
    made = states.word_states(found, sentences, spans)
    for column, (sentence, (start, end)) in enumerate(
        zip(sentences, spans, strict=True)
    ):
        alone, places = states.token_states(found, sentence)
        torch.testing.assert_close(alone, plain(found, sentence), atol=1e-4, rtol=0)
        inside = [n for n, (a, b) in enumerate(places) if a < end and start < b]
        ids = torch.tensor(found.tokenizer(sentence).input_ids)[inside]
        if column < 2:
            assert found.tokenizer.decode(ids).strip() == "bank"
        gap = (made[:, column] - alone[:, inside].mean(1)).abs().amax(-1)
        size = alone.abs().amax((1, 2)).clamp(min=1)  # SmolLM2 has numbers of thousands
        assert (gap < 1e-5 * size).all()
