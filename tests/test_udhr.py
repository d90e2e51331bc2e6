"""lib.data.udhr: the declaration from its origin, in another form, or the book's own."""

import hashlib
import os
import socket
from pathlib import Path

import pooch
import pytest
from hub import Hub

from lib.data import origin, udhr

TEXTS = {
    "eng": "Title\nArticle 1\nAll are free.",
    "jpn": "題\n第１条\n皆は自由である。",
}
real = pytest.mark.skipif(
    not Path(os.environ.get("HUB") or "", "files", "udhr").is_dir(),
    reason="HUB names no folder that holds the declaration",
)


def size(text):
    return len("".join(text.split()))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A process that has asked nobody, and a cache of its own."""
    monkeypatch.setattr(origin, "_answers", {})
    monkeypatch.setattr(origin, "_waited", 0.0)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GLASSBOX_ORIGIN", raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A hub's folder with two languages, and nothing else asked for."""
    known = {
        code: (code.upper(), size(text), hashlib.sha256(text.encode()).hexdigest())
        for code, text in TEXTS.items()
    }
    monkeypatch.setattr(udhr, "LANGUAGES", known)
    place = tmp_path / "hub" / "files" / "udhr"
    place.mkdir(parents=True)
    for code, text in TEXTS.items():
        (place / f"{code}.txt").write_text(text, "utf8")
    return place


def served(folder, monkeypatch, call):
    with Hub(folder.parents[1]) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        return call(), hub.requests


def test_each_language_comes_once(folder, monkeypatch):
    (first, second), asked = served(
        folder, monkeypatch, lambda: (udhr.udhr(), udhr.udhr())
    )
    assert sum(line.startswith("GET") for line in asked) == len(TEXTS)
    assert first.is_full and first.notice == "" and first.rows == second.rows
    assert [row["content"] for row in first] == list(TEXTS.values())
    assert [row["language"] for row in first] == ["ENG", "JPN"]
    assert repr(first).startswith("udhr: 2 languages, ")


def test_unicodes_own_form_is_taken_and_named(folder, monkeypatch):
    header = "Universal Declaration - English\n© 1996\n---\n\n"
    lines = "\n\n".join(f"   {line} " for line in TEXTS["eng"].split("\n"))
    (folder / "eng.txt").write_text(header + lines, "utf8")
    found, _ = served(folder, monkeypatch, udhr.udhr)
    assert found.rows[0]["content"] == TEXTS["eng"]
    assert found.notice == "not the texts of the stored results: eng"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Title", "eng: expected about 24 characters, got 5"),
        (TEXTS["eng"].encode() * 2, "eng: expected about 24 characters, got 48"),
        (b"\xff\xfe", "eng: expected UTF-8"),
    ],
)
def test_another_file_is_an_error(folder, monkeypatch, content, message):
    (folder / "eng.txt").write_bytes(content)
    with pytest.raises(origin.DataError, match=message):
        served(folder, monkeypatch, udhr.udhr)


def test_one_missing_language_gives_the_default(folder, monkeypatch):
    monkeypatch.setitem(udhr.LANGUAGES, "tha", ("Thai", 3, ""))
    monkeypatch.setattr(udhr, "embedded_declarations", list)
    found, _ = served(folder, monkeypatch, udhr.udhr)
    assert not found.is_full and "status 404" in found.notice


def test_without_an_origin_the_books_own_declaration_stands_in(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}/files"
    monkeypatch.setenv("GLASSBOX_ORIGIN", address)
    found = udhr.udhr()
    assert not found.is_full and "cannot be reached" in found.notice
    assert found.licence == "CC BY 4.0" and len(found) == 5
    assert [row["language"].split()[0] for row in found] == [
        *("English", "Japanese", "Chinese", "German", "Spanish")
    ]
    assert {len(row["content"].split("\n")) for row in found} == {13}
    assert all(all(row["content"].split("\n")) for row in found)


@real
def test_the_real_declarations(monkeypatch):
    with Hub(os.environ["HUB"]) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        found = udhr.udhr()
    assert found.is_full and found.notice == "" and len(found) == 14
    ends = {len(row["content"].split("\n")) for row in found}
    assert ends == {90, 91, 92}  # the articles are the last 80 lines in all
