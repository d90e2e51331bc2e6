"""{measured}`forward ours ms 16384`: a number of `make bench` in the middle of a sentence.

A way, a method, a column and a length, as `weights.trace("bench")["attention"]` names
them. Columns: ms; mb; share, of the time of dense attention; ratio, of that time to the
method's own; slope and memory_slope, without a length. Also {measured}`cpu`,
{measured}`runs` and {measured}`crossover forward`.
"""

import json

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

RECORD = "checkpoints/bench/trace.json"
logger = logging.getLogger(__name__)


def said(record: dict, text: str) -> str:
    """What the record says, rounded to what another run would say too; KeyError if not."""
    first, *rest = text.split()
    if not rest:
        return str(record["setting"][first])
    if first == "crossover":
        T = record["crossover"][rest[0]]
        return "at no length" if T is None else f"{T:,}"
    method, column, *length = rest
    row = record[first][method]
    if not length:
        return f"{row[column]:.2f}"
    at = {T: i for i, T in enumerate(record["lengths"])}[int(length[0])]
    dense, ours = record[first]["dense"]["ms"][at], row["ms"][at]
    if ours is None:
        return "not measured"
    if column == "share":
        return f"{_short(100 * ours / dense)} %"
    if column == "ratio":
        return f"{_short(dense / ours)} times"
    return {"ms": "{} ms", "mb": "{} MB"}[column].format(_short(row[column][at]))


def _short(value: float) -> str:
    """Two digits, or three from 100 up."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


class Measured(SphinxRole):
    def run(self):
        path = self.env.srcdir / RECORD
        self.env.note_dependency(str(path))
        record = json.loads(path.read_text("utf8"))["attention"]
        try:
            return [nodes.Text(said(record, self.text))], []
        except (KeyError, ValueError, TypeError) as error:
            logger.warning(
                "measured: %s has no %r (%s)",
                RECORD,
                self.text,
                error,
                location=self.get_location(),
            )
            return [], []


def setup(app):
    app.add_role("measured", Measured())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
