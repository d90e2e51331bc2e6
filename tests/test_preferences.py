"""lib.preferences: each loss against the paper's formula written out, and by enumeration."""

import itertools
import math

import pytest
import torch

from lib import decoding
from lib import preferences as p
from lib.models.language import LanguageModel

torch.manual_seed(0)


def tiny(V=5):
    torch.manual_seed(0)
    return LanguageModel(V, 8, 2, 1).double().eval()


def test_answers_are_sums_and_probabilities_add_up_to_one():
    model = tiny()
    answers = torch.tensor(
        [*itertools.product(range(5), repeat=2)]
    )  # all of two tokens
    ids = torch.cat((torch.tensor([[1, 3]]).expand(25, 2), answers), 1)
    answer = torch.tensor([[False, False, True, True]]).expand(25, 4)
    found = p.of_answers(p.log_probabilities(model, ids), answer)
    assert found.shape == (25,) and found.exp().sum().item() == pytest.approx(1)
    shares = model(ids[7:8]).softmax(-1)[0]
    by_hand = shares[1, ids[7, 2]].log() + shares[2, ids[7, 3]].log()
    assert found[7].item() == pytest.approx(by_hand.item())


def test_padding_before_a_prompt_changes_nothing():
    model = tiny()
    ids, mask = decoding.pad_left([[1, 2, 3], [4, 1, 2, 3, 0]])
    each = p.log_probabilities(model, ids, mask)
    alone = p.log_probabilities(model, ids[:1, 2:])
    torch.testing.assert_close(each[:1, 2:], alone)


def test_worked_numbers_of_dpo():
    x = [torch.tensor([v], dtype=torch.float64) for v in (-4.0, -9.0, -5.0, -8.0)]
    chosen = x[0].requires_grad_()
    loss, margin = p.dpo(chosen, *x[1:], beta=0.5)
    # implicit rewards .5 · (−4 + 5) = .5 and .5 · (−9 + 8) = −.5
    assert margin.item() == 1.0
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    loss.sum().backward()
    # −β σ(−margin), the paper's weight of a pair
    assert chosen.grad.item() == pytest.approx(-0.5 / (1 + math.exp(1)))


def test_dpo_at_the_reference_is_ln_2_with_a_gradient():
    x = torch.tensor([-3.0, -2.0], requires_grad=True)
    loss, margin = p.dpo(x, x.detach(), x.detach(), x.detach(), beta=0.1)
    assert margin.abs().max() == 0
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))
    loss.sum().backward()
    assert (x.grad < 0).all()


def test_bradley_terry():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0])
    wants = torch.tensor([math.log(1 + math.exp(-1.5)), math.log(2)])
    torch.testing.assert_close(p.bradley_terry(a, b), wants)


def test_group_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = p.group_advantages(rewards)
    torch.testing.assert_close(
        found[0], torch.tensor([1.5, -0.5, -0.5, -0.5]), rtol=1e-5, atol=0
    )
    assert found[1].abs().max() == 0
    torch.testing.assert_close(
        p.left_out(rewards)[0], torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3])
    )


def test_reinforce_has_the_gradient_of_the_expected_reward():
    """The mean over all answers, weighted by their probability: no sampling."""
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    (logits.softmax(0) * rewards).sum().backward()
    wants, logits.grad = logits.grad, None
    shares = logits.detach().softmax(0)
    each = logits.log_softmax(0)[:, None]  # three answers of one token
    answer = torch.tensor([[False, True]] * 3)
    for k in range(3):
        weight = 3 * shares[k] * torch.nn.functional.one_hot(torch.tensor(k), 3)
        # one answer at a time with its probability, and any baseline
        p.reinforce(each, answer, weight * (rewards - 0.7)).backward(retain_graph=True)
    torch.testing.assert_close(-logits.grad, wants)


