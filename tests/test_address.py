"""`make address`: the book's address in every place, and stored outputs stay valid."""

import shutil
import sys
from pathlib import Path

import address
import nbformat
import pytest

import notebooks

ROOT = Path(__file__).parent.parent
OLD = address.present(ROOT)
NEW = "https://github.com/a-reader/glass.book", "https://a-reader.github.io/glass.book/"
# Not an address but data: what models were trained on.
DATA = {"prose.txt"}


@pytest.fixture
def copy(tmp_path):
    for file in address.files(ROOT):
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return tmp_path


def contents(root):
    return {file.relative_to(root): file.read_bytes() for file in address.files(root)}


def test_no_place_is_missed():
    kinds = {".md", ".py", ".toml", ".yml", ".yaml", ".cff", ".js", ".txt", ".ipynb"}
    ours = {ROOT, *(ROOT / name for name in (".github", ".ci", "book", "lib", "train"))}
    ours |= {
        ROOT / name for name in ("notebooks", "checkpoints", "benchmarks", "tests")
    }
    found = {
        file
        for folder in ours
        for file in (folder.glob("*") if folder == ROOT else folder.rglob("*"))
        if file.is_file() and file.suffix in kinds and file.name not in DATA
        if any(old.rstrip("/") in file.read_text("utf8") for old in OLD)
    }
    assert found and found <= set(address.files(ROOT))


def test_it_is_set_everywhere_and_back_again(copy):
    before = contents(copy)
    changed = address.change(copy, *NEW)
    assert address.present(copy) == NEW
    assert len(changed) > 3 and changed[-1].name == "_config.yml"
    page = next(path for path in changed if path.suffix == ".ipynb")
    set_up = [c.source for c in nbformat.read(page, 4).cells if "find_spec" in c.source]
    assert f'"glass-box @ git+{NEW[0]}"' in set_up[0]
    guide = (copy / "book" / "run-it-yourself.md").read_text("utf8")
    assert f"git clone {NEW[0]}\ncd glass.book\n" in guide
    citation = (copy / "CITATION.cff").read_text("utf8")
    assert f"repository-code: {NEW[0]}\nurl: {NEW[1]}\n" in citation
    assert not any(OLD[0].encode() in text for text in contents(copy).values())
    assert address.change(copy, *NEW) == []
    address.change(copy, *OLD)
    assert contents(copy) == before


def test_outputs_stay_valid(copy):
    paths = [file for file in address.files(copy) if file.suffix == ".ipynb"][:2]

    def kept():
        pages = [nbformat.read(path, 4) for path in paths]
        outputs = [[c.get("outputs") for c in page.cells] for page in pages]
        return outputs, [notebooks.fingerprint(page) for page in pages]

    before = kept()
    address.change(copy, *NEW)
    assert kept() == before


def test_another_change_of_the_set_up_cell_is_seen():
    def digest(line):
        cell = nbformat.v4.new_code_cell(line)
        return notebooks.fingerprint(nbformat.v4.new_notebook(cells=[cell]))

    install = '%pip install -q "glass-box @ git+{}"'.format
    assert digest(install(OLD[0])) == digest(install(NEW[0]))
    assert digest(install(OLD[0])) != digest("%pip install -q glass-box")
    assert digest(f'print("{OLD[0]}")') != digest(f'print("{NEW[0]}")')


def test_a_stopped_command_is_given_again(copy, monkeypatch):
    before = contents(copy)
    write, calls = address.write, []

    def stopped(path, notebook):
        if calls:
            raise KeyboardInterrupt
        calls.append(path)
        write(path, notebook)

    monkeypatch.setattr(address, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        address.change(copy, *NEW)
    monkeypatch.setattr(address, "write", write)
    address.change(copy, *NEW)
    assert not any(OLD[0].encode() in text for text in contents(copy).values())
    address.change(copy, *OLD)
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("repository", "site", "name"),
    [
        ("", NEW[1], "REPO"),
        ("https://github.com/owner", NEW[1], "REPO"),
        ("https://github.com/owner/name/tree/main", NEW[1], "REPO"),
        ('https://github.com/owner/na"me', NEW[1], "REPO"),
        ("https://github.com/owner/..", NEW[1], "REPO"),
        ("git@github.com:owner/name.git", NEW[1], "REPO"),
        ("https://gitlab.com/owner/name", NEW[1], "REPO"),
        (NEW[0], "", "SITE"),
        (NEW[0], "owner.github.io/name", "SITE"),
        (NEW[0], "https://owner.github.io/na me/", "SITE"),
    ],
)
def test_other_arguments_are_refused(copy, repository, site, name):
    before = contents(copy)
    with pytest.raises(ValueError, match=rf"^{name}: expected https://.*, got '"):
        address.change(copy, repository, site)
    assert contents(copy) == before


def test_what_browsers_copy_is_accepted():
    assert address.checked(f"{NEW[0]}.git", NEW[1].rstrip("/")) == NEW
    assert address.checked(f"{NEW[0]}/", "https://host.example") == (
        NEW[0],
        "https://host.example/",
    )


def test_the_command_says_what_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["address.py", "", ""])
    with pytest.raises(SystemExit) as ended:
        address.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "make address REPO=" in said
    assert "REPO: expected https://github.com/<owner>/<name>, got ''" in said
