"""lib.world: the tokenizer in two libraries, completions, the shipped checkpoint."""

import itertools

import pytest
import torch
from tokenizers import Tokenizer as Backend

from lib import weights, world
from lib.data.world.items import graded, items
from lib.data.world.text import documents
from lib.models.pretraining import language_model

TEXT = [*itertools.islice(documents(0), 400)]
TOKENIZER = world.train_tokenizer(TEXT, 500)


def small():
    torch.manual_seed(0)
    return language_model(len(TOKENIZER.vocabulary), 16, 2, 1).eval()


def test_the_tokenizer_is_that_of_tokenizers():
    theirs = Backend.from_str(TOKENIZER.to_json())
    assert len(TOKENIZER.vocabulary) == theirs.get_vocab_size() == 500
    for text in [*TEXT[:100], "naïve 日本 \n\n x", ""]:
        ids = TOKENIZER.encode(text)
        assert theirs.encode(text).ids == ids
        assert TOKENIZER.decode(ids) == text
    assert world.read_tokenizer(TOKENIZER.to_json()) == TOKENIZER


def test_special_tokens_are_text_unless_asked_for():
    text = f"one{world.END}two{world.SPARE[0]}"
    ids = TOKENIZER.encode(text, special=True)
    assert ids.count(TOKENIZER.end) == 1 and TOKENIZER.decode(ids) == text
    assert TOKENIZER.end not in TOKENIZER.encode(text)
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert {*TOKENIZER.special().values()} == {*range(495, 500)}


def test_documents_end_with_the_end_token():
    ids = world.ids_of(TOKENIZER, TEXT[:5]).tolist()
    assert ids.count(TOKENIZER.end) == 5 and ids[-1] == TOKENIZER.end
    assert TOKENIZER.decode(ids) == "".join(t + world.END for t in TEXT[:5])


def test_completions_are_greedy_alone_or_together_and_stop():
    model, prompts = small(), ["Where does", "One", "The list fox, hen, cow begins"]
    together = world.complete(model, TOKENIZER, prompts, 12)
    alone = [world.complete(model, TOKENIZER, [p], 12)[0] for p in prompts]
    assert together == alone == world.complete(model, TOKENIZER, prompts, 12, size=2)
    ids = torch.tensor([TOKENIZER.encode(prompts[0])])
    for token in TOKENIZER.encode(together[0]):
        assert model(ids)[0, -1].argmax() == token
        ids = torch.cat((ids, torch.tensor([[token]])), 1)


def test_an_untrained_model_is_wrong_where_one_that_knows_is_right():
    some = items("town", held_out=True)
    knows = [f" {item.answer}. And more" for item in some]
    assert all(graded(some, knows)["town"])
    assert not any(graded(some, world.examined(small(), TOKENIZER, some))["town"])


shipped = pytest.mark.skipif(
    world.NAME not in weights.names(), reason="not trained yet"
)


@shipped
def test_the_shipped_model_knows_the_world():
    model, tokenizer = world.load()
    size = sum(p.numel() for p in model.parameters())
    assert 2e6 < size < 3e6 and len(tokenizer.vocabulary) == 1536
    theirs = Backend.from_file(str(weights.path(world.NAME, world.FILE)))
    assert all(theirs.encode(t).ids == tokenizer.encode(t) for t in TEXT[:50])
    examined = weights.trace(world.NAME)["examined"]
    for group, held in (("asked", False), ("held out", True)):
        some = items("town", held_out=held)
        right = graded(some, world.examined(model, tokenizer, some))["town"]
        recorded = examined["trained"]["kinds"][group]["town"]
        assert recorded["n"] == len(right)
        assert abs(recorded["right"] - sum(right)) <= 1
        trained, untrained = (
            examined[m]["all"][group] for m in ("trained", "untrained")
        )
        assert trained["interval_95"][0] > untrained["right"] / untrained["n"] + 0.2
        assert trained["interval_95"][0] > trained["guessed"] / trained["n"]
    untrained = world.untrained()
    assert [*untrained.state_dict()] == [*model.state_dict()]
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32, name
