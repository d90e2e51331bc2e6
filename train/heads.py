"""What every head of SmolLM2 and MiniLM attends to and is worth: `language/reading-heads`.

    python -m train.heads            # everything, about 26 minutes on one core

**Maps**: each measure of `lib.lens.measures`, as a mean over the 137 annotated sentences
with its standard error; agreement with the three relations, in both directions, counted in
two halves of the sentences so that a head can be chosen in one and judged in the other;
induction and its kin on random tokens said twice. Each measure also with the first token
left out: its column set to zero, the rows brought back to a sum of one. The same measures
of an untrained copy (one seed), and the best fixed offset for each relation.

**Ablations**: what a head mixed is replaced by zeros, by its mean over other texts of the
same kind, or by what it mixed at the same places of another text. For SmolLM2 the record
is the loss on 8 pieces of this book's prose (the last 12 of 32 tokens) and on 8 sequences of
16 random tokens said twice (the 15 tokens of the second half that the first foretells).
MiniLM writes no text: its loss is that of finding the second half of a piece of prose
among 48, by cosines over .05, as it was trained. Only the layers from the head's own on
run again; what stands before them does not change.

**Groups** of SmolLM2's heads, replaced together by their means: the first k by a measure,
and, for k of 4 and 16, five draws of k others
from the same layers.

Every finished part is a file under `_build/train/heads/`, so a killed command goes on
where it was. It needs the packages of requirements-weights.txt.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lib import training, weights
from lib.data.origin import EMBEDDED
from lib.data.relations import CLOSES, RELATIONS, relations, word_of
from lib.lens import heads, hooks, measures
from lib.pretrained.minilm import minilm
from lib.pretrained.origin import Pretrained
from lib.pretrained.smollm2 import smollm2

NAME = "heads"
LOADERS = {"SmolLM2": smollm2, "MiniLM": minilm}
DRAWS, LENGTH, PERIOD = (
    8,
    32,
    16,
)  # texts of a kind, tokens of prose, what is said twice
KEEP = {"prose": 12, "repeats": PERIOD - 1}  # the last tokens, whose loss counts
KINDS = ("zero", "mean", "resample")
HALF, PAIRS, SCALE = 20, 6, 20.0  # MiniLM: tokens of half a piece, pieces a draw, 1/.05
FREQUENT = 10_000  # ids below it are drawn from
GROUPS, CONTROLLED = (1, 2, 4, 8, 16, 32), (4, 16)
BY = ("induction", "previous", "first")


# --- Texts -------------------------------------------------------------------------------


def pieces(encode: Callable[[str], list[int]], length: int, n: int) -> Tensor:
    """The first `length` tokens of n paragraphs of this book's prose: (n, length).

    Spread evenly over the paragraphs that are long enough. ValueError if too few are.
    """
    lines = (EMBEDDED / "prose.txt").read_text(encoding="utf-8").splitlines()
    found = [ids[:length] for ids in map(encode, lines) if len(ids) >= length]
    if len(found) < n:
        raise ValueError(f"n: got {n}, the prose has {len(found)} such paragraphs")
    return torch.tensor(found)[torch.arange(n) * len(found) // n]


def plain(found: Pretrained) -> Tensor:
    """The ids below FREQUENT whose tokens are three Latin letters or more: (N,).

    Both tokenizers number frequent tokens first; a rare one is hard to say again.
    """
    table = found.tokenizer.get_vocab()
    return torch.tensor(sorted(i for t, i in table.items() if i < FREQUENT and word(t)))


def word(token: str) -> bool:
    letters = token.removeprefix("Ġ").removeprefix("##")
    return letters.isascii() and letters.isalpha() and len(letters) > 2


def twice(found: Pretrained, seed: int) -> Tensor:
    """Random tokens said twice: (DRAWS, 2 PERIOD)."""
    generator = torch.Generator().manual_seed(seed)
    return measures.repeated(plain(found), DRAWS, PERIOD, generator)


def texts(found: Pretrained) -> dict[str, tuple[Tensor, Tensor]]:
    """Kind -> (texts, others of the kind), each (DRAWS, T)."""
    prose = pieces(lambda text: found.tokenizer(text).input_ids, LENGTH, 2 * DRAWS)
    return {
        "prose": (prose[::2], prose[1::2]),
        "repeats": (twice(found, 0), twice(found, 1)),
    }


# --- Maps --------------------------------------------------------------------------------


def without_first(maps: Tensor) -> Tensor:
    """Maps (..., T, T) without the first key and query, rows summing to one again."""
    rest = maps[..., 1:, 1:]
    return rest / rest.sum(-1, keepdim=True).clamp(min=1e-9)


def maps_of(model: nn.Module, ids: Tensor) -> Tensor:
    """The attention of every head: ids (B, T) -> (B, L, H, T, T)."""
    with heads.reading_attention(model) as found:
        model(ids, **no_cache(model))
    return torch.stack([*found.values()], 1)


def no_cache(model: nn.Module) -> dict:
    return {"use_cache": False} if hasattr(model, "lm_head") else {}


def of_sentence(maps: Tensor, ids: Tensor, special: Tensor, marks: Tensor) -> dict:
    """Measures of one sentence: maps (L, H, T, T), ids and bool (T,); name -> (L, H).

    A measure that no query of the sentence asks for is absent.
    """
    T = len(ids)
    first = torch.arange(T) == 0
    wanted = {
        "first": first,
        "last": torch.arange(T) == T - 1,
        "punctuation": marks,
        "previous": measures.at_offset(T, -1),
        "itself": measures.at_offset(T, 0),
        "next": measures.at_offset(T, 1),
        "same": measures.same_token(ids) & ~special,
    }
    found = {"entropy": measures.entropy(maps), "distance": measures.distance(maps)}
    found |= {n: measures.share(maps, w) for n, w in wanted.items() if w.any()}
    rest = without_first(maps)
    found["entropy*"] = measures.entropy(rest)
    for name in ("previous", "itself", "same"):
        if name in found:
            inner = wanted[name][1:, 1:]
            if inner.any():
                found[f"{name}*"] = measures.share(rest, inner)
    return found


def of_repeats(maps: Tensor, ids: Tensor) -> dict:
    """Measures on repeated tokens: maps (B, L, H, T, T), ids (B, T); name -> (B, L, H)."""
    wanted = measures.after_same(ids)[:, None, None].expand_as(maps)
    same = measures.same_token(ids)[:, None, None].expand_as(maps)
    before = measures.at_offset(maps.shape[-1], -1)
    found = {"entropy": measures.entropy(maps)}
    for name, keys in {"induction": wanted, "same": same, "previous": before}.items():
        keys = keys.expand_as(maps)
        found[name] = measures.share(maps, keys)
        found[f"{name}*"] = measures.share(without_first(maps), keys[..., 1:, 1:])
    found["first"] = measures.share(maps, torch.arange(maps.shape[-1]) == 0)
    return found


def directions() -> dict[str, Callable]:
    """ "verb → subject" and its like -> the pairs (from, to) of a row."""
    found = {}
    for name, (head, dependent) in RELATIONS.items():
        found[f"{head} → {dependent}"] = lambda row, n=name: row["relations"][n]
        found[f"{dependent} → {head}"] = lambda row, n=name: [
            pair[::-1] for pair in row["relations"][n]
        ]
    return found


def hits(words: Tensor, pairs: list) -> Tensor:
    """How many pairs are right: (..., W, W) -> (...), whole numbers."""
    return (measures.agreement(words, pairs) * len(pairs)).round().long()


def at_offsets(pairs: list) -> Tensor:
    """How many pairs each fixed offset, −8 to 8, gets right: (17,)."""
    return torch.stack(
        [sum(torch.tensor(b - a == k) for a, b in pairs) for k in range(-8, 9)]
    )


def mapped(found: Pretrained, rows: list) -> Iterator[tuple]:
    """Each row with its ids (T,), its tokens' places and its maps (L, H, T, T).

    Sentences of one length go through the model together.
    """
    parts = [found.tokenizer(row["text"], return_offsets_mapping=True) for row in rows]
    lengths = [len(part.input_ids) for part in parts]
    maps = {}
    for T in sorted(set(lengths)):
        at = [i for i, length in enumerate(lengths) if length == T]
        batch = torch.tensor([parts[i].input_ids for i in at])
        maps |= dict(zip(at, maps_of(found.model, batch), strict=True))
    for i, (row, part) in enumerate(zip(rows, parts, strict=True)):
        yield row, torch.tensor(part.input_ids), part.offset_mapping, maps.pop(i)


@torch.no_grad()
def read(found: Pretrained) -> dict:
    """What the maps of one model show, on sentences and on repeated tokens."""
    every, right, total, fixed = {}, {}, {}, {}
    special_ids = torch.tensor(found.tokenizer.all_special_ids)
    rows = relations().rows
    for number, (row, ids, places, maps) in enumerate(mapped(found, rows)):
        words = word_of(places, row["spans"])
        close = [w is not None and row["words"][w] in CLOSES for w in words]
        marks = torch.isin(ids, special_ids), torch.tensor(close)
        for name, value in of_sentence(maps, ids, *marks).items():
            every.setdefault(name, []).append(value)
        between = measures.by_word(maps, words)  # (L, H, W, W)
        for name, pick in directions().items():
            if pairs := pick(row):
                key = name, number % 2
                right[key] = right.get(key, 0) + hits(between, pairs)
                total[key] = total.get(key, 0) + len(pairs)
                fixed[key] = fixed.get(key, 0) + at_offsets(pairs)
    ids = twice(found, 0)
    if found.tokenizer.cls_token_id is not None:
        ends = found.tokenizer.cls_token_id, found.tokenizer.sep_token_id
        ids = F.pad(F.pad(ids, (1, 0), value=ends[0]), (0, 1), value=ends[1])
    repeats = of_repeats(maps_of(found.model, ids), ids)
    names = [*directions()]
    return {
        "sentences": {name: spread(torch.stack(v)) for name, v in every.items()},
        "repeats": {name: spread(value) for name, value in repeats.items()},
        "right": {n: [numbers(right[n, half]) for half in (0, 1)] for n in names},
        "pairs": {n: [total[n, half] for half in (0, 1)] for n in names},
        "offsets": {n: [fixed[n, half].tolist() for half in (0, 1)] for n in names},
    }


def spread(values: Tensor) -> dict:
    """Mean and standard error over the first axis: (N, L, H) -> two tables (L, H)."""
    error = values.std(0) / math.sqrt(len(values))
    return {"n": len(values), "mean": numbers(values.mean(0)), "se": numbers(error)}


def untrained(found: Pretrained) -> Pretrained:
    """The same architecture with the weights it has before training, seed 0."""
    torch.manual_seed(0)
    model = type(found.model)(found.model.config).eval()
    return Pretrained(model, found.tokenizer, found.name, "untrained", "MIT")


# --- Ablations ---------------------------------------------------------------------------


@contextmanager
def starting_at(model: nn.Module, layer: int) -> Iterator[None]:
    """Within it the model has the layers from `layer` on alone."""
    owner, name = (
        (model.model, "layers") if hasattr(model, "lm_head") else (model, "layer")
    )
    whole = getattr(owner, name)
    setattr(owner, name, whole[layer:])
    try:
        yield
    finally:
        setattr(owner, name, whole)


def losses(model: nn.Module, ids: Tensor, keep: int, **given) -> Tensor:
    """The mean loss of each text's last `keep` tokens, in nats: (B,)."""
    given = given or {"input_ids": ids}
    logits = model(**given, use_cache=False, logits_to_keep=keep + 1).logits[:, :-1]
    target = ids[:, -keep:].flatten()
    return (
        F.cross_entropy(logits.flatten(0, 1), target, reduction="none")
        .view(-1, keep)
        .mean(1)
    )


