"""Where a token stands: sinusoidal, learned, Shaw, T5, ALiBi, RoPE.

Encodings that are added to the tokens, biases that are added to the scores, rotations of
query and key. Attention itself lives in `attention`. Everywhere, a distance is the key's
position minus the query's, and an empty sequence gives an empty result.
"""

import math

import torch
from torch import Tensor, nn

from lib import checks

SCHEMES = ("none", "sinusoidal", "learned", "shaw", "t5", "alibi", "rope")


def _even(name: str, width: int) -> None:
    checks.whole(name, width, 2)
    if width % 2:
        raise ValueError(f"{name}: got {width}, wants an even number (pairs)")


def _checked(positions: int | Tensor) -> Tensor:
    if isinstance(positions, Tensor):
        checks.whole_numbers("positions", positions)
        if positions.numel() and positions.min() < 0:
            raise ValueError(f"positions: got {int(positions.min())}, wants 0 or more")
        return positions
    checks.whole("positions", positions, 0)
    return torch.arange(positions)


# --- Added to the tokens ---------------------------------------------------------


def sinusoidal(
    positions: int | Tensor, d_model: int, base: float = 10_000.0, dtype=torch.float32
) -> Tensor:
    """The waves: `PE(p, 2i) = sin(p / base^(2i/D))`, `PE(p, 2i+1) = cos(…)`.

    Args: `positions`, whole numbers from 0, of any shape, or a number T that stands for
    0 … T−1; `d_model`, the even width D. Angles are computed in float64, on the CPU:
    not every device has that type.
    Returns: (..., D), of `dtype`, on the device of `positions`.
    Raises: ValueError for an odd width or a negative position, TypeError for positions
    that are not whole numbers.
    Source: Vaswani et al. (2017), section 3.5.
    """
    positions = _checked(positions)
    frequencies = rope_frequencies(d_model, base, name="d_model")  # (D/2,)
    angles = positions.cpu()[..., None] * frequencies  # (..., D/2)
    waves = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)  # (..., D)
    return waves.to(dtype).to(positions.device)


class Learned(nn.Module):
    """A table of `length` rows, one for each position, learned like any weight.

    Shapes: positions (...,) or a number T -> (..., D). Raises ValueError for a position
    that the table does not hold: there is no row, so there is no answer.
    Source: Gehring et al. (2017), arXiv:1705.03122; GPT-2, BERT.
    """

    def __init__(self, length: int, d_model: int, std: float = 0.02):
        super().__init__()
        checks.whole("length", length)
        checks.whole("d_model", d_model)
        self.weight = nn.Parameter(torch.randn(length, d_model) * std)  # (L, D)

    def forward(self, positions: int | Tensor) -> Tensor:
        positions = _checked(positions).to(self.weight.device)
        if positions.numel() and positions.max() >= len(self.weight):
            raise ValueError(
                f"positions: got {int(positions.max())}, the table ends at "
                f"{len(self.weight) - 1}"
            )
        return self.weight[positions]


# --- Added to the scores ---------------------------------------------------------


def distances(queries: int | Tensor, keys: int | Tensor) -> Tensor:
    """Key position − query position: (Tq, Tk), negative where the key comes first."""
    return _checked(keys)[None, :] - _checked(queries)[:, None]


