"""lib.lens.store: VLM-Lens' table, both ways; older files; nothing is executed."""

import io
import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from lib.lens import store as module
from lib.lens.store import COLUMNS, StoreError, store

# The tables that the published tool has made, by the month of the change.
MARCH = """id INTEGER PRIMARY KEY, name TEXT NOT NULL, architecture TEXT NOT NULL,
    layer TEXT NOT NULL, tensor BLOB NOT NULL"""
BEFORE = """id INTEGER PRIMARY KEY, name TEXT NOT NULL, architecture TEXT NOT NULL,
    timestamp DATETIME DEFAULT CURRENT_TIMESTAMP,"""
AFTER = """prompt TEXT NOT NULL, label TEXT NULL, layer TEXT NOT NULL,"""
END = "tensor_dim INTEGER NOT NULL, tensor BLOB NOT NULL"
SCHEMAS = {
    "March 2025": MARCH,
    "17 August": f"{BEFORE} image_id INTEGER NOT NULL, {AFTER} tensor BLOB NOT NULL",
    "21 August": f"{BEFORE} image_path TEXT NOT NULL, {AFTER} {END}",
    "21 August, later": f"""{BEFORE} image_path TEXT NULL, image_id INTEGER NULL,
        {AFTER} {END}""",
    "18 September": f"""{BEFORE} image_path TEXT NULL, image_id INTEGER NULL,
        {AFTER} pooling_method TEXT NULL, {END}""",
}
VALUES = {
    "name": "Qwen/Qwen2-VL-2B-Instruct",
    "architecture": "qwen",
    "image_path": "/data/a.png",
    "image_id": 7,
    "prompt": "Describe the color in this image in one word.",
    "label": "red",
    "layer": "visual.blocks.31",
    "pooling_method": "None",
    "tensor_dim": 4,
}
X = torch.arange(12.0).reshape(1, 3, 4)


def saved(value):
    written = io.BytesIO()
    torch.save(value, written)
    return written.getvalue()


def published(path, schema="18 September", value=X, **other):
    """A file as the tool writes it, by its schema alone."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS tensors ({SCHEMAS[schema]});")
        found = connection.execute("PRAGMA table_info(tensors)").fetchall()
        there = {row[1] for row in found}
        values = VALUES | {"tensor": saved(value)} | other
        values = {key: values[key] for key in values if key in there}
        marks = ", ".join("?" * len(values))
        connection.execute(
            f"INSERT INTO tensors ({', '.join(values)}) VALUES ({marks});",
            list(values.values()),
        )
    connection.close()
    return path


# --- Both ways -------------------------------------------------------------------


def test_the_table_is_the_published_one(tmp_path):
    ours, theirs = tmp_path / "ours.db", published(tmp_path / "theirs.db")
    store(ours).add({"a": X}, name="n", architecture="a")
    found = []
    for path in (ours, theirs):
        connection = sqlite3.connect(path)
        found.append(connection.execute("PRAGMA table_info(tensors)").fetchall())
        connection.close()
    assert found[0] == found[1]  # names, types, NOT NULL, defaults, primary key
    assert [row[1] for row in found[0]] == list(COLUMNS)


def test_ours_is_read_by_the_published_schema(tmp_path):
    """What the tool's `select_tensors` does, with the same columns."""
    path = tmp_path / "a.db"
    store(path).add(
        {"layers.0": X, "layers.1": X[..., :2].half()},
        name="vit",
        architecture="glass-box",
        prompt="Which colour?",
        image_path=tmp_path / "a.png",
        image_id=3,
        label="red",
        pooling_method="mean",
    )
    connection = sqlite3.connect(path)
    query = """SELECT name, architecture, timestamp, image_path, image_id, prompt, label,
        layer, pooling_method, tensor_dim, tensor FROM tensors WHERE layer = 'layers.1'"""
    ((*texts, blob),) = connection.execute(query).fetchall()
    connection.close()
    assert texts[2][:2] == "20" and len(texts.pop(2)) == 19  # CURRENT_TIMESTAMP
    assert texts == [
        *("vit", "glass-box", str(tmp_path / "a.png"), 3, "Which colour?", "red"),
        *("layers.1", "mean", 2),
    ]
    tensor = torch.load(io.BytesIO(blob), map_location="cpu")
    assert torch.equal(tensor, X[..., :2].half())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_of_the_tool_are_read(tmp_path, schema):
    path = published(published(tmp_path / "a.db", schema), schema, layer="lm_head")
    found = store(path)
    assert len(found) == 2 and found.layers() == {"visual.blocks.31": 1, "lm_head": 1}
    row, other = found.rows()
    assert torch.equal(row.tensor, X) and other.layer == "lm_head"
    for column in set(VALUES) - {"pooling_method"}:
        wanted = VALUES[column] if f"{column} " in SCHEMAS[schema] else None
        assert getattr(row, column) == wanted, column
    assert (
        row.pooling_method is None
    )  # and neither the text "None" nor a missing column
    assert [r.id for r in found.rows(pooling_method=None, name=VALUES["name"])] == [
        1,
        2,
    ]
    assert not [*found.rows(pooling_method="mean")]
    assert [r.layer for r in found.rows(layer="lm_head")] == ["lm_head"]