def test_clipping_stops_the_pull():
    before = torch.log(torch.tensor([[0.5], [0.5], [0.5], [0.5]]))
    now = torch.log(torch.tensor([[0.7], [0.7], [0.3], [0.3]])).requires_grad_()
    answer = torch.tensor([[False, True]] * 4)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = p.clipped(now, before, answer, advantages)
    # ratios 1.4, 1.4, .6, .6: counted 1.2, −1.4, .6, −.8
    assert loss.item() == pytest.approx(-(1.2 - 1.4 + 0.6 - 0.8) / 4)
    loss.backward()
    assert (now.grad[:, 0] != 0).tolist() == [False, True, True, False]


def test_clipped_at_the_start_is_zero_with_a_gradient():
    each = torch.log(torch.tensor([[0.5], [0.2]])).requires_grad_()
    answer = torch.tensor([[False, True]] * 2)
    loss = p.clipped(each, each.detach(), answer, torch.tensor([1.0, -1.0]))
    loss.backward()
    assert loss.item() == 0 and (each.grad != 0).all()


def test_divergences_by_enumeration():
    a = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    b = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    true = (a * (a / b).log()).sum()
    found = p.divergences(a.log(), b.log())
    means = {name: (a * values).sum() for name, values in found.items()}
    torch.testing.assert_close(means["k1"], true)
    torch.testing.assert_close(means["k3"], true)
    assert (found["k1"] < 0).any() and (found["k3"] >= 0).all()
    assert abs(means["k2"] - true) > 0.003  # biased


def test_drawn_marks_answers():
    model = tiny().float()
    ids, mask, answer = p.drawn(
        model,
        [[1], [2, 3, 1]],
        3,
        6,
        eos=[4],
        pad=0,
        generator=torch.Generator().manual_seed(1),
    )
    assert len(ids) == 6 and not answer[:, :3].any()
    assert (mask[:3, :2] == False).all() and mask[3:].all()  # noqa: E712
    for row, told in zip(ids[:, 3:].tolist(), answer[:, 3:].tolist(), strict=True):
        length = row.index(4) + 1 if 4 in row else len(row)
        assert told == [i < length for i in range(len(row))]
    again, *_ = p.drawn(
        model,
        [[1], [2, 3, 1]],
        3,
        6,
        eos=[4],
        pad=0,
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.equal(ids, again)


def test_pass_at_k_is_the_mean_over_all_draws():
    right = [True, True, False, False, False]
    for k in (1, 2, 5):
        some = [*itertools.combinations(right, k)]
        wants = sum(any(one) for one in some) / len(some)
        assert p.pass_at_k(5, 2, k) == pytest.approx(wants)


X = torch.zeros(2)
NAN = torch.tensor([0.0, float("nan")])
MASK = torch.tensor([[False, True]] * 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: p.of_answers(X[:, None], torch.zeros(2, 2).bool()),
            r"\[0, 1\] have no",
        ),
        (
            lambda: p.of_answers(X[:, None], torch.ones(2, 2).bool()),
            "before any prompt",
        ),
        (lambda: p.of_answers(X[:, None], torch.ones(2, 3).bool()), "one more token"),
        (lambda: p.dpo(X, X, X, X, 0), "beta: got 0"),
        (lambda: p.dpo(X, X, X, X[:1], 1), "shapes"),
        (lambda: p.dpo(X, NAN, X, X, 1), r"rejected: not finite at \[1\]: nan"),
        (lambda: p.bradley_terry(X, NAN), "rejected: not finite"),
        (lambda: p.different(torch.ones(2, 3), torch.ones(2, 3)), r"pairs \[0, 1\]"),
        (lambda: p.group_advantages(X), "wants"),
        (lambda: p.group_advantages(NAN[None]), r"rewards: not finite at \[0, 1\]"),
        (lambda: p.reinforce(X[:, None], MASK, NAN), "advantages: not finite"),
        (lambda: p.clipped(X[:, None], X[:, None], MASK, X, 0), "epsilon"),
        (lambda: p.pass_at_k(5, 2, 6), "got 5, 2, 6"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