def in_place(own: Tensor, other: Tensor, kind: str) -> Tensor:
    """What stands where a head's output was: own and other (B, T, d) -> broadcastable."""
    if kind == "zero":
        return torch.zeros_like(own)
    return other.mean((0, 1)) if kind == "mean" else other


@torch.no_grad()
def ablate(
    model: nn.Module, layer: int, kind: str, score: Callable, state: Tensor, own, other
) -> list:
    """What `score(state)` says without each head of one layer: lists (H, n).

    `state` is what enters the layer; `own`, `other`: what its heads mixed on the texts and
    on others, (B, T, H, d).
    """
    found = []
    with starting_at(model, layer):
        for head in range(own.shape[2]):
            new = in_place(own[:, :, head], other[:, :, head], kind)
            with heads.replacing_heads(model, {(0, head): hooks.to(new)}):
                found.append(numbers(score(state)))
    return found


def writer(folder: Path) -> dict:
    """SmolLM2's losses: intact, and with each head replaced; by kind of text."""
    found = smollm2()
    model, result, jobs = found.model.eval(), {}, []
    for text, (ids, others) in texts(found).items():
        keep = KEEP[text]
        with torch.no_grad():
            with heads.reading_heads(model) as other:
                model(others, use_cache=False)
            with (
                heads.reading_heads(model) as own,
                hooks.reading_inputs(model, r"model\.layers\.\d+") as into,
            ):
                intact = losses(model, ids, keep)
        result[text] = {"ids": ids.tolist(), "intact": numbers(intact)}
        result[text]["without"] = {kind: [] for kind in KINDS}

        def score(state: Tensor, ids=ids, keep=keep) -> Tensor:
            return losses(model, ids, keep, inputs_embeds=state)

        key = f"{text}-{training.digest([keep, ids.tolist(), others.tolist()])}"
        for kind in KINDS:
            for i, state in enumerate(into.values()):
                job = partial(ablate, model, i, kind, score, state, own[i], other[i])
                jobs.append((kind, i, text, f"{key}-{kind}-{i}", job))
    for kind, _, text, key, job in tqdm(sorted(jobs, key=in_turn), desc="layers"):
        result[text]["without"][kind].append(training.kept(folder, key, job))
    return result


