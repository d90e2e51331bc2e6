"""The frame of what a reader works on a page: what stands without scripts, and the script.

A page gets element.js, then the script of one kind beside its Python file, as one function
of a key and the data. Nothing here knows what a kind draws.
"""

import base64
import hashlib
import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Element:
    """What a notebook displays: a still (PNG), and the script that takes its place.

    `kind` is the name of the script; `data` holds its "name" and "alt", and the rest of
    what the script draws.
    """

    kind: str
    data: dict
    still: bytes

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"{self.data['name']}: {self.data['alt']}"
        return {"text/html": self._repr_html_(), "text/plain": text}

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.still).decode()
        alt = html.escape(self.data["alt"])
        return framed(
            self.kind,
            self.data,
            f'<img src="data:image/png;base64,{picture}" alt="{alt}" '
            'style="max-width: 100%; background: #fff">',
        )


def framed(kind: str, data: Any, inside: str, **attributes: str) -> str:
    """HTML: a host that holds `inside`, and the script of `kind` with its data."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")  # so that no label ends the script
    key = hashlib.sha256((inside + text).encode()).hexdigest()[:12]
    more = "".join(
        f' {n.replace("_", "-")}="{html.escape(v)}"' for n, v in attributes.items()
    )
    return (
        f'<div data-element="{kind}" data-key="{key}"'
        f' data-lm-suppress-shortcuts="true"{more}>\n{inside}\n'
        f'<script>\n{_script(kind)}("{key}", {text});\n</script>\n</div>'
    )


@cache
def _script(kind: str) -> str:
    """element.js and the kind's own, without indentation and comments."""
    lines = []
    for name in ("element", kind):
        lines += (HERE / f"{name}.js").read_text(encoding="utf-8").splitlines()
    found = (line.split(" // ")[0].strip() for line in lines)
    body = "\n".join(line for line in found if line and not line.startswith("//"))
    return f'(function (key, data) {{\n"use strict";\n{body}\n}})'
