"""The models in a browser, from a disk: equal to PyTorch, piece for piece, pixel for pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib import decoding, weights
from lib.live import export
from lib.models.language import LanguageModel

LIVE = Path("lib/live")
ENGINE = ("load", "models", "tokenizers", "sampling", "pixels")


@pytest.fixture(scope="module")
def engine(browser, tmp_path_factory):
    """A page from the disk with the scripts of lib/live, and files of checkpoints."""
    folder = tmp_path_factory.mktemp("live")
    for name in ENGINE:
        (folder / f"{name}.js").write_text((LIVE / f"{name}.js").read_text("utf8"))
    tags = "".join(f'<script src="{name}.js"></script>' for name in ENGINE)
    page_file = folder / "index.html"
    page_file.write_text(f'<!doctype html><meta charset="utf-8">{tags}', "utf8")
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(page_file.as_uri())
    page.evaluate("window.files = {}")

    def load(*which):
        export.write(folder, *which)
        found = export.listed(*which)
        page.evaluate(
            "async (f) => { files[f.key] = (await download([f], () => {}))[f.file]; }",
            found,
        )
        return found["key"]

    page.load = load
    yield page
    page.close()
    assert not problems


def agree(found, wanted, tol=1e-4):
    found, wanted = np.array(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tol


# --- The language model --------------------------------------------------------------

WRITE = ("feed-forward", "model.safetensors", "trained/")


@pytest.fixture(scope="module")
def writer():
    shape = weights.card("feed-forward")["config"]["shipped"]
    letters = weights.trace("feed-forward")["letters"]
    sizes = len(letters), shape["d_model"], shape["heads"], shape["layers"]
    model = LanguageModel(*sizes, positions="learned", length=shape["context"])
    found = weights.tensors("feed-forward").items()
    state = {k[8:]: v.float() for k, v in found if k.startswith("trained/")}
    model.load_state_dict(state)
    return model.eval(), letters


def test_the_language_model(engine, writer):
    model, letters = writer
    key = engine.load(*WRITE)
    prompt = torch.tensor([[letters.index(c) for c in "JULIET:\nO Romeo, "]])
    want = decoding.greedy(decoding.cached(model), prompt, 100)[0]
    with torch.no_grad():
        logits = model(want[None])[0]
    found = engine.evaluate(
        """([key, ids, n]) => {
          const model = languageModel(tensors(files[key]), { num_heads: 4, limit: 128 });
          const state = model.start(), logits = [];
          let found = finish(model.read(ids, state));
          for (let i = 0; i < n; i++) {
            logits.push([...found.logits]);
            ids = [...ids, likeliest(found.logits)];
            found = finish(model.read(ids.slice(-1), state));
          }
          return { ids, logits };
        }""",
        [key, prompt[0].tolist(), 100],
    )
    assert found["ids"] == want.tolist()
    agree(found["logits"], logits[prompt.shape[1] - 1 : -1])
