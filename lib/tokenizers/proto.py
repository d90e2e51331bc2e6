"""A unigram model of ours as a file of `sentencepiece`, which then encodes with it.

The format is Protocol Buffers: each field is its number and kind, then its value.
Source: ``sentencepiece_model.proto``.
"""

import struct
from collections.abc import Mapping

NORMAL, UNKNOWN = 1, 2  # kinds of a piece
VARINT, LENGTH, FLOAT = 0, 2, 5  # kinds of a field


def model_file(scores: Mapping[str, float], normaliser: str = "identity") -> bytes:
    """The bytes of a ``.model`` file: <unk>, then the pieces in their order.

    `normaliser` is the name of sentencepiece's rule; "identity" leaves a text as it is,
    but for the ▁.
    """
    pieces = [_piece("<unk>", 0.0, UNKNOWN)]
    pieces += [_piece(piece, score, NORMAL) for piece, score in scores.items()]
    return b"".join(pieces) + _text(3, _text(1, normaliser.encode()))


def _piece(piece: str, score: float, kind: int) -> bytes:
    number = _head(2, FLOAT) + struct.pack("<f", score)
    return _text(
        1, _text(1, piece.encode()) + number + _head(3, VARINT) + _varint(kind)
    )


def _text(field: int, value: bytes) -> bytes:
    return _head(field, LENGTH) + _varint(len(value)) + value


def _head(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])
