"""Scaled dot-product attention, its masks and its heads, in the clearest form.

Positions live elsewhere; at work, use `torch.nn.MultiheadAttention`, or
`torch.nn.functional.scaled_dot_product_attention`, which returns no weights.
"""

import torch
from torch import Tensor, nn

from lib import checks


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """For each query, the average of the values, weighted by how well the keys match.

    `softmax(Q Kᵀ / √d) V`, where the softmax runs over the keys of one query.

    Args:
        query: (..., Tq, d), floating.
        key: (..., Tk, d), the same dtype. Leading axes (batch, heads) broadcast.
        value: (..., Tk, dv), the same dtype; dv may differ from d.
        mask: bool, broadcastable to (..., Tq, Tk); True = this query may attend to this
            key. None lets every query attend to every key.

    Returns:
        output (..., Tq, dv) and weights (..., Tq, Tk). Each row of the weights sums
        to 1 and is exactly 0 where the mask is False. A query that may attend to no key
        at all has weights, output and gradients of 0, as in torch's own function. Half
        precision is computed in float32 and rounded once.

    A masked *key* may hold anything, NaN included. A masked *value* is multiplied by 0,
    as in torch: NaN or infinity there reaches the output.

    Raises:
        TypeError: an argument is not a tensor, query, key and value are not of one
            floating dtype, or the mask is not of dtype bool.
        ValueError: the shapes do not fit.

    Source: Vaswani et al. (2017), equation 1; agrees with torch's
    `scaled_dot_product_attention` in values and gradients.
    """
    _check(query, key, value, mask)
    dtype, wide = query.dtype, torch.promote_types(query.dtype, torch.float32)
    query, key, value = query.to(wide), key.to(wide), value.to(wide)
    scores = query @ key.mT / query.shape[-1] ** 0.5  # (..., Tq, Tk)
    if mask is None:
        weights = scores.softmax(-1)  # (..., Tq, Tk)
    else:
        # In a row without any key it is 0: the softmax of −∞ alone would be NaN.
        refused = torch.where(mask.any(-1, keepdim=True), float("-inf"), 0.0).to(wide)
        scores = torch.where(mask, scores, refused)  # (..., Tq, Tk)
        weights = scores.softmax(-1).masked_fill(~mask, 0.0)  # (..., Tq, Tk)
    return (weights @ value).to(dtype), weights.to(dtype)


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """True where the key stands at or before the query: bool (T, T), on `device`.

    Raises ValueError if `T` is not a whole number of at least 0.
    """
    checks.whole("T", T, 0)
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()  # (T, T)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own features; W_O mixes them.

    Split D features into H heads of d = D / H, attend in each, join, project.

    Args:
        d_model: D, the width of a token.
        num_heads: H, which has to divide D.
        bias: whether the four linear maps add one, as in torch.

    Raises:
        ValueError: `d_model` or `num_heads` is not a whole number of at least 1, or
            the heads do not divide the width.

    Source: Vaswani et al. (2017), section 3.2.2; agrees with
    `torch.nn.MultiheadAttention` (`batch_first`) in values and gradients.
    """

    def __init__(self, d_model: int, num_heads: int, bias: bool = True) -> None:
        super().__init__()
        checks.sizes({"d_model": d_model, "num_heads": num_heads})
        self.num_heads = num_heads
        # Each map holds those of all heads: rows h·d to (h + 1)·d belong to head h.
        self.to_query = nn.Linear(d_model, d_model, bias)
        self.to_key = nn.Linear(d_model, d_model, bias)
        self.to_value = nn.Linear(d_model, d_model, bias)
        self.to_output = nn.Linear(d_model, d_model, bias)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Let the tokens of `x` attend to those of `context`, or to each other.

        Args:
            x: (B, Tq, D), from which the queries are made.
            context: (B, Tk, D), from which keys and values are made: cross-attention.
                None takes `x`: self-attention.
            mask: bool, (Tq, Tk) for all alike or (B, H, Tq, Tk), where an axis may be 1;
                True = this query may attend to this key. Three axes are refused: they
                could mean one mask for each sequence or one for each head.

        Returns:
            output (B, Tq, D) and weights (B, H, Tq, Tk). A query that may attend to no
            key has weights of 0, and its output is the bias of `to_output`.

        Raises:
            TypeError: a tensor or its dtype is not as above.
            ValueError: a shape is not as above; the message names the argument.
        """
        context = x if context is None else context
        self._check(x, context, mask)
        query = split_heads(self.to_query(x), self.num_heads)  # (B, H, Tq, d)
        key = split_heads(self.to_key(context), self.num_heads)  # (B, H, Tk, d)
        value = split_heads(self.to_value(context), self.num_heads)  # (B, H, Tk, d)
        output, weights = attention(query, key, value, mask)  # (B, H, Tq, d)
        return self.to_output(join_heads(output)), weights  # (B, Tq, D)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"

    def _check(self, x: Tensor, context: Tensor, mask: Tensor | None) -> None:
        weight = self.to_query.weight
        D = weight.shape[1]
        for name, y in (("x", x), ("context", context)):
            checks.floating(name, y, weight, "the weights have")
            if y.ndim != 3 or y.shape[-1] != D:
                raise ValueError(f"{name}: got shape {_shape(y)}, wants (B, T, {D})")
        if len(context) != len(x):
            raise ValueError(
                f"context: got {len(context)} sequences, wants {len(x)}, as x has"
            )
        if isinstance(mask, Tensor) and mask.ndim not in (2, 4):
            raise ValueError(
                f"mask: got shape {_shape(mask)}, wants (Tq, Tk) or (B, H, Tq, Tk)"
            )


