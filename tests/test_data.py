"""lib.data: every way in which a file can come, fail to come, or come wrong."""

import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
from hub import Hub
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from lib.data import cifar10, livedoor, multi30k, origin, shakespeare

ROOT = Path(__file__).parent.parent
FULL = Path(os.environ.get("HUB") or "", "files", livedoor.FILE)
needs_hub = pytest.mark.skipif(
    not (os.environ.get("HUB") and FULL.is_file()),
    reason="HUB names no folder that holds the Livedoor archive",
)
TEXT = "http://example.org/{0}\n2012-01-02T03:04:05+0900\n題{0} \n　本文{0}\n\n終わり\n"
ARTICLES = {
    f"text/{category}/{category}-{number}.txt": TEXT.format(number).encode()
    for category in livedoor.CATEGORIES
    for number in (7, 12)
}
# By hand: the path, a zero byte, the length, a zero byte and the text of each article.
DIGEST = hashlib.sha256(
    b"".join(
        name.encode()
        + b"\0"
        + str(len(ARTICLES[name])).encode()
        + b"\0"
        + ARTICLES[name]
        for name in sorted(ARTICLES)
    )
).hexdigest()


def tar(articles: dict[str, bytes], *members: tarfile.TarInfo, mode="w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in articles.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return file.getvalue()


GOOD = tar(ARTICLES)
ONE_SHORT = tar(dict(list(ARTICLES.items())[1:]))
CHANGED = tar(ARTICLES | {next(iter(ARTICLES)): TEXT.format(8).encode()})


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch) -> Path:
    """A process that has asked nobody, a cache of its own, a corpus of 18 articles."""
    counts = {category: (2, "") for category in livedoor.CATEGORIES}
    monkeypatch.setattr(livedoor, "CATEGORIES", counts)
    monkeypatch.setattr(livedoor, "DIGEST", DIGEST)
    monkeypatch.setattr(origin, "_answers", {})
    monkeypatch.setattr(origin, "_waited", 0.0)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GLASSBOX_ORIGIN", raising=False)
    return tmp_path / "cache" / "glass-box" / livedoor.FILE


