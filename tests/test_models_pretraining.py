"""lib.models.pretraining: the exchanged parts, each against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from lib import decoding
from lib.models.pretraining import (
    GAIN,
    NormedAttention,
    dropped,
    in_halves,
    language_model,
    relu_squared,
)
from lib.positions import rope


def small(**dropout):
    torch.manual_seed(0)
    return language_model(11, 16, 4, 2, **dropout)


def test_relu_squared_has_the_values_and_slopes_of_torch():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    assert torch.equal(relu_squared(x), F.relu(x).square())
    assert torch.autograd.gradcheck(relu_squared, (x,))


@pytest.mark.parametrize("shape", [(1000, 1001), (7,), (0, 3)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_dropped_keeps_the_mean(shape, share):
    torch.manual_seed(0)
    x = torch.ones(shape)
    assert torch.equal(dropped(x, share, training=False), x)
    y = dropped(x, share, training=True)
    kept = 1 - round(256 * share) / 256
    assert y.shape == x.shape
    assert set(y.unique().tolist()) <= {0.0, torch.tensor(1 / kept).item()}
    if x.numel() > 1000:
        assert y.mean() == pytest.approx(1, abs=0.01)
        by_place = (y != 0).float().flatten()[: 8 * 125_000].view(-1, 8).mean(0)
        # each byte of a random word, the one with the sign as well
        assert by_place.sub(kept).abs().max() < 0.006


def test_dropped_repeats_with_the_seed_and_has_a_gradient():
    x = torch.randn(40, dtype=torch.float64, requires_grad=True)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(dropped(x, 0.5, True))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    (grad,) = torch.autograd.grad(found[0].sum(), x)
    assert torch.equal(grad, (found[0] != 0) * 2.0)


@pytest.mark.parametrize(("Tq", "Tk"), [(6, 6), (7, 7), (1, 1), (1, 5), (3, 8)])
def test_in_halves_is_attention(Tq, Tk):
    torch.manual_seed(0)
    query = torch.randn(2, 3, Tq, 4, dtype=torch.float64)
    key, value = torch.randn(2, 2, 3, Tk, 4, dtype=torch.float64)
    later = torch.ones(Tq, Tk, dtype=torch.bool).triu(Tk - Tq + 1)
    bias = torch.zeros(Tq, Tk, dtype=torch.float64).masked_fill(later, -torch.inf)
    reference = F.scaled_dot_product_attention(query, key, value, bias, scale=1.0)
    torch.testing.assert_close(in_halves(query, key, value, bias), reference)


def test_attention_is_torchs_with_normalised_queries_and_keys():
    model = small().double()
    block = model.blocks[0].attention
    assert isinstance(block, NormedAttention)
    x, at = torch.randn(2, 9, 16, dtype=torch.float64), torch.arange(9)
    places = model.places(at, at)
    query, key, value = (
        layer(x).view(2, 9, 4, 4).transpose(1, 2)
        for layer in (block.to_query, block.to_key, block.to_value)
    )
    query, key = (
        rope(F.layer_norm(z, (4,)), places.turns.to(torch.complex128))
        for z in (query, key)
    )
    output = F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=GAIN / 2
    )
    reference = block.to_output(output.transpose(1, 2).reshape(2, 9, 16))
    torch.testing.assert_close(block(x, places), reference, rtol=1e-5, atol=1e-6)


def test_causal_and_every_weight_is_trained():
    model, ids = small().double().eval(), torch.randint(11, (8, 40))
    ids[0, :11] = torch.arange(11)
    logits = model(ids)
    changed = ids.clone()
    changed[:, 17:] = 0
    torch.testing.assert_close(model(changed)[:, :17], logits[:, :17])
    logits.square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad.abs().max() > 0, name


def test_cache_and_padding():
    model, ids = small(dropout=0.5, embedding_dropout=0.5).eval(), torch.arange(10)
    prompts, mask = decoding.pad_left([ids[:3].tolist(), ids[:7].tolist()])
    steps = decoding.cached(model, mask), decoding.uncached(model, mask)
    a, b = (decoding.greedy(step, prompts, 5) for step in steps)
    assert torch.equal(a, b)
    alone = decoding.greedy(decoding.cached(model), ids[None, :3], 5)
    assert torch.equal(a[0, 4:], alone[0])


def test_dropout_is_of_branches_and_embeddings_and_in_training_alone():
    ids = torch.randint(11, (2, 12))
    plain = small()
    for given in ({"dropout": 0.3}, {"embedding_dropout": 0.3}):
        model = small(**given)
        assert not torch.allclose(model.train()(ids), model(ids))
        assert torch.equal(model.eval()(ids), plain.eval()(ids))
        with pytest.raises(ValueError, match=rf"^{next(iter(given))}: got 1\.0, wants"):
            small(**{next(iter(given)): 1.0})
    assert torch.equal(plain.train()(ids), plain(ids))


def test_bfloat16_is_near():
    model, ids = small().eval(), torch.randint(11, (2, 12))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(ids)
    torch.testing.assert_close(half.float(), model(ids), rtol=0.05, atol=0.01)
