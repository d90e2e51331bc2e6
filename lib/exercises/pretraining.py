"""The exercises of the pre-training chapter: right answers, and the wrong ones we name."""

import math

import torch

from lib.exercise import Exercise

# --- bits: a loss per token in bits per byte --------------------------------------------


def _bits(nats, tokens, text):
    return nats * tokens / math.log(2) / len(text.encode())


bits = Exercise(
    correct=_bits,
    mistakes={
        "characters are counted, not bytes: `text.encode()` has the bytes": (
            lambda nats, tokens, text: nats * tokens / math.log(2) / len(text)
        ),
        "this is in nats: divide by ln 2": (
            lambda nats, tokens, text: nats * tokens / len(text.encode())
        ),
        "a bit is ln 2 nats, so divide by ln 2": (
            lambda nats, tokens, text: nats * tokens * math.log(2) / len(text.encode())
        ),
        "the loss is the mean over tokens: multiply by their number": (
            lambda nats, tokens, text: nats / math.log(2) / len(text.encode())
        ),
        "this is bits per token: divide by the bytes": (
            lambda nats, tokens, text: nats / math.log(2)
        ),
        "tokens and bytes are the other way round": (
            lambda nats, tokens, text: nats / math.log(2) * len(text.encode()) / tokens
        ),
    },
    cases=[(2.0, 3, "naïve 日本"), (4.5, 7, "plain text"), (0.7, 12, "日本語の文")],
)

# --- plateau: warm-up, a plateau, a fall ------------------------------------------------


def _plateau(step, steps, warm_up, fall):
    if step < warm_up:
        return (step + 1) / warm_up
    return min(1.0, (steps - step) / fall)


def _named(change):
    return lambda step, steps, warm_up, fall: change(step, steps, warm_up, fall)


plateau = Exercise(
    correct=_plateau,
    mistakes={
        "this is the page's cosine: after the warm-up the share stays 1 until the last "
        "`fall` steps": _named(
            lambda s, n, w, f: (
                (s + 1) / w
                if s < w
                else (1 + math.cos(math.pi * (s - w) / (n - w))) / 2
            )
        ),
        "the first step has a share of 0, and learns nothing: count from 1": _named(
            lambda s, n, w, f: s / w if s < w else min(1.0, (n - s) / f)
        ),
        "the fall begins right after the warm-up: it is the last `fall` steps": _named(
            lambda s, n, w, f: (s + 1) / w if s < w else (n - s) / (n - w)
        ),
        "there is no warm-up": _named(lambda s, n, w, f: min(1.0, (n - s) / f)),
        "there is no fall": _named(lambda s, n, w, f: min(1.0, (s + 1) / w)),
        "the last step has a share of 0: at `steps` it would be 0": _named(
            lambda s, n, w, f: (s + 1) / w if s < w else min(1.0, (n - 1 - s) / f)
        ),
        "the share grows at the end": _named(
            lambda s, n, w, f: (
                (s + 1) / w if s < w else 1.0 if s < n - f else (s - n + f) / f
            )
        ),
    },
    cases=[(step, 100, 10, 20) for step in (0, 4, 9, 10, 50, 79, 80, 81, 95, 99)],
)

# --- accumulate: one gradient of several parts ------------------------------------------


def _accumulate(losses, tokens):
    return (losses * tokens).sum() / tokens.sum()


def _parts():
    g = torch.Generator().manual_seed(0)
    for n in (2, 5):
        yield torch.rand(n, generator=g) + 1, torch.randint(5, 90, (n,), generator=g)


accumulate = Exercise(
    correct=_accumulate,
    mistakes={
        "a mean of means is not the mean: a part with more tokens counts more": (
            lambda losses, tokens: losses.mean()
        ),
        "the weighted losses are added up, and not divided by the number of all tokens": (
            lambda losses, tokens: (losses * tokens).sum()
        ),
        "divide by the number of tokens, not by the number of parts": (
            lambda losses, tokens: (losses * tokens).sum() / len(losses)
        ),
        "the losses are added up as they are": lambda losses, tokens: losses.sum(),
        "a part with more tokens counts less here": (
            lambda losses, tokens: (losses / tokens).sum() / (1 / tokens).sum()
        ),
        "the losses are means already: multiply by the tokens of a part": (
            lambda losses, tokens: losses.sum() / tokens.sum()
        ),
    },
    cases=[*_parts()],
)

# --- tokens: what an amount of computing buys -------------------------------------------

budget = Exercise(
    correct=lambda C: ((C / 120) ** 0.5, 20 * (C / 120) ** 0.5),
    mistakes={
        "the numbers are the other way round: first weights, then tokens": (
            lambda C: (20 * (C / 120) ** 0.5, (C / 120) ** 0.5)
        ),
        "6 operations for each weight and token: C = 6 N D": (
            lambda C: ((C / 20) ** 0.5, 20 * (C / 20) ** 0.5)
        ),
        "2 N D is the forward pass alone: with the backward pass it is 6 N D": (
            lambda C: ((C / 40) ** 0.5, 20 * (C / 40) ** 0.5)
        ),
        "with D = 20 N, C = 120 N²: take the root": lambda C: (C / 120, 20 * C / 120),
        "this has as many tokens as weights: D = 20 N": (
            lambda C: ((C / 6) ** 0.5, (C / 6) ** 0.5)
        ),
        "20 weights for each token: it is 20 tokens for each weight": (
            lambda C: (20 * (C / 120) ** 0.5, 400 * (C / 120) ** 0.5)
        ),
    },
    cases=[(1e15,), (6e20,)],
)
