"""What each page gets on its way out: the theme's faults mended, less to load.

The theme's HTML is parsed once, as it is rendered. Also here: the landing page at the
root of the site, the page for a wrong address, the map of the site.
"""

import base64
import copy
import hashlib
import io
import posixpath
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import pydata_sphinx_theme
from bs4 import BeautifulSoup, Comment
from PIL import Image

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
ICON = re.compile(
    r'"?(?P<name>[a-z0-9-]+)"?:\[(?P<width>\d+),(?P<height>\d+),\[(?P<aliases>[^\]]*)\],'
    r'"[0-9a-f]+",(?P<path>"[^"]*")'
)
# Before the first paint; the theme leaves "auto" to a script that comes later.
MODE = """
const root = document.documentElement.dataset;
root.mode = localStorage.getItem("mode") || "auto";
root.theme = root.mode !== "auto" ? root.mode
  : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""
# As sphinx-copybutton's script would add it.
COPY = """<button class="copybtn o-tooltip--left pst-js-only" data-clipboard-target="#{}"
 data-tooltip="Copy"><svg class="icon" fill="none" stroke="#000" stroke-linecap="round"
 stroke-linejoin="round" stroke-width="1.5" viewBox="0 0 24 24"><title>Copy to clipboard
</title><rect height="12" rx="2" width="12" x="8" y="8"></rect><path d="M16 8v-2a2 2 0 0 0
 -2 -2h-8a2 2 0 0 0 -2 2v8a2 2 0 0 0 2 2h2"></path></svg></button>""".replace("\n", "")
# On the page for a search only, and in this order.
SEARCH = ("_static/language_data.js", "_static/searchtools.js", "searchindex.js")
LOST = """<h1>There is no such page</h1>
<p>The address is wrong, or the page has moved. Search the book with the field on the left,
or start at <a class="reference internal" href="book/index.html">The Glass Box</a>.</p>"""


# One page


def _mended(app, page: str, html: str) -> str:
    soup = BeautifulSoup(html, "html.parser")
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    _load_less(soup, page)
    if page.startswith("notebooks/") or soup.select_one("[data-live]"):
        _load_elements_late(app, soup)
    _draw_icons(soup)
    _name_things(soup)
    _size_pictures(app, soup)
    _lighten_code(soup)
    address = soup.select_one("link[rel=canonical]")
    for tag in soup.select("meta[property='og:url']"):
        tag["content"] = address["href"]
    if page == "404":  # it answers at any depth
        _rebase(soup, "", urlsplit(app.config.html_baseurl).path)
    return str(soup)


def _load_less(soup, page: str) -> None:
    """One style sheet and one script (bundle.py), after the page has been drawn."""
    root = soup.html["data-content_root"]
    for tag in soup.find_all("script"):
        inline = tag.string or ""
        if "documentElement.dataset.mode" in inline:
            tag.string = MODE
        elif (
            tag.get("src")
            or re.match(
                r"\s*(let toggle|var toggle|DOCUMENTATION_|kernelName|const THEBE)",
                inline,
            )
            or tag.get("type") == "text/x-thebe-config"
        ):
            tag.decompose()
    for tag in soup.select(
        "link[rel=preload], link[rel=stylesheet], #ethical-ad-placement"
    ):
        tag.decompose()
    for extra in soup.select("meta[name=viewport]")[1:] + soup.select(
        "meta[name^=docs]"
    ):
        extra.decompose()
    soup.head.append(
        soup.new_tag("link", rel="stylesheet", href=f"{root}_static/book.css")
    )
    scripts = ["_static/book.js", *(SEARCH if page == "search" else ())]
    if soup.select_one(".sd-tab-set"):
        scripts.append("_static/design-tabs.js")
    for name in scripts:
        tag = soup.new_tag("script", src=root + name, defer="")
        if "tabs" in name:
            tag["data-sd-tabs-storage-prefix"] = "sphinx-design-tab-id-"
        soup.head.append(tag)


