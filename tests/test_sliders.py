"""A distribution under sliders: which tokens it names, what it rounds, what it draws."""

import html
import json

import pytest
import torch

from lib.figures import sliders

LOGITS = torch.tensor([1.0, 3.0, 2.00004, -0.45, 0.0, -0.43])
NAMES = ["one", "three", "two", "less", "nought", "</little>"]


@pytest.fixture
def drawn(monkeypatch):
    """The element of these logits, and the figure of its still."""
    figures, png = [], sliders.png
    monkeypatch.setattr(sliders, "png", lambda f: figures.append(f) or png(f))
    element = sliders.distribution(
        LOGITS, NAMES, alt='Bars "of" six.', named=3, shown=2
    )
    return element, figures[0]


def test_the_likeliest_are_named_and_the_rest_are_counted(drawn):
    data = drawn[0].data
    assert data["tokens"] == ["three", "two"]
    assert data["logits"] == pytest.approx([0, -1, -2], abs=1e-9)  # four decimals
    assert data["rest"] == [[-3.4375, 2], [-3.0, 1]]  # sixteenths, and how many
    assert (data["size"], data["shown"]) == (6, 2)
    assert data["name"] == "The next token" and data["alt"] == 'Bars "of" six.'
    whole = sliders.distribution(LOGITS, NAMES, alt="Bars.").data
    assert whole["tokens"] == [NAMES[i] for i in (1, 2, 0, 4, 5, 3)]
    assert len(whole["logits"]) == 6 and whole["rest"] == [] and whole["shown"] == 16


def test_tokens_alike_keep_their_order():
    data = sliders.distribution(torch.zeros(4), "abcd", alt="All alike.", shown=3).data
    assert data["tokens"] == ["a", "b", "c"] and data["logits"] == [0, 0, 0, 0]


def test_what_the_sliders_work_on_is_rounded():
    found = sliders.rounded(LOGITS + 5, named=3)
    expected = torch.tensor([-2, 0, -1, -3.4375, -3, -3.4375], dtype=torch.double)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    exact = sliders.rounded(LOGITS)  # 300 unless told
    torch.testing.assert_close(
        exact[3], torch.tensor(-3.45).double(), atol=1e-6, rtol=0
    )


def test_the_still_has_a_bar_for_each_token_shown_and_one_for_the_others(drawn):
    [ax] = drawn[1].axes
    shares = torch.tensor([-2, 0, -1, -3.4375, -3, -3.4375]).double().softmax(0)[[1, 2]]
    shares = [*shares.tolist(), 1 - shares.sum().item()]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(shares)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["three", "two", "all others"]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[0] == colours[1] != colours[2]
    assert 1 < drawn[1].get_size_inches()[1] < 2  # three bars
    assert ax.get_xlim() == (0, 1) and ax.yaxis_inverted()
    assert ax.get_xlabel() == "probability at temperature 1"


def test_a_page_gets_the_data_and_the_alt_text(drawn):
    bundle = drawn[0]._repr_mimebundle_()
    assert bundle["text/plain"] == 'The next token: Bars "of" six.'
    text = bundle["text/html"]
    assert 'data-element="sliders"' in text
    assert f'alt="{html.escape(drawn[0].data["alt"])}"' in text
    data = json.dumps(drawn[0].data, ensure_ascii=False, separators=(",", ":"))
    assert data.replace("<", "\\u003c") in text and drawn[0].still[1:4] == b"PNG"
