"""The loopback hub: the ordinary clients read it, and nobody writes or leaves it."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hub import CACHE, Hub

ROOT = Path(__file__).parent.parent
HUB = os.environ.get("HUB")
needs_hub = pytest.mark.skipif(
    not (HUB and Path(HUB).is_dir()), reason="HUB names no folder"
)
ROWS = '{"en": "A dog.", "de": "Ein Hund."}\n{"en": "Two.", "de": "Zwei."}\n'
FILE = bytes(range(256)) * 5000  # 1.28 MB: more than one block


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "served"
    for path, content in {
        "datasets/ours/pairs/train.jsonl": ROWS.encode(),
        "datasets/ours/pairs/test.jsonl": ROWS.encode(),
        "models/ours/tables/vocab.json": b'{"a": 0}',
        "models/ours/tables/deep/er/merges.txt": b"a b\n",
        "files/large.bin": FILE,
        "files/ふみ.txt": "文".encode(),
        "secret.txt": b"not served",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder.parent / "outside.txt").write_text("outside")
    (folder / "files/link.txt").symlink_to(folder.parent / "outside.txt")
    with Hub(folder, cache=folder.parent / "cache") as running:
        yield running


def ask(hub, method: str, path: str, body: bytes | None = None, **headers: str):
    """The answer to exactly this path: no client tidies it on the way."""
    connection = http.client.HTTPConnection(urlsplit(hub.address).netloc, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), content


# --- The clients, each in a process of its own, as a reader's notebook is ----------

CLIENTS = """
import json, sys
import datasets, huggingface_hub as hub, pooch
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

def missing(expected, call):
    try:
        call()
    except expected:
        return True

api = hub.HfApi()
info = api.dataset_info("ours/pairs", files_metadata=True)
folder = hub.snapshot_download("ours/tables")
pairs = datasets.load_dataset("ours/pairs")
streamed = datasets.load_dataset("ours/pairs", split="test", streaming=True)
merges = hub.hf_hub_download("ours/tables", "deep/er/merges.txt")
pinned = hub.hf_hub_download("ours/tables", "vocab.json", revision=api.model_info("ours/tables").sha)
found = api.get_paths_info("ours/tables", ["deep", "vocab.json", "no"])
large = pooch.retrieve(sys.argv[1] + "/large.bin", sys.argv[2], progressbar=False)
print(json.dumps({
    "sizes": {s.rfilename: s.size for s in info.siblings},
    "files": api.list_repo_files("ours/tables"),
    "top": sorted(entry.path for entry in api.list_repo_tree("ours/tables")),
    "paths": sorted(entry.path for entry in found),
    "merges": open(merges).read(),
    "vocab": [open(folder + "/vocab.json").read(), open(pinned).read()],
    "rows": {split: pairs[split].num_rows for split in pairs},
    "first": next(iter(streamed)),
    "missing": [
        missing(EntryNotFoundError, lambda: hub.hf_hub_download("ours/tables", "no")),
        missing(RepositoryNotFoundError, lambda: hub.hf_hub_download("no/such", "no")),
        missing(datasets.exceptions.DatasetNotFoundError, lambda: datasets.load_dataset("no/such")),
        missing(hub.errors.HfHubHTTPError, lambda: api.create_repo("ours/new", token="hf_x")),
    ],
}))
"""


def run(script: str, hub: Hub, *arguments: str):
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | hub.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_the_ordinary_clients_accept_it(hub):
    known = hashlib.sha256(FILE).hexdigest()
    got = run(CLIENTS, hub, hub.environment["GLASSBOX_ORIGIN"], known)
    assert got == {
        "sizes": {"test.jsonl": len(ROWS), "train.jsonl": len(ROWS)},
        "files": ["deep/er/merges.txt", "vocab.json"],
        "top": ["deep", "vocab.json"],
        "paths": ["deep", "vocab.json"],
        "merges": "a b\n",
        "vocab": ['{"a": 0}'] * 2,
        "rows": {"train": 2, "test": 2},
        "first": {"en": "A dog.", "de": "Ein Hund."},
        "missing": [True] * 4,
    }
    asked = " ".join(hub.requests)
    for word in ("/resolve/", "/tree/", "/revision/", "POST", "/paths-info/", "HEAD"):
        assert word in asked


REAL = """
import json, datasets
cifar = datasets.load_dataset("uoft-cs/cifar10")
pairs = datasets.load_dataset("bentrevett/multi30k")
print(json.dumps([
    {split: cifar[split].num_rows for split in cifar},
    sorted(cifar["train"].features), list(cifar["train"][0]["img"].size),
    {split: pairs[split].num_rows for split in pairs}, sorted(pairs["train"].features),
]))
"""


@needs_hub
def test_the_real_data_sets_load(tmp_path):
    for name in ("uoft-cs/cifar10", "bentrevett/multi30k"):
        if not Path(HUB, "datasets", name).is_dir():
            pytest.skip(f"the folder that HUB names holds no {name}")
    with Hub(HUB, cache=tmp_path) as real:
        got = run(REAL, real)
    assert got == [
        {"train": 50_000, "test": 10_000},
        ["img", "label"],
        [32, 32],
        {"train": 29_000, "validation": 1_014, "test": 1_000},
        ["de", "en"],
    ]


# --- What it sends ----------------------------------------------------------------


def test_headers_of_a_file(hub):
    path = "/ours/tables/resolve/main/vocab.json"
    status, headers, content = ask(hub, "GET", path)
    git = hashlib.sha1(b'blob 8\0{"a": 0}').hexdigest()
    assert (status, content) == (200, b'{"a": 0}')
    assert headers["ETag"] == headers["X-Linked-Etag"] == f'"{git}"'
    assert headers["X-Linked-Size"] == headers["Content-Length"] == "8"
    assert len(headers["X-Repo-Commit"]) == 40
    commit = headers["X-Repo-Commit"]
    status, other, content = ask(hub, "HEAD", path.replace("main", commit))
    assert (status, content, other["ETag"]) == (200, b"", headers["ETag"])


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-2000", 100, 2000),
        ("bytes=1279990-", 1279990, 1279999),
        ("bytes=-7", 1279993, 1279999),
        ("bytes=5-99999999", 5, 1279999),
    ],
)
def test_ranges(hub, asked, first, last):
    status, headers, content = ask(hub, "GET", "/files/large.bin", Range=asked)
    assert status == 206
    assert headers["Content-Range"] == f"bytes {first}-{last}/1280000"
    assert content == FILE[first : last + 1]


def test_a_range_past_the_end_and_one_that_is_none(hub):
    assert ask(hub, "GET", "/files/large.bin", Range="bytes=1280000-")[0] == 416
    status, _, content = ask(hub, "GET", "/files/large.bin", Range="lines=1-2")
    assert (status, content) == (200, FILE)


def test_names_are_percent_encoded(hub):
    assert ask(hub, "GET", "/files/%E3%81%B5%E3%81%BF.txt")[2].decode() == "文"


def test_a_changed_file_is_a_new_commit(tmp_path):
    file = tmp_path / "models/ours/one/a.txt"
    file.parent.mkdir(parents=True)
    commits = []
    with Hub(tmp_path) as running:
        for content in ("1", "2", "1"):
            file.write_text(content)
            os.utime(file, ns=(len(commits), len(commits)))
            commits.append(running.commit("models", "ours/one"))
    assert commits[0] == commits[2] != commits[1]


# --- What it does not do -----------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.txt",
        "/files/../../outside.txt",
        "/files/%2e%2e/secret.txt",
        "/files/..%2fsecret.txt",
        "/files/..%5csecret.txt",
        "/files//etc/hostname",
        "/files/a%00b",
        "/files/link.txt",
        "/files/" + "a" * 5000,
        "/datasets/ours/pairs/resolve/main/../../../../secret.txt",
        "/ours/tables/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/../files/resolve/main/large.bin",
        "/api/models/../files",
        "/api/models/ours/%2e%2e/tree/main",
        "/secret.txt",
        "/",
        "/files/",
        "/api/models/ours/tables/tree/main/deep%0d%0aX-Bad:%201",
    ],
)
def test_nothing_outside_is_served(hub, path):
    for method in ("GET", "HEAD"):
        status, headers, content = ask(hub, method, path)
        assert 400 <= status < 500
        assert b"outside" not in content and b"not served" not in content
        assert "X-Bad" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_it_is_read_only(hub, method):
    before = sorted(found for found in hub.folder.rglob("*"))
    for path in ("/files/new.txt", "/api/models/ours/tables", "/api/repos/create"):
        assert ask(hub, method, path, b"x")[0] == 405
    assert sorted(found for found in hub.folder.rglob("*")) == before


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"paths": 3}'])
def test_a_question_that_cannot_be_read_is_refused(hub, body):
    path, kind = "/api/models/ours/tables/paths-info/main", "application/json"
    status, _, _ = ask(hub, "POST", path, body, **{"Content-Type": kind})
    assert status == 400


def test_it_listens_on_loopback_only(hub):
    assert hub.server.server_address[0] == "127.0.0.1"
    assert hub.address.startswith("http://127.0.0.1:")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hub: expected a folder.*nowhere"):
        Hub(tmp_path / "nowhere")


# --- From the command line ---------------------------------------------------------


def command(*arguments: str, **variables: str):
    return subprocess.run(
        [sys.executable, "tests/hub.py", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


SHOW = """
import json, os, urllib.request
with urllib.request.urlopen(os.environ["GLASSBOX_ORIGIN"] + "/large.bin") as answer:
    size = len(answer.read())
