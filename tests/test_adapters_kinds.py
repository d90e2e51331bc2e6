"""Bottlenecks, soft prompts and maps in 4 bits, against transformers, peft and the paper."""

import copy
import warnings

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_adapters import drawn, ids_of, llama
from torch import nn
from transformers import XmodConfig
from transformers.models.xmod.modeling_xmod import XmodAdapter

from lib.adapters import files, fourbit, prompt
from lib.adapters.adapter import adapters, attach, trained
from lib.adapters.bottleneck import Bottleneck
from lib.adapters.files import AdapterError
from lib.adapters.fourbit import FourBit, coded, decoded, nf4, plain, quantise
from lib.adapters.lora import DoRA, LoRA, merge
from lib.adapters.prompt import SoftPrompt

# The table of the paper's appendix E, as published.
PAPER = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
CODES = {"nf4": nf4(), "plain": plain()}
each = pytest.mark.parametrize("codes", CODES.values(), ids=CODES)


# --- Bottlenecks -------------------------------------------------------------------


def test_a_bottleneck_is_that_of_transformers():
    torch.manual_seed(0)
    one = Bottleneck(nn.Linear(12, 24), 6)
    config = XmodConfig(hidden_size=24, adapter_reduction_factor=4, hidden_act="gelu")
    other = XmodAdapter(config)
    one.down.load_state_dict(other.dense1.state_dict())
    one.up.load_state_dict(other.dense2.state_dict())
    x = torch.randn(2, 5, 12)
    y = one.base(x)
    torch.testing.assert_close(one(x), y + other(y), rtol=0, atol=1e-6)
    one(x).square().sum().backward()
    mine = [p.grad for p in one.own()]
    (y + other(y)).square().sum().backward()
    theirs = [p.grad for p in other.parameters()]
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_bottleneck_starts_by_changing_nothing_and_cannot_be_merged(tmp_path):
    model, ids = llama(), ids_of()
    before = model(ids).logits
    attach(model, r".*\.(o|down)_proj", lambda base: Bottleneck(base, 5))
    assert model(ids).logits.equal(before)
    assert len(trained(model)) == 4 * 4
    with pytest.raises(ValueError, match="a Bottleneck adds no matrix"):
        merge(model)
    with pytest.raises(ValueError, match="Bottleneck"):
        files.save(model, tmp_path)
    for width in (0, 25):
        with pytest.raises(ValueError, match="width"):
            Bottleneck(nn.Linear(30, 24), width)
    half = Bottleneck(nn.Linear(4, 4).bfloat16(), 2)
    assert half(torch.randn(3, 4).bfloat16()).dtype == torch.bfloat16


# --- Soft prompts ------------------------------------------------------------------


def soft_pair(count=4):
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=count,
        token_dim=24,
        num_layers=2,
        num_attention_heads=4,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = peft.get_peft_model(llama(), config)
    mine = SoftPrompt(llama(), range(count))
    other.prompt_encoder["default"].embedding.weight.data.copy_(mine.prompt.data)
    return mine, other


def test_a_soft_prompt_is_that_of_peft():
    mine, other = soft_pair()
    ids = ids_of()
    a, b = mine(ids).logits, other(ids).logits[:, 4:]
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    last = mine(ids, logits_to_keep=2).logits
    torch.testing.assert_close(last, a[:, -2:], rtol=0, atol=1e-6)
    for logits in (a, b):
        logits.square().mean().backward()
    theirs = other.prompt_encoder["default"].embedding.weight.grad
    assert theirs.abs().max() > 0
    torch.testing.assert_close(mine.prompt.grad, theirs, rtol=1e-4, atol=1e-7)
    assert trained(mine) == [mine.prompt]


