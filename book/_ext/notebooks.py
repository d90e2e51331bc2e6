"""The notebooks' stored outputs: are they up to date, renew them, build the site from them.

    python book/_ext/notebooks.py refresh [NOTEBOOK ...]   execute and store
    python book/_ext/notebooks.py site                     the site, in _build/html
    python book/_ext/notebooks.py site --executed DIR --out DIR   of a run's own copies

A notebook keeps, in its metadata, a fingerprint of what its outputs came from. While that
holds, the outputs are the cache that the site is built from.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from compare import differs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
# A cell with such a tag depends on that data set.
DATA_TAGS = {
    "cifar10",
    "e5",
    "gpt2",
    "livedoor",
    "multi30k",
    "tiny-shakespeare",
    "udhr",
}
KEY = "glassbox"
ADDRESS = re.compile(r"(?<=@ git\+)https://[^\s\"']+")
TIMEOUT = 300  # seconds a cell
LIVE = Path("_build", "html", "_static", "live")  # what lib.live.publish makes


def paths() -> list[Path]:
    """All notebooks of the book, sorted."""
    return sorted(ROOT.glob("notebooks/*/*.ipynb"))


# What the outputs came from


def fingerprint(notebook) -> str:
    """Digest of the cells, the lib files they import, the checkpoints and the pins.

    The data sets asked for stand in the cells and in lib; who answered is left out, and
    so is the address that Colab installs the book from.
    """
    cells = [
        [ADDRESS.sub("", cell.source), sorted(cell.metadata.get("tags", []))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    code = "\n".join(source for source, _ in cells)
    files = imported(code)
    text = code + "".join(file.read_text("utf8") for file in files)
    cards = [
        card
        for card in sorted(ROOT.glob("checkpoints/*/card.json"))
        if re.search(rf"[\"']{re.escape(card.parent.name)}[\"'/]", text)
    ]
    required = (ROOT / "requirements.txt").read_text("utf8")
    pins = required.split("# The notebooks\n")[1].split("\n#")[0]  # of this part only
    parts = [
        cells,
        pins,
        *([str(f.relative_to(ROOT)), _digest(f)] for f in files + cards),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def imported(code: str, deep: bool = True) -> list[Path]:
    """The files of lib that `code` imports, and where `deep` those that they import.

    With a Python file comes the script beside it, of the same name.
    """
    found, queue = set(), [code]
    while queue:
        # Lines for IPython are not Python: "%pip" may be all that a block holds.
        lines = re.sub(r"^(\s*)[%!].*$", r"\1pass", queue.pop(), flags=re.M)
        for node in ast.walk(ast.parse(lines)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] != "lib":
                    continue
                base = ROOT / name.replace(".", "/")
                for file in (base.with_suffix(".py"), base / "__init__.py"):
                    if file.is_file() and file not in found:
                        found.add(file)
                        if deep:
                            queue.append(file.read_text("utf8"))
    scripts = {file.with_suffix(".js") for file in found}
    return sorted(found | {script for script in scripts if script.is_file()})


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def data_used(notebook) -> dict[str, bool]:
    """The data sets that answered in the outputs: name -> is it the full one?"""
    answered = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            said = output.get("metadata", {}).get(KEY)  # lib.data says it of itself
            if said:
                full = answered.get(said["name"], True)
                answered[said["name"]] = full and said["is_full"]
    return answered


def up_to_date(notebook) -> bool:
    """Do the stored outputs come from the code as it stands?"""
    return notebook.metadata.get(KEY, {}).get("fingerprint") == fingerprint(notebook)


# Execution


def execute(path: Path):
    """Run a notebook in a fresh kernel, in its own folder; return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # no notice about unencrypted sockets
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    data = data_used(notebook)
    notebook.metadata[KEY] = {"fingerprint": fingerprint(notebook), "data": data}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def execute_all(todo: list[Path], workers: int, keep) -> list[str]:
    """Execute the notebooks, hand each to `keep(path, notebook)`; return what failed."""
    if not todo:
        return []
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failures = []
    with ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(execute, path): path for path in todo}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="notebooks"):
            name = jobs[job].relative_to(ROOT)
            try:
                keep(jobs[job], job.result())
            except (CellExecutionError, Refused, RuntimeError, TimeoutError) as error:
                failures.append(f"{name}: {error}")
    return failures


class Refused(Exception):
    """Outputs of full data are not replaced by those of an embedded default."""


def store(path: Path, notebook) -> None:
    """Write the notebook in place, unless its outputs come from lesser data."""
    stored = nbformat.read(path, as_version=4)
    before = stored.metadata.get(KEY, {}).get("data", {})
    now = notebook.metadata[KEY]["data"]
    lost = [name for name, full in before.items() if full and not now.get(name, True)]
    if lost:
        cells = [
            f"cell {number} ({cell.source.splitlines()[0][:50]})"
            for number, cell in enumerate(notebook.cells, 1)
            if set(cell.metadata.get("tags", [])) & set(lost)
        ]
        raise Refused(
            f"kept as it was. The full {', '.join(lost)} did not answer, only the embedded"
            f" default; these outputs need it: {'; '.join(cells)}. Try HUB=<folder>."
        )
    keep_unchanged(notebook, stored)
    write(path, notebook)


