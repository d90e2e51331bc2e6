"""The roadmaps: one list of steps in the page becomes a map and the same in words.

    ```{roadmap} What the map shows, in one sentence.
    - part: Inside a block
      steps:
        - id: attention
          label: Attention
          after: compute attention by hand and by code
          needs: [embeddings]
          chapter: notebooks/block/attention
    ```

A step whose chapter is not among the book's pages yet is "planned"; `read: {title: url}`
in place of `chapter` names a source outside the book. The role {chapter}`words <page>`
follows the same rule in running text.
"""

import html
import textwrap
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np
import yaml
from docutils import nodes
from scipy.optimize import linprog
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

logger = logging.getLogger(__name__)

WIDTH, HEIGHT, GAP, LANE, ROW = 138, 62, 12, 8, 98  # pixels: a box, between boxes
MARGIN, ABREAST, LETTERS = 6, 4, 16  # boxes in a row, letters in a line
KEYS = {"id", "label", "after", "needs", "chapter", "read"}
STATES = {"chapter": "chapter", "planned": "planned", "elsewhere": "read elsewhere"}


class Fault(ValueError):
    """The list of steps does not make a map."""


@dataclass(frozen=True)
class Step:
    """One box: what it is called, what a reader can do after it, what it needs."""

    id: str
    label: str
    after: str
    needs: tuple[str, ...]
    part: str
    chapter: str | None = None  # a page of the book, there or planned
    read: tuple[str, str] | None = None  # title and address outside the book


# From text to steps


def parse(text: str) -> dict[str, Step]:
    """The steps by id, in the order of the text.

    Raises:
        Fault: not YAML, a key missing or unknown, an id twice, an id unknown in `needs`,
            a cycle, or a step that stands before one that it needs.
    """
    try:
        parts = yaml.safe_load(text)
        found = [
            _step(entry, part["part"]) for part in parts for entry in part["steps"]
        ]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise Fault(f"not a list of parts with steps: {error!r}") from error
    steps = {}
    for step in found:
        if step.id in steps:
            raise Fault(f"the id {step.id!r} stands twice")
        steps[step.id] = step
    for step in found:
        for need in step.needs:
            if need not in steps:
                raise Fault(f"{step.id!r} needs {need!r}, which is no step")
    depths(steps)
    place = {name: number for number, name in enumerate(steps)}
    for step in found:
        late = [need for need in step.needs if place[need] > place[step.id]]
        if late:
            raise Fault(f"{step.id!r} stands before {late[0]!r}, which it needs")
    return steps


def _step(entry: dict, part: str) -> Step:
    name = entry.get("id", "?")
    if set(entry) - KEYS or {"id", "label", "after", "needs"} - set(entry):
        raise Fault(f"{name!r} has the keys {sorted(entry)}")
    if ("chapter" in entry) == ("read" in entry):
        raise Fault(f"{name!r} wants one of chapter and read")
    read = next(iter(entry["read"].items())) if "read" in entry else None
    return Step(
        name,
        entry["label"],
        entry["after"],
        tuple(entry["needs"]),
        part,
        entry.get("chapter"),
        read,
    )


def _graph(steps: dict[str, Step]) -> nx.DiGraph:
    """An edge from each step to those that need it."""
    graph = nx.DiGraph()
    graph.add_nodes_from(steps)
    graph.add_edges_from((need, s.id) for s in steps.values() for need in s.needs)
    return graph


def depths(steps: dict[str, Step]) -> dict[str, int]:
    """How many steps lie before each one, on the longest way to it.

    Raises:
        Fault: a cycle; the message names its steps.
    """
    try:
        rows = enumerate(nx.topological_generations(_graph(steps)))
        return {name: depth for depth, names in rows for name in names}
    except nx.NetworkXUnfeasible:
        found = nx.find_cycle(_graph(steps).reverse())
        cycle = " → ".join([found[0][0], *(need for _, need in found)])
        raise Fault(f"a cycle of needs: {cycle}") from None


def arrows(steps: dict[str, Step]) -> list[tuple[str, str]]:
    """The needs that no chain of other needs says already."""
    kept = nx.transitive_reduction(_graph(steps))
    needs = ((need, step.id) for step in steps.values() for need in step.needs)
    return [pair for pair in needs if kept.has_edge(*pair)]


# From steps to a drawing