def test_soft_prompts_go_both_ways(tmp_path):
    mine, other = soft_pair()
    ids = ids_of()
    mine.prompt.data.normal_()
    prompt.save(mine, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = peft.PeftModel.from_pretrained(llama(), tmp_path / "ours")
    found = there(ids).logits[:, 4:]
    torch.testing.assert_close(found, mine(ids).logits, rtol=0, atol=1e-6)
    other.save_pretrained(tmp_path / "theirs")
    here = prompt.load(llama(), tmp_path / "theirs")
    found = here(ids).logits
    torch.testing.assert_close(found, other(ids).logits[:, 4:], rtol=0, atol=1e-6)


def test_soft_prompts_of_nothing_or_of_another_model(tmp_path):
    for start in ([], [40], [-1]):
        with pytest.raises(ValueError, match="start"):
            SoftPrompt(llama(), start)
    prompt.save(SoftPrompt(llama(), [1, 2]), tmp_path)
    with pytest.raises(AdapterError, match="for another model"):
        prompt.load(llama(hidden_size=32), tmp_path)
    with pytest.raises(AdapterError, match="PROMPT_TUNING"):
        files.load(llama(), tmp_path)
    model = llama()
    attach(model, r".*q_proj", LoRA)
    files.save(model, tmp_path)
    with pytest.raises(AdapterError, match="LORA"):
        prompt.load(llama(), tmp_path)


# --- Four bits ---------------------------------------------------------------------


def test_nf4_is_the_table_of_the_paper():
    torch.testing.assert_close(nf4(), torch.tensor(PAPER), rtol=0, atol=1e-7)
    assert (plain() * 7).round().tolist() == [*range(-7, 8)]


@each
@given(seed=st.integers(0, 99), rows=st.integers(1, 9), block=st.integers(1, 40))
def test_each_weight_gets_its_nearest_code(codes, seed, rows, block):
    weight = torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed))
    numbers, largest = coded(weight, codes, block)
    found = decoded(numbers, largest, codes, weight.shape)
    size = largest.repeat_interleave(block)[: weight.numel()].view(weight.shape)
    best = (weight[..., None] - size[..., None] * codes).abs().amin(-1)
    torch.testing.assert_close((weight - found).abs(), best, rtol=1e-5, atol=1e-6)
    at = weight.abs().argmax()  # the largest of all is the largest of its block: exact
    assert (found.flatten()[at] - weight.flatten()[at]).abs() < 1e-6
    again = coded(found, codes, block)
    torch.testing.assert_close(decoded(*again, codes, weight.shape), found)


@each
@pytest.mark.parametrize("double", [False, True])
def test_a_map_in_4_bits_packs_what_coded_says(codes, double):
    torch.manual_seed(0)
    base = nn.Linear(130, 33)  # neither whole blocks nor whole groups
    one = FourBit(base, codes, double=double)
    exact = decoded(*coded(base.weight, codes), codes, base.weight.shape)
    torch.testing.assert_close(one.weight, exact, rtol=0.02, atol=0)
    assert double or one.weight.equal(exact)
    assert one.sizes().shape == (68,)
    x = torch.randn(4, 130, requires_grad=True)
    one(x).square().sum().backward()
    gradient, x.grad = x.grad, None
    nn.functional.linear(x, one.weight, base.bias).square().sum().backward()
    assert gradient.equal(x.grad)
    assert one(x).equal(nn.functional.linear(x, one.weight, base.bias))
    assert one.packed.dtype == torch.uint8


def test_bits_for_a_weight():
    base = nn.Linear(1024, 1024)
    assert FourBit(base, nf4(), double=False).bits() == 4.5
    assert FourBit(base, nf4()).bits() == pytest.approx(4.127, abs=5e-4)  # the paper's


def test_the_error_of_nf4_on_normal_numbers_is_the_smaller():
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    errors = {}
    for name, codes in CODES.items():
        found = decoded(*coded(weight, codes), codes, weight.shape)
        errors[name] = (weight - found).square().mean().sqrt().item()
    assert errors["nf4"] < 0.95 * errors["plain"]


@pytest.mark.parametrize("kind", [LoRA, DoRA])
def test_adapters_are_trained_on_a_base_in_4_bits(kind):
    model, ids = llama(), ids_of()
    names = quantise(model, r".*_proj", nf4())
    assert len(names) == 14 and all(
        isinstance(model.get_submodule(n), FourBit) for n in names
    )
    kept = copy.deepcopy({k: v for k, v in model.state_dict().items()})
    attach(model, r".*\.(q|v)_proj", lambda base: kind(base, 3))
    drawn(model)
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in trained(model))
    after = {k.replace(".base.", "."): v for k, v in model.state_dict().items()}
    assert all(after[k].equal(v) for k, v in kept.items())
    with pytest.raises(ValueError, match="few bits"):
        merge(model)
    with pytest.raises(ValueError, match=r"a FourBit|a LoRA|a DoRA"):
        quantise(model, r".*q_proj", nf4())
    before = model(ids).logits
    assert len(fourbit.opened(model)) == 14
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-6)
    merge(model)
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
    assert len(adapters(model)) == 4


def test_what_cannot_be_put_in_4_bits():
    model = llama()
    with pytest.raises(ValueError, match="matches no module"):
        quantise(model, "nothing", nf4())
    with pytest.raises(ValueError, match="LlamaMLP"):
        quantise(model, r".*mlp", nf4())
    with pytest.raises(ValueError, match="finite"):
        coded(torch.tensor([1.0, float("nan")]), nf4())
    with pytest.raises(ValueError, match="block"):
        coded(torch.ones(3), nf4(), 0)
    empty = FourBit(nn.Linear(64, 4).requires_grad_(False), nf4())
    assert empty.weight.isfinite().all()
    zero = nn.Linear(64, 4)
    nn.init.zeros_(zero.weight)
    assert not FourBit(zero, nf4()).weight.any()
