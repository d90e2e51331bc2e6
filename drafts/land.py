"""Put the entries of a draft's patch where they belong: `python drafts/land.py pretraining`.

References, glossary entries and corrections go to their places by name, so entries of
other chapters are no conflict; new files are written; every other hunk is printed, to be
put in by hand (or by `git apply --include='lib/live/*' --include='tests/*' <patch>`).
"""

import re
import sys
from pathlib import Path


def blocks(patch: str) -> dict[str, list[str]]:
    """File -> the blocks of lines that the patch adds, one for each hunk."""
    found, file = {}, None
    for line in patch.splitlines():
        if line.startswith("+++ b/"):
            file = found.setdefault(line[6:], [])
        elif line.startswith("@@") and file is not None:
            file.append([])
        elif line.startswith("+") and file is not None:
            file[-1].append(line[1:])
    return {
        name: ["\n".join(b).strip("\n") for b in bs if b] for name, bs in found.items()
    }


def place(path: str, text: str, block: str) -> int | None:
    """Where a block begins; None where a hand is needed."""
    first = block.splitlines()[0]
    if path.endswith(".bib") and (key := re.match(r"@\w+\{([^,]+),", first)):
        known = [(m.start(), m[1]) for m in re.finditer(r"^@\w+\{([^,]+),", text, re.M)]
        return next((start for start, k in known if k > key[1]), len(text))
    if path.endswith("glossary.md"):
        plain = [re.sub(r"[^a-z0-9]", "", first.lower())]
        known = [(m.start(1), m[1]) for m in re.finditer(r"\n\n(\S[^\n]*)\n  \S", text)]
        later = [
            start
            for start, k in known
            if re.sub(r"[^a-z0-9]", "", k.lower()) > plain[0]
        ]
        return min(later, default=text.rindex("```"))
    if path.endswith("corrections.md") and first.startswith("## "):
        return min(
            text.index(h) for h in ("## Reading heads", "## Decoding") if h in text
        )
    return None


def main(name: str) -> None:
    added = blocks(Path(f"drafts/{name}.patch").read_text("utf8"))
    for path, parts in added.items():
        if not Path(path).exists():
            Path(path).write_text("\n".join(parts) + "\n", "utf8")
            print(path, "is new")
            continue
        text = Path(path).read_text("utf8")
        for block in parts:
            if block.splitlines()[0] in text.splitlines():
                print(path, "has", block.splitlines()[0])
            elif (at := place(path, text, block)) is None:
                print(f"by hand, {path}:\n{block}\n")
            else:
                text = text[:at] + block + "\n\n" + text[at:]
        Path(path).write_text(text, "utf8")


if __name__ == "__main__":
    main(sys.argv[1])
