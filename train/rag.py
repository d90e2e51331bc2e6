"""Retrieval over this book: the text that is searched, its vectors, and the record.

    python -m train.rag                  # everything, about 35 minutes on one core
    python -m train.rag --only text      # one part; they are listed below

**text** (3 minutes; seconds where little changed): the sections of all pages as they stand,
their passages' vectors by MiniLM, and those of the Japanese articles and questions by E5 where
it is installed; kept as the checkpoint `rag-text`. Only passages that changed are embedded anew.
The other parts are the record `rag`, of the text that is shipped.

**answers** (4 minutes): SmolLM2 answers every second question that has a short answer: with
no text, the right passage, a wrong one, and the one that was found. **more** (7 minutes):
with three passages; with a way out, "answer: I do not know"; and the questions that the book
does not answer. **hnsw** (3 minutes): exact and approximate search among 10³ to 10⁶ vectors:
recall, time, size. **rerank** (12 minutes): the ten best passages of both searches, put into a
new order by log P(question | passage) under SmolLM2. **chunks** (6 minutes): passages of other
sizes, embedded; for each question the rank of its section by BM25, by vectors, and by both.
A part that is done is written to the record beside the others.

Every finished piece is a file under `_build/train/rag/`, and a killed command goes on where
it was. It needs the packages of requirements-weights.txt.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from tqdm import tqdm

from lib import training, weights
from lib.data.livedoor import embedded_articles
from lib.data.questions import questions
from lib.pretrained import e5, minilm
from lib.pretrained.asked import asked
from lib.pretrained.glove import glove
from lib.pretrained.smollm2 import smollm2
from lib.retrieval import book, index, measure, rank, text
from lib.retrieval.bm25 import BM25

TEXT, RECORD = "rag-text", "rag"
FOLDER = Path("_build") / "train" / RECORD
WORDS = 120  # of a passage, on the page
CHUNKS = (40, 80, 240)  # other sizes
DEPTH, TOP = 100, 10  # of a ranking that is joined; of those read again
SIZES, QUERIES, NEAREST = (1_000, 10_000, 100_000, 1_000_000), 200, 10
LINKS, WIDTH, SEARCHES = 16, 40, (10, 20, 40, 80, 160)  # M, efConstruction, efSearch
ROWS, NEW = 8, 24  # answers that are written together, and their tokens
EVERY = 2  # of the questions with a short answer every second is answered
PART = "Using only this text, answer in a few words: "
ALONE = "Answer in a few words: "
OUT = " If the text does not say it, answer: I do not know."


# --- The text -------------------------------------------------------------------------


def text_part() -> None:
    """The checkpoint with sections and vectors, from the sources as they stand."""
    sections = book.read()
    passages = [p.whole for p in text.chunk(sections, WORDS)]
    found = minilm.minilm()
    file = FOLDER / "minilm.safetensors"
    embed = lambda texts: minilm.embed(found, texts).numpy()  # noqa: E731
    tensors = {"minilm": index.refresh(file, passages, found.name, embed)}
    articles = article_texts()
    other = asked("e5", e5.e5).found
    if other:
        file = FOLDER / "e5.safetensors"
        embed = lambda texts: e5.embed(other, texts, "passage: ").numpy()  # noqa: E731
        tensors["e5"] = index.refresh(file, articles, other.name, embed)
        asks = [row["question"] for row in questions("articles")]
        tensors["e5 questions"] = e5.embed(other, asks).numpy()
    else:  # what was shipped stays
        old = weights.tensors(TEXT) if TEXT in weights.names() else {}
        tensors |= {k: v.numpy() for k, v in old.items() if k.startswith("e5")}
    data = book.packed(sections)
    card = {
        "config": {
            "words": WORDS,
            "passages": len(passages),
            "articles": len(articles),
        },
        "data": "the prose of this book's chapters and of three guides",
        "command": "python -m train.rag --only text",
        "metrics": {"sections": len(sections), "digest": book.digest(passages)[:16]},
        "licence": "CC BY 4.0",
    }
    half = {k: torch.from_numpy(v).half() for k, v in tensors.items()}
    weights.save(TEXT, card, half, files={book.SHIPPED[1]: data})


def article_texts() -> list[str]:
    """What is searched of each Japanese article: its title and its text."""
    return [f"{row['title']}\n{row['content']}" for row in embedded_articles()]


# --- Search ---------------------------------------------------------------------------


def rankings(words: int, vectors: np.ndarray, asked_vectors: np.ndarray) -> dict:
    """The order of passages for each question of the book: by BM25, vectors, both."""
    passages = text.chunk(book.shipped(), words)
    by_terms = BM25([text.terms(p.whole) for p in passages])
    found: dict[str, list] = {"BM25": [], "vectors": [], "both": []}
    for row, vector in zip(questions("book"), asked_vectors, strict=True):
        a = [i for i, _ in by_terms.search(text.terms(row["question"]), DEPTH)]
        b = [i for i, _ in index.nearest(vectors, vector, DEPTH)]
        both = [i for i, _ in rank.fuse([a, b])]
        for name, order in zip(found, (a, b, both), strict=True):
            found[name].append(order)
    return {"passages": passages, "orders": found}


def right_ranks(passages: Sequence, orders: Sequence[Sequence[int]]) -> list[float]:
    """The rank of each question's section, 0 where it was not found."""
    ranks = []
    for row, order in zip(questions("book"), orders, strict=True):
        found = measure.places([passages[i].place for i in order])
        at = measure.first_right(found, row["place"])
        ranks.append(0 if np.isinf(at) else int(at))
    return ranks


