"""What nbval leaves out: pictures are compared too, data counts, and what ran is kept.

The kept notebooks feed the site's test, so one execution serves both.
"""

import base64
import io
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbval.plugin import IPyNbCell
from PIL import Image, ImageSequence
from scipy.ndimage import uniform_filter

from notebooks import DATA_TAGS, KEY

PICTURE_MEAN = 2.0  # mean absolute difference of a whole picture, of 255
PICTURE_TILE = 6.0  # the same in any 16 x 16 tile: a changed digit shows here
NUMBERS = 0.02  # of a replay's values, relative to the largest


def pytest_addoption(parser):
    parser.addoption(
        "--keep-executed", metavar="DIR", help="write executed notebooks here"
    )


# Comparison


def compare(cell, now, stored):
    """Replace nbval's comparison: data tags first, then text, then pictures."""
    tags = set(cell.cell.metadata.get("tags", []))
    answered = vars(cell.parent).setdefault("answered", {})
    for output in now:
        said = output.get("metadata", {}).get(KEY)
        if said:
            answered[said["name"]] = (
                answered.get(said["name"], True) and said["is_full"]
            )
    lesser = sorted(name for name in tags & DATA_TAGS if not answered.get(name, True))
    if lesser:
        if stored and not _differences(cell, now, stored):
            return _fail(
                cell, f"the tag {lesser} is not needed: the output is the same"
            )
        cell.user_properties.append(("glassbox", f"{', '.join(lesser)}: default data"))
        return True
    if "timing" in tags:
        cell.user_properties.append(("glassbox", "timings"))
        return True
    cell.user_properties.append(("glassbox", "compared"))
    problem = _differences(cell, now, stored)
    return _fail(cell, problem) if problem else True


def _fail(cell, problem):
    cell.comparison_traceback = [
        problem,
        "Is the change meant? Then run 'make refresh'.",
    ]
    return False


def _differences(cell, now, stored):
    now, stored = list(_flat(now)), list(_flat(stored))
    kinds = [kind for kind, _ in now], [kind for kind, _ in stored]
    if kinds[0] != kinds[1]:
        return f"outputs {kinds[0]}, stored {kinds[1]}"
    for (kind, new), (_, old) in zip(now, stored, strict=True):
        if kind in ("image/png", "image/gif"):
            problem = _picture_differs(base64.b64decode(new), base64.b64decode(old))
        elif kind == "text/html":
            problem = _html_differs(cell.sanitize(new), cell.sanitize(old))
        elif cell.sanitize(new) != cell.sanitize(old):
            problem = f"now:\n{new}\nstored:\n{old}"
        else:
            continue
        if problem:
            return f"{kind} differs. {problem}"
    return None


def _flat(outputs):
    """Each thing to compare as (kind, text)."""
    for output in outputs:
        if output.output_type == "stream":
            yield output.name, output.text
        elif output.output_type == "error":
            yield "error", f"{output.ename}: {output.evalue}"
        else:
            data = output["data"]
            drawn = {"image/png", "image/gif", "text/html"} & set(data)
            for kind in sorted(data):
                if not (kind == "text/plain" and drawn):  # a name such as <Figure …>
                    value = data[kind]
                    yield kind, value if isinstance(value, str) else json.dumps(value)


def _picture_differs(new: bytes, old: bytes):
    if new == old:
        return None
    with Image.open(io.BytesIO(new)) as a, Image.open(io.BytesIO(old)) as b:
        if getattr(a, "n_frames", 1) != getattr(b, "n_frames", 1):
            return "another number of frames"
        for number, frames in enumerate(
            zip(ImageSequence.Iterator(a), ImageSequence.Iterator(b), strict=True)
        ):
            x, y = (np.asarray(f.convert("RGB"), dtype=np.float32) for f in frames)
            if x.shape != y.shape:
                return f"size {x.shape}, stored {y.shape}"
            gap = np.abs(x - y).mean(axis=2)
            tile = uniform_filter(gap, 16, mode="constant").max()
            if gap.mean() > PICTURE_MEAN or tile > PICTURE_TILE:
                return f"frame {number}: mean {gap.mean():.2f}, worst tile {tile:.1f} of 255"
    return None


