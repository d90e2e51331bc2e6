"""Where the book's data comes from: a verified cache, the origin, the embedded default.

The one rule: what cannot be reached is replaced by the embedded default, and the
dataset says so; what can be reached but is not what it should be is a `DataError`.
Weights live in `lib.weights`.
"""

import hashlib
import json
import os
import re
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

EMBEDDED = Path(__file__).parent / "embedded"
PATIENCE = 2.0  # seconds that all unreachable addresses of one process may cost
STALLED = 2.5  # seconds without a byte after which a download counts as cut

# Category: its number of articles, and whom its licence asks to credit.
LIVEDOOR = {
    "movie-enter": (870, "MOVIE ENTER"),
    "it-life-hack": (870, "ITライフハック"),
    "kaden-channel": (864, "家電チャンネル"),
    "topic-news": (770, "トピックニュース"),
    "livedoor-homme": (511, "livedoor HOMME"),
    "peachy": (842, "Peachy"),
    "sports-watch": (900, "Sports Watch"),
    "dokujo-tsushin": (870, "独女通信"),
    "smax": (870, "エスマックス"),
}
LIVEDOOR_DIGEST = "05db3e39c8a04ba5b8dc4c182721e1a83ec3509629a0e67a7997b7ec34d946d8"
LIVEDOOR_ORIGIN = "https://www.rondhuit.com/download"
LIVEDOOR_FILE = "ldcc-20140209.tar.gz"
ARTICLE = re.compile(r"text/([a-z-]+)/\1-\d+\.txt")

SHAKESPEARE_DIGEST = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE_ORIGIN = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare"
)
SHAKESPEARE_FILE = "tinyshakespeare.txt"  # at the origin: input.txt

MULTI30K = "bentrevett/multi30k"
MULTI30K_PAIRS = {"train": 29_000, "validation": 1_014, "test": 1_000}

