"""lib.lens.lenses: the last layer's lens is the model, a translator comes near it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lib.lens import hooks, lenses

V, D, N = 30, 8, 200


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(V, (8, 25))
    with torch.no_grad(), hooks.reading(model, r"model\.layers\.\d") as found:
        logits = model(ids, use_cache=False).logits
    return model, [x.flatten(0, 1) for x in found.values()], logits.flatten(0, 1)


@torch.no_grad()
def test_the_lens_at_the_last_layer_is_the_model(run):
    model, states, logits = run
    read = lenses.readout(model)
    torch.testing.assert_close(read(states[-1]), logits)
    assert lenses.divergence(read(states[-1]), logits).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"Linear has no model\.norm"):
        lenses.readout(nn.Linear(2, 2))


def test_divergence_by_hand():
    told, final = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.75, 0.25]]).log()
    wanted = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert lenses.divergence(told, final).item() == pytest.approx(wanted)


def test_a_linear_map_is_ridge_regression_of_what_changes(run):
    _, states, _ = run
    X, Y = states[0].double(), states[-1].double()
    centred = X - X.mean(0)
    strength = 0.01 * centred.square().sum().item() / D
    theirs = Ridge(alpha=strength).fit(X.numpy(), (Y - X).numpy())
    ours = lenses.linear_map(states[0], states[-1])
    wanted = theirs.predict(X.numpy()) + X.numpy()
    np.testing.assert_allclose(ours(states[0]).numpy(), wanted, atol=1e-4)


def test_a_map_of_a_layer_to_itself_is_the_identity(run):
    _, states, _ = run
    found = lenses.linear_map(states[-1], states[-1])
    torch.testing.assert_close(found(states[-1]), states[-1])
    for wrong in (states[-1][:1], states[-1][:, 1:]):
        with pytest.raises(ValueError, match="states, last"):
            lenses.linear_map(wrong, states[-1])


@torch.no_grad()
def test_a_tuned_lens_is_nearer_to_the_answer_on_other_states(run):
    model, states, logits = run
    read, half = lenses.readout(model), N // 2
    with torch.enable_grad():
        lens = lenses.tuned(states[0][:half], logits[:half], read, steps=200)
    kl = lambda x: lenses.divergence(read(x), logits[half:]).mean()  # noqa: E731
    assert kl(lens(states[0][half:])) < kl(states[0][half:])
    assert not any(p.requires_grad for p in lens.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_tuned_lens_starts_as_the_logit_lens(run):
    model, states, logits = run
    read = lenses.readout(model)
    found = lenses.tuned(states[0], logits, read, steps=1, rate=0.0)
    torch.testing.assert_close(found(states[0]), states[0])
    start = lenses.linear_map(states[0], states[-1])
    found = lenses.tuned(states[0], logits, read, steps=1, rate=0.0, start=start)
    assert torch.equal(found.weight, start.weight)
    with pytest.raises(ValueError, match="wants one a state"):
        lenses.tuned(states[0], logits[1:], read)
