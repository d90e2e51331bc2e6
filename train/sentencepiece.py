"""Train the SentencePiece models of the chapter tokens/sentencepiece-livedoor.

``python -m train.sentencepiece`` trains some 70 models on the Livedoor News Corpus:
vocabulary sweeps, corpus sizes, the notes' model, two words exchanged. It measures them
on held-out articles and writes checkpoints/sentencepiece, in about half an hour on one
core. Each model is kept under _build/train/sentencepiece, so a second call goes on
where the first stopped.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import sentencepiece as spm
from tqdm import tqdm

from lib import training, weights
from lib.data.livedoor import livedoor
from lib.data.origin import Dataset
from lib.tokenizers import sentencepiece

NAME = "sentencepiece"
SEEDS = 200_000  # substrings that a unigram model starts from; the default is 1,000,000
DEFAULT, NARROW = 0.9995, 0.98  # character coverage: sentencepiece's default, and less
SIZES = (4_000, 8_000, 16_000, 32_000)
NOTES = 2_600  # the vocabulary of the notes that the chapter tests
FRACTIONS = (64, 16, 4)  # the corpus is cut to 1/64, 1/16, 1/4
SAMPLES = 3  # disjoint cuts of each size
EXCHANGED = (1, 2, 3, 5, 10, 30, 100, 300, 1_000)
FREQUENT, ABSENT = "ソフトウェア", "自然言語"
SENTENCES = (
    "私は自然言語処理を勉強しています。",
    "そのソフトウェアは多くのユーザーから賛同を得ている。",
)
TYPES = ("unigram", "bpe")


@dataclass(frozen=True)
class Run:
    """One model: its options, and which cut of the training articles it reads.

    `fraction` is 1/n of the articles, `sample` which of the n cuts; `exchanged` is how
    many times FREQUENT was replaced by ABSENT in its text.
    """

    model_type: str
    vocab_size: int
    coverage: float = DEFAULT
    byte_fallback: bool = False
    fraction: int = 1
    sample: int = 0
    exchanged: int = 0

    @property
    def file(self) -> str:
        """The name of the model's file."""
        parts = [self.model_type, f"{self.vocab_size}"]
        parts += ["bytes"] * self.byte_fallback
        parts += [f"coverage{self.coverage:g}"] * (self.coverage != DEFAULT)
        parts += [f"part{self.sample}of{self.fraction}"] * (self.fraction > 1)
        parts += [f"exchanged{self.exchanged}"] * (self.exchanged > 0)
        return "-".join(parts) + ".model"


class Corpus:
    """The training and held-out articles of the split, and cuts of the first."""

    def __init__(self, articles: Dataset):
        self.name, self.source = articles.name, articles.source
        self.articles = len(articles)
        self.train, self.held_out = sentencepiece.split(articles)
        self.held_out_lines = _lines(self.held_out)

    @cache  # noqa: B019 - one corpus lives as long as the process
    def lines(self, fraction: int = 1, sample: int = 0, exchanged: int = 0) -> list:
        """The lines a run reads."""
        lines = _lines(self.train[sample::fraction])
        if not exchanged:
            return lines
        text = "\n".join(lines).replace(FREQUENT, ABSENT, exchanged)
        return text.split("\n")

    def smallest(self, coverage: float, byte_fallback: bool = True) -> int:
        """The smallest vocabulary that holds the characters `coverage` asks for."""
        characters = len(sentencepiece.alphabet(self.characters(), coverage))
        more = sentencepiece.BYTE_PIECES if byte_fallback else 0
        return characters + sentencepiece.META_PIECES + more

    @cache  # noqa: B019
    def characters(self) -> Counter[str]:
        """How often each character stands in the training articles."""
        return sentencepiece.characters(self.lines())


def _lines(articles: list) -> list[str]:
    return [line for article in articles for line in sentencepiece.clean(article)]


