"""`{shown} notebook.ipynb` puts the output of one of its cells on another page.

The cell is the one whose code holds the text after `:cell:`, so nothing is copied by hand.
With `:plays:` a replay starts by itself, once, unless the reader asked for less motion.
With `:weighed:` a live element is followed by what it loads and under which licence.
"""

import json
from types import MappingProxyType

import nbformat
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


class Shown(SphinxDirective):
    required_arguments = 1
    option_spec = MappingProxyType(
        {"cell": directives.unchanged_required}
        | dict.fromkeys(("plays", "weighed"), directives.flag)
    )

    def run(self):
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        cells = [
            cell
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code" and self.options["cell"] in cell.source
        ]
        html = [
            output["data"]["text/html"]
            for cell in cells
            for output in cell.outputs
            if "text/html" in output.get("data", {})
        ]
        if len(html) != 1:
            raise self.error(
                f"{self.arguments[0]}: {len(html)} HTML outputs of cells that hold"
                f" {self.options['cell']!r}, wanted one"
            )
        box = nodes.container(classes=["shown"] + ["plays"] * ("plays" in self.options))
        box += nodes.raw("", html[0], format="html")
        if "weighed" in self.options:
            box += nodes.paragraph("", weighed(html[0]), classes=["weighed"])
        return [box]


def weighed(html: str) -> str:
    """What a live element loads: its size, and the licence of each of its models."""
    data = BeautifulSoup(html, "html.parser").select_one("[data-live]")["data-with"]
    data = json.loads(data)
    size = max(0.1, sum(file["bytes"] for file in data["files"]) / 1e6)
    return f"Loads {size:.1f} MB when you ask for it. {data['credit']}"


def setup(app):
    app.add_directive("shown", Shown)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
