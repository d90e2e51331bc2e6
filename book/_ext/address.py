"""The book's address: whoever publishes it under another name sets it once.

    python book/_ext/address.py https://github.com/<owner>/<name> <url of the site>

It stands in the settings, the citation, the pages and each notebook's set-up cell. The
settings say which address is replaced, and they are written last, so that a command that
was stopped is given again. Stored outputs stay valid: no fingerprint depends on it.
"""

import argparse
import os
import re
import sys
from pathlib import Path

import nbformat
import yaml

from notebooks import ROOT, write

REPOSITORY = r"https://github\.com/[A-Za-z0-9][A-Za-z0-9-]*/(?!\.+$)[\w.-]+"
SITE = r"https?://[A-Za-z0-9][\w.-]*(:\d+)?(/[\w.~-]+)*/?"


class Unfit(ValueError):
    """An argument is not an address of its kind."""


def checked(repository: str, site: str) -> tuple[str, str]:
    """Both as they are written: the repository without, the site with a slash."""
    repository = repository.removesuffix("/").removesuffix(".git")
    for name, given, form, wanted in (
        ("REPO", repository, REPOSITORY, "https://github.com/<owner>/<name>"),
        ("SITE", site, SITE, "https://<host>/<path>/"),
    ):
        if not re.fullmatch(form, given, re.A):
            raise Unfit(f"{name}: expected {wanted}, got {given!r}")
    return repository, site.removesuffix("/") + "/"


def present(root: Path) -> tuple[str, str]:
    """The addresses of the repository and of the site, as _config.yml has them."""
    settings = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    return settings["repository"]["url"], settings["html"]["baseurl"]


def files(root: Path) -> list[Path]:
    """Where the address may stand; the settings are the last."""
    found = [root / "CITATION.cff", root / "pyproject.toml", root / "README.md"]
    found += sorted(root.glob("book/*.md")) + sorted(root.glob("notebooks/*/*.ipynb"))
    return [*found, root / "_config.yml"]


def change(root: Path, repository: str, site: str) -> list[Path]:
    """Set the address in all files; returns those that changed."""
    repository, site = checked(repository, site)
    old_repository, old_site = present(root)
    names = [address.rpartition("/")[2] for address in (old_repository, repository)]
    # The longer first: a site below the repository's address is not cut in two.
    pairs = [(old_site, site), (old_site.rstrip("/"), site.rstrip("/"))]
    pairs += [(old_repository, repository), (f"cd {names[0]}", f"cd {names[1]}")]
    new = dict(pairs)
    form = "|".join(re.escape(old) for old in sorted(new, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)({form})(?![\w-])")

    def replaced(text: str) -> str:
        return pattern.sub(lambda match: new[match[0]], text)

    changed = []
    for path in files(root):
        if path.suffix == ".ipynb":
            notebook = nbformat.read(path, as_version=4)
            before = [cell.source for cell in notebook.cells]
            for cell in notebook.cells:  # what a page printed stays
                cell.source = replaced(cell.source)
            if before != [cell.source for cell in notebook.cells]:
                write(path, notebook)
                changed.append(path)
        elif (text := path.read_text("utf8")) != replaced(text):
            part = path.with_name(path.name + ".part")
            part.write_text(replaced(text), "utf8")
            os.replace(part, path)
            changed.append(path)
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        usage="make address REPO=https://github.com/<owner>/<name> SITE=<url>",
    )
    parser.add_argument("repository")
    parser.add_argument("site")
    given = parser.parse_args()
    try:
        changed = change(ROOT, given.repository, given.site)
    except Unfit as error:
        parser.error(str(error))
    for path in changed:
        print(path.relative_to(ROOT))
    repository, site = present(ROOT)
    print(f"The book's address is {repository}, its site {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