def searched() -> dict:
    """The rankings over the shipped passages, with the shipped vectors."""
    vectors = weights.tensors(TEXT)["minilm"].float().numpy()
    found = minilm.minilm()
    asks = minilm.embed(found, [r["question"] for r in questions("book")]).numpy()
    return rankings(WORDS, vectors, asks)


def chunks_part() -> dict:
    """By size of passage: how many there are, and the ranks of the right sections."""
    found = minilm.minilm()
    asks = minilm.embed(found, [r["question"] for r in questions("book")]).numpy()

    def one(words: int) -> dict:
        passages = text.chunk(book.shipped(), words)
        vectors = minilm.embed(found, [p.whole for p in passages]).numpy()
        said = rankings(words, vectors, asks)
        ranks = {k: right_ranks(passages, v) for k, v in said["orders"].items()}
        mean = float(np.mean([len(p.text.split()) for p in passages]))
        return {"passages": len(passages), "words": mean, "ranks": ranks}

    return {
        str(n): training.kept(FOLDER, f"chunks-{n}", lambda n=n: one(n)) for n in CHUNKS
    }


def rerank_part() -> list[dict]:
    """For each question: the ten best passages of both, and log P(question | passage)."""
    found = searched()
    passages, orders = found["passages"], found["orders"]["both"]
    rows = list(questions("book"))
    asks: dict[int, list[int]] = {}  # a passage is read once for all that ask for it
    for q, order in enumerate(orders):
        for i in order[:TOP]:
            asks.setdefault(i, []).append(q)
    reader = smollm2()
    model, encode = reader.model.eval(), reader.tokenizer.encode

    def some(items: list[int]) -> list[list[float]]:
        ask = lambda i: [rows[q]["question"] for q in asks[i]]  # noqa: E731
        return [
            rank.question_logs(model, encode, passages[i].whole, ask(i)) for i in items
        ]

    logs, items = {}, sorted(asks)
    for start in tqdm(range(0, len(items), 50), desc="rerank"):
        part = items[start : start + 50]
        made = training.kept(FOLDER, f"rerank-{start}", lambda part=part: some(part))
        for i, row in zip(part, made, strict=True):
            logs |= {(q, i): x for q, x in zip(asks[i], row, strict=True)}
    return [
        {"order": order[:TOP], "logs": [round(logs[q, i], 3) for i in order[:TOP]]}
        for q, order in enumerate(orders)
    ]


# --- Answers --------------------------------------------------------------------------


def prompt(question: str, passages: Sequence[str], out: bool = False) -> str:
    """What the reader is told: the passages, then the question."""
    if not passages:
        return ALONE + question
    return "\n\n".join(passages) + f"\n\n{PART}{question}{OUT if out else ''}"


def prompts_of(found: dict) -> dict[str, list[str]]:
    """The prompts of each condition. *Wrong* is the best passage of another page."""
    passages, orders = found["passages"], found["orders"]["both"]
    made: dict[str, list[str]] = {}
    pairs = list(zip(questions("book"), orders, strict=True))
    for row, order in [(r, o) for r, o in pairs if r["answers"]][::EVERY]:
        own = [p for p in passages if p.place == row["place"]]
        holds = [p for p in own if measure.contains(p.whole, row["answers"])] or own
        page = row["place"].split("#")[0]
        others = [passages[i] for i in order if passages[i].place.split("#")[0] != page]
        wrong = next(p for p in others if not measure.contains(p.whole, row["answers"]))
        top = [passages[i].whole for i in order[:3]]
        cases = {
            "none": ((), False),
            "right": ((holds[0].whole,), False),
            "wrong": ((wrong.whole,), False),
            "found": (top[:1], False),
            "wrong, way out": ((wrong.whole,), True),
            "right, way out": ((holds[0].whole,), True),
            "three": (top, False),
        }
        for name, (given, out) in cases.items():
            made.setdefault(name, []).append(prompt(row["question"], given, out))
    return made


def write(reader: Any, texts: Sequence[str], key: str) -> list[str]:
    """The greedy answers to prompts, as chat; first lines of at most `NEW` tokens.

    `ROWS` prompts of about one length are a piece, kept under `key`.
    """
    told = [
        reader.tokenizer.apply_chat_template(
            [{"role": "user", "content": t}], tokenize=False, add_generation_prompt=True
        )
        for t in texts
    ]
    reader.tokenizer.padding_side = "left"

    def one(rows: list[int]) -> list[str]:
        batch = reader.tokenizer(
            [told[i] for i in rows], return_tensors="pt", padding=True
        )
        made = reader.model.generate(
            **batch, max_new_tokens=NEW, do_sample=False, pad_token_id=2
        )
        new = made[:, batch["input_ids"].shape[1] :]
        said = [reader.tokenizer.decode(row, skip_special_tokens=True) for row in new]
        return [text.strip().split("\n")[0].strip() for text in said]

    order = sorted(range(len(told)), key=lambda i: len(told[i]))
    found = [""] * len(told)
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        made = training.kept(FOLDER, f"{key}-{start}", lambda rows=rows: one(rows))
        for i, said in zip(rows, made, strict=True):
            found[i] = said
    return found


