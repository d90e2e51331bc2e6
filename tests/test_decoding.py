"""Searches equal to transformers' `generate`, with a cache and without."""

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    MiniMaxConfig,
    MistralConfig,
    OPTConfig,
    RecurrentGemmaConfig,
    RwkvConfig,
    xLSTMConfig,
)

from lib import decoding, filters
from lib.models.language import LanguageModel
from lib.positions import SCHEMES

V, EOS, PAD, MANY = 37, 1, 2, [1, 5, 9, 20, 30]
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
    # States in the place of keys and values, or beside them; the first layer is a state.
    "mamba": MambaConfig(
        hidden_size=32, num_hidden_layers=2, state_size=4, time_step_rank=2, **SMALL
    ),
    "jamba": JambaConfig(
        num_key_value_heads=2,
        num_experts=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=2,
        **LLAMA,
    ),
    "bamba": BambaConfig(
        num_key_value_heads=2,
        attn_layer_indices=[1],
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=4,
        mamba_chunk_size=4,
        **LLAMA,
    ),
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


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_generate(model, penalty):
    for (ids, mask), new_tokens in (((prompts(1), None), 1), (padded(), 9)):
        want = theirs_of(model, ids, new_tokens, mask, repetition_penalty=penalty)
        more = {"penalty": penalty, "eos": EOS, "pad": PAD}
        for step in (decoding.cached, decoding.uncached):
            got = decoding.greedy(step(model, mask), ids, new_tokens, **more)
            assert torch.equal(got, want)


SEARCHES = [
    # new tokens, beams, length penalty, early stopping, repetition penalty, ends
    (1, 3, 1.0, False, 1.0, EOS),
    (8, 2, 1.0, True, 1.0, MANY),
    (8, 4, 0.0, False, 1.0, MANY),
    (9, 4, 2.0, "never", 1.2, EOS),
    (9, 3, -1.0, "never", 1.0, MANY),
    (12, 5, 1.5, True, 1.3, MANY),
    (9, 3, 0.6, False, 1.0, None),
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_beam_is_generate(model, search):
    new_tokens, beams, length_penalty, early, penalty, eos = search
    more = {"length_penalty": length_penalty, "early_stopping": early}
    ids, mask = padded()
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
        **more,
    )
    more |= {"penalty": penalty, "eos": () if eos is None else eos, "pad": PAD}
    step = decoding.cached(model, mask)
    got, scores = decoding.beam(step, ids, new_tokens, beams, **more)
    assert torch.equal(got, want.sequences)
    torch.testing.assert_close(scores, want.sequences_scores)


def test_beam_without_a_cache_and_with_one_beam():
    model, (ids, mask) = tiny("gpt2"), padded()
    found = [
        decoding.beam(step(model, mask), ids, 8, 3, eos=MANY, pad=PAD)[0]
        for step in (decoding.cached, decoding.uncached)
    ]
    assert torch.equal(*found)
    one, _ = decoding.beam(decoding.cached(model, mask), ids, 8, 1, eos=EOS, pad=PAD)
    step = decoding.cached(model, mask)
    assert torch.equal(one, decoding.greedy(step, ids, 8, eos=EOS, pad=PAD))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_changes_no_logits(name):
    model, ids = tiny(name, wild=2.0), prompts(2, 9)
    steps = decoding.cached(model), decoding.uncached(model)
    for T in range(4, 10):
        with_cache, without = (step(ids[:, :T], None) for step in steps)
        torch.testing.assert_close(with_cache, without, atol=1e-4, rtol=0)


def test_a_cache_that_cannot_be_kept_is_named():
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    gemma = RecurrentGemmaConfig(
        **SMALL | heads, hidden_size=32, num_hidden_layers=3, intermediate_size=48
    )
    minimax = MiniMaxConfig(
        **LLAMA,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_local_experts=2,
    )
    rwkv = RwkvConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2)
    xlstm = xLSTMConfig(**SMALL, hidden_size=32, num_hidden_layers=2, num_heads=4)
    gemma, minimax, rwkv, xlstm = (
        AutoModelForCausalLM.from_config(config).eval()
        for config in (gemma, minimax, rwkv, xlstm)
    )
    with pytest.raises(ValueError, match="model: RwkvForCausalLM takes none of past_"):
        decoding.cached(rwkv)
    with pytest.raises(ValueError, match="RecurrentGemmaForCausalLM returned no past_"):
        decoding.greedy(decoding.cached(gemma), prompts(), 2)
    with pytest.raises(ValueError, match="its MiniMaxCache cannot reorder its rows"):
        decoding.beam(decoding.cached(minimax), prompts(), 3, 2)
    ids, mask = padded()
    with pytest.raises(ValueError, match=r"mask: xLSTM.* takes no attention_mask"):
        decoding.cached(xlstm, mask)
    for model in (rwkv, gemma, minimax):
        assert decoding.greedy(decoding.uncached(model), ids, 2).shape == (3, 7)


