"""SentencePiece on Japanese news: clean, split, train, encode, measure.

Thin: the algorithms are `sentencepiece`'s. Here is what decides the numbers of a page –
which lines are read, which articles are held out, how a rate is counted.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import sentencepiece as spm

UNKNOWN = "<unk>"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "▁"  # U+2581, how a piece writes a space
META_PIECES = 3  # <unk>, <s>, </s>
BYTE_PIECES = 256

_NMT_NFKC = spm.SentencePieceNormalizer(
    rule_name="nmt_nfkc",
    escape_whitespaces=False,
    add_dummy_prefix=False,
    remove_extra_whitespaces=True,
)


# --- Text ---------------------------------------------------------------------------


def clean(article: Mapping[str, str]) -> list[str]:
    """The lines of an article that a tokenizer reads: its title, then its body.

    The address, the date and blank lines are left out; a line loses the spaces at its
    ends. `article` has the keys title and content.
    """
    lines = [article["title"], *article["content"].split("\n")]
    return [line.strip() for line in lines if line.strip()]


def split(articles: Iterable[Mapping[str, str]], every: int = 10) -> tuple[list, list]:
    """Training and held-out articles: every tenth of each category, by a hash.

    In each category articles stand in the order of the sha256 of their text, so that
    neither the order of files nor a date decides; numbers 0, 10, 20 … are held out. An
    article whose text was already met is left out of both, or it could be in both.

    Raises:
        ValueError: `every` is below 2.
    """
    if every < 2:
        raise ValueError(f"every: expected a number of at least 2, got {every}")
    found = {_key(article): article for article in articles}
    seen: Counter[str] = Counter()
    train, held_out = [], []
    for key in sorted(found):
        category = found[key]["category"]
        (train if seen[category] % every else held_out).append(found[key])
        seen[category] += 1
    return train, held_out


def _key(article: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(clean(article)).encode()).hexdigest()


def normalise(text: str) -> str:
    """What `sentencepiece`'s rule ``nmt_nfkc`` makes of `text`, before it encodes.

    Unicode's NFKC (full-width ２ becomes 2, ﾃﾞ becomes デ, ① becomes 1), but ～ stays;
    tabs, line ends, zero-width characters and ▁ become spaces, control characters go;
    runs of spaces become one, and none is left at either end. Combining marks are
    composed from left to right, without NFKC's sorting: é and a dot below stay é.
    """
    return _NMT_NFKC.normalize(text)


def characters(lines: Iterable[str]) -> Counter[str]:
    """How often each character stands in the normalised lines.

    Counted as the trainer of `sentencepiece` counts: a space and the start of a line
    are a ▁.
    """
    return Counter(
        "".join(SPACE + normalise(line).replace(" ", SPACE) for line in lines)
    )


def alphabet(counts: Counter[str], coverage: float) -> list[str]:
    """The characters that a vocabulary must hold, most frequent first.

    As few as make up `coverage` of the text whose `characters` are given; ties stand in
    the order of code points.

    Raises:
        ValueError: `coverage` is not above 0 and at most 1.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: expected above 0 and at most 1, got {coverage}")
    total, so_far, kept = counts.total(), 0, []
    for character, count in sorted(counts.items(), key=lambda x: (-x[1], x[0])):
        if so_far / total >= coverage:
            break
        so_far += count
        kept.append(character)
    return kept


# --- Models -------------------------------------------------------------------------


def train(
    lines: Sequence[str],
    model_type: str,
    vocab_size: int,
    *,
    coverage: float = 0.9995,
    byte_fallback: bool = False,
    seeds: int = 1_000_000,
) -> bytes:
    """Train a SentencePiece model and return it as the bytes of a ``.model`` file.

    The same lines in the same order give the same model on every machine: one thread,
    nothing drawn. `seeds` is the number of substrings that a unigram model starts from.
    Source: Kudo and Richardson (2018); the options are `sentencepiece`'s.

    Raises:
        ValueError: `model_type` is neither "unigram" nor "bpe"; or the trainer refuses:
            `vocab_size` has no room for the characters that `coverage` asks for, the
            text is too small for it, or `coverage` is not within .98 to 1.
    """
    if model_type not in ("unigram", "bpe"):
        raise ValueError(f"model_type: expected unigram or bpe, got {model_type!r}")
    spm.set_min_log_level(2)
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            character_coverage=coverage,
            byte_fallback=byte_fallback,
            seed_sentencepiece_size=seeds,
            # The default, 4,192 bytes, would drop longer lines without a word.
            max_sentence_length=1_000_000,
            num_threads=1,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"vocab_size {vocab_size}: {_reason(error)}") from error
    return model.getvalue()


def _reason(error: Exception) -> str:
    """What sentencepiece says without its file and line: a sentence, else its check."""
    check, _, sentence = str(error).partition("[")[2].rpartition("]")
    return sentence.strip() or check or str(error)


def load(model: bytes | Path) -> spm.SentencePieceProcessor:
    """A processor for a model: its bytes, or the path of a ``.model`` file."""
    if isinstance(model, Path):
        model = model.read_bytes()
    return spm.SentencePieceProcessor(model_proto=model)


def vocabulary(processor: spm.SentencePieceProcessor) -> list[tuple[str, float]]:
    """All pieces with their scores, by id.

    A unigram score is a natural logarithm of a probability; a BPE score is minus the
    number of the merge, an order and no probability.
    """
    return [
        (processor.id_to_piece(i), processor.get_score(i))
        for i in range(processor.get_piece_size())
    ]


def pieces(processor: spm.SentencePieceProcessor, text: str) -> list[str]:
    """The pieces that encode `text`; an unknown piece shows the characters it hides."""
    return processor.encode(text, out_type=str)


# --- Measures -----------------------------------------------------------------------


def measure(
    processor: spm.SentencePieceProcessor, lines: Iterable[str]
) -> dict[str, int]:
    """Count what the rates of a page are made of.

    Returns: `tokens`; `characters` and `bytes` of the normalised text; `unknown`, the
    characters that end in <unk> (one <unk> may hide several); `unk_tokens`; `byte_tokens`.
    """
    total: Counter[str] = Counter()
    unknown_id = processor.unk_id()
    for line in lines:
        text = normalise(line)
        ids = processor.encode(line)
        total["tokens"] += len(ids)
        total["characters"] += len(text)
        total["bytes"] += len(text.encode())
        total["byte_tokens"] += sum(map(processor.is_byte, ids))
        if unknown_id in ids:
            hidden = zip(ids, pieces(processor, line), strict=True)
            total["unk_tokens"] += ids.count(unknown_id)
            total["unknown"] += sum(len(p) for i, p in hidden if i == unknown_id)
    names = ("tokens", "characters", "bytes", "unknown", "unk_tokens", "byte_tokens")
    return {name: total[name] for name in names}
