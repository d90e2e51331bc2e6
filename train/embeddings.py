"""What vectors of words and sentences tell apart: the record of `tokens/embeddings`.

    python -m train.embeddings            # everything, about 8 minutes on one core

**Senses**: one word in many sentences of ours, its vector in every layer of MiniLM and
SmolLM2 (English) and of E5 (both languages), told apart by the nearer mean of its senses
(`told`), each half of the sentences once to set the means and once to be told. Beside
that: bags of the words around, the same models where nothing follows the word, and the
mean cosine of tokens drawn from different sentences, before and after centring.
**Clouds**: the two main axes of each layer of E5 for the Japanese words. **Retrieval**:
English and Japanese sentences, by layer. **Skip-grams**: what the settings of
`lib.embeddings.sgns` do to the categories of the page, five seeds each; rate, thinning and
epochs were picked among ten settings by that measure, the others were fixed beforehand.
**Map**: 2,000 words of GloVe, laid out by t-SNE.

**Tables**: two of the page's tables of vectors, from the captions, are shipped in float16
for the reader's browser (`lib.live.near`), with their words.

Every finished part is a file under `_build/train/embeddings/`, so a killed command goes on
where it was. It needs the packages of requirements-weights.txt, and Multi30k.
"""

import re
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from torch import Tensor

from lib import embeddings, training, weights
from lib.data.multi30k import multi30k
from lib.data.pairs import pairs
from lib.data.senses import senses, span
from lib.pretrained.e5 import e5
from lib.pretrained.ginza import ginza
from lib.pretrained.glove import glove
from lib.pretrained.minilm import minilm
from lib.pretrained.smollm2 import smollm2
from lib.pretrained.states import token_states, word_states

NAME = "embeddings"
MODELS = {"MiniLM": ["en"], "SmolLM2": ["en"], "E5": ["en", "ja"]}
LOADERS = {"MiniLM": minilm, "SmolLM2": smollm2, "E5": e5}
PREFIX = {"E5": "query: "}  # what the model was trained with before each text
DRAWS = 5  # of one token from each sentence, for the mean cosine
WORDS_ON_THE_MAP = 2000
LEAST, WINDOW, DIRECTIONS = 10, 2, 64  # as on the page
SKIP_GRAM = {"d": 32, "k": 5, "power": 0.75, "sample": 0.01, "epochs": 5}
SKIP_GRAM |= {"rate": 0.02, "batch": 8192}
SETTINGS = {  # what differs from SKIP_GRAM
    "as on the page": {},
    "no subsampling": {"sample": None},
    "power 0: all words alike": {"power": 0.0},
    "power 1: as frequent as they are": {"power": 1.0},
    "1 drawn word": {"k": 1},
}
SEEDS = range(5)
CATEGORIES = {
    "colours": "red blue green yellow black white orange purple pink brown gray",
    "numbers": "two three four five six seven eight",
    "animals": "dog cat horse bird cow sheep duck elephant goat",
    "people": "man woman boy girl lady guy child baby person toddler",
    "instruments": "guitar piano violin drums saxophone accordion trumpet keyboard "
    "flute cello",
    "vehicles": "car bus truck train boat bicycle motorcycle van taxi scooter",
    "clothes": "shirt jacket hat dress pants shorts jeans skirt sweater coat",
    "sports": "soccer baseball basketball football tennis hockey volleyball rugby",
    "body": "hand head face arm leg hair mouth foot eyes shoulder",
    "land and water": "beach ocean lake river mountain forest field hill snow sand",
    "food": "food ice bread fruit meat cake vegetables pizza coffee fish",
    "moving": "running walking jumping riding standing sitting climbing swimming",
}


# --- Senses ------------------------------------------------------------------------------


def told(vectors: Tensor, rows: Sequence[dict]) -> Tensor:
    """Whether each row's sense is told by the nearer mean, in cosine: booleans (N,).

    `vectors` (N, D). The means of a word's senses come from the half of its sentences
    that the row is not in (`split`).
    """
    right = torch.zeros(len(rows), dtype=torch.bool)
    for word in dict.fromkeys(row["word"] for row in rows):
        at = torch.tensor([i for i, row in enumerate(rows) if row["word"] == word])
        names = list(dict.fromkeys(rows[i]["sense"] for i in at.tolist()))
        sense = torch.tensor([names.index(rows[i]["sense"]) for i in at.tolist()])
        half = torch.tensor([rows[i]["split"] == "test" for i in at.tolist()])
        unit = F.normalize(vectors[at], dim=-1)  # (n, D)
        for test in (half, ~half):
            means = [
                vectors[at][~test & (sense == s)].mean(0) for s in range(len(names))
            ]
            means = F.normalize(torch.stack(means), dim=-1)  # (S, D)
            right[at[test]] = (unit[test] @ means.T).argmax(-1) == sense[test]
    return right


