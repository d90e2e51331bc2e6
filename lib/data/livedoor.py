"""The Livedoor News Corpus, or articles that this book wrote in its schema."""

import hashlib
import json
import re
import tarfile
import zlib
from collections import Counter
from pathlib import Path

from lib.data.origin import EMBEDDED, DataError, Dataset, Unreachable, fetch_file

# Category: its number of articles, and whom its licence asks to credit.
CATEGORIES = {
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
DIGEST = "05db3e39c8a04ba5b8dc4c182721e1a83ec3509629a0e67a7997b7ec34d946d8"
ORIGIN = "https://www.rondhuit.com/download"
FILE = "ldcc-20140209.tar.gz"
ARTICLE = re.compile(r"text/([a-z-]+)/\1-\d+\.txt")


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
        rows, notice = fetch_file(FILE, ORIGIN, read)
    except Unreachable as error:
        return Dataset(
            name="livedoor",
            source="the embedded default, written for this book",
            licence="CC BY 4.0",
            is_full=False,
            rows=embedded_articles(),
            notice=f"not the full corpus, because {error}",
        )
    return Dataset(
        name="livedoor",
        source=f"Livedoor News Corpus, {ORIGIN}/{FILE}",
        licence="CC BY-ND 2.1 JP, credit by category",
        is_full=True,
        rows=rows,
        notice=notice,
    )


def embedded_articles() -> list[dict[str, str]]:
    rows = []
    for category in sorted(CATEGORIES):
        lines = (EMBEDDED / f"{category}.jsonl").read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(filter(str.strip, lines), start=1):
            url = {"url": f"glass-box:{category}/{number}"}
            rows.append(url | json.loads(line) | {"category": category})
    return rows


def read(path: Path) -> list[dict[str, str]]:
    """The rows of an archive whose articles are exactly the corpus's."""
    articles = dict(sorted(_archive_articles(path).items()))
    got = Counter(name.split("/")[1] for name in articles)
    expected = Counter({category: CATEGORIES[category][0] for category in CATEGORIES})
    if got != expected:
        wrong = sorted(c for c in got | expected if got[c] != expected[c])
        told = [f"{c}: expected {expected[c]} articles, got {got[c]}" for c in wrong]
        raise DataError("; ".join(told))
    if (digest := articles_digest(articles)) != DIGEST:
        raise DataError(f"articles: expected sha256 {DIGEST}, got {digest}")
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
