"""LoRA and its kin against `peft`: values, gradients, files both ways; and bad input."""

import copy
import json
import warnings

import peft
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lib.adapters import files
from lib.adapters.adapter import (
    Adapter,
    adapters,
    attach,
    check_width,
    detach,
    freeze,
    put,
    trained,
)
from lib.adapters.files import AdapterError
from lib.adapters.lora import DoRA, LoRA, RsLoRA, merge, unmerge

KINDS = {"LoRA": LoRA, "RsLoRA": RsLoRA, "DoRA": DoRA}
PATTERN = r".*\.(q|v)_proj"
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def llama(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = dict(vocab_size=40, hidden_size=24, intermediate_size=48)
    sizes |= dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    return LlamaForCausalLM(LlamaConfig(**(sizes | changes)))


def ids_of(seed=1):
    return torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(seed))


def drawn(model, seed=2):
    """All adapters' own tensors away from their start."""
    generator = torch.Generator().manual_seed(seed)
    for one in adapters(model).values():
        for p in one.own():
            p.data += 0.3 * torch.randn(p.shape, generator=generator)


def ours(kind, seed=0, rank=3, alpha=5.0):
    model = llama(seed)
    attach(model, PATTERN, lambda base: kind(base, rank, alpha))
    drawn(model)
    return model


def theirs(kind, seed=0, rank=3, alpha=5.0):
    rs, dora = files.KINDS[kind]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=PATTERN,
        use_rslora=rs,
        use_dora=dora,
        lora_dropout=0.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(llama(seed), config)


def copied(mine, other):
    """peft's parameter by the name of ours, after it got our values."""
    pairs = {}
    for name, one in adapters(mine).items():
        layer = other.base_model.model.get_submodule(name)
        found = {
            "A": layer.lora_A["default"].weight,
            "B": layer.lora_B["default"].weight,
        }
        if isinstance(one, DoRA):
            found["magnitude"] = layer.lora_magnitude_vector["default"].weight
        for key, p in found.items():
            p.data.copy_(getattr(one, key).data)
            pairs[name, key] = p
    return pairs


# --- Against peft ------------------------------------------------------------------


@each
def test_values_and_gradients_are_those_of_peft(kind):
    mine, other, ids = ours(kind), theirs(kind), ids_of()
    pairs = copied(mine, other)
    a, b = (m(ids, labels=ids) for m in (mine, other))
    torch.testing.assert_close(a.logits, b.logits, rtol=0, atol=1e-6)
    a.loss.backward()
    b.loss.backward()
    for (name, key), p in pairs.items():
        gradient = getattr(mine.get_submodule(name), key).grad
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, p.grad, rtol=1e-5, atol=1e-7)
    own = sum(p.numel() for p in trained(mine))
    assert own == other.get_nb_trainable_parameters()[0]


@each
def test_peft_loads_what_is_saved_here(kind, tmp_path):
    mine, ids = ours(kind), ids_of()
    files.save(mine, tmp_path, "a small llama")
    other = peft.PeftModel.from_pretrained(llama(), tmp_path)
    torch.testing.assert_close(other(ids).logits, mine(ids).logits, rtol=0, atol=1e-6)


@each
def test_what_peft_saves_is_loaded_here(kind, tmp_path):
    mine, other, ids = ours(kind), theirs(kind), ids_of()
    copied(mine, other)
    other.save_pretrained(tmp_path)
    model = llama()
    assert files.load(model, tmp_path) == [*adapters(mine)]
    torch.testing.assert_close(model(ids).logits, other(ids).logits, rtol=0, atol=1e-6)
    assert {type(one) for one in adapters(model).values()} == {kind}
    again = tmp_path / "again"
    files.save(model, again)
    a, b = (safetensors.torch.load_file(f / files.TENSORS) for f in (tmp_path, again))
    assert a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)


def test_other_ranks_by_module_are_read(tmp_path):
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=PATTERN, rank_pattern={"v_proj": 5}
    )
    other = peft.get_peft_model(llama(), config)
    for p in other.parameters():
        if p.requires_grad:
            p.data.normal_()
    other.save_pretrained(tmp_path)
    model, ids = llama(), ids_of()
    files.load(model, tmp_path)
    ranks = {n.split(".")[-1]: m.rank for n, m in adapters(model).items()}
    assert ranks == {"q_proj": 2, "v_proj": 5}
    torch.testing.assert_close(model(ids).logits, other(ids).logits, rtol=0, atol=1e-6)