def layers_told(states: Tensor, rows: Sequence[dict]) -> list[str]:
    """`told` for each layer of states (L, N, D), as a text of 0 and 1."""
    return ["".join(str(int(x)) for x in told(layer, rows)) for layer in states]


def of_language(language: str) -> list[dict]:
    return [row for row in senses().rows if row["language"] == language]


def prepared(model: str, rows: Sequence[dict]) -> tuple[list[str], list[tuple]]:
    """Sentences with the model's prefix, and where the word stands in them."""
    before = PREFIX.get(model, "")
    spans = [tuple(x + len(before) for x in span(row)) for row in rows]
    return [before + row["sentence"] for row in rows], spans


def read(model: str, language: str) -> dict:
    """What one model's layers tell, with all of the sentence and with its start."""
    found, rows = LOADERS[model](), of_language(language)
    sentences, spans = prepared(model, rows)
    tokens = [token_states(found, sentence) for sentence in sentences]
    words = [of_word(*pair, where) for pair, where in zip(tokens, spans, strict=True)]
    states = torch.stack(words, 1)  # (L, N, D)
    starts = [text[:end] for text, (_, end) in zip(sentences, spans, strict=True)]
    result = {
        "told": layers_told(states, rows),
        "told, centred": layers_told(states - states.mean(1, keepdim=True), rows),
        "told, nothing follows": layers_told(word_states(found, starts, spans), rows),
        "cosines": [cosines(tokens, seed) for seed in range(DRAWS)],
    }
    if language == "ja":
        result["clouds"] = clouds(states, rows)
    return result


def of_word(states: Tensor, places: list[tuple], where: tuple) -> Tensor:
    """The mean over the tokens at `where` of states (L, T, D): (L, D)."""
    inside = [max(a, where[0]) < min(b, where[1]) for a, b in places]
    return states[:, torch.tensor(inside)].mean(1)


def cosines(tokens: Sequence[tuple], seed: int) -> list[list[float]]:
    """[mean cosine, the same centred] for each layer: a token from each sentence."""
    g = torch.Generator().manual_seed(seed)
    drawn = []
    for states, places in tokens:  # (L, T, D)
        own = [i for i, (start, end) in enumerate(places) if end > start]
        drawn.append(states[:, own[torch.randint(len(own), (), generator=g)]])
    drawn = torch.stack(drawn, 1)  # (L, N, D)
    centred = drawn - drawn.mean(1, keepdim=True)
    return [
        [mean_cosine(a), mean_cosine(b)] for a, b in zip(drawn, centred, strict=True)
    ]


def sinks(model: str, language: str) -> dict[str, list]:
    """By layer: what the first token of a text does, and tokens of one sentence.

    "norm": the length of the first token's vector over the median of the others';
    "cosines": as `cosines`, seed 0, with the first token of each text left out;
    "one sentence": the mean cosine of two tokens of the same sentence, without it.
    """
    found, rows = LOADERS[model](), of_language(language)
    sentences, _ = prepared(model, rows)
    tokens, norms, inside = [], [], []
    for sentence in sentences:
        states, places = token_states(found, sentence)  # (L, T, D)
        lengths = states.norm(dim=-1)  # (L, T)
        norms.append(lengths[:, 0] / lengths[:, 1:].median(1).values)
        own = [i for i, (a, b) in enumerate(places) if b > a and i > 0]
        tokens.append((states[:, own], [(0, 1)] * len(own)))
        inside.append([mean_cosine(layer[own]) for layer in states])
    norms = torch.stack(norms).median(0).values  # (L,)
    return {
        "norm": [round(x, 2) for x in norms.tolist()],
        "cosines": cosines(tokens, 0),
        "one sentence": torch.tensor(inside).mean(0).round(decimals=4).tolist(),
    }


def mean_cosine(vectors: Tensor) -> float:
    """The mean cosine of two different vectors of (N, D)."""
    unit = F.normalize(vectors.double(), dim=-1)
    n = len(unit)
    return round(((unit.sum(0) @ unit.sum(0) - n) / (n * (n - 1))).item(), 4)


def clouds(states: Tensor, rows: Sequence[dict]) -> dict[str, list]:
    """word -> its sentences' two main axes in each layer (L, n, 2), rounded."""
    found = {}
    for word in dict.fromkeys(row["word"] for row in rows):
        at = [i for i, row in enumerate(rows) if row["word"] == word]
        planes = [plane(layer[at]) for layer in states]
        found[word] = [[[round(x, 3) for x in p] for p in xy.tolist()] for xy in planes]
    return found


