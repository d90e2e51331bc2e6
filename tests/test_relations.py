"""lib.data.relations: the annotation is whole, and a token finds its word."""

from collections import Counter

import pytest

from lib.data.relations import CLOSES, RELATIONS, relations, word_of

ROWS = relations().rows


def test_no_two_sentences_are_alike():
    texts = [row["text"].lower() for row in ROWS]
    assert len(set(texts)) == len(texts) >= 120
    openings = Counter(" ".join(row["words"][:3]).lower() for row in ROWS)
    assert max(openings.values()) <= 2


def test_a_sentence_is_written_as_one_writes_it():
    for row in ROWS:
        assert row["text"][0].isupper() and row["text"].endswith(".")
        assert " ." not in row["text"] and " ," not in row["text"]
        assert [row["text"][a:b] for a, b in row["spans"]] == row["words"]


@pytest.mark.parametrize("name", RELATIONS)
def test_pairs_are_words_of_the_sentence(name):
    found = 0
    for row in ROWS:
        pairs = row["relations"][name]
        assert len({tuple(pair) for pair in pairs}) == len(pairs)
        for head, dependent in pairs:
            assert head != dependent
            for at in (head, dependent):
                assert 0 <= at < len(row["words"]) and row["words"][at] not in CLOSES
        dependents = [dependent for _, dependent in pairs]
        assert len(set(dependents)) == len(pairs)  # nothing depends twice
        found += len(pairs)
    assert found >= 100
    assert all(row["relations"].keys() == RELATIONS.keys() for row in ROWS)


def test_directions_and_distances():
    apart = {name: set() for name in RELATIONS}
    for row in ROWS:
        for name, pairs in row["relations"].items():
            for head, dependent in pairs:
                assert (head > dependent) == (name != "preposition-object")
                apart[name].add(abs(head - dependent))
    assert apart["subject-verb"] >= {1, 4, 5, 6, 7, 8}
    assert apart["adjective-noun"] >= {1, 2, 4}
    assert apart["preposition-object"] >= {1, 2, 3, 4, 6}
    assert max(max(found) for found in apart.values()) == 8


def test_every_preposition_has_its_object():
    known = {
        row["words"][head].lower()
        for row in ROWS
        for head, _ in row["relations"]["preposition-object"]
    }
    for row in ROWS:
        annotated = {head for head, _ in row["relations"]["preposition-object"]}
        for at, word in enumerate(row["words"]):
            assert word.lower() not in known or at in annotated, row["text"]


def test_a_token_finds_its_word():
    spans = [(0, 3), (4, 7), (7, 8)]  # "The dog."
    assert word_of([(0, 0), (0, 3), (3, 7), (7, 8), (8, 8)], spans) == [
        *(None, 0, 1, 2, None)
    ]
    assert word_of([(0, 1), (1, 3), (4, 7), (7, 8)], spans) == [0, 0, 1, 2]


def test_it_says_what_it_is():
    assert repr(relations()).startswith("relations: 137 sentences, ")
    assert "CC BY 4.0" in repr(relations())
