"""Answers as learners write them: right ones in many styles, and wrong ones.

Each is (chapter, exercise, what it does, answer); a wrong one adds a part of the message
that names its mistake, "" where any message will do. The data of `test_exercises`.
"""

import functools
import heapq
import itertools
import math
import re
from collections import Counter
from fractions import Fraction

import learners_rag
import numpy as np
import torch
import torch._dynamo  # what an optimiser imports at its first use is not the learner's time
import torch.nn.functional as F
from scipy.spatial import ConvexHull

from lib import sparse
from lib.positions import sinusoidal, t5_bucket
from lib.tokenizers import presplit

# --- absolute positions ------------------------------------------------------------------


def turn_by(k, D):  # as on the page: float64
    pairs = 10_000.0 ** (-torch.arange(0, D, 2) / D) * k
    blocks = [
        torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        for a in pairs.tolist()
    ]
    return torch.block_diag(*blocks).double()


def grid_in_numpy(H, W, D):
    found = np.zeros((H, W, D))
    for r in range(H):
        for c in range(W):
            for i in range(D // 4):
                slow = 10_000 ** (2 * i / (D // 2))
                for at, p in ((0, r), (D // 2, c)):
                    found[r, c, at + 2 * i] = math.sin(p / slow)
                    found[r, c, at + 2 * i + 1] = math.cos(p / slow)
    return found


def grid_by_exp(H, W, D):
    slow = torch.exp(torch.arange(0, D // 2, 2) * (-math.log(10_000.0) * 2 / D))
    found = torch.zeros(H, W, D)
    r, c = torch.arange(H)[:, None, None], torch.arange(W)[:, None]
    found[..., 0 : D // 2 : 2] = torch.sin(r * slow)
    found[..., 1 : D // 2 : 2] = torch.cos(r * slow)
    found[..., D // 2 :: 2] = torch.sin(c * slow)
    found[..., D // 2 + 1 :: 2] = torch.cos(c * slow)
    return found


def grid_with_lib(H, W, D):
    rows = sinusoidal(torch.arange(H).repeat_interleave(W), D // 2)
    columns = sinusoidal(torch.arange(W).repeat(H), D // 2)
    return torch.cat([rows, columns], 1).view(H, W, D)


def grid_of_places(H, W, D):  # every patch numbered
    return sinusoidal(torch.arange(H * W).view(H, W), D)


def grid_swapped(H, W, D):
    rows = sinusoidal(H, D // 2)[:, None].expand(H, W, -1)
    columns = sinusoidal(W, D // 2)[None].expand(H, W, -1)
    return torch.cat([columns, rows], -1)


def shift_in_place(code, k):
    for i in range(0, len(code), 2):
        b = k / 10_000 ** (i / len(code))
        s, c = code[i].item(), code[i + 1].item()
        code[i] = s * math.cos(b) + c * math.sin(b)
        code[i + 1] = c * math.cos(b) - s * math.sin(b)
    return code


# --- attention ---------------------------------------------------------------------------


def near_by_loop(query, key, value, mask=None):
    queries, keys, values = (x.flatten(0, -3).tolist() for x in (query, key, value))
    out = []
    for qs, ks, vs in zip(queries, keys, values, strict=True):
        for i, q in enumerate(qs):
            shares = [
                math.exp(-(math.dist(q, k) ** 2) / 2 / math.sqrt(len(q)))
                if mask is None or mask[i, j]
                else 0.0
                for j, k in enumerate(ks)
            ]
            pairs = [
                zip(shares, column, strict=True) for column in zip(*vs, strict=True)
            ]
            out.append([sum(w * v for w, v in p) / sum(shares) for p in pairs])
    return torch.tensor(out).reshape(*query.shape[:-1], value.shape[-1])


def near_in_numpy(query, key, value, mask=None):
    q, k, v = query.numpy(), key.numpy(), value.numpy()
    gap = q[..., :, None, :] - k[..., None, :, :]
    scores = -(gap**2).sum(-1) / 2 / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask.numpy(), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True) @ v


def near_by_cdist(query, key, value, mask=None):
    scores = -torch.cdist(query, key).square() / (2 * math.sqrt(query.size(-1)))
    if mask is not None:
        scores[..., ~mask] = -1e9
    return torch.einsum("...ij,...jv->...iv", F.softmax(scores, dim=-1), value)


def near_by_torch(query, key, value, mask=None):
    bias = -key.square().sum(-1)[..., None, :] / 2 / query.shape[-1] ** 0.5
    bias = bias.expand(*query.shape[:-1], -1).clone()
    if mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def near_by_rows(query, key, value, mask=None):  # ‖k‖² down a column: no effect
    scores = query @ key.mT - key.square().sum(-1, keepdim=True) / 2
    scores = scores / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


def prefix_in_place(lengths, T):
    mask = torch.ones(T, T, dtype=torch.bool).tril().repeat(len(lengths), 1, 1)
    for b, length in enumerate(lengths):
        mask[b, :length, :length] = True
    return mask


def prefix_by_rows(lengths, T):
    mask = torch.ones(T, T, dtype=torch.bool).tril().repeat(len(lengths), 1, 1)
    for b, length in enumerate(lengths):
        mask[b, :length] = True
    return mask


def forbid_by_loop(weights, forbidden):
    rows = weights.tolist()
    for row, j in zip(rows, forbidden.tolist(), strict=True):
        row[j] = 0.0
    return [[w / sum(row) for w in row] for row in rows]


def forbid_in_place(weights, forbidden):
    weights[torch.arange(len(weights)), forbidden] = 0
    weights /= weights.sum(1, keepdim=True)
    return weights


# --- attention cost ----------------------------------------------------------------------


def join_by_maximum(o1, l1, o2, l2):
    m = torch.maximum(l1, l2)
    a, b = (l1 - m).exp(), (l2 - m).exp()
    return (a * o1 + b * o2) / (a + b)


def join_by_sigmoid(o1, l1, o2, l2):
    share = torch.sigmoid(l1 - l2)
    return share * o1 + (1 - share) * o2


def join_by_softmax(o1, l1, o2, l2):
    shares = torch.cat([l1, l2], -1).softmax(-1)
    return shares[..., :1] * o1 + shares[..., 1:] * o2


def join_by_logaddexp(o1, l1, o2, l2):
    both = torch.logaddexp(l1, l2)
    return o1 * (l1 - both).exp() + o2 * (l2 - both).exp()


# --- decoding ----------------------------------------------------------------------------


def typical_by_search(shares, p):
    surprise = -shares.log()
    order = (surprise - (shares * surprise).sum()).abs().argsort()
    n = int(torch.searchsorted(shares[order].cumsum(0), p)) + 1
    found = torch.zeros_like(shares)
    found[order[:n]] = shares[order[:n]] / shares[order[:n]].sum()
    return found


def typical_by_loop(shares, p):
    entropy = sum(-x * math.log(x) for x in shares.tolist())
    order = sorted(range(len(shares)), key=lambda i: abs(entropy + shares[i].log()))
    kept, total = [], 0.0
    while total < p:
        kept.append(order.pop(0))
        total += shares[kept[-1]].item()
    return [shares[i] / total if i in kept else 0.0 for i in range(len(shares))]


def typical_one_more(shares, p):
    order = (shares.log() - (shares * shares.log()).sum()).abs().argsort()
    values = shares[order]
    before = values.cumsum(0) - values
    kept = torch.zeros_like(shares).scatter(0, order, values * (before <= p))
    return kept / kept.sum()


def typical_signed(shares, p):
    surprise = -shares.log()
    order = (surprise - (shares * surprise).sum()).argsort()
    values = shares[order]
    before = values.cumsum(0) - values
    kept = torch.zeros_like(shares).scatter(0, order, values * (before < p))
    return kept / kept.sum()


def step_tuple(scores, log_probs, K):
    total, at = (scores[:, None] + log_probs).flatten().topk(K)
    return at // log_probs.shape[1], at % log_probs.shape[1], total


def step_stacked(scores, log_probs, K):
    return torch.stack(step_tuple(scores, log_probs, K))


def step_by_heap(scores, log_probs, K):
    pairs = itertools.product(range(len(scores)), range(log_probs.shape[1]))
    found = [((scores[b] + log_probs[b, t]).item(), b, t) for b, t in pairs]
    total, beam, token = zip(*heapq.nlargest(K, found), strict=True)
    return [list(beam), list(token), list(total)]


def step_token_first(scores, log_probs, K):
    best, beam = (scores[:, None] + log_probs).max(0)
    total, token = best.topk(K)
    return beam[token], token, total


def frequency_by_loop(logits, ids, presence, frequency):
    for i, n in Counter(ids.tolist()).items():
        logits[i] -= presence + n * frequency
    return logits


def frequency_by_index_add(logits, ids, presence, frequency):
    once = logits.index_add(0, ids.unique(), -presence + torch.zeros(len(ids.unique())))
    return once.index_add(0, ids, -frequency + torch.zeros(len(ids)))


def frequency_by_index(logits, ids, presence, frequency):
    found = logits.clone()
    found[ids] -= presence + frequency  # a token that occurs twice is written once
    return found


def tie_by_bisection(sum_a, length_a, sum_b, length_b):
    def gap(alpha):
        return sum_a / length_a**alpha - sum_b / length_b**alpha

    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if gap(low) * gap(middle) <= 0 else (middle, high)
    return low


# --- local attention ---------------------------------------------------------------------


def dilated_by_loop(T, w, gap):
    mask = torch.zeros(T, T, dtype=torch.bool)
    for q in range(T):
        for i in range(w + 1):
            if q - i * gap >= 0:
                mask[q, q - i * gap] = True
    return mask


def dilated_by_diagonals(T, w, gap):
    ones = torch.ones(T)
    return sum(
        torch.diag(ones[i * gap :], -i * gap) for i in range(w + 1) if i * gap < T
    ).bool()


def collected_by_loop(near, T):
    block, out = near.shape[1] // 2, []
    for t in range(T):
        r, i = divmod(t, block)
        row = near[r, block + i]
        if r + 1 < len(near):
            row = row + near[r + 1, i]
        out.append(row)
    return torch.stack(out)


def collected_by_index_add(near, T):  # each row knows its place
    n, block = len(near), near.shape[1] // 2
    at = torch.arange(n)[:, None] * block + torch.arange(2 * block)  # from −block on
    found = torch.zeros((n + 1) * block, near.shape[2])
    found.index_add_(0, at.flatten(), near.flatten(0, 1))
    return found[block : block + T]


def collected_by_autograd(near, T):
    n, block, e = len(near), near.shape[1] // 2, near.shape[2]
    x = torch.zeros(T, e, requires_grad=True)
    padded = F.pad(x, (0, 0, block, n * block - T))
    keys = padded.unfold(0, 2 * block, block).mT
    return torch.autograd.grad((keys * near).sum(), x)[0]


def collected_unshifted(near, T):
    block = near.shape[1] // 2
    return (near[:, :block] + near[:, block:]).reshape(-1, near.shape[2])[:T]


def texts_by_loop(texts, block):
    T = len(texts)
    return [
        [
            [
                0 <= k < T and bool(texts[k] == texts[q])
                for k in range(r * block - block, r * block + 2 * block)
            ]
            for q in range(r * block, r * block + block)
        ]
        for r in range(T // block)
    ]


def texts_by_filling(texts, block):  # a text number that nobody has
    padded = F.pad(texts, (block, block), value=-1)
    other = padded.unfold(0, 3 * block, block)  # (n, 3 · block)
    return texts.view(-1, block, 1) == other[:, None]


def texts_by_cut(texts, block):  # the whole matrix, cut into its blocks
    same = F.pad(texts[:, None] == texts, (block, block))
    rows = range(0, len(texts), block)
    return torch.stack([same[r : r + block, r : r + 3 * block] for r in rows])


def texts_by_zeros(texts, block):
    padded = F.pad(texts, (block, block))
    other = padded.unfold(0, 3 * block, block)
    return texts.view(-1, block, 1) == other[:, None]


# --- pre-training ------------------------------------------------------------------------


def bits_by_log2(nats, tokens, text):
    return tokens * nats * math.log2(math.e) / len(bytes(text, "utf-8"))


def bits_in_steps(nats, tokens, text):
    total = torch.tensor(float(nats)) * tokens
    return total / torch.log(torch.tensor(2.0)) / sum(len(c.encode()) for c in text)


def plateau_by_if(step, steps, warm_up, fall):
    if step + 1 <= warm_up:
        return (step + 1) / warm_up
    elif step < steps - fall:
        return 1
    else:
        return 1 - (step - (steps - fall)) / fall


def plateau_by_min(step, steps, warm_up, fall):
    return min(1, (step + 1) / warm_up, (steps - step) / fall)


def accumulate_by_loop(losses, tokens):
    total = 0
    for loss, n in zip(losses, tokens, strict=True):
        total += loss * n
    return total / sum(tokens)


def accumulate_by_shares(losses, tokens):
    return losses @ (tokens / tokens.sum())


def budget_by_tokens(C):
    tokens = math.sqrt(C * 20 / 6)
    return [tokens / 20, tokens]


# --- in-context --------------------------------------------------------------------------


def passes_by_tree(labels):
    tree = {}
    for label in labels:
        node = tree
        for token in label[:-1]:
            node = node.setdefault(token, {})

    def leaves(node):
        return sum(map(leaves, node.values())) or 1

    return leaves(tree)


def passes_by_sorting(labels):
    known = sorted(tuple(label[:-1]) for label in labels)
    pairs = itertools.pairwise(known)
    return len(known) - sum(b[: len(a)] == a for a, b in pairs)


def passes_by_covering(labels):
    read, count = set(), 0
    for label in sorted(labels, key=len, reverse=True):
        start = tuple(label[:-1])
        if start not in read:
            count += 1
            read |= {start[:i] for i in range(len(start) + 1)}
    return torch.tensor(count)


def passes_by_strings(labels):
    known = {"".join(f"{token}," for token in label[:-1]) for label in labels}
    return sum(sum(o.startswith(k) for o in known) == 1 for k in known)


def passes_by_digits(labels):
    known = {"".join(map(str, label[:-1])) for label in labels}
    return sum(not any(o != k and o.startswith(k) for o in known) for k in known)


def batch_by_loop(logs):
    rows = []
    for i, row in enumerate(logs):
        prior = torch.zeros(logs.shape[1])
        for j, other in enumerate(logs):
            if j != i:
                p = torch.exp(other)
                prior += p / p.sum() / (len(logs) - 1)
        rows.append(row - torch.log(prior))
    return torch.stack(rows)


def batch_in_numpy(logs):
    p = np.exp(logs.numpy())
    p /= p.sum(axis=1, keepdims=True)
    rest = [np.delete(p, i, axis=0).mean(axis=0) for i in range(len(p))]
    return logs.numpy() - np.log(rest)


def batch_by_product(logs):
    N = len(logs)
    return logs - ((1 - torch.eye(N)) @ F.softmax(logs, dim=1) / (N - 1)).log()


def batch_by_calls(logs):  # the page's own function, question by question
    rest = [torch.cat([logs[:i], logs[i + 1 :]]) for i in range(len(logs))]
    return [
        row - free.softmax(-1).mean(0).log()
        for row, free in zip(logs, rest, strict=True)
    ]


def latest_by_loop(ids):
    T = len(ids)
    wanted = torch.zeros(T, T, dtype=torch.bool)
    last = {}
    for t, token in enumerate(ids.tolist()):
        if token in last:
            wanted[t, last[token] + 1] = True
        last[token] = t
    return wanted


def latest_by_tensors(ids):
    T = len(ids)
    alike = (ids[:, None] == ids) & torch.ones(T, T).tril(-1).bool()
    last = torch.where(alike, torch.arange(T), -1).amax(1)
    return (torch.arange(T) == last[:, None] + 1) & (last >= 0)[:, None]


def latest_in_numpy(ids):
    ids = ids.numpy()
    wanted = np.zeros((len(ids), len(ids)), dtype=int)
    for t in range(1, len(ids)):
        before = np.flatnonzero(ids[:t] == ids[t])
        if before.size:
            wanted[t, before[-1] + 1] = 1
    return wanted


def latest_of_all(ids):
    alike = ids[:, None] == ids[None]
    return F.pad(alike[:, :-1], (1, 0)).tril()


def spread_by_loop(right):
    accuracies = [[float(o.double().mean()) for o in d] for d in right]
    means = [sum(d) / len(d) for d in accuracies]
    middle = sum(means) / len(means)
    between = sum((m - middle) ** 2 for m in means) / len(means)
    within = [
        sum((a - m) ** 2 for a in d) / len(d)
        for d, m in zip(accuracies, means, strict=True)
    ]
    return between, sum(within) / len(within)


def spread_in_numpy(right):
    accuracy = np.asarray(right).mean(axis=-1)
    return np.var(accuracy.mean(axis=1)), np.var(accuracy, axis=1).mean()


def spread_by_total(right):
    accuracy = right.double().mean(2)
    within = accuracy.var(1, unbiased=False).mean()
    return accuracy.var(unbiased=False) - within, within


# --- embeddings --------------------------------------------------------------------------


def pool_by_loop(hidden, mask, ids, share):
    rows = []
    for h, m, i in zip(hidden, mask, ids, strict=True):
        total, weights = 0.0, 0.0
        for t in range(len(i)):
            if m[t]:
                weight = 1e-3 / (1e-3 + share[i[t]])
                total, weights = total + weight * h[t], weights + weight
        rows.append(total / weights)
    return torch.stack(rows)


def pool_in_numpy(hidden, mask, ids, share):
    weight = mask.numpy() * 0.001 / (0.001 + share.numpy()[ids.numpy()])
    weight = weight / weight.sum(1, keepdims=True)
    return np.einsum("bt,btd->bd", weight, hidden.numpy())


def pool_by_product(hidden, mask, ids, share):
    weight = (0.001 / (0.001 + share[ids])).masked_fill(mask == 0, 0.0)
    return (F.normalize(weight, p=1, dim=1).unsqueeze(1) @ hidden).squeeze(1)


def pool_mean_of_products(hidden, mask, ids, share):
    weight = mask * 0.001 / (0.001 + share[ids])
    return (weight.unsqueeze(-1) * hidden).mean(1)


def flatten_by_eigh(vectors, k):
    x = vectors.double() - vectors.double().mean(0)
    _, axes = torch.linalg.eigh(x.T @ x)  # the largest come last
    for u in axes.T[-k:]:
        x = x - torch.outer(x @ u, u)
    return x


def flatten_in_numpy(vectors, k):
    x = vectors.numpy() - vectors.numpy().mean(axis=0, keepdims=True)
    left, values, axes = np.linalg.svd(x, full_matrices=False)
    values[:k] = 0
    return left * values @ axes


def flatten_in_place(vectors, k):
    vectors -= vectors.mean(0)
    axes = torch.linalg.svd(vectors).Vh[:k]
    vectors -= torch.einsum("nd,kd,ke->ne", vectors, axes, axes)
    return vectors


def flatten_one_mean(vectors, k):
    x = vectors - vectors.mean()
    for u in torch.linalg.svd(x).Vh[:k]:
        x = x - (x @ u)[:, None] * u
    return x


def flatten_by_columns(vectors, k):
    x = vectors - vectors.mean(0)
    axes = torch.linalg.svd(x, full_matrices=False)[2][:, :k]
    return x - x @ axes @ axes.T


def product_by_loop(vectors, a, b, c):
    found = []
    for x in vectors:
        near = [(1 + F.cosine_similarity(x, vectors[i], dim=0)) / 2 for i in (a, b, c)]
        found.append(near[1] * near[2] / (near[0] + 0.001))
    return torch.stack(found)


def product_by_logarithms(vectors, a, b, c):
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    near = (unit @ unit.T + 1) / 2
    near = near.clamp(min=1e-300)
    return (near[b].log() + near[c].log() - (near[a] + 1e-3).log()).exp()


def product_in_numpy(vectors, a, b, c):
    unit = vectors.numpy() / np.linalg.norm(vectors.numpy(), axis=1, keepdims=True)
    one, two, three = (0.5 * (1 + unit @ unit[i]) for i in (a, b, c))
    return two * three / (one + 0.001)


def product_left_out(vectors, a, b, c):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    near = (unit @ unit[[a, b, c]].T + 1) / 2
    scores = near[:, 1] * near[:, 2] / (near[:, 0] + 0.001)
    for row in (a, b, c):
        scores[row] = -2
    return scores


def product_other_way(vectors, a, b, c):
    unit = F.normalize(vectors, dim=-1)
    near = (unit @ unit[[a, b, c]].T + 1) / 2
    return near[:, 0] * near[:, 2] / (near[:, 1] + 0.001)


def csls_by_loop(queries, texts, k):
    found = torch.zeros(len(queries), len(texts))
    for i, x in enumerate(queries):
        for j, y in enumerate(texts):
            of_x = sorted((t @ x for t in texts), reverse=True)[:k]
            of_y = sorted((q @ y for q in queries), reverse=True)[:k]
            found[i, j] = 2 * (x @ y) - sum(of_x) / k - sum(of_y) / k
    return found


def csls_by_sorting(queries, texts, k):
    near = queries @ texts.mT
    rows = near.sort(1, descending=True).values[:, :k].mean(1, keepdim=True)
    columns = near.sort(0, descending=True).values[:k].mean(0, keepdim=True)
    return near - rows + near - columns


def csls_in_numpy(queries, texts, k):
    near = queries.numpy() @ texts.numpy().T
    rows = np.sort(near, axis=1)[:, -k:].mean(axis=1, keepdims=True)
    columns = np.sort(near, axis=0)[-k:].mean(axis=0)
    return 2 * near - rows - columns


def csls_one_axis(queries, texts, k):
    near = queries @ texts.T
    return 2 * near - near.topk(k, dim=1)[0].mean(1) - near.topk(k, dim=0)[0].mean(0)


def csls_of_all(queries, texts, k):
    near = queries @ texts.T
    return 2 * near - near.mean(dim=1, keepdim=True) - near.mean(dim=0)


# --- reading heads -----------------------------------------------------------------------


def after_by_broadcast(ids, k):
    T = len(ids)
    found = torch.zeros(T, T, dtype=torch.bool)
    found[:, k:] = (ids[:, None] == ids)[:, : T - k]
    return found.tril()


def after_in_numpy(ids, k):
    ids = ids.numpy()
    found = np.zeros((len(ids), len(ids)), dtype=bool)
    for query, token in enumerate(ids):
        for copy in np.flatnonzero(ids[:query] == token):
            if copy + k <= query:
                found[query, copy + k] = True
    return found


def after_by_rolling(ids, k):
    alike = ids[:, None] == ids
    return alike.roll(k, dims=1).tril()


def after_ahead_too(ids, k):
    alike = ids[:, None] == ids
    found = torch.zeros_like(alike)
    found[:, k:] = alike[:, :-k]
    return found


def rest_by_loop(weights, wanted):
    rows = []
    for query in range(1, wanted.shape[0]):
        if wanted[query, 1:].any():
            row = weights[..., query, 1:]
            rows.append((row * wanted[query, 1:]).sum(-1) / row.sum(-1))
    return torch.stack(rows).mean(0)


def rest_in_numpy(weights, wanted):
    w, m = weights.numpy()[..., 1:, 1:], wanted.numpy()[1:, 1:]
    share = np.einsum("...qk,qk->...q", w, m.astype(w.dtype)) / w.sum(-1)
    return share[..., m.any(-1)].mean(-1)


def rest_by_normalize(weights, wanted):
    w = F.normalize(weights[..., 1:, 1:], p=1, dim=-1)
    keys = wanted[1:, 1:]
    asks = keys.any(-1).to(w.dtype)
    return (w * keys).sum(-1) @ asks / asks.sum()


def rest_only_cut(weights, wanted):
    w, keys = weights[..., 1:, 1:], wanted[1:, 1:]
    return (w * keys).sum(-1)[..., keys.any(-1)].mean(-1)


def mean_by_cat(mix, others, head):
    middle = others[:, :, head].mean(0).expand_as(mix[:, :, head]).unsqueeze(2)
    return torch.cat([mix[:, :, :head], middle, mix[:, :, head + 1 :]], 2)


def mean_by_where(mix, others, head):
    here = torch.arange(mix.shape[2]) == head
    return torch.where(here[:, None], others.mean(0), mix)


def mean_in_place(mix, others, head):
    mix[..., head, :] = others[..., head, :].sum(0) / len(others)
    return mix


def mean_of_everything(mix, others, head):
    out = mix.clone()
    out[..., head, :] = others[..., head, :].flatten(0, 1).mean(0)
    return out


def copying_by_loop(embed, ov, unembed):
    right = 0
    for token, row in enumerate(embed):
        right += int((row @ ov @ unembed).argmax()) == token
    return right / len(embed)


def copying_in_numpy(embed, ov, unembed):
    logits = embed.numpy() @ ov.numpy() @ unembed.numpy()
    return (logits.argmax(axis=1) == np.arange(len(logits))).mean()


def copying_by_ranks(embed, ov, unembed):
    logits = torch.einsum("vd,de,ew->vw", embed, ov, unembed)
    own = logits.diagonal()[:, None]
    return ((logits > own).sum(1) == 0).float().mean()


def copying_from_the_right(embed, ov, unembed):
    logits = embed @ ov.T @ unembed
    return (logits.argmax(1) == torch.arange(len(embed))).float().mean()


# --- the feed-forward network ------------------------------------------------------------


def slope_by_autograd(x):
    x = x.detach().clone().requires_grad_()
    F.gelu(x).sum().backward()
    return x.grad


def without_by_loop(x, w_up, b_up, w_down, b_down, units):
    out = b_down.expand_as(x).clone()
    for i in range(len(w_up)):
        if i not in units:
            fires = F.gelu(x @ w_up[i] + b_up[i])
            out += fires[..., None] * w_down[:, i]
    return out


def without_in_place(x, w_up, b_up, w_down, b_down, units):
    w_up[units], b_up[units] = 0.0, 0.0
    return F.linear(F.gelu(F.linear(x, w_up, b_up)), w_down, b_down)


def without_fewer(x, w_up, b_up, w_down, b_down, units):
    left = [i for i in range(w_up.shape[0]) if i not in set(units)]
    hidden = F.gelu(x @ w_up[left].T + b_up[left])
    return hidden @ w_down[:, left].T + b_down


def without_by_sum(x, w_up, b_up, w_down, b_down, units):
    hidden = F.gelu(x @ w_up.mT + b_up)
    return hidden @ w_down.mT + b_down - hidden[..., units] @ w_down[:, units].mT


def without_bias_left(x, w_up, b_up, w_down, b_down, units):
    w_up[units] = 0.0
    return F.gelu(x @ w_up.mT + b_up) @ w_down.mT + b_down


def merged_by_rows(x, w_in, w_down):
    half = w_in.shape[0] // 2
    hidden = F.gelu(F.linear(x, w_in[:half])) * F.linear(x, w_in[half:])
    return F.linear(hidden, w_down)


def units_by_search(d_model, multiple):
    width = multiple
    while 3 * d_model * width < 8 * d_model**2:
        width += multiple
    return width


# --- multi-head attention ----------------------------------------------------------------


def shared_by_loop(x, w_q, w_k, w_v, w_o, H):
    d, key, value = x.shape[-1] // H, x @ w_k, x @ w_v
    heads = []
    for h in range(H):
        query = x @ w_q[:, h * d : (h + 1) * d]
        shares = (query @ key.transpose(-2, -1) / math.sqrt(d)).softmax(-1)
        heads.append(shares @ value)
    return torch.cat(heads, -1) @ w_o


def shared_by_repeat(x, w_q, w_k, w_v, w_o, H):
    B, T, D = x.shape
    query = (x @ w_q).view(B, T, H, -1).permute(0, 2, 1, 3)
    key = (x @ w_k).unsqueeze(1).repeat(1, H, 1, 1)
    value = (x @ w_v).unsqueeze(1).repeat(1, H, 1, 1)
    out = F.scaled_dot_product_attention(query, key, value)
    return out.permute(0, 2, 1, 3).reshape(B, T, D) @ w_o


def shared_reshaped(x, w_q, w_k, w_v, w_o, H):
    B, T, D = x.shape
    query = (x @ w_q).reshape(B, H, T, -1)
    out = F.scaled_dot_product_attention(query, (x @ w_k)[:, None], (x @ w_v)[:, None])
    return out.transpose(1, 2).reshape(B, T, D) @ w_o


def shared_without_project(x, w_q, w_k, w_v, w_o, H):
    query = (x @ w_q).unflatten(-1, (H, -1)).transpose(1, 2)
    scores = query @ (x @ w_k)[:, None].mT / query.shape[-1] ** 0.5
    return (scores.softmax(-1) @ (x @ w_v)[:, None]).transpose(1, 2).flatten(2)


def silent_in_place(heads, w_o, h):
    heads[:, h] = 0
    return heads.transpose(1, 2).flatten(2) @ w_o


def silent_by_subtraction(heads, w_o, h):
    d = heads.shape[-1]
    whole = heads.transpose(1, 2).flatten(2) @ w_o
    return whole - heads[:, h] @ w_o[h * d : (h + 1) * d]


def winners_by_hull(weights):
    corners = ConvexHull(np.vstack([weights.numpy(), np.zeros((1, 2))])).vertices
    return [i in corners for i in range(len(weights))]


def winners_by_chance(weights):
    looks = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    points = torch.cat([weights, torch.zeros(1, 2)])
    won = (looks.to(points) @ points.mT).argmax(-1).bincount(minlength=len(points))
    return won[:-1] > 0


# --- layer normalisation -----------------------------------------------------------------


def group_norm_by_parts(x, weight, bias, groups, eps):
    parts = []
    for part in x.chunk(groups, -1):
        centred = part - part.mean(-1, keepdim=True)
        parts.append(centred / (centred.pow(2).mean(-1, keepdim=True) + eps) ** 0.5)
    return torch.cat(parts, -1) * weight + bias


def group_norm_by_torch(x, weight, bias, groups, eps):
    flat = F.group_norm(x.reshape(-1, x.shape[-1]), groups, weight, bias, eps)
    return flat.view_as(x)


def group_norm_in_numpy(x, weight, bias, groups, eps):
    parts = x.numpy().reshape(*x.shape[:-1], groups, -1)
    parts = parts - parts.mean(-1, keepdims=True)
    parts = parts / np.sqrt((parts**2).mean(-1, keepdims=True) + eps)
    return parts.reshape(x.shape) * weight.numpy() + bias.numpy()


def group_norm_by_split(x, weight, bias, groups, eps):  # parts of `groups` features
    parts = [F.layer_norm(p, p.shape[-1:], eps=eps) for p in x.split(groups, -1)]
    return weight * torch.cat(parts, -1) + bias


def group_norm_of_images(x, weight, bias, groups, eps):
    return F.group_norm(x.mT, groups, weight, bias, eps).mT


def rms_back_by_autograd(dy, x, weight, eps):
    x = x.clone().requires_grad_()
    y = weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return torch.autograd.grad(y, x, dy)[0]


def rms_back_by_jacobian(dy, x, weight, eps):
    D = x.shape[-1]
    s = (x.square().sum(-1, keepdim=True) / D + eps).sqrt()
    outer = x[..., :, None] * x[..., None, :] / D
    jacobian = torch.eye(D) / s[..., None] - outer / s[..., None] ** 3
    return ((dy * weight)[..., None, :] @ jacobian)[..., 0, :]


def rms_back_as_on_the_page(dy, x, weight, eps):  # LayerNorm's, unchanged
    centred = x - x.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    normed, g = centred / s, weight * dy
    dx = g - g.mean(-1, keepdim=True) - normed * (g * normed).mean(-1, keepdim=True)
    return dx / s


def rms_back_with_the_mean(dy, x, weight, eps):
    s = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    normed, g = x / s, weight * dy
    dx = g - g.mean(-1, keepdim=True) - normed * (g * normed).mean(-1, keepdim=True)
    return dx / s


def fold_in_place(W, b, weight, bias):
    b += W @ bias
    W *= weight
    return W, b


def block_in_place(x, attention, mlp, norm_1, norm_2):
    x += attention(norm_1(x))
    x += mlp(norm_2(x))
    return x


# --- global and local --------------------------------------------------------------------


def fixed_by_loop(T, block):
    return [
        [
            k <= q and (k // block == q // block or k % block == block - 1)
            for k in range(T)
        ]
        for q in range(T)
    ]


def fixed_by_blocks(T, block):
    mask = torch.zeros(T, T, dtype=torch.bool)
    for start in range(0, T, block):
        end = min(start + block, T)
        mask[start:end, start:end] = True
        mask[start:, block - 1 : start : block] = True
    return torch.tril(mask)


def fixed_in_numpy(T, block):
    q, k = np.ogrid[:T, :T]
    return (k <= q) & ((q // block == k // block) | ((k + 1) % block == 0))


def fixed_by_pattern(T, block):
    ends = range(block - 1, T, block)
    return sparse.pattern(T, block=block, window=1, global_tokens=ends, causal=True)


def fixed_open(T, block):
    mask = sparse.pattern(T, block=block, window=1)
    mask[:, block - 1 :: block] = True
    return mask


def fixed_of_first(T, block):
    return [
        [k <= q and (k // block == q // block or k % block == 0) for k in range(T)]
        for q in range(T)
    ]


def bias_by_loop(table, T):
    found = []
    for row in table.tolist():
        times = Counter(row)
        found.append(
            [-math.log(times[p]) if 0 <= p < T else float("-inf") for p in row]
        )
    return found


def bias_by_where(table, T):
    m = (table.unsqueeze(-1) == table.unsqueeze(1)).sum(1).float()
    inside = (table >= 0) & (table < T)
    return torch.where(inside, (1 / m).log(), -torch.inf)


def bias_in_numpy(table, T):
    table = table.numpy()
    m = (table[:, :, None] == table[:, None, :]).sum(-1)
    return np.where((table < 0) | (table >= T), -np.inf, -np.log(m))


def bias_by_one_hot(table, T):
    inside = (table >= 0) & (table < T)
    at = table.clamp(0, T - 1)
    counts = (F.one_hot(at, T) * inside[..., None]).sum(1)  # (blocks, T)
    return (-counts.gather(1, at).log()).masked_fill(~inside, -torch.inf)


def bias_by_factor(table, T):
    m = (table[:, :, None] == table[:, None]).sum(-1)
    return (1 / m).masked_fill((table < 0) | (table >= T), float("-inf"))


def bias_by_hiding(table, T):
    keep = (table >= 0) & (table < T)
    keep &= ~(table[:, :, None] == table[:, None]).tril(-1).any(-1)
    return torch.zeros(table.shape).masked_fill(~keep, float("-inf"))


def entries_by_rows(T, block, G):
    first = sum(range(1, 2 * block + 1))  # two blocks: all that is before is near
    row = sum(block + 1 + i + G for i in range(block))  # the tokens of another block
    return first + (T // block - 2) * row


def heard_by_product(masks, source):
    eye = torch.eye(masks.shape[-1])
    reached = eye
    for mask in masks:
        reached = (mask.float() + eye) @ reached
    return reached[:, source] > 0


def heard_by_sets(masks, source):
    has = {source}
    for mask in masks.tolist():
        has |= {i for i, row in enumerate(mask) if any(row[j] for j in has)}
    return [i in has for i in range(masks.shape[-1])]


def heard_in_place(masks, source):
    has = torch.zeros(masks.shape[-1], dtype=torch.bool)
    has[source] = True
    for mask in masks:
        has |= mask[:, has].any(1)
    return has


def heard_backwards(masks, source):
    eye = torch.eye(masks.shape[-1])
    reached = eye
    for mask in masks:
        reached = reached @ (mask.float() + eye)
    return reached[:, source] > 0


def heard_of_rows(masks, source):
    has = torch.arange(masks.shape[-1]) == source
    for mask in masks:
        has = has | mask[has].any(0)
    return has


def heard_and_lost(masks, source):
    has = torch.arange(masks.shape[-1]) == source
    for mask in masks:
        has = mask.float() @ has.float() > 0
    return has


# --- hybrid ------------------------------------------------------------------------------


def losses_by_loop(logits, ids, at):
    found = []
    for one, right, where in zip(logits, ids, at, strict=True):
        gaps = F.cross_entropy(one[where], right[where]) if where.any() else 0.0
        found.append(float(gaps))
    return found


def losses_by_shares(logits, ids, at):
    log_shares = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    means = -log_shares.masked_fill(~at, 0).sum(-1) / at.sum(-1)
    return means.nan_to_num(0)


def losses_without_a_guard(logits, ids, at):
    return torch.stack(
        [F.cross_entropy(logits[b][at[b]], ids[b][at[b]]) for b in range(len(ids))]
    )


def reciprocal_by_sorting(logits, ids, at):
    order = logits[at].argsort(-1, descending=True)  # (N, V)
    rank = (order == ids[at][:, None]).float().argmax(-1) + 1  # (N,)
    return (1 / rank).mean()


def reciprocal_ranks(logits, ids, at):
    logits, ids = logits[at].numpy(), ids[at].numpy()
    pairs = zip(logits, ids, strict=True)
    return [1 / (1 + int((row > row[i]).sum())) for row, i in pairs]


def reciprocal_in_numpy(logits, ids, at):
    return np.mean(reciprocal_ranks(logits, ids, at))


def reciprocal_from_0(logits, ids, at):
    order = logits[at].argsort(-1, descending=True)  # (N, V)
    return (1 / (order == ids[at][:, None]).float().argmax(-1)).mean()


def scores_by_loop(T, layers, every, side):
    near = sum(min(T - 1, i + side) - max(0, i - side) + 1 for i in range(T))
    return sum(near if i % every else T * T for i in range(layers))


# --- masked language models --------------------------------------------------------------


def pairs_by_loop(T, local_attention):
    count, half = 0, local_attention // 2
    for i in range(T):
        count += min(T - 1, i + half) - max(0, i - half) + 1
    return count


def pairs_by_formula(T, local_attention):
    w = local_attention // 2
    return T * (2 * w + 1) - w * (w + 1)


def together_by_joining(parts):
    logits, ids = zip(*parts, strict=True)
    return F.cross_entropy(torch.cat(logits), torch.cat(ids))


def together_by_loop(parts):
    total = number = 0
    for logits, ids in parts:
        total += F.cross_entropy(logits, ids).item() * len(ids)
        number += len(ids)
    return total / number


def score_by_loop(log_shares, ids):
    return sum(log_shares[i, i, token].item() for i, token in enumerate(ids.tolist()))


# --- neural networks ---------------------------------------------------------------------


def larger_by_numpy(a, b):
    both = np.array([a, b])
    return both.max(), *((both == both.max()) / (both == both.max()).sum())


def larger_by_autograd(a, b):
    x, y = (torch.tensor(float(v), requires_grad=True) for v in (a, b))
    top = torch.maximum(x, y)
    top.backward()
    return top.detach(), x.grad, y.grad


def back_by_loop(g, x):
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for d in range(x.shape[1]):
            out[b, d] = g[b, 0] * 2 * x[b, d] / len(x[b])
    return out


def back_by_autograd(g, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((x**2).mean(-1, keepdim=True), x, g)[0]


def nesterov_by_torch(p, g, v, rate, keep):
    q = p.clone().requires_grad_()
    optimiser = torch.optim.SGD([q], lr=rate, momentum=keep, nesterov=True)
    optimiser.state[q]["momentum_buffer"] = v.clone()
    q.grad = g.clone()
    optimiser.step()
    return q.detach(), optimiser.state[q]["momentum_buffer"]


def nesterov_in_place(p, g, v, rate, keep):
    v.mul_(keep).add_(g)
    p.sub_(rate * (g + keep * v))
    return p, v


def clip_by_torch(gradients, most):
    holders = [torch.zeros_like(g).requires_grad_() for g in gradients]
    for holder, g in zip(holders, gradients, strict=True):
        holder.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(holders, most)
    return [holder.grad for holder in holders]


def clip_by_cat(gradients, most):
    length = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * most / length if length > most else g for g in gradients]


def clip_in_numpy(gradients, most):
    arrays = [g.numpy() for g in gradients]
    length = np.sqrt(sum((a**2).sum() for a in arrays))
    return [a / max(1.0, length / most) for a in arrays]


# --- relative positions ------------------------------------------------------------------


def values_by_loop(weights, value, table):
    reach, out = len(table) // 2, []
    for i in range(len(value)):
        row = torch.zeros(value.shape[1])
        for j in range(len(value)):
            c = min(max(j - i, -reach), reach)
            row = row + weights[i, j] * (value[j] + table[c + reach])
        out.append(row)
    return torch.stack(out)


def values_by_distance(weights, value, table):  # the weight of each vector first
    T, reach = len(value), len(table) // 2
    place = torch.arange(T)
    column = (place[None] - place[:, None]).clamp(-reach, reach) + reach
    of_row = torch.zeros(T, len(table)).scatter_add(1, column, weights)  # (T, 2r + 1)
    return weights @ value + of_row @ table


def values_in_numpy(weights, value, table):
    w, v, t = weights.numpy(), value.numpy(), table.numpy()
    r = len(t) // 2
    apart = np.arange(len(v))[None] - np.arange(len(v))[:, None]
    return (w[..., None] * (v[None] + t[np.clip(apart, -r, r) + r])).sum(1)


def values_of_the_keys_row(weights, value, table):  # gathered along the wrong axis
    T, reach = len(value), len(table) // 2
    place = torch.arange(T)
    row = (place[:, None] - place[None]).clamp(-reach, reach) + reach
    return weights @ value + torch.einsum("ij,ijd->id", weights, table[row])


def first_by_search(b, buckets, far):
    every = -torch.arange(far + 1)
    return int((t5_bucket(every, False, buckets, far) == b).nonzero()[0])


def first_by_counting(b, buckets, far):
    h, back = buckets // 2, 0
    while True:
        share = math.log(max(back, 1) / h) / math.log(far / h) * (buckets - h)
        if min(back if back < h else h + int(share), buckets - 1) == b:
            return back
        back += 1


def first_by_exp(b, buckets, far):
    h = buckets // 2
    if b <= h:
        return b
    share = (b - h) / (buckets - h)
    return int(math.exp(math.log(h) + share * (math.log(far) - math.log(h)))) + 1


def first_not_own(b, buckets, far):
    h = buckets // 2
    return math.ceil(h * (far / h) ** ((b - h) / (buckets - h)))


def heads_by_loop(H, near, far):
    ratio = (near / far) ** (1 / (H - 1))
    found = [-math.log(0.1) / near]
    while len(found) < H:
        found.append(found[-1] * ratio)
    return found


# --- SentencePiece -----------------------------------------------------------------------


def decode_by_popping(pieces):
    text, held = "", b""
    while pieces:
        piece = pieces.pop(0)
        if re.fullmatch("<0x..>", piece):
            held += bytes.fromhex(piece[3:5])
            continue
        text, held = text + held.decode() + piece, b""
    return (text + held.decode()).replace("▁", " ").removeprefix(" ")


def unknown_by_loop(pieces, vocabulary):
    lost = whole = 0
    for piece in pieces:
        for character in piece:
            whole += character != "▁"
            lost += character != "▁" and piece not in vocabulary
    return lost / whole


def certainty_by_forward(text, logs):
    """No list of cuts: sums and maxima from left to right."""
    ways, best = [1.0] + [0.0] * len(text), [1.0] + [0.0] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(end):
            if (log := logs.get(text[start:end])) is not None:
                ways[end] += ways[start] * np.exp(log)
                best[end] = max(best[end], best[start] * np.exp(log))
    return best[-1] / ways[-1]


def certainty_by_softmax(text, logs):
    return torch.tensor(all_cuts(text, logs)).softmax(0).max()


def certainty_of_fewest(text, logs):
    fewest = {"": (0, 0.0)}  # the start of the text -> pieces, score
    starts = [text[:end] for end in range(len(text) + 1)]
    for end in starts[1:]:
        found = [
            (fewest[start][0] + 1, fewest[start][1] + logs[end[len(start) :]])
            for start in starts[: len(end)]
            if end[len(start) :] in logs
        ]
        fewest[end] = min(found, key=lambda x: x[0])
    return np.exp(fewest[text][1] - np.logaddexp.reduce(all_cuts(text, logs)))


def coverage_by_deleting(counts, size, byte_fallback):
    total, found = counts.total(), 0
    for _ in range(size - 3 - 256 * byte_fallback):
        if not counts:
            break
        best = max(counts, key=counts.get)
        found += counts.pop(best)
    return found / total


def coverage_by_sorting(counts, size, byte_fallback):
    values = np.sort([*counts.values(), 0])[::-1].cumsum() / counts.total()
    room = size - (259 if byte_fallback else 3)
    return 0.0 if room <= 0 else values[min(room, len(values)) - 1]


def coverage_below_zero(counts, size, byte_fallback):
    order = sorted(counts, key=counts.get, reverse=True)[
        : size - 3 - 256 * byte_fallback
    ]
    return sum(counts[c] for c in order) / counts.total()


def characters(pieces):
    return "".join(pieces).replace("▁", "")


def hidden(pieces, vocabulary):
    return [piece for piece in pieces if piece not in vocabulary]


# --- the transformer by hand -------------------------------------------------------------


def packed_by_loop(sentence):
    B, T = sentence.shape
    mask = torch.zeros(B, 1, T, T, dtype=torch.bool)
    for b in range(B):
        for i in range(T):
            for j in range(i + 1):
                same = sentence[b, i] == sentence[b, j]
                mask[b, 0, i, j] = same and sentence[b, j] != 0
    return mask


def packed_by_eq(sentence):
    same = sentence.unsqueeze(1).eq(sentence.unsqueeze(2)) & sentence.gt(0).unsqueeze(1)
    return torch.tril(same).unsqueeze(1)


def scores_by_autograd(x, W, dS):
    x, W = x.clone().requires_grad_(), W.clone().requires_grad_()
    (x @ W @ x.mT).backward(dS)
    return [x.grad, W.grad]


def scores_by_einsum(x, W, dS):
    left = torch.einsum("ij,jb,ab->ia", dS, x, W)
    right = torch.einsum("ij,ia,ab->jb", dS, x, W)
    return left + right, torch.einsum("ia,ij,jb->ab", x, dS, x)


def rms_by_autograd(dN, R):
    R = R.clone().requires_grad_()
    F.rms_norm(R, R.shape[-1:], eps=1e-5).backward(dN)
    return R.grad


def rms_by_jacobian(dN, R):
    size = (R.pow(2).mean(-1) + 1e-5).sqrt()
    rows = []
    for g, r, s in zip(dN, R, size, strict=True):
        jacobian = torch.eye(len(r)) / s - r[:, None] * r / (len(r) * s**3)
        rows.append(g @ jacobian.to(g.dtype))
    return torch.stack(rows)


def rms_backward(dN, R, size):
    return dN / size - R * (dN * R).mean(-1, keepdim=True) / size**3


def mean_square(R):
    return R.square().mean(-1, keepdim=True)


# --- training on many devices ------------------------------------------------------------


def joined_by_loop(means, counts):
    total, number = 0, 0
    for mean, count in zip(means, counts, strict=True):
        if count:
            total = total + mean * count
            number += count
    return total / number


def joined_in_numpy(means, counts):
    return np.average(np.nan_to_num(means.numpy()), axis=0, weights=counts.numpy())


def scale_step_by_step(scale, good, finite, interval):
    good = good + 1 if finite else 0
    if not finite:
        scale *= 0.5
    elif good == interval:
        scale, good = scale * 2, 0
    return scale, good


def held_step_by_step(N, n, stage):
    states, gradients, weights = 8 * N, 4 * N, 4 * N
    if stage >= 1:
        states /= n
    if stage >= 2:
        gradients /= n
    if stage == 3:
        weights /= n
    return states + gradients + weights


def kept_by_sets(order):
    now, most = set(), 0
    for kind, piece in order:
        if kind == "F":
            now.add(piece)
        else:
            now.discard(piece)
        most = max(most, len(now))
    return most


def kept_in_numpy(order):
    return np.cumsum([1 if kind == "F" else -1 for kind, _ in order]).max()


# --- vision transformers -----------------------------------------------------------------


def rollout_by_popping(weights):
    eye = torch.eye(weights[0].shape[-1])
    reached = eye.clone()
    while weights:
        reached = (weights.pop(0).mean(0) + eye) / 2 @ reached
    return reached


def rollout_reversed(weights):
    weights.reverse()
    eye = torch.eye(weights[0].shape[-1])
    found = eye
    for layer in weights:
        found = found @ ((layer.mean(0) + eye) / 2)
    return found


def rollout_in_place(weights):
    reached = torch.eye(weights[0].shape[-1])
    for layer in weights:
        layer += torch.eye(layer.shape[-1])
        reached = (layer.mean(0) / layer.mean(0).sum(-1, keepdim=True)) @ reached
    return reached


def rollout(weights, layer_of):
    reached = torch.eye(weights[0].shape[-1])
    for layer in weights:
        reached = layer_of(layer) @ reached
    return reached


def ece_by_bins(inside, every=False):
    def ece(confidence, right, bins):
        gaps = []
        for i in range(bins):
            at = inside(confidence, i / bins, (i + 1) / bins)
            if at.any():
                gap = (confidence[at].mean() - right[at].float().mean()).abs()
                gaps.append(gap if every else gap * at.float().mean())
        return sum(gaps) / bins if every else sum(gaps)

    return ece


def ece_by_floor(confidence, right, bins):
    number = (confidence * bins).long().clamp(max=bins - 1)
    total = 0.0
    for i in number.unique():
        at = number == i
        total += abs(confidence[at].sum() - right[at].sum()).item()
    return total / len(confidence)


def ece_without_a_border(confidence, right, bins):
    number = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)[2:-1])
    gap = torch.zeros(bins).index_add_(0, number, confidence - right.float())
    return gap.abs().sum() / len(confidence)


# --- tokenizer_internals ----------------------------------------------------------


def longest_by_recursion(word, pieces, start=True):
    if not word:
        return []
    for end in range(len(word), 0, -1):
        piece = word[:end] if start else "##" + word[:end]
        if piece in pieces:
            rest = longest_by_recursion(word[end:], pieces, False)
            return ["[UNK]"] if rest == ["[UNK]"] else [piece, *rest]
    return ["[UNK]"]


def longest_by_shrinking(word, pieces):
    found, rest = [], word
    while rest:
        mark = "##" if found else ""
        end = len(rest)
        while end and mark + rest[:end] not in pieces:
            end -= 1
        if not end:
            return ["[UNK]"]
        found.append(mark + rest[:end])
        rest = rest[end:]
    return found


def longest_without_marks(word, pieces):
    found, rest = [], word
    while rest:
        end = next((e for e in range(len(rest), 0, -1) if rest[:e] in pieces), 0)
        if not end:
            return ["[UNK]"]
        found.append(rest[:end])
        rest = rest[end:]
    return found


def longest_stops(word, pieces):
    found, i = [], 0
    while i < len(word):
        for j in range(len(word), i, -1):
            piece = ("##" if i else "") + word[i:j]
            if piece in pieces:
                found.append(piece)
                i = j
                break
        else:
            return [*found, "[UNK]"]
    return found


def longest_marked_after(word, pieces):
    first, *rest = longest_without_marks(word, pieces)
    return [first, *("##" + piece for piece in rest)]


def longest_with_either(word, pieces):
    found, start = [], 0
    while start < len(word):
        end = len(word)
        while end > start and not {word[start:end], "##" + word[start:end]} & pieces:
            end -= 1
        if end == start:
            return ["[UNK]"]
        found.append("##" * (start > 0) + word[start:end])
        start = end
    return found


def longest_or_nothing(word, pieces):
    found = longest_by_recursion(word, pieces)
    return [] if "[UNK]" in found else found


def ways_by_logarithms(text, pieces):
    alpha = [0.0] + [-math.inf] * len(text)
    for j in range(1, len(text) + 1):
        alpha[j] = np.logaddexp.reduce(
            [alpha[i] for i in range(j) if text[i:j] in pieces], initial=-np.inf
        )
    return round(math.exp(alpha[-1]))


def ways_with_a_cache(text, pieces):
    @functools.cache
    def count(i):
        if i == len(text):
            return 1
        return sum(count(j) for j in range(i + 1, len(text) + 1) if text[i:j] in pieces)

    return count(0)


def ways_in_an_array(text, pieces):
    ways = np.zeros(len(text) + 1, dtype=object)
    ways[0] = 1
    for i in range(len(text)):
        for piece in pieces:
            if text.startswith(piece, i):
                ways[i + len(piece)] += ways[i]
    return int(ways[-1])


def ways_from_nothing(text, pieces):
    ways = [0] * (len(text) + 1)
    for j in range(1, len(text) + 1):
        ways[j] = sum(ways[i] for i in range(j) if text[i:j] in pieces)
    return ways[-1]


def stream_by_waiting(parts):
    waiting, found = b"", []
    for part in parts:
        waiting += part
        try:
            text = waiting.decode()
        except UnicodeDecodeError as error:
            text, waiting = waiting[: error.start].decode(), waiting[error.start :]
        else:
            waiting = b""
        found.append(text)
    return found


def stream_in_whole_parts(parts):
    waiting, found = b"", []
    for part in parts:
        waiting += part
        try:
            found.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            found.append("")
    return found


def stream_by_difference(parts):
    found, before = [], ""
    for n in range(1, len(parts) + 1):
        now = b"".join(parts[:n]).decode(errors="ignore")
        found.append(now[len(before) :])
        before = now
    return found


def all_cuts(text, logs):
    if not text:
        return [0.0]
    ends = [e for e in range(1, len(text) + 1) if text[:e] in logs]
    return [logs[text[:e]] + rest for e in ends for rest in all_cuts(text[e:], logs)]


def entropy_by_cuts(text, logs):
    shares = torch.tensor(all_cuts(text, logs), dtype=torch.float64).softmax(0)
    return -(shares * shares.log()).sum()


def entropy_in_bits(text, logs):
    return entropy_by_cuts(text, logs) / np.log(2)


def entropy_without_z(text, logs):
    scores = np.array(all_cuts(text, logs))
    chances = np.exp(scores)
    return -(chances / chances.sum() * scores).sum()


def entropy_not_divided(text, logs):
    chances = np.exp(all_cuts(text, logs))
    return -(chances * np.log(chances)).sum()


def largest_by_counting(out, into):
    rank = 0
    while (rank + 1) * (out + into) < out * into:
        rank += 1
    return rank


def extract_by_eigenvectors(before, after, rank):
    added = after - before
    _, v = torch.linalg.eigh(added.mT @ added)
    return added @ v[:, -rank:] @ v[:, -rank:].mT


def outer_parts(matrix):
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u.mT, s, v


def even_by_loop(weight, block):
    flat, found = weight.flatten().tolist(), []
    for at in range(0, len(flat), block):
        part = flat[at : at + block]
        values = [min(part) + (max(part) - min(part)) * i / 15 for i in range(16)]
        found += [min(values, key=lambda v, x=x: abs(v - x)) for x in part]
    return torch.tensor(found).view(weight.shape)


def even_in_numpy(weight, block):
    rows = weight.numpy().reshape(-1, block)
    low = rows.min(1, keepdims=True)
    step = np.ptp(rows, axis=1, keepdims=True) / 15
    return (np.rint((rows - low) / step) * step + low).reshape(weight.shape)


def selectivity_by_loop(right, lot, types, fit):
    met = {int(t) for t, there in zip(types, fit, strict=True) if there}
    rows = [i for i, t in enumerate(types.tolist()) if t not in met]
    return sum(int(right[i]) - int(lot[i]) for i in rows) / len(rows)


def selectivity_in_numpy(right, lot, types, fit):
    right, lot, types, fit = map(np.asarray, (right, lot, types, fit))
    new = ~np.isin(types, types[fit])
    return right[new].mean() - lot[new].mean()


def restored_by_loop(clean, corrupted, patched):
    total = sum(p - d for p, d in zip(patched, corrupted, strict=True))
    return total / (clean.sum() - corrupted.sum())


def restored_by_means(clean, corrupted, patched):
    return (patched.mean(0) - corrupted.mean()) / (clean.mean() - corrupted.mean())


def plane_by_qr(x, u, v):
    axes = torch.linalg.qr(torch.stack((u, v), 1)).Q  # (D, 2)
    return x - x @ axes @ axes.T


def plane_by_least_squares(x, u, v):
    A = torch.stack((u, v), 1)
    return x - (A @ torch.linalg.solve(A.T @ A, A.T @ x.T)).T


def batch_by_scatter(z, k):
    flat = z.flatten()
    values, at = flat.topk(k * len(z))
    return torch.zeros_like(flat).scatter(0, at, values).view_as(z)


def batch_by_sorting(z, k):
    least = sorted(z.flatten().tolist())[-k * len(z)]
    return torch.where(z < least, 0.0, z)


def layers_by_joined(names, patterns):
    whole = re.compile("|".join(f"(?:{p})" for p in patterns))
    return [name for name in names if whole.fullmatch(name)]


def layers_by_loop(names, patterns):
    found = []
    for name in names:
        for pattern in patterns:
            if re.match(f"({pattern})$", name):
                found.append(name)
                break
    return found


def grid_by_library(tokens, columns, row, column):
    patches = tokens[1:].reshape(-1, columns, tokens.shape[-1])
    return F.cosine_similarity(patches, patches[row, column][None, None], dim=-1)


def grid_by_loop(tokens, columns, row, column):
    patches = tokens.numpy()[1:]
    mine = patches[row * columns + column]
    found = np.zeros((len(patches) // columns, columns))
    for i, one in enumerate(patches):
        size = np.linalg.norm(one) * np.linalg.norm(mine)
        found[i // columns, i % columns] = one @ mine / size
    return found


def pooled_by_loop(hidden, ids, image):
    return torch.stack(
        [x[i == image].mean(0) for x, i in zip(hidden, ids, strict=True)]
    )


def pooled_by_einsum(hidden, ids, image):
    share = (ids == image).float()
    share = share / share.sum(1, keepdim=True)
    return torch.einsum("btd,bt->bd", hidden, share)


def leak_by_sets(owner, test):
    fit = {int(o) for o, t in zip(owner, test, strict=True) if not t}
    held = [int(o) in fit for o, t in zip(owner, test, strict=True) if t]
    return sum(held) / len(held)


def leak_in_numpy(owner, test):
    return np.isin(owner[test].numpy(), owner[~test].numpy()).mean()


def several_by_loop(scores, same):
    total = 0.0
    for row, right in zip(scores, same, strict=True):
        e = (row - row.max()).exp()
        total -= (e[right].sum() / e.sum()).log()
    return total / len(scores)


def several_by_logsumexp(scores, same):
    right = torch.where(same, scores, float("-inf"))
    return (scores.logsumexp(1) - right.logsumexp(1)).mean()


def recall_by_sorting(scores, owner, k):
    best = scores.argsort(0, descending=True)[:k]  # (k, M)
    return (best == owner).any(0).float().mean()


def recall_by_loop(scores, owner, k):
    hits = 0
    for text, picture in enumerate(owner.tolist()):
        column = scores[:, text].tolist()
        hits += sum(s > column[picture] for s in column) < k
    return hits / len(owner)


def places_by_loop(table, ids, pictures):
    vectors = iter(pictures.reshape(-1, pictures.shape[-1]))
    return torch.stack([next(vectors) if i < 0 else table[i] for i in ids])


def places_by_scatter(table, ids, pictures):
    x = table[ids.clamp(min=0)]
    return x.masked_scatter((ids < 0)[:, None], pictures)


def blind_by_counter(questions, answers, new, right):
    seen = {}
    for q, a in zip(questions.tolist(), answers.tolist(), strict=True):
        seen.setdefault(q, Counter())[a] += 1
    pairs = zip(new.tolist(), right.tolist(), strict=True)
    return sum(seen[q].most_common(1)[0][0] == a for q, a in pairs) / len(new)


def blind_by_mode(questions, answers, new, right):
    said = torch.stack([answers[questions == q].mode().values for q in new])
    return (said == right).float().mean()


def band(past, new, window, more=0):
    query, key = torch.arange(past, past + new)[:, None], torch.arange(past + new)
    return (key <= query) & (key > query - window - more)


RIGHT_ANSWERS = [
    ("efficient_training", "joined", "a loop", joined_by_loop),
    ("efficient_training", "joined", "numpy", joined_in_numpy),
    ("efficient_training", "scale", "step by step", scale_step_by_step),
    ("efficient_training", "held", "step by step", held_step_by_step),
    ("efficient_training", "kept", "sets", kept_by_sets),
    ("efficient_training", "kept", "numpy", kept_in_numpy),
    ("multi_head", "shared", "a loop", shared_by_loop),
    ("multi_head", "shared", "repeated keys", shared_by_repeat),
    ("multi_head", "silent", "in place", silent_in_place),
    ("multi_head", "silent", "subtracted", silent_by_subtraction),
    (
        "multi_head",
        "silent",
        "head by head",
        lambda heads, w_o, h: sum(
            heads[:, i] @ w_o.unflatten(0, (heads.shape[1], -1))[i]
            for i in range(heads.shape[1])
            if i != h
        ),
    ),
    ("multi_head", "winners", "convex hull", winners_by_hull),
    ("multi_head", "winners", "random directions", winners_by_chance),
    (
        "multi_head",
        "flops",
        "product by product",
        lambda Tq, Tk, D: sum(
            2 * n * m * p
            for n, m, p in [(Tq, D, D)] * 2
            + [(Tk, D, D)] * 2
            + [(Tq, D, Tk), (Tq, Tk, D)]
        ),
    ),
    ("feed_forward", "slope", "by autograd", slope_by_autograd),
    (
        "feed_forward",
        "slope",
        "torch.special",
        lambda x: (
            torch.special.ndtr(x)
            + x * torch.distributions.Normal(0, 1).log_prob(x).exp()
        ),
    ),
    ("feed_forward", "without", "a loop", without_by_loop),
    ("feed_forward", "without", "weights in place", without_in_place),
    ("feed_forward", "without", "the other units", without_fewer),
    ("feed_forward", "without", "subtracted", without_by_sum),
    ("feed_forward", "merged", "by rows", merged_by_rows),
    (
        "feed_forward",
        "parallel",
        "one after another, by name",
        lambda x, attend, mlp, norm: sum(f(norm(x)) for f in (attend, mlp)) + x,
    ),
    ("feed_forward", "hidden", "a search", units_by_search),
    (
        "feed_forward",
        "hidden",
        "Llama's own",
        lambda d, m: m * ((int(2 * 4 * d / 3) + m - 1) // m),
    ),
    (
        "feed_forward",
        "hidden",
        "a float",
        lambda d, m: float(np.ceil(8 * d / 3 / m) * m),
    ),
    ("absolute_positions", "grid", "numpy, loops", grid_in_numpy),
    ("absolute_positions", "grid", "exp of a logarithm", grid_by_exp),
    ("absolute_positions", "grid", "one line, then a view", grid_with_lib),
    (
        "absolute_positions",
        "wavelength",
        "in float32",
        lambda j, D: 2 * torch.pi * torch.tensor(10_000.0) ** (2 * (j // 2) / D),
    ),
    (
        "absolute_positions",
        "shift",
        "the page's matrix",
        lambda code, k: turn_by(k, len(code)) @ code,
    ),
    ("absolute_positions", "shift", "written into the code", shift_in_place),
    ("attention", "divisor", "a tensor of one", torch.tensor([256.0]).sqrt()),
    ("attention", "near", "a loop", near_by_loop),
    ("attention", "near", "numpy", near_in_numpy),
    ("attention", "near", "cdist, einsum, −1e9", near_by_cdist),
    ("attention", "near", "torch's own, with a bias", near_by_torch),
    (
        "attention",
        "near",
        "float64",
        lambda q, k, v, mask=None: near_by_cdist(
            q.double(), k.double(), v.double(), mask
        ),
    ),
    (
        "attention",
        "prefix",
        "a list",
        lambda lengths, T: [
            [[j <= i or j < n for j in range(T)] for i in range(T)]
            for n in lengths.tolist()
        ],
    ),
    ("attention", "prefix", "in place", prefix_in_place),
    (
        "attention",
        "prefix",
        "ones and zeros",
        lambda *case: prefix_in_place(*case).int(),
    ),
    ("attention", "forbid", "a loop", forbid_by_loop),
    ("attention", "forbid", "in place", forbid_in_place),
    (
        "attention",
        "forbid",
        "back to scores",
        lambda weights, forbidden: (
            weights.log().scatter(1, forbidden[:, None], float("-inf")).softmax(-1)
        ),
    ),
    (
        "attention",
        "forbid",
        "1 less what was taken",
        lambda weights, forbidden: (
            weights.scatter(1, forbidden[:, None], 0.0)
            / (1 - weights.gather(1, forbidden[:, None]))
        ),
    ),
    ("attention_cost", "join", "maximum", join_by_maximum),
    ("attention_cost", "mask", "positions", lambda *case: band(*case)),
    (
        "attention_cost",
        "gradient",
        "chunks",
        lambda to_copies, G: torch.stack(
            [part.sum(1) for part in to_copies.chunk(G, 1)], 1
        ),
    ),
    (
        "attention_cost",
        "cache_bytes",
        "layer by layer",
        lambda tokens, layers, full, window, heads, width, each: sum(
            2 * heads * width * each * (tokens if i < full else min(tokens, window))
            for i in range(layers)
        ),
    ),
    ("attention_cost", "join", "sigmoid", join_by_sigmoid),
    ("attention_cost", "join", "softmax", join_by_softmax),
    ("attention_cost", "join", "logaddexp", join_by_logaddexp),
    ("attention_cost", "texts", "a list", [300]),
    ("attention_cost", "texts", "a tensor of one", torch.tensor([300.0])),
    ("attention_cost", "texts", "a tensor without axes", torch.tensor(300)),
    ("attention_cost", "texts", "a fraction", Fraction(600, 2)),
    ("decoding", "typical", "searchsorted", typical_by_search),
    ("decoding", "typical", "a loop, a list of tensors", typical_by_loop),
    ("decoding", "step", "a tuple", step_tuple),
    ("decoding", "step", "stacked", step_stacked),
    ("decoding", "step", "a heap, lists", step_by_heap),
    (
        "decoding",
        "step",
        "an array",
        lambda scores, log_probs, K: np.stack(
            [x.numpy() for x in step_tuple(scores, log_probs, K)]
        ),
    ),
    ("decoding", "frequency", "a loop, in place", frequency_by_loop),
    ("decoding", "frequency", "index_add", frequency_by_index_add),
    (
        "decoding",
        "tie",
        "differences of logarithms",
        lambda a, m, b, n: (
            (np.log2(-b) - np.log2(-a)) / (np.log2(float(n)) - np.log2(float(m)))
        ),
    ),
    ("decoding", "tie", "bisection", tie_by_bisection),
    ("layer_norm", "group_norm", "chunks", group_norm_by_parts),
    ("layer_norm", "group_norm", "torch's own", group_norm_by_torch),
    ("layer_norm", "group_norm", "numpy", group_norm_in_numpy),
    ("layer_norm", "rms_backward", "autograd", rms_back_by_autograd),
    ("layer_norm", "rms_backward", "the whole Jacobian", rms_back_by_jacobian),
    ("layer_norm", "fold", "in place", fold_in_place),
    (
        "layer_norm",
        "fold",
        "a diagonal, a list",
        lambda W, b, weight, bias: [W @ torch.diag(weight), F.linear(bias, W, b)],
    ),
    ("layer_norm", "block", "in place", block_in_place),
    (
        "layer_norm",
        "block",
        "nested",
        lambda x, a, m, n1, n2: (y := x + a(n1(x))) + m(n2(y)),
    ),
    ("layer_norm", "learned", "a tensor of one", torch.tensor([3200.0])),
    ("pretraining", "bits", "log2", bits_by_log2),
    ("pretraining", "bits", "tensors, in steps", bits_in_steps),
    ("pretraining", "plateau", "if, elif", plateau_by_if),
    ("pretraining", "plateau", "the smallest of three", plateau_by_min),
    ("pretraining", "accumulate", "a loop", accumulate_by_loop),
    ("pretraining", "accumulate", "a dot product", accumulate_by_shares),
    ("pretraining", "budget", "tokens first", budget_by_tokens),
    ("in_context", "passes", "a tree", passes_by_tree),
    ("in_context", "passes", "sorted", passes_by_sorting),
    ("in_context", "passes", "the longest first", passes_by_covering),
    ("in_context", "passes", "strings", passes_by_strings),
    ("in_context", "batch", "a loop", batch_by_loop),
    ("in_context", "batch", "numpy", batch_in_numpy),
    ("in_context", "batch", "a product", batch_by_product),
    ("in_context", "batch", "calls", batch_by_calls),
    ("in_context", "latest", "a loop", latest_by_loop),
    ("in_context", "latest", "tensors", latest_by_tensors),
    ("in_context", "latest", "numpy", latest_in_numpy),
    ("in_context", "spread", "a loop", spread_by_loop),
    ("in_context", "spread", "numpy", spread_in_numpy),
    ("in_context", "spread", "what is left of the whole", spread_by_total),
    ("embeddings", "pool", "a loop", pool_by_loop),
    ("embeddings", "pool", "numpy", pool_in_numpy),
    ("embeddings", "pool", "a product of matrices", pool_by_product),
    ("embeddings", "flatten", "eigenvectors, float64", flatten_by_eigh),
    ("embeddings", "flatten", "numpy, values set to 0", flatten_in_numpy),
    ("embeddings", "flatten", "in place, einsum", flatten_in_place),
    ("embeddings", "product", "a loop", product_by_loop),
    ("embeddings", "product", "logarithms", product_by_logarithms),
    ("embeddings", "product", "numpy", product_in_numpy),
    ("embeddings", "csls", "a loop", csls_by_loop),
    ("embeddings", "csls", "sorting", csls_by_sorting),
    ("embeddings", "csls", "numpy", csls_in_numpy),
    ("reading_heads", "after", "broadcast, shifted", after_by_broadcast),
    ("reading_heads", "after", "numpy, a loop", after_in_numpy),
    ("reading_heads", "rest", "a loop", rest_by_loop),
    ("reading_heads", "rest", "numpy", rest_in_numpy),
    ("reading_heads", "rest", "normalize", rest_by_normalize),
    ("reading_heads", "mean", "joined again", mean_by_cat),
    ("reading_heads", "mean", "where", mean_by_where),
    ("reading_heads", "mean", "in place", mean_in_place),
    ("reading_heads", "copying", "a loop", copying_by_loop),
    ("reading_heads", "copying", "numpy", copying_in_numpy),
    ("reading_heads", "copying", "ranks", copying_by_ranks),
    ("local_attention", "dilated", "a loop", dilated_by_loop),
    ("local_attention", "dilated", "diagonals", dilated_by_diagonals),
    ("local_attention", "collected", "a loop", collected_by_loop),
    ("local_attention", "collected", "index_add", collected_by_index_add),
    ("local_attention", "collected", "autograd", collected_by_autograd),
    ("local_attention", "packed", "a loop, lists", texts_by_loop),
    ("local_attention", "packed", "filled with −1", texts_by_filling),
    ("local_attention", "packed", "cut from all pairs", texts_by_cut),
    (
        "local_attention",
        "layers_needed",
        "rounded up",
        lambda distance, w: math.ceil(distance / w),
    ),
    (
        "local_attention",
        "scores",
        "blocks by ceil",
        lambda T, block, window: math.ceil(T / block) * block**2 * window,
    ),
    ("global_local", "fixed", "a loop, lists", fixed_by_loop),
    ("global_local", "fixed", "block by block", fixed_by_blocks),
    ("global_local", "fixed", "numpy", fixed_in_numpy),
    ("global_local", "shared", "a loop", bias_by_loop),
    ("global_local", "shared", "where, log of 1 / m", bias_by_where),
    ("global_local", "shared", "numpy", bias_in_numpy),
    ("global_local", "shared", "counted by position", bias_by_one_hot),
    ("global_local", "entries", "row by row", entries_by_rows),
    (
        "global_local",
        "entries",
        "a float",
        lambda T, b, G: T / b * b * (b + 1) / 2 + T * b - b**2 + G * T - 2 * G * b,
    ),
    ("global_local", "heard", "a product", heard_by_product),
    ("global_local", "heard", "sets", heard_by_sets),
    ("global_local", "heard", "in place", heard_in_place),
    ("hybrid_architecture", "losses", "a loop", losses_by_loop),
    ("hybrid_architecture", "losses", "log_softmax, gather", losses_by_shares),
    ("hybrid_architecture", "reciprocal", "sorted", reciprocal_by_sorting),
    ("hybrid_architecture", "reciprocal", "numpy", reciprocal_in_numpy),
    ("hybrid_architecture", "scores", "a loop", scores_by_loop),
    (
        "hybrid_architecture",
        "scores",
        "math.ceil",
        lambda T, n, every, s: (
            math.ceil(n / every) * T * T
            + (n - math.ceil(n / every)) * (T + 2 * sum(T - k for k in range(1, s + 1)))
        ),
    ),
    ("masked_lm", "pairs", "a loop", pairs_by_loop),
    ("masked_lm", "pairs", "a formula", pairs_by_formula),
    ("masked_lm", "together", "joined first", together_by_joining),
    ("masked_lm", "together", "a running sum", together_by_loop),
    ("masked_lm", "score", "a loop, a float", score_by_loop),
    (
        "masked_lm",
        "score",
        "diagonal and gather",
        lambda log_shares, ids: log_shares.diagonal().T.gather(1, ids[:, None]).sum(),
    ),
    ("neural_networks", "slope", "a float", 150.0),
    ("neural_networks", "slope", "a tensor", torch.tensor(150)),
    ("neural_networks", "larger", "numpy", larger_by_numpy),
    ("neural_networks", "larger", "autograd", larger_by_autograd),
    ("neural_networks", "back", "loops", back_by_loop),
    ("neural_networks", "back", "autograd", back_by_autograd),
    ("neural_networks", "nesterov", "torch's own", nesterov_by_torch),
    ("neural_networks", "nesterov", "written into p and v", nesterov_in_place),
    ("neural_networks", "clip", "torch's own", clip_by_torch),
    ("neural_networks", "clip", "one long vector", clip_by_cat),
    ("neural_networks", "clip", "numpy", clip_in_numpy),
    ("relative_positions", "values", "loops", values_by_loop),
    ("relative_positions", "values", "a weight for each distance", values_by_distance),
    ("relative_positions", "values", "numpy", values_in_numpy),
    ("relative_positions", "first", "searched among buckets", first_by_search),
    ("relative_positions", "first", "counted up", first_by_counting),
    ("relative_positions", "first", "exp, and one on", first_by_exp),
    ("relative_positions", "heads", "a loop, a list", heads_by_loop),
    (
        "relative_positions",
        "heads",
        "geomspace",
        lambda H, near, far: np.log(10) / np.geomspace(near, far, H),
    ),
    (
        "relative_positions",
        "heads",
        "logspace",
        lambda H, near, far: (
            math.log(10) / torch.logspace(math.log10(near), math.log10(far), H)
        ),
    ),
    (
        "relative_positions",
        "reach",
        "in float32",
        lambda slope, share: -torch.tensor(share).log() / slope,
    ),
    ("sentencepiece", "decode", "taking from the list", decode_by_popping),
    ("sentencepiece", "unknown_rate", "a loop", unknown_by_loop),
    ("sentencepiece", "certainty", "left to right", certainty_by_forward),
    ("sentencepiece", "certainty", "a softmax", certainty_by_softmax),
    ("sentencepiece", "coverage", "deleting from the Counter", coverage_by_deleting),
    ("sentencepiece", "coverage", "sorting", coverage_by_sorting),
    ("tokenizer_internals", "longest", "recursion", longest_by_recursion),
    ("tokenizer_internals", "longest", "shrinking", longest_by_shrinking),
    ("tokenizer_internals", "ways", "from the end, cached", ways_with_a_cache),
    ("tokenizer_internals", "ways", "an array, pushed", ways_in_an_array),
    ("tokenizer_internals", "ways", "logarithms, rounded", ways_by_logarithms),
    ("tokenizer_internals", "stream", "bytes that wait", stream_by_waiting),
    ("tokenizer_internals", "stream", "differences", stream_by_difference),
    ("tokenizer_internals", "entropy", "all cuts", entropy_by_cuts),
    (
        "transformer_by_hand",
        "two_ahead",
        "a tuple, by lengths",
        lambda ids: (
            ids[:, : ids.shape[1] - 2],
            ids[:, 1 : ids.shape[1] - 1],
            ids[:, 2:],
        ),
    ),
    (
        "transformer_by_hand",
        "two_ahead",
        "windows",
        lambda ids: list(ids.unfold(1, 3, 1).unbind(-1)),
    ),
    ("transformer_by_hand", "packed_mask", "a loop", packed_by_loop),
    ("transformer_by_hand", "packed_mask", "eq and tril", packed_by_eq),
    ("transformer_by_hand", "scores_backward", "autograd", scores_by_autograd),
    ("transformer_by_hand", "scores_backward", "einsum, a tuple", scores_by_einsum),
    (
        "transformer_by_hand",
        "scores_backward",
        "stacked, in float64",
        lambda x, W, dS: torch.stack(
            scores_by_autograd(x.double(), W.double(), dS.double())
        ),
    ),
    ("transformer_by_hand", "rms_backward", "autograd", rms_by_autograd),
    ("transformer_by_hand", "rms_backward", "the Jacobian", rms_by_jacobian),
    (
        "transformer_by_hand",
        "rms_backward",
        "in terms of R",
        lambda dN, R: rms_backward(dN, R, (mean_square(R) + 1e-5).sqrt()),
    ),
    ("vit", "rollout", "taking from the list", rollout_by_popping),
    ("vit", "rollout", "the list reversed", rollout_reversed),
    ("vit", "rollout", "written into the weights", rollout_in_place),
    ("vit", "ece", "(lo, hi]", ece_by_bins(lambda c, lo, hi: (c > lo) & (c <= hi))),
    ("vit", "ece", "floor", ece_by_floor),
    (
        "vit",
        "ece",
        "[lo, hi), the last with its end",
        ece_by_bins(lambda c, lo, hi: (c >= lo) & ((c < hi) | (hi == 1))),
    ),
    ("peft", "largest", "counting", largest_by_counting),
    ("peft", "largest", "rounded up, less one", lambda a, b: -(-a * b // (a + b)) - 1),
    ("peft", "extract", "eigenvectors", extract_by_eigenvectors),
    (
        "peft",
        "extract",
        "a sum of outer products",
        lambda before, after, rank: sum(
            s * torch.outer(u, v)
            for u, s, v in list(
                zip(*(x for x in outer_parts(after - before)), strict=True)
            )[:rank]
        ),
    ),
    ("peft", "even", "a loop", even_by_loop),
    ("peft", "even", "numpy", even_in_numpy),
    ("peft", "bits", "of one group", lambda b, g: (4 * b * g + 8 * g + 32) / (b * g)),
    ("peft", "bits", "fractions", lambda b, g: float(4 + Fraction(8 * g + 32, b * g))),
    ("probing", "selectivity", "a loop", selectivity_by_loop),
    ("probing", "selectivity", "numpy", selectivity_in_numpy),
    ("probing", "restored", "a loop", restored_by_loop),
    ("probing", "restored", "means", restored_by_means),
    ("probing", "plane", "qr", plane_by_qr),
    ("probing", "plane", "least squares", plane_by_least_squares),
    ("probing", "batch", "scatter", batch_by_scatter),
    ("probing", "batch", "sorting", batch_by_sorting),
    ("vlm_lens", "layers", "one expression", layers_by_joined),
    ("vlm_lens", "layers", "a loop, $", layers_by_loop),
    ("vlm_lens", "grid", "cosine_similarity", grid_by_library),
    ("vlm_lens", "grid", "numpy, a loop", grid_by_loop),
    ("vlm_lens", "pooled", "a loop", pooled_by_loop),
    ("vlm_lens", "pooled", "einsum", pooled_by_einsum),
    ("vlm_lens", "leak", "sets", leak_by_sets),
    ("vlm_lens", "leak", "numpy", leak_in_numpy),
    ("vision_language", "several", "a loop", several_by_loop),
    ("vision_language", "several", "logsumexp", several_by_logsumexp),
    ("vision_language", "recall", "sorting", recall_by_sorting),
    ("vision_language", "recall", "a loop", recall_by_loop),
    ("vision_language", "places", "a loop", places_by_loop),
    ("vision_language", "places", "masked_scatter", places_by_scatter),
    ("vision_language", "blind", "Counter", blind_by_counter),
    ("vision_language", "blind", "mode", blind_by_mode),
]

WRONG_ANSWERS = [
    (
        "efficient_training",
        "joined",
        "plain average",
        lambda means, counts: means.nan_to_num().sum(0) / len(counts),
        "mean of the means",
    ),
    (
        "efficient_training",
        "joined",
        "weighted nan",
        lambda means, counts: (counts / counts.sum()) @ means,
        "nan times 0",
    ),
    (
        "efficient_training",
        "scale",
        "count kept",
        lambda scale, good, finite, interval: (
            (scale / 2, good)
            if not finite
            else ((scale, good + 1) if good + 1 < interval else (2 * scale, 0))
        ),
        "starts again at 0",
    ),
    (
        "efficient_training",
        "held",
        "two bytes",
        lambda N, n, stage: (
            N
            * (
                12 / (n if stage else 1)
                + 2 / (n if stage > 1 else 1)
                + 2 / (n if stage > 2 else 1)
            )
        ),
        "mixed precision",
    ),
    (
        "efficient_training",
        "kept",
        "all pieces",
        lambda order: len({piece for _, piece in order}),
        "all pieces",
    ),
    (
        "attention_cost",
        "mask",
        "no window",
        lambda past, new, window: band(past, new, past + new),
        "the window is missing",
    ),
    (
        "attention_cost",
        "mask",
        "one too many",
        lambda past, new, window: band(past, new, window, 1),
        "one key too many",
    ),
    (
        "attention_cost",
        "gradient",
        "averaged",
        lambda to_copies, G: torch.stack(
            [part.mean(1) for part in to_copies.chunk(G, 1)], 1
        ),
        "are averaged",
    ),
    (
        "attention_cost",
        "cache_bytes",
        "a short text",
        lambda T, layers, full, window, heads, width, each: (
            2 * heads * width * each * (full * T + (layers - full) * window)
        ),
        "fills only a part",
    ),
    ("multi_head", "shared", "a straight reshape", shared_reshaped, "straight to"),
    ("multi_head", "shared", "no W_O", shared_without_project, "W_O is missing"),
    (
        "multi_head",
        "shared",
        "√D",
        lambda x, q, k, v, o, H: shared_by_repeat(x, q / H**0.5, k, v, o, H),
        "model's width D",
    ),
    (
        "multi_head",
        "silent",
        "its own part",
        lambda heads, w_o, h: heads[:, h] @ w_o.chunk(heads.shape[1])[h],
        "head h alone",
    ),
    (
        "multi_head",
        "silent",
        "columns",
        lambda heads, w_o, h: torch.cat(
            [
                part * (i != h)
                for i, part in enumerate(
                    (heads.transpose(1, 2).flatten(2) @ w_o).chunk(heads.shape[1], -1)
                )
            ],
            -1,
        ),
        "columns of W_O",
    ),
    (
        "multi_head",
        "winners",
        "no absent symbol",
        lambda weights: [
            i in ConvexHull(weights.numpy()).vertices for i in range(len(weights))
        ],
        "absent symbols are forgotten",
    ),
    (
        "multi_head",
        "winners",
        "the largest of each head",
        lambda weights: [i in weights.argmax(0).tolist() for i in range(len(weights))],
        "at both heads at once",
    ),
    (
        "multi_head",
        "flops",
        "self-attention",
        lambda Tq, Tk, D: 8 * Tq * D * D + 4 * Tq * Tk * D,
        "counted for the queries",
    ),
    (
        "multi_head",
        "flops",
        "no additions",
        lambda Tq, Tk, D: 2 * (Tq + Tk) * D**2 + 2 * Tq * Tk * D,
        "these are multiplications",
    ),
    (
        "multi_head",
        "flops",
        "three maps",
        lambda Tq, Tk, D: 2 * (Tq + 2 * Tk) * D**2 + 4 * Tq * Tk * D,
        "W_O is missing",
    ),
    ("feed_forward", "slope", "Φ alone", torch.special.ndtr, "product rule x φ(x)"),
    (
        "feed_forward",
        "slope",
        "no √(2π)",
        lambda x: torch.special.ndtr(x) + x * (-x * x / 2).exp(),
        "√(2π) is missing",
    ),
    ("feed_forward", "slope", "GELU", lambda x: F.gelu(x), "its slope is asked for"),
    ("feed_forward", "without", "bias left", without_bias_left, "not its bias"),
    (
        "feed_forward",
        "without",
        "rows of w_down",
        lambda x, wu, bu, wd, bd, units: (
            F.gelu(x @ wu.mT + bu) @ wd.index_fill(0, torch.tensor(units), 0.0).mT + bd
        ),
        "a column",
    ),
    (
        "feed_forward",
        "without",
        "only these",
        lambda x, wu, bu, wd, bd, units: (
            F.gelu(x @ wu[units].mT + bu[units]) @ wd[:, units].mT + bd
        ),
        "other way round",
    ),
    (
        "feed_forward",
        "merged",
        "halves swapped",
        lambda x, wi, wd: (
            (F.gelu(x @ wi[len(wi) // 2 :].mT) * (x @ wi[: len(wi) // 2].mT)) @ wd.mT
        ),
        "swapped",
    ),
    (
        "feed_forward",
        "merged",
        "by turns",
        lambda x, wi, wd: (F.gelu(x @ wi[::2].mT) * (x @ wi[1::2].mT)) @ wd.mT,
        "by turns",
    ),
    (
        "feed_forward",
        "merged",
        "SwiGLU",
        lambda x, wi, wd: (
            (F.silu((x @ wi.mT).chunk(2, -1)[0]) * (x @ wi.mT).chunk(2, -1)[1]) @ wd.mT
        ),
        "SiLU",
    ),
    (
        "feed_forward",
        "parallel",
        "one after another",
        lambda x, attend, mlp, norm: (h := x + attend(norm(x))) + mlp(norm(h)),
        "after attention has written",
    ),
    (
        "feed_forward",
        "parallel",
        "x twice",
        lambda x, attend, mlp, norm: (x + attend(norm(x))) + (x + mlp(norm(x))),
        "added twice",
    ),
    (
        "feed_forward",
        "parallel",
        "the stream is normed",
        lambda x, attend, mlp, norm: (h := norm(x)) + attend(h) + mlp(h),
        "as it was before the norm",
    ),
    (
        "feed_forward",
        "hidden",
        "rounded down",
        lambda d, m: int(8 * d / 3) // m * m,
        "rounded down",
    ),
    (
        "feed_forward",
        "hidden",
        "four times",
        lambda d, m: math.ceil(4 * d / m) * m,
        "plain MLP's width",
    ),
    (
        "feed_forward",
        "hidden",
        "nearest",
        lambda d, m: round(8 * d / 3 / m) * m,
        "nearest",
    ),
    ("pretraining", "bits", "nats", lambda x, n, t: x * n / len(t.encode()), "in nats"),
    (
        "pretraining",
        "bits",
        "len(text)",
        lambda x, n, t: x * n / math.log(2) / len(t),
        "characters are counted",
    ),
    ("pretraining", "bits", "a token", lambda x, n, t: x / math.log(2), "per token"),
    (
        "pretraining",
        "plateau",
        "from 0",
        lambda s, n, w, f: s / w if s < w else min(1, (n - s) / f),
        "count from 1",
    ),
    (
        "pretraining",
        "plateau",
        "falls at once",
        lambda s, n, w, f: (s + 1) / w if s < w else 1 - (s - w) / (n - w),
        "right after the warm-up",
    ),
    (
        "pretraining",
        "accumulate",
        "the mean",
        lambda losses, tokens: losses.mean(),
        "mean of means",
    ),
    (
        "pretraining",
        "accumulate",
        "over parts",
        lambda losses, tokens: (losses * tokens).mean(),
        "not by the number of parts",
    ),
    ("pretraining", "budget", "no root", lambda C: (C / 120, C / 6), "take the root"),
    (
        "pretraining",
        "budget",
        "swapped",
        lambda C: (math.sqrt(C / 6), math.sqrt(C / 120)),
        "",
    ),
    ("attention", "divisor", "a factor", 0.0625, "multiply by"),
    ("attention", "near", "‖k‖² along the wrong axis", near_by_rows, "along a row"),
    (
        "attention",
        "near",
        "keys of length 1",
        lambda q, k, v, mask=None: F.scaled_dot_product_attention(
            q, F.normalize(k, dim=-1), v, attn_mask=mask
        ),
        "",
    ),
    ("attention", "prefix", "rows opened", prefix_by_rows, "keys of the question"),
    (
        "attention",
        "prefix",
        "the first question for all",
        lambda lengths, T: prefix_in_place(lengths[:1], T)[0],
        "shape",
    ),
    (
        "attention",
        "forbid",
        "the zero into a softmax",
        lambda weights, forbidden: weights.scatter(1, forbidden[:, None], 0.0).softmax(
            -1
        ),
        "e⁰ = 1",
    ),
    (
        "attention",
        "forbid",
        "all to the best",
        lambda weights, forbidden: weights.scatter(
            1, forbidden[:, None], 0.0
        ).scatter_add(
            1,
            weights.scatter(1, forbidden[:, None], 0.0).argmax(1, keepdim=True),
            weights.gather(1, forbidden[:, None]),
        ),
        "",
    ),
    # once taken as right
    ("neural_networks", "slope", "the value", (3 * 4 + 3) ** 2, "value of f"),
    ("neural_networks", "slope", "one way", 2 * 15 * 4, "is added"),
    ("neural_networks", "slope", "2 u once", 2 * 15 * 4 + 1, "both ways"),
    ("neural_networks", "slope", "no chain rule", 4 + 1, "slope of the inside"),
    ("neural_networks", "slope", "by b", 2 * 15 * 3, "slope by b"),
    (
        "neural_networks",
        "larger",
        "the first at a tie",
        lambda a, b: (a, 1, 0) if a >= b else (b, 0, 1),
        "first input",
    ),
    (
        "neural_networks",
        "larger",
        "no thought of a tie",
        lambda a, b: (max(a, b), int(a > b), int(a < b)),
        "neither",
    ),
    (
        "neural_networks",
        "larger",
        "slopes of the wrong one",
        lambda a, b: (max(a, b), 0.5 if a == b else a < b, 0.5 if a == b else a > b),
        "swapped",
    ),
    (
        "neural_networks",
        "back",
        "a sum of squares",
        lambda g, x: 2 * g * x,
        "division by D",
    ),
    (
        "neural_networks",
        "back",
        "as the nodes do",
        lambda g, x: (2 * g * x / x.shape[-1],),
        "in a tuple",
    ),
    ("neural_networks", "back", "len(x)", lambda g, x: g * 2 * x / len(x), "rows"),
    (
        "neural_networks",
        "back",
        "the mean, not its slope",
        lambda g, x: g * (x**2).mean(-1, keepdim=True),
        "",
    ),
    (
        "neural_networks",
        "nesterov",
        "plain momentum",
        lambda p, g, v, rate, keep: (p - rate * (keep * v + g), keep * v + g),
        "plain momentum",
    ),
    (
        "neural_networks",
        "nesterov",
        "the old v in the step",
        lambda p, g, v, rate, keep: (p - rate * (g + keep * v), keep * v + g),
        "plain momentum",
    ),
    (
        "neural_networks",
        "nesterov",
        "v not updated",
        lambda p, g, v, rate, keep: (p - rate * (g + keep * (keep * v + g)), v),
        "old v is returned",
    ),
    (
        "neural_networks",
        "clip",
        "each alone",
        lambda gradients, most: [g * min(1, most / g.norm()) for g in gradients],
        "own length",
    ),
    (
        "neural_networks",
        "clip",
        "clamped",
        lambda gradients, most: [g.clamp(-most, most) for g in gradients],
        "clamped",
    ),
    (
        "neural_networks",
        "clip",
        "the largest norm",
        lambda gradients, most: [
            g * min(1, most / max(h.norm() for h in gradients)) for g in gradients
        ],
        "longest tensor",
    ),
    (
        "neural_networks",
        "clip",
        "always",
        lambda gradients, most: [
            g * most / torch.cat([h.flatten() for h in gradients]).norm()
            for g in gradients
        ],
        "made longer",
    ),
    (
        "in_context",
        "passes",
        "labels",
        lambda labels: len(labels),
        "labels are counted",
    ),
    (
        "in_context",
        "passes",
        "the page's line",
        lambda labels: len({tuple(x[:i]) for x in labels for i in range(len(x))}),
        "the passes of `score`",
    ),
    (
        "in_context",
        "passes",
        "the page's line, less the shared pass",
        lambda labels: len({tuple(x[:i]) for x in labels for i in range(1, len(x))}),
        "is left out",
    ),
    (
        "in_context",
        "passes",
        "no look at longer ones",
        lambda labels: len({str(x[:-1]) for x in labels}),
        "goes on from",
    ),
    (
        "in_context",
        "passes",
        "whole labels",
        lambda labels: passes_by_tree([[*label, 0] for label in labels]),
        "read to their end",
    ),
    (
        "in_context",
        "passes",
        "none for short labels",
        lambda labels: passes_by_tree(labels) * any(len(x) > 1 for x in labels),
        "still has to be read once",
    ),
    (
        "in_context",
        "passes",
        "long labels",
        lambda labels: len([x for x in labels if len(x) > 1]),
        "labels of several tokens",
    ),
    (
        "in_context",
        "passes",
        "digits",
        passes_by_digits,
        "not their digits",
    ),
    (
        "in_context",
        "passes",
        "the longest",
        lambda labels: max(len(label) for label in labels),
        "the longest label is counted",
    ),
    (
        "in_context",
        "batch",
        "the page's function on itself",
        lambda logs: logs - logs.softmax(-1).mean(0).log(),
        "in its own prior",
    ),
    (
        "in_context",
        "batch",
        "N for N − 1",
        lambda logs: (
            logs - (logs.softmax(1).sum(0) - logs.softmax(1)).div(len(logs)).log()
        ),
        "one fewer",
    ),
    (
        "in_context",
        "batch",
        "a mean of logarithms",
        lambda logs: (
            logs - (1 - torch.eye(len(logs))) @ logs.log_softmax(1) / (len(logs) - 1)
        ),
        "the logarithm of the mean",
    ),
    (
        "in_context",
        "batch",
        "bare probabilities",
        lambda logs: (
            logs - ((1 - torch.eye(len(logs))) @ logs.exp() / (len(logs) - 1)).log()
        ),
        "do not sum to 1",
    ),
    (
        "in_context",
        "batch",
        "added",
        lambda logs: 2 * logs - batch_by_product(logs),
        "the prior is added",
    ),
    (
        "in_context",
        "batch",
        "quotients",
        lambda logs: torch.exp(batch_by_product(logs.log_softmax(1))),
        "return their logarithms",
    ),
    ("in_context", "latest", "all copies", latest_of_all, "every earlier copy"),
    (
        "in_context",
        "latest",
        "the copy",
        lambda ids: torch.roll(latest_by_tensors(ids), -1, 1),
        "one place after it",
    ),
    (
        "in_context",
        "latest",
        "columns",
        lambda ids: latest_by_loop(ids).mT,
        "a row is a query",
    ),
    (
        "in_context",
        "spread",
        "deviations",
        lambda r: (
            r.double().mean(-1).mean(1).std(correction=0),
            r.double().mean(-1).var(1, correction=0).mean().sqrt(),
        ),
        "standard deviations",
    ),
    (
        "in_context",
        "spread",
        "n − 1",
        lambda r: (
            r.double().mean(-1).mean(1).var(),
            r.double().mean(-1).var(1).mean(),
        ),
        "the number less one",
    ),
    (
        "in_context",
        "spread",
        "in the other order",
        lambda r: spread_in_numpy(r)[::-1],
        "have changed places",
    ),
    (
        "in_context",
        "spread",
        "the whole",
        lambda r: (
            r.double().mean(-1).mean(1).var(correction=0),
            r.double().mean(-1).var(correction=0),
        ),
        "that of each draw",
    ),
    (
        "embeddings",
        "pool",
        "padding in the sum of weights",
        lambda h, m, i, p: (
            (h * m[..., None] * (1e-3 / (1e-3 + p[i]))[..., None]).sum(1)
            / (1e-3 / (1e-3 + p[i])).sum(1)[:, None]
        ),
        "padding counts in what divides",
    ),
    (
        "embeddings",
        "pool",
        "a mean of products",
        pool_mean_of_products,
        "T, padding included",
    ),
    (
        "embeddings",
        "pool",
        "the page's mean",
        lambda h, m, i, p: (h * m[..., None]).sum(1) / m.sum(1, keepdim=True),
        "this is the page's mean",
    ),
    (
        "embeddings",
        "flatten",
        "no centring",
        lambda v, k: v - v @ torch.linalg.svd(v)[2][:k].T @ torch.linalg.svd(v)[2][:k],
        "the mean is not taken away first",
    ),
    ("embeddings", "flatten", "columns", flatten_by_columns, "its rows are"),
    (
        "embeddings",
        "flatten",
        "centring alone",
        lambda v, k: v - v.mean(0, keepdim=True),
        "no direction is removed",
    ),
    ("embeddings", "product", "a for b", product_other_way, "a and b have changed"),
    (
        "embeddings",
        "product",
        "a sum",
        lambda v, a, b, c: F.cosine_similarity(
            v,
            F.normalize(v, dim=1)[[b]]
            - F.normalize(v, dim=1)[[a]]
            + F.normalize(v, dim=1)[[c]],
        ),
        "this is the page's score",
    ),
    (
        "embeddings",
        "product",
        "not moved",
        lambda v, a, b, c: (
            F.cosine_similarity(v, v[[b]])
            * F.cosine_similarity(v, v[[c]])
            / (F.cosine_similarity(v, v[[a]]) + 0.001)
        ),
        "not moved",
    ),
    (
        "embeddings",
        "pool",
        "no brackets",
        lambda h, m, i, p: (
            ((m * 0.001 / 0.001 + m * p[i])[..., None] * h).sum(1)
            / (m * 0.001 / 0.001 + m * p[i]).sum(1, keepdim=True)
        ),
        "needs brackets",
    ),
    ("embeddings", "flatten", "one mean", flatten_one_mean, "the mean of all"),
    ("embeddings", "product", "left out", product_left_out, "are left out"),
    (
        "embeddings",
        "product",
        "no brackets",
        lambda v, a, b, c: (
            (F.cosine_similarity(v, v[[b]]) + 1 / 2)
            * (F.cosine_similarity(v, v[[c]]) + 1 / 2)
            / (F.cosine_similarity(v, v[[a]]) + 1 / 2 + 0.001)
        ),
        "one half is added",
    ),
    ("reading_heads", "after", "rolled", after_by_rolling, "wrap around"),
    ("reading_heads", "after", "ahead too", after_ahead_too, "after the query"),
    (
        "reading_heads",
        "after",
        "the page's",
        lambda ids, k: after_by_broadcast(ids, 1),
        "k tokens after it",
    ),
    ("reading_heads", "rest", "only cut", rest_only_cut, "sum of one"),
    (
        "reading_heads",
        "rest",
        "the page's",
        lambda w, m: (w * m).sum(-1)[..., m.any(-1)].mean(-1),
        "leave the first key out",
    ),
    ("reading_heads", "mean", "one mean", mean_of_everything, "one for each place"),
    (
        "reading_heads",
        "mean",
        "zeros",
        lambda mix, others, head: mix.index_fill(2, torch.tensor([head]), 0.0),
        "set to zero",
    ),
    ("reading_heads", "copying", "transposed", copying_from_the_right, "transposed"),
    (
        "reading_heads",
        "copying",
        "no circuit",
        lambda e, ov, u: ((e @ u).argmax(1) == torch.arange(len(e))).double().mean(),
        "OV is missing",
    ),
    ("embeddings", "csls", "one axis", csls_one_axis, "give it a second axis"),
    (
        "embeddings",
        "csls",
        "one side",
        lambda q, t, k: (
            2 * q @ t.T
            - (q @ q.T).topk(k, 1).values.mean(1, keepdim=True)
            - (t @ t.T).topk(k, 1).values.mean(1)
        ),
        "on the other side",
    ),
    ("embeddings", "csls", "means of all", csls_of_all, "mean over all"),
    ("embeddings", "csls", "cosines", lambda q, t, k: q @ t.mT, "cosines alone"),
    (
        "embeddings",
        "csls",
        "one cosine",
        lambda q, t, k: (
            q @ t.T
            - (q @ t.T).topk(k, 1).values.mean(1, keepdim=True)
            - (q @ t.T).topk(k, 0).values.mean(0)
        ),
        "counts once",
    ),
    (
        "sentencepiece",
        "coverage",
        "unsorted",
        lambda c, size, fall: (
            sum([*c.values()][: max(0, size - 3 - 256 * fall)]) / c.total()
        ),
        "as they come",
    ),
    ("sentencepiece", "coverage", "below zero", coverage_below_zero, "from the end"),
    (
        "sentencepiece",
        "coverage",
        "no marks",
        lambda c, size, fall: (
            sum(n for _, n in c.most_common(max(size - 256 * fall, 0)))
            / sum(c.values())
        ),
        "<unk>, <s> and </s>",
    ),
    (
        "sentencepiece",
        "coverage",
        "different characters",
        lambda c, size, fall: min(1, max(0, size - 3 - 256 * fall) / len(c)),
        "not of the list",
    ),
    (
        "sentencepiece",
        "certainty",
        "not divided",
        lambda text, logs: np.exp(max(all_cuts(text, logs))),
        "of the best cut alone",
    ),
    (
        "sentencepiece",
        "certainty",
        "scores divided",
        lambda text, logs: max(all_cuts(text, logs)) / sum(all_cuts(text, logs)),
        "you divide scores",
    ),
    (
        "sentencepiece",
        "certainty",
        "powers of two",
        lambda text, logs: certainty_by_forward(
            text, {piece: log * np.log(2) for piece, log in logs.items()}
        ),
        "are natural",
    ),
    (
        "sentencepiece",
        "certainty",
        "fewest pieces",
        certainty_of_fewest,
        "with the fewest pieces",
    ),
    (
        "transformer_by_hand",
        "two_ahead",
        "the page's shift",
        lambda ids: [ids[:, :-1], ids[:, 1:]],
        "only the next word",
    ),
    (
        "transformer_by_hand",
        "two_ahead",
        "three lengths",
        lambda ids: (ids[:, :-1], ids[:, 1:], ids[:, 2:]),
        "differ in length",
    ),
    (
        "transformer_by_hand",
        "two_ahead",
        "swapped",
        lambda ids: [ids[:, :-2], ids[:, 2:], ids[:, 1:-1]],
        "are swapped",
    ),
    (
        "transformer_by_hand",
        "packed_mask",
        "the page's mask",
        lambda s: (
            torch.ones(s.shape[1], s.shape[1]).bool().tril() & (s != 0)[:, None, None]
        ),
        "sentences before its own",
    ),
    (
        "transformer_by_hand",
        "packed_mask",
        "padding forgotten",
        lambda s: (s[:, None, :, None] == s[:, None, None, :]).tril(),
        "0 == 0",
    ),
    (
        "transformer_by_hand",
        "packed_mask",
        "not causal",
        lambda s: (s[:, None, :, None] == s[:, None, None]) & (s != 0)[:, None, None],
        "has to be causal",
    ),
    (
        "transformer_by_hand",
        "scores_backward",
        "one use",
        lambda x, W, dS: [dS @ x @ W.T, x.T @ dS @ x],
        "on the right, is missing",
    ),
    (
        "transformer_by_hand",
        "scores_backward",
        "dS as it is",
        lambda x, W, dS: [dS @ x @ W.T + dS @ x @ W, x.T @ dS @ x],
        "dS has to be transposed",
    ),
    (
        "transformer_by_hand",
        "scores_backward",
        "dW transposed",
        lambda x, W, dS: [dS @ x @ W.T + dS.T @ x @ W, (x.T @ dS @ x).T],
        "dW is transposed",
    ),
    (
        "transformer_by_hand",
        "rms_backward",
        "the page's rule",
        lambda dN, R: (
            (
                dN
                - dN.mean(-1, keepdim=True)
                - (R - R.mean(-1, keepdim=True))
                * (dN * (R - R.mean(-1, keepdim=True))).mean(-1, keepdim=True)
                / (R.var(-1, keepdim=True, unbiased=False) + 1e-5)
            )
            / (R.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        ),
        "LayerNorm's rule",
    ),
    (
        "transformer_by_hand",
        "rms_backward",
        "ρ fixed",
        lambda dN, R: dN / (mean_square(R) + 1e-5).sqrt(),
        "a fixed number",
    ),
    (
        "transformer_by_hand",
        "rms_backward",
        "without ε",
        lambda dN, R: rms_backward(dN, R, mean_square(R).sqrt()),
        "ε is missing",
    ),
    (
        "hybrid_architecture",
        "losses",
        "of all gaps",
        lambda logits, ids, at: F.cross_entropy(logits[at], ids[at]),
        "one mean over all gaps",
    ),
    (
        "hybrid_architecture",
        "losses",
        "no gaps",
        losses_without_a_guard,
        "0 / 0",
    ),
    (
        "hybrid_architecture",
        "losses",
        "all tokens",
        lambda logits, ids, at: torch.stack(
            [F.cross_entropy(*pair) for pair in zip(logits, ids, strict=True)]
        ),
        "all tokens",
    ),
    ("hybrid_architecture", "reciprocal", "argmax", reciprocal_from_0, "from 1"),
    (
        "hybrid_architecture",
        "reciprocal",
        "of the mean",
        lambda *case: 1 / (1 / torch.tensor(reciprocal_ranks(*case))).mean(),
        "1 / mean rank",
    ),
    (
        "hybrid_architecture",
        "reciprocal",
        "at or above",
        lambda *case: (1 / (1 / torch.tensor(reciprocal_ranks(*case)) + 1)).mean(),
        "counted among",
    ),
    (
        "hybrid_architecture",
        "scores",
        "rounded down",
        lambda T, n, every, s: (
            n // every * T * T + (n - n // every) * (T * (2 * s + 1) - s * (s + 1))
        ),
        "round up",
    ),
    (
        "hybrid_architecture",
        "scores",
        "no ends",
        lambda T, n, every, s: sum(
            T * (2 * s + 1) if i % every else T * T for i in range(n)
        ),
        "fewer neighbours",
    ),
    (
        "hybrid_architecture",
        "scores",
        "swapped",
        lambda T, n, every, s: sum(
            T * T if i % every else T * (2 * s + 1) - s * (s + 1) for i in range(n)
        ),
        "changed places",
    ),
    (
        "masked_lm",
        "pairs",
        "T times the window",
        lambda T, local_attention: T * (local_attention + 1),
        "at the ends",
    ),
    (
        "masked_lm",
        "pairs",
        "the window on each side",
        lambda T, w: sum(abs(i - j) <= w for i in range(T) for j in range(T)),
        "half of it",
    ),
    (
        "masked_lm",
        "together",
        "stacked means",
        lambda parts: torch.stack([F.cross_entropy(*part) for part in parts]).mean(),
        "mean of the parts' means",
    ),
    (
        "masked_lm",
        "score",
        "cross_entropy of the diagonal",
        lambda log_shares, ids: F.nll_loss(log_shares.diagonal().T, ids),
        "",
    ),
    (
        "masked_lm",
        "score",
        "the last row",
        lambda log_shares, ids: log_shares[-1].gather(1, ids[:, None]).sum(),
        "",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "the first ▁ alone dropped",
        lambda p, v: (
            len("".join(hidden(p, v)).removeprefix("▁"))
            / len("".join(p).removeprefix("▁"))
        ),
        "before the text",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "one ▁ dropped in each text",
        lambda p, v: (
            len("".join(hidden(p, v)).replace("▁", "", 1))
            / len("".join(p).replace("▁", "", 1))
        ),
        "only the first ▁",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "the first ▁ dropped below the line",
        lambda p, v: len("".join(hidden(p, v))) / len("".join(p)[1:]),
        "",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "▁ alone dropped",
        lambda p, v: (
            sum(len(x) for x in p if x not in v and x != "▁")
            / sum(len(x) for x in p if x != "▁")
        ),
        "where it stands alone",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "looked up without ▁",
        lambda p, v: (
            sum(len(characters(x)) for x in p if x.replace("▁", "") not in v)
            / len(characters(p))
        ),
        "without its ▁",
    ),
    (
        "sentencepiece",
        "unknown_rate",
        "▁ above the line",
        lambda p, v: len("".join(hidden(p, v))) / len(characters(p)),
        "above the line",
    ),
    ("decoding", "typical", "before <= p", typical_one_more, "one token too many"),
    ("decoding", "typical", "the sign is kept", typical_signed, "this is the nucleus"),
    ("decoding", "step", "max over the beams first", step_token_first, "its best beam"),
    (
        "vit",
        "ece",
        "[lo, hi)",
        ece_by_bins(lambda c, lo, hi: (c >= lo) & (c < hi)),
        "confidence 1",
    ),
    (
        "vit",
        "ece",
        "(lo, hi)",
        ece_by_bins(lambda c, lo, hi: (c > lo) & (c < hi)),
        "confidence 1",
    ),
    (
        "vit",
        "tokens",
        "rounded up",
        lambda h, w, p: math.ceil(h / p) * math.ceil(w / p) + 1,
        "cut short counts",
    ),
    (
        "local_attention",
        "dilated",
        "the end of the plain window",
        lambda T, w, gap: torch.stack(
            [
                torch.tensor([k in range(q, q - w - 1, -gap) for k in range(T)])
                for q in range(T)
            ]
        ),
        "the window ends w places back",
    ),
    (
        "local_attention",
        "dilated",
        "without the gaps",
        lambda T, w, gap: torch.ones(T, T).tril().triu(-w * gap).bool(),
        "there are no gaps",
    ),
    (
        "local_attention",
        "dilated",
        "both sides",
        lambda T, w, gap: dilated_by_loop(T, w, gap) | dilated_by_loop(T, w, gap).T,
        "causal means no later key",
    ),
    (
        "local_attention",
        "collected",
        "not shifted",
        collected_unshifted,
        "not shifted",
    ),
    (
        "local_attention",
        "collected",
        "the own block",
        lambda near, T: near[:, near.shape[1] // 2 :].reshape(-1, near.shape[2])[:T],
        "only the own block",
    ),
    (
        "local_attention",
        "collected",
        "to its full blocks",
        lambda near, T: collected_by_index_add(near, len(near) * near.shape[1] // 2),
        "only filled up",
    ),
    ("local_attention", "packed", "filled with 0", texts_by_zeros, "look like text 0"),
    (
        "local_attention",
        "packed",
        "causal",
        lambda texts, block: (
            torch.tensor(texts_by_loop(texts, block))
            & torch.ones(block, 3 * block).tril(block).bool()
        ),
        "two sides",
    ),
    (
        "local_attention",
        "packed",
        "the texts so far",
        lambda texts, block: (
            texts.view(-1, block, 1)
            >= F.pad(texts, (block, block), value=99).unfold(0, 3 * block, block)[
                :, None
            ]
        ),
        "texts before",
    ),
    ("local_attention", "layers_needed", "down", lambda d, w: d // w, "rounded down"),
    (
        "local_attention",
        "scores",
        "without filling up",
        lambda T, block, window: T * window * block,
        "filled up",
    ),
    ("global_local", "fixed", "one call of pattern", fixed_by_pattern, "no row"),
    ("global_local", "fixed", "not causal", fixed_open, "reads later ones"),
    ("global_local", "fixed", "the first tokens", fixed_of_first, "first tokens"),
    ("global_local", "shared", "1 / m", bias_by_factor, "is a factor"),
    ("global_local", "shared", "the first stays", bias_by_hiding, "hides all copies"),
    (
        "global_local",
        "shared",
        "log m, added",
        lambda table, T: (-torch.tensor(bias_by_loop(table, T))).masked_fill(
            (table < 0) | (table >= T), -torch.inf
        ),
        "heavier",
    ),
    (
        "global_local",
        "entries",
        "the page's formula",
        lambda T, b, G: b * b * (3 * T // b - 2) + 2 * G * (T - 2 * b),
        "looks both ways",
    ),
    (
        "global_local",
        "entries",
        "its half",
        lambda T, b, G: (b * b * (3 * T // b - 2) + 2 * G * (T - 2 * b)) // 2,
        "diagonal",
    ),
    (
        "global_local",
        "entries",
        "rows of the globals",
        lambda T, b, G: entries_by_rows(T, b, G) + G * (T - 2 * b),
        "adds nothing",
    ),
    (
        "global_local",
        "entries",
        "drawn",
        lambda T, b, G: int(
            sparse.pattern(T, block=b, global_tokens=range(G), causal=True).sum()
        ),
        "RuntimeError",
    ),
    ("global_local", "heard", "multiplied from the right", heard_backwards, "order"),
    ("global_local", "heard", "rows", heard_of_rows, "wrong way round"),
    ("global_local", "heard", "nothing kept", heard_and_lost, "keeps what it has"),
    ("absolute_positions", "grid", "one line", grid_of_places, "from 0 to HW − 1"),
    ("absolute_positions", "grid", "column first", grid_swapped, "changed places"),
    ("layer_norm", "group_norm", "split", group_norm_by_split, "how many groups"),
    ("layer_norm", "group_norm", "F.group_norm", group_norm_of_images, "as for images"),
    (
        "layer_norm",
        "group_norm",
        "torch's LayerNorm",
        lambda x, w, b, groups, eps: F.layer_norm(x, x.shape[-1:], w, b, eps),
        "this is LayerNorm",
    ),
    (
        "layer_norm",
        "rms_backward",
        "the page's",
        rms_back_as_on_the_page,
        "this is LayerNorm's gradient",
    ),
    (
        "layer_norm",
        "rms_backward",
        "the mean of g",
        rms_back_with_the_mean,
        "that term comes from μ",
    ),
    (
        "layer_norm",
        "rms_backward",
        "γ dy / s",
        lambda dy, x, w, eps: dy * w / (x.square().mean(-1, keepdim=True) + eps).sqrt(),
        "held fixed",
    ),
    (
        "layer_norm",
        "fold",
        "the scaled W twice",
        lambda W, b, w, bias: (W * w, F.linear(bias, W * w, b)),
        "passes the scaled W",
    ),
    (
        "layer_norm",
        "fold",
        "diagonal on the left",
        lambda W, b, w, bias: (torch.diag(w) @ W, b + W @ bias),
        "the rows of W",
    ),
    (
        "layer_norm",
        "block",
        "parallel",
        lambda x, a, m, n1, n2: x + a(n1(x)) + m(n2(x)),
        "both branches read x",
    ),
    (
        "layer_norm",
        "block",
        "the second from x",
        lambda x, a, m, n1, n2: x + m(n2(x + a(n1(x)))),
        "attention's output is lost",
    ),
    (
        "layer_norm",
        "block",
        "Post-LN",
        lambda x, a, m, n1, n2: n2((y := n1(x + a(x))) + m(y)),
        "this is Post-LN",
    ),
    # once met with a message of another mistake
    ("layer_norm", "learned", "two norms a block, no last", 2 * 64 * 48, "two norms"),
    (
        "sentencepiece",
        "unknown_rate",
        "bytes",
        lambda p, v: (
            len(characters(hidden(p, v)).encode()) / len(characters(p).encode())
        ),
        "bytes",
    ),
    (
        "sentencepiece",
        "tokens_per_character",
        "line ends, one a line",
        lambda encoded, texts: (
            sum(map(len, encoded)) / sum(len(text + "\n") for text in texts)
        ),
        "line end",
    ),
    (
        "sentencepiece",
        "tokens_per_character",
        "lines joined",
        lambda encoded, texts: sum(map(len, encoded)) / len("\n".join(texts)),
        "line end",
    ),
    (
        "relative_positions",
        "values",
        "query minus key",
        values_of_the_keys_row,
        "swapped",
    ),
    (
        "relative_positions",
        "values",
        "the vectors alone",
        lambda weights, value, table: values_by_loop(weights, value * 0, table),
        "values of the tokens",
    ),
    (
        "relative_positions",
        "values",
        "no weights",
        lambda w, v, t: w @ v + values_by_loop(torch.ones(len(v), len(v)), v * 0, t),
        "without their weights",
    ),
    (
        "relative_positions",
        "first",
        "int",
        lambda b, buckets, far: int(first_by_exp(b, buckets, far) - (b > buckets // 2)),
        "rounded down",
    ),
    ("relative_positions", "first", "no own buckets", first_not_own, "one distance"),
    (
        "relative_positions",
        "first",
        "the last of it",
        lambda b, buckets, far: first_by_exp(b + 1, buckets, far) - 1,
        "where the bucket ends",
    ),
    (
        "relative_positions",
        "heads",
        "geomspace of the distances",
        lambda H, near, far: np.geomspace(near, far, H),
        "those are the distances",
    ),
    (
        "relative_positions",
        "heads",
        "linspace of the distances",
        lambda H, near, far: np.log(10) / np.linspace(near, far, H),
        "equal steps",
    ),
    (
        "relative_positions",
        "heads",
        "exponents h/H",
        lambda H, near, far: (
            math.log(10) / near * (near / far) ** (torch.arange(1, H + 1) / H)
        ),
        "exponent is 0",
    ),
    # once met with a message that names nothing
    ("layer_norm", "learned", "two norms a block", 6272, "two norms a block"),
    (
        "decoding",
        "frequency",
        "written once",
        frequency_by_index,
        "this counts it once",
    ),
    (
        "decoding",
        "tie",
        "no logarithm",
        lambda a, m, b, n: (b / a) / (n / m),
        "Take logarithms",
    ),
    (
        "decoding",
        "tie",
        "the other way round",
        lambda a, m, b, n: math.log(b / a) / math.log(m / n),
        "the sign",
    ),
    (
        "decoding",
        "tie",
        "GNMT's",
        lambda a, m, b, n: math.log(b / a) / math.log((5 + n) / (5 + m)),
        "GNMT",
    ),
    (
        "vit",
        "rollout",
        "not halved",
        lambda w: rollout(w, lambda x: x.mean(0) + torch.eye(x.shape[-1])),
        "not halved",
    ),
    (
        "vit",
        "rollout",
        "heads summed",
        lambda w: rollout(w, lambda x: (x.sum(0) + torch.eye(x.shape[-1])) / 2),
        "heads are summed",
    ),
    (
        "vit",
        "ece",
        "mean over all bins",
        ece_by_bins(lambda c, lo, hi: (c > lo) & (c <= hi), every=True),
        "all bins",
    ),
    (
        "hybrid_architecture",
        "start",
        "no spread",
        lambda d_model, spread: d_model**-0.5,
        "`spread` is missing",
    ),
    # once hidden by rounding
    (
        "attention_cost",
        "join",
        "shares swapped",
        lambda o1, l1, o2, l2: join_by_logaddexp(o1, l2, o2, l1),
        "swapped",
    ),
    # once taken as right after an answer had used up the cases
    ("sentencepiece", "decode", "no text", lambda pieces: "", ""),
    ("sentencepiece", "certainty", "no share", lambda text, logs: 0.0, ""),
    ("sentencepiece", "coverage", "nothing fits", lambda c, size, fall: 0.0, ""),
    # found by changing the solutions at random
    (
        "vit",
        "ece",
        "the first border missing",
        ece_without_a_border,
        "",
    ),
    # what the question leaves no longer open
    ("attention_cost", "texts", "one more", 301, "equally long"),
    (
        "vit",
        "tokens",
        "pixels divided",
        lambda h, w, p: h * w // (p * p) + 1,
        "not the sides",
    ),
    (
        "tokenizer_internals",
        "longest",
        "without marks",
        longest_without_marks,
        "without ##",
    ),
    (
        "tokenizer_internals",
        "longest",
        "the rest unknown",
        longest_stops,
        "only the rest is unknown",
    ),
    (
        "tokenizer_internals",
        "longest",
        "marks left out",
        lambda word, pieces: [
            x.removeprefix("##") for x in longest_by_shrinking(word, pieces)
        ],
        "lost their ##",
    ),
    (
        "tokenizer_internals",
        "longest",
        "marks added after",
        longest_marked_after,
        "comes only afterwards",
    ),
    (
        "tokenizer_internals",
        "longest",
        "either form",
        longest_with_either,
        "without ## is taken, too",
    ),
    (
        "tokenizer_internals",
        "longest",
        "nothing at all",
        longest_or_nothing,
        "it becomes one [UNK]",
    ),
    (
        "tokenizer_internals",
        "ways",
        "from nothing",
        ways_from_nothing,
        "before any letter",
    ),
    (
        "tokenizer_internals",
        "ways",
        "all cuts tried",
        lambda text, pieces: len(all_cuts(text, dict.fromkeys(pieces, 0.0))),
        "does its loop end",
    ),
    (
        "tokenizer_internals",
        "stream",
        "one by one",
        lambda parts: [str(part, "utf-8", "replace") for part in parts],
        "comes as �",
    ),
    (
        "tokenizer_internals",
        "stream",
        "the text so far",
        lambda parts: [
            "".join(stream_by_waiting(parts)[: n + 1]) for n in range(len(parts))
        ],
        "only what is new",
    ),
    (
        "tokenizer_internals",
        "stream",
        "strict",
        lambda parts: [part.decode() for part in parts],
        "UnicodeDecodeError",
    ),
    (
        "tokenizer_internals",
        "stream",
        "whole parts",
        stream_in_whole_parts,
        "show what is whole",
    ),
    (
        "tokenizer_internals",
        "stream",
        "lib's, pasted",
        lambda parts: list(presplit.stream(parts)),
        "leave it out",
    ),
    (
        "tokenizer_internals",
        "entropy",
        "ln Z forgotten",
        entropy_without_z,
        "the logarithm, too",
    ),
    ("tokenizer_internals", "entropy", "in bits", entropy_in_bits, "in bits"),
    (
        "tokenizer_internals",
        "entropy",
        "not divided",
        entropy_not_divided,
        "not divided by their sum",
    ),
    (
        "tokenizer_internals",
        "entropy",
        "equally likely",
        lambda text, logs: np.log(len(all_cuts(text, logs))),
        "equally likely",
    ),
    (
        "peft",
        "largest",
        "at most as many",
        lambda out, into: math.floor(out * into / (out + into)),
        "as many numbers as the map",
    ),
    ("peft", "largest", "a matrix's rank", min, "largest rank that a matrix"),
    (
        "peft",
        "largest",
        "not rounded",
        lambda out, into: out * into / (out + into),
        "round it down",
    ),
    (
        "peft",
        "extract",
        "the last ones",
        lambda before, after, rank: (
            torch.linalg.svd(after - before, full_matrices=False)[0][:, -rank:]
            * torch.linalg.svd(after - before, full_matrices=False)[1][-rank:]
            @ torch.linalg.svd(after - before, full_matrices=False)[2][-rank:]
        ),
        "smallest singular values",
    ),
    (
        "peft",
        "extract",
        "of the weight",
        lambda before, after, rank: extract_by_eigenvectors(0 * before, after, rank),
        "the difference is asked",
    ),
    (
        "peft",
        "extract",
        "turned round",
        lambda before, after, rank: extract_by_eigenvectors(after, before, rank),
        "sign is turned round",
    ),
    (
        "peft",
        "even",
        "one size for all",
        lambda weight, block: even_by_loop(weight, weight.numel()),
        "each block has its own",
    ),
    (
        "peft",
        "even",
        "cut off",
        lambda weight, block: torch.cat(
            [
                ((x - x.min()) / (x.max() - x.min()) * 15).int()
                * (x.max() - x.min())
                / 15
                + x.min()
                for x in weight.flatten().split(block)
            ]
        ).view(weight.shape),
        "cut off, not rounded",
    ),
    ("peft", "bits", "floats", lambda block, group: 4 + 32 / block, "8 bits here"),
    (
        "peft",
        "bits",
        "a group of weights",
        lambda block, group: 4 + 8 / block + 32 / group,
        "weights share its 32",
    ),
    (
        "probing",
        "selectivity",
        "not in the fit",
        lambda right, lot, types, fit: (
            right[~fit].float().mean() - lot[~fit].float().mean()
        ),
        "still count",
    ),
    (
        "probing",
        "restored",
        "pair by pair",
        lambda clean, corrupted, patched: torch.stack(
            [
                (p - d) / (c - d)
                for c, d, p in zip(clean, corrupted, patched, strict=True)
            ]
        ).mean(0),
        "mean of the pairs' shares",
    ),
    (
        "probing",
        "plane",
        "both at once",
        lambda x, u, v: x - torch.outer(x @ u, u) - torch.outer(x @ v, v),
        "taken out twice",
    ),
    (
        "probing",
        "batch",
        "row by row",
        lambda z, k: torch.zeros_like(z).scatter(
            1, z.topk(k, 1).indices, z.topk(k, 1).values
        ),
        "each state keeps k",
    ),
    (
        "vlm_lens",
        "layers",
        "match",
        lambda names, patterns: [
            n for n in names if any(re.compile(p).match(n) for p in patterns)
        ],
        "asks for the beginning",
    ),
    (
        "vlm_lens",
        "grid",
        "with CLS",
        lambda tokens, columns, row, column: F.cosine_similarity(
            tokens[:-1], tokens[row * columns + column], dim=-1
        ).view(-1, columns),
        "CLS is still there",
    ),
    (
        "vlm_lens",
        "pooled",
        "divided by T",
        lambda hidden, ids, image: hidden.masked_fill(
            (ids != image)[..., None], 0
        ).mean(1),
        "divided by all tokens",
    ),
    (
        "vlm_lens",
        "leak",
        "pictures",
        lambda owner, test: (
            len({*owner[test].tolist()} & {*owner[~test].tolist()})
            / len({*owner[test].tolist()})
        ),
        "pictures are counted",
    ),
    (
        "vision_language",
        "several",
        "the diagonal",
        lambda scores, same: F.cross_entropy(scores, torch.arange(len(scores))),
        "only the diagonal",
    ),
    (
        "vision_language",
        "recall",
        "at most k",
        lambda scores, owner, k: (
            ((scores > scores[owner, range(len(owner))]).sum(0) <= k).float().mean()
        ),
        "one too many",
    ),
    (
        "vision_language",
        "places",
        "the pictures alternate",
        lambda table, ids, pictures: table[ids.clamp(min=0)].masked_scatter(
            (ids < 0)[:, None], pictures.transpose(0, 1).contiguous()
        ),
        "alternate between the pictures",
    ),
    (
        "vision_language",
        "blind",
        "the commonest of all",
        lambda questions, answers, new, right: (
            (right == answers.mode().values).float().mean()
        ),
        "one answer for all",
    ),
]

RIGHT_ANSWERS += learners_rag.RIGHT
WRONG_ANSWERS += learners_rag.WRONG
