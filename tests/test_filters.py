"""lib.filters: equal to the processors of transformers, and what is left a distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from lib import decoding, filters


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.05, 5.0),
    k=st.integers(1, 60),
    p=st.floats(0.01, 1.0),
    m=st.floats(0.0, 1.0),
)
def test_filters_are_the_processors(seed, temperature, k, p, m):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3, 50, generator=generator)
    processors = {
        theirs.TemperatureLogitsWarper(temperature): (filters.scale, temperature),
        theirs.TopKLogitsWarper(k): (filters.keep_top_k, k),
        theirs.TopPLogitsWarper(p): (filters.keep_top_p, p),
        theirs.MinPLogitsWarper(m): (filters.keep_min_p, m),
    }
    together = logits
    for processor, (ours, value) in processors.items():
        assert torch.equal(ours(logits, value), processor(None, logits))
        together = processor(None, together)
    assert torch.equal(filters.filtered(logits, temperature, k, p, m), together)
    ids = torch.randint(50, (3, 12), generator=generator)
    penalty = theirs.RepetitionPenaltyLogitsProcessor(temperature)
    assert torch.equal(filters.penalise(logits, ids, temperature), penalty(ids, logits))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 9), p=st.floats(0.01, 1.0))
def test_what_is_left_is_a_distribution_in_the_old_proportions(seed, k, p):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 9, dtype=torch.float64, generator=generator)
    shares = filters.filtered(logits, 1.0, k, p).softmax(-1)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, dtype=torch.float64))
    left = shares > 0
    assert (left.sum(-1) <= k).all()
    assert torch.equal(shares.argmax(-1), logits.argmax(-1))
    ratio = (shares / logits.softmax(-1))[left]  # one number for each row
    assert len(ratio.round(decimals=9).unique()) <= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_filters_of_half_precision_keep_what_those_of_float32_keep(dtype):
    generator = torch.Generator().manual_seed(0)
    # Half of the probability in one token, the rest in 20,000 that are one in 40,000
    # each: in half precision such a sum stands still.
    logits = torch.zeros(2, 20_001).to(dtype)
    logits[:, 7] = torch.tensor(20_000.0).log()
    wide = 4 * torch.randn(3, 5_000, generator=generator).to(dtype)
    for case in (logits, wide):
        for p in (0.3, 0.6, 0.9, 0.999):
            for keep in (filters.keep_top_p, filters.keep_min_p):
                ours, exact = keep(case, p), keep(case.float(), p)
                assert ours.dtype == dtype and torch.equal(ours.float(), exact)


def test_top_k_keeps_ties_and_top_p_the_token_that_crosses():
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert filters.keep_top_k(logits, 2).isfinite().sum() == 3
    assert filters.keep_top_p(logits, 0.5).isfinite().tolist() == [[True, False, False]]
    assert filters.keep_top_p(logits, 0.51).isfinite().sum() == 2


BAD = {
    "temperature 0": (filters.scale, 0.0),
    "temperature below 0": (filters.scale, -1.0),
    "temperature NaN": (filters.scale, float("nan")),
    "top_p 0": (filters.keep_top_p, 0.0),
    "top_p above 1": (filters.keep_top_p, 1.1),
    "min_p above 1": (filters.keep_min_p, 1.1),
    "min_p below 0": (filters.keep_min_p, -0.1),
    "top_k 0": (filters.keep_top_k, 0),
    "top_k 1.5": (filters.keep_top_k, 1.5),
}


@pytest.mark.parametrize("case", BAD)
def test_numbers_that_make_no_sense(case):
    function, value = BAD[case]
    with pytest.raises(ValueError, match=case.split()[0]):
        function(torch.zeros(1, 4), value)
    ids = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=case.split()[0]):
        decoding.sample(None, ids, 2, **{case.split()[0]: value})


def test_k_above_the_vocabulary_keeps_all():
    logits = torch.randn(2, 4)
    assert torch.equal(filters.keep_top_k(logits, 100), logits)
