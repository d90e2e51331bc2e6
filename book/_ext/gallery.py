"""`{gallery}` shows the chapters by part, each by its main figure; links show it, too.

The main figure is the output of the cell with {"glassbox": {"main": true}} in its metadata,
or the first figure of the page. It comes from the stored outputs, so nothing is kept twice.
"""

import base64
import html
import io
import json
import os
import re
from functools import cache
from pathlib import Path

import nbformat
import yaml
from docutils import nodes
from docutils.statemachine import StringList
from PIL import Image, ImageOps, ImageSequence
from sphinx.util.docutils import SphinxDirective

THUMBNAIL = (480, 300)
CARD = (1200, 630)  # what social networks ask for
STILL = re.compile(
    r'<img src="data:image/png;base64,(?P<png>[^"]+)" alt="(?P<alt>[^"]+)"'
)


@cache
def _figure(path: Path, changed: float):
    """The main figure of a notebook: (a Pillow image, its alt text), or None."""
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    cells.sort(key=lambda c: not c.metadata.get("glassbox", {}).get("main"))
    for cell in cells:
        for output in cell.outputs:
            data = output.get("data", {})
            drawn = data.get("image/gif") or data.get("image/png")
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if still := STILL.search(data.get("text/html", "")):
                drawn, alt = still["png"], html.unescape(still["alt"])
            if drawn:
                *_, last = ImageSequence.Iterator(
                    Image.open(io.BytesIO(base64.b64decode(drawn)))
                )
                canvas = Image.new("RGBA", last.size, "white")
                canvas.alpha_composite(last.convert("RGBA"))
                return canvas.convert("RGB"), alt
    return None


def main_figure(path: Path):
    return _figure(path, path.stat().st_mtime)


class Gallery(SphinxDirective):
    def run(self):
        folder = Path(self.env.app.outdir).parent / "thumbnails"
        folder.mkdir(exist_ok=True)
        toc = Path(self.env.srcdir) / "_toc.yml"
        self.env.note_dependency(str(toc))
        lines = []
        for part in yaml.safe_load(toc.read_text("utf8"))["parts"]:
            names = [chapter["file"] for chapter in part["chapters"]]
            names = [name for name in names if name.startswith("notebooks/")]
            if names:
                lines += [
                    f"```{{rubric}} {part['caption']}",
                    ":heading-level: 3",
                    "```",
                ]
                lines += ["", "::::::{grid} 2 2 3 3", ":gutter: 3", ""]
                lines += [line for name in names for line in self._card(name, folder)]
                lines += ["::::::", ""]
        box = nodes.container(classes=["gallery"])
        self.state.nested_parse(StringList(lines, source="gallery"), 0, box)
        return [box]

    def _card(self, name: str, folder: Path) -> list[str]:
        path = Path(self.env.srcdir) / f"{name}.ipynb"
        self.env.note_dependency(str(path))
        title = re.search(r"^# (.+)", nbformat.read(path, 4).cells[0].source, re.M)[1]
        options = {"link": f"/{name}", "link-type": "doc"}
        if found := main_figure(path):
            picture, alt = found
            file = folder / f"{Path(name).name}.webp"
            ImageOps.pad(picture, THUMBNAIL, color="white").save(file, quality=85)
            here = Path(self.env.doc2path(self.env.docname)).parent
            options |= {"img-top": os.path.relpath(file, here), "img-alt": alt}
        head = [f"{key}: {json.dumps(value)}" for key, value in options.items()]
        return [":::::{grid-item-card}", "---", *head, "---", title, ":::::", ""]


def _social(app, pagename, templatename, context, doctree):
    """The picture beside a link to a chapter; sphinxext-opengraph reads it as metadata."""
    path = Path(app.srcdir) / f"{pagename}.ipynb"
    if doctree is None or not path.is_file() or not (found := main_figure(path)):
        return
    picture, alt = found
    place = f"_static/social/{path.stem}.png"
    file = Path(app.outdir) / place
    file.parent.mkdir(parents=True, exist_ok=True)
    card = ImageOps.pad(picture, CARD, color="white")
    card.quantize(256).save(file, optimize=True)
    meta = context["meta"] or {}
    context["meta"] = {**meta, "og:image": place, "og:image:alt": alt}


def setup(app):
    app.add_directive("gallery", Gallery)
    app.connect("html-page-context", _social, priority=400)  # before opengraph
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