@contextmanager
def served(monkeypatch, content=GOOD, length=None, status=200, before=None, end=None):
    """A server of one file. It can promise more bytes than it sends, and wait."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            if before and self.command == "GET":
                before()
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)
                self.wfile.flush()
                if end:
                    end()

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/files"
    monkeypatch.setenv("GLASSBOX_ORIGIN", address)
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def black_hole():
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/files"


def refused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"http://127.0.0.1:{gone.getsockname()[1]}/files"


def put(cached: Path, content: bytes) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)


def assert_default(dataset: origin.Dataset, *reasons: str) -> None:
    assert not dataset.is_full
    assert len(dataset) >= 120 and repr(dataset).startswith("livedoor: ")
    assert "· CC BY 4.0 ·" in repr(dataset)
    assert all(reason in repr(dataset) for reason in ("default", *reasons))


# --- It comes --------------------------------------------------------------------


def test_the_archive_comes_from_its_origin_once_and_then_from_the_cache(
    monkeypatch, cached
):
    with served(monkeypatch) as asked:
        first = livedoor.livedoor()
        second = livedoor.livedoor()
        path = f"/files/{livedoor.FILE}"
        assert asked == [f"HEAD {path}", f"GET {path}"]
    assert first.is_full and first.notice == "" and first.rows == second.rows
    assert cached.read_bytes() == GOOD
    assert [found.name for found in cached.parent.iterdir()] == [cached.name]
    assert list(first) == first.rows and len(first) == 18
    assert first.rows[0] == {
        "url": "http://example.org/12",
        "date": "2012-01-02T03:04:05+0900",
        "title": "題12",
        "content": "本文12\n\n終わり",
        "category": "dokujo-tsushin",
    }


def test_the_digest_is_of_paths_and_texts_in_the_order_of_paths():
    shuffled = dict(reversed(ARTICLES.items()))
    assert livedoor.articles_digest(shuffled) == livedoor.DIGEST == DIGEST
    first, second, *_ = sorted(ARTICLES)
    swapped = {first: ARTICLES[second], second: ARTICLES[first]}
    assert livedoor.articles_digest(ARTICLES | swapped) != DIGEST
    moved = {first: ARTICLES[first] + b"x", second: ARTICLES[second][1:]}
    assert livedoor.articles_digest(ARTICLES | moved) != DIGEST


def test_a_repacked_copy_with_other_files_passes(monkeypatch):
    others = {"./text/README.txt": b"", "text/smax/LICENSE.txt": b"", "smax-1.txt": b""}
    shuffled = {f"./{name}": ARTICLES[name] for name in reversed(ARTICLES)}
    with served(monkeypatch, tar(others | shuffled, mode="w")):
        assert livedoor.livedoor().is_full


def test_the_display_says_what_it_is_and_names_no_address_of_this_run(monkeypatch):
    with served(monkeypatch):
        full = livedoor.livedoor()
    assert repr(full) == (
        "livedoor: 18 articles, 153 characters · Livedoor News Corpus, "
        "https://www.rondhuit.com/download/ldcc-20140209.tar.gz · "
        "CC BY-ND 2.1 JP, credit by category"
    )
    assert full._repr_mimebundle_() == (
        {"text/plain": repr(full)},
        {"glassbox": {"name": "livedoor", "is_full": True}},
    )


def test_a_cache_that_cannot_be_written_costs_only_the_copy(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file, so no folder can be made below it")
    with served(monkeypatch) as asked:
        assert livedoor.livedoor().is_full
        dataset = livedoor.livedoor()
    assert dataset.is_full and "not kept" in repr(dataset)
    assert len(asked) == 3  # one HEAD, and a GET for each load


TWO = """
import json, sys
from lib.data import livedoor
livedoor.CATEGORIES = {category: (2, "") for category in livedoor.CATEGORIES}
livedoor.DIGEST = sys.argv[1]
dataset = livedoor.livedoor()
print(json.dumps([dataset.is_full, len(dataset), dataset.notice]))
"""


def run_python(script: str, *arguments: str, home: Path, **variables: str):
    """A fresh Python whose home and cache are `home`."""
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | places | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_both_get_a_good_copy(monkeypatch, tmp_path):
    both = threading.Barrier(2, timeout=60)  # neither is served before both ask
    with served(monkeypatch, before=both.wait) as asked:
        address = os.environ["GLASSBOX_ORIGIN"]
        processes = [
            run_python(TWO, DIGEST, home=tmp_path, GLASSBOX_ORIGIN=address)
            for _ in range(2)
        ]
        results = [process.communicate(timeout=60) for process in processes]
    assert sum(line.startswith("GET") for line in asked) == 2
    assert [(json.loads(out), err) for out, err in results] == [
        ([True, 18, ""], "")
    ] * 2
    kept = [found for found in tmp_path.rglob("*") if found.is_file()]
    assert [found.name for found in kept] == [livedoor.FILE]
    assert kept[0].read_bytes() == GOOD


@needs_hub
def test_the_full_archive_through_loopback(monkeypatch, cached):
    monkeypatch.undo()  # the real corpus's counts and digest
    monkeypatch.setattr(origin, "_answers", {})
    monkeypatch.setattr(pooch, "os_cache", lambda project: cached.parent)
    with Hub(os.environ["HUB"]) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        livedoor.livedoor()
        asked = len(hub.requests)
        start = time.process_time()
        full = livedoor.livedoor()
        seconds = time.process_time() - start
        assert len(hub.requests) == asked  # the second time from the cache
    assert full.is_full and len(full) == 7367
    assert {row["category"] for row in full} == set(livedoor.CATEGORIES)
    assert all(all(row.values()) for row in full)
    assert repr(full).startswith("livedoor: 7,367 articles, 8,997,899 characters")
    assert seconds < 3


# --- Nobody answers --------------------------------------------------------------

LOST = """
import json, socket, sys, time
from lib.data import livedoor, origin
if sys.argv[1] == "slow names":
    socket.getaddrinfo = lambda *_, **__: time.sleep(60)
