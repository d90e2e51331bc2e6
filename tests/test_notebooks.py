"""The book as a whole: faults of a notebook that executing it does not show."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from mended import MENDED

import notebooks
from notebooks import DATA_TAGS

ROOT = Path(__file__).parent.parent
PATHS = notebooks.paths()
SECTIONS = [
    "You will learn",
    "Set-up",
    "The idea",
    "Build it",
    "Check it",
    "See it",
    "Measure it",
    "Where notes go wrong",
    "Exercises",
    "Summary",
    "Next",
    "References",
]
BANNED = r"\b(simply|obviously|obvious|magic|magically|leverages?|powerful|captures)\b"
each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
finished = pytest.mark.parametrize("path", [f"notebooks/{p}.ipynb" for p in MENDED])


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


@each
def test_outputs_are_up_to_date(path):
    """The fingerprint holds: cells, lib, checkpoints and pins are those that ran."""
    assert notebooks.up_to_date(read(path)), f"run: make refresh NOTEBOOK={path}"


@each
def test_no_error_and_nothing_on_stderr_is_stored(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", (cell.source, output.text)


@each
def test_figures_have_alt_text_and_caption(path):
    for cell in code_cells(path):
        kinds = {k for o in cell.outputs for k in o.get("data", {})}
        if kinds & {"image/png", "image/svg+xml", "image/gif"}:
            meta = cell.metadata.get("mystnb", {})
            assert len(meta.get("image", {}).get("alt", "")) > 40, cell.source
            assert meta.get("figure", {}).get("caption"), cell.source


@each
def test_at_most_one_figure_is_the_main_one(path):
    main = [c for c in code_cells(path) if c.metadata.get("glassbox", {}).get("main")]
    kinds = [k for c in main for o in c.outputs for k in o.get("data", {})]
    assert not main or {"image/png", "image/gif", "text/html"} & set(kinds)
    assert len(main) <= 1


@each
def test_set_up_cell_is_the_same_everywhere(path):
    first = [code_cells(p)[0].source for p in (PATHS[0], path)]
    assert first[0] == first[1] and "runtime.setup()" in first[0]


@each
def test_sections(path):
    """One H1; the sections of the house, in order; none that is not of the house."""
    text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    assert len(re.findall(r"^# ", text, re.M)) == 1
    found = re.findall(r"^## (.+?)\s*$", text, re.M)
    assert found == [name for name in SECTIONS if name in found]
    assert {"You will learn", "Set-up", "Exercises", "Summary"} <= set(found)
    assert not re.findall(BANNED, text, re.I)


@each
def test_cells_are_short(path):
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert len(lines) <= 40, cell.source
        assert max(map(len, lines), default=0) <= 88, cell.source


@finished
def test_only_the_lesson_is_visible(path):
    """What the site does not fold is short; set-up and imports fold by themselves."""
    section = None
    for cell in read(ROOT / path).cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^## (.+?)\s*$", cell.source, re.M) or [section])[-1]
        elif section != "Set-up" and not {"hide-input", "hide-cell"} & set(
            cell.metadata.get("tags", [])
        ):
            assert len(cell.source.splitlines()) <= 25, cell.source


@finished
def test_first_screen_says_why(path):
    """Title, promise, reason, and the line of facts stand before anything else."""
    text = "\n\n".join(
        cell.source for cell in read(ROOT / path).cells if cell.cell_type == "markdown"
    )
    title, promise, *reasons, facts = (
        part for part in text.split("\n## ")[0].split("\n\n") if part.strip()
    )
    assert re.fullmatch("# .+", title) and promise.startswith("You will be able to")
    assert len(" ".join(reasons).split()) >= 15, "no reason to read on"
    assert re.search(r"minutes to read.* s to run.*data:.*weights:", facts, re.S)


@finished
def test_wiring_is_drawn(path):
    """Where a module is built, a diagram shows its parts and the shapes between them."""
    code = "\n".join(cell.source for cell in code_cells(ROOT / path))
    if re.search(r"^class .+\b(nn\.Module|LanguageModel)\b|lib\.models", code, re.M):
        assert re.search(r"\bdiagram\(", code, re.I), "no diagram of it"


@each
def test_every_notebook_is_in_the_contents(path):
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    files = {c["file"] for part in contents["parts"] for c in part["chapters"]}
    assert str(path.relative_to(ROOT).with_suffix("")) in files


@each
def test_data_tags_follow_the_data(path):
    """A tagged cell reads something that comes from the data set it names.

    Names are followed from cell to cell. On the embedded default nbval checks more: a
    tagged cell whose output is that of the full data fails.
    """
    tainted = {name: set() for name in DATA_TAGS}
    for cell in code_cells(path):
        tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M))
        reads, writes = set(), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (reads if isinstance(node.ctx, ast.Load) else writes).add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                writes.add(node.name)
        for data, names in tainted.items():
            depends = bool(reads & (names | {data.replace("-", "_")}))
            if depends:
                # A method call on a name may change it: what it reads is tainted, too.
                names |= writes
            tags = cell.metadata.get("tags", [])
            assert depends or data not in tags, f"needless tag {data}:\n{cell.source}"


def test_data_tags_are_known():
    used = {
        tag
        for path in PATHS
        for cell in code_cells(path)
        for tag in cell.metadata.get("tags", [])
    }
    assert used <= DATA_TAGS | {"timing", "hide-cell", "hide-input", "remove-input"}


ROOMS = """
    checks exercise kana ranks memory
    figures.theme figures.panels figures.pictures figures.heatmap figures.bench
    figures.diagram figures.animation figures.element figures.replay figures.matrices
    figures.sliders figures.tree figures.pieces figures.plane figures.map figures.heads
    figures.patches figures.budget
    runtime attention sparse positions layers gaps guesses
    models.language models.pretraining models.encoder_decoder models.masked models.modernbert
    models.vision models.contrastive
    embeddings
    tokenizers.presplit tokenizers.bpe tokenizers.unigram tokenizers.em tokenizers.proto
    tokenizers.sentencepiece
    filters decoding preferences prompts optimisers training
    lens.hooks lens.heads lens.measures lens.store
    lens.probes lens.causal lens.lenses lens.sae
    data.origin data.livedoor data.shakespeare data.multi30k data.cifar10
    data.written data.senses data.pairs data.udhr data.easy_vqa data.openmoji
    data.relations data.tasks data.questions data.choices data.scene_words data.scenes
    data.scene_pictures
    data.world.words data.world.people data.world.kinds
    data.world.tasks data.world.text data.world.items
    weights world forgetting
    retrieval.book retrieval.text retrieval.bm25 retrieval.index retrieval.rank
    retrieval.measure
    adapters.adapter adapters.lora adapters.bottleneck adapters.files adapters.prompt
    adapters.fourbit adapters.answers
    pretrained.origin pretrained.asked pretrained.smollm2 pretrained.gpt2 pretrained.vectors
    pretrained.glove
    pretrained.ginza pretrained.states pretrained.minilm pretrained.unigram
    pretrained.e5 pretrained.e5_features pretrained.dinov2 models.connectors
    live.export live.element live.write live.translate live.picture live.fill live.pieces
    live.near live.search live.publish
    lens.towers lens.extract lens.__main__
