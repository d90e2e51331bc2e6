// The replay player: it draws the frames that replay.py writes beside it.
const STYLE = `
  .stage { display: grid; column-gap: 24px }
  .panel { display: grid; grid-row: span 3; grid-template-rows: subgrid; margin-bottom: 16px }
  .title { font-weight: bold }
  .legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12px }
  .legend span { display: inline-flex; align-items: center; gap: 5px }
  .text { margin: 8px 0; font-size: 12px; line-height: 18px; white-space: pre-wrap; overflow-wrap: anywhere }
  svg { fill: none; font-size: 12px }`;
const DASHES = ["", "7 3", "8 3 2 3", "2 3", "7 2 2 2 2 2", "2 4"]; // as STYLES in Python
const FONT = 12;

const line = (d, attributes) => svg("path", { d, stroke: "currentColor", ...attributes });
const text = (x, y, words, anchor, turn) =>
  svg("text", { "text-anchor": anchor, transform: `translate(${x} ${y}) rotate(${turn || 0})` }, words);

// --- Geometry -------------------------------------------------------------------------
// Room that texts take: Japanese characters are twice as wide as Latin ones.
const wide = (words) => [...words].reduce((sum, c) => sum + (c > "\u2e80" ? 1 : 0.62) * FONT, 0);
const widest = (texts) => Math.max(0, ...texts.map(wide));
const words = (ticks) => ticks.map((tick) => tick[1]);
const scale = ([low, high], from, to) => (value) =>
  +(from + ((value - low) / (high - low)) * (to - from)).toFixed(1);
const curve = (xs, ys, x, y) => "M" + xs.map((value, i) => `${x(value)} ${y(ys[i])}`).join("L");
const stairs = (edges, heights, x, y) =>
  `M${x(edges[0])} ${y(0)}` + heights.map((h, i) => `V${y(h)}H${x(edges[i + 1])}`).join("") + `V${y(0)}`;
// Between two frames (only while easing from one to the next) numbers are mixed.
const at = (frames, position) => {
  const i = Math.floor(position), part = position - i;
  return part ? frames[i].map((v, k) => v + (frames[i + 1][k] - v) * part) : frames[i];
};

// --- Panels: for each kind its legend, and draw(box), which returns show(position) ------
const pen = (i) => ({ stroke: data.colours[i % 6], "stroke-width": 2, "stroke-dasharray": DASHES[i % 6] });
const sample = (name, attributes) =>
  html("span", {}, svg("svg", { width: 26, height: 10 }, line("M0 5H26", attributes)), name);

const kinds = {
  bars: {
    legend: (p) => (p.target ? [sample("target", { "stroke-width": 2 })] : []),
    draw(p, { plot, x, y }) {
      const bars = svg("path", { fill: data.colours[0] });
      plot.append(bars);
      if (p.target) plot.append(line(stairs(p.edges, p.target, x, y), { "stroke-width": 2 }));
      return (position) => set(bars, { d: stairs(p.edges, at(p.frames, position), x, y) });
    },
  },
  lines: {
    legend: (p) => p.series.map((one, i) => sample(one.name, pen(i))),
    draw(p, { root, plot, x, y, left, top }) {
      const moves = p.series.map((one) => Array.isArray(one.y[0]));
      const paths = p.series.map((one, i) => line(moves[i] ? "" : curve(p.x, one.y, x, y), pen(i)));
      const marks = (p.at ? p.series : []).map((_, i) => svg("circle", { r: 4.5, fill: data.colours[i % 6] }));
      plot.append(...paths);
      root.append(svg("g", { transform: `translate(${left} ${top})` }, ...marks));
      const trail = (one, i, position) => {
        const end = at(p.at, position)[0], xs = p.x.filter((value) => value < end);
        return curve([...xs, end], [...one.y.slice(0, xs.length), at(p.marks, position)[i]], x, y);
      };
      return (position) => {
        p.series.forEach((one, i) => {
          if (moves[i]) set(paths[i], { d: curve(p.x, at(one.y, position), x, y) });
          else if (p.trail) set(paths[i], { d: trail(one, i, position) });
        });
        marks.forEach((mark, i) =>
          set(mark, { cx: x(at(p.at, position)[0]), cy: clamp(0, y(at(p.marks, position)[i]), y(p.ylim[0])) }));
      };
    },
  },
  matrix: {
    legend: (p) => [html("span", { style: "margin-left: auto" }, p.label)],
    draw(p, { root, plot, left, top, width, height }) {
      const n = p.columns.length, w = width / n, h = height / p.rows.length;
      const ramp = data.ramps[p.ramp], levels = ramp.length;
      const cells = p.frames[0].map((_, k) =>
        svg("rect", { x: (k % n) * w, y: Math.floor(k / n) * h, width: w + 0.5, height: h + 0.5 }));
      plot.append(...cells);
      const bar = left + width + 12, y = scale(p.v, top + height, top), level = scale(p.v, 0, levels);
      ramp.forEach((fill, i) => root.append(svg("rect", {
        fill, x: bar, y: top + height * (1 - (i + 1) / levels), width: 10, height: height / levels + 0.5,
      })));
      for (const [value, name] of p.vticks) root.append(text(bar + 15, y(value) + 4, name, "start"));
      return (position) => at(p.frames, position).forEach((value, k) =>
        set(cells[k], { fill: ramp[clamp(0, Math.floor(level(value)), levels - 1)] }));
    },
  },
  dials: { legend: (p) => p.arrows.map((name, i) => sample(name, pen(i))) },
  texts: { legend: () => [] },
};