start = time.monotonic()
livedoor.livedoor()
dataset = livedoor.livedoor()
others = [origin.reachable(url) for url in sys.argv[2:]]
print(json.dumps([time.monotonic() - start, others, repr(dataset)]))
"""


@pytest.mark.parametrize("case", ["refused", "black hole", "slow names"])
def test_an_origin_out_of_reach_costs_a_whole_process_at_most_three_seconds(
    case, tmp_path
):
    with black_hole() as silent, black_hole() as other:
        address = refused_address() if case == "refused" else silent
        process = run_python(LOST, case, other, home=tmp_path, GLASSBOX_ORIGIN=address)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    seconds, others, shown = json.loads(out)
    print(f"{case}: {seconds:.2f} s lost")
    assert seconds <= 3
    assert others == [False]
    reason = "cannot be reached" if case == "refused" else "does not answer"
    assert "the embedded default" in shown and reason in shown


def asking():
    """The threads that wait for an address."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.endswith("(ask)")]


def test_silent_addresses_share_one_patience(monkeypatch):
    monkeypatch.setattr(origin, "PATIENCE", 0.5)
    start = time.monotonic()
    with black_hole() as first, black_hole() as second:
        assert not origin.reachable(first)
        assert not origin.reachable(second)
        assert not origin.reachable(second)
        assert time.monotonic() - start < 1.5
        while asking() and time.monotonic() - start < 10:
            time.sleep(0.05)
        assert not asking()  # no thread waits for an answer for ever


def test_reachable_is_any_answer(monkeypatch):
    with served(monkeypatch, status=404) as asked:
        assert origin.reachable(os.environ["GLASSBOX_ORIGIN"])
        assert origin.reachable(os.environ["GLASSBOX_ORIGIN"])
        assert len(asked) == 1
    assert not origin.reachable("http://")


def test_a_wrong_address_is_named(monkeypatch):
    monkeypatch.setenv("GLASSBOX_ORIGIN", "127.0.0.1/files")
    with pytest.raises(ValueError, match=r"GLASSBOX_ORIGIN.*'127\.0\.0\.1/files'"):
        livedoor.livedoor()


# --- It comes cut ----------------------------------------------------------------


