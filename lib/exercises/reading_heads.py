"""The exercises of the reading-heads chapter: right answers, and the wrong ones we name."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


# --- after: the keys k tokens behind an earlier copy -----------------------------------


def _looked_for(wanted):
    """From `wanted(ids, query, key, k)`, a rule for one pair of places."""

    def after(ids, k):
        places = range(len(ids))
        return torch.tensor([[wanted(ids, q, j, k) for j in places] for q in places])

    return after


def _copy(ids, query, place) -> bool:
    return 0 <= place < len(ids) and bool(ids[place] == ids[query])


def _wanted(ids, query, key, k):
    return key <= query and _copy(ids, query, key - k)


after = Exercise(
    correct=_looked_for(_wanted),
    mistakes={
        "this is the page's rule, one token after the copy: look k tokens after it": (
            _looked_for(lambda ids, q, j, k: _wanted(ids, q, j, 1))
        ),
        "these are the copies themselves: look k tokens after them": _looked_for(
            lambda ids, q, j, k: j < q and _copy(ids, q, j)
        ),
        "this looks k tokens before the copy, not after it": _looked_for(
            lambda ids, q, j, k: j <= q and _copy(ids, q, j + k)
        ),
        "keys after the query are among them: the model does not see those": (
            _looked_for(lambda ids, q, j, k: _copy(ids, q, j - k))
        ),
        "the query itself may be the key: key ≤ query": _looked_for(
            lambda ids, q, j, k: j < q and _copy(ids, q, j - k)
        ),
        "all of the k tokens after the copy are marked: mark the k-th alone": (
            _looked_for(
                lambda ids, q, j, k: any(_wanted(ids, q, j, i) for i in range(1, k + 1))
            )
        ),
        "the places wrap around: the key at place 0 has no token k before it": (
            _looked_for(
                lambda ids, q, j, k: j <= q and bool(ids[(j - k) % len(ids)] == ids[q])
            )
        ),
        "rows and columns have changed places: a row is a query": _looked_for(
            lambda ids, q, j, k: _wanted(ids, j, q, k)
        ),
        "these are the keys k tokens before the query, copies or not": _looked_for(
            lambda ids, q, j, k: j == q - k
        ),
    },
    cases=[
        (torch.tensor([3, 5, 4, 3, 5, 4, 3, 7]), 2),
        (torch.tensor([1, 2, 2, 1, 9, 2, 1, 2]), 1),
        (torch.tensor([6, 2, 8, 6, 6, 1, 2, 8, 6]), 3),
    ],
)


# --- rest: a share of what is not on the first token ------------------------------------


def _maps(*shape: int, seed: int) -> Tensor:
    scores = 2 * _random(*shape, seed=seed)
    ahead = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(ahead, -torch.inf).softmax(-1)


def _asking(values: Tensor, wanted: Tensor) -> Tensor:
    return values[..., wanted.any(-1)].mean(-1)


def _rest(weights, wanted):
    left, wanted = weights[..., 1:, 1:], wanted[1:, 1:]
    return _asking((left * wanted).sum(-1) / left.sum(-1), wanted)


def _page(weights, wanted):
    return _asking((weights * wanted).sum(-1), wanted)


def _left(weights: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    return weights[..., 1:, 1:], wanted[1:, 1:]


rest = Exercise(
    correct=_rest,
    mistakes={
        "this is the page's share: leave the first key out": _page,
        "the first key is left out and the rows are not brought back to a sum of "
        "one": lambda w, m: _page(*_left(w, m)),
        "the mean runs over all queries: take those that want a key": lambda w, m: (
            (_left(w, m)[0] * _left(w, m)[1]).sum(-1) / _left(w, m)[0].sum(-1)
        ).mean(-1),
        "the sums are divided at the end: divide each row, then take the mean": (
            lambda w, m: (
                _asking((_left(w, m)[0] * _left(w, m)[1]).sum(-1), _left(w, m)[1])
                / _asking(_left(w, m)[0].sum(-1), _left(w, m)[1])
            )
        ),
        "the share is divided by the weight on the first key: divide by the rest": (
            lambda w, m: _asking(
                (_left(w, m)[0] * _left(w, m)[1]).sum(-1) / w[..., 1:, 0],
                _left(w, m)[1],
            )
        ),
        "a softmax runs over weights that are one already: divide by their sum": (
            lambda w, m: _page(_left(w, m)[0].softmax(-1), _left(w, m)[1])
        ),
        "the first query is still there: drop its row, too": lambda w, m: _asking(
            (w[..., 1:] * m[:, 1:]).sum(-1) / w[..., 1:].sum(-1), m[:, 1:]
        ),
        "a query that wanted the first key alone still counts: it wants none now": (
            lambda w, m: (
                (_left(w, m)[0] * _left(w, m)[1]).sum(-1) / _left(w, m)[0].sum(-1)
            )[..., m[1:].any(-1)].mean(-1)
        ),
    },
    cases=[
        (
            _maps(2, 3, 6, 6, seed=1),
            torch.tensor(
                [
                    [j == i - 2 or (i == 4 and j == 1) for j in range(6)]
                    for i in range(6)
                ]
            ),
        ),
        (_maps(5, 5, seed=2), torch.eye(5, dtype=torch.bool).roll(-1, 1).tril()),
        # An encoder's map, whose first query also wants the next token.
        (_random(2, 5, 5, seed=7).softmax(-1), torch.ones(5, 5).triu(1).tril(1).bool()),
    ],
)


# --- mean: an ablation that keeps what a place is ----------------------------------------


def _replaced(new):
    """From `new(mix, others, head)`, what stands in the head's place, (B, T, d)."""

    def mean(mix, others, head):
        result = mix.clone()
        result[:, :, head] = new(mix, others, head)
        return result

    return mean


