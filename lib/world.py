"""The model of the small world: its tokenizer, its weights, and how it is examined.

What the world is, and the questions, live in `lib.data.world`; the training in
`train/world.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lib import decoding, weights
from lib.data.world.items import Item
from lib.models.language import LanguageModel
from lib.models.pretraining import language_model
from lib.tokenizers import bpe, presplit

NAME, FILE = "world", "tokenizer.json"
END = "<|end|>"  # after each document
# Rows of the table that no text reaches: for the marks of a later training.
SPARE = ("<|spare-0|>", "<|spare-1|>", "<|spare-2|>", "<|spare-3|>")
SPECIAL = (END, *SPARE)


@dataclass
class Tokenizer:
    """Byte-level BPE with special tokens, whose ids follow those of the merges.

    `vocabulary` holds both; `merges` are pairs of tokens in their order.
    """

    vocabulary: dict[str, int] = field(repr=False)
    merges: list[tuple[str, str]] = field(repr=False)

    @cached_property
    def ranks(self) -> dict[tuple[str, str], int]:
        return bpe.ranks(self.merges)

    @cached_property
    def tokens(self) -> list[str]:
        return list(self.vocabulary)

    @property
    def end(self) -> int:
        return self.vocabulary[END]

    def special(self) -> dict[str, int]:
        return {token: self.vocabulary[token] for token in SPECIAL}

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text; special tokens in it are text, unless `special`."""
        known = self.special() if special else None
        return bpe.encode(text, self.vocabulary, self.ranks, special=known)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens stand in it by their names."""
        tokens, marks = self.tokens, {*self.special().values()}
        parts, word = [], []
        for i in [*ids, None]:
            if i is None or i in marks:
                parts += [bpe.decode(word, tokens), *([] if i is None else [tokens[i]])]
                word = []
            else:
                word.append(i)
        return "".join(parts)

    def to_json(self) -> str:
        """The same tokenizer in the format of ``tokenizers.Tokenizer.from_str``."""
        return _backend(self.vocabulary, self.merges).to_str()


def train_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Byte-level BPE of `size` tokens, the special ones among them."""
    counts = presplit.count(texts)
    vocabulary, merges = bpe.train(
        counts, size - len(SPECIAL), more=presplit.CHARACTERS
    )
    vocabulary |= {token: len(vocabulary) + n for n, token in enumerate(SPECIAL)}
    return Tokenizer(vocabulary, merges)


def read_tokenizer(text: str) -> Tokenizer:
    """Ours, of what `to_json` wrote."""
    found = json.loads(text)
    vocabulary, merges = found["model"]["vocab"], found["model"]["merges"]
    vocabulary = dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))
    for token in found["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
    return Tokenizer(vocabulary, [tuple(pair) for pair in merges])


def _backend(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    plain = {token: n for token, n in vocabulary.items() if token not in SPECIAL}
    made = Backend(models.BPE(vocab=plain, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token) for token in SPECIAL])
    return made


def load() -> tuple[LanguageModel, Tokenizer]:
    """The shipped model in evaluation mode, in float32, and its tokenizer.

    Raises:
        WeightsError: the checkpoint is missing or is not what its card says.
    """
    tokenizer = read_tokenizer(weights.path(NAME, FILE).read_text(encoding="utf-8"))
    model = language_model(
        len(tokenizer.vocabulary), **weights.card(NAME)["config"]["model"]
    )
    model.load_state_dict(weights.tensors(NAME))
    return model.eval(), tokenizer


def untrained(seed: int = 0) -> LanguageModel:
    """The same model before its training, as a control."""
    config = weights.card(NAME)["config"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return language_model(config["vocabulary"], **config["model"]).eval()


@torch.no_grad()
def complete(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    new_tokens: int = 24,
    size: int = 64,
) -> list[str]:
    """What the model writes after each prompt, up to a full stop or a line's end.

    Greedy: the likeliest token each time. `size` prompts pass at once, of about one
    length, so that little is computed on padding.
    """
    stops = [i for token, i in tokenizer.vocabulary.items() if _stops(token)]
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    found = [""] * len(ids)
    for first in range(0, len(order), size):
        some = order[first : first + size]
        padded, mask = decoding.pad_left([ids[n] for n in some])
        step = decoding.cached(model, mask)
        new = decoding.greedy(step, padded, new_tokens, eos=stops, pad=tokenizer.end)
        for n, row in zip(some, new[:, padded.shape[1] :].tolist(), strict=True):
            found[n] = tokenizer.decode(row).split(END)[0]
    return found


def _stops(token: str) -> bool:
    return token == END or (token not in SPARE and bool({*token} & {".", "Ċ"}))


def examined(
    model: nn.Module, tokenizer: Tokenizer, items: Sequence[Item]
) -> list[str]:
    """The model's completions of the items, in their order."""
    return complete(model, tokenizer, [item.prompt for item in items])


def ids_of(tokenizer: Tokenizer, documents: Sequence[str]) -> Tensor:
    """One text of all documents, each with the end token after it: ids (N,)."""
    text = "".join(document + END for document in documents)
    return torch.tensor(tokenizer.encode(text, special=True))