def test_a_cut_connection_gives_the_default_and_is_not_tried_again(monkeypatch, cached):
    half = GOOD[: len(GOOD) // 2]
    with served(monkeypatch, half, length=len(GOOD)) as asked:
        assert_default(livedoor.livedoor(), "stopped half-way", livedoor.FILE)
        assert_default(livedoor.livedoor(), "stopped half-way")
        assert len(asked) == 2  # one HEAD, one GET
    assert list(cached.parent.iterdir()) == []


@pytest.mark.parametrize("moment", ["before", "end"])
def test_a_stalled_connection_counts_as_cut(moment, monkeypatch):
    assert origin.STALLED < 3
    monkeypatch.setattr(origin, "STALLED", 0.3)
    over = threading.Event()
    stall = {moment: lambda: over.wait(20)}
    with served(monkeypatch, GOOD[:100], length=len(GOOD), **stall):
        start = time.monotonic()
        assert_default(livedoor.livedoor(), "stopped half-way")
        assert_default(livedoor.livedoor(), "stopped half-way")
        assert time.monotonic() - start < 3
        over.set()


def test_an_origin_without_the_file_is_still_asked_for_others(monkeypatch):
    with served(monkeypatch, status=404) as asked:
        assert_default(livedoor.livedoor(), "status 404")
        with pytest.raises(origin.Unreachable, match=r"other\.txt.*404"):
            origin.fetch_file("other.txt", "http://unused", Path.read_bytes)
        assert len(asked) == 3


# --- It comes wrong --------------------------------------------------------------

WRONG = {
    "truncated": (GOOD[: len(GOOD) // 2], "expected a whole tar archive, got"),
    "empty": (b"", "expected a whole tar archive, got"),
    "a web page": (b"<html>Please log in</html>", "expected a whole tar archive, got"),
    "counts": (ONE_SHORT, "movie-enter: expected 2 articles, got 1"),
    "digest": (CHANGED, f"expected sha256 {DIGEST}, got [0-9a-f]{{64}}$"),
    "not the corpus": (tar({"a.txt": b"a"}), "smax: expected 2 articles, got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_download_is_an_error_and_is_not_kept(case, monkeypatch, cached):
    content, told = WRONG[case]
    with served(monkeypatch, content):
        with pytest.raises(origin.DataError, match=told) as caught:
            livedoor.livedoor()
        url = f"{os.environ['GLASSBOX_ORIGIN']}/{livedoor.FILE}: "
        assert str(caught.value).startswith(url)
    assert list(cached.parent.iterdir()) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.txt"),
        member("text/../../outside.txt"),
        member("text/smax/.."),
        member("/etc/outside"),
        member(".//etc/outside"),
        member("text/smax/smax-9.txt", tarfile.SYMTYPE, "/etc/hostname"),
        member("text/smax/smax-9.txt", tarfile.LNKTYPE, "../../outside"),
        member("text/pipe", tarfile.FIFOTYPE),
        member("text/device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name} {info.type.decode()}",
)
def test_a_member_that_leads_outside_is_refused(bad, monkeypatch, tmp_path):
    with (
        served(monkeypatch, tar(ARTICLES, bad)),
        pytest.raises(origin.DataError, match=re.escape(bad.name.removeprefix("./"))),
    ):
        livedoor.livedoor()
    assert not any(found.is_file() for found in tmp_path.rglob("*"))


@settings(max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_never_changes_an_article(tmp_path_factory, place, change):
    path = tmp_path_factory.mktemp("changed") / "archive"
    changed = bytearray(GOOD)
    changed[place] ^= change
    path.write_bytes(changed)
    try:
        rows = livedoor.read(path)
    except origin.DataError:
        return
    path.write_bytes(GOOD)
    assert rows == livedoor.read(path)


# --- The cached file -------------------------------------------------------------


def test_a_good_cached_file_is_neither_asked_for_nor_replaced(monkeypatch, cached):
    put(cached, GOOD)
    with served(monkeypatch, CHANGED) as asked:
        assert livedoor.livedoor().is_full
    assert asked == [] and cached.read_bytes() == GOOD


@pytest.mark.parametrize("damaged", [GOOD[:-50], CHANGED, b""])
def test_a_damaged_cached_file_is_named_and_refused(damaged, monkeypatch, cached):
    put(cached, damaged)
    monkeypatch.setenv("GLASSBOX_ORIGIN", refused_address())
    assert_default(livedoor.livedoor(), f"{cached} was refused", "expected", "got")
    assert cached.read_bytes() == damaged


def test_a_damaged_cached_file_is_replaced_by_a_good_one_only(monkeypatch, cached):
    put(cached, GOOD[:-50])
    with (
        served(monkeypatch, CHANGED),
        pytest.raises(origin.DataError, match="expected sha256"),
    ):
        livedoor.livedoor()
    assert cached.read_bytes() == GOOD[:-50]
    with served(monkeypatch, GOOD):
        dataset = livedoor.livedoor()
    assert dataset.is_full and f"{cached} was refused" in repr(dataset)
    assert cached.read_bytes() == GOOD
    assert livedoor.livedoor().notice == ""


def test_a_folder_in_the_place_of_the_file_is_named(monkeypatch, cached):
    cached.mkdir(parents=True)
    with served(monkeypatch):
        dataset = livedoor.livedoor()
    assert dataset.is_full and "was refused" in dataset.notice
    assert "not kept" in dataset.notice


# --- The embedded default --------------------------------------------------------


def runs(row: dict[str, str], length: int = 20) -> set[str]:
    texts = (row["title"], row["content"])
    return {t[i : i + length] for t in texts for i in range(len(t) - length + 1)}


def test_the_embedded_articles_have_the_schema_and_the_size():
    rows = livedoor.embedded_articles()
    assert len(rows) >= 120
    assert {row["category"] for row in rows} == set(livedoor.CATEGORIES)
    assert len({row["url"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == ["url", "date", "title", "content", "category"]
        assert re.fullmatch(rf"glass-box:{row['category']}/\d+", row["url"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0900", row["date"])
        assert row["title"] and len(row["content"]) >= 300, row["url"]
        kana = len(re.findall(r"[ぁ-ゖァ-ヺ]", row["content"]))
        assert kana > len(row["content"]) / 4, row["url"]


def test_no_two_embedded_articles_share_a_run_of_20_characters():
    seen: dict[str, str] = {}
    for row in livedoor.embedded_articles():
        for run in runs(row):
            assert run not in seen, f"{row['url']} and {seen[run]}: {run}"
        seen |= dict.fromkeys(runs(row), row["url"])


@needs_hub
def test_no_embedded_article_copies_the_corpus(monkeypatch):
    monkeypatch.undo()
    ours = set().union(*map(runs, livedoor.embedded_articles()))
    for row in livedoor.read(FULL):
        shared = ours & runs(row)
        assert not shared, f"{row['url']}: {shared}"


# --- Tiny Shakespeare ------------------------------------------------------------

PLAY = "First Citizen:\nBefore we proceed any further, hear me speak.\n"


@pytest.fixture
def play(monkeypatch):
    digest = hashlib.sha256(PLAY.encode()).hexdigest()
    monkeypatch.setattr(shakespeare, "DIGEST", digest)
    return PLAY.encode()


def test_the_play_comes_from_its_origin_once(monkeypatch, cached, play):
    with served(monkeypatch, play) as asked:
        first, second = shakespeare.tiny_shakespeare(), shakespeare.tiny_shakespeare()
        path = f"/files/{shakespeare.FILE}"
        assert asked == [f"HEAD {path}", f"GET {path}"]
    assert first.is_full and first.rows == second.rows
    assert first.rows[0]["content"] == PLAY
    assert repr(first).startswith("tiny-shakespeare: 1 text, 61 characters · https://")
    assert first.licence == "public domain"
    assert (cached.parent / shakespeare.FILE).read_bytes() == play


def test_at_its_own_origin_the_play_has_another_name(monkeypatch, play):
    with served(monkeypatch, play) as asked:
        address = os.environ["GLASSBOX_ORIGIN"]
        monkeypatch.delenv("GLASSBOX_ORIGIN")
        monkeypatch.setattr(shakespeare, "ORIGIN", address)
        assert shakespeare.tiny_shakespeare().is_full
        assert asked == ["HEAD /files/input.txt", "GET /files/input.txt"]


def test_another_play_is_an_error(monkeypatch, cached, play):
    with (
        served(monkeypatch, play[:-1]),
        pytest.raises(origin.DataError, match="expected sha256"),
    ):
        shakespeare.tiny_shakespeare()
    assert list(cached.parent.iterdir()) == []


def test_without_an_origin_the_books_own_prose_stands_in(monkeypatch):
    monkeypatch.setenv("GLASSBOX_ORIGIN", refused_address())
    prose = shakespeare.tiny_shakespeare()
    assert not prose.is_full
    assert repr(prose).startswith("tiny-shakespeare: 1 text, ")
    assert prose.licence == "CC BY 4.0" and prose.rows[0].keys() == {"title", "content"}
    assert "the embedded default" in repr(prose) and "cannot be reached" in repr(prose)
    text = prose.rows[0]["content"]
    assert text.isascii() and len(text) >= 60_000 and "Citizen" not in text


@needs_hub
def test_the_full_play_through_loopback(monkeypatch, cached):
    with Hub(os.environ["HUB"]) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        full = shakespeare.tiny_shakespeare()
    text = full.rows[0]["content"]
    assert full.is_full and len(text) == 1_115_394 and len(set(text)) == 65


# --- Multi30k --------------------------------------------------------------------

PAIRS = {
    split: "".join(
        json.dumps({"en": f" A dog, {split} {i}.", "de": f"Ein Hund, {split} {i}. "})
        + "\n"
        for i in range(count)
    )
    for split, count in (("train", 3), ("val", 2), ("test", 1))
}
LOAD = """
import json, sys, time
from lib.data import multi30k, origin
multi30k.PAIRS = json.loads(sys.argv[1])
start = time.monotonic()
try:
    found = multi30k.multi30k()
    print(json.dumps([found.is_full, found.rows[:1], found.rows[-1:], repr(found),
                      time.monotonic() - start]))
except origin.DataError as error:
    print(json.dumps(str(error)))
"""
COUNTS = json.dumps({"train": 3, "validation": 2, "test": 1})


@pytest.fixture
def pairs_hub(tmp_path):
    folder = tmp_path / "hub"
    home = folder / "datasets" / multi30k.NAME
    home.mkdir(parents=True)
    for split, text in PAIRS.items():
        (home / f"{split}.jsonl").write_text(text)
    with Hub(folder, cache=tmp_path / "cache") as hub:
        yield hub


def load_pairs(home, counts=COUNTS, **variables):
    process = run_python(LOAD, counts, home=home, **variables)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def test_the_pairs_come_through_the_ordinary_client_and_then_from_its_cache(
    pairs_hub, tmp_path
):
    (is_full, first, last, shown, _), err = load_pairs(
        tmp_path, **pairs_hub.environment
    )
    assert is_full and err == ""
    assert first == [
        {"split": "train", "en": "A dog, train 0.", "de": "Ein Hund, train 0."}
    ]
    assert last[0]["split"] == "test"
    assert shown == (
        "multi30k: 6 pairs, 188 characters · Multi30k, "
        "huggingface.co/datasets/bentrevett/multi30k · "
        "research use (captions of Flickr30k)"
    )
    gone = pairs_hub.environment | {"HF_ENDPOINT": refused_address()}
    again, err = load_pairs(tmp_path, **gone)
    assert again[:4] == [is_full, first, last, shown] and err == ""


def test_other_pairs_are_an_error(pairs_hub, tmp_path):
    told, _ = load_pairs(tmp_path, '{"train": 4}', **pairs_hub.environment)
    assert told.startswith(
        "bentrevett/multi30k: expected {'train': 4}, got {'train': 3"
    )


@pytest.mark.parametrize("case", ["refused", "no such data set"])
def test_without_the_hub_the_pairs_of_a_grammar_stand_in(case, pairs_hub, tmp_path):
    variables = pairs_hub.environment
    if case == "refused":
        variables["HF_ENDPOINT"] = refused_address()
    else:
        for file in (pairs_hub.folder / "datasets" / multi30k.NAME).iterdir():
            file.unlink()
        (pairs_hub.folder / "datasets" / multi30k.NAME).rmdir()
    (is_full, first, _, shown, seconds), err = load_pairs(tmp_path, **variables)
    assert not is_full and err == ""
    assert first == multi30k.embedded_pairs()[:1]
    assert "the embedded default" in shown and "not the full data set, because" in shown
    assert shown.startswith("multi30k: ") and "· CC BY 4.0 ·" in shown
    assert seconds < 10  # most of it is the import of the client
    reason = "cannot be reached" if case == "refused" else "DatasetNotFoundError"
    assert reason in shown


def test_the_embedded_pairs_are_those_of_the_grammar():
    from train import grammar

    rows = multi30k.embedded_pairs()
    assert rows == grammar.sentences()
    assert len({row["en"] for row in rows}) == len(rows) == 1200
    assert {row["split"] for row in rows} == {"train", "validation", "test"}


ENDS = {"m": "er", "f": "e", "n": "es"}


def test_the_german_of_the_grammar_agrees():
    """Each noun phrase has the article, the ending and the number of its noun."""
    from train import grammar

    nouns = [n.split() for text in grammar.NOUNS.values() for n in text.split("|")]
    gender = {one[2]: one[4] for one in nouns}
    plurals = {one[3] for one in nouns}
    seen = set()
    for row in multi30k.embedded_pairs():
        words = row["de"].rstrip(".").split()
        words[0] = words[0][0].lower() + words[0][1:]
        for start, word in enumerate(words):
            if word in ("zwei", "drei", "vier"):
                noun = next(w for w in words[start + 1 :] if w[0].isupper())
                assert noun in plurals, row
                inner = words[start + 1 : words.index(noun, start)]
                assert all(w.endswith("e") for w in inner), row
            elif word in ("ein", "eine", "einen"):
                noun = next(w for w in words[start + 1 :] if w[0].isupper())
                kind = gender[noun]
                inner = words[start + 1 : words.index(noun, start)]
                accusative = start > 0
                article = {"m": "einen" if accusative else "ein", "f": "eine"}
                assert word == article.get(kind, "ein"), row
                end = "en" if kind == "m" and accusative else ENDS[kind]
                assert all(w.endswith(end) for w in inner), row
                seen.add((kind, accusative, bool(inner)))
    assert len(seen) == 12  # three genders, two cases, with an adjective or without


@pytest.mark.skipif(
    not Path(os.environ.get("HUB") or "", "datasets", multi30k.NAME).is_dir()
    or not os.environ.get("HUB"),
    reason="HUB names no folder that holds Multi30k",
)
def test_the_full_pairs_through_loopback(tmp_path):
    counts = json.dumps(multi30k.PAIRS)
    with Hub(os.environ["HUB"], cache=tmp_path / "cache") as hub:
        (is_full, *_, shown, _), err = load_pairs(tmp_path, counts, **hub.environment)
    assert is_full and err == ""
    assert shown.startswith("multi30k: 31,014 pairs, 4,084,714 characters")


# --- CIFAR-10 --------------------------------------------------------------------


def encoded(kind: str) -> Image.Image:
    """A small picture as `kind` keeps it."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(file, kind)
    return Image.open(file)


@pytest.mark.parametrize(("kind", "told"), [("PNG", False), ("JPEG", True)])
def test_a_lossy_copy_of_cifar10_is_named(monkeypatch, kind, told):
    row = {"img": encoded(kind), "label": 3}
    found = {split: [row] * n for split, n in cifar10.IMAGES.items()}
    monkeypatch.setattr(cifar10, "from_hub", lambda name: found)
    cifar = cifar10.cifar10()
    assert cifar.is_full and ("JPEG copy" in repr(cifar)) == told
    assert repr(cifar).startswith(
        "cifar10: 50,000 + 10,000 images of 32×32 pixels · CIFAR-10, huggingface.co/"
        "datasets/uoft-cs/cifar10 · no licence stated, cite Krizhevsky (2009)"
    )
    assert cifar.train is found["train"] and len(cifar) == 50_000
    images, labels = cifar10.pixels(cifar.test, [5, 7])
    assert images.shape == (2, 32, 32, 3) and images.dtype == "uint8"
    assert labels.tolist() == [3, 3] and cifar.classes[3] == "cat"


def test_another_cifar10_is_refused(monkeypatch):
    monkeypatch.setattr(cifar10, "from_hub", lambda name: {"train": [], "test": []})
    with pytest.raises(origin.DataError, match=r"uoft-cs/cifar10: expected .*50000"):
        cifar10.cifar10()


def test_without_the_hub_digits_stand_in(monkeypatch):
    def silent(name):
        raise origin.Unreachable("nobody answers")

    monkeypatch.setattr(cifar10, "from_hub", silent)
    digits = cifar10.cifar10()
    assert not digits.is_full and "scikit-learn" in digits.source
    assert "not CIFAR-10, because nobody answers" in repr(digits)
    images, labels = cifar10.pixels(digits.train)
    assert images.shape == (1497, 32, 32, 3) and len(digits.test) == 300
    assert set(labels.tolist()) == set(range(10)) == set(range(len(digits.classes)))


def test_the_digits_are_scikit_learns_as_pixels():
    digits, source = cifar10._digits("here"), load_digits()
    assert digits.name == "cifar10" and digits.licence == "CC BY 4.0"
    assert digits.notice == "here" and digits.classes == tuple("0123456789")
    grey = source.images / 16 * 255  # of 0 to 16: white is 255
    for rows, start, picks in (
        (digits.train, 0, range(40)),
        (digits.test, 1497, [299]),
    ):
        images, labels = cifar10.pixels(rows, picks)
        for pick, image, label in zip(picks, images, labels, strict=True):
            assert label == source.target[start + pick]
            assert image.dtype == np.uint8 and np.ptp(image, axis=-1).max() == 0
            cells = image[:, :, 0].reshape(8, 4, 8, 4).mean((1, 3))  # each pixel's own
            drawn = grey[start + pick]
            assert abs(cells.mean() - drawn.mean()) < 3
            assert np.corrcoef(cells.ravel(), drawn.ravel())[0, 1] > 0.97
            assert image.max() > 240 and image.min() == 0


def test_pixels_are_those_of_the_rows_asked_for():
    digits = cifar10._digits("")
    images, labels = cifar10.pixels(digits.test)
    assert images.shape == (300, 32, 32, 3) and labels.shape == (300,)
    some, few = cifar10.pixels(digits.test, [7, 0, 7])
    assert np.array_equal(some, images[[7, 0, 7]]) and few.dtype == np.int64
    assert few.tolist() == labels[[7, 0, 7]].tolist()


@needs_hub
def test_the_full_cifar10_through_loopback(tmp_path):
    script = (
        "from lib.data import cifar10; d = cifar10.cifar10();"
        "x, y = cifar10.pixels(d.test, range(20));"
        "print(d.is_full, len(d.train), len(d.test), x.shape, y[:4].tolist(), d.notice)"
    )
    with Hub(os.environ["HUB"], cache=tmp_path) as hub:
        found = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | hub.environment,
            capture_output=True,
            text=True,
            check=True,
        )
    told = "JPEG copy: these are not quite the original pixels"
    expected = f"True 50000 10000 (20, 32, 32, 3) [3, 8, 8, 0] {told}\n"
    assert found.stdout == expected
