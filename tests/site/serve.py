"""The built site on loopback as GitHub Pages serves it: compressed, below a path, read-only.

python tests/site/serve.py [folder]   until Ctrl-C
"""

import functools
import gzip
import http.server
import io
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
BASE = urlsplit(CONFIG["html"]["baseurl"]).path  # where GitHub Pages puts the site
TEXT = {".html", ".css", ".js", ".svg", ".xml", ".json", ".ipynb", ".txt"}


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def translate_path(self, path):
        if not path.startswith(BASE):
            return str(Path(self.directory) / "no-such-file")
        return super().translate_path(path.removeprefix(BASE[:-1]))

    def send_head(self):
        path, status = Path(self.translate_path(self.path)), 200
        if path.is_dir():
            path = path / "index.html"
        if not path.is_file():
            path, status = Path(self.directory) / "404.html", 404
        body = path.read_bytes()
        self.send_response(status)
        self.send_header("Content-Type", self.guess_type(str(path)))
        if path.suffix in TEXT and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


@contextmanager
def served(folder: Path, port: int = 0):
    """Serve `folder`; gives the address of its landing page, with a slash at the end."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{BASE}"
        server.shutdown()


if __name__ == "__main__":
    with served(Path(*sys.argv[1:] or [ROOT / "_build" / "html"]), 8000) as address:
        print(address)
        threading.Event().wait()