def rollout(weights: list[Tensor]) -> Tensor:
    """How much of each input token reaches each output token, by the weights alone.

    The product over the layers, first layer rightmost, of the mean over the heads,
    half of it replaced by the identity for the residual connection. It leaves out what
    the values, the MLPs and the norms do, so it is a summary of the weights and not an
    explanation of the output.

    Shapes: each layer's weights (B, H, T, T) -> (B, T, T); every row sums to 1.
    Raises ValueError without a layer.
    Source: Abnar and Zuidema (2020), arXiv:2005.00928.
    """
    if not weights:
        raise ValueError("weights: got no layer, wants at least one")
    dtype = weights[0].dtype
    wide = torch.promote_types(dtype, torch.float32)
    here = torch.eye(weights[0].shape[-1], dtype=wide)  # (T, T)
    reached = here.to(weights[0].device)
    for layer in weights:
        mean = layer.to(wide).mean(1)  # (B, T, T)
        reached = (mean + here.to(layer.device)) / 2 @ reached  # (B, T, T)
    return reached.to(dtype)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, d): head h holds the features h·d to (h + 1)·d.

    Raises ValueError if `x` does not have three axes or H does not divide D.
    """
    if x.ndim != 3:
        raise ValueError(f"x: got shape {_shape(x)}, wants (B, T, D)")
    if num_heads < 1 or x.shape[-1] % num_heads:
        raise ValueError(
            f"num_heads: got {num_heads}, wants a divisor of the width {x.shape[-1]}"
        )
    # The width is given, not -1: an empty batch would leave it open.
    heads = x.unflatten(-1, (num_heads, x.shape[-1] // num_heads))  # (B, T, H, d)
    return heads.transpose(1, 2)  # (B, H, T, d)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, D): what `split_heads` split. ValueError on other shapes."""
    if x.ndim != 4:
        raise ValueError(f"x: got shape {_shape(x)}, wants (B, H, T, d)")
    return x.transpose(1, 2).flatten(2)  # (B, T, H, d) -> (B, T, D)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        checks.floating(name, x, query)
        if x.ndim < 2:
            raise ValueError(
                f"{name}: got shape {_shape(x)}, wants (..., tokens, width)"
            )
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"key: got shape {_shape(key)}, wants the width of query, {query.shape[-1]}"
        )
    if query.shape[-1] == 0:
        raise ValueError(
            f"query: got shape {_shape(query)}, wants a width of at least 1"
        )
    if value.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"value: got shape {_shape(value)}, wants one row for each of the "
            f"{key.shape[-2]} keys: (..., {key.shape[-2]}, dv)"
        )
    try:
        leading = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    except RuntimeError:
        raise ValueError(
            "query, key, value: leading axes do not broadcast, got shapes "
            f"{_shape(query)}, {_shape(key)}, {_shape(value)}"
        ) from None
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"mask: got {type(mask).__name__}, wants a torch.Tensor or None"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: got {mask.dtype}, wants bool, True = may attend")
    wanted = (*leading, query.shape[-2], key.shape[-2])
    try:
        fits = torch.broadcast_shapes(mask.shape, wanted) == wanted
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask: got shape {_shape(mask)}, wants one that broadcasts to {wanted}, "
            "(..., Tq, Tk)"
        )


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
