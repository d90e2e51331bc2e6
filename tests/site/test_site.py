"""The built site: nothing from other hosts, every figure told in words, links that lead."""

import functools
import gzip
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from serve import BASE, CONFIG

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "test" / "_build" / "html"
PAGES = [p for p in sorted(SITE.rglob("*.html")) if "_static" not in p.parts]
each = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@functools.cache
def parse(page):
    return BeautifulSoup(page.read_text("utf8"), "html.parser")


def article(page):
    return parse(page).find("article") or parse(page).find("main")


def place(page, path):
    """The file that an address on a page means; the 404 page's start at the host."""
    path = unquote(path)
    return (
        SITE / path.removeprefix(BASE) if path.startswith(BASE) else page.parent / path
    )


def test_site_is_complete():
    names = {str(page.relative_to(SITE)) for page in PAGES}
    assert {"index.html", "book/corrections.html", "book/glossary.html"} <= names
    chapters = ROOT.glob("notebooks/*/*.ipynb")
    assert {f"{n.relative_to(ROOT).with_suffix('.html')}" for n in chapters} <= names


@each
def test_nothing_is_fetched_from_other_hosts(page):
    fetched = [tag["src"] for tag in parse(page).find_all(src=True)]
    fetched += [
        link["href"]
        for link in parse(page).find_all("link", href=True)
        if {"stylesheet", "icon", "preload"} & set(link.get("rel", []))
    ]
    for address in fetched:
        if not address.startswith("data:"):
            parts = urlsplit(address)
            assert not parts.netloc, address
            assert place(page, parts.path).is_file(), address


@each
def test_pictures_have_alt_text(page):
    for picture in article(page).find_all("img"):
        assert len(picture.get("alt", "")) > 40, str(picture)[:300]


@each
def test_figures_have_captions(page):
    for figure in article(page).find_all("figure"):
        assert figure.figcaption and figure.figcaption.get_text(strip=True)


@each
def test_what_a_reader_works_comes_late_and_is_light(page):
    """A chapter's elements are files of at most 100 KB over the wire, beside a still."""
    for host in article(page).select("[data-script]"):
        assert not host.find("script")
        assert host.find("img", alt=True) or host.find("table")
        file = place(page, host["data-script"])
        assert file.is_file() and len(gzip.compress(file.read_bytes(), 6)) <= 100_000
    if page.parent.parent.name == "notebooks":
        assert not article(page).select("[data-element]:not([data-script])")


@each
def test_set_up_is_folded(page):
    for cell in article(page).select("#set-up > .cell"):
        assert cell.select_one("details.hide .cell_input"), cell
        assert not cell.select("details .cell_output")


@each
def test_an_animation_prints_its_last_frame(page):
    for film in article(page).select("img[src$='.gif']"):
        still = film.find_next_sibling("img", class_="print-only")
        assert still["alt"] == film["alt"]
        with Image.open(place(page, film["src"])) as frames:
            frames.seek(frames.n_frames - 1)
            with Image.open(place(page, still["src"])) as last:
                assert last.tobytes() == frames.convert("RGB").tobytes()


def test_landing_page_shows_each_chapter_by_its_figure():
    landing = SITE / "index.html"
    shown = {}
    for card in article(landing).select(".gallery .sd-card"):
        picture = card.select_one("img[width='480'][height='300'][loading=lazy]")
        assert place(landing, picture["src"]).stat().st_size < 40_000
        shown[card.a["href"]] = card.select_one(".sd-card-text").get_text(strip=True)
    chapters = ROOT.glob("notebooks/*/*.ipynb")
    assert set(shown) == {
        f"{path.relative_to(ROOT).with_suffix('.html')}" for path in chapters
    }
    for address, title in shown.items():
        heading = article(SITE / address).h1.find(string=True, recursive=False)
        assert title == heading.strip()


@each
def test_formulas_are_rendered(page):
    for formula in article(page).find_all(class_="math"):
        assert formula.find(class_="katex"), str(formula)[:300]
    prose = [tag.get_text() for tag in article(page).find_all("p")]
    assert not [text for text in prose if re.search(r"\$\$|\\\(|\{term\}|\{cite", text)]


@each
def test_links_within_the_site_lead_somewhere(page):
    for link in parse(page).find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        path, fragment = urldefrag(link["href"])
        path = unquote(path.partition("?")[0])
        target = place(page, path).resolve() if path else page
        assert target.is_file(), link["href"]
        if fragment and target.suffix == ".html":
            assert parse(target).find(id=unquote(fragment)), link["href"]


def test_repository_has_one_address():
    """_config.yml names it; the set-up cells and the site's own address agree."""
    url = CONFIG["repository"]["url"]
    owner, name = url.removeprefix("https://github.com/").split("/")
    assert CONFIG["html"]["baseurl"] == f"https://{owner}.github.io/{name}/"
    for path in ROOT.glob("notebooks/*/*.ipynb"):
        code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        assert f'git+{url}"' in code[0].source, path.name


@each
def test_links_from_elsewhere_show_a_card(page):
    if page.parent == SITE and page.name != "index.html":
        return  # search, index, 404
    head = parse(page).head
    card = {m["property"]: m["content"] for m in head.select("meta[property^='og:']")}
    own = "" if page.stem == "index" else page.relative_to(SITE).as_posix()
    assert card["og:url"] == CONFIG["html"]["baseurl"] + own
    assert head.select_one("link[rel=canonical]")["href"] == card["og:url"]
    assert len(card["og:description"]) > 20 and card["og:title"]
    picture = card["og:image"].removeprefix(CONFIG["html"]["baseurl"])
    assert (SITE / picture).is_file()
    if SITE / "notebooks" in page.parents:
        assert picture == f"_static/social/{page.stem}.png"
        assert len(card["og:image:alt"]) > 40
    listed = (SITE / "sitemap.xml").read_text("utf8")
    assert f"<loc>{card['og:url']}</loc>" in listed