print(json.dumps([size, dict(os.environ)]))
raise SystemExit(7)
"""


def test_the_command_runs_beside_the_hub_with_caches_of_its_own(hub, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    ran = command(str(hub.folder), "--", sys.executable, "-c", SHOW, **home)
    assert ran.returncode == 7, ran.stderr
    size, seen = json.loads(ran.stdout)
    assert size == len(FILE)
    assert seen["HF_ENDPOINT"].startswith("http://127.0.0.1:")
    assert seen["GLASSBOX_ORIGIN"] == seen["HF_ENDPOINT"] + "/files"
    assert seen["HF_HUB_OFFLINE"] == "0"
    assert seen["XDG_CACHE_HOME"] == str(CACHE)
    assert CACHE == ROOT / "_build" / "hub-cache"
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        assert Path(seen[name]).is_relative_to(CACHE)
    assert seen["MPLCONFIGDIR"] == str(tmp_path / ".cache" / "matplotlib")


def test_the_command_line_says_what_is_wrong(hub):
    for arguments, code, told in [
        ((), 2, "usage: python tests/hub.py FOLDER -- COMMAND"),
        (("a", "b", "c"), 2, "usage:"),
        (
            (str(hub.folder / "nowhere"), "--", "true"),
            2,
            "expected a folder, found none",
        ),
        ((str(hub.folder), "--", "no-such-command"), 127, "no 'no-such-command'"),
    ]:
        ran = command(*arguments)
        assert ran.returncode == code
        assert told in ran.stderr and "Traceback" not in ran.stderr


def test_a_terminated_command_ends_with_its_hub(hub, tmp_path):
    mark = tmp_path / "started"
    sleep = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(60)"
    arguments = ["tests/hub.py", str(hub.folder), "--", sys.executable, "-c", sleep]
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    while not mark.exists() and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=20) == 128 + 15