def test_beams_of_half_precision_are_summed_in_float32():
    generator = torch.Generator().manual_seed(0)
    table = (3 * torch.randn(9, 9, generator=generator)).bfloat16()
    ids = torch.tensor([[0], [3]])
    found = [
        decoding.beam(lambda ids, _, t=t: t[ids[:, -1]], ids, 12, 4)
        for t in (table, table.float())
    ]
    assert found[0][1].dtype == torch.float32
    assert all(map(torch.equal, *found))


# --- Sampling --------------------------------------------------------------------


def test_sampling_frequencies():
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    for more in (
        {},
        {"temperature": 0.7},
        {"top_k": 3},
        {"top_p": 0.9},
        {"min_p": 0.2},
    ):
        shares = filters.filtered(logits[None].double(), **more).softmax(-1)[0]
        generator = torch.Generator().manual_seed(0)
        ids = torch.zeros(20_000, 1, dtype=torch.long)

        def step(ids, parents):
            return logits.expand(len(ids), -1)

        drawn = decoding.sample(step, ids, 1, generator=generator, **more)[:, 1]
        counts = torch.bincount(drawn, minlength=6)
        kept = shares > 0
        assert counts[~kept].sum() == 0
        assert chisquare(counts[kept], 20_000 * shares[kept]).pvalue > 0.01


def test_a_seed_repeats_and_rows_differ():
    model, ids = tiny("gpt2"), prompts(1).expand(4, -1)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        step = decoding.cached(model)
        return decoding.sample(step, ids, 6, top_p=0.95, generator=generator)

    assert torch.equal(run(3), run(3)) and not torch.equal(run(3), run(4))
    assert len({tuple(row) for row in run(3).tolist()}) > 1


# --- Our model -------------------------------------------------------------------


@pytest.mark.parametrize("positions", SCHEMES)
def test_cached_is_uncached(positions):
    torch.manual_seed(0)
    model = LanguageModel(V, 32, 4, 2, positions=positions, length=24).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    ids, cache = prompts(2, 12), {}
    whole = model(ids)
    parts = [model(ids[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 6), (6, 12))]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert {key.shape for key, _ in cache.values()} == {(2, 4, 12, 8)}

    ids, mask = padded()
    alone = model(ids[1:2, 3:])  # the row without its padding
    torch.testing.assert_close(model(ids, None, mask)[1:2, 3:], alone)
    for search in (decoding.greedy, lambda *a, **k: decoding.beam(*a, 3, **k)[0]):
        found = [
            search(step(model, mask), ids, 10, eos=EOS, pad=PAD)
            for step in (decoding.cached, decoding.uncached)
        ]
        assert torch.equal(*found)


# --- A step without a model, and bad input ---------------------------------------


def table(ids, parents):
    """A Markov model: the likeliest second token leads to a poor third."""
    steps = [
        [0.0, 0.5, 0.3, 0.2],
        [0.4, 0.3, 0.2, 0.1],
        [1, 0, 0, 0],
        [0.3, 0.3, 0.4, 0],
    ]
    return torch.tensor(steps).log()[ids[:, -1]]


def test_a_table_is_a_step_and_beams_follow_their_parents():
    ids = torch.zeros(1, 1, dtype=torch.long)
    assert decoding.greedy(table, ids, 2).tolist() == [[0, 1, 0]]
    best, score = decoding.beam(table, ids, 2, 2, length_penalty=0.0)
    assert best.tolist() == [[0, 2, 0]]
    torch.testing.assert_close(score.exp(), torch.tensor([0.3]))

    seen = []

    def step(ids, parents):
        if parents is not None:  # each row has to begin as its parent did
            assert torch.equal(ids[:, :-1], seen[-1][parents])
        seen.append(ids)
        return table(ids, parents)

    decoding.beam(step, torch.tensor([[0], [3]]), 6, 3)
    assert [len(ids) for ids in seen] == [2, 6, 6, 6, 6, 6]


