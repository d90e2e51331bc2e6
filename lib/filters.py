"""What narrows a distribution before a token is drawn: temperature, top-k and others.

Logits (..., V) -> logits (..., V), −∞ where a token is refused. Searches live in
`decoding`.
"""

import torch
from torch import Tensor

from lib import checks


def penalise(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Push tokens that stand in `ids` (R, T) down: logits / penalty, or * where < 0.

    Raises ValueError unless `penalty` is above 0; 1 changes nothing.
    Source: Keskar et al. (2019), arXiv:1909.05858, as in `transformers`.
    """
    if not penalty > 0:
        raise ValueError(f"penalty: got {penalty!r}, wants a number above 0")
    if penalty == 1:
        return logits
    met = logits.gather(-1, ids)  # (R, T)
    met = torch.where(met < 0, met * penalty, met / penalty)
    return logits.scatter(-1, ids, met)


def scale(logits: Tensor, temperature: float) -> Tensor:
    """Divide by the temperature: below 1 sharpens, above 1 flattens.

    Raises ValueError unless `temperature` is above 0. At 0 only the likeliest token would be
    left: that is `greedy`.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature: got {temperature!r}, wants a number above 0 (0 would be greedy)"
        )
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest tokens, and those that tie with the last of them.

    A `k` above the vocabulary keeps all, as in `transformers`. Raises ValueError unless
    `k` is a whole number of at least 1. Source: Fan et al. (2018), arXiv:1805.04833.
    """
    checks.whole("top_k", k)
    last = logits.topk(min(k, logits.shape[-1])).values[..., -1:]  # (..., 1)
    return logits.masked_fill(logits < last, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probability reaches `p`.

    Raises ValueError unless `p` lies in (0, 1]; 1 keeps all.
    Source: Holtzman et al. (2020), arXiv:1904.09751.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p: got {p!r}, wants a number above 0, at most 1")
    if p == 1:
        return logits
    # Summed from the least likely one: small numbers first keeps the sum exact.
    values, order = logits.sort(dim=-1)  # (..., V)
    wide = torch.promote_types(logits.dtype, torch.float32)
    refused = values.softmax(-1, dtype=wide).cumsum(-1) <= 1 - p
    refused[..., -1] = False  # the likeliest stays
    return logits.masked_fill(refused.scatter(-1, order, refused), -torch.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens with at least `p` times the probability of the likeliest.

    Raises ValueError unless `p` lies in [0, 1]; 0 keeps all.
    Source: Nguyen et al. (2025), arXiv:2407.01082.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p: got {p!r}, wants a number from 0 to 1")
    wide = torch.promote_types(logits.dtype, torch.float32)
    shares = logits.softmax(-1, dtype=wide)
    refused = shares < p * shares.amax(-1, keepdim=True)
    return logits.masked_fill(refused, -torch.inf)


def filtered(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Tensor:
    """Temperature, then top-k, top-p and min-p: the order of `transformers`.

    A softmax of the result renormalises: what is refused has probability 0, and the
    others keep their proportions.
    """
    logits = scale(logits, temperature)
    logits = logits if top_k is None else keep_top_k(logits, top_k)
    return keep_min_p(keep_top_p(logits, top_p), min_p)
