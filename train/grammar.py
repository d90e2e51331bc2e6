"""English–German pairs of a small grammar: the embedded default of Multi30k.

    python -m train.grammar     # writes lib/data/embedded/pairs.jsonl

The same file on every machine: Python's own generator draws, from a seed.
"""

import argparse
import json
import random

from lib.data.origin import EMBEDDED

# Nouns: English, its plural, German, its plural, gender; what they are for.
NOUNS = {
    "who": """man men Mann Männer m|woman women Frau Frauen f|child children Kind Kinder n
        |boy boys Junge Jungen m|girl girls Mädchen Mädchen n|cat cats Katze Katzen f
        |dog dogs Hund Hunde m|horse horses Pferd Pferde n|teacher teachers Lehrerin
        Lehrerinnen f|cook cooks Koch Köche m""",
    "what": """ball balls Ball Bälle m|lamp lamps Lampe Lampen f|book books Buch Bücher n
        |apple apples Apfel Äpfel m|flower flowers Blume Blumen f|picture pictures Bild
        Bilder n|hat hats Hut Hüte m|box boxes Kiste Kisten f""",
}
ADJECTIVES = (
    "small klein|big groß|young jung|old alt|red rot|green grün|new neu|quiet still"
)
# Verbs: English, its plural form, German, its plural form.
ACTS = """sees see sieht sehen|holds hold hält halten|carries carry trägt tragen|
    looks_for look_for sucht suchen|paints paint malt malen|finds find findet finden"""
MOVES = """runs run rennt rennen|sleeps sleep schläft schlafen|waits wait wartet warten|
    plays play spielt spielen|sits sit sitzt sitzen|sings sing singt singen"""
PLACES = """in_the_park im_Park|on_the_beach am_Strand|in_front_of_a_house vor_einem_Haus|
    in_the_kitchen in_der_Küche|under_a_tree unter_einem_Baum|beside_the_road neben_der_Straße"""
NUMBERS = "two zwei|three drei|four vier"
# The ending after ein-, by gender and case (nominative, accusative); in the plural -e.
ENDINGS = {"m": ("er", "en"), "f": ("e", "e"), "n": ("es", "es")}
ARTICLES = {"m": ("ein", "einen"), "f": ("eine", "eine"), "n": ("ein", "ein")}


def sentences(pairs: int = 1200, seed: int = 0) -> list[dict[str, str]]:
    """English–German pairs of a small grammar, all different: rows of split, en, de.

    "two young dogs carry a red ball", with German gender, case and number. Drawn with
    Python's own generator, so that a seed gives the same pairs on every machine. One
    tenth validates, one tenth tests.
    """
    draw = random.Random(seed)
    table = {k: [n.split() for n in v.split("|")] for k, v in NOUNS.items()}
    one = {
        name: [entry.split() for entry in text.split("|")]
        for name, text in (
            ("adjective", ADJECTIVES),
            ("act", ACTS),
            ("move", MOVES),
            ("place", PLACES),
            ("number", NUMBERS),
        )
    }

    def phrase(kind: str, case: int) -> tuple[str, str, bool]:
        """A noun with its words before it, in both languages; whether it is plural."""
        singular, plural, eins, viele, gender = draw.choice(table[kind])
        many = draw.random() < 0.4
        number, zahl = draw.choice(one["number"])
        english = [number] if many else ["a"]
        german = [zahl if many else ARTICLES[gender][case]]
        if draw.random() < 0.6:
            word, wort = draw.choice(one["adjective"])
            if not many and word[0] in "aeiou":
                english = ["an"]
            english.append(word)
            german.append(wort + ("e" if many else ENDINGS[gender][case]))
        elif not many and singular[0] in "aeiou":
            english = ["an"]
        english.append(plural if many else singular)
        german.append(viele if many else eins)
        return " ".join(english), " ".join(german), many

    found: dict[str, str] = {}
    while len(found) < pairs:
        english, german, many = phrase("who", 0)
        acts = draw.random() < 0.5
        verb = draw.choice(one["act" if acts else "move"])
        parts = [english, verb[many]], [german, verb[2 + many]]
        more = phrase("what", 1)[:2] if acts else draw.choice(one["place"])
        for part, words in zip(parts, more, strict=True):
            part.append(words)
        english, german = (" ".join(part).replace("_", " ") for part in parts)
        found[f"{english[0].upper()}{english[1:]}."] = (
            f"{german[0].upper()}{german[1:]}."
        )
    split = ["validation", "test", *["train"] * 8]
    return [
        {"split": split[i % 10], "en": english, "de": german}
        for i, (english, german) in enumerate(found.items())
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    lines = [json.dumps(row, ensure_ascii=False) for row in sentences()]
    path = EMBEDDED / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} pairs")


if __name__ == "__main__":
    main()
