"""lib.data.scenes: balanced questions, a clean split, captions that fit the pictures."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib.data import scene_pictures, scene_words
from lib.data.scene_pictures import INKS, PAPER, picture, pictures
from lib.data.scene_words import ANSWERS, JAPANESE, KINDS, PLACES, SHAPES, Object
from lib.data.scenes import ALL, CASES, NEVER, NEVER_AT, SEEN, blind, scenes, shuffled

SPLITS = {split: scenes(split).rows for split in CASES}
each = pytest.mark.parametrize("split", CASES)


def cases(row):
    return {o[:3] for o in row["objects"]}


# --- The split -------------------------------------------------------------------


def test_every_word_is_seen_and_six_pairs_are_not():
    assert len(ALL) == 144 and len(SEEN) == 144 - 6 * 4 - 30
    assert len(set(NEVER.values())) == 6 == len(NEVER)  # each shape, each colour, once
    for at in range(3):
        assert {c[at] for c in SEEN} == {c[at] for c in ALL}
    held = Counter((shape, place) for (_, shape), place in NEVER_AT.items())
    assert {held[shape, place] for shape in SHAPES for place in PLACES} == {1, 2}
    seen = {case[:2] for case in SEEN}
    assert len(seen) == 30  # each of these at three places
    assert all(sum(c[:2] == pair for c in SEEN) == 3 for pair in seen)


def test_nothing_held_out_is_in_training():
    for rows in (scenes("train", 4).rows, SPLITS["test"]):
        for row in rows:
            for colour, shape, place in cases(row):
                assert NEVER[shape] != colour and NEVER_AT[colour, shape] != place
            if row["kind"] == "yes/no":
                shape = row["question"].split()[-1].rstrip("?")
                assert NEVER[shape] not in row["question"]


@pytest.mark.parametrize("split", ["new place", "new pair"])
def test_questions_are_about_what_is_held_out(split):
    new = set(CASES[split])
    assert not new & set(SEEN)
    for row in SPLITS[split]:
        there = cases(row) & new
        if row["answer"] == "no":  # not there, and nothing else that is held out
            assert not there and cases(row) <= set(SEEN)
        else:
            assert len(there) == 1 and cases(row) - there <= set(SEEN)
            ((colour, shape, place),) = there
            asked = row["question"]
            assert {
                "colour": shape in asked and row["answer"] == colour,
                "shape": colour in asked and row["answer"] == shape,
                "count": shape in asked,
                "place": shape in asked and row["answer"] == place,
                "yes/no": f"{colour} {shape}" in asked,
            }[row["kind"]]


def test_pictures_of_the_splits_differ():
    seen = defaultdict(set)
    for split, rows in SPLITS.items():
        for row in rows:
            seen[tuple(row["objects"])].add(split)
    assert len(seen) == 4 * 600 and all(len(splits) == 1 for splits in seen.values())


# --- Questions -------------------------------------------------------------------


def truth(row):
    """The answer, from the objects and the words of the question alone."""
    asked, objects = row["question"].rstrip("?").split(), row["objects"]
    named = [o for o in objects if o.shape in asked or o.colour in asked]
    if row["kind"] == "yes/no":
        found = [o for o in objects if o.shape in asked and o.colour in asked]
        assert row["answer"] == "yes" or len({o.shape in asked for o in named}) == 2
        return "yes" if found else "no"
    if row["kind"] == "count":
        shape = next(s for s in SHAPES if asked[2] in (f"{s}s", f"{s}es"))
        number = sum(o.shape == shape for o in objects)
        return ("none", "one", "two", "three", "four")[number]
    (only,) = named  # else the question had several answers
    return getattr(only, row["kind"])


@each
def test_answers_are_true(split):
    for row in SPLITS[split]:
        assert row["answer"] in ANSWERS[row["kind"]]
        assert truth(row) == row["answer"], row


@each
def test_kinds_are_of_one_size_and_answers_balanced(split):
    rows = scenes(split, 2).rows
    assert Counter(row["kind"] for row in rows) == dict.fromkeys(KINDS, 240)
    for kind in KINDS:
        answers = Counter(row["answer"] for row in rows if row["kind"] == kind)
        assert set(answers) == set(ANSWERS[kind])
        assert len(set(answers.values())) == 1, answers


def test_a_blind_guesser_is_at_chance():
    """Of each question every answer is equally frequent, so none can be learned."""
    chance = {"colour": 1 / 5, "shape": 1 / 5, "count": 1 / 4, "place": 1 / 4}
    chance |= {"yes/no": 1 / 2}
    by_question = defaultdict(Counter)
    for row in SPLITS["train"]:
        by_question[row["kind"], row["question"]][row["answer"]] += 1
    for (kind, _), answers in by_question.items():
        assert len(answers) == 1 / chance[kind] and len(set(answers.values())) == 1
    for split in ("train", "test", "new place"):
        assert blind(SPLITS["train"], SPLITS[split]) == pytest.approx(chance)
    # Training has no black circle: who has learned its answers is never right here.
    none = chance | {"colour": 0.0, "shape": 0.0}
    assert blind(SPLITS["train"], SPLITS["new pair"]) == pytest.approx(none)


def test_neither_objects_nor_attributes_alone_say_yes():
    sizes = {"yes": [], "no": []}
    for row in scenes("train", 4).rows:
        if row["kind"] == "yes/no":
            sizes[row["answer"]].append(len(row["objects"]))
            words = " ".join(f"{o.colour} {o.shape}" for o in row["objects"]).split()
            assert set(row["question"].rstrip("?").split()[-2:]) <= set(words)
    assert {*sizes["yes"]} == {*sizes["no"]} == {2, 3, 4}
    assert abs(np.mean(sizes["yes"]) - np.mean(sizes["no"])) < 0.1


def test_the_shuffled_control():
    rows = SPLITS["test"]
    order = shuffled(rows)
    assert sorted(order) == list(range(600)) and order == shuffled(rows)
    assert order != shuffled(rows, 1)
    assert all(
        i != j and rows[i]["kind"] == rows[j]["kind"] for i, j in enumerate(order)
    )
    kept = [rows[i]["answer"] == rows[j]["answer"] for i, j in enumerate(order)]
    assert 0.2 < np.mean(kept) < 0.36  # chance: the mean of 1/6, 1/6, 1/4, 1/4, 1/2
    with pytest.raises(ValueError, match="got one of the kind 'colour'"):
        shuffled([row for row in rows if row["kind"] == "colour"][:1])


def test_the_same_seed_gives_the_same_rows():
    assert scenes("test", seed=3).rows == scenes("test", seed=3).rows
    assert scenes("test", seed=3).rows != scenes("test", seed=4).rows
    row = scenes().rows[0]  # of every machine, for ever
    assert row["question"] == "What shape is the green object?"
    assert row["caption"] == "A green triangle at the top left."
    said = repr(scenes("new pair", 2))
    assert said.startswith("scenes (new pair): 1,200 scenes, ")
    assert said.endswith("generated by this book's code · CC BY 4.0")


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"split": "val"}, "split: got 'val', wants one of train, test, new place"),
        ({"rounds": 0}, "rounds: got 0, wants a whole number from 1"),
        ({"seed": 0.5}, "seed: got 0.5"),
    ],
)
def test_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        scenes(**bad)


# --- Captions --------------------------------------------------------------------


@each
def test_captions_say_what_is_there(split):
    words = {romaji: word for word, (_, romaji) in JAPANESE.items()}
    back = {text: word for word, (text, _) in JAPANESE.items()}
    assert len(words) == len(back) == len(JAPANESE) == 16
    one_of = lambda names: "|".join(sorted(names, key=len, reverse=True))  # noqa: E731
    for row in SPLITS[split]:
        there = cases(row)
        english = re.findall(r"a (\w+) (\w+) at the (\w+ \w+)", row["caption"].lower())
        assert set(english) == there and len(english) == len(row["objects"])
        ja = re.findall(rf"(..)に({one_of(back)})({one_of(back)})", row["caption_ja"])
        assert {(back[c], back[s], back[p]) for p, c, s in ja} == there
        assert [back[p] for p, _, _ in ja] == [p for _, _, p in english]
        assert row["caption_ja"].endswith("があります。")
        read = row["reading"].removesuffix(" ga arimasu.").split(", ")
        spoken = [re.fullmatch(rf"(\w+) ni ({one_of(words)}) (\w+)", r) for r in read]
        assert {(words[m[2]], words[m[3]], words[m[1]]) for m in spoken} == there
    assert row["caption"][0] == "A" and row["caption"].endswith(".")


def test_captions_by_hand():
    objects = [
        Object("black", "heart", "bottom left", 0.27, 0.73, 0.15),
        Object("red", "circle", "top right", 0.73, 0.27, 0.15),
    ]
    one, two = objects
    assert scene_words.english([one]) == "A black heart at the bottom left."
    assert scene_words.english([one, two, two]).count(", ") == 1
    assert scene_words.english(objects) == (
        "A red circle at the top right and a black heart at the bottom left."
    )
    text, reading = scene_words.japanese(objects)
    assert text == "右上に赤い円、左下に黒いハートがあります。"
    assert reading == "migiue ni akai en, hidarishita ni kuroi hāto ga arimasu."
    assert scene_words.asked("count", "", "cross") == "How many crosses are there?"


# --- Pictures --------------------------------------------------------------------


def by_pillow(shape):
    """The shapes as another library draws them: bool (100, 100), the whole box."""
    image = Image.new("1", (100, 100))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((2, 2, 97, 97), fill=1)
    elif shape == "square":
        draw.rectangle((9, 9, 90, 90), fill=1)
    elif shape == "triangle":
        draw.polygon([(50, 1), (1, 86), (99, 86)], fill=1)
    elif shape == "star":
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        radii = np.where(np.arange(10) % 2, 19, 50)
        at = 50 + radii * np.stack((np.cos(angles), np.sin(angles)))
        draw.polygon([*map(tuple, at.T)], fill=1)
    elif shape == "heart":
        draw.ellipse((4, 2, 52, 52), fill=1)
        draw.ellipse((48, 2, 96, 52), fill=1)
        draw.polygon([(6, 36), (94, 36), (50, 98)], fill=1)
    else:
        draw.rectangle((34, 2, 66, 97), fill=1)
        draw.rectangle((2, 34, 97, 66), fill=1)
    return np.asarray(image)


PATTERNS = {shape: by_pillow(shape) for shape in SHAPES}


def seen(image):
    """The objects that a picture shows, found from its pixels: {(colour, shape, place)}."""
    size, found = len(image), set()
    far = np.abs(image.astype(int) - PAPER).max(-1) > 60  # ink or edge
    for place in PLACES:
        rows = slice(0, size // 2) if "top" in place else slice(size // 2, size)
        columns = slice(0, size // 2) if "left" in place else slice(size // 2, size)
        ink, part = far[rows, columns], image[rows, columns].astype(int)
        if not ink.any():
            continue
        inks = {c: (np.abs(part - INKS[c]).max(-1) < 30).sum() for c in INKS}
        colour = max(inks, key=inks.get)
        ys, xs = np.nonzero(ink)
        box = ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        scores = {}
        for shape, whole in PATTERNS.items():
            at = np.nonzero(whole)
            tight = whole[at[0].min() : at[0].max() + 1, at[1].min() : at[1].max() + 1]
            wanted = Image.fromarray(tight.astype(np.uint8)).resize(box.shape[::-1])
            wanted = np.asarray(wanted).astype(bool)
            scores[shape] = (box & wanted).sum() / (box | wanted).sum()
        found.add((colour, max(scores, key=scores.get), place))
    return found


@pytest.mark.parametrize("size, rows", [(64, 80), (224, 8)])
def test_pictures_show_what_the_captions_say(size, rows):
    for row in SPLITS["new pair"][:rows] + SPLITS["test"][:rows]:
        assert seen(picture(row["objects"], size)) == cases(row), row["caption"]


def test_readable_on_a_phone():
    """A picture 160 pixels wide, two beside each other on a screen of 360."""
    for row in SPLITS["train"]:
        for one in row["objects"]:
            assert 2 * one.radius * 160 >= 40  # pixels across
            for middle in (one.x, one.y):
                assert one.radius < middle < 1 - one.radius  # inside the picture
                assert abs(middle - 0.5) > one.radius  # inside its quarter

    def light(colour):  # WCAG's relative luminance
        c = np.array(colour) / 255
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ (0.2126, 0.7152, 0.0722) + 0.05

    assert light(PAPER) / light(scene_pictures.EDGE) > 7  # every shape has this edge
    inks = [np.array(INKS[c], dtype=float) for c in scene_words.COLOURS]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(inks) for b in inks[:i]]
    assert min(gaps) > 80  # of 442
    # Also where red and green look alike: their lightness differs.
    assert light(INKS["green"]) / light(INKS["red"]) > 1.5


def test_a_pixel_on_an_edge_is_a_mixture_and_the_paper_is_paper():
    image = picture([Object("red", "circle", "top left", 0.27, 0.27, 0.15)])
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert (image[32:] == PAPER).all() and (image[:, 32:] == PAPER).all()
    assert tuple(image[17, 17]) == INKS["red"]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
    assert pictures(SPLITS["test"][:3], 32).shape == (3, 32, 32, 3)
    with pytest.raises(ValueError, match="size: got 8, wants a whole number from 16"):
        picture([], 8)
