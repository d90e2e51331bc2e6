"""Runs a model over a folder of images and stores what its layers put out.

    python -m lib.lens --config x.yaml

The keys of the file are those of VLM-Lens. The store is in `store`, models in `towers`.
"""

import argparse
import difflib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib.data.origin import Unreachable, from_hub
from lib.lens.hooks import matching, reading
from lib.lens.store import StoreError, store
from lib.lens.towers import Tower, tower
from lib.pretrained.origin import PretrainedError

IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff")  # as the tool lists them
POOLING = {"mean": lambda x: x.mean(1), "max": lambda x: x.amax(1)}  # over the tokens
LISTS = ("model", "forward", "dataset")  # lists of pairs, in the tool's files
# Keys of the tool for its own command line: they may stand in a file and do nothing.
IDLE = {"config", "debug", "device", "download_path", "log_named_modules"}


class ConfigError(Exception):
    """A configuration cannot be run: the message names the key and what it wants."""


# What ends a run with its reason: a layer that never ran or puts out NaN among them.
STOPS = (ConfigError, PretrainedError, StoreError, ValueError, RuntimeError)
STOPS += (FloatingPointError,)


@dataclass(frozen=True)
class Config:
    """What a run does; `read_config` makes one from a file of the tool."""

    architecture: str
    model_path: str
    modules: list[str] = field(default_factory=list)  # patterns, matched in full
    model: dict[str, Any] = field(default_factory=dict)
    forward: dict[str, Any] = field(default_factory=dict)
    output_db: str = "embeddings.db"
    input_dir: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    pooling_method: str | None = None


@dataclass(frozen=True)
class Input:
    """One image and prompt; `image` is a file's path, a picture, or None."""

    image: Any = None
    prompt: str | None = None
    label: str | None = None
    image_id: int | None = None

    @property
    def path(self) -> str | None:
        return os.path.abspath(self.image) if isinstance(self.image, str) else None


@dataclass
class Report:
    """How many inputs were run, how many had been, and the files that were skipped."""

    written: int = 0
    there: int = 0
    skipped: dict[str, str] = field(default_factory=dict)  # path -> the reason

    def __str__(self) -> str:
        lines = [f"{self.written} inputs written, {self.there} were there before"]
        lines += [f"skipped {path}: {why}" for path, why in self.skipped.items()]
        return "\n".join(lines)


# --- What to do ------------------------------------------------------------------


def read_config(path: str | os.PathLike, **instead: Any) -> Config:
    """The run that a YAML file describes; `instead` replaces keys, unless None.

    Raises ConfigError for a file that is no YAML, a key that is unknown (with the near
    ones), a value that is not of its kind.
    """
    try:
        found = yaml.safe_load(Path(path).read_text("utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"no YAML can be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"got {type(found).__name__}, wants keys and values")
    known = [one.name for one in fields(Config)]
    for key in set(found) - set(known) - IDLE:
        near = difflib.get_close_matches(str(key), known, 1) or known
        raise ConfigError(f"the key {key!r} is unknown; near: {', '.join(near)}")
    found = {key: found[key] for key in known if found.get(key) is not None}
    found |= {key: value for key, value in instead.items() if value is not None}
    for key in LISTS:
        if key in found:
            found[key] = _pairs(key, found[key])
    if found.get("pooling_method") == "None":  # YAML's own word for nothing is null
        del found["pooling_method"]
    return _whole(found)


def _pairs(key: str, value: Any) -> dict:
    """A mapping, or a list of mappings, as one."""
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list) or not all(isinstance(p, dict) for p in parts):
        raise ConfigError(f"{key}: got {value!r}, wants a list of `- key: value`")
    return {k: v for part in parts for k, v in part.items()}


def _whole(found: dict[str, Any]) -> Config:
    for key in ("architecture", "model_path"):
        if not found.get(key):
            raise ConfigError(f"{key}: is missing")
    patterns = found.setdefault("modules", [])
    if isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns):
        raise ConfigError(f"modules: got {patterns!r}, wants a list of patterns")
    if (method := found.get("pooling_method")) and method not in POOLING:
        raise ConfigError(f"pooling_method: got {method!r}, wants None, mean or max")
    if found.get("input_dir") and found.get("dataset"):
        raise ConfigError("input_dir and dataset are there, wants one of them")
    if not any(found.get(key) for key in ("input_dir", "dataset", "prompt")):
        raise ConfigError("wants input_dir, dataset or prompt")
    return Config(**found)


