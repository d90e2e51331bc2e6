"""The models in a browser, from a disk: equal to PyTorch, piece for piece, pixel for pixel."""

import base64
import gzip
import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from lib import decoding, filters, weights
from lib.attention import rollout
from lib.data.livedoor import livedoor
from lib.embeddings import nearest
from lib.live import export, fill, near, pieces, write
from lib.live.element import Live
from lib.models import pretraining
from lib.models.encoder_decoder import EncoderDecoder
from lib.models.language import LanguageModel
from lib.models.masked import MaskedLanguageModel
from lib.models.modernbert import ModernBert
from lib.models.vision import ViT, conv_stem
from lib.tokenizers import bpe, presplit, sentencepiece

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


MASKED, SEER = ("hybrid", "model.safetensors"), ("vit", "model.safetensors")

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


def greedy(engine, key, prompt, config):
    """What the browser writes: 100 ids, and the logits of each."""
    return engine.evaluate(
        """([key, ids, n, config]) => {
          const model = languageModel(finish(tensors(files[key])), config), state = model.start(), logits = [];
          let found = finish(model.read(ids, state));
          for (let i = 0; i < n; i++) {
            logits.push([...found.logits]);
            ids = [...ids, likeliest(found.logits)];
            found = finish(model.read(ids.slice(-1), state));
          }
          return { ids, logits };
        }""",
        [key, prompt[0].tolist(), 100, config],
    )


def test_the_language_model(engine, writer):
    model, letters = writer
    key = engine.load(*WRITE)
    prompt = torch.tensor([[letters.index(c) for c in "JULIET:\nO Romeo, "]])
    want = decoding.greedy(decoding.cached(model), prompt, 100)[0]
    with torch.no_grad():
        logits = model(want[None])[0]
    found = greedy(engine, key, prompt, {"num_heads": 4, "limit": 128})
    assert found["ids"] == want.tolist()
    agree(found["logits"], logits[prompt.shape[1] - 1 : -1])


