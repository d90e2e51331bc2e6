"""The memory of a device under sliders: the still, and the numbers that the script gets."""

import json

import pytest

from lib import memory
from lib.figures import budget


@pytest.fixture
def drawn(monkeypatch):
    """The element, and the figure of its still."""
    figures, png = [], budget.png
    monkeypatch.setattr(budget, "png", lambda f: figures.append(f) or png(f))
    return budget.budget((1, 8), alt='Bars "of" memory.'), figures[0]


def test_the_still_has_copies_and_shards(drawn):
    [ax] = drawn[1].axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["1 device", "8 devices, copies", "8 devices, sharded"]
    ends = {}
    for bar in ax.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        ends[row] = max(ends.get(row, 0), bar.get_x() + bar.get_width())
    for row, (n, shard) in enumerate(((1, 0), (8, 0), (8, 3))):
        total = memory.plan(7e9, n, shard=shard, checkpoint=True)["total"]
        assert ends[row] == pytest.approx(total / 1e9)


def test_a_page_gets_the_data(drawn):
    text = drawn[0]._repr_mimebundle_()["text/html"]
    data = json.dumps(drawn[0].data, ensure_ascii=False, separators=(",", ":"))
    assert data.replace("<", "\\u003c") in text
    assert 'data-element="budget"' in text and drawn[0].still[1:4] == b"PNG"
    assert drawn[0].data["stages"] == memory.STAGES
    assert len(text) < 120_000