def lay_out(steps: dict[str, Step]):
    """Rows by depth: where each box stands, and the points each arrow passes.

    Returns:
        boxes {id: (x, y) of the upper left corner}, arrows [[(x, y), …]], width, height.

    An arrow over several rows has a lane in each row that it crosses, so that it does not
    run through a box (the method of Sugiyama, Tagawa and Toda, 1981, in its first form).
    """
    depth = _thin(depths(steps), steps)
    rows = [[] for _ in range(max(depth.values()) + 1)]
    for name in steps:
        rows[depth[name]].append(name)
    links, ways = [], []
    for need, name in arrows(steps):
        way = [need]
        for row in range(depth[need] + 1, depth[name]):
            way.append((need, name, row))
            rows[row].append(way[-1])
        way.append(name)
        ways.append(way)
        links += pairwise(way)
    above, below = {}, {}
    for a, b in links:
        below.setdefault(a, []).append(b)
        above.setdefault(b, []).append(a)

    rows = _order(rows, links, above, below)
    x = _place(rows, links)
    left = min(x[item] - _half(item) for row in rows for item in row)
    right = max(x[item] + _half(item) for row in rows for item in row)

    def middle(item):
        return round(x[item] - left + MARGIN, 1)

    boxes = {
        name: (round(middle(name) - WIDTH / 2, 1), MARGIN + ROW * depth[name])
        for name in steps
    }
    lines = []
    for way in ways:
        y = boxes[way[0]][1]
        points = [(middle(way[0]), y + HEIGHT)]
        for item in way[1:-1]:
            y += ROW
            points += [(middle(item), y), (middle(item), y + HEIGHT)]
        lines.append([*points, (middle(way[-1]), boxes[way[-1]][1])])
    width = round(right - left + 2 * MARGIN)
    return boxes, lines, width, ROW * (len(rows) - 1) + HEIGHT + 2 * MARGIN


def _thin(depth, steps):
    """Rows of at most ABREAST boxes, where steps that nothing needs can move down."""
    needed = {need for step in steps.values() for need in step.needs}
    depth, last = dict(depth), max(depth.values())
    for row in range(last):
        inside = [name for name in steps if depth[name] == row]
        free = [name for name in inside if name not in needed]
        surplus = max(len(inside) - ABREAST, 0)
        for name in free[len(free) - min(surplus, len(free)) :]:
            depth[name] += 1
    return depth


def _half(item) -> float:
    return WIDTH / 2 if isinstance(item, str) else LANE / 2


def _order(rows, links, above, below):
    """Sort the rows by their neighbours' mean place; keep the order with fewest crossings."""
    best = rows
    for turn in range(24):
        rows = [list(row) for row in rows]
        down = turn % 2 == 0
        side = above if down else below
        numbers = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for number in numbers:
            other = rows[number - 1 if down else number + 1]
            place = {item: i / len(other) for i, item in enumerate(other)}
            own = {item: i / len(rows[number]) for i, item in enumerate(rows[number])}

            def mean(item, side=side, place=place, own=own):
                near = [place[other] for other in side.get(item, [])]
                return sum(near) / len(near) if near else own[item]

            rows[number].sort(key=mean)
        if _crossings(rows, links) < _crossings(best, links):
            best = rows
    return best


def _crossings(rows, links) -> int:
    place = {item: (r, i) for r, row in enumerate(rows) for i, item in enumerate(row)}
    pairs = sorted((place[a], place[b]) for a, b in links)
    return sum(
        a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0
        for i, (a, b) in enumerate(pairs)
        for c, d in pairs[:i]
    )


def _place(rows, links) -> dict:
    """The middle of each item: near its neighbours, clear of the ones beside it.

    A linear program: the links' widths together are least, a lane's count most, as it
    wants to go on straight, and no row becomes wider than the widest has to be.
    """
    column = {item: i for i, item in enumerate(item for row in rows for item in row)}
    count = len(column) + len(links)  # places, then widths
    weight = np.zeros(count)
    sides, least = [], []

    def apart(left, right, gap, width=None):  # right − left + width ≥ gap
        side = np.zeros(count)
        side[column[left]], side[column[right]] = 1, -1
        if width is not None:
            side[width] = -1
        sides.append(side)
        least.append(-gap)

    for row in rows:
        for left, right in pairwise(row):
            apart(left, right, _half(left) + GAP + _half(right))
    for width, (a, b) in enumerate(links, len(column)):
        weight[width] = 1 if isinstance(a, str) or isinstance(b, str) else 8
        apart(a, b, 0, width)
        apart(b, a, 0, width)
    widest = max(sum(2 * _half(item) + GAP for item in row) for row in rows)
    reach = [(widest - GAP) / 2 - _half(item) for item in column]
    bounds = [(-r, r) for r in reach] + [(0, None)] * len(links)
    found = linprog(weight, sides, least, bounds=bounds)
    return dict(zip(column, found.x.tolist(), strict=False))


