"""The text of this book, section by section, from its sources or as it was shipped.

The chapters and three guides. The glossary and the corrections repeat the chapters, so
that a question would have two right places: they are left out, as are maps and lists.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from lib import weights

ROOT = Path(__file__).parent.parent.parent
GUIDES = ("sparse-attention", "interpretability-tools", "run-it-yourself")
OWN = "notebooks/adapt/rag"  # it quotes the questions
SHIPPED = "rag-text", "book.json"
NO_PROSE = ("You will learn", "Set-up", "Next", "References")


@dataclass(frozen=True)
class Section:
    """What stands under one heading: `page` without its ending, `anchor` as on the site."""

    page: str
    anchor: str
    chapter: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """Where it is: "notebooks/block/rope#check-it"."""
        return f"{self.page}#{self.anchor}"


# --- Where the text is --------------------------------------------------------------


def sources(root: Path = ROOT) -> list[Path]:
    """The files of the pages that are searched, sorted; none where only lib is there."""
    chapters = sorted(root.glob("notebooks/*/*.ipynb"))
    guides = [root / "book" / f"{name}.md" for name in GUIDES]
    own = root / f"{OWN}.ipynb"
    return [f for f in chapters + guides if f.is_file() and f != own]


def read(root: Path = ROOT) -> list[Section]:
    """All sections as the sources stand now. No code and no outputs: the prose.

    Raises:
        ValueError: there are no sources, or a notebook cannot be read; it is named.
    """
    if not (files := sources(root)):
        raise ValueError(f"root: {root} holds no pages; the shipped text does not ask")
    found = []
    for file in files:
        page = file.relative_to(root).with_suffix("").as_posix()
        found += sections(page, _markdown(file))
    return found


@cache
def shipped() -> tuple[Section, ...]:
    """The sections as `python -m train.rag text` kept them. Raises as `lib.weights`."""
    rows = json.loads(weights.path(*SHIPPED).read_text("utf8"))
    return tuple(Section(**row) for row in rows)


def packed(found: Iterable[Section]) -> bytes:
    """Sections as the JSON that is shipped."""
    rows = [asdict(section) for section in found]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def digest(texts: Iterable[str]) -> str:
    """The sha256 of texts in their order: another text, another digest."""
    whole = hashlib.sha256()
    for text in texts:
        data = text.encode()
        whole.update(f"{len(data)}\0".encode() + data)
    return whole.hexdigest()


def changed(old: Sequence[Section], new: Sequence[Section]) -> list[str]:
    """The pages whose sections differ, sorted."""
    pages = [{s.page: [] for s in (*old, *new)} for _ in range(2)]
    for group, sections_of in zip((old, new), pages, strict=True):
        for section in group:
            sections_of[section.page].append(section)
    return sorted(page for page in pages[0] if pages[0][page] != pages[1][page])


def _markdown(file: Path) -> str:
    text = file.read_text("utf8")
    if file.suffix != ".ipynb":
        return text
    try:
        cells = json.loads(text)["cells"]
        kept = [c["source"] for c in cells if c["cell_type"] == "markdown"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: wants a notebook, got {error!r}") from error
    return "\n\n".join(s if isinstance(s, str) else "".join(s) for s in kept)


# --- From markdown to sections ------------------------------------------------------


def sections(page: str, markdown: str) -> list[Section]:
    """The sections of a page, those without prose left out.

    Headings in code are none. A second heading of the same anchor gets "-2": the
    site names such by numbers of its own.
    """
    markdown = re.sub(r"^(`{3,}|~{3,}).*?^\1\s*$", "", markdown, flags=re.S | re.M)
    heads = [*re.finditer(r"^(#{1,4}) +(.+?)\s*$", markdown, re.M)]
    found, seen, chapter, second = [], {}, "", ""
    ends = [*(head.start() for head in heads[1:]), len(markdown)]
    for head, end in zip(heads, ends, strict=False):  # without a heading nothing
        level, title = len(head[1]), plain(head[2])
        chapter = title if level == 1 else chapter
        second = title if level <= 2 else second
        anchor = slug(title)
        seen[anchor] = seen.get(anchor, 0) + 1
        anchor += f"-{seen[anchor]}" if seen[anchor] > 1 else ""
        text = plain(markdown[head.end() : end])
        if text and second not in NO_PROSE:
            found.append(Section(page, anchor, chapter, title, text))
    return found


def slug(title: str) -> str:
    """The anchor on the site: "1. A head's job" -> "a-heads-job".

    As docutils makes it, once straight quotes have become curly ones.
    """
    title = re.sub("['\"]", "", title.lower())
    text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore")
    text = re.sub(r"[^a-z0-9]+", "-", " ".join(text.decode().split()))
    return re.sub(r"^[-0-9]+|-+$", "", text)


PLAIN = [  # what stands around words on a page -> what is left of it
    (r"(?s)\$\$.+?\$\$", " "),
    (r"^\(.+?\)=\s*$|^:{3,}.*$|^:[a-z-]+:.*$|^[-|: ]+$", ""),
    (r"!\[[^\]]*\]\([^)]*\)", " "),
    (r"\[([^\]]*)\]\([^)]*\)", r"\1"),
    (r"\{cite:?[a-z]*\}`([^`]*)`", lambda m: _cited(m[1])),
    (r"\{(?:ref|doc|numref|eq)\}`([^`<]+?)\s*<[^`]*>`", r"\1"),
    (r"\{numref\}`[^`]*`", "the figure"),
    (r"\{(?:ref|doc|eq)\}`[^`]*`", ""),
    (r"\{[a-z:]+\}`([^`<]+?)(?:\s*<[^`]*>)?`", r"\1"),
    (r"(?s)<!--.*?-->|</?[a-zA-Z][^<>]*>", " "),
    (r"\*\*|(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])|`", ""),
    (r"\\([a-zA-Z]+)", r"\1 "),
    (r"[${}|\\]", " "),
    (r"^ *> ?", ""),
    (r"[ \t]+", " "),
    (r"\n\s*\n+", "\n"),
]


def plain(markdown: str) -> str:
    """The words of a piece of MyST markdown; a paragraph or a row of a table a line."""
    for pattern, kept in PLAIN:
        markdown = re.sub(pattern, kept, markdown, flags=re.M)
    lines = (line.strip() for line in markdown.split("\n"))
    return "\n".join(line for line in lines if line)


def _cited(keys: str) -> str:
    """brown2020 -> Brown (2020)."""
    form = r"\s*([a-z-]+)(\d{4})[a-z]?\s*"
    names = [re.fullmatch(form, key) for key in keys.split(",")]
    return ", ".join(f"{m[1].capitalize()} ({m[2]})" for m in names if m)