def in_turn(job: tuple) -> tuple:
    """Kind after kind, so that an unfinished record has whole ones; in order of layers."""
    return KINDS.index(job[0]), job[1], job[2]


def retrieval(vectors: Tensor) -> Tensor:
    """The loss of finding each second half among all: (2 N, D) -> (DRAWS,)."""
    a, b = F.normalize(vectors, dim=-1).chunk(2)  # (N, D) each
    loss = F.cross_entropy(SCALE * a @ b.mT, torch.arange(len(a)), reduction="none")
    return loss.view(DRAWS, -1).mean(1)


def encoder() -> dict:
    """MiniLM's loss of finding second halves, and its vectors' cosine to the intact ones."""
    found = minilm()
    model, N = found.model.eval(), DRAWS * PAIRS
    ends = found.tokenizer.cls_token_id, found.tokenizer.sep_token_id

    def encode(text: str) -> list[int]:
        cut = {"truncation": True, "max_length": 2 * HALF}
        return found.tokenizer(text, add_special_tokens=False, **cut).input_ids

    both = pieces(encode, 2 * HALF, 2 * N)  # (2 N, 2 · HALF)
    both = torch.stack(both.chunk(2, 1))  # half, piece, token
    both = F.pad(F.pad(both, (1, 0), value=ends[0]), (0, 1), value=ends[1])
    ids, others = both[:, ::2].flatten(0, 1), both[:, 1::2].flatten(0, 1)
    layers = model.encoder
    with torch.no_grad():
        with heads.reading_heads(model) as other:
            model(others)
        with (
            heads.reading_heads(model) as own,
            hooks.reading_inputs(model, r"encoder\.layer\.\d+") as into,
        ):
            intact = model(ids).last_hidden_state.mean(1)  # (2 N, D)

    def score(state: Tensor) -> Tensor:
        vectors = layers(state).last_hidden_state.mean(1)
        cosine = F.cosine_similarity(vectors, intact).view(2, DRAWS, -1).mean((0, 2))
        return torch.cat([retrieval(vectors), cosine])  # (2 · DRAWS,)

    without = {
        kind: [
            ablate(layers, i, kind, score, state, own[i], other[i])
            for i, state in enumerate(into.values())
        ]
        for kind in KINDS
    }
    return {"intact": numbers(retrieval(intact)), "without": without}


