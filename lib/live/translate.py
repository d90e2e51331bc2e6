"""An English sentence that becomes a German one: the element of `transformer-by-hand`."""

import torch
from torch import Tensor

from lib import decoding, weights
from lib.live.element import Live, table
from lib.models.encoder_decoder import EncoderDecoder
from lib.tokenizers import sentencepiece

FILES = (
    ("translation", "model.safetensors", ""),
    ("translation", "unigram.model", ""),
)
BEAMS = 4
LONGEST = 64  # pieces of a source; the captions it was trained on have half of that


def model() -> tuple[EncoderDecoder, sentencepiece.spm.SentencePieceProcessor]:
    """The shipped translator, in float32, and its pieces."""
    found = EncoderDecoder(**weights.card("translation")["config"]["model"])
    state = {k: v.float() for k, v in weights.tensors("translation").items()}
    found.load_state_dict(state, strict=False)  # one table for all three
    pieces = sentencepiece.load(weights.path("translation", "unigram.model"))
    return found.eval(), pieces


@torch.no_grad()
def translated(net, pieces, sentence: str, beams: int) -> Tensor:
    """The ids of a translation, with its begin and its end: (T,)."""
    source = torch.tensor([pieces.encode(sentence, add_eos=True)])  # (1, Ts)
    begin, room = torch.tensor([[pieces.bos_id()]]), 2 * source.shape[1]
    step, end = net.step(source), pieces.eos_id()
    if beams == 1:
        return decoding.greedy(step, begin, room, eos=end)[0]
    return decoding.beam(step, begin, room, beams, eos=end)[0][0]


def translate(sentences: list[str]) -> Live:
    """The element, and its story: translations, greedy and by beams, and where each
    piece of the first one looks.

    Raises ValueError without a sentence.
    """
    if not sentences:
        raise ValueError("sentences: got none, wants at least one")
    net, pieces = model()
    rows = [
        [
            sentence,
            *(
                pieces.decode(translated(net, pieces, sentence, beams).tolist())
                for beams in (1, BEAMS)
            ),
        ]
        for sentence in sentences
    ]
    ids = translated(net, pieces, sentences[0], 1)  # (T,)
    source = torch.tensor([pieces.encode(sentences[0], add_eos=True)])  # (1, Ts)
    with torch.no_grad():
        across = net.decode(ids[None, :-1], net.encode(source))[1][-1][0].mean(0)
    at = across.argmax(-1).tolist()  # (Tt,)
    looks = [
        [pieces.id_to_piece(int(piece)), pieces.id_to_piece(int(source[0, j]))]
        for piece, j in zip(ids[1:], at, strict=True)
    ]
    story = (
        table(["English", "German, greedy", f"German, {BEAMS} beams"], rows)
        + "<p>In the first sentence, greedy, each German piece has its largest "
        "cross-attention weight (last layer, mean of the heads) on:</p>"
        + table(["piece", "looks most at"], looks)
    )
    data = {
        "name": "A sentence is translated",
        "config": {
            "num_heads": weights.card("translation")["config"]["model"]["num_heads"]
        },
        "sentences": sentences,
        "beams": BEAMS,
        "longest": LONGEST,
    }
    return Live("translate", FILES, data, story)
