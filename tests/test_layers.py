"""lib.layers against torch's own norms, and the study of train.layer_norm."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from lib import layers, training, weights
from lib.data import shakespeare
from lib.layers import (
    MLP,
    WIRINGS,
    DeepMLP,
    GatedMLP,
    LayerNorm,
    PostNorm,
    PreNorm,
    Residual,
    RMSNorm,
    residual_block,
)
from train import feed_forward
from train import layer_norm as study

quick = settings(max_examples=40)


@st.composite
def problems(draw, dtype=torch.float64):
    """x (..., D) of any scale and place, γ, β (D,) and eps."""
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=3))
    D = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    scale, place = draw(st.sampled_from([0.01, 1.0, 30.0])), draw(st.integers(-5, 5))

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=dtype)

    eps = draw(st.sampled_from([1e-5, 1e-3, 0.1]))
    return scale * normal(*shape, D) + place, normal(D), normal(D), eps


def values_and_gradients(function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    output = function(*inputs)
    toward = torch.linspace(-1, 2, output.numel(), dtype=output.dtype)
    (output * toward.view_as(output)).sum().backward()
    return [output.detach(), *(x.grad for x in inputs)]


def ours(norm, x, **parameters):
    return torch.func.functional_call(norm, parameters, (x,))


@quick
@given(problems())
def test_layer_norm_has_the_values_and_gradients_of_torch(problem):
    *inputs, eps = problem
    D = inputs[0].shape[-1]
    norm = LayerNorm(D, eps)
    mine = values_and_gradients(
        lambda x, w, b: ours(norm, x, weight=w, bias=b), *inputs
    )
    theirs = values_and_gradients(
        lambda x, w, b: F.layer_norm(x, (D,), w, b, eps), *inputs
    )
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-8)


@quick
@given(problems())
def test_rms_norm_has_the_values_and_gradients_of_torch(problem):
    x, weight, _, eps = problem
    D = x.shape[-1]
    norm, reference = RMSNorm(D, eps), nn.RMSNorm(D, eps)
    mine = values_and_gradients(lambda x, w: ours(norm, x, weight=w), x, weight)
    theirs = values_and_gradients(lambda x, w: ours(reference, x, weight=w), x, weight)
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-8)


@quick
@given(problems(dtype=torch.float32))
def test_single_precision(problem):
    x, _, _, eps = problem
    D = x.shape[-1]
    assert_close(
        LayerNorm(D, eps)(x), F.layer_norm(x, (D,), eps=eps), rtol=0, atol=1e-3
    )


HALVES = [torch.float16, torch.bfloat16]


def rounded_once(ours, exact):
    """Half precision at most half a unit from `exact`, float64: no rounding inside."""
    assert ours.dtype in HALVES
    unit = torch.finfo(ours.dtype).eps
    assert_close(ours.double(), exact, rtol=0.51 * unit, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_norms_of_half_precision_are_those_of_torch(kind, dtype):
    signs = torch.tensor([256.0, -256.0], dtype=dtype).repeat(32)  # squares: 65,536
    ours, reference = getattr(layers, kind)(64).half(), getattr(nn, kind)(64, 1e-5)
    assert ours.to(dtype)(signs).tolist() == signs.sign().tolist()
    generator = torch.Generator().manual_seed(0)
    for scale, place in ((1e-3, 0), (1, 3), (300, 0), (3000, 9000)):
        x = (scale * torch.randn(50, 64, generator=generator) + place).to(dtype)
        for parameter in ours.parameters():
            parameter.data = torch.randn(64, generator=generator).to(dtype)
        reference.load_state_dict(ours.state_dict())
        exact = reference.double()(x.double())
        rounded_once(ours(x), exact)
        mine, theirs = (
            values_and_gradients(norm.to(dtype), x) for norm in (ours, reference)
        )
        for a, b in zip(mine, theirs, strict=True):
            unit = torch.finfo(dtype).eps  # a gradient's terms cancel
            assert_close(a, b, rtol=2 * unit, atol=2 * unit * b.abs().max().item())


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_a_norm_of_float32_makes_half_precision_float32(kind):
    x = torch.randn(3, 8).bfloat16()  # as under autocast
    assert_close(kind(8)(x), kind(8)(x.float()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_of_half_precision_is_that_of_torch(form, dtype):
    ours = layers.gelu if form == "none" else layers.gelu_tanh
    x = torch.cat([torch.linspace(-12, 12, 999), torch.linspace(-6e4, 6e4, 99)])
    x = x.to(dtype)
    rounded_once(ours(x), F.gelu(x.double(), approximate=form))
    unit = torch.finfo(dtype).eps
    assert_close(ours(x), F.gelu(x, approximate=form), rtol=unit, atol=1e-6)


@quick
@given(problems())
def test_a_token_is_normalised_alone(problem):
    x, _, _, eps = problem
    x = x.reshape(-1, x.shape[-1])
    for norm in (LayerNorm(x.shape[-1], eps), RMSNorm(x.shape[-1], eps)):
        norm.double()
        rows = torch.stack([norm(row) for row in x])
        assert_close(norm(x), rows, rtol=1e-12, atol=1e-12)


@quick
@given(problems(), st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_place_of_a_token_do_not_matter(problem, scale, place):
    x = problem[0].reshape(-1, problem[0].shape[-1])
    D = x.shape[-1]
    x = x / x.std(-1, correction=0, keepdim=True).clamp(min=1e-3)
    if D < 2:
        return
    layer, rms = LayerNorm(D, 1e-12).double(), RMSNorm(D, 1e-12).double()
    assert_close(layer(scale * x + place), layer(x), rtol=0, atol=1e-5)
    assert_close(rms(scale * x), rms(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "reference"), [(LayerNorm, nn.LayerNorm), (RMSNorm, nn.RMSNorm)]
)
def test_the_state_dict_of_torch_loads(kind, reference):
    kind(8).load_state_dict(reference(8).state_dict())
    assert not list(kind(8).buffers())  # μ and σ are not kept


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_bad_input(kind):
    with pytest.raises(ValueError, match=r"x: got the shape \(2, 5\), .* 4 features"):
        kind(4)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="last axis of 1 features"):
        kind(1)(torch.tensor(3.0))
    for eps in (0, -1e-5, float("nan")):
        with pytest.raises(ValueError, match="eps: got"):
            kind(4, eps=eps)
    for features in (0, -3, 2.5):
        with pytest.raises(ValueError, match="features: got"):
            kind(features)


def test_where_the_norm_goes():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    branch, norm = nn.Linear(4, 4), LayerNorm(4)
    assert_close(Residual(branch)(x), x + branch(x))
    assert_close(PostNorm(branch, norm)(x), F.layer_norm(x + branch(x), (4,)))
    assert_close(PreNorm(branch, norm)(x), x + branch(F.layer_norm(x, (4,))))
    assert isinstance(residual_block("rms", 4, 8).norm, RMSNorm)
    with pytest.raises(
        ValueError, match="wiring: got 'batch', wants one of none, post"
    ):
        residual_block("batch", 4, 8)


def test_gelu_in_both_forms_is_that_of_torch():
    x = torch.cat([torch.linspace(-50, 50, 999), torch.tensor([0.0])]).double()
    assert_close(layers.gelu(x), F.gelu(x), rtol=0, atol=1e-12)
    tanh = F.gelu(x, approximate="tanh")
    assert_close(layers.gelu_tanh(x), tanh, rtol=0, atol=1e-12)
    gap = (layers.gelu(x) - layers.gelu_tanh(x)).abs().max()
    assert 1e-4 < gap < 5e-4  # as the docstring says


@pytest.mark.parametrize("kind", [MLP, GatedMLP])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.integers(1, 7))
def test_an_mlp_acts_on_each_token_alone(kind, seed, T):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, T, 6, generator=generator)
    order = torch.randperm(T, generator=generator)
    mlp = kind(6, 10)
    with torch.no_grad():
        assert_close(mlp(x[:, order]), mlp(x)[:, order])
        others = torch.randn(2, T, 6, generator=generator)
        others[:, 0] = x[:, 0]
        assert_close(mlp(others)[:, 0], mlp(x)[:, 0])
        assert mlp(x[:, :0]).shape == (2, 0, 6)


def test_the_mlps_of_transformers():
    from transformers import GPT2Config, LlamaConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
    from transformers.models.llama.modeling_llama import LlamaMLP

    x = torch.randn(2, 5, 12)
    gpt2 = GPT2MLP(48, GPT2Config(n_embd=12, resid_pdrop=0.0)).eval()
    ours = MLP(12, 48, layers.gelu_tanh)
    names = {"up": gpt2.c_fc, "down": gpt2.c_proj}
    state = {f"{name}.weight": layer.weight.mT for name, layer in names.items()}
    ours.load_state_dict(
        state | {f"{n}.bias": layer.bias for n, layer in names.items()}
    )
    assert_close(ours(x), gpt2(x), rtol=0, atol=1e-5)
    llama = LlamaMLP(
        LlamaConfig(hidden_size=12, intermediate_size=32, num_attention_heads=4)
    ).eval()
    state = {k.replace("_proj", ""): v for k, v in llama.state_dict().items()}
    ours = GatedMLP(12, 32)
    ours.load_state_dict(state)
    assert_close(ours(x), llama(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "mlp", [lambda: MLP(256, 1024), lambda: GatedMLP(256, 680, layers.gelu)]
)
def test_an_mlp_starts_with_the_mean_square_of_its_input(mlp):
    torch.manual_seed(0)
    with torch.no_grad():
        size = mlp()(torch.randn(500, 256)).square().mean().item()
    assert 0.7 < size < 1.4


@pytest.mark.parametrize("kind", [MLP, GatedMLP])
def test_bad_widths_of_an_mlp(kind):
    with pytest.raises(ValueError, match=r"x: got the shape \(2, 5\), .* 4 features"):
        kind(4, 8)(torch.zeros(2, 5))
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="d_model: got"):
            kind(bad, 8)
        with pytest.raises(ValueError, match="hidden: got"):
            kind(8, bad)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_stream_grows_as_the_initialisation_says(wiring):
    """Mean square after k blocks: 2^k without norm, 1 + k before, 1 after."""
    torch.manual_seed(0)
    model = DeepMLP(wiring, 12, d_model=256, hidden=512)
    x = torch.randn(64, 256)
    for block in model.blocks:
        x = block(x)
    wanted = {"none": 2.0**12, "post": 1.0, "pre": 13.0, "rms": 13.0}[wiring]
    assert 0.5 < x.square().mean().item() / wanted < 2


def test_a_deep_mlp_keeps_scale_at_both_ends():
    torch.manual_seed(0)
    model = DeepMLP("pre", 3, inputs=400, d_model=300, hidden=20, classes=200)
    for layer, width in ((model.stem, 400), (model.readout, 300)):
        assert layer.weight.shape[1] == width and not layer.bias.any()
        assert abs(layer.weight.std().item() * width**0.5 - 1) < 0.02
    assert len(model.blocks) == 3 and isinstance(model.last_norm, LayerNorm)
    assert model.blocks[0].branch.up.out_features == 20
    sizes = [tuple(p.shape) for p in DeepMLP("none", 1).parameters()]
    assert sizes == [
        (64, 64),
        (64,),
        (128, 64),
        (128,),
        (64, 128),
        (64,),
        (10, 64),
        (10,),
    ]


@pytest.mark.parametrize(
    ("wiring", "kind", "norm", "last"),
    [
        ("none", Residual, None, nn.Identity),
        ("post", PostNorm, LayerNorm, nn.Identity),
        ("pre", PreNorm, LayerNorm, LayerNorm),
        ("rms", PreNorm, RMSNorm, RMSNorm),
    ],
)
def test_what_a_wiring_is(wiring, kind, norm, last):
    block = residual_block(wiring, 4, 8)
    assert type(block) is kind and block.branch.up.out_features == 8
    assert norm is None or type(block.norm) is norm
    assert type(DeepMLP(wiring, 1).last_norm) is last


@pytest.mark.parametrize("wiring", WIRINGS)
def test_deep_mlp_shapes(wiring):
    assert DeepMLP(wiring, 2)(torch.zeros(3, 5, 64)).shape == (3, 5, 10)
    assert isinstance(DeepMLP(wiring, 2).last_norm, nn.Identity) == (
        wiring in ("none", "post")
    )


# --- The study ------------------------------------------------------------------------


@pytest.mark.parametrize("name", study.NETWORKS)
def test_runs_trained_together_equal_separate_runs(name):
    x, y, x_val, y_val = study.digits()
    rate, seeds = 1e-3, (3, 4)
    together, curve = study.train_together(name, 6, rate, True, seeds, steps=10)
    for run, seed in enumerate(seeds):
        model, order = study.network(name, 6, seed), study.batches(seed)
        optimiser = torch.optim.Adam(model.parameters(), lr=rate)
        for step in range(10):
            picks = torch.randint(len(x), (study.BATCH,), generator=order)
            optimiser.param_groups[0]["lr"] = study.rate_at(step, rate, True)
            optimiser.zero_grad()
            F.cross_entropy(model(x[picks]), y[picks]).backward()
            optimiser.step()
        for key, parameter in model.named_parameters():
            assert_close(together[key][run], parameter, rtol=0, atol=1e-4)
        accuracy = (model(x_val).argmax(-1) == y_val).float().mean().item()
        assert abs(accuracy - curve[-1][1][run]) < 0.01


def test_the_split_is_fixed_and_holds_every_image_once():
    x, y, x_val, y_val = study.digits()
    assert x.shape == (1297, 64) and x_val.shape == (500, 64)
    assert_close(x, study.digits()[0])
    assert len(torch.cat([x, x_val]).unique(dim=0)) == 1797
    assert set(y.tolist()) == set(y_val.tolist()) == set(range(10))


def test_the_rate_rises_and_stays():
    rates = [study.rate_at(step, 0.3, True) for step in range(study.STEPS)]
    assert rates[0] == pytest.approx(0.3 / study.WARM_UP)
    assert rates[study.WARM_UP - 1] == rates[-1] == 0.3
    assert rates == sorted(rates)
    assert study.rate_at(0, 0.3, False) == 0.3


def test_the_border_is_where_no_norm_and_post_ln_are_least_settled():
    cells = {
        study.map_key(name, depth, rate, warm): {"accuracy": [0.95] * 3}
        for name in study.WIRINGS
        for depth in study.DEPTHS
        for rate in study.RATES
        for warm in (False, True)
    }

    def fails(name, depth, rate, warm_up):
        cells[study.map_key(name, depth, rate, warm_up)] = {"accuracy": [0.1] * 3}

    assert study.border(cells) == (48, 3e-4)  # nothing is unsettled: the deepest
    for warm_up in (False, True):
        fails("none", 48, 1e-1, warm_up)  # a settled failure is no border
    fails("pre", 6, 1e-1, False)  # nor does Pre-LN decide
    fails("post", 24, 1e-2, False)
    assert study.border(cells) == (24, 1e-2)


def test_a_killed_study_goes_on_where_it_was(tmp_path):
    calls = []

    def job(key, fails=False):
        def run():
            calls.append(key)
            if fails:
                raise KeyboardInterrupt
            return {"accuracy": [1.0], "key": key}

        return run

    with pytest.raises(KeyboardInterrupt):
        study.Cells(tmp_path).work("t", {"a": job("a"), "b": job("b", fails=True)})
    done = study.Cells(tmp_path).work("t", {"a": job("a"), "b": job("b")})
    assert calls == ["a", "b", "b"]
    assert done["a"]["key"] == "a" and done["b"]["key"] == "b"
    assert not list(tmp_path.rglob("*.tmp"))


def test_processes_share_the_cells(tmp_path, monkeypatch):
    jobs = {key: lambda: {} for key in "abcd"}
    cells = study.Cells(tmp_path)
    for key in "bd":  # as the other process would
        training.kept(cells.folder, key, lambda: {"from": "other"})
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = study.Cells(tmp_path).work("t", jobs)
    assert list(done) == list("abcd") and done["b"] == {"from": "other"}


def test_the_shipped_trace_is_whole_and_agrees_with_its_card():
    trace, card = weights.trace(study.NAME), weights.card(study.NAME)
    assert len(trace["map"]) == len(study.map_settings()) == 4 * 48 + 24
    cells = {
        study.map_key(c["network"], c["depth"], c["rate"], c["warm_up"]): c
        for c in trace["map"]
    }
    depth, rate = study.border(cells)
    assert trace["border"] == {"depth": depth, "rate": rate}
    at_border = [c for c in trace["ten"] if c["rate"] == rate]
    runs = [a for c in at_border if c["network"] in WIRINGS for a in c["accuracy"]]
    assert len(runs) == 80
    assert all(len(c["accuracy"]) == len(study.SEEDS) for c in trace["ten"])
    assert card["metrics"]["slowest_run_cpu_seconds"] <= 60
    film = trace["film"]
    assert set(film["runs"]) == set(WIRINGS)
    for run in film["runs"].values():
        streams = torch.tensor(run["streams"])  # (frames, blocks, bins)
        assert streams.shape == (
            len(film["steps"]),
            len(film["blocks"]),
            len(film["edges"]) - 1,
        )
        assert_close(streams.sum(-1), torch.ones(streams.shape[:2]), rtol=0, atol=0.01)
        assert all(len(sizes) == film["depth"] + 1 for sizes in run["sizes"])
    variants = {c["network"]: c["accuracy"] for c in trace["variants"]}
    assert tuple(variants) == study.VARIANTS
    assert all(len(runs) == len(study.SEEDS) for runs in variants.values())


def test_a_variant_changes_one_thing():
    def parts(name):
        model = study.network(name, 5, 0)
        norms = [getattr(block, "norm", None) for block in model.blocks]
        down = torch.stack([block.branch.down.weight for block in model.blocks])
        return down, [type(norm) for norm in norms], type(model.last_norm)

    down, none, identity = parts("none")
    small = down / torch.arange(1, 6)[:, None, None] ** 0.5
    _, pre, last = parts("pre")
    _, post, _ = parts("post")
    bare = [nn.LayerNorm] * 5
    wanted = {
        "pre-bare": (down, bare, nn.LayerNorm),
        "pre-open": (down, pre, identity),
        "none-last": (down, none, last),
        "none-sized": (small, none, identity),
        "none-sized-last": (small, none, last),
        "post-sized": (small, post, identity),
        "post-rms": (down, [RMSNorm] * 5, identity),
    }
    assert tuple(wanted) == study.VARIANTS
    for name, (weight, norms, final) in wanted.items():
        found = parts(name)
        assert_close(found[0], weight)
        assert found[1:] == (norms, final), name
    assert not list(study.network("pre-bare", 5, 0).blocks[0].norm.parameters())


def test_the_stream_that_is_filmed():
    model = study.network("pre", 6, 0)
    seen = study.look(model, study.digits()[2][:50])
    assert len(seen["sizes"]) == 7 and len(seen["streams"]) == 2  # blocks 1 and 6
    hidden = model.blocks[0](model.stem(study.digits()[2][:50]))
    assert seen["sizes"][1] == pytest.approx(hidden.square().mean().sqrt().item(), 0.01)
    spread = hidden.var(0, correction=0).mean() / hidden.square().mean()
    assert seen["apart"][0] == pytest.approx(spread.item(), abs=1e-3)
    assert seen["affine"] == [[1, 0, 0, 0]] * 2


def test_a_recorded_start_is_computed_again():
    recorded = weights.trace(study.NAME)["gradients"]
    for name in study.NETWORKS:
        again = study.gradients(name, 24, 0)["norms"]
        assert_close(
            torch.tensor(again), torch.tensor(recorded[name][0]), rtol=1e-2, atol=1e-8
        )


def test_all_models_of_the_comparison_have_about_the_same_size():
    sizes = {
        setting: feed_forward.count(
            feed_forward.small_model(*setting, feed_forward.width_of(*setting[:2]))
        )
        for setting in feed_forward.SETTINGS
    }
    assert len(sizes) == 13
    assert max(sizes.values()) < 1.025 * min(sizes.values())


def test_the_character_model_is_causal():
    model = feed_forward.small_model(2, True, True, 16)
    ids = torch.randint(65, (1, 12))
    later = torch.cat([ids[:, :7], (ids[:, 7:] + 1) % 65], 1)
    with torch.no_grad():
        assert_close(model(ids)[:, :7], model(later)[:, :7])


def test_the_shipped_character_model_is_what_its_card_says():
    name = feed_forward.NAME
    trace, card = weights.trace(name), weights.card(name)
    assert card["config"] == json.loads(json.dumps(feed_forward.CONFIG))
    assert [
        tuple(c[k] for k in ("expansion", "gated", "residual"))
        for c in trace["comparison"]
    ] == list(feed_forward.SETTINGS)
    assert all(len(c["test"]) == len(feed_forward.SEEDS) for c in trace["comparison"])
    model = feed_forward.as_language_model(feed_forward.shipped_model(0))
    found = {k: v for k, v in weights.tensors(name).items() if k.startswith("trained")}
    model.load_state_dict(
        {k.removeprefix("trained/"): v.float() for k, v in found.items()}
    )
    play = shakespeare.tiny_shakespeare()
    if not play.is_full:
        pytest.skip(play.notice)
    letters, splits = feed_forward.text_splits()
    assert letters == trace["letters"]
    loss = feed_forward.loss_on(model, splits["test"][:20_000], 128)
    assert abs(loss - card["metrics"]["test_loss_nats_per_character"]) < 0.15


def test_every_public_name_says_what_it_is():
    for name in (
        "LayerNorm",
        "RMSNorm",
        "DeepMLP",
        "residual_block",
        "MLP",
        "GatedMLP",
        "gelu",
        "gelu_tanh",
    ):
        assert getattr(layers, name).__doc__