class Shaw(nn.Module):
    """Relative keys: a learned vector for each distance, met by the query.

    The score of query i and key j is `q_i · (k_j + a_c) / √d` with c the distance
    j − i, cut off at ± `reach`. `forward(query, distance)` is the part `q_i · a_c / √d`,
    the same table for all heads, as in the paper.

    Shapes: query (..., Tq, d), distance (Tq, Tk) -> (..., Tq, Tk).
    Source: Shaw, Uszkoreit and Vaswani (2018), arXiv:1803.02155, equations 4 and 5
    (without the relative values, which their table 3 finds to add nothing).
    """

    def __init__(self, reach: int, head_dim: int, std: float = 0.02):
        super().__init__()
        checks.whole("reach", reach)
        checks.whole("head_dim", head_dim)
        self.reach = reach
        self.weight = nn.Parameter(torch.randn(2 * reach + 1, head_dim) * std)

    def forward(self, query: Tensor, distance: Tensor) -> Tensor:
        d = self.weight.shape[1]
        if query.shape[-1] != d:
            raise ValueError(f"query: got width {query.shape[-1]}, wants {d}")
        if distance.shape[0] != query.shape[-2]:
            raise ValueError(
                f"distance: got {distance.shape[0]} rows, wants {query.shape[-2]}"
            )
        column = distance.clamp(-self.reach, self.reach) + self.reach  # (Tq, Tk)
        wide = torch.promote_types(query.dtype, torch.float32)
        met = (
            query.to(wide) @ self.weight.to(wide).mT / d**0.5
        )  # (..., Tq, 2 reach + 1)
        return met.gather(-1, column.expand(*query.shape[:-1], -1)).to(query.dtype)


def t5_bucket(
    distance: Tensor, bidirectional: bool, buckets: int = 32, far: int = 128
) -> Tensor:
    """The bucket of each distance: near ones apart, far ones by logarithm.

    Half of the buckets hold one distance each; the others widen in ratio until `far`,
    beyond which all share the last. With `bidirectional` each direction has half of
    them; without, every later key shares bucket 0 with the query's own position.

    Shapes: any, whole numbers -> the same, int64 in [0, buckets).
    Source: Raffel et al. (2020), arXiv:1910.10683, as in `transformers`' T5.
    """
    checks.whole("buckets", buckets, 4)
    checks.whole_numbers("distance", distance)
    if bidirectional:
        buckets //= 2
        start, size = (distance > 0).long() * buckets, distance.abs()
    else:
        start, size = torch.zeros_like(distance), (-distance).clamp(min=0)
    exact = buckets // 2
    if far <= exact:
        raise ValueError(f"far: got {far}, wants more than {exact}")
    # The order of the operations is that of T5: at the edges, rounding decides.
    share = torch.log(size.clamp(min=1).float() / exact) / math.log(far / exact)
    wide = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
    return start + torch.where(size < exact, size, wide)


class T5Bias(nn.Module):
    """One learned number for each head and bucket of distances, added to the score.

    T5 shares it among its layers and does not divide scores by √d; with attention that
    does, the bias is added after the division. It starts at zero here.

    Shapes: distance (Tq, Tk) -> (H, Tq, Tk). Source: as `t5_bucket`.
    """

    def __init__(self, num_heads: int, bidirectional: bool, buckets=32, far=128):
        super().__init__()
        checks.whole("num_heads", num_heads)
        self.bidirectional, self.far = bidirectional, far
        self.weight = nn.Parameter(torch.zeros(num_heads, buckets))  # (H, buckets)

    def forward(self, distance: Tensor) -> Tensor:
        buckets = self.weight.shape[1]
        return self.weight[
            :, t5_bucket(distance, self.bidirectional, buckets, self.far)
        ]


def alibi_slopes(num_heads: int) -> Tensor:
    """The slope of each head: (H,), a geometric sequence; for 8 heads 1/2, 1/4 … 1/256.

    Where H is no power of two: the slopes of the power below it, then every second one
    of the power above. Source: Press, Smith and Lewis (2022), arXiv:2108.12409.
    """
    checks.whole("num_heads", num_heads)
    below = 2 ** int(math.log2(num_heads))

    def of(power: int) -> list[float]:
        return [2 ** (-8 * (i + 1) / power) for i in range(power)]

    return torch.tensor(of(below) + of(2 * below)[0::2][: num_heads - below])


def alibi(distance: Tensor, slopes: Tensor) -> Tensor:
    """A fine that grows with distance: `−slope · |distance|`, added to the scores.

    Shapes: distance (Tq, Tk), slopes (H,) -> (H, Tq, Tk). Source: as `alibi_slopes`.
    """
    return -slopes[:, None, None] * distance.abs()


