"""lib.models.connectors: maps, the resampler, the places of a picture, bad input."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lib.models import connectors
from lib.models.connectors import (
    PAD,
    PICTURE,
    SIDE,
    Blind,
    Linear,
    Resampler,
    SmallVLM,
    TwoLayers,
    next_logits,
    padded,
    prompt_ids,
    read_before,
    ridge,
)
from lib.pretrained.origin import Pretrained

B, P, F, D, V = 3, 16, 64, 12, 20
CONTEXT = 24


@pytest.fixture(scope="module")
def language():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer():
    words = "what is it ? a picture : answer".split()  # noqa: SIM905
    known = {word: i + 3 for i, word in enumerate(words)} | {"[UNK]": 0}
    plain = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=F, num_hidden_layers=1, num_attention_heads=1, image_size=SIDE
    )
    return Dinov2Model(config).eval()


# --- Connectors ------------------------------------------------------------------


def test_squares_are_the_means_of_their_vectors():
    x = torch.randn(B, P, F)
    for tokens in (1, 4, 16):
        made = Linear(F, D, tokens, scale=0.5)
        assert made(x).shape == (B, tokens, D)
    first = x[:, [0, 1, 4, 5]].mean(1)  # of the square at the top left
    four = Linear(F, D, 4, scale=0.5)
    assert torch.allclose(four(x)[:, 0], 0.5 * four.map(first), atol=1e-6)
    last = x[:, [10, 11, 14, 15]].mean(1)
    assert torch.allclose(four(x)[:, 3], 0.5 * four.map(last), atol=1e-6)
    assert TwoLayers(F, D, 4, hidden=7)(x).shape == (B, 4, D)
    with pytest.raises(ValueError, match="tokens: got 3, wants a square"):
        Linear(F, D, 3)
    with pytest.raises(ValueError, match="its vectors: got 15"):
        four(x[:, 1:])


def test_the_resampler_attends_as_torch_does():
    torch.manual_seed(0)
    ours, theirs = Resampler(F, D, 5, width=8, num_heads=2), None
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    parts = [
        getattr(ours.attention, f"to_{name}") for name in ("query", "key", "value")
    ]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.attention.to_output.weight)
        theirs.out_proj.bias.copy_(ours.attention.to_output.bias)
    for places in (1, 7, 30):
        x = torch.randn(B, places, F)
        context = ours.norm(ours.enter(x))
        queries = ours.queries.expand(B, -1, -1)
        wanted, weights = theirs(queries, context, context, average_attn_weights=False)
        found = ours.attention(queries, context)
        assert (found[0] - wanted).abs().max() < 1e-6
        assert (found[1] - weights).abs().max() < 1e-6
        assert ours(x).shape == (B, 5, D)
    order = torch.randperm(30)
    assert torch.allclose(ours(x), ours(x[:, order]), atol=1e-6)  # a set of vectors


def test_the_blind_one_sees_nothing():
    one = Blind(F, D, 2)
    assert torch.equal(one(torch.randn(B, P, F)), one(torch.randn(B, P, F)))


def test_ridge_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator) + 3
    y = torch.randn(40, 4, generator=generator)
    found, theirs = ridge(x, y, 0.1), Ridge(alpha=40 * 0.1).fit(x, y)
    assert np.abs(found.weight.detach().numpy() - theirs.coef_).max() < 1e-6
    assert np.abs(found.bias.detach().numpy() - theirs.intercept_).max() < 1e-6
    few = ridge(x[:3], y[:3], 0.1)  # fewer rows than features
    assert few(x).shape == (40, 4)
    with pytest.raises(ValueError, match="penalty: got 0"):
        ridge(x, y, 0)
    with pytest.raises(ValueError, match="x, y: got"):
        ridge(x, y[:-1], 0.1)


# --- Into the language model -----------------------------------------------------


def test_the_image_token_becomes_places(tokenizer):
    ids = prompt_ids(tokenizer, "what is it ? <image> answer :", 3)
    assert ids == [3, 4, 5, 6, PICTURE, PICTURE, PICTURE, 10, 9]
    for prompt, number in (("what is it ?", 0), ("<image> <image>", 2)):
        with pytest.raises(ValueError, match=f"got {number} image tokens"):
            prompt_ids(tokenizer, prompt, 3)
    assert padded([[5], [6, 7]]).tolist() == [[PAD, 5], [6, 7]]


def test_vectors_stand_in_their_places(language):
    """Word vectors in the places of a picture say what the words themselves say."""
    ids = torch.tensor([[3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3]])
    words = language.get_input_embeddings()(ids[:, 2:4])  # (2, 2, D)
    marked = ids.clone()
    marked[:, 2:4] = PICTURE
    found = next_logits(language, marked, words, last=6)
    some = torch.tensor([5, 2])
    few = next_logits(language, marked, words, last=6, words=some)
    assert torch.allclose(few, found[..., some], atol=1e-5)
    some = torch.tensor([5, 2])
    few = next_logits(language, marked, words, last=6, words=some)
    assert torch.allclose(few, found[..., some], atol=1e-5)
    assert (found - language(ids).logits).abs().max() < 1e-5
    alone = next_logits(language, padded([marked[0].tolist()] * 2), words[[0, 0]])
    assert torch.allclose(found[:1, -1], alone[:1, 0], atol=1e-5)


def test_padding_and_a_beginning_read_before_change_nothing(language):
    vectors = torch.randn(2, 2, D, requires_grad=True)
    begins, ends = [[3, 4, 5], [6]], [[7], [8, 9, 10]]
    whole = [
        [*begin, PICTURE, PICTURE, *end]
        for begin, end in zip(begins, ends, strict=True)
    ]
    one_by_one = torch.cat(
        [
            next_logits(language, torch.tensor([row]), vectors[i : i + 1])
            for i, row in enumerate(whole)
        ]
    )
    together = next_logits(language, padded(whole), vectors)
    assert (together - one_by_one).abs().max() < 1e-5
    before = read_before(language, padded([[11], *begins]))  # (3, T): others too
    rest = padded([row[len(begin) :] for row, begin in zip(whole, begins, strict=True)])
    split = next_logits(language, rest, vectors, before, torch.tensor([1, 2]))
    assert (split - one_by_one).abs().max() < 1e-5
    wanted = torch.autograd.grad(one_by_one.logsumexp(-1).sum(), vectors)[0]
    found = torch.autograd.grad(split.logsumexp(-1).sum(), vectors)[0]
    assert wanted.abs().max() > 0 and (wanted - found).abs().max() < 1e-5
    again = next_logits(language, rest, vectors, before, torch.tensor([1, 2]))
    assert torch.equal(again, split)  # nothing was added to what was read before


def test_too_many_image_tokens(language):
    ids = torch.full((1, CONTEXT), PICTURE)
    next_logits(language, ids, torch.randn(1, CONTEXT, D))
    with pytest.raises(ValueError, match="24 image tokens make a prompt of 25, the"):
        next_logits(
            language,
            torch.cat((torch.tensor([[3]]), ids), 1),
            torch.randn(1, CONTEXT, D),
        )
    with pytest.raises(ValueError, match="got 24 places for a picture of 23 tokens"):
        next_logits(language, ids, torch.randn(1, CONTEXT - 1, D))


# --- The whole -------------------------------------------------------------------


def test_the_small_vlm(encoder, language, tokenizer):
    torch.manual_seed(0)
    found = Pretrained(language, tokenizer, "tiny", "here", "MIT")
    vlm = SmallVLM(encoder, Linear(F, D, 4), found)
    images = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    prompts = ["what is it ? <image> answer :", "<image> a picture"]
    logits = vlm.logits(images, prompts)
    assert logits.shape == (2, V)
    assert torch.allclose(vlm.logits(images[:1], prompts[:1]), logits[:1], atol=1e-5)
    seen = connectors.features(encoder, np.stack([np.asarray(i) for i in images]))
    assert seen.shape == (2, P, F)
    assert torch.allclose(vlm.logits(seen, prompts), logits, atol=1e-5)
    other = vlm.logits(images[::-1], prompts)
    assert (other - logits).abs().max() > 1e-4
    logits.sum().backward()
    learned = [name for name, p in vlm.named_parameters() if p.grad is not None]
    assert learned == ["connector.map.weight", "connector.map.bias"]
    for image, said in (
        (images[0].convert("L"), "got the mode L, wants RGB"),
        (images[0].convert("RGBA"), "got the mode RGBA"),
        (images[0].resize((SIDE, 64)), f"got {SIDE}×64 pixels, wants {SIDE}×{SIDE}"),
    ):
        with pytest.raises(ValueError, match=said):
            vlm.logits([image], prompts[:1])
    with pytest.raises(ValueError, match="pictures: got"):
        connectors.features(encoder, np.zeros((1, 28, 28, 3), np.uint8))


def test_features_are_means_of_patches(encoder):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    found = connectors.features(encoder, pictures, batch=2)
    with torch.no_grad():
        patches = encoder(connectors.dinov2.pixels(pictures)).last_hidden_state[:, 1:]
    square = patches.unflatten(1, (8, 8))[:, 2:4, 4:6].mean((1, 2))  # row 1, column 2
    assert torch.allclose(found[:, 4 + 2], square, atol=1e-5)
