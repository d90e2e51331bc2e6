// Maps that change step by step, with points and paths on them; plane.py writes their numbers.
const STYLE = `
  .stage { display: grid; gap: 16px 24px }
  .title { font-weight: bold }
  .note { min-height: 1.3em; font-variant-numeric: tabular-nums }
  .plot { position: relative }
  canvas { position: absolute }
  svg { position: relative; font-size: 12px }
  .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; margin-top: 8px }
  .legend span { display: inline-flex; align-items: center; gap: 5px }
  .legend svg { overflow: visible }`;
const DASHES = ["", "7 3", "8 3 2 3", "2 3", "7 2 2 2 2 2", "2 4"]; // as STYLES in Python
const LEFT = 44, BELOW = 40, TOP = 6, RIGHT = 8;
const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
const path = (d, attributes) => svg("path", { d, fill: "none", stroke: "currentColor", ...attributes });
const text = (x, y, words, anchor, turn = 0) =>
  svg("text", { "text-anchor": anchor, transform: `translate(${x} ${y}) rotate(${turn})` }, words);
// A mark for each category: circle, square, diamond, two triangles, cross.
const SHAPES = ["M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z", "M-.9-.9H.9V.9H-.9Z", "M0-1.2L1.2 0 0 1.2-1.2 0Z",
  "M0-1.1L1.1.9H-1.1Z", "M0 1.1L1.1-.9H-1.1Z", "M-1-1L1 1M1-1L-1 1"];
const mark = (i, r) => svg("path", { d: SHAPES[i], fill: data.colours[i], stroke: "#fff",
  "stroke-width": 0.25, transform: `scale(${r})` });
const round = (value) => `${+value.toPrecision(3)}`.replace("-", "\u2212");
// Three to six round numbers within the limits.
function ticks([low, high]) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(6));
  return found;
}
const bytes = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const RAMPS = Object.fromEntries(Object.entries(data.ramps).map(([kind, all]) => [kind, all.map(bytes)]));

// One map, `total` pixels wide: its node and show(position).
function map(p, total) {
  const width = Math.min(total - LEFT - RIGHT, 300), height = width;
  const x = scale(p.xlim, LEFT, LEFT + width), y = scale(p.ylim, TOP + height, TOP);
  const canvas = html("canvas", { width: p.n, height: p.n, "aria-hidden": true });
  Object.assign(canvas.style, { left: `${LEFT}px`, top: `${TOP}px`, width: `${width}px`, height: `${height}px` });
  const root = svg("svg", { width: LEFT + width + RIGHT, height: TOP + height + BELOW });
  for (const value of ticks(p.xlim)) root.append(text(x(value), TOP + height + 16, round(value), "middle"));
  for (const value of ticks(p.ylim)) root.append(text(LEFT - 6, y(value) + 4, round(value), "end"));
  root.append(text(LEFT + width / 2, TOP + height + 33, p.xlabel, "middle"),
    text(11, TOP + height / 2, p.ylabel, "middle", -90));
  const inside = svg("svg", { x: LEFT, y: TOP, width, height, overflow: "hidden" });
  p.points.forEach((group, i) => group.xy.forEach(([a, b]) => inside.append(
    svg("g", { transform: `translate(${(x(a) - LEFT).toFixed(1)} ${(y(b) - TOP).toFixed(1)})` }, mark(i, 3)))));
  const ways = p.paths.map((one, i) => {
    const dash = { "stroke-dasharray": DASHES[i] };
    const halo = path("", { stroke: "#fff", "stroke-width": 4.5, ...dash });
    const line = path("", { stroke: data.colours[i], "stroke-width": 2, ...dash });
    const head = svg("g", {}, mark(i, 5));
    inside.append(halo, line, head);
    return [one.xy, halo, line, head];
  });
  root.append(inside);
  const note = html("div", { class: "note" });
  const pen = canvas.getContext("2d"), picture = pen.createImageData(p.n, p.n);
  const ramp = RAMPS[p.ramp];
  function show(position) {
    const i = Math.floor(position), part = position - i, still = p.frames.length === 1;
    const now = p.frames[still ? 0 : i], next = part && !still ? p.frames[i + 1] : now;
    now.forEach((value, k) => {
      const level = ((value + (next[k] - value) * part) / data.fine) * ramp.length;
      const colour = ramp[clamp(0, Math.floor(level), ramp.length - 1)];
      const at = 4 * ((p.n - 1 - Math.floor(k / p.n)) * p.n + (k % p.n));
      picture.data.set(colour, at);
      picture.data[at + 3] = 255;
    });
    pen.putImageData(picture, 0, 0);
    for (const [xy, halo, line, head] of ways) {
      const way = xy.slice(0, i + 1);
      if (part) way.push(xy[i].map((value, k) => value + (xy[i + 1][k] - value) * part));
      const places = way.map(([a, b]) => [x(a) - LEFT, y(b) - TOP]);
      const d = "M" + places.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L");
      set(halo, { d });
      set(line, { d });
      const [a, b] = places.at(-1);
      set(head, { transform: `translate(${clamp(4, a, width - 4)} ${clamp(4, b, height - 4)})` });
    }
    note.textContent = p.notes[i] || "";
  }
  return [html("div", {}, html("div", { class: "title" }, p.title), note,
    html("div", { class: "plot" }, canvas, root)), show];
}

function legend() {
  const [first] = data.panels, items = [];
  const item = (name, ...nodes) => items.push(html("span", {}, svg("svg", { width: 26, height: 12 }, ...nodes), name));
  const middle = (node) => svg("g", { transform: "translate(13 6)" }, node);
  first.points.forEach((group, i) => item(group.name, middle(mark(i, 4))));
  first.paths.forEach((one, i) => item(one.name,
    path("M0 6H26", { stroke: data.colours[i], "stroke-width": 2, "stroke-dasharray": DASHES[i] }), middle(mark(i, 4))));
  const scales = new Map(data.panels.map((p) => [p.label, p]));
  for (const [label, p] of scales) {
    const all = data.ramps[p.ramp];
    const bar = svg("svg", { width: 96, height: 12 }, ...all.map((fill, i) =>
      svg("rect", { fill, x: (i * 96) / all.length, width: 96 / all.length + 0.5, height: 12 })));
    items.push(html("span", {}, `${label}: ${round(p.v[0])}`, bar, round(p.v[1])));
  }
  return html("div", { class: "legend" }, ...items);
}

mount(STYLE, data.name, (host, root) => {
  const stage = html("div", { class: "stage", role: "img", "aria-label": data.alt });
  root.append(stage, legend());
  let shows = [], drawn = 0;
  const { redraw } = player(host, root, (position) => shows.forEach((show) => show(position)));
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (!width || width === drawn) return;
    drawn = width;
    const columns = clamp(1, Math.floor((width + 24) / 264), Math.min(2, data.panels.length));
    const each = Math.floor((width - 24 * (columns - 1)) / columns);
    const parts = data.panels.map((p) => map(p, each));
    stage.style.gridTemplateColumns = `repeat(${columns}, ${each}px)`;
    stage.replaceChildren(...parts.map((part) => part[0]));
    shows = parts.map((part) => part[1]);
    redraw();
  }).observe(root);
});
