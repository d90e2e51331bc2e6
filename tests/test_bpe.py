"""lib.tokenizers.bpe and presplit against `tokenizers`, on texts from fixed seeds."""

import json
import os
import random
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from texts import KINDS, drawn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lib.tokenizers import bpe, presplit

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
NUMBER = 2_000  # texts a case
GPT2 = Path(os.environ.get("HUB") or "", "models", "openai-community", "gpt2")
published = pytest.mark.skipif(
    not (os.environ.get("HUB") and GPT2.is_dir()),
    reason="HUB names no folder that holds GPT-2's tables",
)


def theirs(words, size, more=()):
    """What `tokenizers` learns from words; a word as often as it stands there."""
    model = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=list(more), show_progress=False
    )
    model.train_from_iterator(words, trainer)
    found = json.loads(model.to_str())["model"]
    return found["vocab"], [tuple(pair) for pair in found["merges"]]


def byte_level(vocabulary, merges):
    model = Tokenizer(models.BPE(vocabulary, merges))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return model


@pytest.fixture(scope="module")
def texts():
    return drawn(NUMBER, seed=1)


@pytest.fixture(scope="module")
def trained(texts):
    """Vocabulary, merges, and how `tokenizers` encodes with them."""
    vocabulary, merges = bpe.train(presplit.count(texts), 2_000, presplit.CHARACTERS)
    return vocabulary, merges, byte_level(vocabulary, merges)


@pytest.fixture(scope="module")
def gpt2():
    vocabulary = json.loads((GPT2 / "vocab.json").read_text("utf8"))
    lines = (GPT2 / "merges.txt").read_text("utf8").split("\n")
    merges = [tuple(x.split(" ")) for x in lines if x and not x.startswith("#version")]
    assert (len(vocabulary), len(merges)) == (50_257, 50_000)
    return vocabulary, merges, byte_level(vocabulary, merges)


# --- words and bytes ------------------------------------------------------------------


def test_words_are_those_of_tokenizers(texts):
    peer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in texts:
        wanted = [word for word, _ in peer.pre_tokenize_str(text)]
        assert presplit.byte_words(text) == wanted, repr(text)
        assert "".join(presplit.split(text)) == text


def test_every_character_of_an_old_unicode_is_cut_as_by_tokenizers():
    """Of the newest ones `regex` and `tokenizers` know different ones."""
    peer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = unicodedata.ucd_3_2_0
    for code in range(0x30000):
        if known.category(chr(code)) not in ("Cn", "Cs", "Co"):
            text = f"a{chr(code)}1 {chr(code)}"
            wanted = [word for word, _ in peer.pre_tokenize_str(text)]
            assert presplit.byte_words(text) == wanted, hex(code)


