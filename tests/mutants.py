"""Would the tests notice? Small changes of lib, one at a time, each against its tests.

    make mutants MODULE=lib/positions.py      # every change of one file
    make mutants SAMPLE=150 SEED=0            # so many of all of lib, drawn by a seed

mutmut makes the changes (operators, constants, arguments, conditions) in functions and
methods, in a copy of the book under _build/mutants. It leaves alone functions with a
decorator, what stands outside a function, and, as told here, the words of an error.
Each change meets those tests, of the files that import its module, that run its function.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from notebooks import imported  # noqa: E402

FOLDER = ROOT / "_build" / "mutants"
TOOL = FOLDER / "tool"  # beside .venv, which stays as it is pinned
RUN = "import sys; sys.path.append({!r}); from mutmut.__main__ import cli; cli()"


def modules() -> list[Path]:
    """The files of lib that can be changed; exercises hold mistakes on purpose."""
    found = sorted(ROOT.glob("lib/**/*.py"))
    return [f for f in found if f.stem != "__init__" and f.parent.name != "exercises"]


def tests_of(files: list[Path]) -> list[str]:
    """The test files that import one of them by name."""
    return [
        str(test.relative_to(ROOT))
        for test in sorted(
            [*ROOT.glob("tests/test_*.py"), *ROOT.glob("tests/browser/test_*.py")]
        )
        if set(imported(test.read_text("utf8"), deep=False)) & set(files)
    ]


def copied(files: list[Path]) -> Path:
    """A copy of the book, with the settings for these files."""
    book = FOLDER / "book"
    shutil.rmtree(book, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [n for n in listed.stdout.split("\0") if n and (ROOT / n).is_file()]
    for name in names:
        (book / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, book / name)
    tests = tests_of(files)
    if not tests:
        raise SystemExit(f"mutants: no test imports {', '.join(map(str, files))}")
    settings = {
        "source_paths": ["lib/"],
        "only_mutate": [str(file.relative_to(ROOT)) for file in files],
        "do_not_mutate_patterns": [r"raise \w+", r"^ +f?\"[^\"]*\"$"],
        "timeout_constant": 30.0,  # seconds: a loaded machine is slow
        "also_copy": sorted({name.split("/")[0] for name in names} - {"lib"}),
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    with (book / "pyproject.toml").open("a", encoding="utf8") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    return book


def mutmut(book: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN.format(str(TOOL)), *arguments]
    return subprocess.run(command, cwd=book, text=True, **options)


def results(book: Path) -> dict[str, str]:
    """Each mutant's name and fate."""
    said = mutmut(book, "results", "--all", "true", check=True, capture_output=True)
    pairs = (line.strip().rpartition(": ") for line in said.stdout.splitlines())
    return {name: fate for name, _, fate in pairs if "__mutmut_" in name}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--module", type=Path, help="one file of lib (default: all)")
    parser.add_argument("--sample", type=int, help="so many, drawn (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    files = modules()
    if given.module:
        files = [file for file in files if file == given.module.resolve()]
        if not files:
            parser.error(f"MODULE: expected a file of lib, got {given.module}")
    book = copied(files)
    # mutmut names its mutants only when it has made them, and tried the tests: the first
    # run asks for one that is not there.
    first = mutmut(book, "run", "none", capture_output=True)
    names = sorted(results(book))
    if not names or "nothing matches" not in first.stderr:
        raise SystemExit(f"mutants: mutmut failed\n{first.stdout}\n{first.stderr}")
    if given.sample and given.sample < len(names):
        names = sorted(random.Random(given.seed).sample(names, given.sample))
    mutmut(book, "run", "--max-children", str(given.workers), *names, check=True)
    found = results(book)
    fates = Counter(found[name] for name in names)
    for name in names:
        if found[name] not in ("killed", "timeout"):
            mutmut(book, "show", name)
    noticed = fates["killed"] + fates["timeout"]
    print(f"noticed: {noticed} of {len(names)}, {noticed / len(names):.0%}", end=" ")
    print(f"({', '.join(f'{fate} {count}' for fate, count in fates.most_common())})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
