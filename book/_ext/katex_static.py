"""Render math with the vendored KaTeX while the site is built: no script, no request.

KaTeX runs in the V8 engine that the package mini-racer brings, so Node.js is not needed.
TeX that KaTeX cannot parse is a warning, and warnings stop the build.
"""

from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).parent / "katex" / "katex.min.js"


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    engine.eval(SCRIPT.read_text("utf8"))
    return engine


@cache
def _render(tex: str, display: bool) -> str:
    options = {"displayMode": display, "strict": "error", "throwOnError": True}
    return _engine().call("katex.renderToString", tex, options)


def _html(translator, node, display: bool) -> str:
    tex = node.astext()
    try:
        return _render(tex, display)
    except JSEvalException as error:
        line = next(x for x in str(error).splitlines() if "KaTeX" in x)
        logger.warning(line, location=node, type="katex")
        return f"<code>{translator.encode(tex)}</code>"


def _inline(translator, node):
    translator.body.append(translator.starttag(node, "span", "", CLASS="math"))
    translator.body.append(_html(translator, node, False) + "</span>")
    raise nodes.SkipNode


def _display(translator, node):
    # A wide formula scrolls by itself: by keyboard too, hence the tabindex.
    translator.body.append(
        translator.starttag(
            node,
            "div",
            CLASS="math",
            tabindex="0",
            role="group",
            **{"aria-label": "formula"},
        )
    )
    translator.body.append(_html(translator, node, True))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("katex_static", (_inline, None), (_display, None))
    app.add_css_file("katex/katex.min.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
