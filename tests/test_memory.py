"""lib.memory: what is held and sent, against counts made another way."""

import pytest
import torch
from torch import nn

from lib import memory


def test_held_counts_each_storage_once():
    x = torch.zeros(10)
    assert memory.held([x, x[2:], None, x.view(2, 5)]) == 40
    assert memory.held([x, torch.zeros(3, dtype=torch.int8)]) == 43
    assert memory.held([]) == 0


def test_states_of_adam_are_two_numbers_a_weight():
    layer = nn.Linear(30, 20, bias=False)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.randn(2, 30)).sum().backward()
    adam.step()
    assert memory.states(adam) == pytest.approx(8 * 600, abs=16)  # and a step count


def test_saved_counts_activations_alone():
    layer = nn.Sequential(
        nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False)
    )
    x = torch.randn(5, 8)
    found = memory.saved(lambda: layer(x).sum(), layer.parameters())
    assert found == 4 * 5 * (
        8 + 16
    )  # the input, and ReLU's output, kept twice and held once
    assert memory.saved(lambda: layer(x).sum(), [*layer.parameters(), x]) == 4 * 5 * 16


def test_what_the_system_says():
    before = memory.resident()
    if before is None:
        pytest.skip("no /proc")
    big = torch.ones(25_000_000)
    assert 90e6 < memory.resident() - before < 120e6
    assert len(big) and memory.written() >= 0


def test_one_device_has_sixteen_bytes_a_parameter():
    found = memory.plan(7e9, 1, shard=3)
    assert found["weights"] + found["gradients"] + found["optimiser"] == 16 * 7e9
    assert found["sent"] == 0


@pytest.mark.parametrize(
    ("shard", "bytes_"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)]
)
def test_as_the_paper_says(shard, bytes_):
    """Figure 1 of ZeRO: 7.5 B parameters on 64 devices, GB without activations."""
    found = memory.plan(7.5e9, 64, shard=shard)
    layers = round((7.5e9 / 12 / memory.HEAD**2) ** (1 / 3))
    gathered = 4 * 7.5e9 / layers if shard == 3 else 0
    held = sum(found[k] for k in ("weights", "gradients", "optimiser")) - gathered
    assert held / 1e9 == pytest.approx(bytes_, abs=0.05)


def test_what_is_sent():
    assert memory.plan(1e9, 4)["sent"] == 2 * 0.75 * 2e9
    assert memory.plan(1e9, 4, shard=2)["sent"] == 2 * 0.75 * 2e9
    assert memory.plan(1e9, 4, shard=3)["sent"] == 3 * 0.75 * 2e9


def test_checkpointing_trades_memory_for_operations():
    plain, again = (memory.plan(7e9, 8, checkpoint=c) for c in (False, True))
    assert again["activations"] < plain["activations"] / 5
    assert again["operations"] / plain["operations"] == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((0, 1), "parameters"),
        ((float("inf"), 1), "parameters"),
        ((1e9, 0), "devices"),
        ((1e9, 2.0), "devices"),
        ((1e9, 2, 4), "shard"),
        ((1e9, 2, 0, 0), "tokens"),
    ],
)
def test_bad_input(given, told):
    names = ("shard", "tokens")
    with pytest.raises(ValueError, match=told):
        memory.plan(*given[:2], **dict(zip(names, given[2:], strict=False)))
