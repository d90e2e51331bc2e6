"""Code that is not the lesson folds under one quiet line that says what the code is for.

myst-nb folds the cells tagged `hide-input` and `hide-cell`, in <details>, so that no script
is needed. Here: the words of the line, and the set-up folds without a tag.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class Folded(SphinxPostTransform):
    """Name what is folded, before myst-nb folds it (its priority is 199)."""

    default_priority = 198
    formats = ("html",)

    def run(self, **_):
        for section in self.document.findall(nodes.section):
            in_set_up = section[0].astext() == "Set-up"
            for number, cell in enumerate(filter(_is_code, section)):
                if in_set_up and not cell.get("hide_mode"):
                    cell["hide_mode"] = "input"
                if not cell.get("hide_mode"):
                    continue
                own = cell["cell_metadata"].get("mystnb", {}).get("code_prompt_show")
                if own:
                    line = own
                elif in_set_up:
                    line = "imports" if number else "set-up"
                elif cell["hide_mode"] == "all":
                    line = "solution"
                else:
                    line = f"code {_made_by(cell)}"
                cell["prompt_show"] = cell["prompt_hide"] = line


def _is_code(node) -> bool:
    return node.get("nb_element") == "cell_code" if hasattr(node, "get") else False


def _made_by(cell) -> str:
    """What a reader sees below the line."""
    out = [part for part in cell if part.get("nb_element") == "cell_code_output"]
    drawn = [node for part in out for node in part.findall(nodes.raw)]
    if any(part.next_node(nodes.image) for part in out):
        return "of this figure"
    if drawn:
        tables = all('data-element="matrices"' in node.astext() for node in drawn)
        return "of this table" if tables else "of this figure"
    text = "".join(part.astext() for part in out)
    if "largest difference" in text:  # lib.checks.agrees
        return "of this check"
    if text.count("\n") >= 3:
        return "of this table"
    return "of this output" if text else "that the next cells use"


def setup(app):
    app.add_post_transform(Folded)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
