"""The built site in a browser: quiet, accessible, light, usable by keyboard, searchable."""

import gzip
import re
from pathlib import Path

import pytest
from serve import BASE, served
from test_site import PAGES, SITE, article

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
LANDING, TRY = "index.html", "book/try.html"
CHAPTERS = [str(p.relative_to(SITE)) for p in PAGES if SITE / "notebooks" in p.parents]
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 360, "height": 800}
LIGHT = {"color_scheme": "light", "viewport": WIDE}
THEME = "document.documentElement.dataset.theme"
OTHERS = [
    str(page.relative_to(SITE))
    for page in PAGES
    if page.name == "search.html"
    or (page.parent == SITE / "book" and page.name != "try.html")
]
# Scrolls to each thing that a reader works, as a reader would, and waits until it is there.
# What is folded away stays as it is; the answer is what did not come.
ELEMENTS = """async () => {
  const late = [];
  for (const host of document.querySelectorAll("[data-script]")) {
    if (!host.checkVisibility()) continue;
    host.scrollIntoView();
    for (let n = 0; !host.shadowRoot && n < 250; n++)
      await new Promise((wait) => setTimeout(wait, 20));
    if (!host.shadowRoot) late.push(host.dataset.script);
  }
  scrollTo(0, 0);
  return late;
}"""
# What Tab should reach: links, buttons, fields, in the shadow of a replay too.
CONTROLS = """() => {
  const found = new Set(), walk = (root) => {
    root.addEventListener("focusin", (event) => found.delete(event.target));
    root.querySelectorAll("*").forEach((node) => {
      if (node.shadowRoot) walk(node.shadowRoot);
      if (node.matches("a[href], button, input, summary, select, textarea, [tabindex='0']")
          && !node.disabled && node.checkVisibility({ visibilityProperty: true })
          && !node.closest("details:not([open]) > :not(summary), .pst-sidebar-hidden"))
        found.add(node);
    });
  };
  walk(document);
  window.wanted = found;
  return found.size;
}"""
PICTURES = """async () => {
  const wrong = [];
  for (const picture of document.images) {
    picture.loading = "eager";
    await picture.decode().catch(() => wrong.push(picture.src));
    if (!picture.hasAttribute("alt")) wrong.push(picture.outerHTML.slice(0, 200));
    if (picture.closest("article") && picture.alt.length < 40)
      wrong.push(picture.outerHTML.slice(0, 200));
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def site():
    with served(SITE) as address:
        yield address


def inaccessible(page, rules, part="html"):
    """What axe-core finds in a part; `rules` are its options. Its script comes once."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    options = {"resultTypes": ["violations"], "selectors": False, **rules}
    run = "([part, options]) => axe.run(part, options).then((r) => r.violations)"
    found = page.evaluate(run, [part, options])
    return [f"{v['id']}: {n['html'][:200]}" for v in found for n in v["nodes"]]


def fits(page):
    width = page.evaluate("document.documentElement.scrollWidth")
    return width <= page.viewport_size["width"]


def weight(responses):
    """Bytes over the wire before pictures."""
    total = 0
    for url, response in list(responses.items()):  # reading one lets others come in
        if not re.search(r"\.(png|gif|svg|jpe?g|webp)$", url):
            body = response.body()
            if url.endswith(".html"):
                body = re.sub(rb'"data:image/[^"]*"', b'""', body)
            total += len(body if url.endswith("woff2") else gzip.compress(body, 6))
    return total


def out_of_reach(page):
    """The controls that Tab does not come to."""
    steps = page.evaluate(CONTROLS)
    assert steps > 10
    for step in range(steps + 10):
        page.keyboard.press("Tab")
        if step >= steps - 10 and not page.evaluate("wanted.size"):
            return []
    return page.evaluate("[...wanted].map((node) => node.outerHTML.slice(0, 150))")


@pytest.mark.parametrize("path", [LANDING, TRY, *CHAPTERS])
def test_page(path, site, open_page):
    """Quiet, light, accessible, in reach; the page is opened once for all of it.

    open_page fails the test for what the console says.
    """
    page = open_page("about:blank", reduced_motion="reduce", **LIGHT)
    responses = {}
    page.on("response", lambda response: responses.update({response.url: response}))
    page.goto(site + path)
    page.wait_for_load_state("networkidle")
    assert not [url for url in page.requests if not url.startswith(site)]
    assert not [url for url in responses if "searchindex" in url]
    assert weight(responses) <= 200_000
    assert not page.evaluate(ELEMENTS)
    assert fits(page) and page.evaluate(THEME) == "light"
    if formula := page.query_selector(".katex-html"):  # drawn with our own fonts
        page.evaluate("document.fonts.ready")
        fonts = "[...document.fonts].filter((f) => f.status === 'loaded').length"
        assert page.evaluate(fonts) > 0
        box = formula.bounding_box()
        assert box["width"] > 4 and box["height"] > 4
    assert not inaccessible(page, {})
    assert not out_of_reach(page)

    # The theme changes colours; the width changes what scrolls, and what leads around.
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{THEME} === 'dark'")
    assert not inaccessible(page, {"runOnly": ["color-contrast"]})
    page.set_viewport_size(NARROW)
    page.wait_for_timeout(100)  # what scrolls is found after the next frame (site.js)
    assert fits(page)
    assert not inaccessible(page, {"runOnly": ["scrollable-region-focusable"]})
    assert not inaccessible(page, {}, "header, .bd-header-article, .prev-next-area")

    assert not page.evaluate(PICTURES)


