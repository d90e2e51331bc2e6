"""The exercises of the chapter on vision and language: right answers, known errors."""

import torch
from torch import Tensor

from lib.exercise import Exercise


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- several: a loss for pictures that have more than one right text -------------------


def _several(scores, same):
    shares = scores.softmax(1)
    return -(shares * same).sum(1).log().mean()


def _each(scores, same):
    logs = scores.log_softmax(1)
    return -(logs * same).sum(1) / same.sum(1)


_SAME = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]).bool()

several = Exercise(
    correct=_several,
    mistakes={
        "only the diagonal counts as right: an equal text is right, too": lambda s, same: (
            -s.log_softmax(1).diag().mean()
        ),
        "this is the mean of the right texts' losses: add their shares, then take the "
        "logarithm": lambda s, same: _each(s, same).mean(),
        "the logarithms are added: add the shares first": lambda s, same: (
            -(s.log_softmax(1) * same).sum(1).mean()
        ),
        "the right shares are averaged: their sum is the chance that the choice is "
        "right": lambda s, same: (
            -((s.softmax(1) * same).sum(1) / same.sum(1)).log().mean()
        ),
        "the softmax runs along the pictures: each picture chooses among "
        "texts": lambda s, same: -(s.softmax(0) * same).sum(1).log().mean(),
        "the right texts are left out below the line: they belong to the sum of all "
        "texts": lambda s, same: (
            s.masked_fill(same, -torch.inf).logsumexp(1)
            - s.masked_fill(~same, -torch.inf).logsumexp(1)
        ).mean(),
        "the losses are added: take their mean over the pictures": lambda s, same: (
            -(s.softmax(1) * same).sum(1).log().sum()
        ),
        "the sign: −ln of a share is not below 0": lambda s, same: -_several(s, same),
    },
    cases=[
        (2 * _random(4, 4, seed=0), _SAME),
        (2 * _random(3, 3, seed=1), torch.ones(3, 3).tril().bool()),
    ],
)


# --- recall: texts ask for their picture, several texts for one ------------------------


def _recall(scores, owner, k):
    own = scores[owner, torch.arange(len(owner))]
    before = (scores > own).sum(0)
    return (before < k).double().mean()


def _pictures_ask(scores, owner, k):
    right = owner == torch.arange(len(scores))[:, None]  # (N, M)
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    before = ((scores > best) & ~right).sum(1)
    return (before < k).double().mean()


def _along_rows(scores, owner, k):
    own = scores[owner, torch.arange(len(owner))]
    return ((scores[owner] > own[:, None]).sum(1) < k).double().mean()


def _any_text(scores, owner, k):
    own = scores[owner, torch.arange(len(owner))]
    found = (scores > own).sum(0) < k
    return torch.isin(torch.arange(len(scores)), owner[found]).double().mean()


def _from_below(scores, owner, k):
    own = scores[owner, torch.arange(len(owner))]
    return ((scores < own).sum(0) < k).double().mean()


_OWNER = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
_OTHER = torch.tensor([4, 0, 0, 2, 1, 3, 4, 4])

recall = Exercise(
    correct=_recall,
    mistakes={
        "pictures ask for texts: here each text asks for its picture": _pictures_ask,
        "the text is compared with the other texts of its picture: compare its picture "
        "with the other pictures": _along_rows,
        "a picture counts once one of its texts finds it: count the texts": _any_text,
        "one too many: among the first k there are fewer than k before "
        "it": lambda s, o, k: _recall(s, o, k + 1),
        "this is recall at 1": lambda s, o, k: _recall(s, o, 1),
        "the smallest scores count as the best": _from_below,
        "this is a number of texts: return a share": lambda s, o, k: (
            _recall(s, o, k) * len(o)
        ),
    },
    cases=[
        (_random(6, 12, seed=3), _OWNER, 2),
        (_random(5, 8, seed=5), _OTHER, 3),
    ],
)


# --- places: several pictures in one prompt --------------------------------------------


def _places(table, ids, pictures):
    x = table[ids.clamp(min=0)]
    x[ids == -1] = pictures.flatten(0, 1)
    return x


def _first(table, ids, pictures):
    return _places(table, ids, pictures[:1].expand_as(pictures))


_IDS = torch.tensor([3, -1, -1, 5, 1, -1, -1, 2])

places = Exercise(
    correct=_places,
    mistakes={
        "the first picture stands in all places": _first,
        "the pictures have changed places: the first goes where the first places "
        "are": lambda t, i, p: _places(t, i, p.flip(0)),
        "the vectors of each picture stand backwards": lambda t, i, p: _places(
            t, i, p.flip(1)
        ),
        "the vectors alternate between the pictures: all of one, then all of the "
        "next": lambda t, i, p: _places(t, i, p.transpose(0, 1)),
        "the places still hold a word's vector": lambda t, i, p: t[i.clamp(min=0)],
        "the vectors are added to a word's: they replace it": lambda t, i, p: (
            _places(t, i, p) + t[0] * (i == -1)[:, None]
        ),
        "each place has its picture's mean: keep its vectors": lambda t, i, p: _places(
            t, i, p.mean(1, keepdim=True).expand_as(p)
        ),
        "the pictures stand before the prompt: put them into their "
        "places": lambda t, i, p: torch.cat([p.flatten(0, 1), t[i[i >= 0]]]),
    },
    cases=[
        (_random(6, 3, seed=6), _IDS, _random(2, 2, 3, seed=7)),
        (
            _random(5, 4, seed=8),
            torch.tensor([-1, -1, 4, -1, -1, -1, -1, 2, 0]),
            _random(3, 2, 4, seed=9),
        ),
    ],
)


# --- blind: what questions alone tell --------------------------------------------------


def _answer(questions, answers, asked):
    """The most frequent answer of each asked question, and its share there."""
    counts = torch.stack([answers[questions == q].bincount(minlength=9) for q in asked])
    return counts.argmax(1), counts.double().amax(1) / counts.sum(1)


def _blind(questions, answers, new, right):
    return (_answer(questions, answers, new)[0] == right).double().mean()


def _one_answer(questions, answers, new, right):
    return (answers.bincount().argmax() == right).double().mean()


def _by_lot(questions, answers, new, right):
    pairs = zip(new.tolist(), right.tolist(), strict=True)
    shares = [(answers[questions == q] == a).double().mean() for q, a in pairs]
    return torch.stack(shares).mean()


_ASKED = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
_ANSWERED = torch.tensor([3, 3, 4, 4, 4, 1, 2, 2, 3, 3, 3, 0, 4])
_NEW = torch.tensor([0, 0, 1, 2, 2, 2, 1, 0])
_RIGHT = torch.tensor([4, 3, 2, 0, 0, 3, 1, 4])

blind = Exercise(
    correct=_blind,
    mistakes={
        "the answers of the new questions were counted: count those of "
        "training": lambda q, a, n, r: _blind(n, r, n, r),
        "one answer for all: count question by question": _one_answer,
        "this is how often it is right in training: judge it on the new "
        "questions": lambda q, a, n, r: _blind(q, a, q, a),
        "this is the share that the commonest answers have in training: compare them "
        "with the right ones": lambda q, a, n, r: _answer(q, a, n)[1].mean(),
        "answers are drawn in proportion: the commonest one alone is right more "
        "often": _by_lot,
        "this is a number of questions: return a share": lambda q, a, n, r: (
            _blind(q, a, n, r) * len(n)
        ),
    },
    cases=[
        (_ASKED, _ANSWERED, _NEW, _RIGHT),
        (_ASKED.roll(3), _ANSWERED.roll(3), _NEW[:6], _RIGHT[:6]),
    ],
)
