"""The heads of a model: their outputs read and replaced, their maps, their circuits.

Built on `hooks`. What is measured on a map lives in `measures`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lib.lens.hooks import Edit, Saved, hooked, keep, on_input, same_kind

# What query, key, value and output maps are called: ours, Llama's and ViT's, CLIP's,
# BERT's; ModernBERT's first three are one matrix, their rows below each other.
FAMILIES = (
    ("to_query", "to_key", "to_value", "to_output"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("self.query", "self.key", "self.value", "output.dense"),
    ("Wqkv", "Wqkv", "Wqkv", "Wo"),
)


class Attention(NamedTuple):
    """The names of one layer's four maps, and how many heads it has.

    Three equal names are one matrix: the rows of the query, of the key, of the value.
    """

    query: str
    key: str
    value: str
    output: str
    heads: int
    key_heads: int  # fewer than `heads` where several share a key and a value


def attention_layers(model: nn.Module) -> list[Attention]:
    """Every attention of the model, in the order of its modules.

    Raises ValueError for a model none of whose modules are named as in `FAMILIES`.
    """
    modules, found = dict(model.named_modules()), []
    config = getattr(model, "config", None)
    for name in modules:
        for family in FAMILIES:
            maps = [f"{name}.{part}" if name else part for part in family]
            if all(m in modules for m in maps):
                heads = getattr(modules[name], "num_heads", None)
                heads = heads or getattr(config, "num_attention_heads", None)
                if heads is None:
                    raise ValueError(f"{name}: says nowhere how many heads it has")
                shared = getattr(config, "num_key_value_heads", None) or heads
                found.append(Attention(*maps, heads, shared))
    if not found:
        ends = ", ".join(family[-1] for family in FAMILIES)
        raise ValueError(
            f"model: {type(model).__name__} has no attention whose output map is "
            f"called {ends}"
        )
    return found


@contextmanager
def reading_heads(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """What each head mixed in one pass, before the output map: layer -> (B, T, H, d).

    Raises as `reading` and `attention_layers`.
    """
    layers, found = attention_layers(model), {}
    edits = {
        layer.output: keep(found, i, layer.heads) for i, layer in enumerate(layers)
    }
    with hooked(model, edits, on_input):
        yield found


@contextmanager
def replacing_heads(
    model: nn.Module, edits: Mapping[tuple[int, int], Edit]
) -> Iterator[None]:
    """(layer, head) -> function of what the head mixed, (B, T, d) -> the same shape.

    Zero ablation is `torch.zeros_like`; mean ablation `to(mean)` with the head's mean
    (d,) over other text; resample ablation `to(another)` with what it mixed there. A
    group of heads is several entries.

    Raises ValueError for a layer or a head that does not exist, else as `replacing`.
    """
    layers = attention_layers(model)
    for layer, head in edits:
        check_head(layers, layer, head)

    def edit_of(i: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            split = x.unflatten(-1, (layers[i].heads, -1)).clone()  # (B, T, H, d)
            for (layer, head), change in edits.items():
                if layer == i:
                    new = change(split[..., head, :])
                    same_kind(f"head {layer}.{head}", split[..., head, :], new)
                    split[..., head, :] = new
            return split.flatten(-2)  # (B, T, H d)

        return edit

    by_name = {layers[i].output: edit_of(i) for i in {layer for layer, _ in edits}}
    with hooked(model, by_name, on_input):
        yield


def check_head(layers: list[Attention], layer: int, head: int) -> None:
    """Raises ValueError, which names what there is, for no layer or no head."""
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer: got {layer}, the model has 0 to {len(layers) - 1}")
    if not 0 <= head < layers[layer].heads:
        raise ValueError(
            f"head: got {head}, layer {layer} has 0 to {layers[layer].heads - 1}"
        )


@contextmanager
def reading_attention(model: nn.Module) -> Iterator[Saved]:
    """The attention weights of one pass: name of the module -> (B, H, Tq, Tk).

    Torch's fused kernel, `scaled_dot_product_attention`, never writes them down. Its
    calls are caught and the weights computed from the query, key and mask it is given,
    positions already in them; a query without any key has weights of 0. A module that
    does without the kernel (our `MultiHeadAttention`, `transformers`' "eager") returns
    its weights itself and is not in what is found.

    Raises RuntimeError where the kernel was not called, or twice by one module, or on
    blocks of the tokens, which make no whole map (our ModernBERT with long texts), and
    FloatingPointError for NaN; the message names the module.
    """
    found: Saved = {}
    running: list[tuple[str, torch.Size]] = []

    class Catch(TorchFunctionMode):
        def __torch_function__(self, call, types, args=(), kwargs=None):
            if call is F.scaled_dot_product_attention:
                name, shape = running[-1] if running else ("", torch.Size())
                weights = kernel_weights(*args, **kwargs or {})
                if len(shape) == 3 and weights.shape[-2] != shape[1]:  # (B, T, D)
                    raise RuntimeError(
                        f"{name}: attends in blocks of {weights.shape[-2]} tokens, so "
                        "there is no whole map: read a shorter text"
                    )
                keep(found, name)(weights)
            return call(*args, **kwargs or {})

    def enter(name: str, inputs: Iterable) -> None:
        shapes = (x.shape for x in inputs if isinstance(x, Tensor))
        running.append((name, next(shapes, torch.Size())))

    def leave(*_) -> None:
        running.pop()

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, given, name=name: enter(
                        name, (*args, *given.values())
                    ),
                    with_kwargs=True,
                )
            )
            handles.append(module.register_forward_hook(leave))
        with Catch():
            yield found
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise RuntimeError(
            "no module called scaled_dot_product_attention: did the model run, and "
            'with attn_implementation="sdpa"?'
        )


def kernel_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights by which `scaled_dot_product_attention` mixes: (..., Tq, Tk).

    Arguments as there; query (..., Tq, d), key (..., Tk, d).
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(wide) @ key.to(wide).mT * scale  # (..., Tq, Tk)
    if is_causal:
        attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    alone = scores.isneginf().all(-1, keepdim=True)  # (..., Tq, 1)
    return scores.softmax(-1).masked_fill(alone, 0.0).to(query.dtype)


# --- Circuits --------------------------------------------------------------------


def query_key(model: nn.Module, layer: int, head: int) -> Tensor:
    """The QK circuit: (D, D), what makes one token attend to another.

    In row convention, `x_query @ QK @ x_key` is the score before its division by √d, x
    being what the attention reads (after its norm). Biases are left out. The
    rotations of RoPE stand between the two maps: there this is the score at distance 0
    alone, and at others the rotation goes between the query and key of `head_maps`.

    Raises ValueError for a layer or head that does not exist.
    Source: Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
    """
    query, key, _, _ = head_maps(model, layer, head)
    return query @ key.mT


def value_output(model: nn.Module, layer: int, head: int) -> Tensor:
    """The OV circuit: (D, D), what a token that is attended to adds to the stream.

    In row convention, `weight * x_key @ OV` is what the head adds at the query. Biases
    are left out. Raises and source as `query_key`.
    """
    _, _, value, output = head_maps(model, layer, head)
    return value @ output


def head_maps(
    model: nn.Module, layer: int, head: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One head's maps in row convention: query, key, value (D, d), output (d, D).

    Heads that share a key and a value (grouped queries) have the same two. Raises
    ValueError for a layer or head that does not exist.
    """
    layers = attention_layers(model)
    check_head(layers, layer, head)
    there = layers[layer]
    shared = head * there.key_heads // there.heads
    query, key, value, output = (
        model.get_submodule(name).weight.detach() for name in there[:4]
    )
    if there.query == there.key:  # one matrix, (3 H d, D)
        query, key, value = query.chunk(3)  # (H d, D) each
    return (
        query.unflatten(0, (there.heads, -1))[head].mT,
        key.unflatten(0, (there.key_heads, -1))[shared].mT,
        value.unflatten(0, (there.key_heads, -1))[shared].mT,
        output.unflatten(1, (there.heads, -1))[:, head].mT,  # of (D, H d)
    )
