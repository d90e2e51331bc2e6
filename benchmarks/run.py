"""make bench: ours against the field's, in the record that pages read.

It is `weights.trace("bench")`: "rows" and "attention" (see `length`). One thread,
process time, the implementations of a row interleaved in one process, medians and
quartiles. A ratio is the peer's time over ours: above 1, ours is faster.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from benchmarks import length
from lib import decoding, weights
from lib.attention import attention, causal_mask
from lib.layers import LayerNorm, RMSNorm
from lib.models.language import LanguageModel
from lib.positions import rope, rope_frequencies, rope_turns
from lib.pretrained.origin import PretrainedError
from lib.pretrained.smollm2 import smollm2

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


def decoding_rows(new_tokens: int = 512) -> dict[str, dict[str, Callable]]:
    """Greedy, one sequence: a model of 10 M parameters, and SmolLM2 where it is."""
    V, D, length = 2000, 384, 16 + new_tokens
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
        smol = smollm2()
    except PretrainedError as error:
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


def measure(row: dict[str, Callable], runs: int = RUNS) -> dict:
    """Median process times in milliseconds; the ratio, with its quartiles."""
    times = {name: [] for name in row}
    for run in range(runs + 1):
        for name, call in row.items():
            start = time.process_time()
            call()
            if run:  # the first warms up
                times[name].append(1e3 * (time.process_time() - start))
    ratios = np.divide(times["peer"], times["ours"])
    found = {f"{name}_ms": round(np.median(spent), 3) for name, spent in times.items()}
    low, middle, high = np.percentile(ratios, (25, 50, 75)).round(2).tolist()
    return found | {"ratio": [middle, low, high]}


def small_rows() -> dict[str, dict[str, Callable]]:
    rows = {}
    for backward in (False, True):
        way = "forward + backward" if backward else "forward"
        for tokens in (128, 512, 1024):
            name = f"attention, {tokens} tokens, {way} / F.scaled_dot_product_attention"
            rows[name] = attention_row(tokens, backward)
        pair = LayerNorm(256), torch.nn.LayerNorm(256)
        rows[f"LayerNorm, {way} / nn.LayerNorm"] = norm_row(*pair, backward)
        pair = RMSNorm(256), torch.nn.RMSNorm(256, eps=1e-6)
        rows[f"RMSNorm, {way} / nn.RMSNorm"] = norm_row(*pair, backward)
        rows[f"RoPE, {way} / transformers' apply_rotary_pos_emb"] = rope_row(backward)
    return rows


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sparse = length.study()
    print(*length.lines(sparse), sep="\n", flush=True)
    results = {name: measure(row) for name, row in tqdm(small_rows().items())}
    for name, row in tqdm(decoding_rows().items()):  # seconds a run: fewer do
        results[name] = measure(row, runs=5)
    for name, found in results.items():
        print("{}: {} ({} to {})".format(name, *found["ratio"]))
    card = {
        "config": sparse["setting"],
        "data": "random tensors and untrained models: only time and memory count",
        "command": "make bench",
        "metrics": {
            f"{way}: dense / ours at 4,096, 8,192, 16,384": [
                ratio[0] for ratio in sparse[way]["dense"]["ratio"][-3:]
            ]
            for way in ("forward", "backward")
        },
        "licence": "MIT",
    }
    trace = {"attention": sparse, "rows": results}
    print(weights.save("bench", card, trace=trace))


if __name__ == "__main__":
    main()