def test_the_alphabet_of_bytes():
    assert sorted(presplit.CHARACTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert presplit.visible(b" \n\xe3\x81\x82A") == "ĠĊãģĤA"
    for seed in range(NUMBER):
        data = random.Random(seed).randbytes(40)
        assert presplit.raw(presplit.visible(data)) == data


def test_count_adds_up_words():
    assert presplit.count(["a a", " a"]) == Counter({"a": 1, "Ġa": 2})
    assert presplit.count(["a b", "a b"], lambda text: [text]) == {"a b": 2}


def test_decoding_is_that_of_tokenizers():
    """Random bytes, most of them no UTF-8: � in the same places."""
    peer = decoders.ByteLevel()
    for seed in range(NUMBER):
        draw = random.Random(seed)
        data = draw.randbytes(draw.randint(0, 12))
        data += "é漢🙂".encode()[: draw.randint(0, 9)] + bytes(
            draw.choices(b"\xe3\x81a", k=4)
        )
        characters = presplit.visible(data)
        text = presplit.decode(data)
        assert text == peer.decode(list(characters))
        parts = [data[i : i + 2] for i in range(0, len(data), 2)]
        assert "".join(presplit.stream(parts)) == text


def test_a_stream_waits_for_the_rest_of_a_character():
    parts = ["漢".encode()[:1], "漢".encode()[1:] + b"a", b"\xe3"]
    assert list(presplit.stream(parts)) == ["", "漢a", "", "\ufffd"]
    assert list(presplit.stream([])) == []


# --- training -------------------------------------------------------------------------


def corpora(seed):
    """2,000 small corpora of one kind of text each: its lists of words, and a size."""
    draw = random.Random(seed)
    for n in range(NUMBER):
        kind = KINDS[n % len(KINDS)]
        yield [kind(draw) for _ in range(draw.randint(1, 6))], draw.randint(1, 60)


def test_merges_of_whole_texts_are_those_of_tokenizers():
    met = 0
    for texts, more in corpora(seed=2):
        if not "".join(texts):
            continue
        size = len(bpe.alphabet(texts)) + more
        found = bpe.train(Counter(texts), size)
        assert found == theirs(texts, size), texts
        assert found == bpe.textbook(texts, size), texts
        met += len(found[1])
    assert met > 10 * NUMBER


def test_merges_of_words_in_bytes_are_those_of_tokenizers():
    for texts, more in corpora(seed=3):
        words = [word for text in texts for word in presplit.byte_words(text)]
        if words:
            size = 256 + more
            found = bpe.train(Counter(words), size, presplit.CHARACTERS)
            assert found == theirs(words, size, presplit.CHARACTERS), texts


def test_merges_of_random_bytes_are_those_of_tokenizers():
    for seed in range(NUMBER):
        draw = random.Random(seed)
        some = bytes(
            draw.sample(range(256), 6)
        )  # few different ones, or nothing repeats
        words = [
            presplit.visible(bytes(draw.choices(some, k=draw.randint(1, 40))))
            for _ in range(draw.randint(1, 4))
        ]
        assert bpe.train(Counter(words), 40) == theirs(words, 40)


def test_merges_by_hand():
    counts = {"low": 5, "lowest": 2, "newer": 6, "wider": 3}
    vocabulary, merges = bpe.train(counts, 14)
    assert list(vocabulary)[:9] == sorted("lowestnrid")[:9]
    assert merges[:4] == [("e", "r"), ("l", "o"), ("lo", "w"), ("e", "w")]
    assert bpe.train({"aaaa": 1, "aaa": 1}, 3)[1] == [("a", "a"), ("aa", "a")]


def test_no_two_pairs_spell_one_token():
    """Why an id can be given for each merge: what a token is made of is settled by it."""
    for texts, more in corpora(seed=4):
        size = len(bpe.alphabet(texts)) + more
        if "".join(texts):
            vocabulary, merges = bpe.train(Counter(texts), size)
            assert len(vocabulary) == len(bpe.alphabet(texts)) + len(merges)


def test_where_the_text_has_no_more_pairs_the_vocabulary_stays_small():
    found = bpe.train({"abc": 2}, 1_000)
    assert found == theirs(["abc"] * 2, 1_000)
    assert list(found[0]) == ["a", "b", "c", "ab", "abc"]
    assert bpe.train({"a": 3}, 9) == ({"a": 0}, [])  # one character: nothing to merge


def test_training_refuses():
    with pytest.raises(
        ValueError, match="counts: expected at least one word, got none"
    ):
        bpe.train({}, 10)
    with pytest.raises(
        ValueError, match="vocab_size: expected at least the 3 characters"
    ):
        bpe.train({"abc": 1}, 2)
    with pytest.raises(ValueError, match="at least the 256 characters, got 255"):
        bpe.train({"abc": 1}, 255, presplit.CHARACTERS)


# --- encoding -------------------------------------------------------------------------


def slowly(word, ranks):
    """Merge the pair of the lowest rank, leftmost first, until none has a rank."""
    tokens = list(word)
    while True:
        found = [(ranks[p], i) for i, p in enumerate(pairwise(tokens)) if p in ranks]
        if not found:
            return tokens
        i = min(found)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


def test_a_word_is_merged_in_the_order_of_the_ranks(texts, trained):
    ranks = bpe.ranks(trained[1])
    for text in texts:
        word = presplit.visible(text.encode())
        assert bpe.merged(word, ranks) == slowly(word, ranks)


@pytest.mark.parametrize("tables", ["trained", pytest.param("gpt2", marks=published)])
def test_ids_are_those_of_tokenizers(tables, request):
    vocabulary, merges, peer = request.getfixturevalue(tables)
    ranks, tokens = bpe.ranks(merges), {n: token for token, n in vocabulary.items()}
    for text in drawn(NUMBER, seed=5):
        if "<|endoftext|>" in text:  # not in the peer's special tokens
            continue
        ids = bpe.encode(text, vocabulary, ranks)
        assert ids == peer.encode(text).ids, repr(text)
        assert bpe.decode(ids, tokens) == text == peer.decode(ids)


def test_ids_of_whole_texts_are_those_of_tokenizers(texts):
    """Long words: no splitting, characters for symbols."""
    vocabulary, merges = bpe.train(Counter(texts), 4_000)
    peer, ranks = Tokenizer(models.BPE(vocabulary, merges)), bpe.ranks(merges)
    for text in texts:
        ids = bpe.encode(text, vocabulary, ranks, lambda text: [text])
        assert ids == peer.encode(text).ids, repr(text)


def test_ids_decode_as_with_tokenizers(trained):
    """Ids in any order: their bytes are mostly no text."""
    vocabulary, _, peer = trained
    tokens, draw = list(vocabulary), random.Random(6)
    for _ in range(NUMBER):
        ids = draw.choices(range(len(tokens)), k=draw.randint(0, 8))
        assert bpe.decode(ids, tokens) == peer.decode(ids)


def test_a_text_of_one_long_word_takes_no_square_of_its_length():
    vocabulary, merges = bpe.train({"abab" * 64: 1}, 9)
    found = bpe.encode("ab" * 100_000, vocabulary, bpe.ranks(merges), lambda x: [x])
    longest = max(map(len, vocabulary))
    assert len(found) == 200_000 // longest + 1


def test_special_tokens_are_text_unless_allowed(trained):
    vocabulary, merges, _ = trained
    ranks, special = bpe.ranks(merges), {"<|end|>": 5_000, "<|end|>x": 5_001}
    text = "a<|end|>b<|end|>xx"
    plain = bpe.encode(text, vocabulary, ranks)
    assert bpe.decode(plain, list(vocabulary)) == text and max(plain) < 5_000
    found = bpe.encode(text, vocabulary, ranks, special=special)
    a, b, x = (vocabulary[letter] for letter in "abx")
    assert found == [a, 5_000, b, 5_001, x]
    peer = byte_level(vocabulary, merges)
    peer.add_special_tokens(list(special))  # it reads them in any text
    ids = {peer.token_to_id(token): n for token, n in special.items()}
    assert [ids.get(n, n) for n in peer.encode(text).ids] == found


def test_encoding_refuses(trained):
    vocabulary, merges, _ = trained
    ranks = bpe.ranks(merges)
    with pytest.raises(ValueError, match=r"text: '\\ud800' at 1 is a lone surrogate"):
        bpe.encode("a\ud800", vocabulary, ranks)
    with pytest.raises(ValueError, match="text: 'あ' is not in the vocabulary"):
        bpe.encode("aあ", vocabulary, {}, lambda text: [text])
    with pytest.raises(ValueError, match="characters: 'あ' stands for no byte"):
        presplit.raw("aあ")


def test_nothing_and_nul(trained):
    vocabulary, merges, peer = trained
    ranks = bpe.ranks(merges)
    assert bpe.encode("", vocabulary, ranks) == [] == peer.encode("").ids
    assert bpe.encode("a\0\0b", vocabulary, ranks) == peer.encode("a\0\0b").ids
    assert bpe.decode([], []) == ""
