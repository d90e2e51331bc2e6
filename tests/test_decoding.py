"""Searches equal to transformers' `generate`, filters to its processors, and the cache."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LogitsProcessorList,
    MistralConfig,
    OPTConfig,
)
from transformers.generation import logits_process as theirs

from lib import decoding
from lib.models import LanguageModel
from lib.positions import SCHEMES

V, EOS, PAD = 37, 1, 2
SMALL = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": PAD}
LLAMA = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    **SMALL,
)
CONFIGS = {
    "gpt2": GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=4, **SMALL),
    "llama": LlamaConfig(num_key_value_heads=2, **LLAMA),
    "gpt-neox": GPTNeoXConfig(**LLAMA),
    "mistral": MistralConfig(num_key_value_heads=2, sliding_window=6, **LLAMA),
    "bloom": BloomConfig(hidden_size=32, n_layer=2, n_head=4, **SMALL),
    "opt": OPTConfig(ffn_dim=48, word_embed_proj_dim=32, **LLAMA),
}


def tiny(name, seed=0, wild=6.0):
    """A random model whose next tokens are neither certain nor all alike."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(wild)
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(request.param)


def prompts(rows=3, length=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, V, (rows, length), generator=generator)


def padded():
    ids = prompts().tolist()
    return decoding.pad_left([ids[0], ids[1][:2], ids[2][:4]], PAD)


def theirs_of(model, ids, new_tokens, mask=None, eos=EOS, **more):
    mask = torch.ones_like(ids) if mask is None else mask.long()
    return model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        eos_token_id=eos,
        pad_token_id=PAD,
        do_sample=False,
        **more,
    )


# --- Against generate ------------------------------------------------------------


@pytest.mark.parametrize("new_tokens", [1, 12])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_generate(model, new_tokens, penalty):
    for ids, mask in ((prompts(), None), (prompts(1), None), padded()):
        want = theirs_of(model, ids, new_tokens, mask, repetition_penalty=penalty)
        for step in (decoding.cached, decoding.uncached):
            got = decoding.greedy(
                step(model, mask), ids, new_tokens, penalty=penalty, eos=EOS, pad=PAD
            )
            assert torch.equal(got, want)


SEARCHES = [
    # new tokens, beams, length penalty, early stopping, repetition penalty
    (1, 3, 1.0, False, 1.0),
    (10, 1, 1.0, False, 1.0),
    (10, 2, 1.0, True, 1.0),
    (10, 4, 0.0, False, 1.0),
    (10, 4, 0.0, "never", 1.0),
    (10, 4, 2.0, "never", 1.2),
    (14, 3, -1.0, True, 1.0),
    (14, 5, 1.5, True, 1.3),
    (14, 4, 0.6, False, 1.0),
]


@pytest.mark.parametrize("eos", [EOS, [1, 5, 9, 20, 30]], ids=["one-end", "five-ends"])
@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_beam_is_generate(model, search, eos):
    new_tokens, beams, length_penalty, early, penalty = search
    settings = {"length_penalty": length_penalty, "early_stopping": early}
    for ids, mask in ((prompts(), None), padded()):
        want = theirs_of(
            model,
            ids,
            new_tokens,
            mask,
            eos,
            num_beams=beams,
            repetition_penalty=penalty,
            return_dict_in_generate=True,
            output_scores=True,
            **(settings if beams > 1 else {}),
        )
        for step in (decoding.cached, decoding.uncached):
            step = step(model, mask)
            more = {"penalty": penalty, "eos": eos, "pad": PAD}
            got, scores = decoding.beam(step, ids, new_tokens, beams, **settings, **more)
            assert torch.equal(got, want.sequences)
            if beams > 1:  # one beam is greedy, there and here
                torch.testing.assert_close(scores, want.sequences_scores)
