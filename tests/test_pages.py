"""The pages without code: roadmaps hold together, what they say of the project is so."""

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import gallery
import matplotlib.pyplot as plt
import measured
import nbformat
import pages
import pytest
import roadmap
import shown
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import notebooks

ROOT = Path(__file__).parent.parent
MAPS = sorted(ROOT.glob("book/roadmap-*.md"))
BODY = re.compile(r"^```\{roadmap\} .+?\n(.*?)^```$", re.M | re.S)
EXAMPLE = """
- part: Before
  steps:
    - {id: algebra, label: Algebra, after: multiply, needs: [], read: {A book: "https://example.org"}}
    - {id: code, label: Code & torch, after: write, needs: [], read: {A page: "https://example.org"}}
- part: Here
  steps:
    - {id: net, label: Networks, after: train one, needs: [algebra, code], chapter: parts/net}
    - {id: block, label: A block, after: build one, needs: [net, algebra], chapter: parts/block}
    - {id: model, label: A model, after: build one, needs: [block, code], chapter: parts/model}
"""
each_map = pytest.mark.parametrize("page", MAPS, ids=lambda page: page.stem)


def steps_of(page):
    return roadmap.parse(BODY.search(page.read_text("utf8"))[1])


# The list of steps


def test_steps():
    steps = roadmap.parse(EXAMPLE)
    assert list(steps) == ["algebra", "code", "net", "block", "model"]
    assert steps["net"].needs == ("algebra", "code") and steps["net"].part == "Here"
    assert steps["algebra"].read == ("A book", "https://example.org")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("needs: [net, algebra]", "needs: [nets]"),
            "'block' needs 'nets', which is no",
        ),
        (("id: block", "id: net"), "'net' stands twice"),
        (("needs: [algebra, code]", "needs: [model]"), "net → model → block → net"),
        (("needs: [algebra, code]", "needs: [net]"), "net → net"),
        (("id: code", "identity: code"), "has the keys"),
        ((", chapter: parts/net", ""), "one of chapter and read"),
        (("- part: Here", "- Here"), "not a list of parts"),
        (("after: train one", "after: [train"), "not a list of parts"),
    ],
)
def test_faults(change, message):
    with pytest.raises(roadmap.Fault, match=re.escape(message)):
        roadmap.parse(EXAMPLE.replace(*change, 1))


def test_a_step_stands_after_what_it_needs():
    before, here = EXAMPLE.split("- part: Here")
    with pytest.raises(roadmap.Fault, match="'net' stands before 'algebra'"):
        roadmap.parse("- part: Here" + here + before)


def test_depths_and_arrows():
    steps = roadmap.parse(EXAMPLE)
    depth = {"algebra": 0, "code": 0, "net": 1, "block": 2, "model": 3}
    assert roadmap.depths(steps) == depth
    drawn = {("algebra", "net"), ("code", "net"), ("net", "block"), ("block", "model")}
    assert set(roadmap.arrows(steps)) == drawn  # what follows from these is left out


# The drawing


@each_map
def test_boxes_do_not_touch_and_arrows_lead_down(page):
    steps = steps_of(page)
    boxes, lines, width, height = roadmap.lay_out(steps)
    depth = roadmap.depths(steps)
    assert set(boxes) == set(steps) and width <= 800
    for name, (x, y) in boxes.items():
        assert 0 <= x <= width - roadmap.WIDTH and 0 <= y <= height - roadmap.HEIGHT
        for other, (u, v) in boxes.items():
            assert other == name or y != v or abs(x - u) >= roadmap.WIDTH
        for need in steps[name].needs:
            assert boxes[need][1] < y and depth[need] < depth[name]
    for points in lines:
        # A line that passes a row passes between its boxes.
        for (x, y), (_, end) in zip(points[1:-1:2], points[2:-1:2], strict=True):
            row = [u for u, v in boxes.values() if v == y]
            assert end == y + roadmap.HEIGHT
            assert not [u for u in row if u < x < u + roadmap.WIDTH]


