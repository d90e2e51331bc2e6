"""lib.data.pairs: a hundred translations, each with neighbours on its own topic."""

import json
import re
from collections import Counter
from itertools import combinations

import pytest

from lib.data.origin import DataError
from lib.data.pairs import FILE, pairs

ROWS = pairs().rows
LINES = FILE.read_text(encoding="utf-8").splitlines()
FIRST = json.loads(LINES[0])


def test_a_hundred_pairs_four_on_each_topic():
    assert len(ROWS) == 100
    assert set(Counter(row["topic"] for row in ROWS).values()) == {4}
    shown = repr(pairs())
    assert shown.startswith("english-japanese: 100 pairs, ") and pairs().is_full
    assert "written for this book · CC BY 4.0" in shown


def test_each_side_is_one_sentence_of_its_language():
    for row in ROWS:
        assert re.fullmatch(r"[A-Z][A-Za-z ,;'-]+[.?]", row["en"]), row["en"]
        assert 6 <= len(row["en"].split()) <= 25, row["en"]
        assert re.fullmatch(r"[ぁ-ゖァ-ヺー一-鿿々、。]+。", row["ja"]), row["ja"]
        assert 12 <= len(row["ja"]) <= 45, row["ja"]
        assert re.fullmatch(r"[a-zāīūēō ,.'-]+\.", row["reading"]), row["reading"]


@pytest.mark.parametrize("side", ["en", "ja", "reading"])
def test_no_two_pairs_are_alike(side):
    def parts(row):
        text = row[side].lower()
        return {text[i : i + 2] for i in range(len(text) - 1)}

    def parts_en(row):
        return set(re.findall(r"[a-zāīūēō]+", row[side].lower()))

    unit = parts if side == "ja" else parts_en
    for a, b in combinations(ROWS, 2):
        common, either = unit(a) & unit(b), unit(a) | unit(b)
        assert len(common) < 0.5 * len(either), (a[side], b[side])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINES[1][:40], "english-japanese.jsonl, line 2: no JSON"),
        (json.dumps({"en": "Yes."}), r"line 2: got \['en'\], wants "),
        (json.dumps(FIRST | {"ja": " "}), "line 2, ja: got ' ', wants a text"),
        (LINES[0], "2 times the sentence 'The last train"),
        (json.dumps(FIRST | {"en": "No."}), "2 times the sentence '大阪行き"),
    ],
)
def test_a_damaged_file_is_named_and_refused(tmp_path, line, message):
    file = tmp_path / FILE.name
    file.write_text(f"{LINES[0]}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        pairs(file)
