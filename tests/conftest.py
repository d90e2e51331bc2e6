"""For all tests: drawn cases repeat, studies are killed and go on, one browser.

The browser is the Chromium that the system has.
"""

import os
import shutil

import pytest
import torch
from hypothesis import settings

# The same cases in every run, and no deadline: a loaded machine is slow.
settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")


def _timeless(found):
    """What a study found without the seconds that it took, tensors as lists."""
    if isinstance(found, torch.Tensor):
        return found.tolist()
    if isinstance(found, dict):
        times = [k for k in found if "seconds" in str(k) or k == "with_judging"]
        return {k: _timeless(v) for k, v in found.items() if k not in times}
    return [_timeless(v) for v in found] if isinstance(found, list | tuple) else found


@pytest.fixture
def goes_on(tmp_path, monkeypatch):
    """goes_on(study, owner, name, stops): killed and started again, it ends the same.

    `study(folder)` is stopped at each call of `owner.name` whose number, from 1 and on
    through all starts, is in `stops`. Returns what it gives uninterrupted.
    """

    def check(study, owner, name, stops):
        whole = study(tmp_path / "whole")
        real, calls = getattr(owner, name), 0

        def killed(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls in stops:
                raise KeyboardInterrupt
            return real(*arguments, **keywords)

        monkeypatch.setattr(owner, name, killed)
        for _ in stops:
            with pytest.raises(KeyboardInterrupt):
                study(tmp_path / "killed")
        again = study(tmp_path / "killed")
        assert _timeless(again) == _timeless(whole)
        before = calls
        assert _timeless(study(tmp_path / "killed")) == _timeless(whole)
        assert calls == before, "what was finished ran again"
        return whole

    return check


NAMES = ("chromium", "chromium-browser", "google-chrome")
# Our own pages only: the sandbox needs rights that containers lack.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = f"no browser: none of {', '.join(NAMES)} is installed"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without a browser skip, all in one line of the report; under CI=true fail."""
    wanted = "browser" in getattr(item, "fixturenames", ())
    if wanted and PROGRAM is None and os.environ.get("CI") != "true":
        pytest.skip(MISSING)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    if PROGRAM is None:
        pytest.fail(MISSING, pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """open_page(url, **context options) -> page; the test fails if the page complains.

    `page.requests` lists what the page asked other places for (not file: and data:).
    """
    contexts, problems = [], []

    def opened(url, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.requests = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                problems.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:"))
                else page.requests.append(request.url)
            ),
        )
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems, problems