@each_map
def test_drawing_is_xml_and_the_same_each_time(page):
    steps = steps_of(page)
    links = {name: ("planned", f"#{name}") for name in steps}
    drawing = roadmap.draw(steps, "A & B", links, "map")
    assert drawing == roadmap.draw(steps_of(page), "A & B", links, "map")
    tree = ElementTree.fromstring(drawing)
    assert tree.find("title").text == "A & B" and len(tree.find("desc").text) > 100
    words = ["".join(a.find("text").itertext()) for a in tree.iter("a")]
    assert words == [a.get("aria-label") for a in tree.iter("a")]
    assert len(words) == len(steps) and all(w.endswith(" planned") for w in words)


# In a page


def build(folder: Path, pages: dict[str, str], **settings):
    """Build a site of these pages; return its index.html and the warnings."""
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf8")
    said = io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            folder,
            None,
            folder / "out",
            folder / "trees",
            "html",
            confoverrides={
                "extensions": ["myst_parser", "roadmap"],
                "html_theme": "basic",
                **settings,
            },
            status=None,
            warning=said,
        )
        app.build()
    html = (folder / "out" / "index.html").read_text("utf8")
    return html, "".join(x for x in said.getvalue().splitlines(True) if "WARNING" in x)


def test_a_chapter_that_comes_lights_up(tmp_path):
    orphan = "---\norphan: true\n---\n"
    page = f"# Map\n\n```{{roadmap}} The way\n{EXAMPLE}```\n\n"
    page += "{chapter}`the block <parts/block>`\n"
    html, said = build(tmp_path, {"index.md": page, "parts/net.md": orphan + "# N\n"})
    assert not said
    assert html.count('href="parts/net.html"') == 2  # in the map and in the list
    assert 'class="chapter" aria-label="Networks"' in html
    assert 'class="planned" aria-label="A block planned"' in html
    assert 'href="#index-block"' in html and 'id="index-block"' in html
    assert "the block (planned)" in html
    assert "(read <a" in html and "Needs: Algebra, Code &amp; torch." in html

    # A second build, with the page itself as it was.
    html, said = build(tmp_path, {"parts/block.md": orphan + "# B\n"})
    assert not said
    assert 'class="chapter" aria-label="A block"' in html
    assert html.count('href="parts/block.html"') == 3 and "(planned)" in html


def test_a_fault_is_a_warning_of_the_build(tmp_path):
    body = EXAMPLE.replace("needs: [net, algebra]", "needs: [nets]")
    page = f"# Map\n\n```{{roadmap}} The way\n{body}```\n\n{{chapter}}`no page`\n"
    _, said = build(tmp_path, {"index.md": page})
    assert "roadmap: 'block' needs 'nets', which is no step" in said
    assert "chapter: want words <page>" in said


def test_folded_code_says_what_it_is_for(tmp_path):
    def cell(tags, text="", data=None, **metadata):
        outputs = [new_output("stream", text=text)] if text else []
        if data:
            outputs = [new_output("display_data", data=data)]
        metadata["tags"] = tags
        return new_code_cell("code", outputs=outputs, metadata=metadata)

    drawing = io.BytesIO()
    plt.figure(figsize=(1, 1)).savefig(drawing, format="png")
    picture = base64.b64encode(drawing.getvalue()).decode()
    fold = ["hide-input"]
    own = {"code_prompt_show": "code of the clocks"}
    cells = [
        new_markdown_cell("# Page\n\n## Set-up"),
        cell([]),
        cell([], "full data: 7,367 articles"),
        new_markdown_cell("## The idea"),
        cell([], "visible"),
        cell(fold, data={"image/png": picture}),
        cell(fold, data={"text/html": '<div data-element="replay"></div>'}),
        cell(fold, data={"text/html": '<div data-element="matrices"></div>'}),
        cell(fold, "step  loss\n1  2.0\n2  1.5\n"),
        cell(fold, "ours: largest difference 1e-7, tolerance 1e-6"),
        cell(fold, "7 of 9"),
        cell(fold),
        cell(fold, "9 ms", mystnb=own),
        cell(["hide-cell"], "right"),
    ]
    python = {"language_info": {"name": "python"}}
    page = nbformat.writes(new_notebook(cells=cells, metadata=python))
    settings = {"extensions": ["myst_nb", "folded"], "nb_execution_mode": "off"}
    html, said = build(tmp_path, {"index.ipynb": page}, **settings)
    assert not said
    soup = BeautifulSoup(html, "html.parser")
    lines = [fold.p.get_text() for fold in soup.select("details > summary")]
    assert lines == [
        "set-up",
        "imports",
        *("code of this figure", "code of this figure", "code of this table"),
        *("code of this table", "code of this check", "code of this output"),
        *("code that the next cells use", "code of the clocks", "solution"),
    ]
    inside = [len(fold.select(".cell_output")) for fold in soup.select("details")]
    assert inside == [0] * 10 + [1]  # outputs stay, but that of the solution
    assert len(soup.select(".cell_output")) == 10


