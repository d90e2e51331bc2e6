"""Search or chance, where one answer is wanted: the record of `language/decoding`.

    python -m train.translation_search             # about four CPU-minutes; reads Multi30k

The shipped translator (`train/translation.py`) translates the first `PAIRS` captions of
Multi30k's validation split: greedily, by beams of 2 to 32, which rank finished texts by
the sum of log-probabilities, by four beams that rank by the mean for each token, and by
three ways to draw, each `DRAWS` times. Nothing is chosen here, and the test split is
not read.

Recorded for each: BLEU and chrF with intervals and a paired bootstrap against greedy
(`sacrebleu`); the mean log-probability of a text; words; how many texts are empty, and
for how many captions the empty text is likelier than what was found. To be tested on the
page: the p-values with Holm's correction over all systems.

A finished system is a file under `_build/train/translation-search/`, so a killed
command goes on.
"""

import functools

import torch
from tqdm import tqdm

from lib import decoding, training, weights
from lib.models.encoder_decoder import PAD, EncoderDecoder
from lib.tokenizers import sentencepiece
from train import translation

NAME = "translation-search"
PAIRS, DRAWS, WIDEST = 150, 2, 32
MARKS = {"eos": translation.EOS, "pad": PAD}
BEAMS = {
    f"{beams} beams, {rank}": {"beams": beams, "length_penalty": alpha}
    for rank, alpha, widths in (
        ("sum", 0.0, (2, 4, 8, 16, WIDEST)),
        ("mean", 1.0, (4,)),
    )
    for beams in widths
}
WAYS = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.5": {"temperature": 0.5},
    "top-p 0.9": {"top_p": 0.9},
}
SAMPLES = {
    f"{name}, draw {draw}": way | {"draw": draw}
    for name, way in WAYS.items()
    for draw in range(1, DRAWS + 1)
}
SYSTEMS = {"greedy": {}, **BEAMS, **SAMPLES}


def shipped():
    """The translator and its pieces, as the book ships them."""
    model = EncoderDecoder(**weights.card("translation")["config"]["model"])
    tensors = {k: v.float() for k, v in weights.tensors("translation").items()}
    model.load_state_dict(tensors, strict=False)  # two names of one tied table
    return model.eval(), sentencepiece.load(
        weights.path("translation", "unigram.model")
    )


def search(setting: dict):
    """(step, begin, room) -> ids, as `translation.translate` wants it."""
    setting = dict(setting)
    if "beams" in setting:
        return lambda *run: decoding.beam(*run, **setting, **MARKS)[0]
    if "draw" in setting:
        setting["generator"] = torch.Generator().manual_seed(setting.pop("draw"))
        return lambda *run: decoding.sample(*run, **setting, **MARKS)
    return lambda *run: decoding.greedy(*run, **setting, **MARKS)


@torch.no_grad()
def of_nothing(model, processor, sentences: list[str]) -> list[float]:
    """The log-probability of the empty translation of each."""
    found = []
    for sentence in sentences:
        source = torch.tensor([processor.encode(sentence, add_eos=True)])  # (1, Ts)
        logits = model(source, torch.tensor([[translation.BOS]]))  # (1, 1, V)
        found.append(logits.log_softmax(-1)[0, 0, translation.EOS].item())
    return found


def told(texts: list[str], sums: list[float], empty: list[float]) -> dict:
    """What the record says of one system, beside its scores."""
    pairs = list(zip(sums, empty, strict=True))
    return {
        "log_probability": round(sum(sums) / len(sums), 3),
        "words": round(sum(len(text.split()) for text in texts) / len(texts), 2),
        "empty": sum(not text.strip() for text in texts),
        "empty_likelier": sum(nothing > found + 1e-3 for found, nothing in pairs),
    }


def study(model, processor, pairs: translation.Pairs, systems: dict, keep) -> dict:
    """The trace: each system's row. `keep(name, job)` gives what `job` gives."""
    source, references = (list(side) for side in zip(*pairs, strict=True))
    empty = of_nothing(model, processor, source)
    found = {}
    for name, setting in tqdm(systems.items()):
        size = max(1, 64 // setting.get("beams", 1))  # sentences at a time

        def job(setting=setting, size=size):
            way = search(setting)
            return translation.translate(
                model, processor, source, size=size, search=way
            )

        found[name] = keep(name, job)
    scores = translation.scores(
        {name: texts for name, (texts, _) in found.items()}, references, "13a"
    )
    rows = {
        name: told(texts, sums, empty) | scores["systems"][name]
        for name, (texts, sums) in found.items()
    }
    length = sum(len(text.split()) for text in references) / len(references)
    trace = {"rows": rows, "pairs": len(pairs), "reference_words": round(length, 2)}
    return trace | {"signatures": scores["signatures"]}


def main() -> None:
    folder = training.arguments(__doc__, NAME).folder
    splits, facts = translation.load("multi30k")
    if not facts["is_full"]:
        raise SystemExit("Multi30k is needed: the translator has read its captions")
    model, processor = shipped()
    keep = functools.partial(training.kept, folder)
    pairs = splits["validation"][:PAIRS]
    trace = study(model, processor, pairs, SYSTEMS, keep)
    rows = trace["rows"]
    card = {
        "config": {"systems": SYSTEMS, "pairs": PAIRS},
        "data": facts | {"split": f"validation, the first {PAIRS} pairs; scores only"},
        "command": "python -m train.translation_search",
        "metrics": {name: row["BLEU"]["score"] for name, row in rows.items()},
        "licence": "MIT; of multi30k (research use) no text is kept",
    }
    weights.save(NAME, card, trace=trace)


if __name__ == "__main__":
    main()