# --- Rotations of query and key --------------------------------------------------


def rope_frequencies(
    head_dim: int, base: float = 10_000.0, name: str = "head_dim"
) -> Tensor:
    """Radians per position of each pair: `base^(−2i/d)`, (d/2,), float64, falling."""
    _even(name, head_dim)
    if not base > 0:
        raise ValueError(f"base: got {base!r}, wants a number above 0")
    return base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def interpolated(frequencies: Tensor, factor: float) -> Tensor:
    """Every pair `factor` times slower: position `factor · p` turns as p did.

    Source: position interpolation, Chen et al. (2023), arXiv:2306.15595.
    """
    if not factor >= 1:
        raise ValueError(f"factor: got {factor!r}, wants a number from 1")
    return frequencies / factor


def ntk_base(head_dim: int, factor: float, base: float = 10_000.0) -> float:
    """The base with which the slowest pair is `factor` times slower, the fastest not.

    Source: "NTK-aware" scaling, `base · factor^(d/(d−2))`; in Peng et al. (2024),
    arXiv:2309.00071, equation 6.
    """
    _even("head_dim", head_dim)
    if head_dim == 2:
        raise ValueError("head_dim: got 2, wants at least two pairs: 4")
    if not factor >= 1:
        raise ValueError(f"factor: got {factor!r}, wants a number from 1")
    return base * factor ** (head_dim / (head_dim - 2))


def rope_turns(positions: int | Tensor, frequencies: Tensor) -> Tensor:
    """The rotation of each pair at each position: (T, d/2), complex64, of length 1.

    On the device of `positions`; angles as in `sinusoidal`.
    """
    positions = _checked(positions)
    angles = positions.cpu()[..., None] * frequencies.cpu()  # (T, d/2)
    turns = torch.polar(torch.ones_like(angles), angles)  # (T, d/2)
    return turns.to(torch.complex64).to(positions.device)


def rope(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs (x₀, x₁), (x₂, x₃), … of each token: the interleaved layout.

    A pair is one complex number and its rotation one product. Half precision is turned
    in float32 and rounded once.

    Shapes: x (..., T, d), turns (T, d/2) from `rope_turns` -> (..., T, d), same dtype.
    Raises ValueError where they do not fit or d is odd.
    Source: Su et al. (2021), arXiv:2104.09864; the layout of GPT-J and of Llama's own
    code.
    """
    _fits(x, turns)
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    pairs = torch.view_as_complex(wide.contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


def rope_half(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs (x₀, x_{d/2}), (x₁, x_{d/2+1}), …: the half-split layout.

    Shapes, errors and precision as `rope`. Source: the layout of GPT-NeoX and
    `transformers`.
    """
    _fits(x, turns)
    first, second = x.chunk(2, -1)  # (..., T, d/2) each
    cos, sin = turns.real, turns.imag  # float32
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat(turned, -1).to(x.dtype)


def to_half(x: Tensor) -> Tensor:
    """From the interleaved layout to the half-split one: even features first.

    `rope_half(to_half(x), turns) == to_half(rope(x, turns))`; on the rows of a query's
    and a key's weights it converts a model. Scores do not change.
    """
    _even("head_dim", x.shape[-1])
    return torch.cat((x[..., 0::2], x[..., 1::2]), -1)


def to_interleaved(x: Tensor) -> Tensor:
    """The inverse of `to_half`."""
    _even("head_dim", x.shape[-1])
    return torch.stack(x.chunk(2, -1), -1).flatten(-2)


def _fits(x: Tensor, turns: Tensor) -> None:
    _even("x: the head width", x.shape[-1])
    wanted = (x.shape[-2], x.shape[-1] // 2)
    if tuple(turns.shape[-2:]) != wanted:
        raise ValueError(
            f"turns: got shape {tuple(turns.shape)}, wants (..., {wanted[0]}, "
            f"{wanted[1]}) for x of shape {tuple(x.shape)}"
        )
