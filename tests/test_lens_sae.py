"""lib.lens.sae: TopK against two lines, other codes by hand, splicing at both ends."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from transformers import LlamaConfig, LlamaForCausalLM

from lib.lens import sae

D, M, K = 12, 40, 5


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = sae.TopK(D, M, K)
    with torch.no_grad():
        found.weight.normal_()
        found.bias.normal_(std=0.1)
        found.origin.normal_()
        found.directions.mul_(3)  # only their direction counts
    return found


def test_it_equals_two_lines(model):
    x = torch.randn(7, D)
    W, c, b = model.weight, model.bias, model.origin
    rows = model.directions / model.directions.norm(dim=1, keepdim=True)

    z = ((x - b) @ W.T + c).relu()
    wanted = z.where(z >= z.topk(K).values[:, -1:], 0) @ rows + b

    torch.testing.assert_close(model(x), wanted)


def test_its_gradients_are_those_of_two_lines(model):
    x = torch.randn(7, D)
    model(x).square().sum().backward()
    mine = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    z = F.linear(x - model.origin, model.weight, model.bias).relu()
    kept = z.where(z >= z.topk(K).values[:, -1:], 0)
    (
        kept @ F.normalize(model.directions, dim=1) + model.origin
    ).square().sum().backward()
    for a, b in zip(mine, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, atol=1e-4, rtol=1e-4)


def test_shapes_and_entries(model):
    x = torch.randn(2, 3, D)
    values, on = model.encode(x)
    assert values.shape == on.shape == (2, 3, K) and (values >= 0).all()
    assert model(x).shape == x.shape
    torch.testing.assert_close(model(x)[1, 2], model(x[1, 2]))
    values, _ = model.encode(x, 2)
    assert values.shape == (2, 3, 2)


def test_scale_and_centre_are_those_of_the_states():
    torch.manual_seed(0)
    centre = torch.randn(D)
    small, large = sae.TopK(D, M, K), None
    large = sae.TopK(D, M, K, 10.0, centre)
    large.load_state_dict(small.state_dict() | {"scale": large.scale, "centre": centre})
    x = torch.randn(7, D)
    torch.testing.assert_close(large(10 * x + centre), 10 * small(x) + centre)


@pytest.mark.parametrize("sizes", [(0, M, K), (D, M, 0), (D, 4, 5), (D, M, 1.0)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match="got"):
        sae.TopK(*sizes)


def test_components_are_scikit_learns():
    x = torch.randn(60, D) @ torch.randn(D, D)
    centre, rows = sae.components(x)
    theirs = PCA(4).fit(x.numpy())
    wanted = theirs.inverse_transform(theirs.transform(x.numpy()))
    found = sae.first(centre, rows, 4)(x)
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        sae.components(x[:1])


@given(st.integers(1, D), st.integers(0, 5))
def test_codes_of_directions(k, seed):
    x, centre = torch.randn(9, D), torch.randn(D)
    rows = sae.by_lot(D, seed)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(D), atol=1e-5, rtol=0)
    first, largest = (f(centre, rows, k)(x) for f in (sae.first, sae.largest))
    left = [sae.unexplained(x, one, centre) for one in (first, largest)]
    assert left[1] <= left[0] + 1e-6  # each state's own choice leaves no more
    off = ((largest - centre) @ rows.mT).abs() > 1e-5
    assert (off.sum(1) <= k).all()
    if k == D:
        torch.testing.assert_close(first, x, atol=1e-5, rtol=1e-4)


def test_too_many_entries_are_named():
    for code in (sae.first, sae.largest):
        with pytest.raises(ValueError, match="at most 12 directions"):
            code(torch.zeros(D), sae.by_lot(D), 13)


def test_splicing_in_nothing_costs_nothing_and_the_mean_recovers_none():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=D,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(30, (3, 9))
    layer = r"model\.layers\.0"
    whole = sae.spliced_loss(model, layer, ids, None)
    same = sae.spliced_loss(model, layer, ids, lambda x: x.clone())
    torch.testing.assert_close(same, whole)
    with torch.no_grad():
        logits = model(ids).logits
    wanted = F.cross_entropy(logits[:, 1:-1].mT, ids[:, 2:], reduction="none").mean(1)
    torch.testing.assert_close(whole, wanted)
    gone = sae.spliced_loss(model, layer, ids, torch.zeros_like)
    assert (gone - whole).abs().max() > 1e-4
    assert sae.recovered(whole, whole, gone) == 1
    assert sae.recovered(gone, whole, gone) == 0
