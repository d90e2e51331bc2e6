"""lib.optimisers: Muon against torch's, and which parameters each takes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib import optimisers


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_orthogonal_takes_each_singular_value_through_the_polynomial(a, b, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(a, b, generator=generator, dtype=torch.double)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(optimisers.orthogonal(matrix), u * s @ v)
    assert s.max() < 1.21


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_orthogonal_of_half_precision_is_computed_in_float32(dtype):
    matrix = (1000 * torch.randn(80, 120)).to(dtype)  # its norm is no float16
    exact, unit = optimisers.orthogonal(matrix.double()), torch.finfo(dtype).eps
    ours = optimisers.orthogonal(matrix)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), exact, rtol=0.51 * unit, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_muon_is_torchs(shape, monkeypatch):
    torch_orthogonal = torch.optim._muon._zeropower_via_newtonschulz
    settings = (3.4445, -4.7750, 2.0315), 5, 1e-7
    matrix = torch.randn(shape, dtype=torch.double)
    difference = optimisers.orthogonal(matrix) - torch_orthogonal(matrix, *settings)
    assert difference.norm() / math.sqrt(24) < 0.03  # torch's is in bfloat16
    # The rest of the step, with both in float64.
    monkeypatch.setattr(
        torch.optim._muon,
        "_zeropower_via_newtonschulz",
        lambda grad, *_: optimisers.orthogonal(grad),
    )
    ours, theirs = (nn.Parameter(matrix.clone()) for _ in range(2))
    mine = optimisers.Muon([ours], lr=0.1, weight_decay=0.2)
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.2)
    for _ in range(4):
        ours.grad = torch.randn(shape, dtype=torch.double)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_muon_flattens_convolutions_and_treats_matrices_apart():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 2, 3, 3), (6, 18), (6, 18)]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients[1] = gradients[0].reshape(6, 18)
    together = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    together.append(nn.Parameter(torch.zeros(3, 3)))  # without a gradient: unmoved
    for parameter, gradient in zip(together, gradients, strict=False):
        parameter.grad = gradient
    optimisers.Muon(together).step()
    alone = nn.Parameter(torch.zeros(6, 18))
    alone.grad = gradients[2]
    optimisers.Muon([alone]).step()
    torch.testing.assert_close(together[0].flatten(1), together[1])
    torch.testing.assert_close(together[2], alone)
    assert not together[1].equal(together[2]) and not together[3].any()
    with pytest.raises(
        ValueError, match=r"params: expected matrices, got shape \(3,\)"
    ):
        optimisers.Muon([nn.Parameter(torch.zeros(3))])


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(5, 4)
        self.place = nn.Parameter(torch.zeros(3, 4))
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.map = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.tied = nn.Linear(4, 5, bias=False)
        self.tied.weight = self.token.weight


def names_of(model, optimiser):
    names = {p: name for name, p in model.named_parameters()}
    return [{names[p] for p in group["params"]} for group in optimiser.param_groups]


def test_each_parameter_has_its_optimiser_and_its_decay():
    model = Tiny()
    first, second = optimisers.muon(model, model.head, decay=0.3, adamw_decay=0.2)
    assert names_of(model, first) == [{"conv.weight", "map.weight"}]
    matrices = {"token.weight", "place", "head.weight"}
    vectors = {f"{m}.bias" for m in ("conv", "norm", "map", "head")} | {"norm.weight"}
    assert names_of(model, second) == [matrices, vectors]
    assert [g["weight_decay"] for g in first.param_groups] == [0.3]
    assert [g["weight_decay"] for g in second.param_groups] == [0.2, 0]
    matrices |= {"conv.weight", "map.weight"}
    assert names_of(model, optimisers.adamw(model)) == [matrices, vectors]
    with pytest.raises(ValueError, match="none for Muon"):
        optimisers.muon(nn.Sequential(nn.Embedding(2, 2), nn.LayerNorm(2)))
    optimisers.muon(nn.Linear(2, 2, bias=False))[1].step()  # nothing left: no harm


def test_adamw_is_the_papers_step():
    weight = torch.tensor([[0.5, -1.0]], dtype=torch.double)
    bias = torch.tensor([2.0], dtype=torch.double)
    gradients = [([[1.0, -3.0]], [0.2]), ([[-0.5, 0.1]], [0.4]), ([[2.0, 2.0]], [0.0])]
    parameters = [nn.Parameter(weight.clone()), nn.Parameter(bias.clone())]
    optimiser = optimisers.adamw(parameters, 0.1, decay=0.3)
    moments = [[torch.zeros_like(x) for x in (weight, bias)] for _ in range(2)]
    for step, pair in enumerate(gradients, start=1):
        for i, (x, gradient) in enumerate(zip((weight, bias), pair, strict=True)):
            gradient = torch.tensor(gradient, dtype=torch.double)
            parameters[i].grad = gradient
            first = moments[0][i] = 0.9 * moments[0][i] + 0.1 * gradient
            second = moments[1][i] = 0.95 * moments[1][i] + 0.05 * gradient**2
            x *= 1 - 0.1 * (0.3 if i == 0 else 0.0)  # vectors do not decay
            first, second = first / (1 - 0.9**step), second / (1 - 0.95**step)
            x -= 0.1 * first / (second.sqrt() + 1e-8)
        optimiser.step()
    for parameter, x in zip(parameters, (weight, bias), strict=True):
        torch.testing.assert_close(parameter.data, x, atol=1e-9, rtol=0)


def test_what_an_optimiser_is_unless_told():
    def settings(optimiser, *names):
        return [tuple(g[name] for name in names) for g in optimiser.param_groups]

    model = nn.Linear(2, 2)
    names = ("lr", "betas", "weight_decay")
    both = [(1e-3, (0.9, 0.95), 0.05), (1e-3, (0.9, 0.95), 0.0)]
    assert settings(optimisers.adamw(model), *names) == both
    first, second = optimisers.muon(model)
    assert settings(second, *names) == both
    names = ("lr", "momentum", "weight_decay")
    assert settings(first, *names) == [(0.02, 0.95, 0.0)]
    assert settings(optimisers.Muon([model.weight]), *names) == [(0.02, 0.95, 0.0)]
    first, second = optimisers.muon(
        model, rate=0.5, decay=0.1, adamw_rate=0.4, adamw_decay=0.2
    )
    assert settings(first, "lr", "weight_decay") == [(0.5, 0.1)]
    assert settings(second, "lr", "weight_decay") == [(0.4, 0.2), (0.4, 0.0)]


def test_a_tall_matrix_takes_a_longer_step():
    """Muon's step has the length of √max(1, A/B) in each direction."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns, size in ((3, 12, 1.0), (12, 12, 1.0), (48, 12, 2.0)):
        parameter = nn.Parameter(torch.zeros(rows, columns, dtype=torch.double))
        parameter.grad = torch.randn(
            rows, columns, generator=generator, dtype=torch.double
        )
        optimisers.Muon([parameter], lr=0.1).step()
        moved = torch.linalg.svdvals(parameter.data) / (0.1 * size)
        assert moved.min() > 0.65 and moved.max() < 1.25
        toward = (parameter.data * parameter.grad).sum()
        assert toward < 0  # downhill
