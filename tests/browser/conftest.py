"""For all figures in a browser: a page that holds one alone, also narrow and dark."""

import io

import numpy as np
import pytest
from PIL import Image

DARK = "body{background:#14181e;color:#ced6dd}"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """written(body, style="") -> the address of a page with nothing else on it."""

    def write(body, style=""):
        file = tmp_path_factory.mktemp("page") / "index.html"
        head = '<!doctype html><html lang="en"><meta charset="utf-8">'
        head += "<title>Figure</title>"
        style = f"<style>body{{font-family:sans-serif;margin:16px}}{style}</style>"
        file.write_text(head + style + body, encoding="utf-8")
        return file.as_uri()

    return write


@pytest.fixture
def narrow_and_dark(open_page, written):
    """narrow_and_dark(body) -> the page, 360 pixels wide, and its pixels; it has to fit."""

    def opened(body):
        view = {"width": 360, "height": 740}
        page = open_page(written(body, DARK), viewport=view)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        picture = Image.open(io.BytesIO(page.screenshot())).convert("L")
        return page, np.asarray(picture, float)  # 0 is black, 255 white

    return opened