def keep_unchanged(notebook, stored) -> None:
    """Give a drawing that the comparison calls equal its stored bytes.

    Otherwise each change in lib would write every figure into the history again.
    """
    outputs = {cell.id: cell.get("outputs", []) for cell in stored.cells}
    for cell in notebook.cells:
        pairs = zip(cell.get("outputs", []), outputs.get(cell.id, []), strict=False)
        for new, old in pairs:
            for kind in new.get("data", {}).keys() & old.get("data", {}).keys():
                if not differs(kind, new.data[kind], old.data[kind]):
                    new.data[kind] = old.data[kind]


def write(path: Path, notebook) -> None:
    """Write a notebook so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.validate(notebook)
    part = path.with_suffix(".part")
    part.write_text(nbformat.writes(notebook) + "\n", "utf8")
    part.replace(path)


# The site


def site(executed: Path | None, out: Path, workers: int) -> list[str]:
    """Stage the pages with up-to-date notebooks and build; return what failed."""
    if executed is None:
        executed = ROOT / "_build" / "executed-for-book"
        stale = [path for path in paths() if _fresh(path, executed) is None]
        failures = execute_all(
            stale,
            workers,
            lambda path, nb: write(executed / path.relative_to(ROOT), nb),
        )
        if failures:
            return failures
        chosen = {path: _fresh(path, executed) for path in paths()}
    else:
        chosen = {path: executed / path.relative_to(ROOT) for path in paths()}
        missing = [str(p.relative_to(ROOT)) for p in paths() if not chosen[p].is_file()]
        if missing:
            return [f"{name}: no executed copy in {executed}" for name in missing]
    stage = out / "_build" / "source"
    wanted = {path.relative_to(ROOT): source for path, source in chosen.items()}
    for name in ("_config.yml", "_toc.yml", "checkpoints/bench/trace.json"):
        wanted[Path(name)] = ROOT / name
    for file in (ROOT / "book").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            wanted[file.relative_to(ROOT)] = file
    changed = _mirror(wanted, stage)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(stage)]
    command += ["--path-output", str(out), "-n", "-W", "--keep-going", "-q"]
    if any(
        name.parts[:2] in (("book", "_static"), ("book", "_ext")) for name in changed
    ):
        command.append("--all")  # Sphinx looks at the pages alone
    commands = {"jupyter-book build": command}
    files = sorted((ROOT / "lib" / "live").rglob("*.[jp]*")) + sorted(
        (ROOT / "checkpoints").glob("*/card.json")
    )
    marks = " ".join(map(_digest, files))
    made = out / LIVE / "made-from.txt"
    if not made.is_file() or made.read_text("utf8") != marks:
        live = [sys.executable, "-m", "lib.live.publish", str(out / LIVE)]
        commands["lib.live.publish"] = live
    failures = [
        f"{name}: exit status {code}"
        for name, call in commands.items()
        if (code := subprocess.run(call, cwd=ROOT).returncode)
    ]
    if not failures:
        made.write_text(marks, "utf8")
    return failures


def _fresh(path: Path, executed: Path) -> Path | None:
    """The notebook itself, or its executed copy, whichever is up to date."""
    notebook = nbformat.read(path, as_version=4)
    if up_to_date(notebook):
        return path
    copy = executed / path.relative_to(ROOT)
    if copy.is_file():
        kept = nbformat.read(copy, as_version=4)
        same = [c.source for c in kept.cells] == [c.source for c in notebook.cells]
        if same and up_to_date(kept):
            return copy
    return None


def _mirror(wanted: dict[Path, Path], target: Path) -> list[Path]:
    """Make `target` hold these files, and say which were changed.

    One that is the same keeps its time stamp.
    """
    changed = []
    for file in target.rglob("*") if target.is_dir() else ():
        if file.is_file() and file.relative_to(target) not in wanted:
            file.unlink()
    for name, source in wanted.items():
        copy = target / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            changed.append(name)
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    commands = parser.add_subparsers(dest="command", required=True)
    refresh = commands.add_parser(
        "refresh", help="execute notebooks and store the outputs"
    )
    refresh.add_argument("notebooks", nargs="*", type=Path, help="default: all of them")
    build = commands.add_parser("site", help="build the site")
    build.add_argument("--executed", type=Path, help="take the notebooks from here")
    build.add_argument("--out", type=Path, default=ROOT, help="holds _build/html then")
    args = parser.parse_args()
    if args.command == "refresh":
        todo = [path.resolve() for path in args.notebooks] or paths()
        unknown = [str(path) for path in todo if path not in paths()]
        if unknown:
            parser.error(f"not a notebook of the book: {', '.join(unknown)}")
        failures = execute_all(todo, args.workers, store)
    else:
        out = args.out.resolve()
        executed = args.executed.resolve() if args.executed else None
        failures = site(executed, out, args.workers)
        if not failures:
            print(f"The site is built. Open {out / '_build' / 'html' / 'index.html'}")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