def test_positions_by_rotation_and_normed_queries(engine, tmp_path):
    """The model that `language/pretraining` trains, here with drawn weights."""
    torch.manual_seed(0)
    model = pretraining.language_model(40, 32, 4, 2).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.gain, 1.2, 0.3)
        torch.nn.init.normal_(block.attention_norm.bias)
    given = {
        k: [list(v.shape), v.flatten().tolist()] for k, v in model.state_dict().items()
    }
    ids = torch.randint(40, (1, 30))
    with torch.no_grad():
        want = model(ids)[0, -1]
    found = engine.evaluate(
        """([given, ids]) => {
          const weights = {};
          for (const [name, [shape, data]] of Object.entries(given))
            weights[name] = { shape, data: Float32Array.from(data) };
          const options = { num_heads: 4, limit: 64, base: 10000, activation: "relu squared" };
          const model = languageModel(weights, options), state = model.start();
          finish(model.read(ids.slice(0, 20), state));
          return [...finish(model.read(ids.slice(20), state)).logits];
        }""",
        [given, ids[0].tolist()],
    )
    agree(found, want)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """The checkpoints, and beside them two that are as they will be shipped, but small."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for one in weights.FOLDER.iterdir():
        (folder / one.name).symlink_to(one)
    card = {"data": {}, "command": "", "metrics": {}, "licence": "MIT"}
    letters = "\n !'abcdefghijklmnopqrstuvwxyz"
    torch.manual_seed(0)
    writes = pretraining.language_model(len(letters), 40, 5, 3)
    sizes = {"d_model": 40, "num_heads": 5, "layers": 3}
    config = {"model": sizes, "vocabulary": letters, "length": 160}
    fills_sizes = {"vocabulary": 8001, "d_model": 48, "num_heads": 3, "layers": 6}
    fills_sizes |= {"hidden": 72, "window": 16}
    fills_sizes |= {"global_base": 10_000.0, "local_base": 1_000.0}
    fills = ModernBert(**fills_sizes)
    with torch.no_grad():
        for model in (writes, fills):
            for value in model.parameters():  # numbers that matter everywhere
                value.add_(0.1 * torch.randn_like(value))
    state = {k: v.half() for k, v in fills.state_dict().items()}
    del state["decoder.weight"]  # tied
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", folder)
        half = {k: v.half() for k, v in writes.state_dict().items()}
        weights.save("small-writer", card | {"config": config}, half)
        config = {"model": fills_sizes, "mask": 8000, "length": 128}
        weights.save("small-filler", card | {"config": config}, state)
        yield


def test_the_model_of_pretraining_from_its_checkpoint(engine, shelf):
    model, letters, file, config = write.model("small-writer")
    prompt = torch.tensor([[letters.index(c) for c in "the king"]])
    want = decoding.greedy(decoding.cached(model), prompt, 100)[0]
    with torch.no_grad():
        logits = model(want[None])[0]
    found = greedy(engine, engine.load(*file), prompt, config)
    assert found["ids"] == want.tolist()
    agree(found["logits"], logits[prompt.shape[1] - 1 : -1])
    made = write.write("the king", checkpoint="small-writer")
    assert made.files == (file,) and made.data["letters"] == letters
    assert made.data["end"] == "The model was trained on texts of 160 characters"
    with pytest.raises(ValueError, match="wants 1 to 100 letters"):
        write.write("The King", checkpoint="small-writer")  # no capitals


def test_forgetting_tokens_and_the_end_of_the_table(engine, writer):
    key = engine.load(*WRITE)
    found = engine.evaluate(
        """([key]) => {
          const model = languageModel(finish(tensors(files[key])), { num_heads: 4, limit: 128 });
          const state = model.start();
          const first = finish(model.read([1, 2, 3, 4], state));
          finish(model.read([5, 6], state));
          state.past = 3;
          const again = finish(model.read([4], state));
          const gap = Math.max(...first.logits.map((v, i) => Math.abs(v - again.logits[i])));
          const rows = [];
          for (const layer of first.attention) for (let r = 0; r < 16; r++)
            rows.push(layer.subarray(4 * r, 4 * r + 4).reduce((a, b) => a + b));
          let said = "";
          try { finish(model.read(Array(125).fill(1), state)); } catch (e) { said = e.message; }
          return { gap, rows, said };
        }""",
        [key],
    )
    assert found["gap"] < 1e-5
    agree(found["rows"], np.ones(64), 1e-6)
    assert found["said"] == "ids: got 129 tokens, wants at most 128"


# --- Sampling ------------------------------------------------------------------------

SETTINGS = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.0, "k": 5},
    {"p": 0.8},
    {"k": 7, "p": 0.5},
    {"temperature": 1.7, "k": 12, "p": 0.95},
    {"p": 0.01},
]


def test_filters(engine):
    logits = 3 * torch.randn(60, generator=torch.Generator().manual_seed(0))
    logits[5] = logits[6]  # a tie
    for setting in SETTINGS:
        names = {"k": "top_k", "p": "top_p"}
        ours = {names.get(key, key): value for key, value in setting.items()}
        want = filters.filtered(logits[None].double(), **ours)[0].softmax(-1)
        found = engine.evaluate(
            "([l, s]) => [...filtered(Float32Array.from(l), s)]",
            [logits.tolist(), setting],
        )
        agree(found, want, 1e-6)
    drawn = engine.evaluate("[0, .24, .26, .9999].map((x) => draw([.25, 0, .75], x))")
    assert drawn == [0, 0, 2, 2]


# --- The encoder–decoder -------------------------------------------------------------

TRANSLATION = ("translation", "model.safetensors"), ("translation", "unigram.model")
SENTENCES = [
    "A man is riding a bicycle.",
    "Two dogs are playing in the snow.",
    "A woman is reading a book in the park.",
    "A girl in a red dress is laughing.",
    "Three boys are playing soccer.",
    "An old man is sitting on a bench.",
    "People wait at the station while a train with many people passes.",
    "snow",
    "Ünïcode ✨ and 漢字!",
]
TRANSLATE = """([model, file, sentences, beams]) => {
  const net = encoderDecoder(finish(tensors(files[model])), { num_heads: 4, limit: 256 });
  const pieces = tokenizer(files[file]), BOS = pieces.ids.get("<s>"), EOS = pieces.ids.get("</s>");
  return sentences.map((sentence) => {
    const source = [...pieces.encode(sentence).map((one) => one.id), EOS];
    const memory = finish(net.encode(source));
    const next = (beam) => net.decode(beam.ids.slice(beam.state.past), memory, beam.state);
    const fork = (s) => ({ past: s.past, caches: s.caches.map((c) => ({ key: c.key.slice(), value: c.value.slice() })) });
    const { best } = finish(beamSearch(next, fork, net.start(), BOS, { beams, room: 2 * source.length, end: EOS }));
    return { source, ids: best.ids, text: pieces.decode(best.ids), mean: best.mean };
  });
}"""


@pytest.fixture(scope="module")
def translator():
    model = EncoderDecoder(**weights.card("translation")["config"]["model"])
    found = weights.tensors("translation").items()
    model.load_state_dict({k: v.float() for k, v in found}, strict=False)
    processor = sentencepiece.load(weights.path("translation", "unigram.model"))
    return model.eval(), processor


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_translations(engine, translator, beams):
    model, processor = translator
    keys = [engine.load(*which) for which in TRANSLATION]
    found = engine.evaluate(TRANSLATE, [*keys, SENTENCES, beams])
    for sentence, ours in zip(SENTENCES, found, strict=True):
        source = torch.tensor([processor.encode(sentence, add_eos=True)])
        assert ours["source"] == source[0].tolist()
        begin, room = torch.tensor([[processor.bos_id()]]), 2 * source.shape[1]
        step, end = model.step(source), processor.eos_id()
        if beams == 1:
            want = decoding.greedy(step, begin, room, eos=end)
        else:
            want, score = decoding.beam(step, begin, room, beams, eos=end)
            assert abs(score.item() - ours["mean"]) < 1e-4
        assert ours["ids"] == want[0].tolist(), sentence
        plain = [i for i in want[0].tolist() if i not in (0, 1, 2)]
        assert ours["text"] == processor.decode(plain)


def test_the_decoder_and_its_cross_attention(engine, translator):
    model, processor = translator
    keys = [engine.load(*which) for which in TRANSLATION]
    source = processor.encode(SENTENCES[2], add_eos=True)
    target = processor.encode("Eine Frau liest ein Buch.", add_bos=True)
    with torch.no_grad():
        memory = model.encode(torch.tensor([source]))
        logits, across = model.decode(torch.tensor([target]), memory)
    found = engine.evaluate(
        """([key, source, target]) => {
          const net = encoderDecoder(finish(tensors(files[key])), { num_heads: 4, limit: 64 });
          const memory = finish(net.encode(source)), state = net.start();
          const first = finish(net.decode(target.slice(0, 4), memory, state));
          const rest = finish(net.decode(target.slice(4), memory, state));
          return [[...memory], [...first.logits], [...rest.logits], rest.attention.map((w) => [...w])];
        }""",
        [keys[0], source, target],
    )
    agree(found[0], memory.flatten())
    agree(found[1], logits[0, 3])
    agree(found[2], logits[0, -1])
    agree(found[3], torch.stack(across)[:, 0, :, 4:].flatten(1))


# --- The masked model ----------------------------------------------------------------


def test_the_masked_model(engine):
    card = weights.card("hybrid")["config"]
    model = MaskedLanguageModel(**card["model"]).eval()
    model.load_state_dict(weights.tensors("hybrid"))
    key = engine.load(*MASKED)
    torch.manual_seed(0)
    for length in (5, 40, 200):
        ids = torch.randint(card["mask"], (1, length))
        at = [0, length // 2, length - 1]
        ids[0, at] = card["mask"]
        with torch.no_grad():
            want = model(ids)[0, at]
        found = engine.evaluate(
            """([key, ids, at, config]) => {
              const found = finish(maskedModel(finish(tensors(files[key])), config)(ids, at));
              return { logits: [...found.logits], layers: found.attention.length };
            }""",
            [key, ids[0].tolist(), at, card["model"]],
        )
        agree(found["logits"], want.flatten())
        assert found["layers"] == 4


@pytest.mark.parametrize("name", ["small-filler", "masked-lm"])
@pytest.mark.parametrize("length", [1, 12, 40, 128])
def test_the_model_of_masked_lm_from_its_checkpoint(engine, shelf, name, length):
    logits, layout = fill.model(name)
    ids = torch.randint(layout["mask"], (1, length))
    at = sorted({0, length // 2, length - 1})
    with torch.no_grad():
        where = torch.zeros(1, length, dtype=torch.bool)
        where[0, at] = True
        want = logits(ids, where)
    found = engine.evaluate(
        """([key, ids, at, config]) => {
          const found = finish(modernBert(finish(tensors(files[key])), config)(ids, at));
          return { logits: [...found.logits], sums: found.attention.map((w) => w.reduce((a, b) => a + b)) };
        }""",
        [
            engine.load(name, weights.TENSORS),
            ids[0].tolist(),
            at,
            layout["config"],
        ],
    )
    agree(found["logits"], want.flatten())
    agree(found["sums"], np.full(6, 3.0 * length), 1e-3)


def test_a_sentence_is_laid_out_as_in_training(shelf):
    processor = sentencepiece.load(weights.path(*fill.FILES[1][:2]))
    _, small = fill.model("small-filler")
    head, left, right = (processor.encode(x) for x in ("映画", "この秋に", "公開。"))
    right = right[1:] if processor.id_to_piece(right[0]) == "▁" else right
    body = [*left, 8000, *right]
    found = fill.encoded(processor, small, "映画", "この秋に[MASK]公開。")
    assert found == [1, *head, 2, *body, 2]
    assert fill.encoded(processor, small, "", "この秋に[MASK]公開。") == [1, *body, 2]
    long = fill.encoded(processor, small, "映画" * 50, "秋に" * 300)
    assert len(long) == 128
    _, hybrid = fill.model()
    found = fill.encoded(processor, hybrid, "映画", "この秋に[MASK]公開。")
    assert found == head + [2] * (32 - len(head)) + body
    made = fill.fill([("", "この秋に[MASK]。", "kono aki ni …")], "small-filler")
    assert made.files[0][0] == "small-filler" and made.data["filled"] is False
    with pytest.raises(ValueError, match="has no"):
        fill.fill([("", "この秋に。", "")], "small-filler")


# --- Word vectors --------------------------------------------------------------------


def test_neighbours_of_words(engine):
    words, tables = near.model()
    keys = [engine.load(*which) for which in near.FILES]
    asked = [words.index(w) for w in ("guitar", "red", "dog", words[0], words[-1])]
    found = engine.evaluate(
        """([[vectors, words], asked]) => {
          const tables = finish(tensors(files[vectors]));
          return [text(files[words]).split("\\n"), Object.entries(tables).map(([name, { shape: [V, D], data }]) => [name,
            asked.map((at) => Array.from({ length: V }, (_, i) => dot(data, i * D, data, at * D, D)
              / Math.sqrt(dot(data, i * D, data, i * D, D) * dot(data, at * D, data, at * D, D))))])];
        }""",
        [keys, asked],
    )
    assert found[0] == words and [name for name, _ in found[1]] == [*tables]
    for name, rows in found[1]:
        agree(rows, torch.stack([near.cosines(tables[name], at) for at in asked]), 1e-5)
    made = near.near(["guitar", "red"])
    for name, vectors in tables.items():
        five = nearest(vectors, words, "guitar")
        assert ", ".join(five) in re.sub(r" -?\d\.\d\d", "", made.story), name
    for wrong in ([], ["guitar", "zebrafish"]):
        with pytest.raises(ValueError, match="asked: got"):
            near.near(wrong)


# --- The vision transformer, and its pictures ----------------------------------------


@pytest.fixture(scope="module")
def seer():
    card = weights.card("vit")["config"]
    shape = card["model"]
    size = shape["d_model"], shape["num_heads"], shape["layers"], 10
    stem = conv_stem(*shape["stem"], shape["d_model"])
    model = ViT(stem, (8, 8), *size, hidden=shape["hidden"], pool=shape["pool"])
    found = weights.tensors("vit").items()
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in found}
    )
    return model.eval(), card


def photograph(name, width=640, height=427):
    return Image.fromarray(load_sample_image(name)).resize((width, height))


def small(picture):
    """The square in the middle, 32×32: as the page makes it."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.array(square.resize((32, 32), Image.LANCZOS))