def test_main_figure_is_the_marked_one_or_the_first(tmp_path):
    def encoded(kind, *colours):
        file = io.BytesIO()
        first, *others = [Image.new("RGB", (4, 4), colour) for colour in colours]
        more = {"save_all": True, "append_images": others} if others else {}
        first.save(file, kind, **more)
        return base64.b64encode(file.getvalue()).decode()

    def cell(data, **metadata):
        output = new_output("display_data", data=data)
        return new_code_cell("code", outputs=[output], metadata=metadata)

    def found(*cells):
        path = tmp_path / "page.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        gallery._figure.cache_clear()
        return gallery.main_figure(path)

    text = cell({"text/plain": "7"})
    red = {"image/png": encoded("png", "red")}
    film = {"image/gif": encoded("gif", "white", "black", "blue")}
    still = (
        f'<img src="data:image/png;base64,{encoded("png", "lime")}" alt="A &amp; B">'
    )
    alt = {"mystnb": {"image": {"alt": "blue at the end"}}}
    assert found(text) is None
    picture, words = found(text, cell({"text/html": still}), cell(red))
    assert picture.getpixel((0, 0)) == (0, 255, 0) and words == "A & B"
    picture, words = found(cell(red), cell(film, glassbox={"main": True}, **alt))
    assert picture.getpixel((0, 0)) == (0, 0, 255) and words == "blue at the end"


# What the pages say of the project


