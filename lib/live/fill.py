"""Gaps in a Japanese sentence that an encoder fills: the element of `hybrid-architecture`."""

import html

import torch

from lib import weights
from lib.live.element import Live
from lib.models.masked import MaskedLanguageModel
from lib.tokenizers import sentencepiece

FILES = (
    ("hybrid", "model.safetensors", ""),
    ("sentencepiece", "unigram-8000-bytes.model", ""),
)
GAP, FILLER = "[MASK]", 2  # </s> fills a short title up, as in training
READINGS = {  # of the pieces that the page's examples bring up
    "充電": "jūden, charge",
    "電源": "dengen, power supply",
    "バッテリー": "batterī, battery",
    "電池": "denchi, battery",
    "ケース": "kēsu, case",
    "本体": "hontai, the device itself",
    "画面": "gamen, screen",
    "と": "to, with or that",
    "以降": "ikō, from then on",
    "発売": "hatsubai, going on sale",
    "々": "the character before, again",
    "限定": "gentei, limited",
    "公開": "kōkai, release",
    "放送": "hōsō, broadcast",
    "発表": "happyō, announcement",
    "映画": "eiga, film",
    "もの": "mono, thing",
    "これ": "kore, this",
    "の": "no, of",
    "を": "o, object",
    "は": "wa, topic",
    "が": "ga, subject",
    "に": "ni, to or in",
    "で": "de, at or with",
}


def model() -> tuple[MaskedLanguageModel, sentencepiece.spm.SentencePieceProcessor]:
    """The shipped encoder, in float32, and its pieces."""
    found = MaskedLanguageModel(**weights.card("hybrid")["config"]["model"])
    state = {k: v.float() for k, v in weights.tensors("hybrid").items()}
    found.load_state_dict(state)
    pieces = sentencepiece.load(
        weights.path("sentencepiece", "unigram-8000-bytes.model")
    )
    return found.eval(), pieces


def encoded(pieces, title: str, body: str) -> list[int]:
    """The ids of a title, filled up, and of a body with its gaps."""
    config = weights.card("hybrid")["config"]
    head = pieces.encode(title)[: config["title"]]
    ids = head + [FILLER] * (config["title"] - len(head))
    for number, part in enumerate(body.split(GAP)):
        found = pieces.encode(part)
        # A ▁ stands before a text, not before what follows a gap.
        if number and found and pieces.id_to_piece(found[0]) == sentencepiece.SPACE:
            found = found[1:]
        ids += [config["mask"]] * bool(number) + found
    return ids[: config["title"] + config["body"]]


def fill(examples: list[tuple[str, str, str]]) -> Live:
    """The element, and its story: the five likeliest pieces of each gap.

    `examples` are (title, body with gaps, reading and meaning).
    Raises ValueError for an example without a gap.
    """
    net, pieces = model()
    config = weights.card("hybrid")["config"]
    rows = []
    for title, body, meaning in examples:
        if GAP not in body:
            raise ValueError(f"examples: {body!r} has no {GAP}")
        ids = torch.tensor([encoded(pieces, title, body)])  # (1, T)
        with torch.no_grad():
            logits = net(ids, None, ids == config["mask"])  # (gaps, V)
        for row in logits.softmax(-1):
            best = row.topk(5)
            told = [
                _named(pieces.id_to_piece(i)) + f" {share:.0%}"
                for i, share in zip(
                    best.indices.tolist(), best.values.tolist(), strict=True
                )
            ]
            rows.append((body, meaning, ", ".join(told)))
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    story = (
        "<table><thead><tr><th>sentence</th><th>reading and meaning</th>"
        f"<th>likeliest pieces</th></tr></thead><tbody>{cells}</tbody></table>"
    )
    shape = config["model"]
    names = ("num_heads", "base", "block", "window", "global_tokens")
    data = {
        "name": "Gaps are filled",
        "config": {name: shape[name] for name in names},
        "title": config["title"],
        "body": config["body"],
        "mask": config["mask"],
        "filler": FILLER,
        "examples": examples,
        "readings": READINGS,
    }
    return Live("fill", FILES, data, story)


def _named(piece: str) -> str:
    return f"{piece} ({READINGS[piece]})" if piece in READINGS else piece
