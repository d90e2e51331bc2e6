"""What a page holds of a live element: its story without scripts, and what the script needs.

The scripts and the weights become files when the site is built (`publish`). Anywhere else –
Colab, JupyterLab, print – the story stands.
"""

import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib import weights
from lib.live import export


@dataclass(frozen=True)
class Live:
    """A model for the reader to use: `kind` names the script, `story` (HTML) is its still.

    `files` are what it loads; `data` holds "name", what its script asks for, and is JSON.
    """

    kind: str
    files: tuple[export.File, ...]
    data: dict
    story: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self._repr_html_(), "text/plain": self.data["name"]}

    def _repr_html_(self) -> str:
        names = dict.fromkeys(checkpoint for checkpoint, *_ in self.files)
        said = [f"{name}: {weights.card(name)['licence']}" for name in names]
        full = {
            **self.data,
            "credit": f"Weights of {'; '.join(said)}.",
            "files": [export.listed(*file) for file in self.files],
        }
        data = json.dumps(full, ensure_ascii=False, separators=(",", ":"))
        key = hashlib.sha256((self.kind + data + self.story).encode()).hexdigest()[:12]
        return (
            f'<div data-element="live" data-live="{self.kind}" data-key="{key}" '
            f'data-lm-suppress-shortcuts="true" data-with="{html.escape(data)}">\n'
            f"{self.story}\n</div>"
        )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a story: what stands in it is text, never markup."""
    line = "<tr>{}</tr>".format
    cells = "".join(
        line("".join(f"<td>{html.escape(cell)}</td>" for cell in row)) for row in rows
    )
    names = line("".join(f"<th>{html.escape(name)}</th>" for name in head))
    return f"<table><thead>{names}</thead><tbody>{cells}</tbody></table>"