def plane(vectors: Tensor) -> Tensor:
    """The two main axes (n, 2) of vectors (n, D), by PCA; the sign is fixed."""
    centred = (vectors - vectors.mean(0)).double()
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)  # (·, D)
    places = centred @ axes[:2].T
    return places * places.gather(0, places.abs().argmax(0, keepdim=True)).sign()


def baselines(language: str) -> dict[str, str]:
    """Bags of what stands around the word: as counts, and the mean of static vectors."""
    rows = of_language(language)
    table = glove() if language == "en" else ginza()
    around = [context(row, table) for row in rows]
    known = {word: i for i, word in enumerate(dict.fromkeys(chain(*around)))}
    counts = torch.zeros(len(rows), len(known))
    for i, words in enumerate(around):
        for word in words:
            counts[i, known[word]] += 1
    means = torch.stack(
        [torch.stack([table[w] for w in words]).mean(0) for words in around]
    )
    found = {"bag of words": counts, "mean of static vectors": means}
    return {name: layers_told(bag[None], rows)[0] for name, bag in found.items()}


def context(row: dict, table) -> list[str]:
    """The words around the word that the table has.

    Japanese, without spaces, is cut from the left into the longest words of the table.
    """
    start, end = span(row)
    before, after = row["sentence"][:start], row["sentence"][end:]
    if row["language"] == "en":
        words = re.findall(r"[a-z]+", f"{before} {after}".lower())
        return [word for word in words if word in table]
    found = []
    for text in re.findall(r"\w+", f"{before} {after}"):
        at = 0
        while at < len(text):
            ends = range(min(len(text), at + 8), at, -1)
            stop = next((e for e in ends if text[at:e] in table), None)
            found += [text[at:stop]] if stop else []
            at = stop or at + 1
    return found


def static_neighbours(language: str) -> dict[str, list[str]]:
    """The four nearest words of each word's one row, in GloVe or ja_ginza."""
    table = glove() if language == "en" else ginza()
    unit = F.normalize(table.vectors, dim=-1)
    found = {}
    for word in dict.fromkeys(row["word"] for row in of_language(language)):
        order = (unit @ F.normalize(table[word], dim=-1)).argsort(descending=True)
        near = [table.words[i] for i in order[:8].tolist()]
        found[word] = [other for other in near if other != word][:4]
    return found


# --- Sentences ---------------------------------------------------------------------------


def retrieval(model: str, prefix: str) -> list[list[list[int]]]:
    """For each layer the ranks (from 0) of the right sentence: en -> ja, ja -> en."""
    found, rows = LOADERS[model](), pairs().rows
    sides = []
    for language in ("en", "ja"):
        means = []
        for row in rows:
            states, _ = token_states(found, prefix + row[language])  # (L, T, D)
            means.append(states.mean(1))
        sides.append(F.normalize(torch.stack(means, 1), dim=-1))  # (L, N, D)
    return [ranks(en @ ja.T) for en, ja in zip(*sides, strict=True)]


def ranks(scores: Tensor) -> list[list[int]]:
    """How many wrong ones score higher than the right one, along rows and columns."""
    right = scores.diagonal()
    return [
        (scores > right[:, None]).sum(1).tolist(),
        (scores > right).sum(0).tolist(),
    ]


# --- Vectors from text -------------------------------------------------------------------


def captions() -> tuple[list[list[str]], dict[str, int]]:
    """The words of the English captions to train, and how often each occurs."""
    rows = [row["en"].lower() for row in multi30k() if row["split"] == "train"]
    lines = [re.findall("[a-z]+", text) for text in rows]
    return lines, embeddings.vocabulary(lines, LEAST)


def same_category(vectors: Tensor, words: Sequence[str]) -> Tensor:
    """For each word of CATEGORIES, whether the nearest of the others is of its own."""
    listed = [(w, kind) for kind, text in CATEGORIES.items() for w in text.split()]
    listed = [(w, kind) for w, kind in listed if w in words]
    index = {word: i for i, word in enumerate(words)}
    unit = F.normalize(vectors[[index[w] for w, _ in listed]].double(), dim=-1)
    found = (unit @ unit.T).fill_diagonal_(-2).argmax(-1).tolist()
    return torch.tensor(
        [listed[i][1] == k for i, (_, k) in zip(found, listed, strict=True)]
    )


