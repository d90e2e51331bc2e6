"""The calculator of memory in the browser, against lib.memory."""

import pytest

from lib import memory
from lib.figures import budget, theme

SETTINGS = [  # positions of the sliders
    {},
    {"devices": 0},
    {"devices": 6, "sharded": 3},
    {"devices": 9, "sharded": 1, "parameters": 7},
    {"devices": 0, "sharded": 3},
    {"sharded": 2, "checkpointing": 0, "tokens a device": 6},
    {"parameters": 0, "tokens a device": 0, "memory a device": 0},
]
NEUTRAL = {"parameters": 4, "devices": 3, "sharded": 0, "tokens a device": 3}
NEUTRAL |= {"checkpointing": 1, "memory a device": 3}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    theme.apply()
    file = tmp_path_factory.mktemp("page") / "index.html"
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Figure</title>'
    body = budget.budget(alt="Bars of memory.")._repr_html_()
    file.write_text(f"{head}<style>body{{margin:16px}}</style>{body}", encoding="utf-8")
    return file.as_uri()


def test_the_browser_counts_as_lib_does(open_page, address):
    page = open_page(address)
    for positions in SETTINGS:
        for label, value in (NEUTRAL | positions).items():
            page.get_by_role("slider", name=label, exact=True).fill(str(value))
        found = page.evaluate("document.querySelector('[data-element]').budget")
        wanted = memory.plan(
            found["N"],
            found["n"],
            shard=found["shard"],
            tokens=found["tokens"],
            checkpoint=found["checkpoint"],
        )
        assert {k: found[k] for k in wanted} == pytest.approx(wanted, rel=1e-12), (
            positions
        )
        assert found["fits"] == (wanted["total"] <= found["room"])
    assert page.requests == []


def test_it_says_what_it_shows(open_page, address):
    page = open_page(address)
    slider = page.get_by_role("slider", name="devices")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.evaluate("x => x.ariaValueText") == "1"
    assert page.get_by_role("img", name="Bars of memory").count() == 1
    assert page.get_by_text("It does not fit.").count() == 1
    page.get_by_role("slider", name="parameters").focus()
    page.keyboard.press("Home")
    assert page.get_by_text("It fits.").count() == 1
