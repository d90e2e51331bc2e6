"""train.embeddings: what is told by means, cosines, ranks, and that it goes on."""

import ast

import nbformat
import pytest
import torch
import torch.nn.functional as F

from lib import weights
from train import embeddings as study

PAGE = "notebooks/tokens/embeddings.ipynb"
ROWS = [
    {"word": word, "sense": sense, "split": split}
    for word in ("bank", "left")
    for sense in ("one", "two")
    for split in ("train", "test", "train", "test")
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def apart(scale):
    """Vectors (16, 3): the senses lie `scale` apart, each word somewhere else."""
    vectors = random(16, 3)
    for i, row in enumerate(ROWS):
        vectors[i, 0] += scale * (1 if row["sense"] == "one" else -1)
        vectors[i, 1] += 5 if row["word"] == "left" else 0
    return vectors


def test_what_lies_apart_is_told():
    assert study.told(apart(50), ROWS).all()
    assert study.layers_told(apart(50)[None], ROWS) == ["1" * 16]


def test_one_row_for_a_word_tells_one_sense_of_its_senses():
    row = torch.ones(16, 3)
    assert study.told(row, ROWS).double().mean() == 0.5


def test_means_come_from_the_other_half():
    """A sentence that lies alone is told by means that it is not part of."""
    rows = ROWS[:8]
    vectors = torch.tensor([[1.0, 0.1], [0.1, 1.0]] * 2 + [[0.2, 1.0], [1.0, 0.2]] * 2)
    # of sense one the train half lies along x and the test half along y; of two not so
    assert study.told(vectors, rows).tolist() == [False] * 8


def test_the_page_tells_alike():
    cells = [c.source for c in nbformat.read(PAGE, 4).cells if c.cell_type == "code"]
    found = {"torch": torch, "F": F}
    for node in ast.parse("\n".join(cells[1:])).body:
        if getattr(node, "name", None) in ("told", "plane"):
            exec(ast.unparse(node), found)
    for scale in (0.0, 0.5, 2.0):
        assert torch.equal(
            found["told"](apart(scale), ROWS), study.told(apart(scale), ROWS)
        )
    torch.testing.assert_close(found["plane"](apart(1)), study.plane(apart(1)))


def test_the_plane_is_that_of_pca():
    from sklearn.decomposition import PCA

    vectors = random(20, 6).double() * torch.arange(6, 0, -1)
    ours, theirs = study.plane(vectors), PCA(2).fit_transform(vectors.numpy())
    torch.testing.assert_close(ours.abs(), torch.from_numpy(theirs).abs())
    assert (ours.gather(0, ours.abs().argmax(0, keepdim=True)) > 0).all()


def test_mean_cosine_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    assert study.mean_cosine(vectors) == pytest.approx(1 / 3, abs=1e-4)


def test_ranks():
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.1, 0.2, 0.3]])
    assert study.ranks(scores) == [[0, 2, 0], [0, 0, 1]]


def test_the_words_around():
    row = {
        "word": "bank",
        "sentence": "The Bank of a river, the bank.",
        "language": "en",
    }
    row["sentence"] = "We sat on the bank of a wide river."
    table = {"we", "on", "the", "of", "a", "river", "bank"}
    assert study.context(row, table) == ["we", "on", "the", "of", "a", "river"]
    row = {"word": "はし", "sentence": "古いはしを渡る。", "language": "ja"}
    assert study.context(row, {"古い", "古", "渡る", "を"}) == ["古い", "を", "渡る"]


def test_a_word_is_the_mean_of_its_tokens():
    states = random(2, 4, 3)
    places = [(0, 0), (0, 3), (4, 6), (6, 9)]
    found = study.of_word(states, places, (4, 9))
    torch.testing.assert_close(found, states[:, 2:].mean(1))


def test_the_nearest_of_the_listed_words(monkeypatch):
    monkeypatch.setattr(study, "CATEGORIES", {"a": "one two gone", "b": "red blue"})
    vectors = torch.tensor(
        [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.9, 0.2], [1.0, 0.05]]
    )
    words = ["one", "two", "red", "blue", "the"]
    assert study.same_category(vectors, words).tolist() == [True, False, True, False]


@pytest.fixture
def tiny(monkeypatch):
    """The study with jobs that take no time."""
    monkeypatch.setattr(study, "SETTINGS", {"as it is": {}, "other": {"k": 1}})
    monkeypatch.setattr(study, "SEEDS", range(2))

    def job(name):
        def found(*what):
            study.mean_cosine(torch.eye(2))
            return {"job": [name, *map(str, what)]}

        found.__name__ = name
        return found

    for name in ("laid_out", "baselines", "static_neighbours", "read", "sinks"):
        monkeypatch.setattr(study, name, job(name))
    monkeypatch.setattr(study, "retrieval", job("retrieval"))
    monkeypatch.setattr(study, "skip_gram", job("skip_gram"))


def test_a_killed_study_goes_on_to_the_same_result(tiny, goes_on):
    trace = goes_on(study.study, study, "mean_cosine", (2, 7))
    assert trace["senses"]["E5, ja"]["job"] == ["read", "E5", "ja"]
    assert trace["senses"]["E5, ja"]["sinks"]["job"] == ["sinks", "E5", "ja"]
    assert [x["job"][1:] for x in trace["skip-grams"]["other"]] == [
        ["other", "0"],
        ["other", "1"],
    ]


def test_the_record_is_of_these_settings():
    record = weights.trace("embeddings")
    assert record["categories"] == study.CATEGORIES
    assert {*record["skip-grams"]} == {*study.SETTINGS}
    assert all(len(runs) == len(study.SEEDS) for runs in record["skip-grams"].values())
    for name, found in record["senses"].items():
        rows = study.of_language(name[-2:])
        for key in ("told", "told, centred", "told, nothing follows"):
            assert {len(layer) for layer in found[key]} == {len(rows)}
    assert len(record["map"]["words"]) == study.WORDS_ON_THE_MAP
