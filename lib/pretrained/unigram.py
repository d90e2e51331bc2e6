"""A SentencePiece tokenizer of the unigram kind, made anew from its pieces and scores."""

import io
from collections.abc import Iterator

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as before
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast


def unigram(pieces: list[tuple[str, float]]) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer from its pieces in order: <s>, <pad>, </s>, <unk>, …, <mask>.

    Everything but the pieces is as in `XLMRobertaTokenizer` of transformers, and the
    normaliser is SentencePiece's nmt_nfkc, which XLM-R was made with.
    """
    names = [piece for piece, _ in pieces]
    if names[:4] != ["<s>", "<pad>", "</s>", "<unk>"] or names[-1] != "<mask>":
        raise ValueError(f"pieces: not those of XLM-R, but {names[:4]} … {names[-1:]}")
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.Precompiled(nmt_nfkc())
    made.pre_tokenizer = before.Sequence(
        [before.WhitespaceSplit(), before.Metaspace(prepend_scheme="always")]
    )
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=512,
    )


def nmt_nfkc() -> bytes:
    """The table of SentencePiece's normaliser nmt_nfkc, out of a model of one letter."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a"]),
        model_writer=model,
        model_type="char",
        vocab_size=5,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    normaliser = dict(_fields(model.getvalue()))[3]  # ModelProto.normalizer_spec
    return dict(_fields(normaliser))[2]  # NormalizerSpec.precompiled_charsmap


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer that have a length: (number, content)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            varint()
        elif kind == 2:
            size = varint()
            yield number, message[at : at + size]
            at += size
        else:  # 4 or 8 bytes
            at += 4 if kind == 5 else 8
