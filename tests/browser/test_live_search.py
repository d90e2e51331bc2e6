"""The search over the book in a browser: equal to bm25s, from a disk, and text stays text."""

import re
from pathlib import Path

import bm25s
import numpy as np
import pytest

from lib.data.questions import questions
from lib.live import publish, search
from lib.retrieval import book, text

AXE = Path("tests/site/vendor/axe-core/axe.min.js")
MARKUP = "<img src=x onerror='window.hit=1'><script>window.hit=1</script> attention"
ASKED = ["What is beam search?", "東京都 <b>softmax</b>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The element as on the site: a page two folders down, its files beside."""
    folder = tmp_path_factory.mktemp("site")
    live = folder / "_static" / "live"
    publish.export.write(live, *search.FILES[0])
    (live / "search.js").write_text(publish.program("search"), "utf8")
    page = folder / "notebooks" / "adapt" / "rag.html"
    page.parent.mkdir(parents=True)
    for name, mode in (("rag", ""), ("dark", "dark")):
        page.with_stem(name).write_text(
            f'<!doctype html><html lang="en" class="{mode}"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>Ask</title>'
            "<style>html.dark{background:#14181e;color:#ced6dd}</style>"
            f"<main><h1>Ask</h1>{search.search(ASKED)._repr_html_()}</main>"
            '<script src="../../_static/live/search.js"></script></html>',
            "utf8",
        )
    return page.parent


@pytest.fixture
def asking(open_page, folder):
    return loaded(open_page, folder / "rag.html")


def loaded(open_page, file, **options):
    page = open_page(file.as_uri(), reduced_motion="reduce", **options)
    page.get_by_role("button", name="Load the book's text").click()
    page.get_by_label("Question", exact=True).wait_for(timeout=60_000)
    return page


def ask(page, question):
    field = page.get_by_label("Question", exact=True)
    field.fill(question)
    field.press("Enter")


def wrong(page):
    return page.locator("[role=alert]").inner_text()


def test_the_story():
    found = search.search(ASKED)
    assert found.story.count("<tr>") == 7 and "&lt;b&gt;softmax" in found.story
    assert "Beam search" in found.story
    for asked, said in (([], "got no question"), (["zzzqqq"], "has no term of")):
        with pytest.raises(ValueError, match=said):
            search.search(asked)


def test_the_text_is_small():
    assert publish.export.listed(*search.FILES[0])["bytes"] <= 500_000


def test_scores_are_those_of_bm25s(browser, folder, tmp_path):
    """All 149 questions: the same best passages, each score to 0.0001."""
    live = Path("lib/live")
    tags = "".join(
        f"<script>{(live / f'{name}.js').read_text('utf8')}</script>"
        for name in ("load", "tokenizers", "search")
    )
    file = tmp_path / "engine.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{tags}', "utf8")
    page = browser.new_page()
    page.goto(file.as_uri())
    sections = [
        {k: getattr(s, k) for k in ("page", "anchor", "chapter", "title", "text")}
        for s in book.shipped()
    ]
    asked = [
        r["question"] for k in ("book", "nowhere", "articles") for r in questions(k)
    ]
    made, queries, found = page.evaluate(
        """([sections, asked, stop, words]) => {
          const known = new Set(stop), passages = chunks(sections, words);
          const documents = passages.map((p) => termsOf(`${p.heading}\\n${p.text}`, known));
          const find = bm25(documents, 1.5, 0.75), queries = asked.map((q) => termsOf(q, known));
          return [documents, queries, queries.map((q) => find(q, 50).map(({ at, score }) => [at, score]))];
        }""",
        [sections, asked, sorted(text.STOP), search.WORDS],
    )
    page.close()
    documents = [text.terms(p.whole) for p in text.chunk(book.shipped(), search.WORDS)]
    assert made == documents
    assert queries == [text.terms(question) for question in asked]
    theirs = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    theirs.index(documents, show_progress=False)
    known = {term for document in documents for term in document}
    for query, hits in zip(queries, found, strict=True):
        terms = [term for term in query if term in known]
        if not terms:
            assert hits == []
            continue
        wanted = theirs.get_scores(terms)
        for at, score in hits:
            assert abs(score - wanted[at]) < 1e-4
        best = np.sort(wanted)[::-1][: len(hits)]
        assert np.abs(best - [score for _, score in hits]).max() < 1e-4


def test_nothing_is_loaded_before_the_click(open_page, folder):
    page = open_page((folder / "rag.html").as_uri())
    button = page.get_by_role("button", name="Load the book's text")
    assert re.fullmatch(r"Load the book's text: 0\.\d MB", button.inner_text())
    assert page.locator("table").first.is_visible()
    assert page.locator("b").count() == 0  # the example is text
    assert "CC BY 4.0" in page.locator(".live").inner_text()
    assert page.requests == []


def test_a_question_and_its_passages(asking):
    ask(asking, ASKED[0])
    first = asking.locator("li").first
    assert "Beam search" in first.locator("a").inner_text()
    link = first.locator("a").evaluate("(a) => a.href")
    section = "beam-search-several-prefixes-side-by-side"
    assert link.endswith(f"/notebooks/language/decoding.html#{section}")
    assert "_static" not in link
    assert "beam" in first.locator(".parts").inner_text()
    assert {m.lower() for m in first.locator("mark").all_inner_texts()} >= {"beams"}
    asking.get_by_role("button", name="東京都").click()
    assert asking.locator("li").count() >= 1 and wrong(asking) == ""


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("", "There is no question."),
        ("what is the", "No term is left"),
        ("なぜ値は", "The book has none of these terms: なぜ"),
        ("zzzqqq", "none of these terms: zzzqqq"),
    ],
)
def test_bad_questions(asking, question, said):
    ask(asking, question)
    assert said in wrong(asking) and asking.locator("li").count() == 0
    ask(asking, "attention")
    assert wrong(asking) == "" and asking.locator("li").count() == 8


def test_what_is_typed_is_text(asking):
    for typed in (MARKUP, "<svg/onload=window.hit=1> softmax", "<b>head</b> " * 100):
        ask(asking, typed)
        found = asking.locator("[data-live] :is(img, b, script, iframe)")
        assert found.count() == 0
    assert "first 500 characters" in wrong(asking)
    assert asking.evaluate("window.hit") is None


@pytest.mark.parametrize("name", ["rag", "dark"])
def test_accessible_and_narrow(open_page, folder, name):
    view = {"width": 360, "height": 800}
    page = loaded(open_page, folder / f"{name}.html", viewport=view)
    ask(page, "how is attention masked")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then((r) => r.violations)")
    assert not [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]
