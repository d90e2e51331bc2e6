"""train.hybrid_patterns: the two-to-one model, what is kept, a killed study goes on."""

from types import SimpleNamespace

import pytest
import torch
from test_hybrid import modern_bert
from torch import nn
from torch.testing import assert_close

from lib.attention import attention
from lib.data import livedoor
from lib.models.masked import MaskedLanguageModel
from train import hybrid
from train import hybrid_patterns as patterns

SMALL = {"d_model": 16, "num_heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def articles(tmp_path_factory):
    rows = livedoor.embedded_articles()
    return hybrid.prepare(SimpleNamespace(rows=rows), tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def exam(articles):
    return hybrid.Exam(articles["report"], articles["train"])


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(hybrid, "MODEL", hybrid.MODEL | SMALL)


def test_two_to_one_is_modern_bert_with_its_two_bases():
    torch.manual_seed(0)
    model = patterns.TwoToOne(50, 16, 2, 4, block=1, window=7).double().eval()
    model.layers[0].attention_norm = nn.Identity()
    assert model.kinds == ["full", "local", "local", "full"]
    ids = torch.randint(50, (2, 23))
    ours = model.encode(ids)
    theirs = modern_bert(model, 3, patterns.BASES["full"], patterns.BASES["local"])
    assert_close(ours, theirs(ids).last_hidden_state, atol=1e-6, rtol=0)
    other = modern_bert(model, 3)  # one base: the test can fail
    assert (other(ids).last_hidden_state - ours).abs().max() > 1e-4


def test_only_the_pattern_and_the_base_differ():
    for name, change in patterns.PATTERNS.items():
        assert set(change) <= {"attention", "base"}
        kind = patterns.kind_of(name)
        assert (kind is patterns.TwoToOne) == (name == "two to one")
    models = [
        patterns.kind_of(name)(**hybrid.MODEL | SMALL | change)
        for name, change in patterns.PATTERNS.items()
    ]
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in models]
    assert all(s == shapes[0] for s in shapes)


def test_answers_by_article_add_up(exam):
    generator = torch.Generator().manual_seed(0)
    own, other = torch.rand(2, len(exam.targets), generator=generator) < 0.5
    found = patterns.by_article(exam, own, other)
    group = exam.summary(own.double(), own)["title"]
    assert sum(gaps for _, gaps, _, _ in found) == group["tokens"] > 0
    right = sum(count for _, _, count, _ in found)
    assert abs(right / group["tokens"] - group["top5"]) < 1e-3
    assert sum(x for *_, x in found) == int(
        (other & exam.rare() & (exam.where == hybrid.SEEN.index("title"))).sum()
    )
    assert len({number for number, *_ in found}) == len(found)


@pytest.mark.parametrize("name", patterns.PATTERNS)
def test_weights_on_copies_by_a_loop(tiny, exam, name, monkeypatch):
    monkeypatch.setattr(patterns, "WATCHED", 9)  # two batches
    torch.manual_seed(0)
    model = patterns.kind_of(name)(**hybrid.MODEL | patterns.PATTERNS[name]).double()
    found = patterns.on_copies(model, exam)
    layer = {"copy": [], "other": []}  # of the first layer, gap by gap
    masks = {
        "full": torch.ones(hybrid.LENGTH, hybrid.LENGTH, dtype=torch.bool),
        "local": patterns.pattern(hybrid.LENGTH, block=16, window=3),
    }
    masks["hybrid"] = masks["local"].clone()
    masks["hybrid"][:32] = masks["hybrid"][:, :32] = True
    for row in range(9):
        ids, seen = exam.ids[row], exam.seen[row]
        given = []

        def mix(query, key, value, given=given):
            output, weight = attention(query, key, value, masks[model.kinds[0]])
            given.append(weight[0].mean(0))  # (T, T)
            return output

        model.mixes = lambda T, _, mix=mix: dict.fromkeys(model.kinds, mix)
        with torch.no_grad():
            model.encode(seen[None])
        for gap in exam.at[row].nonzero().flatten().tolist():
            title = [k for k in range(32) if ids[k] != hybrid.FILL]
            same = [k for k in title if ids[k] == ids[gap]]
            if same and exam.rank[ids[gap]] >= hybrid.FREQUENT:
                for k in title:
                    kind = "copy" if k in same else "other"
                    layer[kind].append(given[0][gap, k].item())
        del model.mixes
    for kind, values in layer.items():
        assert len(values) > 3
        assert found[kind][0] == pytest.approx(sum(values) / len(values), rel=1e-4)
        assert len(found[kind]) == SMALL["layers"]


def test_a_killed_study_goes_on_to_the_same_result(tiny, articles, exam, goes_on):
    whole = goes_on(
        lambda folder: patterns.study(3, 1, articles, exam, folder),
        patterns.training,
        "fit",
        stops=[2, 4],
    )
    assert [run["name"] for run in whole] == list(patterns.PATTERNS)
    for run in whole:
        assert {"held_out", "other_titles", "by_article", "copies"} <= set(run)
    kinds = MaskedLanguageModel, patterns.TwoToOne
    assert {patterns.kind_of(run["name"]) for run in whole} == set(kinds)
