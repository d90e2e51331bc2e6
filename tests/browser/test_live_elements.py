"""Live elements in a browser: offered, loaded, worked by keyboard, fed with bad input."""

import dataclasses
import functools
import http.server
import io
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from lib import kana
from lib.embeddings import nearest
from lib.live import fill, near, picture, pieces, publish, translate, write
from lib.tokenizers import bpe, presplit

AXE = Path("tests/site/vendor/axe-core/axe.min.js")
PROMPT = "ROMEO:\nWhat light "
MARKUP = "<img src=x onerror='window.hit=1'><script>window.hit=1</script><b>x</b>"
STYLE = "body{font-family:sans-serif;margin:16px} html.dark{background:#14181e;color:#ced6dd}"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data:"
)
KINDS = tuple(kind for kind in publish.KINDS if kind != "search")  # has its own file


@pytest.fixture(scope="module")
def elements():
    sample = load_sample_image("flower.jpg")
    return {
        "write": write.write(PROMPT),
        "translate": translate.translate(["A man is riding a bicycle.", "</script>"]),
        "picture": picture.picture({"flower": Image.fromarray(sample)}),
        "fill": fill.fill(
            [
                (
                    "スマートフォンの電池",
                    "スマートフォンの[MASK]を充電する。",
                    "<b>reading</b>",
                )
            ]
        ),
        "pieces": pieces.pieces("東京都に住む。", "<i>Tōkyō-to ni sumu</i>"),
        "near": near.near(["guitar", "red"]),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, elements):
    """A page for each kind, plain and dark, beside all that they load."""
    folder = tmp_path_factory.mktemp("pages")
    publish.publish(folder / "live")
    news = fill.fill([("", "この番組は来月[MASK]される。", "")], "masked-lm")
    for name, element in (elements | {"news": news}).items():
        for mode in ("", "dark"):
            page = (
                f'<!doctype html><html lang="en" class="{mode}"><meta charset="utf-8">'
                f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
                '<meta name="viewport" content="width=device-width"><title>Live</title>'
                f"<style>{STYLE}</style><main><h1>Live</h1>{element._repr_html_()}</main>"
                f'<script src="live/{element.kind}.js"></script></html>'
            )
            # From a disk "self" is nobody: the policy is for the server.
            file = folder / f"{name}{mode}.html"
            file.write_text(re.sub("<meta http-equiv[^>]*>", "", page), "utf8")
            (folder / f"strict-{name}{mode}.html").write_text(page, "utf8")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/"
        found.shutdown()


def loaded(open_page, address, **options):
    page = open_page(address, reduced_motion="reduce", **options)
    page.get_by_role("button", name="Load the model").click()
    said(page, "")
    return page


READ = "() => document.querySelector('[data-live]').shadowRoot.querySelector('[role=status]').textContent"


def said(page, wanted):
    """Waits until what is read aloud contains this; write says nothing at first."""
    if not wanted:
        page.wait_for_function(
            "() => !document.querySelector('[data-live]').shadowRoot.querySelector('slot')",
            timeout=120_000,
        )
        return
    page.wait_for_function(f"(w) => ({READ})().includes(w)", arg=wanted, timeout=60_000)


def wrong(page):
    return page.locator("[role=alert]").inner_text()


# --- All of them ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_its_story_stands_until_the_reader_asks(open_page, folder, elements, kind):
    page = open_page((folder / f"{kind}.html").as_uri())
    total = sum(f["bytes"] for f in _files(elements[kind]))
    ask = page.get_by_role("button", name="Load the model")
    assert ask.inner_text() == f"Load the model: {max(0.1, total / 1e6):.1f} MB"
    assert page.locator("table").first.is_visible()
    assert page.evaluate("document.querySelectorAll('script[src*=model]').length") == 0
    assert "MIT" in page.locator(".live").inner_text() or kind == "picture"
    assert page.evaluate("[Object.keys(window).includes('tensors'), window.hit]") == [
        False,
        None,
    ]
    ask.evaluate("(button) => { button.click(); button.click(); }")  # two at once
    said(page, "")
    assert not page.locator("table").first.is_visible()
    assert page.locator("textarea, input, select").first.is_visible()
    assert page.requests == []


