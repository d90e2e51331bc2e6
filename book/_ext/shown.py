"""`{shown} notebook.ipynb` puts the output of one of its cells on another page.

The cell is the one whose code holds the text after `:cell:`, so nothing is copied by hand.
With `:plays:` a replay starts by itself, once, unless the reader asked for less motion.
With `:weighed:` a live element also tells readers without scripts what it loads and under
which licence: for a slot that its shadow root does not have, so scripts hide it.
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
        shown = weighed(html[0]) if "weighed" in self.options else html[0]
        box += nodes.raw("", shown, format="html")
        return [box]


def weighed(html: str) -> str:
    """A live element with what it loads: its size, and the licence of each of its models."""
    soup = BeautifulSoup(html, "html.parser")
    host = soup.select_one("[data-live]")
    data = json.loads(host["data-with"])
    size = max(0.1, sum(file["bytes"] for file in data["files"]) / 1e6)
    said = soup.new_tag("p", slot="unscripted")
    said.string = f"With scripts it loads {size:.1f} MB when asked. {data['credit']}"
    host.append(said)
    return str(soup)


def setup(app):
    app.add_directive("shown", Shown)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
