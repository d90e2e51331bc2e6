"""Where data comes from: a verified cache, the origin, the embedded default.

The one rule: what cannot be reached is replaced by the embedded default, and the
dataset says so; what can be reached but is not what it should be is a `DataError`.
Each data set has a file of its own beside this one; weights live in `lib.weights`.
"""

import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests

EMBEDDED = Path(__file__).parent / "embedded"
PATIENCE = 2.0  # seconds that all unreachable addresses of one process may cost
STALLED = 2.5  # seconds without a byte after which a download counts as cut


class DataError(Exception):
    """A file is there and is not what it should be: the message names it."""


class Unreachable(Exception):
    """An origin does not answer, or stops half-way: the message says which and how."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows, and what a page must say about them; its display is that one line.

    `is_full` is False for the embedded default. `notice` is empty, or says what the
    reader should know: why the default is used, which cached file was refused.
    """

    name: str
    source: str
    licence: str
    is_full: bool
    rows: list[dict[str, str]] = field(repr=False)
    notice: str = ""
    unit: str = "articles"  # what one row is, as the display counts them
    texts: tuple[str, ...] = ("content",)  # the keys whose characters it counts

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        characters = sum(len(row[key]) for row in self.rows for key in self.texts)
        size = f"{len(self.rows):,} {self.unit}, {characters:,} characters"
        parts = [f"{self.name}: {size}", self.source, self.licence, self.notice]
        return " · ".join(part for part in parts if part)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        state = {"name": self.name, "is_full": self.is_full}
        return {"text/plain": repr(self)}, {"glassbox": state}


# --- The origin ------------------------------------------------------------------

_answers: dict[str, str] = {}  # host: why it is not asked again, or "" if it answers
_waited = 0.0  # seconds lost so far to addresses that do not answer


def reachable(url: str) -> bool:
    """Whether the host of `url` answers a HEAD request, whatever its status.

    The answer is remembered for the process. All hosts that do not answer cost about
    `PATIENCE` seconds together, slow name servers included.
    """
    return not silence(url)


def silence(url: str) -> str:
    """Why the host of `url` is not asked, or "" if it answers."""
    global _waited
    host = urlsplit(url).netloc
    if host in _answers:
        return _answers[host]
    wait = max(PATIENCE - _waited, 0.2)  # a late host still gets a short chance
    found: list[str] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=wait)
            found.append("")
        except requests.Timeout:
            pass
        except (requests.RequestException, OSError, ValueError) as error:
            found.append(f"{host} cannot be reached ({type(error).__name__})")

    # A thread, because no timeout of `requests` covers the look-up of a name.
    start = time.monotonic()
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(wait)
    reason = found[0] if found else f"{host} does not answer within {wait:.1f} s"
    if reason:
        _waited += time.monotonic() - start
    _answers[host] = reason
    return reason


def fetch_file(
    name: str, base: str, verify: Callable[[Path], Any], at_base: str | None = None
) -> tuple[Any, str]:
    """A verified file: from the cache, else from its origin, once, without retries.

    `base` is the address of the folder that holds `name`; the environment variable
    GLASSBOX_ORIGIN replaces it. The cache is ``pooch.os_cache("glass-box")``. A
    download is verified before it takes the place of a cached file; where the cache
    cannot be written, the file is used and not kept.

    Args:
        verify: reads the file and returns its content, or raises `DataError`.
        at_base: the file's name at `base`, where that is not `name`.

    Returns:
        what `verify` returned, and a notice for the reader ("" if there is none).

    Raises:
        Unreachable: the origin does not answer, has no such file or stops half-way.
        DataError: the origin answers with something else than the file.
    """
    there = name if os.environ.get("GLASSBOX_ORIGIN") else at_base or name
    url = f"{_origin(base)}/{there}"
    cached = Path(pooch.os_cache("glass-box")) / name
    notices = []
    if os.path.exists(cached):
        try:
            return verify(cached), ""
        except (DataError, OSError) as error:
            notices.append(f"the cached file {cached} was refused: {error}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=cached.parent, prefix=".download-")
    except OSError:
        scratch = tempfile.TemporaryDirectory()
    with scratch as folder:
        fresh = Path(folder) / name
        try:
            _download(url, fresh)
            value = verify(fresh)
        except DataError as error:
            raise DataError(f"{url}: {error}") from error
        except Unreachable as error:
            raise Unreachable("; ".join([str(error), *notices])) from error
        try:
            os.replace(fresh, cached)
        except OSError as error:
            notices.append(f"not kept: {cached.parent} cannot be written ({error})")
    return value, "; ".join(notices)


def _download(url: str, path: Path) -> None:
    if reason := silence(url):
        raise Unreachable(reason)
    download = pooch.HTTPDownloader(
        timeout=(PATIENCE, STALLED), progressbar=sys.stderr.isatty()
    )
    try:
        download(url, str(path), None)
    except requests.HTTPError as error:
        status = error.response.status_code
        raise Unreachable(f"{url} answers with status {status}") from error
    except requests.RequestException as error:
        reason = f"{url} stopped half-way ({type(error).__name__})"
        _answers[urlsplit(url).netloc] = reason  # no second try in this process
        raise Unreachable(reason) from error


def _origin(base: str) -> str:
    """The address of the folder of files: the one of GLASSBOX_ORIGIN, else `base`."""
    address = os.environ.get("GLASSBOX_ORIGIN") or base
    if not re.match(r"https?://[^/]", address):
        raise ValueError(f"GLASSBOX_ORIGIN: expected http(s)://…, got {address!r}")
    return address.rstrip("/")


def from_hub(name: str) -> Any:
    """The splits of a data set of the hub, or of the client's copy of it."""
    import datasets  # here, since it takes longer to load than all the rest
    from huggingface_hub import constants

    reason = silence(constants.ENDPOINT)
    places = (constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    if not reason and before[0]:
        reason = "HF_HUB_OFFLINE is set"
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        for place in places:  # a client that knows does not try again and again
            place.HF_HUB_OFFLINE = bool(reason)
        return datasets.load_dataset(name)
    except (OSError, datasets.exceptions.DatasetsError, ValueError) as error:
        told = reason or f"{name} did not come ({type(error).__name__})"
        raise Unreachable(told) from error
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