def draw(steps: dict[str, Step], title: str, links: dict, prefix: str) -> str:
    """The map as SVG. `links` {id: (state, address)}; `prefix` goes before its ids."""
    boxes, lines, width, height = lay_out(steps)
    description = (
        "A map read from top to bottom. Each box is a step; an arrow leads to a step from "
        "one that it needs. Boxes with a thick border are chapters of this book, boxes with "
        "a dashed border are planned, boxes with round ends are read elsewhere. The list "
        "after the map says the same in words."
    )
    out = [
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px;min-width:{min(width, 600)}px" role="group"'
        f' aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc">',
        f'<title id="{prefix}-title">{html.escape(title)}</title>',
        f'<desc id="{prefix}-desc">{description}</desc>',
        f'<defs><marker id="{prefix}-head" viewBox="0 0 8 8" refX="7" refY="4"'
        ' markerWidth="7" markerHeight="7" orient="auto"><path class="head"'
        ' d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for points in lines:
        out.append(f'<path d="{_curve(points)}" marker-end="url(#{prefix}-head)"/>')
    for name, step in steps.items():
        out.append(_box(step, *boxes[name], *links[name]))
    return "\n".join([*out, "</svg>"])


def _curve(points) -> str:
    """Curves between the rows, straight lines along a row's lanes."""
    (x, y), parts = points[0], []
    parts.append(f"M{x:g} {y:g}")
    for number, (u, v) in enumerate(points[1:], 1):
        if number % 2:  # from one row to the next
            half = round((y + v) / 2, 1)
            parts.append(f"C{x:g} {half:g} {u:g} {half:g} {u:g} {v:g}")
        else:
            parts.append(f"V{v:g}")
        x, y = u, v
    return " ".join(parts)


def _box(step: Step, x: float, y: float, state: str, address: str) -> str:
    lines = textwrap.wrap(step.label, LETTERS)
    note = [] if state == "chapter" else [STATES[state]]
    at = y + (HEIGHT - 15 * len(lines) - 13 * len(note)) / 2 + 11.5
    middle = f'x="{x + WIDTH / 2:g}"'
    spans = [
        f'<tspan {middle} y="{at + 15 * number:g}">{html.escape(line)}</tspan>'
        for number, line in enumerate(lines)
    ] + [
        f'<tspan class="note" {middle} y="{at + 15 * len(lines) - 1:g}">{line}</tspan>'
        for line in note
    ]
    spoken = html.escape(" ".join(lines + note))
    round_ = HEIGHT / 2 if state == "elsewhere" else 6
    return (
        f'<a href="{html.escape(address)}" class="{state}" aria-label="{spoken}">'
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="{round_:g}">'
        f"<title>{html.escape(f'After it you can {step.after}.')}</title></rect>"
        f"<text>{' '.join(spans)}</text></a>"
    )


# In a page


class roadmap(nodes.General, nodes.Element):
    """The drawing; its words follow as ordinary nodes."""


class Roadmap(SphinxDirective):
    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        try:
            steps = parse("\n".join(self.content))
        except Fault as fault:
            logger.warning("roadmap: %s", fault, location=self.get_location())
            return []
        pages = getattr(self.env, "roadmap_pages", set())
        self.env.roadmap_pages = pages | {self.env.docname}
        prefix = self.env.docname.rpartition("/")[2]
        states = {name: state(step, self.env) for name, step in steps.items()}
        drawing = roadmap(
            steps=steps, title=self.arguments[0], prefix=prefix, states=states
        )
        lead = nodes.paragraph(
            "",
            "In words: each line says what you can do after the step, and what"
            " the step needs.",
        )
        return [drawing, lead, in_words(steps, states, prefix)]


def state(step: Step, env) -> str:
    """Is the step a chapter of the book, planned, or read elsewhere?"""
    if step.chapter is None:
        return "elsewhere"
    return "chapter" if step.chapter in env.found_docs else "planned"


def in_words(steps: dict[str, Step], states: dict[str, str], prefix: str):
    """Parts, and in each its steps: what it is, what you can do then, what it needs."""
    parts = nodes.enumerated_list(enumtype="arabic", prefix="", suffix=".")
    parts["classes"].append("roadmap-words")
    for part in dict.fromkeys(step.part for step in steps.values()):
        inner = nodes.enumerated_list(enumtype="loweralpha", prefix="", suffix=".")
        for step in steps.values():
            if step.part == part:
                inner += _item(step, steps, states[step.id], prefix)
        parts += nodes.list_item(
            "", nodes.paragraph("", "", nodes.strong("", part)), inner
        )
    return parts


def _item(step, steps, how, prefix):
    line = nodes.paragraph()
    if how == "chapter":
        line += to_page(step.label, step.chapter)
    else:
        line += nodes.strong("", step.label)
        line += nodes.Text(f" ({STATES[how]}" if how == "planned" else " (read ")
        if how == "elsewhere":
            title, address = step.read
            line += nodes.reference("", title, refuri=address)
        line += nodes.Text(")")
    line += nodes.Text(f": {step.after}. ")
    needs = ", ".join(steps[need].label for need in step.needs) or "nothing of this map"
    line += nodes.inline("", f"Needs: {needs}.", classes=["needs"])
    return nodes.list_item("", line, ids=[f"{prefix}-{step.id}"])


def to_page(words: str, page: str):
    """A link to a page of the book; Sphinx warns where it leads nowhere."""
    link = addnodes.pending_xref(
        refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=True
    )
    link += nodes.inline("", words)
    return link


class Chapter(SphinxRole):
    """{chapter}`words <page>`: a link, or the words and "planned"."""

    def run(self):
        words, _, page = self.text.rstrip(">").rpartition("<")
        words = words.strip()
        if not words:
            logger.warning(
                "chapter: want words <page>, got %r",
                self.text,
                location=self.get_location(),
            )
            return [], []
        pages = getattr(self.env, "roadmap_pages", set())
        self.env.roadmap_pages = pages | {self.env.docname}
        if page not in self.env.found_docs:
            return [nodes.Text(f"{words} (planned)")], []
        link = to_page(words, page)
        link["refdoc"] = self.env.docname
        return [link], []


def _visit_html(translator, node):
    builder = translator.builder
    here = builder.current_docname
    links = {}
    for name, step in node["steps"].items():
        how = node["states"][name]
        links[name] = (
            how,
            {
                "chapter": lambda s=step: builder.get_relative_uri(here, s.chapter),
                "planned": lambda s=step: f"#{node['prefix']}-{s.id}",
                "elsewhere": lambda s=step: s.read[1],
            }[how](),
        )
    drawing = draw(node["steps"], node["title"], links, f"{node['prefix']}-map")
    legend = (
        '<p class="legend"><span class="chapter">chapter</span> '
        '<span class="planned">planned</span> '
        '<span class="elsewhere">read elsewhere</span></p>'
    )
    translator.body.append(
        f'<div class="roadmap">{legend}<div class="scroll" tabindex="0" role="region"'
        f' aria-label="The map">\n{drawing}\n</div></div>\n'
    )
    raise nodes.SkipNode


def _skip(translator, node):
    raise nodes.SkipNode


def _outdated(app, env, added, changed, removed):
    """A chapter that came or went changes the pages that speak of it."""
    if not (added or removed):
        return []
    return sorted(getattr(env, "roadmap_pages", set()) & env.found_docs - removed)


def _merge(app, env, docnames, other):
    pages = getattr(env, "roadmap_pages", set())
    env.roadmap_pages = pages | getattr(other, "roadmap_pages", set())


def setup(app):
    app.add_node(
        roadmap, html=(_visit_html, None), latex=(_skip, None), text=(_skip, None)
    )
    app.add_directive("roadmap", Roadmap)
    app.add_role("chapter", Chapter())
    app.add_css_file("roadmap.css")
    app.connect("env-get-outdated", _outdated)
    app.connect("env-merge-info", _merge)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