def inputs(config: Config) -> list[Input]:
    """What a configuration runs, in an order that does not depend on the machine.

    Raises ConfigError for a folder that is not there or has no images, and for a data
    set that cannot be read or lacks a column.
    """
    if config.dataset:
        return list(_of_dataset(config.dataset))
    if config.input_dir is None:
        return [Input(prompt=config.prompt)]
    if not (folder := Path(config.input_dir)).is_dir():
        raise ConfigError(f"input_dir: {folder} is no folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES)
    if not files:
        raise ConfigError(f"input_dir: {folder} has no image ({', '.join(IMAGES)})")
    return [Input(str(file), config.prompt) for file in files]


def _of_dataset(said: dict[str, Any]) -> Iterator[Input]:
    import datasets  # here, since it takes longer to load than all the rest

    hub, folder = said.get("dataset_path"), said.get("local_dataset_path")
    if bool(hub) == bool(folder):
        raise ConfigError("dataset: wants one of dataset_path and local_dataset_path")
    try:
        found = from_hub(hub) if hub else datasets.load_from_disk(folder)
        found = found[said["dataset_split"]] if said.get("dataset_split") else found
    except (Unreachable, OSError, KeyError) as error:
        raise ConfigError(
            f"dataset: {hub or folder} cannot be read: {error}"
        ) from error
    columns = getattr(found, "column_names", None)
    if not isinstance(columns, list) or "prompt" not in columns:
        raise ConfigError(f"dataset: wants a split with a column prompt, got {columns}")
    base = said.get("image_dataset_path") or ""
    for row in found:
        image = row.get("image", row.get("image_path"))
        image = os.path.join(base, image) if isinstance(image, str) else image
        label, number = row.get("label"), str(row.get("id"))
        label = None if label is None else str(label)
        number = int(number) if number.isdecimal() else None  # its column holds numbers
        yield Input(image, row["prompt"], label, number)


# --- The run ---------------------------------------------------------------------


@torch.no_grad()
def extract(
    config: Config, one: Tower, todo: Iterable[Input] | None = None, bar: bool = False
) -> Report:
    """Stores the layers' outputs of each input, and leaves out what is there already.

    An input is in the file with all its layers or not at all, so a run that was killed
    goes on where it stopped. A file that is no image is skipped and named. Of a layer
    with several outputs the first tensor is stored (the tool leaves such layers out).

    Args:
        config: names the store, the layers, the pooling.
        one: the model.
        todo: `inputs(config)` unless given.
        bar: whether to show progress.

    Raises:
        ConfigError: no pattern, or as `inputs`.
        ValueError: a pattern that matches nothing, with the near misses; a layer whose
            output (B, T, D) is asked for pooled and has other axes.
        StoreError: the store cannot be written.
    """
    todo = inputs(config) if todo is None else list(todo)
    if not config.modules:
        raise ConfigError("modules: got none, wants one pattern at least")
    names = [name for p in config.modules for name in matching(one.model, p)]
    names = list(dict.fromkeys(names))
    same = {"name": config.model_path, "architecture": config.architecture}
    same["pooling_method"] = config.pooling_method
    target, report = store(config.output_db), Report()
    there = target.written(**same)
    for each in tqdm(todo, disable=not bar, unit="inputs"):
        key = (each.path, each.image_id, each.prompt or "")
        missing = [name for name in names if (*key, name) not in there]
        if not missing:
            report.there += 1
            continue
        try:
            image = opened(each.image)
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            report.skipped[str(each.image)] = _said(error)
            continue
        with reading(one.model, "|".join(map(re.escape, missing))) as found:
            one.run(image, each.prompt)
        found = {
            name: pooled(name, found[name], config.pooling_method) for name in missing
        }
        target.add(
            found,
            **same,
            prompt=each.prompt or "",
            image_path=each.path,
            image_id=each.image_id,
            label=each.label,
        )
        there |= {(*key, name) for name in missing}
        report.written += 1
    return report


def opened(image: Any) -> Image.Image | None:
    """The picture in RGB, of whatever mode; read to its end, so a damaged one raises."""
    if image is None:
        return None
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(image) as found:
                return found.convert("RGB")
        except Image.DecompressionBombWarning as error:
            raise Image.DecompressionBombError(str(error)) from None


def pooled(layer: str, output: Tensor, method: str | None) -> Tensor:
    """(B, T, D) -> (B, D) by a method of `POOLING`; with None, whatever there was."""
    if method is None:
        return output
    if output.ndim != 3:
        raise ValueError(
            f"pooling_method: {layer} puts out {tuple(output.shape)}, wants (B, T, D)"
        )
    return POOLING[method](output)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns 0, or 1 where nothing could be run, with the reason."""
    parser = argparse.ArgumentParser(prog="python -m lib.lens", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-c", "--config", required=True, help="a YAML file")
    parser.add_argument("-i", "--input-dir", help="a folder of images")
    parser.add_argument("-o", "--output-db", help="where the features go")
    parser.add_argument(
        "-l", "--log-named-modules", action="store_true", help="show the layers' names"
    )
    said = parser.parse_args(argv)
    instead = {"input_dir": said.input_dir, "output_db": said.output_db}
    try:
        config = read_config(said.config, **instead)
        one = tower(
            config.architecture, config.model_path, config.model, config.forward
        )
        if said.log_named_modules:
            print(*(name for name, _ in one.model.named_modules() if name), sep="\n")
        else:
            print(extract(config, one, bar=True), f"\n{config.output_db}", sep="")
    except STOPS as error:
        print(f"{said.config}: {error}")
        return 1
    return 0
