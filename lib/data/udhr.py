"""The Universal Declaration of Human Rights in 14 languages, or a short one of our own."""

import hashlib
import json
from functools import partial
from pathlib import Path

from lib.data.origin import EMBEDDED, DataError, Dataset, Unreachable, fetch_file

ORIGIN = "https://unicode.org/udhr/d"
LEAST, MOST = 0.9, 1.1  # of the known characters, where a file has other line breaks
# Code: the language, its characters without spaces, the sha256 of the text whose stored
# results a page shows (one paragraph a line).
LANGUAGES = {
    "eng": (
        "English",
        8891,
        "36bd2dc2a7eb35539746f7b0583e55affd6b953a8df1b10d281c29f5c198ced8",
    ),
    "jpn": (
        "Japanese",
        4070,
        "0f3b5738c25629125b0bd655c7100cb6746da40f41437e5ae4dda1074556ea75",
    ),
    "cmn_hans": (
        "Chinese (simplified)",
        2743,
        "165ac8326adc7c5f41d5b4c91a8fc7b7449a017c0276702285a95e7d93096a61",
    ),
    "cmn_hant": (
        "Chinese (traditional)",
        2667,
        "19317fead43c7ee57aa69ff75d5d40b1d1cda594bb6bf254b56652ccb6f82900",
    ),
    "deu_1996": (
        "German",
        10263,
        "41cd8f5636190463fa5262c0e88048dc89597cd68ab0cad7a6283064d82e8cd7",
    ),
    "fra": (
        "French",
        9953,
        "b32e79cc9091e481004dad49a1f6a80cb9edde141adca9201b2dd8450d49570c",
    ),
    "spa": (
        "Spanish",
        9975,
        "c64b0a9aab7a6d397cdbd7261cf8a451e0a3690f0c2fdd25558c13b660992419",
    ),
    "rus": (
        "Russian",
        10124,
        "e74f6ba0211391b80d2b76d460cddac86cb033a7c4f2aba081e5ee1ee6ef8c4f",
    ),
    "fin": (
        "Finnish",
        9829,
        "b0596047fcc289ffa48904eae6a218b3a6fa431c77e5f96170462163b6157c96",
    ),
    "tur": (
        "Turkish",
        8915,
        "70a5a05af7ee7b2678ad65c177cddc64bea4ee91937bc6339cc9bed7003ea8bc",
    ),
    "kor": (
        "Korean",
        3531,
        "1edb63dc353de4504ddb283c1a0d4dd0c04563a9b793a4188abed8ac1e7b6cb0",
    ),
    "hin": (
        "Hindi",
        8827,
        "53d576cb8cad37f7572597c57634c2f6d01fdf1f11b0fbe3350a55dc65fcf2e8",
    ),
    "arb": (
        "Arabic",
        6227,
        "7dad5ec6ff48ba6b517413bcacee89893fafdf1a354ff25b4b0bc036736e1723",
    ),
    "tha": (
        "Thai",
        8950,
        "5e7d945abcdb0dbe5e5299ceac4e5d1f26ae13dfc22af37da1f97994e9d32226",
    ),
}


def udhr() -> Dataset:
    """One text in many languages: rows of code, language, content (a paragraph a line).

    The Universal Declaration of Human Rights in the languages of `LANGUAGES`. Where
    Unicode's project does not answer, a short declaration of this book stands in, in
    five of them; `is_full` is then False and `notice` says why. Files of the project
    itself have a header, which is left out, and may differ in a word; `notice` then
    names them.

    Raises:
        DataError: a file is there and is no declaration: its length is another.
    """
    rows, notices, other = [], [], []
    try:
        for code, (language, *_) in LANGUAGES.items():
            # The name in the cache has no folder; the address has one.
            name, at_base = f"udhr%2F{code}.txt", f"udhr_{code}.txt"
            read_this = partial(read, code)
            (text, known), notice = fetch_file(name, ORIGIN, read_this, at_base)
            rows.append({"code": code, "language": language, "content": text})
            notices += [notice] * bool(notice)
            other += [code] * (not known)
    except Unreachable as error:
        return Dataset(
            name="udhr",
            source="the embedded default, a declaration of this book",
            licence="CC BY 4.0",
            is_full=False,
            rows=embedded_declarations(),
            notice=f"not the full data set, because {error}",
            unit="languages",
        )
    if other:
        notices.append(f"not the texts of the stored results: {', '.join(other)}")
    return Dataset(
        name="udhr",
        source="Universal Declaration of Human Rights, unicode.org/udhr",
        licence="a text of the United Nations, free to reproduce",
        is_full=True,
        rows=rows,
        notice="; ".join(notices),
        unit="languages",
    )


def embedded_declarations() -> list[dict[str, str]]:
    """The book's own declaration: the same 13 paragraphs in five languages."""
    found = json.loads((EMBEDDED / "declaration.json").read_text(encoding="utf-8"))
    return [
        {"code": code, "language": LANGUAGES[code][0], "content": "\n".join(lines)}
        for code, lines in found.items()
    ]


def read(code: str, path: Path) -> tuple[str, bool]:
    """The paragraphs of a file, and whether it is the one whose sha256 is known.

    Raises:
        DataError: not UTF-8, or much longer or shorter than the declaration is.
    """
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{code}: expected UTF-8, got {error}") from error
    _, size, digest = LANGUAGES[code]
    body = text.partition("\n---\n")[2] or text  # Unicode's header ends with ---
    lines = [line.strip() for line in body.split("\n") if line.strip()]
    got = len("".join("".join(lines).split()))
    if not LEAST * size <= got <= MOST * size:
        raise DataError(f"{code}: expected about {size} characters, got {got}")
    return "\n".join(lines), hashlib.sha256(content).hexdigest() == digest
