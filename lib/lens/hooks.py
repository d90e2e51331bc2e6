"""Reads and replaces what happens inside a model: the output of any module.

One mechanism: hooks of torch that stand for the length of a `with` and are gone after
it, also after an error. They work on every `torch` module, so on ours and on those of
`transformers`. Heads live in `heads`, what is measured on their maps in `measures`.
"""

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]
Saved = dict[str, Tensor]


# --- Any module ------------------------------------------------------------------


def matching(model: nn.Module, pattern: str) -> list[str]:
    """The names of the modules that `pattern`, a regular expression, matches in full.

    Raises ValueError for no regular expression, and for one that matches nothing: the
    message lists the names that come near.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"pattern: {pattern!r} is no regular expression: {error}"
        ) from None
    names = [name for name, _ in model.named_modules() if name]
    if found := [name for name in names if wanted.fullmatch(name)]:
        return found
    plain = re.sub(r"\\d[+*]?|\[[^]]*\][+*]?", "0", pattern).replace("\\", "")
    near = [name for name in names if wanted.search(name)][:3]
    near += difflib.get_close_matches(plain, names, 4)
    raise ValueError(
        f"pattern: {pattern!r} matches no module in full; near misses: "
        + ", ".join(dict.fromkeys(near or names[:3]))
    )


@contextmanager
def reading(model: nn.Module, pattern: str) -> Iterator[Saved]:
    """What the matching modules put out in one pass: name -> tensor, a copy of its own.

    `with hooks.reading(model, r"blocks\\.\\d+") as found: model(ids)`; of an output with
    several parts it is the first tensor. Inside a `replacing`, what was replaced is read.

    Raises:
        ValueError: the pattern, as `matching`.
        RuntimeError: a module ran never, or twice, before the `with` ended.
        FloatingPointError: an output holds NaN; the message names the module.
    """
    found: Saved = {}
    edits = {name: keep(found, name) for name in matching(model, pattern)}
    with hooked(model, edits, on_output):
        yield found


@contextmanager
def reading_inputs(model: nn.Module, pattern: str) -> Iterator[Saved]:
    """As `reading`, but what goes in: the first tensor among the module's arguments."""
    found: Saved = {}
    edits = {name: keep(found, name) for name in matching(model, pattern)}
    with hooked(model, edits, on_input):
        yield found


@contextmanager
def replacing(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Pattern -> function from a module's output to the one that goes on in its place.

    The other parts of an output stay. Several passes may run inside.

    Raises:
        ValueError: a pattern, as `matching`; a function gives another shape or type.
        RuntimeError: a module never ran before the `with` ended.
        FloatingPointError: a function gives NaN; the message names the module.
    """
    by_name: dict[str, Edit] = {}
    for pattern, edit in edits.items():
        for name in matching(model, pattern):
            if name in by_name:
                raise ValueError(f"edits: more than one pattern matches {name}")
            by_name[name] = edit
    with hooked(model, by_name, on_output):
        yield


def to(value: Tensor, places: Tensor | None = None) -> Edit:
    """A function for `replacing`: always `value`, which broadcasts to what was there.

    With `places`, a bool tensor (T,), only the tokens where it is True are replaced.
    """

    def edit(x: Tensor) -> Tensor:
        try:
            new = value.to(x).expand_as(x)
        except RuntimeError:
            raise ValueError(
                f"value: shape {tuple(value.shape)} does not go in the place of "
                f"{tuple(x.shape)}"
            ) from None
        return new if places is None else torch.where(places[:, None], new, x)

    return edit


@contextmanager
def patching(
    model: nn.Module, saved: Saved, places: Tensor | None = None
) -> Iterator[None]:
    """Put what `reading` found in another run in the place of this run's outputs.

    `saved` may hold any of the modules; both runs have sequences of one length. `places`
    as in `to`. Raises as `replacing`.
    """
    edits = {re.escape(name): to(value, places) for name, value in saved.items()}
    with replacing(model, edits):
        yield


# --- Text ------------------------------------------------------------------------


def text_ids(model: nn.Module, encode: Callable[[str], list[int]], text: str) -> Tensor:
    """The ids of a text, (1, T), as `encode` makes them, none more than fit.

    Raises ValueError for an empty text, and for one longer than the model reads.
    """
    ids = encode(text) if text.strip() else []
    if not ids:
        raise ValueError(f"text: got {text!r}, wants at least one word")
    config = getattr(model, "config", None)
    limit = getattr(config, "max_position_embeddings", getattr(model, "limit", None))
    if limit is not None and len(ids) > limit:
        raise ValueError(
            f"text: got {len(ids)} tokens, the model reads at most {limit}: "
            f"{text[:40]!r}…"
        )
    return torch.tensor([ids])


# --- The mechanism ---------------------------------------------------------------


@contextmanager
def hooked(
    model: nn.Module, edits: dict[str, Edit], attach: Callable
) -> Iterator[None]:
    """Let each function see, and change, a tensor of its module; then remove all."""
    modules, ran, handles = dict(model.named_modules()), set(), []

    def visit(name: str, edit: Edit, x: Tensor) -> Tensor:
        ran.add(name)
        new = edit(x)
        same_kind(name, x, new)
        return new

    try:
        for name, edit in edits.items():
            see = lambda x, name=name, edit=edit: visit(name, edit, x)  # noqa: E731
            handles.append(attach(modules[name], name, see))
        yield
    finally:
        for handle in handles:
            handle.remove()
    if missed := [name for name in edits if name not in ran]:
        raise RuntimeError(f"never ran while it was hooked: {', '.join(missed)}")


def on_output(module: nn.Module, name: str, see: Edit) -> Any:
    return module.register_forward_hook(
        lambda module, inputs, output: _with_first(name, output, see)
    )


def on_input(module: nn.Module, name: str, see: Edit) -> Any:
    def hook(module, args, kwargs):
        if any(isinstance(x, Tensor) for x in args):
            return _with_first(name, args, see), kwargs
        return args, _with_first(name, kwargs, see)

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _with_first(name: str, parts: Any, see: Edit) -> Any:
    """`parts` (a tensor, a tuple or a dict) with its first tensor as `see` wants it."""
    if isinstance(parts, Tensor):
        return see(parts)
    items = parts.items() if isinstance(parts, dict) else enumerate(parts)
    for key, part in items:
        if isinstance(part, Tensor):
            if isinstance(parts, dict):
                new = copy.copy(parts)
                new[key] = see(part)
                return new
            return (*parts[:key], see(part), *parts[key + 1 :])
    raise ValueError(f"{name}: there is no tensor among {type(parts).__name__}")


def keep(found: dict, key: Any, heads: int | None = None) -> Edit:
    """Puts a copy of what it sees into `found`; once, and without NaN."""

    def edit(x: Tensor) -> Tensor:
        if key in found:
            raise RuntimeError(f"{key}: ran twice; read one pass at a time")
        _no_nan(key, x)
        kept = x.detach().clone()
        found[key] = kept if heads is None else kept.unflatten(-1, (heads, -1))
        return x

    return edit


def same_kind(name: str, x: Tensor, new: Tensor) -> None:
    if new is x:
        return
    if new.shape != x.shape or new.dtype != x.dtype:
        raise ValueError(
            f"{name}: the function gives {tuple(new.shape)}, {new.dtype}, wants "
            f"{tuple(x.shape)}, {x.dtype}"
        )
    _no_nan(name, new)


def _no_nan(name: Any, x: Tensor) -> None:
    if bool(x.isnan().any()):
        raise FloatingPointError(f"{name}: {int(x.isnan().sum())} numbers are NaN")
