"""lib.kana: syllables as Hepburn writes them."""

import pytest

from lib.kana import romaji


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