def _files(element):
    return publish.export.listed(*element.files[0]), *(
        publish.export.listed(*file) for file in element.files[1:]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_without_scripts(browser, folder, kind):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / f"{kind}.html").as_uri())
    assert page.locator("table").first.is_visible()
    assert page.locator("b, i").count() == 0  # what the page was given is text
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_strict_policy_is_enough(open_page, server, kind):
    page = loaded(open_page, f"{server}strict-{kind}.html")
    assert all(url.startswith(server) for url in page.requests)
    assert wrong(page) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["", "dark"])
def test_accessible_and_narrow(open_page, folder, kind, mode):
    page = loaded(
        open_page,
        (folder / f"{kind}{mode}.html").as_uri(),
        viewport={"width": 360, "height": 800},
    )
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then((r) => r.violations)")
    assert not [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]
    missed = page.evaluate(
        """() => {
          const root = document.querySelector("[data-live]").shadowRoot;
          window.wanted = new Set([...root.querySelectorAll("button, input, select, textarea, [tabindex='0']")]
            .filter((node) => !node.disabled && node.checkVisibility()));
          root.addEventListener("focusin", (event) => wanted.delete(event.target));
          return wanted.size;
        }"""
    )
    page.evaluate("document.activeElement.blur()")
    for _ in range(missed + 5):
        page.keyboard.press("Tab")
    assert (
        page.evaluate("[...wanted].map((node) => node.outerHTML.slice(0, 100))") == []
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_download_can_be_asked_for_again(browser, folder, kind):
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route("**/*-model*-0.js", lambda route: route.abort())
    page.goto((folder / f"{kind}.html").as_uri())
    ask = page.get_by_role("button", name="Load the model")
    ask.click()
    page.wait_for_function(
        "() => document.querySelector('[data-live]').shadowRoot.querySelector('.wrong').textContent"
    )
    assert wrong(page) == "The download was cut. Nothing is lost: try again."
    assert page.locator("table").first.is_visible() and ask.is_enabled()
    page.unroute("**/*-model*-0.js")
    ask.click()
    said(page, "")
    assert wrong(page) == "" and not problems
    page.close()


TYPED = {"write": "Prompt", "translate": "English sentence", "pieces": "Text"}
TYPED |= {"fill": "Sentence with [MASK]", "near": "Word"}


@pytest.mark.parametrize("kind", sorted(TYPED))
def test_what_is_typed_is_text(open_page, folder, kind):
    page = loaded(open_page, (folder / f"{kind}.html").as_uri())
    for text in (MARKUP, "[MASK]" + MARKUP, "<svg/onload=window.hit=1>"):
        field = page.get_by_label(TYPED[kind], exact=True)
        field.fill(text)
        if kind == "fill":
            page.get_by_label("Title").fill(text)
            page.get_by_role("button", name="Fill the gaps").click()
        elif kind in ("translate", "near"):
            field.press("Enter")
        elif kind == "write":
            page.get_by_role("button", name="One step").click()
        page.wait_for_timeout(600)
        assert (
            page.locator("[data-live] img, [data-live] b, [data-live] script").count()
            == 0
        )
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("kind", sorted(TYPED))
@pytest.mark.parametrize("text", ["", "   ", "あ é 🏳️‍🌈 \u0000 " * 3, "word " * 2000])
def test_empty_long_and_foreign_texts(open_page, folder, kind, text):
    page = loaded(open_page, (folder / f"{kind}.html").as_uri())
    field = page.get_by_label(TYPED[kind], exact=True)
    field.fill(text)
    if kind == "fill":
        page.get_by_role("button", name="Fill the gaps").click()
    elif kind == "translate":
        page.get_by_role("button", name="Translate").click()
    elif kind == "near":
        field.press("Enter")
    elif kind == "write":
        page.get_by_role("button", name="One step").click()
        page.get_by_role("button", name="One step").click()
    page.wait_for_timeout(1500)
    # Spaces are letters to the character model; everything has pieces of bytes.
    quiet = {"write": text == "   ", "pieces": bool(text.strip())}
    assert bool(wrong(page)) != quiet.get(kind, False)
    field.fill("The end.")  # the page goes on
    assert field.input_value() == "The end."


# --- A prompt ------------------------------------------------------------------------


@pytest.fixture
def writing(open_page, folder):
    return loaded(open_page, (folder / "write.html").as_uri())


def text_of(page):
    return page.locator(".text").inner_text()


def test_greedy_writing_is_that_of_the_story(writing, elements):
    story = re.search(r"greedy</td><td>(.*?)</td>", elements["write"].story)[1]
    writing.get_by_role("slider", name="top-k").fill("1")
    writing.get_by_role("button", name="Write").click()
    writing.wait_for_function(
        "() => document.querySelector('[data-live]').shadowRoot.querySelector('.text').childElementCount > 90"
    )
    writing.get_by_role("button", name="Pause").click()
    said(writing, "Written: ")
    found = writing.evaluate(
        "() => [...document.querySelector('[data-live]').shadowRoot.querySelectorAll('.text span')]"
        ".map((s) => s.textContent).join('')"
    )
    assert found.startswith(PROMPT + story.replace("⏎", "\n"))


def test_steps_back_and_another_choice(writing):
    writing.get_by_role("slider", name="top-k").fill("1")
    for _ in range(3):
        writing.get_by_role("button", name="One step").click()
        writing.wait_for_timeout(200)
    assert text_of(writing).endswith("light the")
    writing.get_by_role("button", name="Step back").click()
    writing.wait_for_timeout(200)
    assert text_of(writing).endswith("light th")
    writing.get_by_role("slider", name="top-k").fill("65")
    writing.get_by_role("button", name=re.compile("Take o,")).click()
    said(writing, "o was taken.")
    assert text_of(writing).endswith("light tho")
    output = writing.locator(".text")
    output.focus()
    writing.keyboard.press("Home")
    for _ in range(19):
        writing.keyboard.press("ArrowRight")
    said(writing, "came “h”")
    assert (
        writing.get_by_role("img", name="Attention after the last of 19").count() == 1
    )
    writing.get_by_role("button", name=re.compile("Take r,")).click()
    said(writing, "r was taken.")
    assert text_of(writing).endswith("light tr")  # what came after is gone


def test_the_end_of_the_table_is_said(writing):
    writing.get_by_label("Prompt").fill("x" * 127)
    for _ in range(3):
        writing.get_by_role("button", name="One step").click()
        writing.wait_for_timeout(700)
    note = (
        "The table of positions ends at 128 characters: the model has read the last 64"
    )
    assert writing.get_by_text(note).is_visible()


def test_leaving_while_it_writes(writing, folder):
    writing.get_by_role("button", name="Write").click()
    writing.wait_for_timeout(100)
    writing.evaluate("document.querySelector('[data-live]').remove()")
    writing.wait_for_timeout(200)
    writing.goto((folder / "pieces.html").as_uri())
    writing.go_back()


def test_what_a_model_writes_is_text(open_page, folder, elements):
    element = elements["write"]
    letters = [
        MARKUP if letter == "h" else letter for letter in element.data["letters"]
    ]
    element = dataclasses.replace(element, data=element.data | {"letters": letters})
    plain = (folder / "write.html").read_text("utf8")
    file = folder / "written-markup.html"
    held = re.sub(r"<h1>.*</main>", lambda _: element._repr_html_(), plain, flags=re.S)
    file.write_text(held, "utf8")
    page = loaded(open_page, file.as_uri())
    page.get_by_label("Prompt").fill("ROMEO:\nW")
    page.get_by_role("slider", name="top-k").fill("1")
    for _ in range(8):
        page.get_by_role("button", name="One step").click()
        page.wait_for_timeout(200)
    assert MARKUP in text_of(page)
    root = "document.querySelector('[data-live]').shadowRoot"
    assert not page.evaluate(f"{root}.querySelector('img, script, b')")
    assert not page.evaluate("window.hit")


def test_memory_does_not_grow_with_what_is_written(writing):
    browser = writing.context.new_cdp_session(writing)
    writing.get_by_role("slider", name="top-k").fill("1")
    held = []
    for number in range(6):
        writing.get_by_label("Prompt").fill("ROMEO:\n" + "I" * number)
        writing.get_by_role("button", name="Write").click()
        writing.wait_for_function(
            "() => document.querySelector('[data-live]').shadowRoot.querySelector('.text').childElementCount > 150"
        )
        writing.get_by_role("button", name="Pause").click()
        writing.wait_for_timeout(200)
        browser.send("HeapProfiler.collectGarbage")
        usage = browser.send("Runtime.getHeapUsage")
        held.append(usage["usedSize"] + usage["backingStorageSize"])
    assert max(held[2:]) < held[1] + 2e6


# --- A sentence ----------------------------------------------------------------------


def test_a_sentence_greedy_and_by_beams(open_page, folder):
    page = loaded(open_page, (folder / "translate.html").as_uri())
    said(page, "German: Ein Mann fährt Fahrrad.")
    page.get_by_label("Search").select_option("4")
    said(page, "German: Ein Mann fährt auf einem Fahrrad.")
    page.get_by_role("button", name="▁Fahrrad").click()
    assert "looked most at “▁bicycle”" in page.locator(".live").inner_text()
    field = page.get_by_label("English sentence")
    field.fill("Two dogs are playing in the snow.")
    field.press("Enter")
    field.fill("A girl in a red dress is laughing.")  # before the first is done
    field.press("Enter")
    said(page, "German: Ein Mädchen in einem roten Kleid lacht.")


# --- A picture -----------------------------------------------------------------------


def as_file(name, picture_, kind="png"):
    file = io.BytesIO()
    picture_.save(file, kind)
    return {"name": name, "mimeType": f"image/{kind}", "buffer": file.getvalue()}


def test_pictures_of_all_sizes(open_page, folder):
    page = loaded(open_page, (folder / "picture.html").as_uri())
    said(page, "flower: bird")
    draw = np.random.default_rng(0)
    give = page.get_by_label("A picture of yours").set_input_files
    for size in ((1, 1), (31, 500)):
        values = draw.integers(0, 256, (*size, 3), np.uint8)
        give(as_file(f"{size}.png", Image.fromarray(values)))
        said(page, f"{size}.png: ")
    large = Image.new("RGB", (8000, 6000), "navy")
    give(as_file("<b>large</b>.png", large))
    said(page, "<b>large</b>.png: ")
    assert page.get_by_text("8000 × 6000 pixels").is_visible()
    give({"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_function(
        "() => document.querySelector('[data-live]').shadowRoot.querySelector('.wrong').textContent"
    )
    assert wrong(page).startswith("notes.png: this file is no picture")
    page.get_by_role("button", name="Take the flower").click()
    said(page, "flower: bird")
    assert wrong(page) == "" and page.locator(".live b").count() == 0


# --- Gaps and pieces -----------------------------------------------------------------


def test_gaps_are_put_anywhere(open_page, folder):
    page = loaded(open_page, (folder / "fill.html").as_uri())
    said(page, "gap 1: 充電, 電源, バッテリー")
    page.get_by_role("button", name="Hide スマートフォン").click()
    said(page, "gap 2: ")
    field = page.get_by_label("Sentence with [MASK]")
    assert field.input_value() == "[MASK]の[MASK]を充電する。"
    field.fill("東京に行く。")
    page.get_by_role("button", name="Fill the gaps").click()
    assert wrong(page).startswith("There is no gap")
    field.focus()
    page.keyboard.press("Control+Home")
    page.get_by_role("button", name="Put [MASK] at the cursor").click()
    said(page, "gap 1: ")
    assert field.input_value() == "[MASK]東京に行く。"


@pytest.mark.parametrize("name", ["fill", "news"])
def test_candidates_have_the_readings_of_the_page(open_page, folder, name):
    page = loaded(open_page, (folder / f"{name}.html").as_uri())
    page.get_by_label("Sentence with [MASK]").fill("ちょっと[MASK][MASK]、[MASK]ッチ。")
    page.get_by_role("button", name="Fill the gaps").click()
    page.get_by_text("Gap 3", exact=True).wait_for()
    shown = page.locator(".best > span:nth-child(3n + 1)").all_inner_texts()
    assert len(shown) == 24
    for piece, _, reading in (one.partition(" ") for one in shown):
        plain = piece.lstrip("▁") or piece
        assert kana.gloss(piece) == (f"{plain} ({reading})" if reading else plain)


def test_pieces_and_their_lattice(open_page, folder):
    page = loaded(open_page, (folder / "pieces.html").as_uri())
    page.get_by_label("Text", exact=True).fill("東京都に住む")
    counts = {4: 6, 8: 4, 16: 3, 32: 3}
    said(page, ", ".join(f"{n},000 entries: {m}" for n, m in counts.items()))
    assert page.get_by_role("img", name="the best way: ▁, 東京, 都, に, 住, む").count()
    page.get_by_label("Vocabulary of the lattice").select_option("32,000 entries")
    assert page.get_by_role("img", name="the best way: ▁, 東京都, に住む").count()
    page.get_by_label("Text", exact=True).fill("ｈａｌｆ" * 5)
    page.get_by_text("Normalised first: half").wait_for()
    assert page.get_by_text("The lattice is drawn for texts of up to").is_visible()


def test_pieces_by_merges_of_the_page(open_page, folder):
    """A model that travels in the page, and a normaliser that one of two models has."""
    merges = bpe.train(
        presplit.count(["low lower slow"]), 262, more=presplit.CHARACTERS
    )
    models = {"BPE": merges[1], "news": "unigram-8000-bytes.model"}
    element = pieces.pieces("slow 日", "", models)
    (folder / "merges.html").write_text(
        f'<meta charset="utf-8">{element._repr_html_()}<script src="live/pieces.js"></script>',
        "utf8",
    )
    page = loaded(open_page, (folder / "merges.html").as_uri())
    said(page, "Tokens. BPE: 5, news: 6.")
    line = page.locator(".line").first
    assert line.locator(".piece").all_inner_texts() == ["slow", "␣", "E6", "97", "A5"]
    page.get_by_label("Text", exact=True).fill("ｌｏｗ")
    page.get_by_text("Normalised by news: low").wait_for()
    assert page.get_by_label("Vocabulary of the lattice").locator("option").count() == 1


# --- Neighbours ----------------------------------------------------------------------


def test_neighbours_and_from_there_on(open_page, folder):
    words, tables = near.model()
    page = loaded(open_page, (folder / "near.html").as_uri())
    for number, (name, vectors) in enumerate(tables.items()):
        page.get_by_label("Table").select_option(name)
        page.get_by_role("button", name="guitar", exact=True).first.click()
        three = nearest(vectors, words, "guitar", 3)
        said(page, f"Nearest to guitar: {', '.join(three)}")
        page.get_by_role("button", name=f"{three[0]}, cosine").click()
        said(page, f"Nearest to {three[0]}: ")
        assert number < 2
    field = page.get_by_label("Word", exact=True)
    field.fill("Guitarzzz")
    field.press("Enter")
    assert wrong(page).startswith("“guitarzzz” is not among the ")
    page.get_by_role("button", name="guitars", exact=True).click()
    said(page, "Nearest to guitars: ")
    assert wrong(page) == ""
