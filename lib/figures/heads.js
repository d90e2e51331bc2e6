// Every head of some models: a grid of a measure with the chosen head's map, or the lines
// from token to token; heads.py writes the numbers. Tokens go into the page as text alone.
const STYLE = `
  .bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px; margin: 4px 0 }
  .bar label { display: inline-flex; flex-wrap: wrap; align-items: center; gap: 4px }
  select { height: 40px; max-width: 100%; padding: 0 8px; font: inherit; border: 1px solid; border-radius: 8px; background: none; color: inherit }
  option { background: Canvas; color: CanvasText }
  select:focus-visible { outline: 2px solid; outline-offset: 2px }
  .stage { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: flex-start }
  svg { font-size: 11px; overflow: visible; touch-action: manipulation }
  .scroll { cursor: crosshair }
  .said { display: block; min-height: 2.8em }
  .token { cursor: pointer }
  .token:focus-visible { outline: 2px solid; outline-offset: 1px }`;
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const lines = data.view === "lines";
const share = (x) => x.toFixed(2).replace("-", "\u2212").replace(/^(\u2212?)0\./, "$1.");
// The weight of a query on a key, from 0 to 1.
function weight(model, text, at, query, key) {
  const T = text.tokens.length, size = text.causal ? (T * (T + 1)) / 2 : T * T;
  if (text.causal && key > query) return 0;
  const place = text.causal ? (query * (query + 1)) / 2 + key : query * T + key;
  return LEVELS.indexOf(text.maps[at * size + place]) / 63;
}
const colour = (part) => data.ramp[clamp(0, Math.floor(part * 64), 63)];
const word = (x, y, words, anchor, more = {}) => svg("text", { x, y, "text-anchor": anchor, ...more }, words);
const long = (tokens) => Math.max(...tokens.map((t) => [...t].reduce((sum, c) => sum + (c > "\u2e80" ? 2 : 1), 0))) * 6.4 + 8;

