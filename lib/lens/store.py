"""Inner features in one SQLite file, in the table that VLM-Lens writes and reads.

A row is what one layer put out for one image and prompt. Nothing is unpickled beyond
tensors. Source: github.com/compling-wat/vlm-lens (October 2025).
"""

import io
import os
import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

SCHEMA = """CREATE TABLE tensors (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    architecture TEXT NOT NULL,
    timestamp DATETIME DEFAULT CURRENT_TIMESTAMP,
    image_path TEXT NULL,
    image_id INTEGER NULL,
    prompt TEXT NOT NULL,
    label TEXT NULL,
    layer TEXT NOT NULL,
    pooling_method TEXT NULL,
    tensor_dim INTEGER NOT NULL,
    tensor BLOB NOT NULL
)"""
COLUMNS = tuple(line.split()[0] for line in SCHEMA.splitlines()[1:-1])
NEEDED = {"layer", "tensor"}  # without these two there is nothing to read
# Which column says nothing by which text: `pooling_method: None` is a text in YAML.
NOTHING = {"pooling_method": "None", "image_path": "No image prompt"}
PATIENCE = 2.0  # seconds to wait for another program that writes


class StoreError(Exception):
    """A file is no such store, or does not let itself be used: the message says why."""


@dataclass(frozen=True)
class Row:
    """One row; what an older file has no column for is None.

    `tensor` is read from `blob` when asked for.
    """

    id: int | None
    name: str | None  # the path or name of the model
    architecture: str | None
    timestamp: str | None
    image_path: str | None
    image_id: int | None
    prompt: str | None
    label: str | None
    layer: str
    pooling_method: str | None
    tensor_dim: int | None
    blob: bytes = field(repr=False)
    file: str = field(default="", repr=False)

    @property
    def tensor(self) -> Tensor:
        """On the CPU, with memory of its own: not more than its numbers need.

        Raises StoreError for a blob that holds anything but one tensor, or another
        width than `tensor_dim`; nothing of it has been executed then.
        """
        where = f"{self.file}, row {self.id}, layer {self.layer}"
        try:
            found = torch.load(
                io.BytesIO(self.blob), map_location="cpu", weights_only=True
            )
        except pickle.UnpicklingError as error:
            raise StoreError(
                f"{where}: refused, since it holds a pickled object and not a tensor "
                "(VLM-Lens wrote whole model outputs before August 2025): "
                + _reason(error)
            ) from None
        except Exception as error:  # whatever torch says of bytes that it did not write
            raise StoreError(f"{where}: no tensor can be read: {error}") from None
        if not isinstance(found, Tensor):
            kind = type(found).__name__
            raise StoreError(f"{where}: refused, holds a {kind} and not a tensor")
        width = found.shape[-1] if found.ndim else None
        if self.tensor_dim not in (None, width):
            raise StoreError(
                f"{where}: tensor_dim is {self.tensor_dim}, the tensor's shape is "
                f"{tuple(found.shape)}"
            )
        return found.detach().clone()  # of a view, its own numbers alone


