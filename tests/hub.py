"""A read-only hub on loopback: a folder that the ordinary clients read as the web.

The folder holds ``datasets/<owner>/<name>/…``, ``models/<owner>/<name>/…`` and
``files/…``. `huggingface_hub` and `datasets` find it through HF_ENDPOINT, `lib.data`
through GLASSBOX_ORIGIN. In a test: ``with Hub(folder) as hub: hub.environment``. As a
command: ``python tests/hub.py FOLDER -- COMMAND …`` runs COMMAND beside the hub.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "_build" / "hub-cache"
KINDS = ("datasets", "models")
LARGEST_QUESTION = 1_000_000  # bytes of a POST

# kind, owner/name, and what is asked of the repository
API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(.*))?")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
FILES = re.compile(r"/(files/.+)")


class NotServed(Exception):
    """The answer is an error: its status, and the code that hub clients look for."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    """The server, as a context manager; port 0 of 127.0.0.1, so a free port.

    `requests` lists what was asked, as "METHOD path". With `cache`, the environment
    also sends the clients' caches there, away from the user's own.
    """

    def __init__(self, folder: str | Path, cache: str | Path | None = None) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise FileNotFoundError(f"hub: expected a folder, found none at {folder}")
        self.cache = cache
        self.requests: list[str] = []
        handler = functools.partial(Handler, self)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        serve = functools.partial(self.server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which the ordinary clients come here."""
        direct = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1"]
        variables = {
            "HF_ENDPOINT": self.address,
            "GLASSBOX_ORIGIN": f"{self.address}/files",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": ",".join(filter(None, direct)),
        }
        variables["no_proxy"] = variables["NO_PROXY"]
        if self.cache is not None:
            home = Path(self.cache).absolute()
            caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            fonts = os.environ.get("MPLCONFIGDIR") or Path(caches) / "matplotlib"
            variables |= {
                "XDG_CACHE_HOME": str(home),
                "HF_HOME": str(home / "huggingface"),
                "HF_HUB_CACHE": str(home / "huggingface" / "hub"),
                "HF_DATASETS_CACHE": str(home / "huggingface" / "datasets"),
                "MPLCONFIGDIR": str(fonts),  # matplotlib keeps its list of fonts
            }
        return variables

    def path(self, *parts: str) -> Path:
        """The file or folder of the address `parts`; never one outside the folder."""
        steps = [step for part in parts for step in part.split("/")]
        if any(step in ("", ".", "..") or re.search(r"[\\\0]", step) for step in steps):
            raise NotServed(400, "a path has no empty step, '.', '..' or backslash")
        found = self.folder.joinpath(*steps)
        if not self.holds(found):
            raise NotServed(403, "the path leads out of the folder")
        return found

    def holds(self, path: Path) -> bool:
        """Whether `path`, links followed, is in the folder."""
        return path.resolve().is_relative_to(self.folder)

    def entries(self, kind: str, name: str) -> dict[str, Path]:
        """All files of a repository by their path in it."""
        home = self.path(kind, name)
        if not home.is_dir():
            raise NotServed(404, "Repository not found", "RepoNotFound")
        inside = (f for f in home.rglob("*") if self.holds(f) and f.is_file())
        return {found.relative_to(home).as_posix(): found for found in sorted(inside)}

    def commit(self, kind: str, name: str, revision: str = "main") -> str:
        """The only commit of a repository: a hash of its paths and contents."""
        files = self.entries(kind, name)
        content = "".join(f"{path}\0{object_id(files[path])}\0" for path in files)
        commit = hashlib.sha1(content.encode()).hexdigest()
        if revision not in ("main", "refs/heads/main", commit):
            raise NotServed(404, "Invalid revision", "RevisionNotFound")
        return commit


