"""Rows that this book wrote itself: one JSON object a line, beside the defaults.

They are complete as they are: there is no origin to ask, and nothing stands in.
"""

import json
from pathlib import Path

from lib.data.origin import DataError


def written_rows(path: Path, fields: dict[str, set[str]]) -> list[dict[str, str]]:
    """The rows of a file, in its order.

    Args:
        path: a file of JSON lines.
        fields: the fields that a row may consist of, by the name of that kind of row.

    Raises:
        DataError: a line is no JSON object, or its fields are not those of one kind, or
            not all of them are texts; the message names the file and the line.
    """
    rows = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            row = json.loads(line.decode())
        except ValueError as error:
            raise DataError(f"{place}: no JSON ({error})") from error
        if not isinstance(row, dict) or set(row) not in fields.values():
            got = sorted(row) if isinstance(row, dict) else type(row).__name__
            wants = " or ".join(f"{sorted(names)} ({k})" for k, names in fields.items())
            raise DataError(f"{place}: got {got}, wants {wants}")
        for name, text in row.items():
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{place}, {name}: got {text!r}, wants a text")
        rows.append(row)
    if not rows:
        raise DataError(f"{path.name}: no rows")
    return rows