def skip_gram(setting: str, seed: int) -> float:
    lines, words = captions()
    frequency = torch.tensor([*words.values()])
    chosen = SKIP_GRAM | SETTINGS[setting]
    found = embeddings.neighbours(lines, [*words], WINDOW)
    vectors = embeddings.sgns(found, frequency, seed=seed, **chosen)
    return round(same_category(vectors, [*words]).double().mean().item(), 4)


def tables() -> dict:
    """Two of the page's tables (V, d), as the page makes them, and their "words"."""
    lines, words = captions()
    found = embeddings.neighbours(lines, [*words], WINDOW)  # (2, N)
    counts = embeddings.cooccurrences(found, len(words))  # (V, V)
    torch.manual_seed(0)
    svd = embeddings.factors(embeddings.ppmi(counts), DIRECTIONS)
    frequency = torch.tensor([*words.values()])
    trained = embeddings.sgns(found, frequency, dtype=torch.double, **SKIP_GRAM)
    made = {"SVD of PPMI": svd.half(), "skip-gram": trained.half()}
    return made | {"words": [*words]}


def laid_out() -> dict[str, list]:
    """The most frequent words of GloVe that are letters alone, and their places."""
    table = glove()
    words = [word for word in table.words[:5000] if re.fullmatch("[a-z]{2,}", word)]
    words = words[:WORDS_ON_THE_MAP]
    unit = F.normalize(torch.stack([table[word] for word in words]), dim=-1)
    look = {"init": "pca", "perplexity": 15, "random_state": 0}
    places = TSNE(2, **look).fit_transform(unit.double().numpy())
    return {"words": words, "places": places.round(1).tolist()}


# --- The study ---------------------------------------------------------------------------


def study(folder: Path) -> dict:
    """Run what is missing; the trace by part."""
    minutes = []

    def timed(job, what):
        start = time.process_time()
        found = job(*what)
        return {"found": found, "minutes": (time.process_time() - start) / 60}

    def run(job, *what):
        read = {"rows": senses().rows + pairs().rows, "settings": [SKIP_GRAM, SETTINGS]}
        key = training.digest([job.__name__, *what, read])
        part = training.kept(folder, key, lambda: timed(job, what))
        minutes.append(part["minutes"])
        return part["found"]

    trace = {
        "senses": {},
        "static": {},
        "baselines": {},
        "retrieval": {},
        "skip-grams": {},
    }
    trace["categories"] = CATEGORIES
    trace["map"] = run(laid_out)
    for language in ("en", "ja"):
        trace["baselines"][language] = run(baselines, language)
        trace["static"][language] = run(static_neighbours, language)
    for model, languages in MODELS.items():
        for language in languages:
            name = f"{model}, {language}"
            trace["senses"][name] = run(read, model, language)
            trace["senses"][name] |= {"sinks": run(sinks, model, language)}
    for name, model, prefix in (
        ("E5", "E5", "query: "),
        ("E5, no prefix", "E5", ""),
        ("MiniLM", "MiniLM", ""),
    ):
        trace["retrieval"][name] = run(retrieval, model, prefix)
    for setting in SETTINGS:
        trace["skip-grams"][setting] = [run(skip_gram, setting, s) for s in SEEDS]
    trace["cpu minutes"] = round(sum(minutes), 1)
    return trace


def main() -> None:
    folder = training.arguments(__doc__, NAME).folder
    trace = study(folder)
    key = training.digest(["tables", SKIP_GRAM, LEAST, WINDOW, DIRECTIONS])
    save(trace, training.kept(folder, key, tables))


def save(trace: dict, made: dict) -> Path:
    """Write the checkpoint: the record, the tables of vectors, their words by line."""
    metrics = {}
    for name, found in trace["senses"].items():
        shares = [layer.count("1") / len(layer) for layer in found["told"]]
        metrics[name] = {"best layer": max(shares), "last layer": shares[-1]}
    card = {
        "config": {
            "senses": "nearest mean in cosine, two halves",
            "skip-gram": SKIP_GRAM,
            "tables": {"least": LEAST, "window": WINDOW, "directions": DIRECTIONS},
            "map": {"words": WORDS_ON_THE_MAP, "layout": "t-SNE, perplexity 15"},
        },
        "data": {
            "name": "senses; english-japanese; multi30k",
            "source": "written for this book; huggingface.co/datasets/bentrevett/multi30k",
            "licence": "CC BY 4.0; research use (captions of Flickr30k)",
            "split": "senses: two halves by sentence; multi30k: train",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.embeddings",
        "metrics": metrics,
        "licence": "MIT",
    }
    tensors = {name: made[name] for name in made if name != "words"}
    words = "\n".join(made["words"]).encode()
    return weights.save(NAME, card, tensors, trace, {"words.txt": words})


if __name__ == "__main__":
    main()
