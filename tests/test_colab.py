"""The way of a reader on Colab: one notebook file, and nothing of the book.

A virtual environment stands in for Colab. It sees the packages that the book declares and
Colab ships, a stand-in `google.colab`, and no trace of this checkout or of any other
package. The notebook's own set-up cell runs there in a kernel; only its address is
replaced, by a local repository that holds the working tree as git sees it. pip gets a
shelf of wheels instead of an index, with a newer torch on it that nobody should take.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import notebooks

ROOT = Path(__file__).parent.parent
LACKING = [
    "bm25s",
    "faiss-cpu",
    "gguf",
    "matplotlib-fontja",
]  # declared here, not shipped by Colab
LOADING = ROOT / "notebooks" / "tokens" / "sentencepiece-livedoor.ipynb"
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
FACTS = """
import json
from importlib.metadata import distributions
from importlib.util import find_spec
from sysconfig import get_path

import google.colab
import lib
import torch
from lib import weights
from lib.data import livedoor

corpus = livedoor.livedoor()
checkpoints = {name: list(weights.card(name)["files"]) for name in weights.names()}
for name in checkpoints:
    for file in checkpoints[name]:
        weights.path(name, file)  # compares the sha256
facts = {
    "lib": lib.__file__,
    "home": get_path("purelib"),
    "torch": torch.__version__,
    "installed": sorted(d.name for d in distributions(path=[get_path("purelib")])),
    "missing": [name for name in IMPORTS if find_spec(name) is None],
    "full": corpus.is_full,
    "articles": len(corpus),
    "checkpoints": checkpoints,
}
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def ran():
    """The executed cells, and what the last of them says about the environment."""
    path = LOADING if LOADING.is_file() else next(iter(notebooks.paths()), None)
    if path is None or not (ROOT / ".git").exists():
        pytest.skip("needs a notebook, and a checkout to install from")
    with tempfile.TemporaryDirectory(prefix="colab-") as folder:
        place = Path(folder)
        python = empty_environment(place)
        notebook = cut(path, repository(place / "repository"))
        alone = place / "content"
        alone.mkdir()
        (
            alone / "lib"
        ).mkdir()  # a folder of that name must not stand in for the package
        nbformat.write(notebook, alone / path.name)
        execute(notebook, alone, python, place)
        yield notebook, json.loads(notebook.cells[-1].outputs[0].text)


def test_the_installed_package_answers(ran):
    _, facts = ran
    assert Path(facts["lib"]).is_relative_to(facts["home"])


def test_only_what_is_missing_was_installed(ran):
    _, facts = ran
    assert facts["installed"] == sorted([DECLARED["name"], *LACKING])
    assert facts["torch"] == distribution("torch").version


def test_the_package_declares_what_its_code_and_the_notebooks_import(ran):
    _, facts = ran
    assert facts["missing"] == []


def test_data_and_checkpoints_came_along(ran):
    _, facts = ran
    assert not facts["full"]
    assert facts["articles"] > 100
    cards = ROOT.glob("checkpoints/*/card.json")
    assert set(facts["checkpoints"]) == {card.parent.name for card in cards} != set()


def test_cells_up_to_the_data_say_nothing_to_stderr(ran):
    notebook, _ = ran
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    if not LOADING.is_file():
        pytest.skip(f"{LOADING.name} is not there yet")
    assert notebooks.data_used(notebook) == {"livedoor": False}


# The environment