CIFAR10 = "uoft-cs/cifar10"
CIFAR10_IMAGES = {"train": 50_000, "test": 10_000}
CIFAR10_CLASSES = tuple(
    [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
)


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


@dataclass(frozen=True, eq=False)
class Images(Dataset):
    """Images of 32×32 pixels in ten classes; the rows are those to train.

    `train` and `test` are sequences of {"img": a PIL image, "label": 0 … 9}, decoded
    when asked for; `pixels` makes arrays of them.
    """

    test: Any = field(default=(), repr=False)
    classes: tuple[str, ...] = CIFAR10_CLASSES

    @property
    def train(self) -> Any:
        return self.rows

    def __repr__(self) -> str:
        size = f"{len(self):,} + {len(self.test):,} images of 32×32 pixels"
        parts = [f"{self.name}: {size}", self.source, self.licence, self.notice]
        return " · ".join(part for part in parts if part)


# --- The origin ------------------------------------------------------------------

_answers: dict[str, str] = {}  # host: why it is not asked again, or "" if it answers
_waited = 0.0  # seconds lost so far to addresses that do not answer


def reachable(url: str) -> bool:
    """Whether the host of `url` answers a HEAD request, whatever its status.

    The answer is remembered for the process. All hosts that do not answer cost about
    `PATIENCE` seconds together, slow name servers included.
    """
    return not _silence(url)


def _silence(url: str) -> str:
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
    if reason := _silence(url):
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


# --- Livedoor --------------------------------------------------------------------


def livedoor() -> Dataset:
    """The Livedoor News Corpus: rows of url, date, title, content, category.

    7,367 Japanese news articles in nine categories, in the order of their paths; the
    schema is the hub's, but `content` keeps the line breaks. Where the archive cannot
    be reached, the embedded default stands in: fewer articles, written for this book,
    in the same schema and categories; `is_full` is then False and `notice` says why.

    Raises:
        DataError: the archive is there, and its articles are not the corpus's.
    """
    try:
        rows, notice = fetch_file(LIVEDOOR_FILE, LIVEDOOR_ORIGIN, _read_livedoor)
    except Unreachable as error:
        return Dataset(
            name="livedoor",
            source="the embedded default, written for this book",
            licence="CC BY 4.0",
            is_full=False,
            rows=_embedded_articles(),
            notice=f"not the full corpus, because {error}",
        )
    return Dataset(
        name="livedoor",
        source=f"Livedoor News Corpus, {LIVEDOOR_ORIGIN}/{LIVEDOOR_FILE}",
        licence="CC BY-ND 2.1 JP, credit by category",
        is_full=True,
        rows=rows,
        notice=notice,
    )


def _embedded_articles() -> list[dict[str, str]]:
    rows = []
    for category in sorted(LIVEDOOR):
        lines = (EMBEDDED / f"{category}.jsonl").read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(filter(str.strip, lines), start=1):
            url = {"url": f"glass-box:{category}/{number}"}
            rows.append(url | json.loads(line) | {"category": category})
    return rows


def _read_livedoor(path: Path) -> list[dict[str, str]]:
    """The rows of an archive whose articles are exactly the corpus's."""
    articles = dict(sorted(_archive_articles(path).items()))
    got = Counter(name.split("/")[1] for name in articles)
    expected = Counter({category: LIVEDOOR[category][0] for category in LIVEDOOR})
    if got != expected:
        wrong = sorted(c for c in got | expected if got[c] != expected[c])
        told = [f"{c}: expected {expected[c]} articles, got {got[c]}" for c in wrong]
        raise DataError("; ".join(told))
    if (digest := articles_digest(articles)) != LIVEDOOR_DIGEST:
        raise DataError(f"articles: expected sha256 {LIVEDOOR_DIGEST}, got {digest}")
    rows = []
    for name, text in articles.items():
        url, date, title, content = map(str.strip, text.decode().split("\n", 3))
        row = {"url": url, "date": date, "title": title, "content": content}
        rows.append(row | {"category": name.split("/")[1]})
    return rows


def articles_digest(articles: dict[str, bytes]) -> str:
    """The sha256 of the (path, bytes) of article files in the order of their paths.

    The archive's own hash does not serve: a repacked copy holds the same articles.
    """
    digest = hashlib.sha256()
    for name, text in sorted(articles.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _archive_articles(path: Path) -> dict[str, bytes]:
    """Article files of a tar archive by path, read in memory: nothing is extracted.

    Raises:
        DataError: not a whole archive, or one with a member that no honest copy has:
            an absolute path, ``..``, a link, a device.
    """
    articles = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name.startswith("/") or ".." in name.split("/"):
                    raise DataError(f"member {name!r}: expected a path inside, refused")
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"member {name!r}: expected a file, refused")
                if ARTICLE.fullmatch(name) and member.isfile():
                    articles[name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OSError) as error:
        raise DataError(f"expected a whole tar archive, got: {error}") from error
    return articles


# --- Tiny Shakespeare ------------------------------------------------------------


def tiny_shakespeare() -> Dataset:
    """Parts of Shakespeare's plays in one text: one row of title, content.

    1,115,394 characters, 65 different ones, as the character models of the field use
    them: the first 90 % to train, the rest to validate. Where the file cannot be
    reached, the book's own English prose stands in; `is_full` is then False and
    `notice` says why.

    Raises:
        DataError: the file is there and is another.
    """
    try:
        text, notice = fetch_file(
            SHAKESPEARE_FILE, SHAKESPEARE_ORIGIN, _read_shakespeare, "input.txt"
        )
        source, is_full = f"{SHAKESPEARE_ORIGIN}/input.txt", True
    except Unreachable as error:
        text = (EMBEDDED / "prose.txt").read_text(encoding="utf-8")
        source, is_full = "the embedded default, this book's own prose", False
        notice = f"not the full text, because {error}"
    return Dataset(
        name="tiny-shakespeare",
        source=source,
        licence="public domain" if is_full else "CC BY 4.0",
        is_full=is_full,
        rows=[{"title": "tiny Shakespeare", "content": text}],
        notice=notice,
        unit="text",
    )


def _read_shakespeare(path: Path) -> str:
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHAKESPEARE_DIGEST:
        raise DataError(f"expected sha256 {SHAKESPEARE_DIGEST}, got {digest}")
    return content.decode()


# --- Multi30k --------------------------------------------------------------------


def multi30k() -> Dataset:
    """English captions of pictures with a German translation: rows of split, en, de.

    29,000 pairs to train, 1,014 to validate, 1,000 to test (of 2016), as
    `datasets.load_dataset` gives them, spaces at the ends removed. Where the hub does
    not answer and the client's cache has no copy, pairs of a small grammar stand in;
    `is_full` is then False and `notice` says why.

    Raises:
        DataError: the data set is there and is another.
    """
    try:
        found = _from_hub(MULTI30K)
        rows = [
            {"split": split} | {key: row[key].strip() for key in ("en", "de")}
            for split in found
            for row in found[split]
        ]
        is_full, notice = True, ""
    except Unreachable as error:
        rows, is_full = embedded_pairs(), False
        notice = f"not the full data set, because {error}"
    got = Counter(row["split"] for row in rows)
    if is_full and got != MULTI30K_PAIRS:
        raise DataError(f"{MULTI30K}: expected {MULTI30K_PAIRS}, got {dict(got)}")
    default = "the embedded default, a small grammar of this book"
    return Dataset(
        name="multi30k",
        source=f"Multi30k, huggingface.co/datasets/{MULTI30K}" if is_full else default,
        licence="research use (captions of Flickr30k)" if is_full else "CC BY 4.0",
        is_full=is_full,
        rows=rows,
        notice=notice,
        unit="pairs",
        texts=("en", "de"),
    )


def embedded_pairs() -> list[dict[str, str]]:
    """The pairs that `train/grammar.py` generated: rows of split, en, de."""
    text = (EMBEDDED / "pairs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


# --- CIFAR-10 --------------------------------------------------------------------


def cifar10() -> Images:
    """CIFAR-10: 50,000 small photographs to train, 10,000 to test, in ten classes.

    As `datasets.load_dataset` gives them: rows of img, label. The original pixels come
    as PNG; where the images are JPEG, their pixels have lost something, and `notice`
    says so. Where the hub does not answer and the client's cache has no copy,
    scikit-learn's handwritten digits stand in, enlarged to 32×32; `is_full` is then
    False and `notice` says why.

    Raises:
        DataError: the data set is there and is another.
    """
    try:
        found = _from_hub(CIFAR10)
    except Unreachable as error:
        return _digits(f"not CIFAR-10, because {error}")
    got = {split: len(found[split]) for split in found}
    if got != CIFAR10_IMAGES:
        raise DataError(f"{CIFAR10}: expected {CIFAR10_IMAGES}, got {got}")
    first = found["train"][0]["img"]
    lossy = "JPEG copy: these are not quite the original pixels"
    return Images(
        name="cifar10",
        source=f"CIFAR-10, huggingface.co/datasets/{CIFAR10}",
        licence="no licence stated, cite Krizhevsky (2009)",
        is_full=True,
        rows=found["train"],
        notice="" if first.format == "PNG" else lossy,
        test=found["test"],
    )


def _digits(notice: str) -> Images:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = [
        {"img": Image.fromarray(grey).resize((32, 32)).convert("RGB"), "label": label}
        for grey, label in zip(
            (found.images * 255 / 16).astype("uint8"),
            found.target.tolist(),
            strict=True,
        )
    ]
    return Images(
        name="cifar10",
        source="the embedded default, scikit-learn's handwritten digits",
        licence="CC BY 4.0",
        is_full=False,
        rows=rows[:1497],
        notice=notice,
        test=rows[1497:],
        classes=tuple("0123456789"),
    )


def pixels(rows: Any, picks: Any = None) -> tuple[Any, Any]:
    """Images and labels as arrays: uint8 (n, 32, 32, 3) and int64 (n,).

    `rows` is the `train` or `test` of `Images`; `picks` are the indices, all unless
    given.
    """
    picks = range(len(rows)) if picks is None else picks
    chosen = [rows[int(i)] for i in picks]
    images = [np.asarray(row["img"].convert("RGB")) for row in chosen]
    labels = np.array([row["label"] for row in chosen], dtype=np.int64)
    return np.stack(images), labels


def _from_hub(name: str) -> Any:
    """The splits of a data set of the hub, or of the client's copy of it."""
    import datasets  # here, since it takes longer to load than all the rest
    from huggingface_hub import constants

    reason = _silence(constants.ENDPOINT)
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
