"""What nbval leaves out: pictures are compared too, data counts, and what ran is kept.

The kept notebooks feed the site's test, so one execution serves both.
"""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import nbformat
import pytest
from compare import differs
from nbval.plugin import IPyNbCell

from notebooks import DATA_TAGS, KEY


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
        problem = differs(kind, cell.sanitize(new), cell.sanitize(old))
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
