"""The replay player in a browser: what a reader does, and what a page must not suffer."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from lib.figures import panels, replay, theme

FRAMES = 12
LABELS = [f"step {10 * i}" for i in range(FRAMES)]
DARK = "<style>body{background:#14181e;color:#ced6dd}</style>"


@pytest.fixture(scope="module", autouse=True)
def look():
    theme.apply()


def player(alt="The curve falls and the bars meet the outline."):
    t = np.linspace(0, 1, FRAMES)
    tokens = ["▁the", "猫", "sat"]
    shown = [
        panels.bars(
            "Activations",
            np.linspace(-2, 2, 9),
            t[:, None] * np.array([0, 1, 2, 3, 3, 2, 1, 0]),
            target=[0, 1, 2, 3, 3, 2, 1, 0],
            xlabel="value",
            ylabel="count",
        ),
        panels.lines(
            "Loss",
            10 * np.arange(FRAMES),
            {"ours": 2 - t},
            xlabel="step",
            ylabel="nats",
        ),
        panels.matrix(
            "Attention",
            np.eye(3) * t[:, None, None],
            tokens,
            tokens,
            xlabel="key",
            ylabel="query",
            label="weight",
        ),
    ]
    return replay.replay(shown, LABELS, alt=alt)._repr_html_()


@pytest.fixture(scope="module")
def address(written):
    """A page with two replays, a third time the first, and nothing around them."""
    return written(player() + player("Another.") + player())


def frame(page, index=0):
    return int(page.locator("input[type=range]").nth(index).input_value())


def bars(page):
    """The path of the bars in the first player: it changes with the frame."""
    return page.locator("[data-element] .stage path[fill]").first.get_attribute("d")


def test_starts_paused_on_the_last_frame(open_page, address):
    page = open_page(address)
    assert page.get_by_role("slider").count() == 3  # the same replay twice, both alive
    assert [frame(page, i) for i in range(3)] == [FRAMES - 1] * 3
    page.wait_for_timeout(400)
    assert frame(page) == FRAMES - 1
    assert page.get_by_role("button", name="Play").count() == 3
    assert page.get_by_role("img", name="The curve falls").count() == 2
    assert not page.locator("[data-element] > img").first.is_visible()
    assert page.requests == []
    assert (
        page.evaluate("Object.keys(window).filter(k => /replay|player/i.test(k))") == []
    )


def test_slider_moves_one_player_only(open_page, address):
    page = open_page(address)
    before = bars(page)
    slider = page.get_by_role("slider").first
    slider.fill("3")
    assert bars(page) != before
    assert [frame(page, i) for i in range(3)] == [3, FRAMES - 1, FRAMES - 1]
    assert slider.get_attribute("aria-valuetext") == f"step 30, frame 4 of {FRAMES}"
    assert page.locator("output").first.inner_text() == "step 30"


def test_keyboard(open_page, address):
    page = open_page(address)
    page.get_by_role("slider").first.focus()
    for key, expected in [
        ("Home", 0),
        ("ArrowRight", 1),
        ("ArrowUp", 2),
        ("ArrowLeft", 1),
        ("ArrowDown", 0),
        ("ArrowLeft", 0),
        ("End", FRAMES - 1),
        ("ArrowRight", FRAMES - 1),
    ]:
        page.keyboard.press(key)
        assert frame(page) == expected, key
    page.keyboard.press("Space")  # on the slider
    assert page.get_by_role("button", name="Pause").count() == 1
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Space")  # on the button
    assert page.get_by_role("button", name="Pause").count() == 0
    page.keyboard.press("Home")  # on the button too
    assert frame(page) == 0


def test_play_runs_stops_at_the_end_and_can_be_paused(open_page, address):
    page = open_page(address)
    page.clock.install(time=0)
    page.clock.pause_at(1000)  # from here on time passes when the test says so
    page.get_by_role("button", name="Play").first.click()
    assert frame(page) == 0
    page.clock.run_for(2000)
    reached = frame(page)
    assert 0 < reached < FRAMES - 1
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(2000)
    assert frame(page) == reached
    assert page.locator("output").first.get_attribute("aria-live") == "polite"
    page.get_by_role("button", name="Play").first.click()  # goes on from there
    assert frame(page) == reached
    assert page.locator("output").first.get_attribute("aria-live") == "off"
    page.clock.run_for(10_000)
    assert frame(page) == FRAMES - 1
    assert page.get_by_role("button", name="Pause").count() == 0


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_reduced_motion_shows_whole_frames_only(open_page, address, motion):
    page = open_page(address, reduced_motion=motion)
    whole = []
    for i in range(FRAMES):
        page.get_by_role("slider").first.fill(str(i))
        whole.append(bars(page))
    page.evaluate(
        """() => {
            const bars = document.querySelector("[data-element]").shadowRoot
                .querySelector(".stage path[fill]");
            window.drawn = [];
            new MutationObserver(() => window.drawn.push(bars.getAttribute("d")))
                .observe(bars, { attributes: true });
        }"""
    )
    page.get_by_role("button", name="Play").first.click()
    page.wait_for_timeout(1500)
    drawn = set(page.evaluate("window.drawn"))
    assert len(drawn & set(whole)) >= 2
    assert bool(drawn - set(whole)) == (motion == "no-preference")


def test_dark_page_keeps_its_ground_and_turns_the_ink(open_page, written):
    def pixels(body):
        page = open_page(written(body), viewport={"width": 760, "height": 700})
        png = page.locator("[data-element]").first.screenshot()
        return np.asarray(Image.open(io.BytesIO(png)).convert("L"), float)

    light, dark = pixels(player()), pixels(DARK + player())
    assert light.shape == dark.shape
    assert light.mean() > 190 and dark.mean() < 80
    # Text and axes are dark on light and light on dark.
    assert light.min() < 30 and np.percentile(dark, 99.5) > 180


def test_fits_a_narrow_screen(open_page, address):
    page = open_page(address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    lefts = page.evaluate(
        """() => [...document.querySelector("[data-element]").shadowRoot
            .querySelectorAll(".panel")].map(p => p.getBoundingClientRect().left)"""
    )
    assert len(lefts) == 3 and len(set(lefts)) == 1  # one below the other
    sizes = page.evaluate(
        """() => [...document.querySelector("[data-element]").shadowRoot
            .querySelectorAll("svg text")].map(t => parseFloat(getComputedStyle(t).fontSize))"""
    )
    assert min(sizes) >= 12
    for box in map(
        lambda name: page.get_by_role(name).first.bounding_box(), ("button", "slider")
    ):
        assert box["height"] >= 24 and box["x"] + box["width"] <= 360
    page.set_viewport_size({"width": 760, "height": 740})
    page.wait_for_timeout(200)
    assert page.locator(".panel").nth(1).bounding_box()["x"] > 300  # side by side again


@pytest.mark.parametrize(("width", "rows"), [(760, 1), (360, 2)])
def test_dials_turn_and_their_curve_grows(open_page, written, width, rows):
    angle = np.arange(FRAMES)[:, None] * np.array([1, 0.5, 0.1, 0.01])
    tips = np.stack([np.cos(angle), np.sin(angle)], -1)
    shown = [
        panels.dials("Pairs", tips[0], tips, "abcd", arrows=("query", "key")),
        panels.lines(
            "Score",
            np.arange(FRAMES),
            {"q · k": np.cos(angle).sum(-1)},
            xlabel="distance",
            ylabel="score",
            trail=True,
        ),
    ]
    body = replay.replay(shown, LABELS, alt="Arrows.", columns=1)._repr_html_()
    page = open_page(written(body), viewport={"width": width, "height": 740})
    names = page.locator(".panel").first.locator("svg text")
    tops = {round(name.bounding_box()["y"]) for name in names.all()}
    assert names.all_text_contents() == list("abcd") and len(tops) == rows

    def drawn(at):
        page.get_by_role("slider").fill(str(at))
        paths = page.locator(".stage path").evaluate_all(
            "paths => paths.map(path => path.getAttribute('d'))"
        )
        return [d for d in paths if d.startswith("M")]

    first, later = drawn(0), drawn(5)
    assert max(d.count("L") for d in first) == 1  # only the axes and the arrows
    assert max(d.count("L") for d in later) == 5
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_no_text_is_cut(open_page, address):
    page = open_page(address, viewport={"width": 760, "height": 700})
    cut = page.evaluate(
        """() => [...document.querySelector("[data-element]").shadowRoot
            .querySelectorAll(".panel > svg")].flatMap(svg => {
                const box = svg.getBoundingClientRect();
                return [...svg.querySelectorAll("text")].filter(t => {
                    const b = t.getBoundingClientRect();
                    return b.left < box.left - 1 || b.right > box.right + 1
                        || b.top < box.top - 1 || b.bottom > box.bottom + 1;
                }).map(t => t.textContent);
            })"""
    )
    assert cut == []


@pytest.mark.parametrize("how", ["scripts off", "scripts stripped"])
def test_the_still_stands_where_scripts_do_not_run(open_page, written, how):
    body = player()
    if how == "scripts stripped":
        body = re.sub(r"<script>.*?</script>", "", body, flags=re.S)
    page = open_page(
        written(body),
        java_script_enabled=how != "scripts off",
        viewport={"width": 360, "height": 740},
    )
    still = page.get_by_role("img", name="The curve falls")
    assert still.is_visible()
    assert 200 < still.bounding_box()["width"] <= 328
    assert page.get_by_role("slider").count() == 0
    assert page.locator("body").inner_text().strip() == ""


def test_inserted_as_jupyterlab_does(open_page, written):
    """innerHTML runs no script: JupyterLab puts a copy of each in its place."""
    page = open_page(written('<div id="output"></div>'))
    page.evaluate(
        """source => {
            const host = document.createElement("div");
            host.innerHTML = source;
            for (const old of host.querySelectorAll("script")) {
                const script = document.createElement("script");
                script.textContent = old.textContent;
                old.replaceWith(script);
            }
            document.getElementById("output").append(host);
        }""",
        player(),
    )
    page.get_by_role("slider").fill("2")
    assert frame(page) == 2
    # Keys reach the player, not the notebook's shortcuts.
    assert page.locator("[data-lm-suppress-shortcuts]").count() == 1
