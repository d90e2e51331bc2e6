"""Prompt tuning: trained vectors before the first token, and a model that stays as it is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.adapters import files
from lib.adapters.files import AdapterError


class SoftPrompt(nn.Module):
    """A language model of `transformers` behind P trained vectors, `prompt` (P, D).

    They start as the embeddings of the tokens `start`. The model's parameters have their
    gradients off.

    Shapes: ids (B, T) -> the model's output, its logits (B, T, V) without the prompt's.
    Raises ValueError: no token to start from, or one that the model does not have.
    Source: Lester et al. (2021), arXiv:2104.08691.
    """

    def __init__(self, model: nn.Module, start: Sequence[int]):
        super().__init__()
        table = model.get_input_embeddings().weight  # (V, D)
        if not len(start) or not 0 <= min(start) <= max(start) < len(table):
            raise ValueError(
                f"start: got {[*start]!r}, wants token ids of 0 to {len(table) - 1}"
            )
        self.model = model.requires_grad_(False)
        self.prompt = nn.Parameter(table[torch.tensor([*start])].detach().clone())
        self.train(model.training)

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        own = self.model.get_input_embeddings()(input_ids)  # (B, T, D)
        B, T = input_ids.shape
        before = self.prompt.to(own.dtype).expand(B, -1, -1)  # (B, P, D)
        keep = min(options.pop("logits_to_keep", 0) or T, T)
        x = torch.cat((before, own), 1)  # (B, P + T, D)
        return self.model(inputs_embeds=x, logits_to_keep=keep, **options)


def save(model: SoftPrompt, folder: str | os.PathLike, base: str = "") -> Path:
    """Write a soft prompt as `peft` does; returns the folder."""
    config = model.model.config
    P, D = model.prompt.shape
    settings = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "inference_mode": True,
        "num_virtual_tokens": P,
        "token_dim": D,
        "num_transformer_submodules": 1,
        "num_attention_heads": config.num_attention_heads,
        "num_layers": config.num_hidden_layers,
    }
    tensors = {"prompt_embeddings": model.prompt.detach().cpu().contiguous()}
    return files.write(folder, settings, tensors)


def load(model: nn.Module, folder: str | os.PathLike) -> SoftPrompt:
    """The model behind the soft prompt of a folder. Raises AdapterError as `files.load`."""
    config, tensors = files.read(folder)
    if (kind := config.get("peft_type")) != "PROMPT_TUNING":
        raise AdapterError(f"{folder}: peft_type is {kind!r}, wants 'PROMPT_TUNING'")
    found = tensors.get("prompt_embeddings")
    width = model.get_input_embeddings().weight.shape[1]
    if found is None or found.ndim != 2 or found.shape[1] != width:
        got = None if found is None else tuple(found.shape)
        raise AdapterError(
            f"{folder}: an adapter for another model: vectors of {got}, wants (P, {width})"
        )
    made = SoftPrompt(model, [0] * len(found))
    made.prompt.data.copy_(found)
    return made
