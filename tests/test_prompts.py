"""lib.prompts: text, padding, cache, scores of labels, calibration."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from lib import prompts
from lib.data.tasks import FORMATS, task

V = 50


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


def by_hand(model, text, label):
    """The sum of the label's log-probabilities, one sequence, nothing kept."""
    ids = torch.tensor([[*text, *label]])
    with torch.no_grad():
        logs = model(ids).logits[0].log_softmax(-1)  # (T, V)
    first = len(text) - 1  # what is said after the last token of the text
    return sum(logs[first + i, token].item() for i, token in enumerate(label))


@pytest.mark.parametrize("name", FORMATS)
def test_every_form_is_a_question_and_its_label(name):
    row = task(name).rows[3]
    for template in FORMATS[name].values():
        text = template.format(**row)
        start = prompts.question(template, row["input"])
        assert text == f"{start} {row['label']}" and start == start.rstrip()
        shown = prompts.demonstrations(template, [(row["input"], row["label"])] * 2)
        assert shown == (text + ("\n\n" if "\n" in template else "\n")) * 2


def test_text_in_the_item_is_no_template():
    assert prompts.question("{input} -> {label}", "a {label} b") == "a {label} b ->"
    assert prompts.demonstrations("{input} -> {label}", []) == ""


@pytest.mark.parametrize("template", ["{input}", "{label}", "{label} {input}", "a"])
def test_other_templates_are_refused(template):
    with pytest.raises(ValueError, match="template"):
        prompts.question(template, "hot")


tokens = st.lists(st.integers(0, V - 1), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, V - 1), max_size=6),
    st.lists(tokens, min_size=1, max_size=4),
    st.lists(tokens, min_size=1, max_size=4, unique_by=tuple),
)
def test_scores_equal_a_sum_by_hand(model, shown, questions, labels):
    """With and without demonstrations; labels that begin alike, or contain another."""
    found = prompts.label_logs(model, prompts.remember(model, shown), questions, labels)
    wanted = [[by_hand(model, shown + q, lab) for lab in labels] for q in questions]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)


def test_more_rows_than_are_read_at_once(model, monkeypatch):
    g = torch.Generator().manual_seed(0)
    rows = [torch.randint(V, (n,), generator=g).tolist() for n in (3, 1, 5, 2, 4, 1, 2)]
    past = prompts.remember(model, [1, 2, 3])
    whole = prompts.next_logs(model, past, rows)
    monkeypatch.setattr(prompts, "ROWS", 2)
    torch.testing.assert_close(prompts.next_logs(model, past, rows), whole)
    assert whole.exp().sum(-1).allclose(torch.ones(7), atol=1e-5)


def test_the_past_is_not_changed(model):
    past = prompts.remember(model, [1, 2, 3])
    before = [layer.keys.clone() for layer in past.layers]
    prompts.next_logs(model, past, [[4, 5], [6]])
    assert past.get_seq_length() == 3
    for layer, keys in zip(past.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_bad_input_is_named(model):
    past = prompts.remember(model, [1, 2, 3])
    with pytest.raises(ValueError, match="rows: got an empty one"):
        prompts.next_logs(model, past, [[1], []])
    with pytest.raises(ValueError, match="rows: got an empty one"):
        prompts.next_logs(model, past, [])
    with pytest.raises(ValueError, match="labels: got an empty one"):
        prompts.label_logs(model, past, [[1]], [[1], []])
    with pytest.raises(ValueError, match="66 tokens in all, the model reads 64"):
        prompts.next_logs(model, past, [[1] * 63])


def test_calibration_by_hand():
    logs = torch.tensor([[0.6, 0.3], [0.2, 0.1]]).log()
    free = torch.tensor([[0.8, 0.2], [0.3, 0.1]]).log()  # normalised: .8 .2, .75 .25
    wanted = torch.tensor([[0.6 / 0.775, 0.3 / 0.225], [0.2 / 0.775, 0.1 / 0.225]])
    torch.testing.assert_close(prompts.calibrated(logs, free).exp(), wanted)


def test_after_calibration_a_content_free_input_has_no_favourite():
    free = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    found = prompts.calibrated(free, free)
    torch.testing.assert_close(found, found[:, :1].expand(1, 5))