@each_map
def test_roadmaps_know_the_chapters(page):
    """Chapters have the form of a path; a chapter of the contents comes after its needs."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    order = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    steps = steps_of(page)
    for step in steps.values():
        if step.chapter:
            assert re.fullmatch(r"notebooks/[a-z]+/[a-z-]+", step.chapter)
        for need in step.needs:
            pair = [steps[need].chapter, step.chapter]
            if set(pair) <= set(order) and pair[0] != pair[1]:
                assert order.index(pair[0]) < order.index(pair[1]), pair


def test_every_chapter_is_on_a_roadmap():
    known = {step.chapter for page in MAPS for step in steps_of(page).values()}
    for path in notebooks.paths():
        assert str(path.relative_to(ROOT).with_suffix("")) in known


def test_contributing_says_what_the_tests_ask():
    from test_notebooks import SECTIONS

    page = (ROOT / "book" / "contributing.md").read_text("utf8")
    table = page.split("| section |")[1].split("\n\n")[0]
    assert re.findall(r"^\| ([A-Z][\w -]+?) \|", table, re.M) == SECTIONS
    tags = notebooks.DATA_TAGS | {"hide-input", "hide-cell", "timing"}
    assert all(f"| `{tag}` |" in page for tag in tags)
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"[`\n]make ([a-z]+)\b", page)) <= set(targets)
    set_up = re.search(r"```python\n(from importlib.*?)\n```", page, re.S)[1]
    for path in notebooks.paths():
        cells = notebooks.nbformat.read(path, as_version=4).cells
        assert next(c.source for c in cells if c.cell_type == "code") == set_up


def test_tools_are_told_in_full():
    page = (ROOT / "book" / "interpretability-tools.md").read_text("utf8")
    rows = re.findall(r"^\| \[.+", page, re.M)
    assert len(rows) >= 20
    for row in rows:
        _, _, works_on, licence, released = row.strip("| ").split(" | ")
        assert works_on and re.search(r"MIT|Apache|BSD|LGPL", licence)
        assert re.search(r"(\d+\.\d+|no package).+ 20\d\d", released), row


# Numbers of the benchmark


RECORD = {
    "setting": {"cpu": "a chip"},
    "lengths": [512, 1024],
    "crossover": {"forward": 1024, "backward": None},
    "forward": {
        "dense": {"ms": [2.0, 8.0], "mb": [0.5, 0.6], "slope": 1.98},
        "flex": {"ms": [None, 4.0], "mb": [None, None], "slope": None},
    },
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cpu", "a chip"),
        ("crossover forward", "1,024"),
        ("crossover backward", "at no length"),
        ("forward dense slope", "1.98"),
        ("forward dense mb 512", "0.5 MB"),
        ("forward flex ms 512", "not measured"),
        ("forward flex share 1024", "50 %"),
        ("forward flex ratio 1024", "2 times"),
    ],
)
def test_a_measured_number_is_rounded_and_has_its_unit(text, wanted):
    assert measured.said(RECORD, text) == wanted


@pytest.mark.parametrize(
    "text", ["forward ours ms 512", "forward dense ms 99", "forward dense cost 512"]
)
def test_a_number_that_was_not_measured_is_an_error(text):
    with pytest.raises(KeyError):
        measured.said(RECORD, text)


def test_models_to_try_are_all_there_and_weighed():
    """`book/try.md` lists each live element of the book, with its size and licence."""
    page = (ROOT / "book" / "try.md").read_text("utf8")
    parts = re.findall(r"^```\{shown\} \.\./(\S+)\n:cell: (.+)\n:weighed:$", page, re.M)
    found = []
    for path in notebooks.paths():
        for cell in nbformat.read(path, 4).cells:
            html = [
                o.get("data", {}).get("text/html", "") for o in cell.get("outputs", ())
            ]
            for one in html:
                if "data-live=" in one:
                    name = str(path.relative_to(ROOT))
                    assert sum(n == name and c in cell.source for n, c in parts) == 1
                    told = BeautifulSoup(shown.weighed(one), "html.parser")
                    said = told.select_one("[data-live] > [slot]").text
                    assert re.match(
                        r"With scripts it loads \d+\.\d MB when asked\. (Weights|Text) of",
                        said,
                    )
                    assert "MIT" in said or "CC BY 4.0" in said
                    found.append(name)
    assert len(found) == len(parts) >= 7
    landing = (ROOT / "book" / "index.md").read_text("utf8")
    assert "(try.md)" in landing.partition("\n```")[0]  # above the first figure


def test_a_live_element_takes_the_script_of_its_kind(tmp_path):
    """Its data stay in the page; other elements' scripts become files of their own."""
    app = SimpleNamespace(outdir=tmp_path)
    soup = BeautifulSoup(
        '<html data-content_root="../"><div data-element="live" data-live="write" '
        'data-key="a1" data-with="{}"><p>story</p></div><div data-element="replay" '
        'data-key="b2"><script>play();</script></div></html>',
        "html.parser",
    )
    pages._load_elements_late(app, soup)
    live, other = soup.select("[data-element]")
    assert live["data-script"] == "../_static/live/write.js"
    assert live["data-with"] == "{}" and live.p.string == "story"
    assert other["data-script"] == "../_static/elements/b2.js" and not other.script
    made = [file.name for file in (tmp_path / "_static" / "elements").iterdir()]
    assert made == ["b2.js"]