def as_png(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


SHRUNK = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  return [...finish(shrunk(bitmap, 32))];
}"""
SIZES = [
    (640, 427),
    (427, 640),
    (32, 32),
    (1, 1),
    (33, 31),
    (5, 9),
    (1000, 40),
    (64, 64),
]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_pillow(engine, size):
    for name in ("china.jpg", "flower.jpg"):
        picture = photograph(name, *size)
        found = engine.evaluate(SHRUNK, as_png(picture))
        assert np.array_equal(np.reshape(found, (32, 32, 3)), small(picture))


def test_pixels_of_noise_and_edges(engine):
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (700, 1500, 3), np.uint8)
    edges = (draw.random((333, 222, 1)) < 0.5) * np.full(3, 255, np.uint8)
    for values in (noise, edges.astype(np.uint8)):
        picture = Image.fromarray(values)
        found = engine.evaluate(SHRUNK, as_png(picture))
        assert np.array_equal(np.reshape(found, (32, 32, 3)), small(picture))


def test_the_vision_transformer(engine, seer):
    model, card = seer
    key = engine.load(*SEER)
    for name in ("china.jpg", "flower.jpg"):
        rgb = small(photograph(name))
        scaled = torch.from_numpy(rgb).float() / 255
        images = (
            (scaled - torch.tensor(card["mean"])) / torch.tensor(card["std"])
        ).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits, (_, maps) = model(images), model.encode(images)
        found = engine.evaluate(
            """([key, rgb, mean, std]) => {
              const model = visionTransformer(finish(tensors(files[key])), { num_heads: 3, strides: [1, 2, 1, 2] });
              const found = finish(model(normalised(Uint8Array.from(rgb), mean, std), 32));
              const reached = rollout(found.attention, 3);
              return [found.logits, ...found.attention, ...reached].map((x) => [...x]);
            }""",
            [key, rgb.flatten().tolist(), card["mean"], card["std"]],
        )
        agree(found[0], logits[0])
        agree(found[1:5], torch.stack(maps).flatten(1))
        agree(found[8], rollout(maps).flatten(), 1e-5)


# --- Pieces --------------------------------------------------------------------------

MODELS = [
    ("translation", "unigram.model"),
    *(
        ("sentencepiece", file)
        for file in weights.card("sentencepiece")["files"]
        if file.endswith(".model")
    ),
]
ODD = [
    "",
    " ",
    "  two  spaces ",
    "a",
    "▁",
    "ﾃﾞｰﾀ ① ２０１２ ｆｕｌｌ",
    "𠮷野家で👩‍👩‍👧‍👦と🏳️‍🌈",
    "e\u0301\u0323 ～〜 \u200b\u00a0\t\r\n x",
    "<unk> <s> </s> <0x41>",
    "<img src=x onerror=alert(1)>",
    "\ufffd \x00 \x07 ",
    "ㄱㅏ 한국어 العربية नमस्ते",
]


@pytest.fixture(scope="module")
def lines():
    """At least 2,000 lines of news, or the book's own articles where there are no others."""
    found = [
        line for article in livedoor().rows for line in sentencepiece.clean(article)
    ]
    return found[:: max(1, len(found) // 2000)][:2400]


PIECES = """([key, lines]) => {
  const one = tokenizer(files[key]);
  return lines.map((line) => [one.encode(line).map((p) => p.id), one.normalise(line)]);
}"""


@pytest.mark.parametrize("which", MODELS, ids=lambda which: which[1])
def test_pieces(engine, lines, which):
    processor = sentencepiece.load(weights.path(*which))
    whole = which[1] == "unigram-8000-bytes.model"  # the others read a tenth
    given = [*ODD, *(lines if whole else lines[::10])]
    found = engine.evaluate(PIECES, [engine.load(*which), given])
    for line, (ids, clean) in zip(given, found, strict=True):
        assert ids == processor.encode(line), line
        assert clean == sentencepiece.normalise(line), line
    assert not whole or len(given) > 2000 or not livedoor().is_full


def test_pieces_by_merges(engine, lines):
    model = sentencepiece.train(
        lines[:600], "bpe", 3000, coverage=0.98, byte_fallback=True
    )
    processor = sentencepiece.load(model)
    given = [*ODD, *lines[::5]]
    found = engine.evaluate(
        """([model, lines]) => {
          files.bpe = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
          const one = tokenizer(files.bpe);
          return lines.map((line) => one.encode(line).map((p) => p.id));
        }""",
        [base64.b64encode(model).decode(), given],
    )
    for line, ids in zip(given, found, strict=True):
        assert ids == processor.encode(line), line


def test_pieces_of_bytes(engine, lines):
    words = presplit.count(lines[:400])
    merges = bpe.train(words, 2000, more=presplit.CHARACTERS)[1]
    ranks, rng = bpe.ranks(merges), random.Random(0)
    kinds = ["abcdeE", "0123456789", "éßñλΩ", "日本語すもも", "🍣👍🏽é", "नमस्ते"]
    kinds += [" \t\n\r\u3000\xa0\x85\x1c\ufeff\u180e", "'’.,-_\0", "'s 'll 're"]
    drawn = [
        "".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randint(0, 40)))
        for _ in range(1000)
    ]
    given = [*ODD, *drawn, *lines[::3], "".join(lines[:40])[:10_000]]
    want = [
        [x for word in presplit.byte_words(line) for x in bpe.merged(word, ranks)]
        for line in given
    ]
    found = engine.evaluate(
        """([merges, lines]) => {
          const one = byteTokenizer(merges);
          return lines.map((line) => { const found = one.encode(line).map((p) => p.piece); return [found, found.map(one.shown)]; });
        }""",
        [merges, given],
    )
    for line, (ours, shown), theirs in zip(given, found, want, strict=True):
        assert ours == theirs, line
        assert shown == [*map(pieces.readable, theirs)], line


