"""Adapters on disk, in the form of `peft`: what it writes is read here, and ours there.

A folder with `adapter_config.json` and `adapter_model.safetensors`; nothing is unpickled.
LoRA and its kin; a soft prompt is kept by `prompt`.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lib.adapters.adapter import Adapter, adapters, attach
from lib.adapters.lora import DoRA, LoRA, RsLoRA

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
START = "base_model.model."  # what peft puts before a module's name
KINDS = {LoRA: (False, False), RsLoRA: (True, False), DoRA: (False, True)}
# Settings of peft that change what an adapter computes, and what they have to be here.
PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "alpha_pattern": (None, {}),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "arrow_config": (None,),
    "use_bdlora": (None, False),
    "alora_invocation_tokens": (None,),
}


class AdapterError(Exception):
    """An adapter's files are missing, or are not for this model: the message says which."""


def save(model: nn.Module, folder: str | os.PathLike, base: str = "") -> Path:
    """Write the LoRA, RsLoRA or DoRA adapters of a model; returns the folder.

    `base` is what the model is called, for whoever loads it. Raises ValueError: no
    adapter, several kinds, ranks or alphas, or a kind that `peft` does not have.
    """
    found = adapters(model)
    settings = {
        (type(one), getattr(one, "rank", 0), getattr(one, "alpha", 0))
        for one in found.values()
    }
    if len(settings) != 1 or next(iter(settings))[0] not in KINDS:
        said = sorted(f"{k.__name__} {rank}, {alpha}" for k, rank, alpha in settings)
        raise ValueError(
            f"model: got adapters {said}, wants LoRA, RsLoRA or DoRA of one rank and alpha"
        )
    ((kind, rank, alpha),) = settings
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base or None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": list(found),
        "use_rslora": KINDS[kind][0],
        "use_dora": KINDS[kind][1],
        "bias": "none",
        "fan_in_fan_out": False,
    }
    tensors = {}
    for name, one in found.items():
        for key, tensor in parts(one).items():
            tensors[f"{START}{name}.{key}"] = tensor.detach().cpu().contiguous()
    return write(folder, config, tensors)


def load(model: nn.Module, folder: str | os.PathLike) -> list[str]:
    """Attach the adapters of a folder to a model, in place; returns the maps' names.

    Raises AdapterError, with the model as it was: a file is missing or damaged, its
    settings change what LoRA computes in a way that this book does not build, or the
    adapter is of another model (no such map, or another shape).
    """
    config, tensors = read(folder)
    for key, allowed in PLAIN.items():
        if config.get(key) not in allowed and key in config:
            raise AdapterError(f"{folder}: {key} is {config[key]!r}: not read here")
    flags = bool(config.get("use_rslora")), bool(config.get("use_dora"))
    kind = next((k for k, wanted in KINDS.items() if wanted == flags), None)
    if kind is None:
        raise AdapterError(f"{folder}: use_rslora and use_dora together: not read here")
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, dot, part = key.removeprefix(START).partition(".lora_")
        if not (key.startswith(START) and dot):
            raise AdapterError(f"{folder}: {key}: no tensor of LoRA")
        by_name.setdefault(name, {})[f"lora_{part}"] = tensor
    for name, given in by_name.items():
        if said := _misfit(model, name, given, kind):
            raise AdapterError(f"{folder}: an adapter for another model: {said}")
    for name, given in by_name.items():
        rank, alpha = len(given["lora_A.weight"]), config["lora_alpha"]
        attach(model, re.escape(name), lambda b, r=rank, a=alpha: kind(b, r, a))
        for key, tensor in parts(model.get_submodule(name)).items():
            tensor.data.copy_(given[key])
    return [name for name in adapters(model) if name in by_name]


def _misfit(model: nn.Module, name: str, given: dict[str, Tensor], kind: type) -> str:
    """Why tensors are no adapter of the map `name`; "" where they are."""
    base = dict(model.named_modules()).get(name)
    if isinstance(base, Adapter):
        return f"{name} has an adapter already"
    if not hasattr(base, "out_features"):
        return f"this one has no linear map {name}"
    out, into = base.out_features, base.in_features
    rank = given["lora_A.weight"].shape[0] if "lora_A.weight" in given else 0
    wants = {"lora_A.weight": (rank, into), "lora_B.weight": (out, rank)}
    wants |= {"lora_magnitude_vector": (out,)} if kind is DoRA else {}
    got = {key: tuple(tensor.shape) for key, tensor in given.items()}
    if got != wants or not 0 < rank <= min(out, into):
        return f"{name} has {got}, and wants {wants}"
    return ""


def parts(one: LoRA) -> dict[str, Tensor]:
    """What is kept of an adapter, by the names of `peft`."""
    found = {"lora_A.weight": one.A, "lora_B.weight": one.B}
    return found | (
        {"lora_magnitude_vector": one.magnitude} if isinstance(one, DoRA) else {}
    )


def write(folder: str | os.PathLike, config: dict, tensors: dict[str, Tensor]) -> Path:
    """Both files of an adapter, each whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2).encode()
    content = {TENSORS: safetensors.torch.save(tensors), CONFIG: text}
    for name, data in content.items():
        partial = folder / f"{name}.tmp"
        partial.write_bytes(data)
        os.replace(partial, folder / name)
    return folder


def read(folder: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a folder; AdapterError names what is missing or damaged."""
    config, tensors = Path(folder) / CONFIG, Path(folder) / TENSORS
    try:
        settings = json.loads(config.read_text("utf8"))
        return dict(settings), safetensors.torch.load(tensors.read_bytes())
    except FileNotFoundError as error:
        raise AdapterError(f"{error.filename}: no such file") from None
    except (ValueError, TypeError, safetensors.SafetensorError) as error:
        raise AdapterError(f"{folder}: damaged ({error})") from error
