"""A model or data that a page can do without: it runs where the model is, and says where not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib.data.origin import Unreachable
from lib.pretrained.origin import PretrainedError


@dataclass(frozen=True, eq=False)
class Asked:
    """A model or a data set, or why there is none; its display is that one line.

    `name` is the tag of the cells whose output depends on it: where `found` is None,
    their outputs are not compared, as with a data set that did not answer.
    """

    name: str
    found: Any
    notice: str

    def __repr__(self) -> str:
        return repr(self.found) if self.found else f"not here: {self.notice}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        state = {"name": self.name, "is_full": self.found is not None}
        return {"text/plain": repr(self)}, {"glassbox": state}


def asked(name: str, load: Callable[[], Any]) -> Asked:
    """What `load` gives, or why it is not to be had; any other error is raised."""
    try:
        return Asked(name, load(), "")
    except (PretrainedError, Unreachable) as error:
        return Asked(name, None, str(error))