# --- Groups ------------------------------------------------------------------------------


def others_in(group: list[tuple[int, int]], generator: torch.Generator) -> list:
    """As many heads of the same layers, none of the group; of any layer where too few."""
    free = {(i, h) for i in range(30) for h in range(9)} - set(group)
    found = []
    for layer, _ in group:
        here = sorted(head for head in free if head[0] == layer) or sorted(free)
        pick = here[int(torch.randint(len(here), (), generator=generator))]
        free.remove(pick)
        found.append(pick)
    return found


@torch.no_grad()
def together(maps: dict) -> dict:
    """Losses with groups of heads at their means: name -> k -> kind of text -> lists."""
    found = smollm2()
    model, generator = found.model.eval(), torch.Generator().manual_seed(0)
    every = texts(found)
    means = {}
    for text, (_, others) in every.items():
        with heads.reading_heads(model) as other:
            model(others, use_cache=False)
        means[text] = {i: mix.mean((0, 1)) for i, mix in other.items()}  # (H, d)

    def cost(group: list) -> dict:
        result = {}
        for text, (ids, _) in every.items():
            edits = {(i, h): hooks.to(means[text][i][h]) for i, h in group}
            with heads.replacing_heads(model, edits):
                result[text] = numbers(losses(model, ids, KEEP[text]))
        return result

    result = {}
    for name in BY:
        mean = torch.tensor(maps["repeats"][name]["mean"])  # (L, H)
        order = [divmod(i, 9) for i in mean.flatten().argsort(descending=True).tolist()]
        result[name] = {}
        for k in tqdm(GROUPS, desc=name):
            drawn = [
                others_in(order[:k], generator)
                for _ in range(5 if k in CONTROLLED else 0)
            ]
            result[name][str(k)] = {
                "heads": [[*head] for head in order[:k]],
                "losses": cost(order[:k]),
                "others": [cost(group) for group in drawn],
            }
    return result


