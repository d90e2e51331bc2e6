"""From a model's logits to text: greedy, beam search, sampling.

A *step* stands between a search and a model: `step(ids, parents) -> logits`, where

- `ids` (R, T) holds every row so far, prompt included;
- `parents` is None where row r continues row r of the call before, as on the first
  call; else (R,), the row of the call before that each row continues;
- `logits` (R, V) are those of the next token.

It may have a `limit`, the longest text it reads, and a `mask` (B, T), False on padding.

`cached` and `uncached` make one of a model. Any function of that kind will do: a table,
or a decoder beside what its encoder returned. A step serves one search. What narrows
a distribution before a draw lives in `filters`.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lib import checks
from lib.filters import filtered, penalise
from lib.models.language import LanguageModel

Step = Callable[[Tensor, Tensor | None], Tensor]
# What `transformers` calls a cache: of keys and values (and states), of states alone.
CACHES = ("past_key_values", "cache_params")
NEVER = -1e9  # the score of what cannot be chosen; finite, so that sums stay so


# --- One token after the other ---------------------------------------------------


@torch.no_grad()
def greedy(
    step: Step,
    ids: Tensor,
    new_tokens: int,
    *,
    penalty: float = 1.0,
    eos: int | Sequence[int] = (),
    pad: int = 0,
) -> Tensor:
    """The likeliest token, `new_tokens` times: (B, T) -> (B, T + up to new_tokens).

    A row ends with a token of `eos` and is filled with `pad` while others go on.
    Raises ValueError for an empty prompt, ids beyond the model's limit, and logits that
    are no distribution (NaN, +inf, or all −inf).
    Equal to `generate(do_sample=False)` of `transformers`, token for token.
    """
    return _continue(
        step, ids, new_tokens, lambda logits: logits.argmax(-1), penalty, eos, pad
    )


@torch.no_grad()
def sample(
    step: Step,
    ids: Tensor,
    new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    penalty: float = 1.0,
    eos: int | Sequence[int] = (),
    pad: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw each token from the filtered distribution (see `filtered`, `greedy`)."""
    settings = temperature, top_k, top_p, min_p
    filtered(torch.zeros(1, 2), *settings)  # bad numbers raise before the model runs

    def choose(logits: Tensor) -> Tensor:
        return draw(filtered(logits, *settings).softmax(-1), generator)

    return _continue(step, ids, new_tokens, choose, penalty, eos, pad)


