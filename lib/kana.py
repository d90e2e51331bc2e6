"""How Japanese syllable signs are read, in Hepburn's letters. Kanji have no fixed reading."""

ROWS = {
    "": "アイウエオ",
    "k": "カキクケコ",
    "s": "サシスセソ",
    "t": "タチツテト",
    "n": "ナニヌネノ",
    "h": "ハヒフヘホ",
    "m": "マミムメモ",
    "r": "ラリルレロ",
    "g": "ガギグゲゴ",
    "z": "ザジズゼゾ",
    "d": "ダヂヅデド",
    "b": "バビブベボ",
    "p": "パピプペポ",
}
SOUNDS = {
    k: row + v for row, ks in ROWS.items() for k, v in zip(ks, "aiueo", strict=True)
}
SOUNDS |= {"シ": "shi", "チ": "chi", "ツ": "tsu", "フ": "fu", "ジ": "ji", "ヂ": "ji"}
SOUNDS |= {"ヅ": "zu", "ヤ": "ya", "ユ": "yu", "ヨ": "yo", "ワ": "wa", "ヲ": "o"}
SOUNDS |= {"ン": "n", "ヴ": "vu"}
SMALL = {"ャ": "ya", "ュ": "yu", "ョ": "yo"} | dict(
    zip("ァィゥェォ", "aiueo", strict=True)
)


def romaji(text: str) -> str | None:
    """Hiragana and katakana in Latin letters; None where another sign stands.

    Long vowels are written twice, ッ doubles the next consonant (tch before ch). The
    particles は and へ are read as they are written, ha and he.
    """
    found, double = "", False
    for sign in text:
        sign = chr(ord(sign) + 96) if "ぁ" <= sign <= "ゖ" else sign
        if sign == "ッ":
            double = True
            continue
        if sign == "ー" and found:
            sound = found[-1]
        elif sign in SMALL and found[-1:] in ("i", "e", "o", "u"):
            glide = SMALL[sign]
            soft = found.endswith(("shi", "chi", "ji"))
            sound, found = (glide[1:] if soft and len(glide) > 1 else glide), found[:-1]
        elif sign in SOUNDS:
            sound = SOUNDS[sign]
        else:
            return None
        if double:
            sound = ("t" if sound.startswith("ch") else sound[:1]) + sound
        found, double = found + sound, False
    return found
