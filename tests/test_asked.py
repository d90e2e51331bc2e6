"""A model that a page can do without."""

import pytest
from torch import nn

from lib.data.origin import Unreachable
from lib.pretrained.asked import asked
from lib.pretrained.origin import Pretrained, PretrainedError


def test_it_is_there():
    model = Pretrained(nn.Linear(2, 3), None, "tiny", "made here", "MIT")
    got = asked("tiny", lambda: model)
    assert got.found is model and repr(got) == repr(model)
    text, said = got._repr_mimebundle_()
    assert text == {"text/plain": "tiny: 9 weights · made here · MIT"}
    assert said == {"glassbox": {"name": "tiny", "is_full": True}}


@pytest.mark.parametrize("kind", [PretrainedError, Unreachable])
def test_it_is_not_there(kind):
    def load():
        raise kind("the hub does not answer")

    got = asked("tiny", load)
    assert got.found is None and repr(got) == "not here: the hub does not answer"
    assert got._repr_mimebundle_()[1] == {
        "glassbox": {"name": "tiny", "is_full": False}
    }


def test_any_other_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        asked("tiny", lambda: 1 / 0)
