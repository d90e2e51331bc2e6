"""Everything that the live elements load, into a folder of the built site.

    python -m lib.live.publish _build/html/_static/live

A kind of element has one script: the models, the frame of `lib.figures`, its own page.
"""

import sys
from importlib import import_module
from pathlib import Path

from lib.figures.element import HERE as FIGURES
from lib.live import export

HERE = Path(__file__).parent
ENGINE = ("load", "models", "sampling", "tokenizers", "pixels")
KINDS = tuple(sorted(file.stem for file in (HERE / "pages").glob("*.js")))


def publish(folder: Path) -> list[Path]:
    """The script of each kind, and the scripts with its files; returns what was written."""
    made = []
    for kind in KINDS:
        for file in import_module(f"lib.live.{kind}").FILES:
            made += export.write(folder, *file)
        made.append(folder / f"{kind}.js")
        made[-1].write_text(program(kind), "utf8")
    return made


def program(kind: str) -> str:
    """The models once, then one element for each host of this kind on the page."""
    own = [HERE / f"{kind}.js"] if (HERE / f"{kind}.js").is_file() else []
    parts = [HERE / f"{name}.js" for name in ENGINE] + own
    engine = "\n".join(map(_lean, parts))
    inner = FIGURES / "element.js", HERE / "frame.js", HERE / "pages" / f"{kind}.js"
    frame = "\n".join(map(_lean, inner))
    return (
        f'(function () {{\n"use strict";\n{engine}\n'
        f"for (const one of document.querySelectorAll('[data-live=\"{kind}\"]'))\n"
        f"(function (key, data) {{\n{frame}\n}})(one.dataset.key, "
        "JSON.parse(one.dataset.with));\n})();\n"
    )


def _lean(file: Path) -> str:
    """A script without indentation and comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = (line.split(" // ")[0].strip() for line in lines)
    return "\n".join(line for line in found if line and not line.startswith("//"))


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
