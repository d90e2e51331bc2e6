"""Matrices whose entries a reader can trace: point at one, and see what it came from.

`traceable` runs a function of matrices line by line and keeps how each line made its
matrix; matrices.js, beside this file, lets a reader walk through the entries.
"""

import ast
import html
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.figures.element import framed

# What a line may call; matrices.js explains these names. The caller's module defines them.
FUNCTIONS = {"softmax", "softmax_backward", "norm", "norm_backward"}
FUNCTIONS |= {"relu", "relu_backward", "join"}
SIGNS = {ast.MatMult: "@", ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


@dataclass(frozen=True)
class Matrix:
    """Values (rows, columns) with a label for each row and each column."""

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def matrix(values, rows, columns) -> Matrix:
    """Values (rows, columns) as float64, with their labels. ValueError if they differ."""
    values = torch.as_tensor(values, dtype=torch.float64)
    rows, columns = tuple(map(str, rows)), tuple(map(str, columns))
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"values: got shape {tuple(values.shape)}, wants {(len(rows), len(columns))},"
            " one label a row and a column"
        )
    return Matrix(values, rows, columns)


@dataclass(frozen=True)
class Traceable:
    """The matrices of a computation, given and made; `view["Q"]` is one of them.

    Of those given, E and W_… are learned.
    """

    title: str
    matrices: dict[str, Matrix]
    recipes: dict[str, dict]  # only of those made: op, args, by, text
    closed: bool = False  # a page shows the title, and the rest when it is opened

    def __getitem__(self, name: str) -> Matrix:
        return self.matrices[name]

    def folded(self) -> "Traceable":
        return replace(self, closed=True)

    def back(self, title: str, *steps: Callable, **more: Matrix) -> "Traceable":
        """Run `steps` on those of these matrices, and of `more`, that they ask for."""
        known = self.matrices | more
        asked = [name for step in steps for name in inspect.signature(step).parameters]
        return traceable(title, steps, **{n: known[n] for n in asked if n in known})

    def _repr_mimebundle_(self, include=None, exclude=None):
        names = ", ".join(self.matrices)
        return {"text/html": self._repr_html_(), "text/plain": f"{self.title}: {names}"}

    def _repr_html_(self) -> str:
        names: dict[int, list[str]] = {}  # a matrix that is given twice stands once
        for name, m in self.matrices.items():
            names.setdefault(id(m), []).append(name)
        tables = "\n".join(self._table(*same) for same in names.values())
        label = {"role": "group", "aria_label": self.title}
        shown = framed("matrices", self.recipes, tables, **label)
        if not self.closed:
            return shown
        title = html.escape(self.title)
        return f"<details><summary>{title}</summary>{shown}</details>"

    def _table(self, name: str, *others: str) -> str:
        made = self.recipes.get(name)
        kind = "learned" if name == "E" or name.startswith("W_") else "given"
        said = ", ".join([name, *others])
        caption = f"{name} = {made['text']}" if made else f"{said} · {kind}"
        marks = f' data-also="{" ".join(others)}"' if others else ""
        marks += "" if made else f' class="{kind}"'
        m = self.matrices[name]
        head = "".join(f'<th scope="col">{html.escape(c)}' for c in m.columns)
        body = "".join(
            f'<tr><th scope="row">{html.escape(row)}'
            + "".join(f"<td>{number(v)}" for v in values)
            for row, values in zip(m.rows, m.values.tolist(), strict=True)
        )
        return (
            f'<table data-name="{name}"{marks}><caption>{html.escape(caption)}</caption>'
            f"<tr><td>{head}{body}</table>"
        )


def number(value: float) -> str:
    """Three decimals at most: 0.333, −1, 0."""
    return f"{round(value, 3) + 0.0:.3f}".rstrip("0").rstrip(".").replace("-", "−")


def traceable(
    title: str, steps: Callable | Sequence[Callable], **given: Matrix
) -> Traceable:
    """Run `steps` on the matrices `given` by name, line by line, and keep each line.

    Several functions run one after another; a later one also takes what those before
    it made.

    A line of `steps` is `name = …` with one of: a product `A @ B`, a sum, difference or
    entry-wise product of two matrices, each also divided by a number, or a call of one of
    FUNCTIONS. Operands are names, also `A.T` and columns such as `A[:, 2:]`. The names
    in FUNCTIONS are looked up where `steps` was defined.

    Displayed in a notebook, all matrices stand as tables; a script lets a reader hover,
    tap or focus an entry and shows its row, its column and the sum.

    Raises:
        TypeError: an argument of `steps` is missing, or one of `given` is none of them.
        ValueError: a line has another form, or NaN or infinity comes out.
    """
    steps = [steps] if callable(steps) else steps
    found, recipes = dict(given), {}
    signatures = [inspect.signature(part) for part in steps]
    asked = {name for signature in signatures for name in signature.parameters}
    if odd := [name for name in given if name not in asked]:
        raise TypeError(f"given: {odd[0]!r} is no argument of the steps")
    for part, signature in zip(steps, signatures, strict=True):
        signature.bind(**{n: found[n] for n in found if n in signature.parameters})
        tree = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        for line in tree.body:
            if not isinstance(line, ast.Return):
                _run(line, found, recipes, part.__globals__)
    return Traceable(title, found, recipes)


def _run(line: ast.stmt, found: dict, recipes: dict, world: dict) -> None:
    """Run one line on the matrices found so far, and add what it makes."""
    if not (isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)):
        raise ValueError(f"wants lines of the form name = …: {ast.unparse(line)}")
    name, recipe = line.targets[0].id, _recipe(line.value)
    code = compile(ast.Expression(line.value), "<steps>", "eval")
    values = eval(code, world, {n: m.values for n, m in found.items()})
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    found[name] = matrix(values, *_labels(recipe, found))
    recipes[name] = recipe


def _recipe(node: ast.expr) -> dict:
    """How a line makes its matrix: op, args, and the number it is divided by."""
    text, by, whole = ast.unparse(node).replace(" ** ", "**"), None, node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        by = float(eval(compile(ast.Expression(node.right), "<number>", "eval"), {}))
        node = node.left
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        op, args = SIGNS[type(node.op)], [node.left, node.right]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in FUNCTIONS:
        op, args = node.func.id, node.args
    else:
        raise ValueError(f"not a step that can be traced: {ast.unparse(whole)}")
    recipe = {"op": op, "args": [_operand(arg) for arg in args], "text": text}
    return recipe | ({"by": by} if by else {})


def _operand(node: ast.expr) -> list:
    """[name, is transposed, first column, end], the columns before it is transposed."""
    if isinstance(node, ast.Attribute) and node.attr == "T":
        name, _, *columns = _operand(node.value)
        return [name, 1, *columns]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        columns = node.slice.elts[1]
        ends = columns.lower or ast.Constant(0), columns.upper or ast.Constant(None)
        return [node.value.id, 0, *(end.value for end in ends)]
    if isinstance(node, ast.Name):
        return [node.id, 0, 0, None]
    raise ValueError(f"not an operand that can be traced: {ast.unparse(node)}")


def _labels(recipe: dict, found: dict[str, Matrix]) -> tuple:
    """Rows of the first operand, and columns: of the second in a product, of all in join."""
    sides = []
    for name, transposed, first, end in recipe["args"]:
        side = found[name].rows, found[name].columns[first:end]
        sides.append(side[::-1] if transposed else side)
    columns = sides[recipe["op"] == "@"][1]
    if recipe["op"] == "join":
        columns = sum((side[1] for side in sides), ())
    return sides[0][0], columns