def draw(shares: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One token of each row of `shares` (R, V), with these probabilities: (R,).

    The shares lie end to end on a line; a uniform number falls into one of them.
    """
    # On the CPU: not every device has float64.
    ends = shares.cpu().double().cumsum(-1)  # (R, V)
    at = torch.rand(len(shares), 1, dtype=torch.float64, generator=generator)
    at = at * ends[:, -1:]  # (R, 1), below the last end
    found = torch.searchsorted(ends, at, right=True)[:, 0]  # (R,)
    return found.clamp(max=ends.shape[1] - 1).to(shares.device)


def _continue(step, ids, new_tokens, choose, penalty, eos, pad) -> Tensor:
    prompt, (ids, eos) = ids, _start(step, ids, new_tokens, eos)
    running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)  # (B,)
    for _ in range(new_tokens):
        logits = _next(step, ids, None)  # (B, V)
        token = choose(penalise(logits, ids, penalty))  # (B,)
        ids = torch.cat((ids, torch.where(running, token, pad)[:, None]), -1)
        if len(eos):
            running &= ~torch.isin(token, eos)
            if not running.any():
                break
    return torch.cat((prompt, ids[:, prompt.shape[1] :]), 1)


# --- Beam search -----------------------------------------------------------------


@torch.no_grad()
def beam(
    step: Step,
    ids: Tensor,
    new_tokens: int,
    beams: int,
    *,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    penalty: float = 1.0,
    eos: int | Sequence[int] = (),
    pad: int = 0,
) -> tuple[Tensor, Tensor]:
    """Keep the `beams` prefixes of highest cumulative log-probability, at every step.

    A prefix that ends (with `eos`, or at `new_tokens`) moves to the finished ones, with
    the score: cumulative log-probability of the new tokens / their number to the power
    of `length_penalty` (0: the bare sum; above 0 favours long ones). The search of a row
    stops when no running beam can overtake its worst finished one. "Can" is guessed from
    the present length; with `early_stopping="never"` from the length that is best for
    it; with True it stops once `beams` are finished.

    Shapes: ids (B, T) -> ids (B, T + up to new_tokens) and scores (B,), of the best.
    Raises ValueError as `greedy`, and for `beams` below 1.
    Equal to `generate(num_beams=…)` of `transformers` 5, token for token.
    """
    checks.whole("beams", beams)
    if early_stopping not in (True, False, "never"):
        raise ValueError(
            f"early_stopping: got {early_stopping!r}, wants True, False or 'never'"
        )
    prompt, (ids, eos) = ids, _start(step, ids, new_tokens, eos)
    (B, T), K, where = ids.shape, beams, {"device": ids.device}
    logits = _next(step, ids, None).repeat_interleave(K, 0)  # (B·K, V)
    running, parents = ids[:, None].expand(B, K, T), None
    scores = logits.new_full((B, K), NEVER)
    scores[:, 0] = 0.0  # one beam at first: equal ones would stay equal
    best, finished = logits.new_full((B, K), NEVER), ids.new_full((B, K, T), pad)
    lengths = torch.zeros_like(running[..., 0])
    ended = torch.zeros(B, K, **where).bool()
    open_ = torch.ones(B, 1, **where).bool()  # rows that may still improve
    rows = torch.arange(B, **where)[:, None]

    for n in range(1, new_tokens + 1):
        if n > 1:
            logits = _next(step, running.flatten(0, 1), parents)
        new = penalise(logits.log_softmax(-1), running.flatten(0, 1), penalty)
        total = (scores.flatten()[:, None] + new).view(B, -1)  # (B, K·V)
        # So many that K can go on, even where each ending token takes K of them.
        wide = min(max(2, 1 + len(eos)) * K, total.shape[1])
        total, at = total.topk(wide)  # (B, W), best first
        came, token = at // new.shape[1], at % new.shape[1]
        grown = torch.cat((_pick(running, came), token[..., None]), -1)  # (B, W, T + n)
        ends = torch.isin(token, eos) | (n == new_tokens)  # (B, W)

        # Who finishes: those of the K best that end, if the row still takes them.
        full = ended.all(-1, keepdim=True) & (early_stopping is True)
        ready = ends & (torch.arange(wide, **where) < K) & open_ & ~full
        score = (total / n**length_penalty).masked_fill(~ready, NEVER)
        best, chosen = torch.cat((best, score), 1).topk(K)
        finished = nn.functional.pad(finished, (0, 1), value=pad)
        finished = _pick(torch.cat((finished, grown), 1), chosen)  # (B, K, T + n)
        ended = torch.cat((ended, ready), 1).gather(1, chosen)
        size = torch.full_like(token, T + n)
        lengths = torch.cat((lengths, size), 1).gather(1, chosen)

        # Who goes on: the K best that do not end.
        scores, chosen = total.masked_fill(ends, NEVER).topk(K)
        running, came = _pick(grown, chosen), came.gather(1, chosen)
        parents = (rows.expand(B, K) if n == 1 else rows * K + came).flatten()

        far = new_tokens if early_stopping == "never" and length_penalty > 0 else n
        worst = torch.where(ended, best.amin(1, keepdim=True), NEVER)
        open_ = open_ & (scores[:, :1] / far**length_penalty > worst).any(1, True)
        if not open_.any() or (ended.all() and early_stopping is True) or ends.all():
            break
    text = finished[:, 0, T : int(lengths[:, 0].max())]  # of the best
    return torch.cat((prompt, text), 1), best[:, 0]


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (B, R, T) in the order of `index` (B, S): (B, S, T)."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))


# --- Steps of a model ------------------------------------------------------------


def cached(model: nn.Module, mask: Tensor | None = None) -> Step:
    """A step that computes each token once: keys and values of the past, or the states
    of a recurrent layer, are kept.

    Args:
        model: a causal model of `transformers`, or a `lib.models.language.LanguageModel`.
        mask: bool (B, T), False on the padding before short prompts; see `pad_left`.

    Raises ValueError for a mask that is not so or that the model does not take, and for
    a model whose cache is not handed out, or cannot follow beams.
    """
    return _step(model, mask, True)


def uncached(model: nn.Module, mask: Tensor | None = None) -> Step:
    """A step that computes all tokens anew each time; see `cached`."""
    return _step(model, mask, False)


def pad_left(prompts: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts of different lengths as ids (B, T) and mask (B, T), True on a token.

    The padding stands before, so that every row goes on from its last column.
    Raises ValueError for an empty prompt.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts: got an empty one, wants at least one token in each")
    T = max(map(len, prompts))
    ids = torch.tensor([[pad] * (T - len(one)) + list(one) for one in prompts])
    lengths = torch.tensor([len(one) for one in prompts])
    return ids, torch.arange(T) >= T - lengths[:, None]


def _step(model: nn.Module, mask: Tensor | None, keep: bool) -> Step:
    if mask is not None and (mask.dtype != torch.bool or not mask[:, -1].all()):
        raise ValueError(
            "mask: wants bool (B, T), padded on the left: its end all True"
        )
    mask = None if mask is None or mask.all() else mask
    ours = isinstance(model, LanguageModel)
    known = () if ours else inspect.signature(model.forward).parameters
    cache, fed, rows = {} if ours and keep else None, 0, 0
    kept = next((name for name in CACHES if name in known), None)
    if keep and not ours and kept is None:
        raise ValueError(
            f"model: {type(model).__name__} takes none of {', '.join(CACHES)}, wants "
            "one to keep; `uncached` needs none"
        )
    if mask is not None and not ours and "attention_mask" not in known:
        raise ValueError(
            f"mask: {type(model).__name__} takes no attention_mask, wants prompts of "
            "one length"
        )

    @torch.inference_mode()
    def step(ids: Tensor, parents: Tensor | None) -> Tensor:
        nonlocal mask, cache, fed, rows
        if parents is not None:
            mask = mask if mask is None else mask[parents]
            same = torch.arange(rows, device=parents.device)
            if keep and not torch.equal(parents, same):
                _reorder(cache, parents)
        if mask is not None:  # what is generated is no padding
            mask = nn.functional.pad(
                mask, (0, ids.shape[1] - mask.shape[1]), value=True
            )
        new = ids[:, fed:]  # (R, 1) with a cache, from the second call on
        if ours:
            logits = model(new, cache, mask)
        else:
            more = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
            # A state has read the padding already.
            if mask is not None and (kept == "past_key_values" or not fed):
                more["attention_mask"] = mask.long()
            # Given always: a hybrid counts wrongly if its first layer is a state.
            if "position_ids" in known:
                real = torch.ones_like(ids) if mask is None else mask.long()
                place = (real.cumsum(-1) - 1).clamp(min=0)  # (R, T)
                more["position_ids"] = place[:, fed:]
            if keep:
                more[kept] = cache
            found = model(new, use_cache=keep, **more)
            logits, cache = found.logits, getattr(found, kept, None) if keep else None
            if keep and cache is None:
                raise ValueError(
                    f"model: {type(model).__name__} returned no {kept}, wants a cache; "
                    "`uncached` needs none"
                )
        rows, fed = len(ids), ids.shape[1] if keep else 0
        return logits[:, -1]

    limit = None if ours else getattr(model.config, "max_position_embeddings", None)
    step.limit, step.mask = model.limit if ours else limit, mask
    return step


def _reorder(cache, parents: Tensor) -> None:
    """Make row r of a cache the one that was row `parents[r]`."""
    if isinstance(cache, dict):  # of our model
        for layer, (key, value) in cache.items():
            cache[layer] = key[parents], value[parents]
    elif hasattr(cache, "linear_cache") or not hasattr(cache, "reorder_cache"):
        raise ValueError(  # MiniMax's has the method, which leaves its states as they are
            f"model: its {type(cache).__name__} cannot reorder its rows, as beams need; "
            "`uncached` keeps none"
        )
    else:
        cache.reorder_cache(parents)


def _next(step: Step, ids: Tensor, parents: Tensor | None) -> Tensor:
    """The step's logits, in float32 at least, if they make a distribution."""
    logits = step(ids, parents)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    bad = ~logits.amax(-1).isfinite()  # NaN and +inf reach the maximum
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"logits: row {row} holds NaN or +inf, or −inf alone, after "
            f"{ids.shape[1]} tokens; wants numbers, one of them finite"
        )
    return logits


def _start(step: Step, ids: Tensor, new_tokens: int, eos) -> tuple[Tensor, Tensor]:
    """Raise for a search that cannot run; return ids to search with, `eos` a tensor.

    In place of padding they hold a token of the row: it is masked, but a repetition
    penalty would take it for text.
    """
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(
            f"ids: got {ids.dtype} of shape {tuple(ids.shape)}, wants whole numbers "
            "(B, T)"
        )
    if 0 in ids.shape:
        raise ValueError(
            f"ids: got shape {tuple(ids.shape)}, wants a prompt of at least one token"
        )
    checks.whole("new_tokens", new_tokens)
    limit = getattr(step, "limit", None)
    # The last new token is not fed back.
    if limit is not None and ids.shape[1] + new_tokens - 1 > limit:
        raise ValueError(
            f"new_tokens: a prompt of {ids.shape[1]} and {new_tokens} new tokens pass "
            f"the model's limit of {limit}"
        )
    mask = getattr(step, "mask", None)
    if mask is not None:
        ids = torch.where(mask, ids, ids[:, -1:])
    eos = [eos] if isinstance(eos, int) else list(eos)
    return ids, torch.tensor(eos, dtype=torch.long, device=ids.device)
