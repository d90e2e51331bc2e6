"""GPT-2's tokenizer: its published tables, or tables that are trained here."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.data.origin import EMBEDDED, Unreachable, silence
from lib.pretrained.origin import verified
from lib.tokenizers import bpe, presplit

REPOSITORY = "openai-community/gpt2"
FILES = {
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "merges.txt": "ac33235097fe06d4a8fff0feac994644809e6eb6ab70669e1e9fd40ae032428e",
}
SIZE = 2_000  # of the vocabulary that is trained here


@dataclass(frozen=True, eq=False)
class Tables:
    """A byte-level BPE: its tables, and what a page must say about them.

    `vocabulary` maps tokens, in visible bytes, to ids; `merges` are pairs of tokens in
    their order. `is_full` is False where the tables were trained here; `notice` then
    says why.
    """

    vocabulary: dict[str, int] = field(repr=False)
    merges: list[tuple[str, str]] = field(repr=False)
    name: str
    source: str
    licence: str
    is_full: bool
    notice: str = ""

    def __repr__(self) -> str:
        size = f"{len(self.vocabulary):,} tokens, {len(self.merges):,} merges"
        parts = [f"{self.name}: {size}", self.source, self.licence, self.notice]
        return " · ".join(part for part in parts if part)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        state = {"name": self.name, "is_full": self.is_full}
        return {"text/plain": repr(self)}, {"glassbox": state}


def gpt2() -> Tables:
    """GPT-2's 50,257 tokens and 50,000 merges, from the Hugging Face hub.

    Where the hub does not answer and the client's cache has no copy, a byte-level BPE
    of `SIZE` tokens is trained here, on this book's English prose.

    Raises:
        PretrainedError: a file is there and is another.
    Source: Radford et al. (2019); the files of ``openai-community/gpt2``.
    """
    try:
        vocab, merges = (_file(name) for name in FILES)
    except Unreachable as error:
        prose = (EMBEDDED / "prose.txt").read_text(encoding="utf-8")
        counts = presplit.count([prose])
        return Tables(
            *bpe.train(counts, SIZE, more=presplit.CHARACTERS),
            name="gpt2",
            source="the default, trained here on this book's own English prose",
            licence="CC BY 4.0",
            is_full=False,
            notice=f"not GPT-2's tables, because {error}",
        )
    lines = merges.read_text(encoding="utf-8").splitlines()
    return Tables(
        json.loads(vocab.read_text(encoding="utf-8")),
        [tuple(line.split(" ")) for line in lines if not line.startswith("#version")],
        name="gpt2",
        source=f"the tokenizer of GPT-2, huggingface.co/{REPOSITORY}",
        licence="MIT (modified)",
        is_full=True,
    )


def _file(name: str) -> Path:
    """A verified file of the repository: from the hub, or from the client's copy."""
    from huggingface_hub import constants, hf_hub_download

    reason = silence(constants.ENDPOINT)
    if not reason and constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    try:
        found = hf_hub_download(REPOSITORY, name, local_files_only=bool(reason))
    except (OSError, ValueError) as error:
        told = reason or f"{REPOSITORY} did not come ({type(error).__name__})"
        raise Unreachable(told) from error
    return verified(Path(found), FILES[name])