def numbers(x: Tensor) -> list:
    """Nested lists of numbers, rounded to four places; whole numbers stay whole."""
    if not x.is_floating_point():
        return x.tolist()
    if x.ndim:
        return [numbers(part) for part in x]
    return round(x.item(), 4)


# --- The record --------------------------------------------------------------------------


def study(folder: Path) -> dict:
    """Run what is missing; the whole record."""
    maps, blank = {}, {}
    for name, load in LOADERS.items():
        maps[name] = training.kept(
            folder, f"maps-{name}", lambda load=load: read(load())
        )
        blank[name] = training.kept(
            folder, f"untrained-{name}", lambda load=load: read(untrained(load()))
        )
        keep = ("sentences", "repeats", "right")
        blank[name] = {key: blank[name][key] for key in keep}
    return {
        "maps": maps,
        "untrained": blank,
        "MiniLM": training.kept(folder, "ablate-MiniLM", encoder),
        "SmolLM2": writer(folder),
        "groups": training.kept(folder, "groups", lambda: together(maps["SmolLM2"])),
    }


def main() -> None:
    trace = study(training.arguments(__doc__, NAME).folder)
    best = torch.tensor(trace["maps"]["SmolLM2"]["repeats"]["induction"]["mean"])
    layer, head = divmod(int(best.argmax()), 9)
    costs = {}
    for text in KEEP:
        part = trace["SmolLM2"][text]
        gone = torch.tensor(part["without"]["zero"][layer][head])
        costs[text] = round((gone - torch.tensor(part["intact"])).mean().item(), 3)
    card = {
        "config": {
            "draws": DRAWS,
            "tokens of a text": LENGTH,
            "period": PERIOD,
            "tokens whose loss counts": KEEP,
            "MiniLM": {"tokens": HALF, "pairs": DRAWS * PAIRS, "scale": SCALE},
            "groups": [*GROUPS],
        },
        "data": {
            "name": "relations; prose; random tokens said twice",
            "source": "written for this book; drawn by train/heads.py",
            "licence": "CC BY 4.0",
            "split": "nothing is trained; heads are chosen in one half of the sentences",
        },
        "command": "OMP_NUM_THREADS=1 python -m train.heads",
        "metrics": {
            "induction": {
                "head": f"{layer}.{head}",
                "score": round(best.max().item(), 3),
            },
            "cost without it": costs,
        },
        "licence": "MIT",
    }
    weights.save(NAME, card, trace=trace)


if __name__ == "__main__":
    main()