def plan(corpus: Corpus) -> Iterator[Run]:
    """Every run, those that the page needs most first."""
    narrow, smallest = corpus.smallest(NARROW), corpus.smallest(DEFAULT)
    sweep = [(narrow, NARROW), (NOTES, NARROW), (smallest, DEFAULT)]
    sweep += [(size, DEFAULT) for size in SIZES]
    count = sum(line.count(FREQUENT) for line in corpus.lines())
    for coverage in (DEFAULT, NARROW):
        for model_type in TYPES:
            yield Run(model_type, NOTES, coverage)
    for model_type in reversed(TYPES):
        for size, coverage in sweep:
            yield Run(model_type, size, coverage, byte_fallback=True)
    for size in SIZES:
        yield Run("bpe", size)
    yield Run("unigram", 8_000)
    for exchanged in (*EXCHANGED, count):
        yield Run("bpe", 8_000, exchanged=exchanged)
    yield Run("unigram", 8_000, exchanged=count)
    for fraction in FRACTIONS:
        for sample in range(SAMPLES):
            for model_type in TYPES:
                for size in (NOTES, 8_000):
                    yield Run(model_type, size, fraction=fraction, sample=sample)
    for size in (2_700, 3_000, 3_400):
        yield Run("unigram", size)


def trained(run: Run, corpus: Corpus, scratch: Path) -> bytes | None:
    """The model of a run, from the last call or trained now; None if it cannot be.

    A small cut may hold more different characters than the vocabulary has room for, or
    too few repeated substrings to fill it.
    """
    where, refused = scratch / run.file, scratch / f"{run.file}.refused"
    if where.exists():
        return where.read_bytes()
    if refused.exists():
        return None
    lines = corpus.lines(run.fraction, run.sample, run.exchanged)
    options = {"coverage": run.coverage, "byte_fallback": run.byte_fallback}
    try:
        model = sentencepiece.train(
            lines, run.model_type, run.vocab_size, seeds=SEEDS, **options
        )
    except ValueError as error:
        _write(refused, str(error).encode())
        return None
    _write(where, model)
    return model


def _key(corpus: Corpus) -> str:
    """Changes with text, split, seeds and library: models of others do not go on."""
    what = [spm.__version__, str(SEEDS), *corpus.lines(), *corpus.held_out_lines]
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:12]


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)


def measured(run: Run, model: bytes | None, corpus: Corpus) -> dict:
    """What the trace says about a run."""
    found = asdict(run)
    if run.fraction > 1 or run.exchanged:
        lines = corpus.lines(run.fraction, run.sample, run.exchanged)
        text = "\n".join(lines)
        found["articles"] = len(corpus.train[run.sample :: run.fraction])
        found["characters"] = sum(map(len, lines))
        found["stands"] = {word: text.count(word) for word in (FREQUENT, ABSENT)}
    if model is None:
        return found | {"trained": False}
    processor = sentencepiece.load(model)
    found["trained"] = True
    found["held_out"] = sentencepiece.measure(processor, corpus.held_out_lines)
    found["pieces"] = {
        text: sentencepiece.pieces(processor, text)
        for text in (FREQUENT, ABSENT, *SENTENCES)
    }
    # Within a sentence no ▁ stands before the word, so that the word alone decides.
    found["one_piece"] = {
        word: any(word in piece for piece in found["pieces"][sentence])
        for word, sentence in zip((FREQUENT, ABSENT), reversed(SENTENCES), strict=True)
    }
    return found


def becomes_piece(corpus: Corpus, scratch: Path) -> dict:
    """The smallest BPE vocabulary in which FREQUENT is one piece, tried on both sides.

    BPE adds one piece a merge, so the number of the merge in the largest model tells
    the vocabulary; two more models, just above and just below, test that.
    """
    largest = sentencepiece.load(trained(Run("bpe", SIZES[-1]), corpus, scratch))
    merge = round(-largest.get_score(largest.piece_to_id(FREQUENT))) + 1
    size = corpus.smallest(DEFAULT, byte_fallback=False) + merge
    found = {"merge": merge, "vocab_size": size}
    for name, tried in (("there", size), ("one_less", size - 1)):
        model = sentencepiece.load(trained(Run("bpe", tried), corpus, scratch))
        found[name] = any(
            FREQUENT in piece for piece in sentencepiece.pieces(model, SENTENCES[1])
        )
    return found