def object_id(path: Path) -> str:
    """The name git gives the file's content; the hub's ETag of a small file."""
    stat = path.stat()
    return _object_id(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _object_id(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of files, and the questions about repositories."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60  # seconds: an idle connection does not keep its thread

    def __init__(self, hub: Hub, *args: object) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client went away

    def answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        try:
            self.route(*self.question())
        except (ConnectionError, TimeoutError):
            raise
        except NotServed as error:
            self.refuse(error)
        except (ValueError, OSError):
            self.refuse(NotServed(400, "the question cannot be read"))

    def refuse(self, error: NotServed) -> None:
        if self.command not in ("GET", "HEAD"):
            self.close_connection = True  # what was sent with it may be unread
        headers = {"X-Error-Message": str(error)}
        if error.code:
            headers["X-Error-Code"] = error.code
        self.send_json({"error": str(error)}, error.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def question(self) -> tuple[str, dict[str, list[str]]]:
        """The decoded path, and the fields of the query or of the POST."""
        split = urlsplit(self.path)
        path = unquote(split.path)
        if self.command in ("GET", "HEAD"):
            return path, parse_qs(split.query)
        if self.command != "POST" or "/paths-info/" not in path:
            raise NotServed(405, "read-only: GET, HEAD, and POST of paths-info")
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= LARGEST_QUESTION:
            raise NotServed(413, f"a question has at most {LARGEST_QUESTION} bytes")
        body = self.rfile.read(length).decode()
        if "json" in self.headers.get("Content-Type", ""):
            fields = json.loads(body)
            paths = fields.get("paths") if isinstance(fields, dict) else None
            paths = [paths] if isinstance(paths, str) else paths
            if not isinstance(paths, list) or not all(
                isinstance(p, str) for p in paths
            ):
                raise NotServed(400, "paths-info: expected a list of paths")
            return path, {"paths": paths}
        return path, parse_qs(body)

    def route(self, path: str, fields: dict[str, list[str]]) -> None:
        if match := FILES.fullmatch(path):
            self.send_file(self.hub.path(match[1]), {})
        elif match := API.fullmatch(path):
            self.send_json(self.repository(match[1], match[2], match[3] or "", fields))
        elif match := RESOLVE.fullmatch(path):
            kind = "datasets" if match[1] else "models"
            commit = self.hub.commit(kind, match[2], match[3])
            found = self.hub.path(kind, match[2], match[4])
            if not found.is_file():
                raise NotServed(404, "Entry not found", "EntryNotFound")
            self.send_file(found, {"X-Repo-Commit": commit})
        else:
            raise NotServed(404, "the hub serves no such path")

    def repository(
        self, kind: str, name: str, rest: str, fields: dict[str, list[str]]
    ) -> object:
        """The answer to /api/<kind>/<owner>/<name>/<rest>."""
        what, _, tail = rest.partition("/")
        revision, _, below = tail.partition("/")
        commit = self.hub.commit(kind, name, revision or "main")
        files = self.hub.entries(kind, name)
        if what in ("", "revision"):
            return {
                "_id": commit[:24],
                "id": name,
                "modelId": name,
                "author": name.split("/")[0],
                "sha": commit,
                "private": False,
                "disabled": False,
                "gated": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [
                    {"rfilename": entry["path"]}
                    | {"size": entry["size"], "blobId": entry["oid"]}
                    for entry in _tree(files)
                    if entry["type"] == "file"
                ],
            }
        if what == "tree":
            everything = _tree(files)
            inside = f"{below}/" if below else ""
            found = [entry for entry in everything if entry["path"].startswith(inside)]
            if below and not found:
                raise NotServed(404, "No such folder", "EntryNotFound")
            if fields.get("recursive", ["false"])[0].lower() not in ("true", "1"):
                found = [e for e in found if "/" not in e["path"].removeprefix(inside)]
            return found
        if what == "paths-info" and self.command == "POST":
            wanted = {path.strip("/") for path in fields.get("paths", [])}
            return [entry for entry in _tree(files) if entry["path"] in wanted]
        raise NotServed(404, "the hub answers no such question")

    def send_json(
        self, value: object, status: int = 200, headers: dict | None = None
    ) -> None:
        content = json.dumps(value).encode()
        self.send_head(status, len(content), headers or {}, "application/json")
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, path: Path, headers: dict[str, str]) -> None:
        if not path.is_file():
            raise NotServed(404, "no such file")
        size = path.stat().st_size
        first, last, status = self.range(size)
        tag = object_id(path)
        headers = headers | {
            "ETag": f'"{tag}"',
            "X-Linked-Etag": f'"{tag}"',
            "X-Linked-Size": str(size),
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.name)}",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.send_head(status, last - first + 1, headers, "application/octet-stream")
        if self.command != "HEAD":
            with path.open("rb") as file:
                file.seek(first)
                left = last - first + 1
                while left > 0 and (block := file.read(min(left, 1 << 20))):
                    self.wfile.write(block)
                    left -= len(block)

    def range(self, size: int) -> tuple[int, int, int]:
        """First and last byte asked for, and the status."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not match or not (match[1] or match[2]):
            return 0, size - 1, 200
        if match[1]:
            first, last = int(match[1]), min(int(match[2] or size), size - 1)
        else:
            first, last = max(size - int(match[2]), 0), size - 1
        if first > last:
            raise NotServed(416, f"the file has {size} bytes")
        return first, last, 206

    def send_head(
        self, status: int, length: int, headers: dict[str, str], kind: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _tree(files: dict[str, Path]) -> list[dict[str, object]]:
    """Files and folders of a repository as the hub lists them."""
    folders = {str(up) for path in files for up in list(Path(path).parents)[:-1]}
    entries: list[dict[str, object]] = [
        {"type": "directory", "oid": hashlib.sha1(up.encode()).hexdigest(), "size": 0}
        | {"path": up}
        for up in folders
    ]
    for path, found in files.items():
        entry = {"type": "file", "oid": object_id(found), "size": found.stat().st_size}
        entries.append(entry | {"path": path})
    return sorted(entries, key=lambda entry: str(entry["path"]))


def run(folder: str, command: list[str]) -> int:
    """Run a command with the hub beside it and return its exit code."""
    program = shutil.which(command[0])
    if program is None:
        print(f"hub: expected a command, found no {command[0]!r}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Hub(folder, cache=CACHE) as hub:
        variables = os.environ | hub.environment
        with subprocess.Popen([program, *command[1:]], env=variables) as process:
            try:
                code = _wait(process)
            finally:
                process.terminate()  # has no effect on one that has ended
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the command got it too, and decides how it ends


def main(arguments: list[str]) -> int:
    if len(arguments) < 3 or arguments[1] != "--":
        print("usage: python tests/hub.py FOLDER -- COMMAND …", file=sys.stderr)
        return 2
    try:
        return run(arguments[0], arguments[2:])
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
