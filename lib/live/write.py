"""A prompt that a small language model goes on from: the element of `language/decoding`."""

import html

import torch

from lib import decoding, filters, weights
from lib.live.element import Live
from lib.models.language import LanguageModel

FILES = (("feed-forward", "model.safetensors", "trained/"),)
SETTINGS = {
    "greedy": {"top_k": 1},
    "temperature 0.8": {"temperature": 0.8},
    "temperature 0.8, top-p 0.8": {"temperature": 0.8, "top_p": 0.8},
    "temperature 2": {"temperature": 2.0},
}


def model() -> tuple[LanguageModel, str]:
    """The character model of `block/feed-forward` and its characters, by id."""
    shape = weights.card("feed-forward")["config"]["shipped"]
    letters = weights.trace("feed-forward")["letters"]
    sizes = len(letters), shape["d_model"], shape["heads"], shape["layers"]
    found = LanguageModel(*sizes, positions="learned", length=shape["context"])
    state = {k: v.float() for k, v in weights.tensors("feed-forward").items()}
    kept = {k.removeprefix("trained/"): state[k] for k in state if k[0] == "t"}
    found.load_state_dict(kept)
    return found.eval(), letters


def write(prompt: str, new: int = 60) -> Live:
    """The element, and its story: `prompt` continued in four ways, the next characters.

    Raises ValueError for a prompt that is empty, has a character which the model does
    not know, or leaves no room for `new` ones.
    """
    net, letters = model()
    if not prompt or set(prompt) - set(letters) or len(prompt) + new > net.limit:
        raise ValueError(
            f"prompt: got {prompt!r}, wants 1 to {net.limit - new} letters"
        )
    ids = torch.tensor([[letters.index(letter) for letter in prompt]])  # (1, T)
    rows = []
    for name, setting in SETTINGS.items():
        generator = torch.Generator().manual_seed(0)
        step = decoding.cached(net)
        made = decoding.sample(step, ids, new, generator=generator, **setting)
        text = "".join(letters[i] for i in made[0, ids.shape[1] :].tolist())
        rows.append((name, text.replace("\n", "⏎")))
    logits = decoding.cached(net)(ids, None)  # (1, V)
    values, best = filters.filtered(logits)[0].softmax(-1).topk(5)
    next_ = ", ".join(
        f"{_named(letters[i])} {share:.0%}"
        for i, share in zip(best.tolist(), values.tolist(), strict=True)
    )
    shown = html.escape(prompt.replace("\n", "⏎"))
    body = "".join(
        f"<tr><td>{name}</td><td><code>{html.escape(text)}</code></td></tr>"
        for name, text in rows
    )
    story = (
        f"<p>After <code>{shown}</code> the likeliest next characters are "
        f"{html.escape(next_)}. So the model goes on, {new} characters each:</p>\n"
        f"<table><thead><tr><th>setting</th><th>text</th></tr></thead><tbody>{body}"
        "</tbody></table>"
    )
    config = {"num_heads": net.num_heads, "limit": net.limit}
    data = {
        "name": "A small model writes",
        "config": config,
        "letters": letters,
        "prompt": prompt,
    }
    return Live("write", FILES, data, story)


def _named(letter: str) -> str:
    return {" ": "space", "\n": "line break"}.get(letter, f"“{letter}”")