def facts(corpus: Corpus) -> dict:
    """The corpus in numbers: sizes, overlap, words, characters."""
    lines, held_out = corpus.lines(), corpus.held_out_lines
    known = set(lines)
    repeated = [line for line in held_out if line in known]
    words = {}
    for word in (FREQUENT, ABSENT):
        per_article = [
            sum(line.count(word) for line in sentencepiece.clean(article))
            for article in corpus.train
        ]
        ranked = sorted(per_article, reverse=True)
        words[word] = {
            "train": sum(per_article),
            "train_articles": sum(map(bool, per_article)),
            "in_the_100_articles_that_use_it_most": sum(ranked[:100]),
            "held_out": sum(line.count(word) for line in held_out),
        }
    counts = corpus.characters()
    return {
        "name": corpus.name,
        "source": corpus.source,
        "articles": corpus.articles,
        "train": _size(corpus.train, lines),
        "held_out": _size(corpus.held_out, held_out)
        | {
            "lines_also_in_train": len(repeated),
            "characters_also_in_train": sum(map(len, repeated)),
        },
        "longest_line_bytes": max(len(line.encode()) for line in lines),
        "alphabet": {
            f"{coverage:g}": {
                "characters": len(found := sentencepiece.alphabet(counts, coverage)),
                "rarest_stands": counts[found[-1]],
            }
            for coverage in (NARROW, 0.99, 0.999, DEFAULT, 1.0)
        },
        "words": words,
    }


def _size(articles: list, lines: list[str]) -> dict[str, int]:
    return {
        "articles": len(articles),
        "lines": len(lines),
        "characters": sum(map(len, lines)),
    }


def fresh(corpus: Corpus, model: bytes) -> dict[str, int]:
    """The measure on the held-out lines that no training article holds word for word."""
    known = set(corpus.lines())
    lines = [line for line in corpus.held_out_lines if line not in known]
    return sentencepiece.measure(sentencepiece.load(model), lines)


def _rate(counts: dict[str, int]) -> float:
    return round(counts["tokens"] / counts["characters"], 4)


def shipped(run: Run) -> bool:
    """Whether the page reads the model itself, and not only its measures."""
    if run.model_type != "unigram" or run.fraction > 1 or run.exchanged:
        return False
    return run.byte_fallback or run == Run("unigram", NOTES)


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, write the checkpoint."""
    folder = training.arguments(__doc__, NAME, argv=arguments).folder
    articles = livedoor()
    print(articles)
    if not articles.is_full:
        raise SystemExit(
            "refused: the checkpoint comes from the full Livedoor News Corpus, and "
            "only the embedded default is here"
        )
    corpus = Corpus(articles)
    scratch = folder / _key(corpus)
    runs = list(dict.fromkeys(plan(corpus)))
    results, files = [], {}
    for run in (bar := tqdm(runs, desc="models", unit="model")):
        bar.set_postfix_str(run.file)
        model = trained(run, corpus, scratch)
        kept = training.kept(
            scratch, run.file, lambda run=run, model=model: measured(run, model, corpus)
        )
        results.append(kept)
        if model is not None and shipped(run):
            files[run.file] = model
    reference = Run("unigram", 8_000, byte_fallback=True)
    trace = {
        "corpus": facts(corpus),
        "sentences": SENTENCES,
        "runs": results,
        "fresh": asdict(reference) | {"held_out": fresh(corpus, files[reference.file])},
        "becomes_piece": becomes_piece(corpus, scratch),
    }
    card = {
        "config": {
            "unigram_seeds": SEEDS,
            "max_sentence_length": 1_000_000,
            "normalization_rule_name": "nmt_nfkc",
            "sizes": [NOTES, *SIZES],
        },
        "data": f"{articles.name}: {articles.source}; {articles.licence}; every tenth "
        "article of each category, by the sha256 of its text, is held out",
        "command": "python -m train.sentencepiece",
        "metrics": {
            "held-out tokens per character, unigram 8000 with byte fallback": {
                "all lines": _rate(results[runs.index(reference)]["held_out"]),
                "lines not in train": _rate(trace["fresh"]["held_out"]),
            }
        },
        "licence": "MIT for the models; the corpus is CC BY-ND 2.1 JP, "
        "by NHN Japan and RONDHUIT",
    }
    print(weights.save(NAME, card, trace=trace, files=files))


if __name__ == "__main__":
    main()
