"""The models that an extraction can run: this book's by name, others by their folder.

One tower is a model and how an image and a prompt go through it. No remote code runs, and
weights are safetensors.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    BaseImageProcessor,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as notices

from lib import weights
from lib.data.origin import reachable
from lib.lens.hooks import text_ids
from lib.live import picture
from lib.pretrained import dinov2
from lib.pretrained.origin import PretrainedError
from lib.pretrained.smollm2 import smollm2

PICTURES, TEXTS = BaseImageProcessor, PreTrainedTokenizerBase
OURS = "glass-box"  # the architecture whose models are those of `BY_NAME`
# Options of a model that change what it computes by little; no others are passed on.
OPTIONS = {"dtype", "torch_dtype", "attn_implementation"}


class Tower(NamedTuple):
    """`run(image, prompt)` passes one input through `model`; either may be None."""

    model: nn.Module
    run: Callable[[Image.Image | None, str | None], Any]


def tower(
    architecture: str,
    model_path: str,
    options: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Tower:
    """A model that is ready to be read.

    Args:
        architecture: "glass-box" for a model of `BY_NAME`; any other name for one of
            `transformers`, which finds its class by the folder's own config.
        model_path: its name, or a folder, or its name on the Hugging Face hub.
        options: of loading it, from `OPTIONS`.
        given: keywords of each pass.

    Raises:
        ValueError: no such model or option; code that would have to be trusted.
        PretrainedError: the hub does not answer, or has no such model.
    """
    options = dict(options or {})
    if options.pop("trust_remote_code", False):
        raise ValueError(
            "model: trust_remote_code is refused: no remote code runs here"
        )
    if unknown := set(options) - OPTIONS:
        known = ", ".join(sorted(OPTIONS))
        raise ValueError(f"model: {sorted(unknown)[0]!r} is none of {known}")
    if architecture != OURS:
        return _of_transformers(model_path, options, dict(given or {}))
    if model_path not in BY_NAME:
        raise ValueError(
            f"model_path: got {model_path!r}, {OURS} has {', '.join(BY_NAME)}"
        )
    if options or given:
        raise ValueError(f"model, forward: {OURS} takes no options")
    return BY_NAME[model_path]()


def _vit() -> Tower:
    """The vision transformer of `vision/vit`, trained on CIFAR-10: 32×32 pixels."""
    model, card = picture.model(), weights.card("vit")["config"]
    mean, std = torch.tensor(card["mean"]), torch.tensor(card["std"])

    def run(image: Image.Image | None, prompt: str | None) -> Tensor:
        if image is None:
            raise ValueError("input_dir: vit reads images, there is none")
        pixels = torch.tensor(np.asarray(picture.seen(image)))  # (32, 32, 3)
        scaled = (pixels / 255 - mean) / std
        return model(scaled.permute(2, 0, 1)[None])  # of (1, 3, 32, 32)

    return Tower(model, run)


def _vit_s() -> Tower:
    """DINOv2's shape, on 224×224 pixels: token 0 is CLS, then 16 rows of 16 patches."""
    model = dinov2.vit_s().model

    def run(image: Image.Image | None, prompt: str | None) -> Any:
        if image is None:
            raise ValueError("input_dir: vit-s reads images, there is none")
        square = ImageOps.fit(image.convert("RGB"), (224, 224), Image.BICUBIC)
        return model(dinov2.pixels(np.asarray(square)[None]))

    return Tower(model, run)


def _smollm2() -> Tower:
    """The chat model: a prompt alone, as plain text."""
    found = smollm2()
    model = found.model.eval()
    encode = lambda text: found.tokenizer(text).input_ids  # noqa: E731

    def run(image: Image.Image | None, prompt: str | None) -> Any:
        if image is not None:
            raise ValueError("input_dir: smollm2 reads no images; leave it out")
        return model(text_ids(model, encode, prompt or ""))

    return Tower(model, run)


BY_NAME = {"vit": _vit, "vit-s": _vit_s, "smollm2": _smollm2}


def _of_transformers(path: str, options: dict, given: dict) -> Tower:
    notices.disable_progress_bar()
    if "torch_dtype" in options:
        options["dtype"] = options.pop("torch_dtype")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    local = Path(path).is_dir() or not reachable(endpoint)
    load = {"local_files_only": local, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(path, **load)
        chats = getattr(processor, "chat_template", None) is not None
        kind = AutoModelForImageTextToText if chats else AutoModel
        model = kind.from_pretrained(path, use_safetensors=True, **load, **options)
    except (OSError, ValueError) as error:
        told = str(error).strip().split("\n")[0]
        raise PretrainedError(f"model_path: {path} cannot be loaded: {told}") from error

    # The folder of a tower that does one of the two holds no whole processor.
    sees = isinstance(getattr(processor, "image_processor", processor), PICTURES)
    reads_text = isinstance(getattr(processor, "tokenizer", processor), TEXTS)

    def run(image: Image.Image | None, prompt: str | None) -> Any:
        text = prompt
        if chats:
            parts = [{"type": "image"}] if image is not None else []
            parts += [{"type": "text", "text": prompt}] if prompt else []
            talk = [{"role": "user", "content": parts}]
            text = processor.apply_chat_template(talk, add_generation_prompt=True)
        read = {"images": image} if image is not None else {}
        read |= {"text": text} if text and reads_text else {}
        if (image is not None and not sees) or not read:
            parts = [("images", sees), ("text", reads_text)]
            raise ValueError(
                f"input_dir, prompt: {path} reads "
                + " and ".join(name for name, there in parts if there)
            )
        made = processor(**read, return_tensors="pt")
        return model(**made.to(model.device), **given)

    return Tower(model.eval(), run)
