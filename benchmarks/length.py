"""Attention against length: time, peak memory, slopes, crossover; the field's beside ours.

One sequence, 4 heads of width 64, blocks of 64, a window of three blocks, and the first
block global, each way. Process time, one thread, the methods of a length interleaved.
"""

import functools
import shutil
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from tqdm import tqdm
from transformers import BigBirdConfig, LongformerConfig
from transformers.models.big_bird.modeling_big_bird import (
    BigBirdBlockSparseAttention,
    BigBirdModel,
)
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from lib import runtime
from lib.attention import attention, join_heads, split_heads
from lib.sparse import pattern, random_blocks, sparse_attention

HEADS, WIDTH, BLOCK, WINDOW = 4, 64, 64, 3
GLOBAL = torch.arange(BLOCK)
LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384)
RUNS, WARM = 5, 1
LONG = 4096  # a shorter text runs several times in a row: so many tokens at a time
FITTED = 2048  # slopes are fitted from this length up
# Ours, and what it is measured against.
PAIRS = {
    "dense": "ours",
    "masked": "ours",
    "flex": "ours",
    "longformer": "ours_module",
    "bigbird": "ours_bigbird",
}
# Set before the measurement: how many times faster, at the least, (way, peer).
GOALS = {
    ("forward", "dense"): {4096: 8, 8192: 15, 16_384: 30},
    ("forward", "masked"): {4096: 11, 8192: 21, 16_384: 40},
    ("forward", "flex"): {4096: 1, 8192: 1, 16_384: 1},
    ("backward", "dense"): {4096: 8, 8192: 16},
    ("forward", "longformer"): {4096: 1.8, 8192: 2, 16_384: 3},
    ("forward", "bigbird"): {4096: 5, 8192: 8},
    ("backward", "bigbird"): {4096: 2.5, 8192: 3},
}


class Module(nn.Module):
    """Projections, `sparse_attention`, heads joined: as far as the peers' modules go."""

    def __init__(self, **options):
        super().__init__()
        D = HEADS * WIDTH
        self.maps, self.options = nn.Linear(D, 3 * D), options

    def forward(self, x: Tensor) -> Tensor:
        three = [split_heads(y, HEADS) for y in self.maps(x).chunk(3, -1)]
        return join_heads(sparse_attention(*three, block=BLOCK, **self.options))


def floor(everyone: int, maps: nn.Linear | None = None) -> Callable[..., Tensor]:
    """What no layout saves: the kernel, on keys that lie ready, and the global rows.

    A function of query, key, value (with `maps` of x) and of the keys and values
    (H, blocks, K, d) that each block of queries meets.
    """

    def call(*tensors: Tensor) -> Tensor:
        *three, keys, values = tensors
        if maps is not None:
            three = [split_heads(y, HEADS) for y in maps(*three).chunk(3, -1)]
        query, key, value = three  # (1, H, T, d)
        blocks = query[0].unflatten(1, (-1, BLOCK))  # (H, blocks, block, d)
        near = F.scaled_dot_product_attention(blocks, keys, values)
        rows = F.scaled_dot_product_attention(query[:, :, :everyone], key, value)
        return torch.cat((rows.flatten(), near.flatten()))

    return call


def longformer(T: int) -> Callable[[Tensor], Tensor]:
    """Its window of 3 · 64 keys at most, the first 64 tokens global."""
    config = LongformerConfig(
        hidden_size=HEADS * WIDTH,
        num_attention_heads=HEADS,
        attention_window=[2 * BLOCK],
        attention_probs_dropout_prob=0.0,
    )
    module = LongformerSelfAttention(config, 0).eval()
    seen = torch.zeros(1, T)
    seen[:, GLOBAL] = 10_000.0
    masked, everyone = seen < 0, seen > 0
    call = functools.partial(
        module,
        attention_mask=seen,
        is_index_masked=masked,
        is_index_global_attn=everyone,
        is_global_attn=True,
    )
    return lambda x: call(x)[0]