# --- Merging -----------------------------------------------------------------------


@each
def test_merged_equals_unmerged(kind):
    model, ids = ours(kind), ids_of()
    before, kept = model(ids).logits, copy.deepcopy(model.state_dict())
    merge(model)
    merge(model)  # a second time changes nothing
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
    changed = model.state_dict()
    assert any(not changed[k].equal(kept[k]) for k in kept)
    unmerge(model)
    assert all(v.equal(kept[k]) for k, v in model.state_dict().items())
    assert model(ids).logits.equal(before)
    merge(model)
    detach(model)
    assert not adapters(model)
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
    assert model.state_dict().keys() == llama().state_dict().keys()


def test_in_bfloat16_a_merge_rounds_and_unmerge_does_not():
    model = nn.Sequential(nn.Linear(64, 64)).bfloat16()
    attach(model, "0", lambda base: LoRA(base, 4, 8))
    drawn(model)
    x, start = torch.randn(16, 64).bfloat16(), model[0].base.weight.clone()
    apart = model(x)
    assert model[0].A.dtype == torch.float32 and apart.dtype == torch.bfloat16
    merge(model)
    assert model[0].base.weight.dtype == torch.bfloat16
    gap = (model(x) - apart).abs().max()
    assert 0 < gap < 0.2
    unmerge(model)
    assert model[0].base.weight.equal(start)


def test_merge_refuses_what_it_would_spoil():
    with pytest.raises(ValueError, match="no adapter"):
        merge(llama())
    model = llama(tie_word_embeddings=True)
    attach(model, r"lm_head|.*q_proj", LoRA)
    kept = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="lm_head: another module holds"):
        merge(model)
    assert all(v.equal(kept[k]) for k, v in model.state_dict().items())

    class Other(Adapter):
        def forward(self, x):
            return self.base(x)

    model = llama()
    attach(model, r".*q_proj", Other)
    with pytest.raises(ValueError, match="a Other adds no matrix"):
        merge(model)


# --- Properties --------------------------------------------------------------------


@each
@given(rank=st.integers(1, 12), alpha=st.floats(0.1, 64), seed=st.integers(0, 99))
def test_an_adapter_starts_by_changing_nothing(kind, rank, alpha, seed):
    torch.manual_seed(seed)
    base, x = nn.Linear(12, 20), torch.randn(5, 12)
    torch.testing.assert_close(kind(base, rank, alpha)(x), base(x), rtol=0, atol=1e-6)


@given(rank=st.integers(1, 12))
def test_scale_and_rank(rank):
    base = nn.Linear(12, 20, bias=False)
    one, root = LoRA(base, rank, 6.0), RsLoRA(base, rank, 6.0)
    assert one.scale == 6 / rank and root.scale == 6 / rank**0.5
    nn.init.normal_(one.B)
    added = one.weight() - base.weight
    assert torch.linalg.matrix_rank(added.detach()) == rank


def test_only_adapters_are_trained():
    model = llama()
    names = attach(model, PATTERN, LoRA)
    assert names == [
        f"model.layers.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "qv"
    ]
    start = copy.deepcopy(model.state_dict())
    ids, steps = ids_of(), torch.optim.Adam(trained(model), 0.01)
    for _ in range(3):
        steps.zero_grad()
        model(ids, labels=ids).loss.backward()
        steps.step()
    for name, value in model.state_dict().items():
        own = name.endswith((".A", ".B"))
        assert value.equal(start[name]) != own, name
    attach(model, r".*\.down_proj", LoRA)  # the first ones go on
    assert len(trained(model)) == 2 * 6
    freeze(model)
    detach(model)
    with pytest.raises(ValueError, match="no parameter"):
        trained(model)


def test_dropout_and_evaluation_follow_the_base():
    model = llama().eval()
    attach(model, PATTERN, LoRA)
    assert not any(m.training for m in model.modules())