@pytest.mark.parametrize(
    ("at", "tokens"),
    [  # of ⅛, 0, ⅜, ½, 0 and of 0, 0, ½, 0, ½: no token without a share is drawn
        (0.0, [0, 2]),
        (0.1, [0, 2]),
        (0.125, [2, 2]),  # an end belongs to the next
        (0.49, [2, 2]),
        (0.5, [3, 4]),
        (1 - 2**-53, [3, 4]),
    ],
)
def test_a_number_draws_the_share_that_it_falls_into(at, tokens, monkeypatch):
    shares = torch.tensor([[0.125, 0, 0.375, 0.5, 0], [0, 0, 0.5, 0, 0.5]])
    asked = []

    def rand(*shape, **more):
        asked.append((shape, more["generator"]))
        return torch.full(shape, at, dtype=more["dtype"])

    monkeypatch.setattr(decoding.torch, "rand", rand)
    generator = torch.Generator()
    assert decoding.draw(shares, generator).tolist() == tokens
    assert decoding.draw(3 * shares).tolist() == tokens  # they need not add up to one
    assert asked == [((2, 1), generator), ((2, 1), None)]


def test_short_prompts_are_padded_on_the_left():
    ids, mask = decoding.pad_left([[1, 2, 3], (4,)], pad=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]
    assert decoding.pad_left([[5], [6, 7]])[0].tolist() == [[0, 5], [6, 7]]


def test_a_row_that_has_ended_stays_so():
    """Eos in the first step, other tokens later: what follows is padding."""

    def step(ids, parents):
        logits = torch.zeros(2, 6)
        at = ids.shape[1]  # 1, 2, 3 …
        logits[0, {1: 3, 2: 4, 3: 4}.get(at, 5)] = 1
        logits[1, {1: 4, 2: 4, 3: 3}.get(at, 5)] = 1
        return logits

    found = decoding.greedy(step, torch.tensor([[1], [2]]), 5, eos=3, pad=0)
    assert found.tolist() == [[1, 3, 0, 0], [2, 4, 4, 3]]


def test_prompts_and_limits():
    model = tiny("gpt2")
    searches = [
        lambda ids, n=2, step=None: decoding.greedy(
            step or decoding.cached(model), ids, n
        ),
        lambda ids, n=2, step=None: decoding.beam(
            step or decoding.cached(model), ids, n, 2
        ),
    ]
    for search in searches:
        with pytest.raises(ValueError, match="at least one token"):
            search(torch.zeros(1, 0, dtype=torch.long))
        with pytest.raises(ValueError, match="whole numbers"):
            search(torch.zeros(1, 3))
        with pytest.raises(ValueError, match="limit of 64"):
            search(prompts(1, 60), 6)
        with pytest.raises(ValueError, match="new_tokens"):
            search(prompts(), 0)
        for bad in (float("nan"), float("inf"), float("-inf")):

            def step(ids, parents, bad=bad):
                logits = torch.zeros(len(ids), V)
                logits[-1] = bad
                return logits

            with pytest.raises(ValueError, match="row 2 holds NaN"):
                search(prompts(), 2, step)
    for search in searches:
        search(prompts(1, 60), 5)  # the last new token is not read
    for make in (decoding.cached, decoding.uncached):
        assert make(model).limit == 64
        assert make(LanguageModel(V, 16, 2, 1)).limit is None
    ours = LanguageModel(V, 16, 2, 1, positions="learned", length=8)
    assert decoding.uncached(ours).limit == 8
    with pytest.raises(ValueError, match="limit of 8"):
        decoding.greedy(decoding.cached(ours), prompts(), 5)
    with pytest.raises(ValueError, match="padded on the left"):
        decoding.cached(model, torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="prompts"):
        decoding.pad_left([[1], []])
    with pytest.raises(ValueError, match="beams"):
        decoding.beam(table, prompts(), 2, 0)
    with pytest.raises(ValueError, match="early_stopping"):
        decoding.beam(table, prompts(), 2, 2, early_stopping="soon")
    with pytest.raises(ValueError, match="penalty"):
        decoding.greedy(table, torch.zeros(1, 1, dtype=torch.long), 2, penalty=0)
