"""The comparison of stored outputs can fail, and the fingerprint tells what changed."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

import notebooks

ROOT = Path(__file__).parent.parent

FIGURE = """\
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(7, 3), dpi=110)
axes.plot([0, 1, 2], [0, 1, 4], linewidth={width})
axes.text(0.5, 2, "loss 0.{digit}17", fontsize=8)
plt.show()"""
REPLAY_CODE = """\
from lib.figures import panels, replay
heights = [[1.0, {value}], [1.0, 2.0]]
panel = panels.bars("heights", [0, 1, 2], heights, xlabel="x", ylabel="y", ylim=(0, 9))
replay.replay([panel], ["first", "last"], alt="{word}")"""
DATA = """\
from IPython.display import display
display({{"text/plain": "{rows} rows"}}, raw=True,
        metadata={{"glassbox": {{"name": "livedoor", "is_full": {full}}}}})"""


def cells(
    width=1.5, digit=3, word="as it was", value=2.0, text="42", rows=9, full=True
):
    return [
        new_code_cell(f'print("largest difference 1e-7")\nprint("{text}")'),
        new_code_cell(FIGURE.format(width=width, digit=digit)),
        new_code_cell(REPLAY_CODE.format(word=word, value=value)),
        new_code_cell(
            DATA.format(rows=rows, full=full), metadata={"tags": ["livedoor"]}
        ),
        new_code_cell("import random\nrandom.random()", metadata={"tags": ["timing"]}),
    ]


TEXT, PICTURE, REPLAY, LOADER, TIMING = range(5)
VARIANTS = {  # name: (the cells to keep, what their code is now, what nbval must say)
    "same": ([TEXT, PICTURE, REPLAY, LOADER, TIMING], {}, None),
    "thicker-line": ([PICTURE], {"width": 2.5}, "worst tile"),
    "changed-digit-in-a-picture": ([PICTURE], {"digit": 8}, "worst tile"),
    "changed-number": ([TEXT], {"text": "43"}, "43"),
    "changed-word": ([REPLAY], {"word": "as it is"}, "as it is"),
    "changed-replay": ([REPLAY], {"value": 2.5}, "panels.0.frames.0.1: 2.5, stored 2"),
    "changed-rows": ([LOADER], {"rows": 8}, "8 rows"),
    "lesser-data": ([LOADER], {"rows": 3, "full": False}, None),
    "unneeded-tag": ([LOADER], {"full": False}, "is not needed"),
    "dropped-cell": ([TEXT, LOADER], {}, "a cell was dropped"),
    "unexecuted-cell": ([TIMING, TEXT], {}, "not executed"),
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What nbval says of the stored outputs beside each variant's code, in one run."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(ROOT / "tests" / "sanitize.cfg", folder)
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {ROOT / 'book' / '_ext'}\n"
    )
    stored = new_notebook(cells=cells())
    NotebookClient(stored, kernel_name="python3").execute()
    for name, (keep, change, _) in VARIANTS.items():
        variant = new_notebook(cells=[deepcopy(stored.cells[i]) for i in keep])
        for number, (index, cell) in enumerate(
            zip(keep, variant.cells, strict=True), 1
        ):
            cell.source = cells(**change)[index].source
            cell.execution_count = number
        if name == "dropped-cell":
            variant.cells[1].execution_count = 3
        if name == "unexecuted-cell":
            variant.cells[1].update(execution_count=None, outputs=[])
        nbformat.write(variant, folder / f"{name}.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rA",
        "--nbval",
    ]
    command += [
        "--nbval-current-env",
        "--nbval-sanitize-with",
        "sanitize.cfg",
        "--color=no",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", VARIANTS)
def test_comparison(printed, name):
    keep, _, problem = VARIANTS[name]
    failed = f"FAILED {name}.ipynb::" in printed
    assert failed == bool(problem), printed
    if not problem:
        assert printed.count(f"PASSED {name}.ipynb::") == len(keep)
        return
    said = [
        part
        for part in printed.split("\n____")
        if part.startswith(f"{name}") or f" {name}.ipynb" in part[:200]
    ]
    assert any(problem in part for part in said), printed


def test_cells_are_counted(printed):
    assert "1 not (livedoor: default data), 2 not (timings)" in printed, printed


def test_fingerprint_tells_what_changed(monkeypatch):
    def digest(source="from lib import checks", tags=()):
        cell = new_code_cell(source, metadata={"tags": list(tags)})
        return notebooks.fingerprint(new_notebook(cells=[cell]))

    assert digest() == digest()
    different = {
        digest(),
        digest("from lib import checks "),
        digest(tags=["livedoor"]),
        digest("from lib import runtime"),
    }
    assert len(different) == 4
    # Prose and outputs do not count.
    cell = new_code_cell("from lib import checks", metadata={"tags": []})
    cell.outputs = [nbformat.v4.new_output("stream", text="1")]
    prose = nbformat.v4.new_markdown_cell("Read this.")
    assert notebooks.fingerprint(new_notebook(cells=[prose, cell])) == digest()
    # A file of lib does, when it is imported, directly or not.
    before = digest(), digest("import torch")
    monkeypatch.setattr(notebooks, "_digest", lambda file: "another content")
    after = digest(), digest("import torch")
    assert before[0] != after[0] and before[1] == after[1]


def test_imports_are_followed():
    names = {
        p.name for p in notebooks.imported("from lib import runtime\n%pip install x")
    }
    assert {"__init__.py", "runtime.py"} <= names
    assert not notebooks.imported("import torch, library")


@pytest.mark.parametrize(
    ("file", "importer"),
    [
        ("lib/data/cifar10.py", "lib.data.cifar10"),
        ("lib/data/livedoor.py", "lib.data.livedoor"),
        ("lib/figures/tree.py", "lib.figures.tree"),
        ("lib/figures/tree.js", "lib.figures.tree"),
        ("lib/figures/matrices.js", "lib.figures.matrices"),
    ],
)
def test_a_change_concerns_only_the_pages_that_import_it(file, importer, monkeypatch):
    """A data set and a viewer are leaves: a page has them by name or not at all."""
    assert (ROOT / file).is_file()
    pages = {path.stem: nbformat.read(path, as_version=4) for path in notebooks.paths()}
    package, _, name = importer.rpartition(".")
    by_name = re.compile(
        rf"^\s*(from {importer} import|import {importer}\b"
        rf"|from {package} import .*\b{name}\b)",
        re.M,
    )
    importers = {
        stem
        for stem, page in pages.items()
        if any(by_name.search(c.source) for c in page.cells if c.cell_type == "code")
    }

    def digests():
        return {stem: notebooks.fingerprint(page) for stem, page in pages.items()}

    before, digest = digests(), notebooks._digest
    touched = {ROOT / file: "another content"}
    monkeypatch.setattr(notebooks, "_digest", lambda f: touched.get(f) or digest(f))
    after = digests()
    assert {stem for stem in pages if before[stem] != after[stem]} == importers
    assert 0 < len(importers) < len(pages)


def test_full_outputs_are_not_replaced_by_lesser_ones(tmp_path):
    def notebook(full):
        made = new_notebook(cells=cells()[3:4])
        made.metadata[notebooks.KEY] = {"fingerprint": "", "data": {"livedoor": full}}
        return made

    path = tmp_path / "chapter.ipynb"
    notebooks.write(path, notebook(full=True))
    kept = path.read_bytes()
    with pytest.raises(notebooks.Refused, match=r"livedoor.*cell 1 \(from IPython"):
        notebooks.store(path, notebook(full=False))
    assert path.read_bytes() == kept
    notebooks.store(path, notebook(full=True))
    notebooks.write(path, notebook(full=False))
    notebooks.store(path, notebook(full=True))  # the better may replace the lesser
    assert json.loads(path.read_text())["metadata"]["glassbox"]["data"]["livedoor"]


def _drawing(kind, shift=0):
    """A picture, base64; `shift` levels brighter."""
    levels = np.linspace(40, 200, 64 * 64).reshape(64, 64) + shift
    image, file = Image.fromarray(levels.astype(np.uint8)), io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def _frame(value):
    data = json.dumps({"labels": ["a", "b"], "frames": [[0.5], [value]]})
    key = f"{int(value * 1e6):012x}"  # as a digest of the numbers
    script = f'<script>\n(function () {{}})("{key}", {data});\n</script>'
    return f'<div data-key="{key}">\n{script}\n</div>'


DRAWN = {  # kind: (stored, the same in other bytes, changed)
    "image/png": (_drawing("png"), _drawing("png", 1), _drawing("png", 20)),
    "image/gif": (_drawing("gif"), _drawing("gif", 1), _drawing("gif", 20)),
    "text/html": (_frame(1.0), _frame(1.0001), _frame(-1.0)),
    "text/plain": ("accuracy 0.81", "accuracy 0.82", "accuracy 0.90"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_refresh_keeps_the_bytes_of_an_unchanged_drawing(kind, tmp_path):
    path = tmp_path / "chapter.ipynb"

    def notebook(drawn, run):
        cells = [new_code_cell("draw()", id="figure")]
        if run:  # a cell added before it
            cells.insert(0, new_code_cell("prepare()", id="new"))
        cells[-1].outputs = [new_output("display_data", {kind: drawn})]
        made = new_notebook(cells=cells)
        made.metadata[notebooks.KEY] = {"fingerprint": f"of run {run}", "data": {}}
        return made

    first, near, other = DRAWN[kind]
    assert len({first, near, other}) == 3
    notebooks.write(path, notebook(first, 0))
    kept = near if kind == "text/plain" else first
    for run, drawn, wanted in ((1, near, kept), (2, other, other)):
        notebooks.store(path, notebook(drawn, run))
        found = nbformat.read(path, as_version=4)
        assert found.cells[-1].outputs[0].data[kind] == wanted
        assert found.metadata[notebooks.KEY]["fingerprint"] == f"of run {run}"