mean = Exercise(
    correct=_replaced(lambda mix, others, head: others[:, :, head].mean(0)),
    mistakes={
        "this is one mean over all places, as on the page: take one for each place": (
            _replaced(lambda mix, others, head: others[:, :, head].mean((0, 1)))
        ),
        "the mean is that of the texts themselves: take the other texts": _replaced(
            lambda mix, others, head: mix[:, :, head].mean(0)
        ),
        "the mean runs over the places of a text: run over the texts": _replaced(
            lambda mix, others, head: others[0, :, head].mean(0)
        ),
        "the head is set to zero": _replaced(lambda mix, others, head: 0.0),
        "the head has what it mixed in the first other text: take the mean": _replaced(
            lambda mix, others, head: others[0, :, head]
        ),
        "every head is replaced": lambda mix, others, head: (
            others.mean(0).expand_as(mix).clone()
        ),
        "the other heads are gone: replace one, and return all": lambda mix, others, head: (
            others[:, :, head].mean(0).expand_as(mix[:, :, head])
        ),
        "nothing is replaced": lambda mix, others, head: mix,
        "the mean is taken away from the head: put it in the head's place": _replaced(
            lambda mix, others, head: mix[:, :, head] - others[:, :, head].mean(0)
        ),
        "this is a token of that number: the heads are the third axis": (
            lambda mix, others, head: _token_replaced(mix, others, head)
        ),
    },
    cases=[
        (_random(2, 4, 3, 5, seed=3), _random(3, 4, 3, 5, seed=4), 1),
        (_random(1, 3, 2, 4, seed=5), _random(2, 3, 2, 4, seed=6), 0),
    ],
)


def _token_replaced(mix, others, head):
    result = mix.clone()
    result[:, head] = others[:, head].mean(0)
    return result


# --- copying: does a head raise what it attends to? -------------------------------------


def _logits(embed, ov, unembed):
    return embed @ ov @ unembed


def _top(logits: Tensor, dim: int = 1) -> Tensor:
    return (logits.argmax(dim) == torch.arange(len(logits))).double().mean()


def _copying(embed, ov, unembed):
    return _top(_logits(embed, ov, unembed))


def _circuit(seed: int, V: int = 12, D: int = 8) -> tuple:
    embed, unembed = _random(V, D, seed=seed), _random(D, V, seed=seed + 1)
    ov = 0.7 * torch.linalg.pinv(embed) @ torch.linalg.pinv(unembed)
    return embed, ov + 0.02 * _random(D, D, seed=seed + 2), unembed


copying = Exercise(
    correct=_copying,
    mistakes={
        "OV is transposed: a row comes in from the left": lambda e, ov, u: _top(
            _logits(e, ov.mT, u)
        ),
        "the largest of each column is taken: a row is what one attended token "
        "raises": lambda e, ov, u: _top(_logits(e, ov, u), dim=0),
        "OV is missing: this asks the two tables alone": lambda e, ov, u: _top(e @ u),
        "this is the mean of the tokens' own logits: count where it is the "
        "largest": lambda e, ov, u: _logits(e, ov, u).diagonal().mean(),
        "this counts where the own logit is above zero: where it is the largest": (
            lambda e, ov, u: (_logits(e, ov, u).diagonal() > 0).double().mean()
        ),
        "this is a number of tokens: divide by V": lambda e, ov, u: (
            _copying(e, ov, u) * len(e)
        ),
        "this says it token by token: take the share": lambda e, ov, u: (
            _logits(e, ov, u).argmax(1) == torch.arange(len(e))
        ),
    },
    cases=[_circuit(10), _circuit(20, V=9, D=6), _circuit(31, V=14, D=9)],
)