@dataclass(frozen=True)
class Store:
    """A file with the table; see `store`. Every call opens it, and closes it again."""

    path: Path

    def __len__(self) -> int:
        return sum(self.layers().values())

    def layers(self) -> dict[str, int]:
        """The names of the layers, and how many rows each has, in the order of writing."""
        with self._reading() as (connection, _):
            return dict(
                connection.execute(
                    "SELECT layer, count(*) FROM tensors GROUP BY layer ORDER BY min(rowid)"
                )
            )

    def rows(self, **equal: Any) -> Iterator[Row]:
        """All rows, or those whose columns are `equal`, in the order of writing.

        `rows(layer="layers.3", label="cat")`; None asks for what says nothing.

        Raises:
            ValueError: no such column.
            StoreError: as `store`; of a single bad blob, `Row.tensor` raises it.
        """
        if unknown := set(equal) - (set(COLUMNS) - {"tensor"}):
            known = ", ".join(c for c in COLUMNS if c != "tensor")
            raise ValueError(f"rows: {sorted(unknown)[0]!r} is none of {known}")
        for values in self._select(COLUMNS, equal):
            read = dict(zip(COLUMNS, values, strict=True))
            for column, text in NOTHING.items():
                read[column] = None if read[column] == text else read[column]
            blob = bytes(read.pop("tensor"))
            yield Row(**read, blob=blob, file=str(self.path))

    def add(
        self,
        tensors: Mapping[str, Tensor],
        *,
        name: str,
        architecture: str,
        prompt: str = "",
        image_path: str | os.PathLike | None = None,
        image_id: int | None = None,
        label: str | None = None,
        pooling_method: str | None = None,
    ) -> None:
        """Writes what the layers put out for one input: all of it, or nothing.

        `tensors` is layer -> tensor, as `hooks.reading` finds them. A file that is not
        there is made, with its table, in the same transaction.

        Raises:
            TypeError, ValueError: not tensors, or one without an axis.
            StoreError: the file cannot be written, or is another.
        """
        same = {
            "name": name,
            "architecture": architecture,
            "image_path": None if image_path is None else os.path.abspath(image_path),
            "image_id": image_id,
            "prompt": prompt,
            "label": label,
            "pooling_method": pooling_method,
        }
        columns = [*same, "layer", "tensor_dim", "tensor"]
        rows = [
            (*same.values(), layer, tensor.shape[-1], _blob(layer, tensor))
            for layer, tensor in _checked(tensors).items()
        ]
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO tensors ({', '.join(columns)}) VALUES ({marks})"
        with self._writing() as connection:
            connection.executemany(insert, rows)

    def written(self, **equal: Any) -> set[tuple]:
        """What is there: (image_path, image_id, prompt, layer) of rows that are `equal`.

        A run that was stopped leaves these out. Empty where there is no file yet, else
        errors as `rows`.
        """
        if not self.path.exists():
            return set()
        return set(self._select(("image_path", "image_id", "prompt", "layer"), equal))

    def _select(self, columns: Iterable[str], equal: Mapping[str, Any]) -> Iterator:
        with self._reading() as (connection, there):
            named = [c if c in there else f"NULL AS {c}" for c in columns]
            wanted, values = ["1"], []
            for column, value in equal.items():
                name = column if column in there else "NULL"
                if value is None and column in NOTHING:
                    wanted.append(f"coalesce({name}, ?) = ?")
                    values += [NOTHING[column]] * 2
                else:
                    wanted.append(f"{name} IS ?")
                    values.append(value)
            yield from connection.execute(
                f"SELECT {', '.join(named)} FROM tensors "
                f"WHERE {' AND '.join(wanted)} ORDER BY rowid",
                values,
            )

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, set[str]]]:
        # "rw", since what a killed writer left must be rolled back before one can read;
        # SQLite opens a file that may not be written for reading all the same.
        with _connection(self.path, "rw") as connection:
            there = _columns(connection, self.path)
            if not there:
                raise StoreError(f"{self.path}: no table `tensors`, the file is empty")
            if missing := NEEDED - there:
                raise StoreError(
                    f"{self.path}: its table `tensors` has no column "
                    + ", ".join(sorted(missing))
                )
            yield connection, there

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _connection(self.path, "rwc") as connection:
            connection.execute("BEGIN IMMEDIATE")  # fails at once where it is locked
            try:
                there = _columns(connection, self.path)
                if not there:
                    connection.execute(SCHEMA)
                elif missing := [c for c in COLUMNS if c not in there]:
                    raise StoreError(
                        f"{self.path}: an older file, without {', '.join(missing)}: "
                        "write to a new one"
                    )
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def store(path: str | os.PathLike) -> Store:
    """The features in a file of VLM-Lens, or in one that `add` will make.

    Files of the published tool are read, older ones too: columns that they lack are
    None, `pooling_method` "None" is None. What they hold beyond tensors is refused.

    Reading and writing raise StoreError for a file that is not there, is no SQLite
    file, has another schema, is locked by another program or may not be written.
    """
    return Store(Path(path))


@contextmanager
def _connection(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open in SQLite's `mode`; every error of SQLite as one that says what to do."""
    if mode != "rwc" and not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}")
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = None
    try:
        connection = sqlite3.connect(
            address, uri=True, timeout=PATIENCE, isolation_level=None
        )
        yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_advice(str(error))}") from error
    finally:
        if connection is not None:
            connection.close()


def _advice(error: str) -> str:
    for part, advice in {
        "locked": "another program, or a loop over `rows` that has not ended, holds it",
        "readonly": "it may not be written: check its rights, or write to a new file",
        "unable to open": "it cannot be opened: check its rights and its folder's",
        "not a database": "this is no SQLite file",
        "malformed": "the file is damaged",
        "full": "there is no space left",
    }.items():
        if part in error:
            return f"{advice} ({error})"
    return error


def _columns(connection: sqlite3.Connection, path: Path) -> set[str]:
    """The columns of the table; none in an empty file. Another schema is a StoreError."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(tensors)")}
    if not there:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        if others := [name for (name,) in connection.execute(query)]:
            raise StoreError(
                f"{path}: another schema, with the tables {', '.join(others)} and no "
                "`tensors`"
            )
    return there


def _checked(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for layer, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise TypeError(f"tensors: {layer} is a {kind}, wants a torch.Tensor")
        if not tensor.ndim:
            raise ValueError(f"tensors: {layer} is one number, wants one axis at least")
    if not tensors:
        raise ValueError("tensors: got none, wants one layer at least")
    return tensors


def _blob(layer: str, tensor: Tensor) -> bytes:
    """As `torch.save` writes it; of a clone, else a view takes its whole storage along."""
    written = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(), written)
    return written.getvalue()


def _reason(error: Exception) -> str:
    """The line of torch's long message that names what was refused."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (said or lines)[0]
