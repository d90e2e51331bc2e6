"""Figures: the theme's promises, heat maps, GIFs, and the replay's HTML."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import matplotlib_fontja
import numpy as np
import pytest
import torch
from matplotlib import colors, font_manager
from matplotlib import pyplot as plt
from PIL import Image

from lib.figures import animation, element, heatmap, panels, pictures, theme
from lib.figures import replay as replays


@pytest.fixture(autouse=True)
def look():
    theme.apply()
    yield
    plt.close("all")


def picture(figure):
    return pictures.pixels(figure)


def drawing(i):
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1], [0, i])
    ax.set(xlim=(0, 1), ylim=(0, 10))
    return figure


def replay(alt="Bars meet the outline.", frames=5, label="step"):
    heights = np.linspace(0, 1, frames)[:, None] * np.array([1, 2 / 3, 1 / 3])
    words = {"xlabel": "value", "ylabel": "count"}
    return replays.replay(
        [
            panels.bars("Bars", [0, 1, 2, 3], heights, target=heights[-1], **words),
            panels.lines("Lines", np.arange(frames), {"a": heights[:, 0]}, **words),
            panels.matrix(
                "Map",
                heights[:, None] * [[[1], [-2]]],
                "ab",
                "xyz",
                signed=True,
                **words,
            ),
        ],
        [f"{label} {i}" for i in range(frames)],
        alt=alt,
    )


# --- Theme ----------------------------------------------------------------------------


def test_theme_is_the_same_when_set_twice():
    before = dict(plt.rcParams)
    theme.apply()
    assert dict(plt.rcParams) == before


def test_seven_inches_are_at_least_700_pixels():
    assert picture(plt.figure(figsize=(7, 3))).shape[1] >= 700


def test_fonts_come_with_the_packages():
    for family in plt.rcParams["font.family"]:
        path = font_manager.findfont(family, fallback_to_default=False)
        assert "site-packages" in path or matplotlib_fontja.get_font_path() in path


@pytest.mark.parametrize("text", ["日本語のソフトウェア", "▁the − 3.5 × 10⁻³ ｶﾅ ー～"])
def test_every_character_has_a_glyph(text, recwarn):
    def inked(words):
        figure, ax = plt.subplots(figsize=(4, 1))
        ax.set_title(words)
        return picture(figure)

    assert (inked(text) != inked(text[:-1])).any()
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_categories_stand_out_on_white_and_on_the_dark_page():
    def contrast(a, b):
        high, low = sorted((theme.luminance(a), theme.luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for colour in map(colors.to_rgb, theme.CATEGORIES):
        for ground in ("white", "#14181e", "#222832"):
            assert contrast(colour, colors.to_rgb(ground)) >= 3
    assert len(theme.STYLES) == len(theme.CATEGORIES)


# --- Heat map -------------------------------------------------------------------------


def test_heatmap_labels_numbers_and_scale():
    _, ax = plt.subplots(figsize=(6, 4))
    weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]], requires_grad=True)
    image = heatmap.token_heatmap(ax, weights, ["猫", "cat"], ["the", "mat"], title="t")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["the", "mat"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["猫", "cat"]
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.00", "0.25", "0.75"]
    # Numbers on light cells are black, on dark cells white.
    assert [text.get_color() for text in ax.texts[:2]] == ["black", "white"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    assert image.get_clim() == (0, 1) and image.get_label() == "weight"


def test_heatmap_signed_and_crowded():
    _, ax = plt.subplots(figsize=(3, 3))
    tokens = [f"token{i}" for i in range(40)]
    image = heatmap.token_heatmap(ax, np.zeros((40, 40)), tokens, tokens, signed=True)
    assert image.get_clim() == (-1, 1) and image.get_cmap().name == theme.DIVERGING
    assert not ax.texts
    assert len(ax.get_xticks()) < 40
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}


def test_heatmap_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"values must have shape \(2, 3\), got"):
        heatmap.token_heatmap(plt.figure().gca(), np.zeros((3, 2)), "ab", "abc")


# --- Animation ------------------------------------------------------------------------


def frames_of(gif):
    with Image.open(io.BytesIO(gif)) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.asarray(image.convert("RGB"), float), image.info["duration"]


def test_animation_has_its_frames_and_holds_the_last():
    result = animation.animation(drawing, 6, fps=10, hold=15)
    pictures, durations = zip(*frames_of(result.data), strict=True)
    assert len(pictures) == 6
    assert durations == (100,) * 5 + (1500,)
    assert result.seconds == 2.0
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.info["loop"] == 2  # finite: it rests on its last frame
    assert len(result.data) < 100_000
    assert not plt.get_fignums()  # nothing left for the notebook to show


def test_animation_shows_what_was_drawn_and_how_far_it_is():
    result = animation.animation(drawing, 3)
    for i, (shown, _) in enumerate(frames_of(result.data)):
        drawn = picture(drawing(i)).astype(float)
        assert np.abs(shown[:-5] - drawn).mean() < 0.5
        dark = (shown[-1].mean(axis=-1) < 150).mean()
        assert dark == pytest.approx((i + 1) / 3, abs=0.01)


def test_white_stays_white_in_a_crowded_palette():
    def draw(i):
        figure, ax = plt.subplots(figsize=(4, 3))
        ax.imshow(np.random.default_rng(i).random((60, 60, 3)))
        return figure

    for shown, _ in frames_of(animation.animation(draw, 2).data):
        assert (shown[0, 0] == 255).all()


def test_animation_may_draw_into_one_figure():
    figure, ax = plt.subplots(figsize=(3, 2))

    def draw(i):
        ax.clear()
        ax.plot([0, i])
        return figure

    pictures = [shown for shown, _ in frames_of(animation.animation(draw, 3).data)]
    assert (pictures[0] != pictures[2]).any()


def test_equal_frames_still_count():
    assert len(list(frames_of(animation.animation(lambda i: drawing(1), 4).data))) == 4


def test_animation_is_deterministic():
    first, second = (animation.animation(drawing, 4, alt="a") for _ in range(2))
    assert first.data == second.data
    assert first._repr_mimebundle_() == second._repr_mimebundle_()


def test_animation_is_displayed_as_gif():
    data, metadata = animation.animation(
        drawing, 2, alt="A line rises."
    )._repr_mimebundle_()
    assert base64.b64decode(data["image/gif"])[:6] == b"GIF89a"
    assert data["text/plain"] == "animation: 2 frames, 1.6 s"
    assert metadata == {"image/gif": {"alt": "A line rises."}}
    assert animation.animation(drawing, 1)._repr_mimebundle_()[1] == {}


def test_animation_above_one_megabyte_is_refused():
    noise = np.random.default_rng(0)

    def draw(i):
        figure = plt.figure(figsize=(6, 6))
        figure.figimage(noise.random((600, 600)))
        return figure

    with pytest.raises(ValueError, match=r"GIF has [\d,]+ bytes, at most 1,000,000"):
        animation.animation(draw, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"frames": 1, "fps": 0}, "fps must be > 0"),
        ({"frames": 1, "hold": 0}, "hold >= 1"),
    ],
)
def test_animation_names_a_bad_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        animation.animation(drawing, **arguments)


def test_animation_refuses_figures_of_two_sizes():
    with pytest.raises(ValueError, match="figures of one size, got"):
        animation.animation(lambda i: plt.figure(figsize=(2 + i, 2)), 2)


# --- Replay ---------------------------------------------------------------------------


class Reader(HTMLParser):
    def __init__(self, source):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def payload(source):
    return json.loads(re.search(r'\)\("[0-9a-f]{12}", (.*)\);\n</script>', source)[1])


def test_replay_html_is_one_element_with_its_still():
    alt = 'Bars "meet" <the outline> & stay.'
    reader = Reader(replay(alt)._repr_html_())
    assert reader.open == []
    assert [tag for tag, _ in reader.tags] == ["div", "img", "script"]
    image = reader.tags[1][1]
    assert image["alt"] == alt
    png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(png)) as still:
        assert still.width >= 700
        last = picture(replay().draw(4)).astype(float)
        assert np.abs(np.asarray(still.convert("RGB")) - last).mean() < 0.5


def test_replay_asks_nobody_for_anything():
    source = replay()._repr_html_().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.\w+/|@import|fetch\(|import\(", source)


def test_replay_script_is_small():
    assert len(element._script("replay").encode()) < 13_312


def test_a_label_cannot_end_the_script():
    source = replay(label="</script><b>")._repr_html_()
    assert source.count("</script>") == 1
    assert payload(source)["labels"][0] == "</script><b> 0"


def test_replay_numbers_are_rounded():
    source = replay()._repr_html_()
    data = payload(source)
    assert data["panels"][0]["frames"][4] == [1, 0.667, 0.333]
    script = source[source.rindex('", {"name"') :]
    assert not re.search(r"\d\.\d{5}|\d\.0[,\]]|NaN|Infinity", script)


def test_replay_is_deterministic_and_its_key_is_its_content():
    bundles = [replay()._repr_mimebundle_() for _ in range(2)]
    assert bundles[0] == bundles[1]
    assert set(bundles[0]) == {"text/html", "text/plain"}
    assert bundles[0]["text/plain"] == "replay: 5 frames; Bars meet the outline."
    keys = {
        re.search('data-key="(.*?)"', r._repr_html_())[1]
        for r in (replay(), replay("B"))
    }
    assert len(keys) == 2


def test_replay_and_its_gif_show_the_same_frames():
    player = replay()
    gif = player.animation()
    shown = list(frames_of(gif.data))
    assert len(shown) == len(player.labels) and gif.alt == player.alt
    for i, (frame, _) in enumerate(shown):
        assert np.abs(frame[:-5] - picture(player.draw(i))).mean() < 0.5
    assert not plt.get_fignums()


def test_a_trail_ends_at_its_marker_and_dials_turn():
    words = {"xlabel": "x", "ylabel": "y"}
    turn = np.exp(1j * np.arange(4))
    tips = np.stack([turn.real, turn.imag], -1)[:, None]
    player = replays.replay(
        [
            panels.dials("D", [[1, 0]], tips, ["pair"], arrows=("query", "key")),
            panels.lines("L", range(4), {"a": [3, 1, 2, 0]}, trail=True, **words),
        ],
        range(4),
        alt="The arrow turns and the curve grows.",
    )
    dial, curve = player.draw(2).axes
    assert curve.lines[0].get_xydata().tolist() == [[0, 3], [1, 1], [2, 2]]
    arrows = [
        line.get_xydata()[1] for line in dial.lines if line.get_label() == "query"
    ]
    np.testing.assert_allclose(arrows, [tips[2, 0]], atol=1e-3)


def test_dials_stand_beside_each_other():
    fixed = [[0, 1], [2, 0], [-1, 1]]
    moving = np.array([[[1, 0], [1, 1], [0, -2]]])
    dials = panels.dials("D", fixed, moving, "abc", arrows=("query", "key"))
    ax = replays.replay([dials], ["now"], alt="Three dials.").draw(0).axes[0]
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    circles = [line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 50]
    middles = [circle[:-1].mean(0) for circle in circles]
    np.testing.assert_allclose(middles, [[0, 0], [2.5, 0], [5, 0]], atol=1e-9)
    for circle, middle in zip(circles, middles, strict=True):
        np.testing.assert_allclose(np.hypot(*(circle - middle).T), 1)
        assert left < circle[:, 0].min() and circle[:, 0].max() < right
        assert low < circle[:, 1].min() and circle[:, 1].max() < high
    named = {text.get_text(): text.get_position() for text in ax.texts}
    assert named == {"a": (0, -1.15), "b": (2.5, -1.15), "c": (5, -1.15)}
    for label, tips in (("query", moving[0]), ("key", np.array(fixed))):
        [first] = [line for line in ax.lines if line.get_label() == label]  # once
        look = first.get_color(), first.get_linestyle(), first.get_linewidth()
        ends = [
            line.get_xydata()
            for line in ax.lines
            if (line.get_color(), line.get_linestyle(), line.get_linewidth()) == look
        ]
        wanted = [[m, m + tip / 2] for m, tip in zip(middles, tips, strict=True)]
        np.testing.assert_allclose(ends, wanted, atol=1e-3)  # 2 is the longest
    parts = [line for line in ax.lines if line.get_linewidth() == 8]
    along = [[0, 0], [0.5, 0], [0.5, -0.5]]  # the moving arrow's part along the fixed
    ends = [line.get_xydata()[1] for line in parts]
    np.testing.assert_allclose(ends, np.add(middles, along), atol=1e-3)
    green, pink = theme.CATEGORIES[2], theme.CATEGORIES[3]
    assert [line.get_color() for line in parts] == [green, green, pink]


def test_a_player_is_told_how_to_draw():
    data = payload(replay()._repr_html_())
    names = ("name", "alt", "columns", "fps", "colours")
    assert [data[name] for name in names] == [
        "Replay",
        "Bars meet the outline.",
        2,
        round(replay().fps, 2),
        theme.CATEGORIES,
    ]
    assert [panel["kind"] for panel in data["panels"]] == ["bars", "lines", "matrix"]
    [ramp] = data["ramps"].values()
    assert ramp[0] == colors.to_hex(plt.get_cmap(theme.DIVERGING)(0.0))
    assert ramp[-1] == colors.to_hex(plt.get_cmap(theme.DIVERGING)(1.0))
    words = {"xlabel": "x", "ylabel": "y"}
    plain = replays.replay(
        [panels.bars("B", [0, 1], [[1]], **words)], ["a"], alt="x", columns=3
    )
    assert payload(plain._repr_html_())["columns"] == 3
    assert payload(plain._repr_html_())["ramps"] == {}


def test_a_number_that_json_has_not_is_refused():
    for odd in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            element.framed("replay", {"labels": [odd]}, "<b>still</b>")


def test_bars_of_a_replay_are_filled_and_their_target_is_an_outline():
    words = {"xlabel": "x", "ylabel": "y"}
    bars = panels.bars("B", [0, 1, 3], [[1, 2], [3, 0]], target=[2, 2], **words)
    ax = replays.replay([bars], "ab", alt="Bars.").draw(1).axes[0]
    filled, outline = ax.patches
    assert filled.get_data().values.tolist() == [3, 0] and filled.get_fill()
    assert colors.to_hex(filled.get_facecolor()) == theme.CATEGORIES[0]
    assert outline.get_data().values.tolist() == [2, 2] and not outline.get_fill()
    assert colors.to_hex(outline.get_edgecolor()) == "#000000"
    assert outline.get_label() == "target" and ax.get_xlim() == (0, 3)


def test_curves_of_a_replay_are_drawn_with_their_names():
    words = {"xlabel": "x", "ylabel": "y"}
    moving = {"now": [[1, 2, 3], [3, 2, 1]], "start": [0, 0, 1]}
    plot = panels.lines("L", [0, 5, 9], moving, **words)
    ax = replays.replay([plot], "ab", alt="Two curves.").draw(1).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {"now": [[0, 3], [5, 2], [9, 1]], "start": [[0, 0], [5, 0], [9, 1]]}
    looks = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    assert looks == [(theme.CATEGORIES[0], "-"), (theme.CATEGORIES[1], "--")]
    still = panels.lines("L", [0, 5, 9], {"a": [4, 0, 2]}, marker=[0, 7], **words)
    ax = replays.replay([still], "ab", alt="A marker.").draw(1).axes[0]
    curve, mark = ax.lines
    assert curve.get_ydata().tolist() == [4, 0, 2]  # whole, without a trail
    assert mark.get_xydata().tolist() == [[7, 1]] and mark.get_marker() == "o"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")


def test_replay_axes_stay_while_it_plays():
    player = replay()

    def axes():
        return [
            (ax.get_xlim(), ax.get_ylim(), ax.get_position().bounds)
            for ax in player.draw(0).axes
        ]

    first = axes()
    player.draw(3)
    assert axes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "labels has 1 entries, panel 'B' has 2 frames"),
        ({"labels": []}, "labels must hold one label for each frame, got none"),
        ({"alt": " "}, "alt must say"),
        ({"columns": 0}, "columns must be at least 1, got 0"),
        ({"panels": []}, "panels must hold at least one panel"),
    ],
)
def test_replay_names_a_bad_argument(change, message):
    panel = panels.bars("B", [0, 1], [[1], [2]], xlabel="x", ylabel="y")
    arguments = {"panels": [panel], "labels": ["a", "b"], "alt": "x"} | change
    with pytest.raises(ValueError, match=message):
        replays.replay(**arguments)


@pytest.mark.parametrize("frames", [1, 2])
def test_replay_of_few_frames(frames):
    panel = panels.bars("B", [0, 1], np.ones((frames, 1)), xlabel="x", ylabel="y")
    player = replays.replay([panel], ["a", "b"][:frames], alt="x", columns=3)
    assert len(list(frames_of(player.animation().data))) == frames
    assert payload(player._repr_html_())["labels"] == ["a", "b"][:frames]


def test_a_text_of_a_replay_is_wrapped_and_taken_as_it_is():
    texts = ["$x_1", "a long line " * 12 + "\nand _another_"]
    made = replays.replay([panels.texts("T", texts)], ["0", "1"], alt="What it writes.")
    for frame, text in enumerate(texts):
        (drawn,) = made.draw(frame).axes[0].texts
        words = drawn.get_text().split()
        assert words == text.split() and not drawn.get_parse_math()
    assert len(drawn.get_text().split("\n")) > 2
    assert '"kind": "texts"' in made._repr_html_() or "texts" in made._repr_html_()
