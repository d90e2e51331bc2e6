"""lib.models.contrastive: the field's losses, exact pieces, towers, what is measured."""

import math

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from lib.models import contrastive
from lib.models.contrastive import (
    Scale,
    TextTower,
    Words,
    backward_in_pieces,
    gap,
    ranks,
    sigmoid_loss,
    small_towers,
    softmax_loss,
)

B, D = 9, 16
TEXT = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "projection_size": 32,
}
VISION = {key: TEXT[key] for key in [*TEXT][1:5]} | {"image_size": 8, "patch_size": 4}


def vectors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(2, B, D, generator=generator, dtype=torch.float64)
    return [x.requires_grad_() for x in nn.functional.normalize(made, dim=-1)]


def gradients(loss, given):
    return torch.autograd.grad(loss, given)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_loss_and_gradients_are_those_of_transformers(kind):
    torch.manual_seed(0)
    if kind == "softmax":
        config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=D)
        model = CLIPModel(config).double()
    else:
        model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION))
        model = model.double()
        with torch.no_grad():
            model.logit_scale.fill_(2.0)
            model.logit_bias.fill_(-4.0)
    ids = torch.randint(3, 50, (B, 8))
    ids[:, -1] = 2
    theirs = model(
        input_ids=ids,
        pixel_values=torch.randn(B, 3, 8, 8).double(),
        return_loss=True,
    )
    learned = [p for p in model.parameters() if p.requires_grad]
    if kind == "softmax":
        ours = softmax_loss(
            theirs.image_embeds, theirs.text_embeds, model.logit_scale.exp()
        )
    else:
        ours = sigmoid_loss(
            theirs.image_embeds,
            theirs.text_embeds,
            model.logit_scale.exp(),
            model.logit_bias,
        )
    assert abs(ours - theirs.loss) < 1e-6
    get = {"retain_graph": True, "allow_unused": True}
    for a, b in zip(
        torch.autograd.grad(ours, learned, **get),
        torch.autograd.grad(theirs.loss, learned, **get),
        strict=True,
    ):
        assert (a is None) == (b is None)
        assert a is None or (a - b).abs().max() < 1e-6


@pytest.mark.parametrize("rows", [1, 4, 9, 100])
def test_rows_at_a_time_give_the_whole_loss(rows):
    given = [*vectors(), torch.tensor(7.0, requires_grad=True).double()]
    for loss, more in (
        (softmax_loss, []),
        (sigmoid_loss, [torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)]),
    ):
        whole, parts = loss(*given, *more), loss(*given, *more, rows=rows)
        assert abs(whole - parts) < 1e-12
        for a, b in zip(
            gradients(whole, given + more), gradients(parts, given + more), strict=True
        ):
            assert (a - b).abs().max() < 1e-12


def test_no_whole_matrix_is_kept_for_the_backward_pass():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x.numel()) or x, lambda x: x
    ):
        softmax_loss(*vectors(), torch.tensor(7.0), rows=2)
    assert max(saved) < B * B + B * D  # no (B, B); the vectors themselves are B · D
    assert not any(n in (B * B, 2 * B) for n in saved)


def test_a_batch_of_one_teaches_nothing_by_softmax():
    one = [x[:1].detach().requires_grad_() for x in vectors()]
    loss = softmax_loss(*one, torch.tensor(10.0))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(g.abs().max() < 1e-12 for g in gradients(loss, one))
    lone = sigmoid_loss(*one, torch.tensor(10.0), torch.tensor(-10.0))
    assert all(g.abs().max() > 0.1 for g in gradients(lone, one))


def test_bad_batches_are_refused():
    x, y = vectors()
    with pytest.raises(ValueError, match=r"wants \(B, D\) both"):
        softmax_loss(x, y[:-1], torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"wants \(B, D\) both"):
        softmax_loss(x[:0], y[:0], torch.tensor(1.0))
    with pytest.raises(ValueError, match="rows: got 0"):
        sigmoid_loss(x, y, torch.tensor(1.0), torch.tensor(0.0), rows=0)


def test_the_scale_is_kept_and_comes_back():
    scale = Scale(99.0)
    step = torch.optim.SGD(scale.parameters(), 1.0)
    with pytest.raises(ValueError, match=r"start: got 0\.5"):
        Scale(0.5)
    (-scale()).backward()  # wants more
    step.step()
    assert scale().item() == pytest.approx(100) and scale.logarithm.grad is not None
    step.zero_grad()
    scale().backward()  # wants less
    assert scale.logarithm.grad > 0
    step.step()
    assert scale().item() == pytest.approx(1)


WORDS = Words(["A red circle at the top left.", "左上に赤い円があります。"])


def model(loss="softmax"):
    torch.manual_seed(0)
    return small_towers(len(WORDS), loss, d_model=8, num_heads=2, layers=(1, 1))


def test_words():
    ids = WORDS(["A red circle", "左上に円", "a zebra", ""])  # (4, 3)
    assert ids.shape == (4, 3) and ids[2, 1] == 1 and ids[3].tolist() == [1, 0, 0]
    assert ids[2, 2] == contrastive.PAD and len(set(ids[1].tolist())) == 3
    cut = [
        "左上",
        "に",
        "黄色",
        "い",
        "ハート",
        "、",
        "緑",
        "の",
        "円",
        "があります",
        "。",
    ]
    assert Words.split("".join(cut)) == cut
    assert int(ids.max()) < len(WORDS)


def test_padding_is_not_read():
    tower = TextTower(len(WORDS), 8, 2, 2, 4)
    long = WORDS(["a red circle at the top left", "red circle"])
    alone = WORDS(["red circle"])
    assert torch.allclose(tower(long)[1], tower(alone)[0], atol=1e-6)
    with pytest.raises(ValueError, match="ids: got"):
        tower(torch.full((1, 2), len(WORDS)))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_pieces_have_the_gradients_of_the_whole_batch(loss, size):
    net = model(loss).double()
    pictures = torch.rand(5, 3, 32, 32).double()
    ids = WORDS(["red", "a circle", "円", "the top left", "赤い円"])
    whole = net(pictures, ids)
    whole.backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    found = backward_in_pieces((net.see, net.read), (pictures, ids), net.compare, size)
    assert abs(whole - found) < 1e-9
    for name, p in net.named_parameters():
        assert (p.grad - wanted[name]).abs().max() < 1e-9, name
    if size == 1 and loss == "softmax":  # accumulation alone would learn nothing
        alone = [net(pictures[i : i + 1], ids[i : i + 1]) for i in range(5)]
        assert max(x.abs() for x in alone) < 1e-9
    with pytest.raises(ValueError, match="size: got 0"):
        backward_in_pieces((net.see, net.read), (pictures, ids), net.compare, 0)
    with pytest.raises(ValueError, match="loss: got 'hinge'"):
        contrastive.TwoTowers(net.pictures, net.texts, "hinge")


def test_vectors_have_length_one():
    net = model()
    for x in (net.see(torch.rand(3, 3, 32, 32)), net.read(WORDS(["red", "円"]))):
        assert torch.allclose(x.norm(dim=-1), torch.ones(len(x)))


def test_ranks_and_gap():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.2, 0.3], [0.7, 0.9, 0.8]])
    same = torch.eye(3, dtype=torch.bool)
    assert ranks(scores, same).tolist() == [0, 2, 1]
    same[2, 1] = True  # the same text twice: the better one counts
    assert ranks(scores, same).tolist() == [0, 2, 0]
    one = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert gap(one, one) == 0 and gap(one, -one) == 2
    assert gap(one, one.flip(1)) == pytest.approx(math.sqrt(2))