@pytest.mark.parametrize("path", OTHERS)
def test_page_without_code(path, site, open_page):
    page = open_page(site + path, color_scheme="dark", viewport=NARROW)
    page.wait_for_load_state("networkidle")
    assert not [url for url in page.requests if not url.startswith(site)]
    assert fits(page) and page.evaluate(THEME) == "dark"
    assert not inaccessible(page, {})


def test_code_is_copied(site, open_page):
    allowed = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = open_page(site + CHAPTERS[0], **LIGHT, **allowed)
    code = page.locator(".highlight:has(button.copybtn):visible").first
    code.hover()
    code.locator("button").click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == code.locator("pre").text_content().rstrip("\n")


def test_formulas_stand_on_pages():
    assert any(article(page).select(".katex-html") for page in PAGES)


def test_theme_switches_by_keyboard_and_is_remembered(site, open_page):
    page = open_page(site + LANDING, **LIGHT)
    mode = "document.documentElement.dataset.mode"
    seen = {page.evaluate(mode)}
    for _ in range(2):
        page.locator(".theme-switch-button:visible").focus()
        page.keyboard.press("Enter")
        seen.add(page.evaluate(mode))
    assert seen == {"auto", "light", "dark"}
    last = page.evaluate(mode)
    page.reload()
    assert page.evaluate(mode) == last


def test_launch_buttons_open_by_keyboard(site, open_page):
    path = CHAPTERS[0]
    page = open_page(site + path, **LIGHT)
    page.get_by_label("Launch interactive content").focus()
    page.keyboard.press("Enter")
    offered = {}
    for _ in range(3):
        page.keyboard.press("ArrowDown")
        text, url = page.evaluate(
            "[document.activeElement.innerText.trim(), document.activeElement.href]"
        )
        offered[text] = url
    assert set(offered) == {"Binder", "Colab", "JupyterLab"}
    notebook = path.replace(".html", ".ipynb")
    assert offered["Colab"].endswith(f"/blob/main/{notebook}")
    assert offered["Binder"].endswith(f"urlpath=lab/tree/{notebook}")
    assert offered["JupyterLab"].endswith(
        "/lab/tree" + notebook.removeprefix("notebooks")
    )
    with page.expect_download() as download:
        page.evaluate("""() => {
          const link = document.querySelector(".btn-download-source-button");
          link.download = ""; link.target = ""; link.click();
        }""")
    assert download.value.suggested_filename == Path(notebook).name


def test_landing_figure_moves_unless_motion_is_unwanted(site, open_page):
    frame = "document.querySelector('[data-element]').shadowRoot.querySelector('input').value"
    still = open_page(site + LANDING, reduced_motion="reduce", **LIGHT)
    still.wait_for_timeout(600)
    at = still.evaluate(frame)
    still.wait_for_timeout(600)
    assert still.evaluate(frame) == at
    moving = open_page(site + LANDING, reduced_motion="no-preference", **LIGHT)
    moving.wait_for_function(f"{frame} === '3'")
    button = moving.locator("[data-element] button")
    assert button.get_attribute("aria-label") == "Pause"
    box = moving.locator("[data-element]").first.bounding_box()
    assert box["y"] + box["height"] < 900, "not within the first screen"


def find(page, words):
    """Search as a reader does: Ctrl+K, the words, Enter. The pages found."""
    page.keyboard.press("Control+k")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.wait_for_function(
        "document.querySelector('.search-summary, #search-results p')"
    )
    page.wait_for_function(
        "/finished|did not match|found/i.test(document.querySelector('#search-results')"
        ".innerText)"
    )
    links = (
        "[...document.querySelectorAll('#search-results li a')].map((a) => a.pathname)"
    )
    return {Path(path).name for path in page.evaluate(links)}


@pytest.mark.parametrize("words", ["言語", "処理", "自然言語"])
def test_search_finds_japanese(words, site, open_page):
    holders = {
        page.name
        for page in PAGES
        if page.parent != SITE and words in article(page).get_text()
    }
    assert holders, "choose words that the book holds"
    assert find(open_page(site + LANDING), words) >= holders


def test_search_finds_english(site, open_page):
    assert "attention.html" in find(open_page(site + LANDING), "queries")
    assert not find(open_page(site + LANDING), "zzyzx")


@pytest.mark.parametrize("path", ["nowhere.html", "deep/down/nowhere.html"])
def test_wrong_address_leads_back(path, site, browser):
    page = browser.new_page()
    failed = []
    page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
    page.goto(site + path, wait_until="networkidle")
    assert failed == [site + path]
    assert page.title().startswith("No such page")
    page.get_by_role("link", name="The Glass Box", exact=True).last.click()
    page.wait_for_url(f"**{BASE}book/index.html")
    page.close()