def _load_elements_late(app, soup) -> None:
    """What a reader works comes when it is near (site.js): until then its still stands.

    Stills and diagrams, which a notebook carries in its text, become files as well.
    """
    root = soup.html["data-content_root"]
    folder = Path(app.outdir) / "_static" / "elements"
    folder.mkdir(parents=True, exist_ok=True)
    for host in soup.select("[data-element]"):
        if kind := host.get("data-live"):  # its script is that of all of its kind
            host["data-script"] = f"{root}_static/live/{kind}.js"
            continue
        script = host.script.extract()
        name = f"{host['data-key']}.js"
        (folder / name).write_text(script.string, "utf8")
        host["data-script"] = f"{root}_static/elements/{name}"
    for picture in soup.select("article img[src^='data:image/png;base64,']"):
        png = base64.b64decode(picture["src"].partition(",")[2])
        name = f"{hashlib.sha256(png).hexdigest()[:12]}.png"
        (folder / name).write_bytes(png)
        with Image.open(io.BytesIO(png)) as image:
            width, height = image.size
        shown = int(picture.get("width", width))
        picture.attrs |= {"width": str(shown), "height": str(height * shown // width)}
        picture["style"] = f"{picture.get('style', '')}; height: auto".lstrip("; ")
        picture.attrs |= {"src": f"{root}_static/elements/{name}", "loading": "lazy"}


@cache
def _icons() -> dict[str, re.Match]:
    """The theme's icons by name: solid ones come last in its script, and win."""
    found = {}
    script = (THEME / "static" / "scripts" / "fontawesome.js").read_text("utf8")
    for icon in ICON.finditer(script):
        for name in (icon["name"], *re.findall(r'"([^"]+)"', icon["aliases"])):
            found[name] = icon
    return found


def _draw_icons(soup) -> None:
    """Icons as SVG: no script of 540 KB that draws them in the browser."""
    for tag in soup.select("i[class*=fa-], span[class*=fa-]"):
        names = [name for name in tag["class"] if name.startswith("fa-")]
        icon = next(_icons()[n[3:]] for n in names if n[3:] in _icons())
        kept = [c for c in tag["class"] if not re.fullmatch(r"fa[bsr]?(-(?!lg).*)?", c)]
        svg = soup.new_tag(
            "svg",
            viewBox=f"0 0 {icon['width']} {icon['height']}",
            attrs={"class": ["icon", *kept], "aria-hidden": "true"},
        )
        for key, value in tag.attrs.items():
            if key.startswith("data-"):
                svg[key] = value
        path = soup.new_tag("path", fill="currentColor", d=icon["path"].strip('"'))
        svg.append(path)
        tag.replace_with(svg)


def _name_things(soup) -> None:
    """What a screen reader hears is what stands there, and everything has a place."""
    for button in soup.select(".search-button-field"):
        del button["aria-label"]  # its own words name it
        del button["title"]
    for button in soup.select(".sidebar-toggle, .btn-fullscreen-button"):
        button["aria-label"] = button["title"]
    sidebar = soup.select_one("#pst-primary-sidebar")
    if sidebar:
        sidebar.attrs |= {"role": "navigation", "aria-label": "The book"}
    for twin in soup.select("img.logo__image.only-dark"):
        twin.decompose()
    for logo in soup.select("img.logo__image"):
        logo.attrs |= {"class": "logo__image", "width": "88", "height": "88"}
    for logo in soup.select(".btn__icon-container img"):
        logo.attrs |= {"alt": "", "width": "20", "height": "20", "loading": "lazy"}
    for summary in soup.select("details > summary[aria-label]"):
        del summary["aria-label"]
    for entry in soup.select("[role=doc-biblioentry]"):
        entry["role"] = "listitem"
    for cell in soup.select("article th"):
        if not cell.get_text(strip=True) and not cell.find("img"):
            cell.name = "td"


def _size_pictures(app, soup) -> None:
    """Room for a picture before it comes, so that the text does not jump.

    An animation gets its last frame beside it, for print (site.css).
    """
    files = {name: source for source, name in app.builder.images.items()}
    for picture in soup.select("article img[src*=_images]"):
        source = files.get(posixpath.basename(picture["src"]))
        if source and not source.endswith(".svg") and not picture.get("width"):
            with Image.open(Path(app.srcdir) / source) as image:
                width, height = image.size
                image.seek(getattr(image, "n_frames", 1) - 1)
                last = image.copy() if source.endswith(".gif") else None
            picture.attrs |= {"width": str(width), "height": str(height)}
            if last:
                still = Path(picture["src"]).with_suffix(".png")
                folder = Path(app.outdir) / "_images"
                folder.mkdir(exist_ok=True)  # Sphinx copies pictures later
                last.convert("RGB").save(folder / still.name)
                twin = copy.copy(picture)
                twin.attrs |= {"src": str(still), "class": "print-only"}
                picture.insert_after(twin)
                twin["loading"] = "lazy"
        picture["loading"] = "lazy"  # text comes first on every page


def _lighten_code(soup) -> None:
    """Names, signs and spaces have the colour of the code: no element for each of them.

    A button copies the code.
    """
    for number, code in enumerate(soup.select(".highlight > pre")):
        code["id"] = f"codecell{number}"
        code.insert_after(BeautifulSoup(COPY.format(code["id"]), "html.parser"))
        for span in code.find_all("span", class_=("n", "p", "w")):
            span.unwrap()


def _rebase(soup, folder: str, prefix: str) -> None:
    """Make a page of `folder` work at another place, from which `prefix` leads home."""
    for tag in soup.select("[href], [src], [action]"):
        for key in ("href", "src", "action"):
            parts = urlsplit(tag.get(key, "#"))
            if parts.path and not parts.scheme and not parts.netloc:
                path = posixpath.normpath(posixpath.join(folder, parts.path))
                tag[key] = parts._replace(path=prefix + path).geturl()
    soup.html["data-content_root"] = prefix or "./"


# The site


def _addresses(app, config):
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title


def _wrap(app):
    """The theme has no hook for finished HTML: take it where it is rendered."""
    if app.builder.format != "html":
        return
    render = app.builder.templates.render

    def rendered(template, context):
        html = render(template, context)
        return _mended(app, context["pagename"], html) if "<html" in html else html

    app.builder.templates.render = rendered


def _page_context(app, pagename, templatename, context, doctree):
    if pagename == app.config.root_doc:
        context["pageurl"] = app.config.html_baseurl
    # `make lab` opens the notebooks folder in the reader's own JupyterLab.
    for group in context.get("header_buttons", ()):
        if group.get("label") == "launch-buttons" and pagename.startswith("notebooks/"):
            path = pagename.removeprefix("notebooks/")
            group["buttons"].append(
                {
                    "type": "link",
                    "text": "JupyterLab",
                    "tooltip": "Open in your own JupyterLab, while `make lab` runs",
                    "icon": "fas fa-laptop-code",
                    "url": f"http://localhost:8888/lab/tree/{path}.ipynb",
                }
            )


def _lost(app):
    yield "404", {"title": "No such page", "body": LOST}, "page.html"


def _finish(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out, base, root = Path(app.outdir), app.config.html_baseurl, app.config.root_doc
    landing = (out / f"{root}.html").read_text("utf8")
    soup = BeautifulSoup(landing, "html.parser")
    _rebase(soup, posixpath.dirname(root), "")
    (out / "index.html").write_text(str(soup), "utf8")
    # The picture for links from elsewhere: the landing page's own.
    if still := re.search(r'src="data:image/png;base64,([^"]+)"', landing):
        (out / "_static" / "card.png").write_bytes(base64.b64decode(still[1]))
    pages = [
        base,
        *(f"{base}{name}.html" for name in sorted(app.env.found_docs - {root})),
    ]
    (out / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        + "".join(f"<url><loc>{escape(page)}</loc></url>\n" for page in pages)
        + "</urlset>\n",
        "utf8",
    )


def setup(app):
    app.connect("config-inited", _addresses, priority=900)
    app.connect("builder-inited", _wrap)
    app.connect("html-page-context", _page_context, priority=900)
    app.connect("html-collect-pages", _lost)
    app.connect("build-finished", _finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