"""
LAYERS = ROOMS.split()


def test_lib_is_layered():
    """Each file of lib imports only from those before it; a package adds nothing."""
    for file in sorted((ROOT / "lib").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT / "lib").with_suffix("").parts)
        if file.stem == "__init__":
            assert name == "__init__" or not file.read_text(), f"{name} is not empty"
        elif not name.startswith("exercises."):
            assert name in LAYERS, f"{name} is not a room of the house"
            found = notebooks.imported(file.read_text("utf8"), deep=False)
            rooms = {
                ".".join(f.relative_to(ROOT / "lib").with_suffix("").parts)
                for f in found
            }
            later = rooms & set(LAYERS[LAYERS.index(name) :])
            assert not later, f"{name} imports {sorted(later)}"


def test_a_file_of_lib_can_be_held_in_the_head():
    sizes = {f: len(f.read_text("utf8").splitlines()) for f in ROOT.glob("lib/**/*.py")}
    assert not {str(f.relative_to(ROOT)): n for f, n in sizes.items() if n > 400}


def test_checkpoints_stay_small():
    sizes = {}
    for file in ROOT.glob("checkpoints/*/*"):
        sizes[file.parent.name] = sizes.get(file.parent.name, 0) + file.stat().st_size
    assert all(size <= 10e6 for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 80e6, sizes