# What a replay's HTML holds beside its script: a digest, a still and the numbers.
DIGEST = re.compile(r'(?<=data-key=")[0-9a-f]+|(?<=\}\)\(")[0-9a-f]+(?=", \{)')
PIECES = re.compile(
    r"data:image/png;base64,(?P<png>[A-Za-z0-9+/=]+)"
    r'|(?<=\}\)\("…", )(?P<json>\{.*\})(?=\);?\s*</script>)'
)


def _html_differs(new: str, old: str):
    """Text exactly, embedded pictures and a replay's numbers within a tolerance."""
    if new == old:
        return None
    new, old = DIGEST.sub("…", new), DIGEST.sub("…", old)
    a, b = list(PIECES.finditer(new)), list(PIECES.finditer(old))
    texts = [PIECES.sub("…", text) for text in (new, old)]
    if texts[0] != texts[1] or len(a) != len(b):
        return f"now:\n{texts[0][:2000]}\nstored:\n{texts[1][:2000]}"
    for x, y in zip(a, b, strict=True):
        if x["png"] and y["png"]:
            problem = _picture_differs(
                base64.b64decode(x["png"]), base64.b64decode(y["png"])
            )
        else:
            problem = _json_differs(json.loads(x["json"]), json.loads(y["json"]))
        if problem:
            return problem
    return None


def _json_differs(new, old):
    new, old = list(_leaves(new)), list(_leaves(old))
    scale = max((abs(v) for v in old if isinstance(v, float)), default=1.0)
    if len(new) != len(old):
        return "another number of values"
    for x, y in zip(new, old, strict=True):
        both = isinstance(x, float) and isinstance(y, float)
        if (both and abs(x - y) > NUMBERS * scale) or (not both and x != y):
            return f"{x!r}, stored {y!r}"
    return None


def _leaves(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield float(value) if isinstance(value, int | float) else value


IPyNbCell.compare_outputs = compare


def pytest_collection_modifyitems(items):
    for item in items:
        if (
            isinstance(item, IPyNbCell)
            and item.cell.execution_count != item.cell_num + 1
        ):
            # nbval passes a cell without a count, with nothing compared.
            item.runtest = partial(
                item.raise_cell_error,
                f"stored with execution count {item.cell.execution_count}, not"
                f" {item.cell_num + 1}: not executed, or a cell was dropped."
                " Run 'make refresh'",
            )


# What ran is kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    result = yield
    target = item.config.getoption("--keep-executed")
    if target and isinstance(item, IPyNbCell):
        if item.test_outputs is not None:
            item.cell.outputs = item.test_outputs
        item.cell.execution_count = item.cell_num + 1
        for output in item.cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = item.cell.execution_count
        if nextitem is None or nextitem.parent is not item.parent:
            file = Path(target, item.path.relative_to(item.config.rootpath))
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(nbformat.writes(item.parent.nb), "utf8")
            part.replace(file)
    return result


def pytest_terminal_summary(terminalreporter, config):
    """Count the cells in the closing line, and keep it for the end of `make test`."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
    ]
    counts = Counter(
        value
        for report in reports
        for key, value in getattr(report, "user_properties", [])
        if key == "glassbox"
    )
    if counts:
        compared = counts.pop("compared", 0)
        rest = ", ".join(
            f"{count} not ({why})" for why, count in sorted(counts.items())
        )
        line = f"notebook cells: {compared} compared" + (f", {rest}" if rest else "")
        terminalreporter.write_line(line)
        Path(config.rootpath, "_build").mkdir(exist_ok=True)
        Path(config.rootpath, "_build", "cells.txt").write_text(line + "\n")