// A text a frame, in letters of one width; as high as the longest, so that nothing jumps.
function texts(p, total) {
  const fit = Math.max(1, Math.floor(total / (0.62 * FONT)));
  const rows = (one) => one.split("\n").reduce((sum, l) => sum + Math.max(1, Math.ceil(l.length / fit)), 0);
  const box = html("pre", { class: "text", style: `min-height: ${18 * Math.max(...p.frames.map(rows))}px` });
  return [box, (position) => (box.textContent = p.frames[Math.round(position)])];
}

// Circles side by side, in two rows where there is little room: no axes.
function dials(p, total) {
  const count = p.names.length, columns = total < 100 * count ? Math.ceil(count / 2) : count;
  const cell = total / columns, r = Math.min(cell / 2 - 10, 84), row = 2 * r + 44;
  const root = svg("svg", { width: total, height: Math.ceil(count / columns) * row });
  const hand = (i) => [line("", pen(i)), svg("circle", { r: 4.5, fill: data.colours[i] })];
  const point = ([path, tip], x, y) => {
    set(path, { d: `M0 0L${x} ${y}` });
    set(tip, { cx: x, cy: y });
  };
  const shows = p.names.map((name, i) => {
    const [u, v] = p.fixed[i], key = hand(1), query = hand(0);
    const along = line("", { "stroke-width": 10, opacity: 0.5 }), drop = line("", { "stroke-dasharray": "2 3" });
    const middle = `translate(${cell * (i % columns + 0.5)} ${r + 8 + row * Math.floor(i / columns)})`;
    root.append(svg("g", { transform: middle }, svg("circle", { r, stroke: "currentColor", opacity: 0.4 }),
      along, drop, ...key, ...query, text(0, r + 22, name, "middle")));
    point(key, r * u, -r * v);
    return (tips) => {
      const [x, y] = tips.slice(2 * i, 2 * i + 2), part = (x * u + y * v) / (u * u + v * v);
      point(query, r * x, -r * y);
      set(along, { d: `M0 0L${r * part * u} ${-r * part * v}`, stroke: data.colours[part < 0 ? 3 : 2] });
      set(drop, { d: `M${r * x} ${-r * y}L${r * part * u} ${-r * part * v}` });
    };
  });
  return [root, (position) => shows.forEach((show) => show(at(p.frames, position)))];
}

// One panel, `total` pixels wide with `left` for its row labels: axes, then its kind's drawing.
function panel(p, total, left) {
  if (p.kind === "dials") return dials(p, total);
  if (p.kind === "texts") return texts(p, total);
  const map = p.kind === "matrix";
  const right = map ? 28 + widest(words(p.vticks)) : 4 + Math.max(8, wide(p.xticks.at(-1)[1]) / 2);
  const top = 8, width = total - left - right;
  const height = Math.max(clamp(130, 0.55 * (total - left - 12), 220), map ? Math.min(400, 18 * p.rows.length) : 0);
  const room = map && width / p.columns.length;
  const turned = map && widest(p.columns) + 4 > room;
  const below = turned ? widest(p.columns) + 10 : 20;
  const root = svg("svg", { width: total, height: top + height + below + 20 });
  const plot = svg("svg", { x: left, y: top, width, height, overflow: "hidden" });
  const x = map || scale(p.xlim, 0, width), y = map || scale(p.ylim, height, 0);
  if (map) {
    const step = height / p.rows.length;
    const thin = (names, space, draw) =>
      names.forEach((name, i) => i % Math.ceil(FONT / space) || draw(name, i + 0.5));
    thin(p.rows, step, (name, i) => root.append(text(left - 6, top + i * step + 4, name, "end")));
    thin(p.columns, turned ? room : FONT, (name, i) => root.append(turned
      ? text(left + i * room + 4, top + height + 6, name, "end", -90)
      : text(left + i * room, top + height + 16, name, "middle")));
  } else {
    for (const [value, name] of p.yticks) {
      plot.append(line(`M0 ${y(value)}H${width}`, { opacity: 0.18 }));
      root.append(text(left - 6, top + y(value) + 4, name, "end"));
    }
    for (const [value, name] of p.xticks) {
      root.append(line(`M${left + x(value)} ${top + height}v4`));
      root.append(text(left + x(value), top + height + 17, name, "middle"));
    }
    root.append(line(`M${left} ${top}V${top + height}H${left + width}`));
  }
  root.append(plot, text(left + width / 2, top + height + below + 14, p.xlabel, "middle"),
    text(11, top + height / 2, p.ylabel, "middle", -90));
  return [root, kinds[p.kind].draw(p, { root, plot, x, y, left, top, width, height })];
}
// --- The player -----------------------------------------------------------------------
mount(STYLE, data.name, (host, root) => {
  const stage = html("div", { class: "stage", role: "img", "aria-label": data.alt });
  root.append(stage);
  let shows = [], drawn = 0;
  const { label, redraw } = player(host, root, (position) => shows.forEach((show) => show(position)));
  label.style.minWidth = `min(100%, ${widest(data.labels) * 1.2}px)`; // so the slider keeps its width

  function layout(width) {
    const columns = clamp(1, Math.floor((width + 24) / 304), Math.min(data.columns, data.panels.length));
    const each = Math.max(160, Math.floor((width - 24 * (columns - 1)) / columns));
    const left = Math.min(each / 2, 28 + Math.max(...data.panels.map((p) => widest(p.rows || words(p.yticks)))));
    const parts = data.panels.map((p) => panel(p, each, left));
    stage.style.gridTemplateColumns = `repeat(${columns}, ${each}px)`;
    stage.replaceChildren(...data.panels.map((p, i) => html("div", { class: "panel" },
      html("div", { class: "title" }, p.title),
      html("div", { class: "legend" }, ...kinds[p.kind].legend(p)), parts[i][0])));
    shows = parts.map((part) => part[1]);
    redraw();
  }
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width && width !== drawn) layout((drawn = width));
  }).observe(root);
});