def test_models_of_pieces_are_named():
    merges = bpe.train({"abab": 3}, 3)[1]
    made = pieces.pieces(
        "abab", "", {"bytes": merges, "news": "unigram-2792-bytes.model"}
    )
    assert made.files == (("sentencepiece", "unigram-2792-bytes.model", ""),)
    assert "<td>bytes</td><td>2</td><td>ab | ab</td>" in made.story
    for text, models in (("  ", pieces.MODELS), ("a", {})):
        with pytest.raises(ValueError, match=r"text: got|models: got"):
            pieces.pieces(text, "", models)


def test_decoding_pieces(engine):
    which = ("sentencepiece", "unigram-8000-bytes.model")
    processor = sentencepiece.load(weights.path(*which))
    given = [
        processor.encode(line) for line in ["鰆の西京焼き 2012", "plain text", "👩‍👩‍👧"]
    ]
    found = engine.evaluate(
        "([key, given]) => given.map(tokenizer(files[key]).decode)",
        [engine.load(*which), given],
    )
    assert found == [processor.decode(ids) for ids in given]


# --- The scripts that hold the weights -----------------------------------------------


def test_scripts_are_hardly_larger_than_the_checkpoint(tmp_path):
    for which in (WRITE, *TRANSLATION, MASKED, SEER, MODELS[-1]):
        made = export.write(tmp_path, *which)
        sent = sum(len(gzip.compress(file.read_bytes(), 6)) for file in made)
        whole = len(gzip.compress(export.content(*which), 6))
        assert sent <= 1.1 * whole
        assert max(file.stat().st_size for file in made) < 300_000
    with pytest.raises(ValueError, match="no tensor under 'none/'"):
        export.content("vit", "model.safetensors", "none/")


