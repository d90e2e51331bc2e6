"""Scaled dot-product attention and its masks, in the clearest form.

Heads, projections and positions live elsewhere; at work, use
`torch.nn.functional.scaled_dot_product_attention`, which returns no weights.
"""

import torch
from torch import Tensor


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
        at all has weights, output and gradients of 0, as in torch's own function.

    Raises:
        TypeError: an argument is not a tensor, query, key and value are not of one
            floating dtype, or the mask is not of dtype bool.
        ValueError: the shapes do not fit.

    Source: Vaswani et al. (2017), equation 1; agrees with torch's
    `scaled_dot_product_attention` in values and gradients.
    """
    _check(query, key, value, mask)
    scores = query @ key.mT / query.shape[-1] ** 0.5  # (..., Tq, Tk)
    if mask is None:
        weights = scores.softmax(-1)  # (..., Tq, Tk)
    else:
        scores = scores.masked_fill(~mask, float("-inf"))  # (..., Tq, Tk)
        # The second fill changes only rows without any key, which softmax leaves nan.
        weights = scores.softmax(-1).masked_fill(~mask, 0.0)  # (..., Tq, Tk)
    return weights @ value, weights


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """True where the key stands at or before the query: bool (T, T), on `device`.

    Raises ValueError if `T` is not a whole number of at least 0.
    """
    if not isinstance(T, int) or isinstance(T, bool) or T < 0:
        raise ValueError(f"T: got {T!r}, wants a whole number of at least 0")
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()  # (T, T)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: got {type(x).__name__}, wants a torch.Tensor")
        if not x.is_floating_point():
            raise TypeError(f"{name}: got {x.dtype}, wants a floating dtype")
        if x.dtype != query.dtype:
            raise TypeError(f"{name}: got {x.dtype}, wants {query.dtype}, as query has")
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