# --- Bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, -1, 25, 2.0, True])
def test_a_rank_out_of_range_is_named_and_nothing_lost(rank):
    model = llama()
    with pytest.raises(ValueError, match=r"rank: got .* 1 to 12"):
        attach(model, PATTERN.replace("q|", ""), lambda base: LoRA(base, rank))
    assert not adapters(model) and all(p.requires_grad for p in model.parameters())
    if isinstance(rank, int):
        with pytest.raises(ValueError, match="bottleneck"):
            check_width("bottleneck", 0, nn.Linear(3, 4))


@pytest.mark.parametrize("alpha", [0, -2.0, float("nan"), float("inf")])
def test_an_alpha_that_is_none(alpha):
    with pytest.raises(ValueError, match="alpha"):
        LoRA(nn.Linear(4, 4), 2, alpha)


def test_a_pattern_that_names_nothing_or_no_linear_map():
    model = llama()
    with pytest.raises(ValueError, match=r"matches no module.*q_proj"):
        attach(model, r"model\.layers\.\d+\.self_attn\.q_prj", LoRA)
    with pytest.raises(ValueError, match="a LlamaAttention"):
        attach(model, r".*\.self_attn", LoRA)
    attach(model, PATTERN, LoRA)
    with pytest.raises(ValueError, match="has an adapter already"):
        attach(model, PATTERN, LoRA)
    put(model, "lm_head", nn.Identity())
    with pytest.raises(ValueError, match="Identity"):
        attach(model, "lm_head", LoRA)


def test_an_adapter_of_another_model_changes_nothing(tmp_path):
    files.save(ours(LoRA), tmp_path)
    for changes, said in (
        ({"num_hidden_layers": 1}, "no linear map model.layers.1"),
        ({"hidden_size": 32}, "wants"),
    ):
        model = llama(**changes)
        with pytest.raises(AdapterError, match=f"for another model: .*{said}"):
            files.load(model, tmp_path)
        assert not adapters(model) and all(p.requires_grad for p in model.parameters())
    model = ours(LoRA)
    with pytest.raises(AdapterError, match="has an adapter already"):
        files.load(model, tmp_path)


def test_files_that_are_not_what_they_should_be(tmp_path):
    model = ours(LoRA)
    with pytest.raises(AdapterError, match="no such file"):
        files.load(llama(), tmp_path)
    files.save(model, tmp_path)
    config = json.loads((tmp_path / files.CONFIG).read_text())

    def changed(**settings):
        (tmp_path / files.CONFIG).write_text(json.dumps(config | settings))
        return llama()

    for settings in ({"bias": "all"}, {"alpha_pattern": {"q_proj": 3}}):
        with pytest.raises(AdapterError, match=next(iter(settings))):
            files.load(changed(**settings), tmp_path)
    with pytest.raises(AdapterError, match="IA3"):
        files.load(changed(peft_type="IA3"), tmp_path)
    with pytest.raises(AdapterError, match="together"):
        files.load(changed(use_dora=True, use_rslora=True), tmp_path)
    with pytest.raises(AdapterError, match="magnitude"):
        files.load(changed(use_dora=True), tmp_path)
    (tmp_path / files.CONFIG).write_text("{")
    with pytest.raises(AdapterError, match="damaged"):
        files.load(llama(), tmp_path)
    changed()
    (tmp_path / files.TENSORS).write_bytes(b"no tensors at all")
    with pytest.raises(AdapterError, match="damaged"):
        files.load(llama(), tmp_path)
    files.write(tmp_path, config, {"somewhere.weight": torch.zeros(2)})
    with pytest.raises(AdapterError, match="no tensor of LoRA"):
        files.load(llama(), tmp_path)
    assert files.read(tmp_path)[0] == config


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="one rank"):
        files.save(llama(), tmp_path)
    model = ours(LoRA)
    attach(model, r".*\.down_proj", lambda base: LoRA(base, 2))
    with pytest.raises(ValueError, match=r"LoRA 2, 16\.0"):
        files.save(model, tmp_path)
    assert not [*tmp_path.iterdir()]
    assert set(files.parts(DoRA(nn.Linear(4, 4), 2))) >= {"lora_magnitude_vector"}
