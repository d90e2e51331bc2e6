"""lib.pretrained.gpt2: the published tables, verified, or those that are trained here."""

import os
import random
from pathlib import Path

import pytest
from hub import Hub
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers

from lib.data import origin
from lib.pretrained import gpt2
from lib.pretrained.origin import PretrainedError
from lib.tokenizers import bpe, presplit

FOLDER = Path(os.environ.get("HUB") or "", "models", gpt2.REPOSITORY)
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="HUB names no folder that holds GPT-2's tables"
)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A process that has asked nobody, and a client's cache of its own."""
    monkeypatch.setattr(origin, "_answers", {})
    monkeypatch.setattr(origin, "_waited", 0.0)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_without_a_hub_tables_are_trained_here(monkeypatch):
    monkeypatch.setattr(gpt2, "silence", lambda address: "nobody answers")
    found = gpt2.gpt2()
    assert not found.is_full and found.name == "gpt2"
    assert len(found.vocabulary) == gpt2.SIZE
    assert len(found.merges) == gpt2.SIZE - 256
    said = repr(found)
    assert said.startswith("gpt2: 2,000 tokens, 1,744 merges") and "nobody" in said
    plain, meta = found._repr_mimebundle_()
    assert plain == {"text/plain": said}
    assert meta == {"glassbox": {"name": "gpt2", "is_full": False}}
    text = "A reader's 12 デジタル\n"
    words, ranks = presplit.byte_words(text), bpe.ranks(found.merges)
    tokens = [token for word in words for token in bpe.merged(word, ranks)]
    assert set(tokens) <= set(found.vocabulary)
    assert presplit.decode(presplit.raw("".join(tokens))) == text


def test_offline_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(gpt2, "silence", lambda address: "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in gpt2.gpt2().notice


def served(monkeypatch, folder):
    hub = Hub(folder)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return hub


def test_another_table_is_refused(monkeypatch, tmp_path):
    place = tmp_path / "hub" / "models" / gpt2.REPOSITORY
    place.mkdir(parents=True)
    for name in gpt2.FILES:
        (place / name).write_text("{}")
    with (
        served(monkeypatch, tmp_path / "hub"),
        pytest.raises(PretrainedError, match="expected sha256"),
    ):
        gpt2.gpt2()


@real
def test_the_published_tables_encode_as_tokenizers_does(monkeypatch):
    with served(monkeypatch, Path(os.environ["HUB"])):
        found = gpt2.gpt2()
    assert found.is_full and found.notice == ""
    assert (len(found.vocabulary), len(found.merges)) == (50_257, 50_000)
    other = Tokenizer(models.BPE(found.vocabulary, found.merges))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ranks, rng = bpe.ranks(found.merges), random.Random(0)
    for _ in range(200):
        text = "".join(rng.choices("The readers' 12 日本 é\n\t🍣", k=30))
        words = presplit.byte_words(text)
        ids = [found.vocabulary[x] for w in words for x in bpe.merged(w, ranks)]
        assert ids == other.encode(text).ids
