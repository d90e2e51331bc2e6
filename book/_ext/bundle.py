"""The site's one style sheet and one script, made of the theme's and our own.

Styles for what no page holds are left out: nine tenths of the theme's. A rule stays when
each class and id that it asks for stands in some page or in a script.
"""

import posixpath
import re
from pathlib import Path

import tinycss2
from sphinx.errors import ExtensionError

STYLES = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "togglebutton.css",
    "copybutton.css",
    "mystnb.*.css",
    "katex/katex.min.css",
    "sphinx-design.min.css",
)  # then ours, in book/_static
SCRIPTS = (
    "documentation_options.js",
    "doctools.js",
    "sphinx_highlight.js",
    "clipboard.min.js",
    "copybutton.js",
    "scripts/sphinx-book-theme.js",
    "togglebutton.js",
    "scripts/bootstrap.js",
    "scripts/pydata-sphinx-theme.js",
    "site.js",
)
# What measures or changes the whole page once it stands is done otherwise: copy buttons are
# in the page (pages.py), and what scrolls is found as it is drawn (site.js).
LEFT_OUT = (
    "codeCell.setAttribute('id', id)",
    "codeCell.insertAdjacentHTML('afterend', clipboardButton(id))",
    ',"complete"===document.readyState?I():window.addEventListener("load",I)',
)
SETTINGS = """let toggleHintShow = "Click to show";
let toggleHintHide = "Click to hide";
let toggleOpenOnPrint = "true";
var togglebuttonSelector = ".toggle, .admonition.dropdown";
"""


def _bundle(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    script = SETTINGS + ";\n".join((static / s).read_text("utf8") for s in SCRIPTS)
    script = re.sub(r"^//# sourceMappingURL=.*$", "", script, flags=re.M)
    for part in LEFT_OUT:
        if script.count(part) != 1:
            raise ExtensionError(f"the theme's scripts no longer hold {part!r} once")
        script = script.replace(part, "")
    (static / "book.js").write_text(script, "utf8")

    names = set(re.findall(r"[\w-]+", script))
    for page in out.rglob("*.html"):
        if static not in page.parents:
            html = page.read_text("utf8")
            for value in re.findall(r'\b(?:class|id)="([^"]*)"', html):
                names.update(value.split())
            for inline in re.findall(r"<script\b.*?</script>", html, re.S):
                names.update(re.findall(r"[\w-]+", inline))
    css = []
    ours = sorted((Path(app.srcdir) / "book" / "_static").glob("*.css"))
    for pattern in (*STYLES, *(file.name for file in ours)):
        for file in sorted(static.glob(pattern)):
            folder = posixpath.dirname(file.relative_to(static).as_posix())
            css.append(_pruned(_rebased(file.read_text("utf8"), folder), names))
    (static / "book.css").write_text("".join(css), "utf8")
    for source_map in static.rglob("*.map"):
        source_map.unlink()


def _rebased(css: str, folder: str) -> str:
    """Addresses of a style sheet in `folder`, as seen from the folder above it."""

    def moved(match):
        path = match[2]
        if not path.startswith(("data:", "#", "http")):
            path = posixpath.normpath(posixpath.join(folder, path))
        return f"url({match[1]}{path}{match[1]})"

    return re.sub(r"""url\((["']?)([^"')]+)\1\)""", moved, css)


def _pruned(css: str, names: set[str]) -> str:
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    return "".join(_rule(rule, names) for rule in rules)


def _rule(rule, names: set[str]) -> str:
    if rule.type == "at-rule":
        if rule.content is None:
            return ""  # @charset, @import: all are here
        head = f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}"
        if rule.lower_at_keyword in ("media", "supports"):
            inner = tinycss2.parse_rule_list(
                rule.content, skip_comments=True, skip_whitespace=True
            )
            body = "".join(_rule(part, names) for part in inner)
            return f"{head.strip()}{{{body}}}" if body else ""
        body = tinycss2.serialize(rule.content)
        if rule.lower_at_keyword == "font-face":
            if "fontawesome" in body:  # the icons are drawn already
                return ""
            body = re.sub(r"font-display:\s*block", "font-display:swap", body)
        return f"{head.strip()}{{{body}}}"
    if rule.type != "qualified-rule":
        return ""
    selectors = [s for s in _selectors(rule.prelude) if _used(s, names)]
    if not selectors:
        return ""
    body = re.sub(r"\s+", " ", tinycss2.serialize(rule.content)).strip()
    return f"{','.join(selectors)}{{{body}}}"


def _selectors(prelude) -> list[str]:
    parts = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def _used(selector: str, names: set[str]) -> bool:
    plain = re.sub(r"\[[^\]]*\]", "", selector)
    while "(" in plain:  # :not(.x), :is(.x, .y): not needed for the rule to hold
        plain, before = re.sub(r"\([^()]*\)", "", plain), plain
        if plain == before:
            return True
    wanted = re.findall(r"[.#](-?[A-Za-z_][\w-]*)", plain.replace("\\", ""))
    return names.issuperset(wanted)


def setup(app):
    app.connect("build-finished", _bundle, priority=950)  # after the last page
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