def test_no_image_is_none(tmp_path):
    path = published(tmp_path / "a.db", image_path="No image prompt")
    (row,) = store(path).rows(image_path=None)
    assert row.image_path is None


def test_a_view_is_stored_and_read_with_its_own_numbers(tmp_path):
    whole = torch.randn(1, 197, 1840)
    view = whole[:, :1]
    path = published(tmp_path / "tool.db", value=view, tensor_dim=1840)
    (row,) = store(path).rows()
    assert len(row.blob) > 1.4e6  # the tool's blob holds the whole storage
    assert torch.equal(row.tensor, view)
    assert row.tensor.untyped_storage().nbytes() == view.numel() * 4
    ours = store(tmp_path / "ours.db")
    ours.add(
        {"a": view, "b": whole.mT[..., :1], "c": X[:1].expand(9, -1, -1)[:2]}, **NAMED
    )
    a, b, c = ours.rows()
    assert len(a.blob) < 9_000 and len(b.blob) < 9_000
    assert torch.equal(b.tensor, whole.mT[..., :1]) and c.tensor.shape == (2, 3, 4)


NAMED = {"name": "vit", "architecture": "glass-box"}


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2, dtype=torch.bfloat16), torch.arange(3), torch.ones(1, 0, 4)],
    ids=["bfloat16", "int64", "empty"],
)
def test_any_kind_of_tensor(tmp_path, tensor):
    found = store(tmp_path / "a.db")
    found.add({"a": tensor.requires_grad_(tensor.is_floating_point())}, **NAMED)
    (row,) = found.rows()
    assert torch.equal(row.tensor, tensor) and row.tensor.dtype == tensor.dtype
    assert not row.tensor.requires_grad and row.tensor_dim == tensor.shape[-1]


# --- What is refused -------------------------------------------------------------


