"""make bench: ours against the field's, as ratios, written to benchmarks/results.json.

One thread, process time, the implementations of a row interleaved in one process,
medians. A ratio above 1 means that ours is slower.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from lib import decoding, pretrained
from lib.attention import attention, causal_mask
from lib.layers import LayerNorm, RMSNorm
from lib.models import LanguageModel
from lib.positions import rope, rope_frequencies, rope_turns

RESULTS = Path(__file__).parent / "results.json"
RUNS = 15


def attention_row(length: int, backward: bool) -> dict[str, Callable]:
    """4 heads of width 64, one sequence, a causal mask."""
    query, key, value = (torch.randn(1, 4, length, 64) for _ in range(3))
    for tensor in (query, key, value):
        tensor.requires_grad_(backward)
    mask = causal_mask(length)

    def ours():
        return attention(query, key, value, mask)[0]

    def peer():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return {"ours": _step(ours, backward), "peer": _step(peer, backward)}


def rope_row(backward: bool) -> dict[str, Callable]:
    """Query and key of 8 heads of width 64, 1,024 tokens; the angles are given."""
    query, key = (torch.randn(1, 8, 1024, 64) for _ in range(2))
    for tensor in (query, key):
        tensor.requires_grad_(backward)
    turns = rope_turns(1024, rope_frequencies(64))
    cos, sin = (torch.cat((x, x), -1)[None] for x in (turns.real, turns.imag))

    def ours():
        return torch.stack((rope(query, turns).sum(), rope(key, turns).sum()))

    def peer():
        pair = apply_rotary_pos_emb(query, key, cos, sin)
        return torch.stack([x.sum() for x in pair])

    return {"ours": _step(ours, backward), "peer": _step(peer, backward)}


def norm_row(ours: torch.nn.Module, peer: torch.nn.Module, backward: bool):
    """8,192 tokens of width 256."""
    x = torch.randn(8192, 256, requires_grad=backward)
    return {
        "ours": _step(lambda: ours(x), backward),
        "peer": _step(lambda: peer(x), backward),
    }


def decoding_rows(new_tokens: int = 128) -> dict[str, dict[str, Callable]]:
    """Greedy, one sequence: a model of 10 M parameters, and SmolLM2 where it is."""
    V, D, length = 2000, 384, 256
    config = GPT2Config(vocab_size=V, n_embd=D, n_head=6, n_layer=5, n_positions=length)
    config.bos_token_id = config.eos_token_id = None
    theirs = GPT2LMHeadModel(config).eval()
    model = LanguageModel(V, D, 6, 5, positions="learned", length=length).eval()
    ids = torch.randint(V, (1, 16))

    def ours(model, step=decoding.cached, ids=ids, n=new_tokens):
        return lambda: decoding.greedy(step(model), ids, n)

    def generate(model, ids=ids, n=new_tokens):
        more = {"do_sample": False, "max_new_tokens": n, "pad_token_id": 0}
        mask = torch.ones_like(ids)
        return lambda: model.generate(
            ids, attention_mask=mask, eos_token_id=None, **more
        )

    peer = generate(theirs)
    rows = {
        "greedy, a GPT-2 of 10 M, cached / generate": {"ours": ours(theirs)},
        "greedy, LanguageModel of 10 M, cached / generate on GPT-2": {
            "ours": ours(model)
        },
        "greedy, LanguageModel of 10 M, cached / uncached": {"ours": ours(model)},
    }
    for name, row in rows.items():
        row["peer"] = ours(model, decoding.uncached) if "uncached" in name else peer
    try:
        smol = pretrained.smollm2()
    except pretrained.PretrainedError as error:
        print(error)
        return rows
    prompt = torch.tensor([smol.tokenizer("The secret of a good soup is").input_ids])
    rows["greedy, SmolLM2, 24 tokens, cached / generate"] = {
        "ours": ours(smol.model, ids=prompt, n=24),
        "peer": generate(smol.model, prompt, 24),
    }
    return rows


def _step(forward: Callable, backward: bool) -> Callable:
    return (lambda: forward().sum().backward()) if backward else forward


def measure(row: dict[str, Callable], runs: int = RUNS) -> dict[str, float]:
    """Median process time of each, in milliseconds, and the spread of their ratio."""
    times = {name: [] for name in row}
    for run in range(runs + 2):
        for name, call in row.items():
            start = time.process_time()
            call()
            if run >= 2:  # the first two warm up
                times[name].append(1e3 * (time.process_time() - start))
    ratios = sorted(a / b for a, b in zip(times["ours"], times["peer"], strict=True))
    return {
        "ours_ms": round(statistics.median(times["ours"]), 3),
        "peer_ms": round(statistics.median(times["peer"]), 3),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(ratios[runs // 4], 2), round(ratios[-runs // 4], 2)],
    }


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = {}
    for backward in (False, True):
        way = "forward + backward" if backward else "forward"
        for length in (128, 512, 1024):
            name = f"attention, {length} tokens, {way} / F.scaled_dot_product_attention"
            rows[name] = attention_row(length, backward)
        pair = LayerNorm(256), torch.nn.LayerNorm(256)
        rows[f"LayerNorm, {way} / nn.LayerNorm"] = norm_row(*pair, backward)
        pair = RMSNorm(256), torch.nn.RMSNorm(256, eps=1e-6)
        rows[f"RMSNorm, {way} / nn.RMSNorm"] = norm_row(*pair, backward)
        rows[f"RoPE, {way} / transformers' apply_rotary_pos_emb"] = rope_row(backward)
    results = {name: measure(row) for name, row in tqdm(rows.items())}
    for name, row in tqdm(decoding_rows().items()):  # a second a run: fewer do
        results[name] = measure(row, runs=7)
    for name, found in results.items():
        low, high = found["ratio_quartiles"]
        print(f"{name}: {found['ratio']} ({low} to {high})")
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", "utf8")
    part.replace(RESULTS)


if __name__ == "__main__":
    main()