def answers_part() -> dict[str, list[str]]:
    """The answers without a text, with the right one, a wrong one, the one found."""
    made = prompts_of(searched())
    return _answers({name: made[name] for name in ("none", "right", "wrong", "found")})


def more_part() -> dict[str, list[str]]:
    """With three passages; with a way out; where the book does not answer."""
    found = searched()
    made = prompts_of(found)
    kept = {n: made[n] for n in ("wrong, way out", "right, way out", "three")}
    passages = found["passages"]
    by_terms = BM25([text.terms(p.whole) for p in passages])
    for row in questions("nowhere"):
        hits = by_terms.search(text.terms(row["question"]), 1)
        top = [passages[i].whole for i, _ in hits]
        for name, out in (("nowhere", False), ("nowhere, way out", True)):
            kept.setdefault(name, []).append(prompt(row["question"], top, out))
    return _answers(kept)


def _answers(made: dict[str, list[str]]) -> dict[str, list[str]]:
    reader = smollm2()
    reader.model.eval()
    key = lambda name: "answers-" + name.replace(", ", "-").replace(" ", "-")  # noqa: E731
    return {
        name: write(reader, texts, key(name))
        for name, texts in tqdm(made.items(), desc="answers")
    }


# --- Many vectors ---------------------------------------------------------------------


def phrases(count: int, seed: int) -> np.ndarray:
    """Unit vectors (count, 50): each the mean of two words of GloVe, drawn by lot."""
    vectors = glove().vectors.float().numpy()
    luck = np.random.default_rng(seed)
    pairs = luck.integers(len(vectors), size=(count, 2))
    means = vectors[pairs].mean(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def clocked(call: Any) -> tuple[float, Any]:
    """Process time in seconds, and what the call gives."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def hnsw_part() -> list[dict]:
    """For each size: building, and for each efSearch recall@10 and time against exact."""
    faiss.omp_set_num_threads(1)

    def one(count: int) -> dict:
        vectors, asks = phrases(count, 0), phrases(QUERIES, 1)
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        exact, (_, right) = clocked(lambda: flat.search(asks, NEAREST))
        graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = WIDTH
        built, _ = clocked(lambda: graph.add(vectors))
        row = {"vectors": count, "exact": exact / QUERIES, "build": built, "search": {}}
        row["bytes"] = len(faiss.serialize_index(graph))
        row["bytes flat"] = vectors.nbytes
        for ef in SEARCHES:
            graph.hnsw.efSearch = ef
            spent, (_, got) = clocked(lambda: graph.search(asks, NEAREST))
            recall = measure.shared(got.tolist(), right.tolist())
            row["search"][str(ef)] = {"recall": recall, "time": spent / QUERIES}
        return row

    return [training.kept(FOLDER, f"hnsw-{n}", lambda n=n: one(n)) for n in SIZES]


# --- Together -------------------------------------------------------------------------

PARTS = {
    "answers": answers_part,
    "more": more_part,
    "hnsw": hnsw_part,
    "rerank": rerank_part,
    "chunks": chunks_part,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts asked for; the record is written once all of them are there."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", choices=("text", *PARTS), help="one part")
    only = parser.parse_args(arguments).only
    torch.set_num_threads(1)
    if only in (None, "text"):
        text_part()
    said = weights.card(TEXT)["metrics"]["digest"]
    mark = FOLDER / "text.txt"  # what the pieces of the record were made from
    if mark.is_file() and mark.read_text() != said:
        for file in FOLDER.glob("*.pt"):
            if not file.name.startswith("hnsw"):
                file.unlink()
    FOLDER.mkdir(parents=True, exist_ok=True)
    mark.write_text(said)
    for name in [only] if only else PARTS:
        if name in PARTS:
            save({name: PARTS[name]()}, said)


def save(part: dict, text_digest: str) -> None:
    """A part of the record, beside those that are there of the same text."""
    trace: dict = {}
    if RECORD in weights.names():
        old = weights.card(RECORD)["config"]["text"] == text_digest
        trace = weights.trace(RECORD) if old else {}
    trace |= part
    hold = {"text": text_digest, "top": TOP, "links": LINKS, "construction": WIDTH}
    hold |= {"new tokens": NEW, "every": EVERY, "queries": QUERIES}
    card = {
        "config": hold,
        "data": "the text of rag-text, this book's questions, and words of GloVe 6B",
        "command": "python -m train.rag",
        "metrics": {"parts": sorted(trace)},
        "licence": "MIT",
    }
    weights.save(RECORD, card, trace=trace)


if __name__ == "__main__":
    main()
