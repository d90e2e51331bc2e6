"""The position bench in small: every part of it runs, and a killed one goes on."""

import pytest
import torch

from train import positions as bench


@pytest.fixture
def tiny(monkeypatch):
    """Two layers of width 8 on made text, two schemes a side, three steps."""
    small = {
        "WIDTH": 8, "HEADS": 2, "LENGTH": 8, "BATCH": 2, "SCORED": 4,
        "LENGTHS": (8, 16, 32), "TUNED": (16,), "STEPS": 2,
        "TRIAL_STEPS": dict.fromkeys(bench.SCHEMES, 1),
        "TUNE_STEPS": 1, "SEEDS": (0, 1),
        "STRIDE": 64, "SCALES": {"rope": ((10.0, 100.0), 10.0)},
        "RATES": (0.008, 0.016),
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    ids = torch.randint(7, (4000,), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(bench, "text", lambda: ids.tensor_split([2000, 3000]))
    return ids


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    trace = goes_on(bench.study, bench, "run", stops=[6])
    runs = [len(found["runs"]) for found in trace["schemes"].values()]
    assert runs == [2] * len(bench.SCHEMES)


def found_scale(trace, scheme):
    return trace["schemes"][scheme]["chosen"]["scale"]


def test_what_the_trace_holds(tiny, tmp_path):
    trace = bench.study(tmp_path)
    assert set(trace["schemes"]) == set(bench.SCHEMES)
    for scheme, found in trace["schemes"].items():
        for run in found["runs"]:
            beyond = run["loss"][1:]
            assert (beyond == [None, None]) == (scheme == "learned"), scheme
            shape = torch.tensor(run["by_distance"]["weight"]).shape
            assert shape == (bench.LAYERS, 2, 4)
    (rope, _) = trace["schemes"]["rope"]["runs"]
    assert rope["interpolated"][0] == rope["ntk"][0] == rope["loss"][0]
    for name in ("cut", "interpolated_cut", "ntk_cut", "clamped", "away"):
        assert len(rope[name]) == 3 and rope[name][0] == rope["loss"][0], name
        assert rope[name][1:] != rope["loss"][1:], name
    weights = bench.shipped(tmp_path)
    assert {name.split(".")[0] for name in weights} == set(bench.SHIPPED)
    model = bench.started("rope", found_scale(trace, "rope"), 5, tiny)
    model.load_state_dict(
        {k.removeprefix("rope."): v for k, v in weights.items() if k[:5] == "rope."}
    )
    _, _, report = bench.text()
    assert [bench.score(model, report, n, 64) for n in (8, 16, 32)] == rope["loss"]
    assert {len(losses) for losses in rope["tuned"].values()} == {1}
    (t5, _) = trace["schemes"]["t5"]["runs"]
    assert torch.tensor(t5["bias"]).shape == (2, 8)
    assert torch.tensor(trace["shuffled"][0]["bias"]).shape == (2, 8)


def test_the_same_characters_at_every_length(tiny):
    ends = [bench.windows(tiny, length, 64)[:, -5:] for length in bench.LENGTHS]
    assert ends[0].shape == (62, 5)
    for other in ends[1:]:
        assert torch.equal(other, ends[0])
    assert torch.equal(ends[0][0], tiny[28:33])


def test_a_model_without_context_scores_the_same_at_every_length(tiny):
    model = bench.started("none", 1.0, 0, tiny)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.to_output.weight)
    losses = {bench.score(model, tiny, length, 64) for length in bench.LENGTHS}
    assert max(losses) - min(losses) <= 1e-4


@pytest.mark.parametrize("peak", [0, 2, 4])
def test_climb_ends_at_the_peak(peak):
    tried = []

    def loss(x):
        tried.append(x)
        return abs(x - peak)

    assert bench.climb((0, 1, 2, 3, 4), 2, loss) == peak
    assert len(tried) == len(set(tried))
    assert {max(0, peak - 1), min(4, peak + 1)} <= set(tried)


def turning(ids):
    """An untrained RoPE model whose attention is strong enough to matter."""
    model = bench.started("rope", 100.0, 0, ids)
    for block in model.blocks:
        block.attention.to_query.weight.data *= 4
    return model


def test_cut_keys_are_those_of_the_last_characters(tiny):
    model = turning(tiny)
    text, other = tiny[:32][None], tiny[:32][None].clone()
    other[:, 0] = (other[:, 0] + 1) % 7
    with bench.changed(model, bench.cut):
        gap = (model(text) - model(other)).abs().amax((0, 2))  # (T,)
        short = model(text[:, :8])
    # Two layers, each with a reach of 7: the first character reaches up to place 14.
    assert (gap[:15] > 0).all() and (gap[15:] == 0).all()
    assert torch.equal(short, model(text[:, :8]))


def test_distances_that_were_met_are_not_touched(tiny):
    """Within the trained length nothing changes."""
    model, text = turning(tiny), tiny[:8][None]
    changes = {
        "clamped": bench.partial(bench.clamped, frequencies=model.frequencies),
        "away": bench.partial(bench.away, frequencies=model.frequencies, by=0),
    }
    for name, change in changes.items():
        plain = model(text)
        with bench.changed(model, change):
            assert (model(text) - plain).abs().max() < 1e-5, name


def test_scores_by_distance(tiny):
    """The scores of one letter, over and over: a function of distance, as asked for."""
    model = turning(tiny)
    same = torch.full((1, 16), 3)
    seen = []

    def watched(change):
        def keep(layer, x, places):
            query, key = bench.heads(layer, x)
            turned = bench.rope(query, places.turns), bench.rope(key, places.turns)
            after = change(layer, x, places)
            seen.append(turned[0] @ turned[1].mT / 2 + after.bias)  # d = 4
            return after

        with bench.changed(model, keep):
            model(same)
        return seen[-len(model.blocks)][0, 0]  # (T, T), first layer and head

    w = model.frequencies
    own = watched(lambda layer, x, places: places)
    clamped = watched(bench.partial(bench.clamped, frequencies=w))
    away = watched(bench.partial(bench.away, frequencies=w, by=5))
    for back in range(16):
        at = 15, 15 - back
        assert torch.isclose(clamped[at], own[15, 15 - min(back, 7)], atol=1e-5)
        if back < 8:
            further = back + 5 if back >= 4 else back
            assert torch.isclose(away[at], own[15, 15 - further], atol=1e-5)
        else:
            assert away[at] == -torch.inf


def test_a_change_ends_with_its_block(tiny):
    model, text = turning(tiny), tiny[:32][None]
    plain = model(text)
    with pytest.raises(KeyError), bench.changed(model, bench.cut):
        raise KeyError
    assert torch.equal(model(text), plain)