class Trap:
    """Unpickling this makes a file."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (Trap(), {"x": Trap()}, BaseModelOutput(last_hidden_state=X)):
        path = published(tmp_path / "a.db", "17 August", value=value)
        row = [*store(path).rows()][-1]
        with pytest.raises(StoreError, match=r"row \d, layer visual.*refused, since"):
            _ = row.tensor
    path = published(tmp_path / "b.db", tensor=pickle.dumps(Trap()))
    (row,) = store(path).rows()
    with pytest.raises(StoreError):
        _ = row.tensor
    assert not (tmp_path / "trapped").exists()
    published(path)  # a bad row does not hide the good ones
    assert torch.equal([*store(path).rows()][-1].tensor, X)


@pytest.mark.parametrize(
    "other, message",
    [
        ({"tensor": saved({"x": X})}, "row 1, layer .*refused, holds a dict and not"),
        ({"tensor": saved(X)[:200]}, "row 1, layer visual.*: no tensor can be read"),
        ({"tensor": b"\x00" * 40}, "row 1, layer visual.*: "),
        ({"tensor_dim": 5}, r"tensor_dim is 5, the tensor's shape is \(1, 3, 4\)"),
        ({"tensor": saved(X.sum())}, "tensor_dim is 4, the tensor's shape is"),
    ],
)
def test_a_bad_blob_is_named(tmp_path, other, message):
    (row,) = store(published(tmp_path / "a.db", **other)).rows()
    with pytest.raises(StoreError, match=message):
        _ = row.tensor


def test_files_that_are_no_store(tmp_path):
    def message(path, text, way=lambda found: [*found.rows()]):
        with pytest.raises(StoreError, match=text):
            way(store(path))

    write = lambda found: found.add({"a": X}, **NAMED)  # noqa: E731
    message(tmp_path / "none.db", "there is no such file")
    assert store(tmp_path / "none.db").written() == set()
    message(tmp_path / "no" / "a.db", "there is no folder", write)
    (tmp_path / "text.db").write_text("name,layer\n" * 100)
    before = (tmp_path / "text.db").read_bytes()
    for way in (len, write):
        message(tmp_path / "text.db", "this is no SQLite file", way)
    assert (tmp_path / "text.db").read_bytes() == before
    (tmp_path / "empty.db").touch()
    message(tmp_path / "empty.db", "the file is empty")
    message(tmp_path, "there is no such file")
    message(tmp_path, "it cannot be opened", write)
    for name, table, said in (
        (
            "other.db",
            "CREATE TABLE birds (name TEXT)",
            "another schema, with the .* birds",
        ),
        (
            "less.db",
            "CREATE TABLE tensors (id INTEGER, name TEXT)",
            "no column layer, te",
        ),
    ):
        with sqlite3.connect(tmp_path / name) as connection:
            connection.execute(table)
        connection.close()
        message(tmp_path / name, said)
        before = (tmp_path / name).read_bytes()
        message(tmp_path / name, "another schema|an older file, without arch", write)
        assert (tmp_path / name).read_bytes() == before
    older = published(tmp_path / "older.db", "21 August")
    message(older, "an older file, without image_id, pooling_method: write to", write)
    assert len(store(older)) == 1


def test_locked_and_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    path = tmp_path / "a.db"
    found = store(path)
    found.add({"a": X, "c": X, "d": X}, **NAMED)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for way in (len, lambda f: f.add({"b": X}, **NAMED)):
        with pytest.raises(StoreError, match=r"a\.db: another program, .* holds it"):
            way(found)
    other.execute("ROLLBACK")
    other.close()
    rows = found.rows()
    next(rows)
    with pytest.raises(StoreError, match="a loop over `rows` that has not ended"):
        found.add({"b": X}, **NAMED)
    rows.close()
    assert found.layers() == {"a": 1, "c": 1, "d": 1}
    with (
        pytest.raises(StoreError, match="it may not be written: check its rights"),
        module._connection(path, "ro") as connection,
    ):
        connection.execute("DELETE FROM tensors")
    assert len(found) == 3


def test_bad_arguments(tmp_path):
    found = store(tmp_path / "a.db")
    for tensors, error, message in (
        ({"a": X, "b": [1.0]}, TypeError, "tensors: b is a list, wants a torch.Tensor"),
        ({"a": X, "b": X.sum()}, ValueError, "tensors: b is one number"),
        ({}, ValueError, "tensors: got none"),
    ):
        with pytest.raises(error, match=message):
            found.add(tensors, **NAMED)
    assert not found.path.exists()  # nothing half-written
    found.add({"a": X}, **NAMED)
    with pytest.raises(ValueError, match="rows: 'layers' is none of id, name, arch"):
        [*found.rows(layers="a")]
    with pytest.raises(ValueError, match="rows: 'tensor; DROP TABLE' is none of"):
        [*found.rows(**{"tensor; DROP TABLE": "a"})]
    assert not [*found.rows(layer="a' OR '1'='1")]


# --- Atomic ----------------------------------------------------------------------


def test_all_layers_of_an_input_or_none(tmp_path, monkeypatch):
    found = store(tmp_path / "a.db")
    calls, blob = [], module._blob

    def broken(layer, tensor):
        calls.append(layer)
        if layer == "b" and len(calls) > 3:
            raise MemoryError
        return blob(layer, tensor)

    monkeypatch.setattr(module, "_blob", broken)
    found.add({"a": X, "b": X}, image_path="1.png", **NAMED)
    with pytest.raises(MemoryError):
        found.add({"a": X, "b": X}, image_path="2.png", **NAMED)
    assert found.layers() == {"a": 1, "b": 1}
    path = os.path.abspath("1.png")
    assert found.written(**NAMED) == {(path, None, "", "a"), (path, None, "", "b")}
    assert found.written(name="other") == set()


KILLED = """
import os, sys, torch
from lib.lens import store as module
found = module.store(sys.argv[1])
found.add({"a": torch.ones(3)}, name="n", architecture="x", prompt="first")
with found._writing() as connection:
    connection.executemany(
        "INSERT INTO tensors (name, architecture, prompt, layer, tensor_dim, tensor) "
        "VALUES ('n', 'x', 'second', 'a', 3, ?)", [(b"0" * 9_000_000,)] * 3
    )
    os._exit(9)
"""


def test_killed_in_the_middle_of_writing(tmp_path):
    """A process that dies before its transaction ends leaves the rows before it."""
    path = tmp_path / "a.db"
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", KILLED, str(path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    found = store(path)
    assert [row.prompt for row in found.rows()] == ["first"]
    found.add({"a": X}, prompt="second", **NAMED)
    assert [row.prompt for row in found.rows()] == ["first", "second"]
