"""A prompt that a small language model goes on from: the element of `language/decoding`.

The models are those whose tokens are characters; which one, the page says.
"""

import html

import torch

from lib import decoding, filters, weights
from lib.live.element import Live, table
from lib.live.export import File
from lib.models.language import LanguageModel
from lib.models.pretraining import language_model

FILES = (("feed-forward", "model.safetensors", "trained/"),)
SETTINGS = {
    "greedy": {"top_k": 1},
    "temperature 0.8": {"temperature": 0.8},
    "temperature 0.8, top-p 0.8": {"temperature": 0.8, "top_p": 0.8},
    "temperature 2": {"temperature": 2.0},
}


def model(checkpoint: str = "feed-forward") -> tuple[LanguageModel, str, File, dict]:
    """A shipped model in float32; its characters by id; its file; what is to be known.

    That is, for the browser: the heads, how many characters it reads, and what parts
    it has. Checkpoints: "feed-forward", or one of `train.pretraining`.
    """
    card = weights.card(checkpoint)["config"]
    if checkpoint == "feed-forward":
        file, shape = FILES[0], card["shipped"]
        letters = weights.trace(checkpoint)["letters"]
        sizes = len(letters), shape["d_model"], shape["heads"], shape["layers"]
        found = LanguageModel(*sizes, positions="learned", length=shape["context"])
        config = {"limit": found.limit}
    else:
        file, letters = (checkpoint, weights.TENSORS, ""), card["vocabulary"]
        found = language_model(len(letters), **card["model"])
        config = {"limit": card["length"], "base": found.scale}
        config |= {"activation": "relu squared"}
    kept = {
        name.removeprefix(file[2]): tensor.float()
        for name, tensor in weights.tensors(checkpoint).items()
        if name.startswith(file[2])
    }
    found.load_state_dict(kept)
    return found.eval(), letters, file, {"num_heads": found.num_heads, **config}


def write(prompt: str, new: int = 60, checkpoint: str = "feed-forward") -> Live:
    """The element, and its story: `prompt` continued in four ways, the next characters.

    `checkpoint` as in `model`. Raises ValueError for a prompt that is empty, has a
    character which the model does not know, or leaves no room for `new` ones.
    """
    net, letters, file, config = model(checkpoint)
    room = config["limit"] - new
    if not prompt or set(prompt) - set(letters) or len(prompt) > room:
        raise ValueError(f"prompt: got {prompt!r}, wants 1 to {room} letters")
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
    story = (
        f"<p>After <code>{shown}</code> the likeliest next characters are "
        f"{html.escape(next_)}. So the model goes on, {new} characters each:</p>\n"
        + table(("setting", "text"), rows)
    )
    table_ends = f"The table of positions ends at {config['limit']} characters"
    read_so_far = f"The model was trained on texts of {config['limit']} characters"
    data = {
        "name": "A small model writes",
        "config": config,
        "letters": letters,
        "prompt": prompt,
        "end": read_so_far if "base" in config else table_ends,
    }
    return Live("write", (file,), data, story)


def _named(letter: str) -> str:
    return {" ": "space", "\n": "line break"}.get(letter, f"“{letter}”")