def bigbird(T: int) -> Callable[[Tensor], Tensor]:
    """Three blocks of window, three random, the first and the last block global.

    In `eval` it draws nothing and takes the first block for each draw: the same work.
    """
    config = BigBirdConfig(
        hidden_size=HEADS * WIDTH,
        num_attention_heads=HEADS,
        block_size=BLOCK,
        num_random_blocks=3,
        max_position_embeddings=T,
        attention_probs_dropout_prob=0.0,
    )
    module = BigBirdBlockSparseAttention(config, seed=0).eval()
    masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, T), BLOCK)
    blocked, band, rows, columns = masks
    call = functools.partial(
        module,
        band_mask=band,
        from_mask=rows,
        to_mask=columns,
        from_blocked_mask=blocked,
        to_blocked_mask=blocked,
    )
    return lambda x: call(x)[0]


def flex(T: int) -> Callable[..., Tensor]:
    def meets(b, h, query, key):
        near = (query // BLOCK - key // BLOCK).abs() <= WINDOW // 2
        return near | (key < BLOCK) | (query < BLOCK)

    mask = create_block_mask(meets, None, None, T, T, device="cpu", BLOCK_SIZE=BLOCK)
    compiled = torch.compile(flex_attention)
    return lambda query, key, value: compiled(query, key, value, block_mask=mask)


def methods(T: int, backward: bool) -> dict[str, tuple[Callable, list[Tensor]]]:
    """Name: the function, and the tensors it is called with."""
    options = {"block": BLOCK, "window": WINDOW, "global_tokens": GLOBAL}
    three = [torch.randn(1, HEADS, T, WIDTH) for _ in range(3)]
    x = [torch.randn(1, T, HEADS * WIDTH)]
    mask = pattern(T, **options)

    def masked(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def ready(K: int) -> list[Tensor]:
        return [torch.randn(HEADS, T // BLOCK, K, WIDTH) for _ in range(2)]

    G = len(GLOBAL)
    found = {
        "dense": (F.scaled_dot_product_attention, three),
        "masked": (masked, three),
        "ours": (functools.partial(sparse_attention, **options), three),
        "local": (
            functools.partial(sparse_attention, block=BLOCK, window=WINDOW),
            three,
        ),
        "floor": (floor(G), [*three, *ready(WINDOW * BLOCK + G)]),
        "longformer": (longformer(T), x),
        "ours_module": (Module(window=WINDOW, global_tokens=GLOBAL), x),
    }
    if not backward and any(map(shutil.which, ("g++", "clang++", "c++"))):
        found["flex"] = (flex(T), three)  # it has no backward on a CPU
    if T > (5 + 2 * 3) * BLOCK:  # BigBird asks for that much
        both = torch.cat((GLOBAL, torch.arange(T - BLOCK, T)))
        more = random_blocks(T, 3, block=BLOCK)
        ours = Module(window=WINDOW, global_tokens=both, random=more)
        found |= {"bigbird": (bigbird(T), x), "ours_bigbird": (ours, x)}
        met = ready((WINDOW + 3) * BLOCK + 2 * G)
        found["floor_bigbird"] = (floor(2 * G, ours.maps), [*x, *met])
    return found


def step(function: Callable, tensors: list[Tensor], backward: bool) -> Callable:
    """A call of it, with gradients for its tensors (and a module's weights) or without."""
    if not backward:
        return torch.inference_mode()(lambda: function(*tensors))
    for x in tensors:
        x.requires_grad_()

    def call():
        for x in tensors:
            x.grad = None
        output = function(*tensors)
        output.backward(torch.ones_like(output))
        return output

    return call


def measure(T: int, backward: bool) -> dict[str, dict]:
    """Each method at one length: its times in ms, its peak, its ratios with ours."""
    made = methods(T, backward)
    calls = {name: step(*found, backward) for name, found in made.items()}
    times = {name: [] for name in calls}
    repeats = max(1, LONG // T)
    for run in range(WARM + RUNS):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            if run >= WARM:
                times[name].append(1e3 * (time.process_time() - start) / repeats)
    found = {}
    for name, spent in times.items():
        low, middle, high = np.percentile(spent, (25, 50, 75)).round(2).tolist()
        found[name] = {"ms": middle, "quartiles": [low, high]}
        found[name]["mb"] = None if name == "flex" else runtime.peak(calls[name])
        if name in PAIRS:
            ratios = np.divide(spent, times[PAIRS[name]])
            low, middle, high = np.percentile(ratios, (25, 50, 75)).round(2).tolist()
            found[name]["ratio"] = [middle, low, high]
    return found


def slope(lengths: list[int], values: list[float | None]) -> float | None:
    """Of log value against log length, by least squares, from `FITTED` up."""
    pairs = zip(lengths, values, strict=True)
    pairs = [(T, value) for T, value in pairs if T >= FITTED and value]
    if len(pairs) < 3:
        return None
    x, y = np.log(pairs).T
    return round(float(np.polyfit(x, y, 1)[0]), 2)


def error(T: int = 1024) -> float:
    """Largest difference from dense attention under the same pattern, in float32."""
    options = {"block": BLOCK, "window": WINDOW, "global_tokens": GLOBAL}
    three = [torch.randn(1, HEADS, T, WIDTH) for _ in range(3)]
    dense = attention(*(x.double() for x in three), pattern(T, **options))[0]
    return float((sparse_attention(*three, **options) - dense).abs().max())


def study() -> dict:
    """What `weights.trace("bench")["attention"]` holds."""
    torch.manual_seed(0)
    result = {
        "setting": {
            "heads": HEADS,
            "head_dim": WIDTH,
            "block": BLOCK,
            "window": WINDOW,
            "global_tokens": len(GLOBAL),
            "runs": RUNS,
            "cpu": runtime.processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "lengths": list(LENGTHS),
        "error": error(),
        "crossover": {},
    }
    for way in ("forward", "backward"):
        rows = [measure(T, way == "backward") for T in tqdm(LENGTHS, desc=way)]
        found = result[way] = {}
        names = (*PAIRS, *PAIRS.values(), "local", "floor", "floor_bigbird")
        for name in dict.fromkeys(names):
            columns = ("ms", "quartiles", "mb", *(["ratio"] if name in PAIRS else []))
            found[name] = {
                column: [row.get(name, {}).get(column) for row in rows]
                for column in columns
            }
            found[name]["slope"] = slope(LENGTHS, found[name]["ms"])
            found[name]["memory_slope"] = slope(LENGTHS, found[name]["mb"])
        faster = [
            T
            for T, ratio in zip(LENGTHS, found["dense"]["ratio"], strict=True)
            if ratio[0] > 1
        ]
        result["crossover"][way] = faster[0] if faster else None
    return result


def lines(result: dict) -> list[str]:
    """The ratios as text, a line for each method and way."""
    told = []
    for way in ("forward", "backward"):
        for name, ours in PAIRS.items():
            parts = []
            ratios = result[way][name]["ratio"]
            for T, ratio in zip(result["lengths"], ratios, strict=True):
                if ratio is None:
                    parts.append(f"{T}: not measured")
                else:
                    part = "{}: {:.1f} ({:.1f} to {:.1f})".format(T, *ratio)
                    if goal := GOALS.get((way, name), {}).get(T):
                        part += (
                            f", goal {goal} {'met' if ratio[0] >= goal else 'missed'}"
                        )
                    parts.append(part)
            told.append(f"{way}, time of {name} / {ours} · " + " · ".join(parts))
        ours = result[way]["ours"]
        told.append(
            f"{way}, ours: slope of time {ours['slope']}, of memory "
            f"{ours['memory_slope']}; MB {ours['mb']}; "
            f"faster than dense from {result['crossover'][way]}"
        )
    return told