def empty_environment(place):
    """A virtual environment with what Colab ships and `google.colab`; its python."""
    shipped, shelf = place / "shipped", place / "shelf"
    shipped.mkdir()
    shelf.mkdir()
    for name in sorted(closure([*DECLARED["dependencies"], "ipykernel", "pip"])):
        files = distribution(name).files
        tops = {f.parts[0] for f in files} - {"..", "__pycache__"}
        for top in sorted(tops):
            link = shipped / top
            if not link.is_symlink():  # a namespace that packages share
                link.symlink_to(distribution(name).locate_file(top))
    for name in [*LACKING, "setuptools"]:  # pip builds with the latter, apart
        repack(shelf, name)
    newer = {"torch-99.dist-info/METADATA": b"Metadata-Version: 2.1\nName: torch\n"}
    newer["torch-99.dist-info/METADATA"] += b"Version: 99\n"
    wheel(shelf, "torch", "99", newer)

    venv.create(place / "venv", symlinks=True, with_pip=False)
    site = next((place / "venv").glob("lib/python3*/site-packages"))
    (site / "shipped.pth").write_text(f"{shipped}\n")
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    return place / "venv" / "bin" / "python"


def closure(requirements):
    """The names of installed packages that these requirements need, less LACKING."""
    found, queue = set(), [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        if name in LACKING or (marker and not marker.evaluate({"extra": extra})):
            continue
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                needs = distribution(name).requires or []
                queue += [(Requirement(text), wanted) for text in needs]
    return {name for name, _ in found}


def repack(shelf, name):
    """An installed package as a wheel again."""
    package = distribution(name)
    skip = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    files = {
        str(file): Path(file.locate()).read_bytes()
        for file in package.files
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in skip
    }
    wheel(shelf, name.replace("-", "_"), package.version, files)


def wheel(shelf, name, version, files):
    info = next(file.split("/")[0] for file in files if ".dist-info/" in file)
    tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {**files, f"{info}/WHEEL": tags, f"{info}/RECORD": b""}
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in files).encode()
    with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)


def repository(target):
    """A repository with one commit: the working tree, less what git ignores."""
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in git(ROOT, *listed).split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    git(target, "init", "-q")
    git(target, "add", "--all")
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    git(target, *who, "commit", "-q", "-m", "The working tree")
    return f"git+file://localhost{target}"  # pip wants a host


def git(folder, *arguments):
    command = ["git", "-c", "core.hooksPath=", "-c", "commit.gpgSign=false", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


# The notebook


def cut(path, address):
    """The cells up to the first that loads data, from `address`; then FACTS."""
    whole = nbformat.read(path, as_version=4)
    cells = [cell for cell in whole.cells if cell.cell_type == "code"]
    loads = [notebooks.DATA_TAGS & set(c.metadata.get("tags", [])) for c in cells]
    last = next((number for number, tags in enumerate(loads) if tags), 0)
    cells = cells[: last + 1]
    source, count = re.subn(r"git\+https://[^\s\"']+", address, cells[0].source)
    assert count == 1, (
        f"{path}: expected one address to install from, in the first cell"
    )
    cells[0].source = source
    facts = FACTS.replace("IMPORTS", repr(sorted(all_imports())))
    cells.append(nbformat.v4.new_code_cell(facts, id="facts"))
    return nbformat.v4.new_notebook(cells=cells)


def all_imports():
    """The packages that lib and all notebooks import."""
    codes = [file.read_text("utf8") for file in (ROOT / "lib").rglob("*.py")]
    for path in notebooks.paths():
        cells = nbformat.read(path, as_version=4).cells
        codes += [cell.source for cell in cells if cell.cell_type == "code"]
    names = set()
    for code in codes:
        lines = re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.M)
        for node in ast.walk(ast.parse(lines)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return names


def execute(notebook, folder, python, place):
    """Run the cells in a kernel of that environment, with no network to ask."""
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    }
    spec |= {"display_name": "Colab", "language": "python"}
    (place / "kernels" / "colab").mkdir(parents=True)
    (place / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec), "utf8")
    specs = KernelSpecManager(kernel_dirs=[str(place / "kernels")])
    manager = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=120,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    (place / "home").mkdir()
    client.execute(
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place / "home"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": font_list(),
            "GLASSBOX_ORIGIN": "http://127.0.0.1:9",  # nobody listens there
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(place / "shelf"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
    )


def font_list():
    """Where matplotlib keeps its list of fonts: made once, and slow to make."""
    code = "import matplotlib; print(matplotlib.get_cachedir())"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