@pytest.mark.parametrize("cut", ["gone", "half", "short"])
def test_a_download_that_is_cut(engine, browser, tmp_path, cut):
    which = MASKED
    made = export.write(tmp_path, *which)
    if cut == "gone":
        made[3].unlink()
    elif cut == "half":
        made[3].write_text(made[3].read_text()[:1000])
    else:  # it runs, and holds other bytes
        made[3].write_text('document.currentScript.part = "AAAA";')
    (tmp_path / "load.js").write_text((LIVE / "load.js").read_text("utf8"))
    (tmp_path / "index.html").write_text(
        '<!doctype html><script src="load.js"></script>'
    )
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    said = page.evaluate(
        "(f) => download([f], () => {}).then(() => '', (error) => error.message)",
        export.listed(*which),
    )
    assert said == "The download was cut. Nothing is lost: try again."
    assert page.evaluate("document.scripts.length") == 1
    export.write(tmp_path, *which)  # whole again
    shares = page.evaluate(
        "(f) => { const shares = []; return download([f], (s) => shares.push(s)).then(() => shares); }",
        export.listed(*which),
    )
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == len(made)
    page.close()


def test_an_element_is_its_story_and_data_that_is_no_markup():
    made = Live("write", (), {"name": "A <b>name</b>"}, "<p>story</p>")
    source = made._repr_html_()
    assert "<p>story</p>" in source and "<b>" not in source
    assert 'data-live="write"' in source and "&lt;b&gt;" in source