mount(STYLE, data.name, (host, root) => {
  let model = data.models[0], at = 0, text = model.texts[0], scale = data.scales[0], query = null;
  const said = html("output", { class: "said", "aria-live": "polite" });
  const bar = html("div", { class: "bar" }), stage = html("div", { class: "stage" });
  const pick = (label, names, change) => {
    const select = html("select", {}, ...names.map((name, i) => html("option", { value: i }, name)));
    select.addEventListener("change", () => change(+select.value));
    bar.append(html("label", {}, label, select));
    return select;
  };
  // Cells under one stop of the Tab key: the pointer and the arrow keys name a row and a column.
  function cells(drawing, label, find, move) {
    const box = html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, drawing);
    const point = (event) => {
      const frame = drawing.getBoundingClientRect();
      find(event.clientX - frame.x, event.clientY - frame.y);
    };
    drawing.addEventListener("click", point);
    drawing.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
    box.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      move(...step);
      event.preventDefault();
    });
    return box;
  }
  const place = () => [Math.floor(at / model.heads), at % model.heads];
  function tell(more) {
    const [layer, head] = place();
    const found = Object.entries(model.values).map(([name, all]) => `${name} ${share(all[at])}`);
    said.textContent = `${model.name}, layer ${layer}, head ${head}${found.length ? `: ${found.join(" · ")}` : ""}${more ? ` — ${more}` : ""}`;
    host.heads = { model: model.name, layer, head, text: text.title, measure: scale?.name, query }; // for the tests
  }

  // --- The grids ----------------------------------------------------------------------
  let grids = [], frame;
  const left = svg("svg", { role: "img", "aria-label": data.alt });
  const right = svg("svg", { role: "img" });
  const LABEL = 24, TOP = 30;
  let unit = 12, cell = 16, cursor = [0, 0];
  function drawGrids(wide) {
    const columns = data.models.reduce((sum, m) => sum + m.heads, 0);
    unit = clamp(8, Math.floor((wide - LABEL * data.models.length - 12 * (data.models.length - 1)) / columns), 15);
    const high = Math.max(...data.models.map((m) => m.layers));
    left.replaceChildren();
    let x = 0;
    grids = data.models.map((m) => {
      x += LABEL;
      left.append(word(x, 10, m.name, "start", { "font-weight": "bold" }));
      for (let h = 0; h < m.heads; h += 2) left.append(word(x + (h + 0.5) * unit, 25, h, "middle"));
      for (let l = 0; l < m.layers; l += 5) left.append(word(x - 4, TOP + (l + 0.5) * unit + 4, l, "end"));
      const values = m.values[scale.name];
      for (let i = 0; i < m.layers * m.heads; i++) left.append(svg("rect", {
        x: x + (i % m.heads) * unit, y: TOP + Math.floor(i / m.heads) * unit, width: unit - 1, height: unit - 1,
        ...(values ? { fill: colour(values[i] / scale.high) } : { fill: "none", stroke: "#8888", "stroke-dasharray": "1 2" }) }));
      const grid = { m, x };
      x += m.heads * unit + 12;
      return grid;
    });
    frame = svg("rect", { width: unit + 1, height: unit + 1, fill: "none", stroke: "currentColor", "stroke-width": 3 });
    left.append(frame);
    set(left, { width: x - 12, height: TOP + high * unit + 2 });
    mark();
  }
  function mark() {
    const { x } = grids.find((grid) => grid.m === model), [layer, head] = place();
    set(frame, { x: x + head * unit - 1, y: TOP + layer * unit - 1 });
  }
  function choose(m, layer, head) {
    if (m !== model) {
      const kind = text.title;
      model = m;
      text = m.texts.find((one) => one.title === kind) ?? m.texts[0];
      texts();
    }
    at = clamp(0, layer, m.layers - 1) * m.heads + clamp(0, head, m.heads - 1);
    mark();
    drawMap();
    tell();
  }
  function find(px, py) {
    for (const { m, x } of grids) {
      const head = Math.floor((px - x) / unit), layer = Math.floor((py - TOP) / unit);
      if (head >= 0 && head < m.heads && layer >= 0 && layer < m.layers) return choose(m, layer, head);
    }
  }
  function step(down, across) { // past the side of a grid: the model beside it
    const [layer, head] = place(), next = head + across, i = data.models.indexOf(model);
    const other = data.models[next < 0 ? i - 1 : next >= model.heads ? i + 1 : -1];
    if (other) choose(other, layer, next < 0 ? other.heads - 1 : 0);
    else choose(model, layer + down, next);
  }

  // --- The map of the chosen head -------------------------------------------------------
  let edge = 60, shown;
  function drawMap() {
    const T = text.tokens.length, wide = right.parentNode.clientWidth || 300;
    edge = Math.min(110, long(text.tokens));
    cell = clamp(8, Math.floor((wide - edge - 4) / T), 22);
    right.replaceChildren();
    text.tokens.forEach((token, i) => {
      right.append(word(edge - 4, edge + (i + 0.5) * cell + 4, token, "end"),
        svg("text", { transform: `translate(${edge + (i + 0.5) * cell + 4} ${edge - 4}) rotate(-90)` }, token));
      for (let j = 0; j < T; j++) if (!text.causal || j <= i) right.append(svg("rect", {
        x: edge + j * cell, y: edge + i * cell, width: cell - 0.5, height: cell - 0.5, fill: colour(weight(model, text, at, i, j)) }));
    });
    shown = svg("rect", { width: cell, height: cell, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" });
    right.append(shown);
    const [layer, head] = place();
    set(right, { width: edge + T * cell + 2, height: edge + T * cell + 2, "aria-label": `Attention map of layer ${layer}, head ${head}: row query, column key` });
  }
  function read(i, j) {
    const last = text.tokens.length - 1;
    cursor = [clamp(0, i, last), 0];
    cursor[1] = clamp(0, j, text.causal ? cursor[0] : last);
    set(shown, { x: edge + cursor[1] * cell, y: edge + cursor[0] * cell, visibility: "visible" });
    const [q, k] = cursor.map((t) => text.tokens[t]);
    tell(`query “${q}” gives key “${k}” ${share(weight(model, text, at, ...cursor))}`);
  }
  function inMap(px, py) {
    const i = Math.floor((py - edge) / cell), j = Math.floor((px - edge) / cell), T = text.tokens.length;
    if (i >= 0 && i < T && j >= 0 && j < T && (!text.causal || j <= i)) read(i, j);
  }

  // --- The lines ------------------------------------------------------------------------
  const ROW = 24;
  function drawLines() {
    const T = text.tokens.length, wide = Math.min(520, stage.clientWidth || 320);
    const side = Math.min(130, long(text.tokens) + 4), far = wide - side - 34;
    left.replaceChildren();
    for (let i = 0; i < T; i++) for (let j = 0; j < T; j++) {
      const w = weight(model, text, at, i, j);
      if (w < 0.02 || (query !== null && query !== i)) continue;
      left.append(svg("line", { x1: side, y1: (i + 0.5) * ROW, x2: far, y2: (j + 0.5) * ROW, stroke: data.colours[0], "stroke-opacity": w.toFixed(2), "stroke-width": (0.5 + 4 * w).toFixed(1) }));
    }
    text.tokens.forEach((token, i) => {
      const on = query === i;
      const node = svg("g", { class: "token", tabindex: 0, role: "button", "aria-pressed": on, "aria-label": `query ${token}` },
        svg("rect", { x: 0, y: i * ROW + 2, width: side - 2, height: ROW - 4, fill: on ? data.colours[0] + "59" : "transparent" }),
        word(side - 8, (i + 0.5) * ROW + 4, token, "end", { "font-weight": on ? "bold" : "normal" }));
      const turn = () => {
        query = on ? null : i;
        drawLines();
        left.querySelectorAll(".token")[i].focus();
      };
      node.addEventListener("click", turn);
      node.addEventListener("keydown", (event) => {
        const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (down) left.querySelectorAll(".token")[(i + down + T) % T].focus();
        else if (event.key === "Enter" || event.key === " ") turn();
        else return;
        event.preventDefault();
      });
      left.append(node, word(far + 6, (i + 0.5) * ROW + 4, token, "start"));
      if (query !== null) left.append(word(wide - 2, (i + 0.5) * ROW + 4, share(weight(model, text, at, query, i)), "end"));
    });
    set(left, { width: wide, height: T * ROW });
    left.setAttribute("role", "group");
    tell(query === null ? "choose a query on the left to see its weights" : `the query “${text.tokens[query]}”: its weights stand at the right`);
  }

  // --- What the reader chooses ------------------------------------------------------------
  let textPick;
  function texts() {
    textPick.replaceChildren(...model.texts.map((one, i) => html("option", { value: i }, one.title)));
    textPick.value = model.texts.indexOf(text);
  }
  root.append(bar);
  if (lines) {
    const [layer, head, from] = data.start, count = (n) => Array.from({ length: n }, (_, i) => i);
    at = layer * model.heads + head;
    query = from;
    const layers = pick("layer", count(model.layers), (l) => { at = l * model.heads + (at % model.heads); drawLines(); });
    const heads = pick("head", count(model.heads), (h) => { at = at - (at % model.heads) + h; drawLines(); });
    layers.value = layer;
    heads.value = head;
    if (model.texts.length > 1) pick("text", model.texts.map((one) => one.title), (i) => { text = model.texts[i]; query = null; drawLines(); });
    stage.append(left);
    root.append(said, stage);
    new ResizeObserver(drawLines).observe(stage);
    return;
  }
  const legend = svg("svg", { width: 190, height: 14 });
  const what = html("span", {});
  function measure(i) {
    scale = data.scales[i];
    what.textContent = scale.what;
    legend.replaceChildren(word(0, 11, "0", "start"), ...data.ramp.map((fill, k) => svg("rect", { x: 12 + 2 * k, y: 1, width: 2.2, height: 12, fill })), word(144, 11, share(scale.high), "start"));
  }
  pick("colour", data.scales.map((one) => one.name), (i) => { measure(i); drawGrids(stage.clientWidth); tell(); });
  textPick = pick("text", [], (i) => { text = model.texts[i]; drawMap(); tell(); });
  texts();
  measure(0);
  bar.append(legend, what);
  const box = cells(left, "Heads: arrow keys choose one", find, step);
  const mapBox = cells(right, "Its map: arrow keys read a cell", inMap, (i, j) => read(cursor[0] + i, cursor[1] + j));
  set(mapBox, { style: "flex: 1 1 280px; min-width: 0" });
  stage.append(box, mapBox);
  root.append(said, stage);
  new ResizeObserver(() => {
    if (!stage.clientWidth) return;
    drawGrids(stage.clientWidth);
    drawMap();
  }).observe(stage);
  tell();
});
