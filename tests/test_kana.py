"""lib.kana: syllables as Hepburn writes them."""

import pytest

from lib import weights
from lib.kana import WORDS, gloss, romaji
from lib.tokenizers import sentencepiece


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("この", "kono"),
        ("スマートフォン", "sumaatofon"),
        ("しゅじゅつ", "shujutsu"),
        ("きゃく", "kyaku"),
        ("ちょっと", "chotto"),
        ("マッチ", "matchi"),
        ("がっこう", "gakkou"),
        ("ヂヅ", "jizu"),
        ("を", "o"),
        ("", ""),
        ("映画", None),
        ("the", None),
        ("。", None),
    ],
)
def test_readings(text, read):
    assert romaji(text) == read


@pytest.mark.parametrize(
    ("piece", "told"),
    [
        ("家族", "家族 (kazoku: family)"),
        ("▁この", "この (kono: this)"),
        ("▁", "▁ (space)"),
        ("は", "は (wa: topic)"),  # as the particle is said, not as it is written
        ("ロボ", "ロボ (robo)"),
        ("国連", "国連"),
        ("NTT", "NTT"),
        ("", ""),
    ],
)
def test_a_piece_is_shown_with_what_is_known_of_it(piece, told):
    assert gloss(piece) == told


def test_each_word_is_a_piece_of_the_tokenizer_and_read_as_its_kana():
    processor = sentencepiece.load(
        weights.path("sentencepiece", "unigram-8000-bytes.model")
    )
    plain = str.maketrans("āēīōū", "aeiou")
    for word, told in WORDS.items():
        assert 0 not in (
            {processor.piece_to_id(word)} & {processor.piece_to_id(f"▁{word}")}
        ), word
        read = romaji(word)
        if read and ":" in told and word not in ("は", "へ", "には", "では"):
            latin = told.split(":")[0].lower().translate(plain).replace(" ", "")
            for twice in ("aa", "ee", "ii", "oo", "uu", "ou"):
                read = read.replace(twice, twice[0])
            assert latin == read, word
