// What one device holds in training, under sliders; budget.py writes its numbers beside this.
const STYLE = `
  svg { font-size: 13px }
  .controls { display: grid; grid-template-columns: auto 1fr auto; gap: 0 12px; align-items: center }
  input { height: 36px }`;
const GB = 1e9;
const amount = (x) => (x >= 99.5 ? x.toFixed(0) : x >= 9.95 ? x.toFixed(1) : x.toFixed(2));
const time = (s) => (s >= 10 ? `${s.toFixed(0)} s` : s >= 0.1 ? `${s.toFixed(1)} s` : `${(1000 * s).toFixed(0)} ms`);

// The same steps as lib.memory.plan.
function plan({ N, n, shard, tokens, checkpoint }) {
  const L = Math.max(1, Math.round((N / 12 / data.head ** 2) ** (1 / 3)));
  const D = data.head * L, layer = 34 * D * tokens;
  const found = {
    weights: (2 * N) / (shard > 2 ? n : 1),
    gradients: (2 * N) / (shard > 1 ? n : 1),
    optimiser: (12 * N) / (shard > 0 ? n : 1),
    activations: (checkpoint ? 2 * D * L * tokens + layer : L * layer) + 6 * data.vocabulary * tokens,
  };
  if (shard > 2 && n > 1) {
    found.weights += (2 * N) / L;
    found.gradients += (2 * N) / L;
  }
  found.total = data.parts.reduce((sum, part) => sum + found[part], 0);
  found.sent = (((shard > 2 ? 3 : 2) * (n - 1)) / n) * 2 * N;
  found.operations = (checkpoint ? 8 : 6) * N * tokens;
  return found;
}

mount(STYLE, data.name, (host, root) => {
  const row = 28, left = 92, rows = [...data.parts, "total"];
  // name, label, last place and first place of the slider, its value there, words
  const dials = [
    ["N", "parameters", data.sizes.length - 1, data.sizes.indexOf(7), (x) => data.sizes[x] * 1e9, (v) => `${v / 1e9} billion`],
    ["n", "devices", 9, 3, (x) => 2 ** x, (v) => `${v}`],
    ["shard", "sharded", data.stages.length - 1, 0, (x) => x, (v) => data.stages[v]],
    ["tokens", "tokens a device", 6, 3, (x) => 512 * 2 ** x, (v) => v.toLocaleString("en")],
    ["checkpoint", "checkpointing", 1, 1, (x) => x === 1, (v) => (v ? "on" : "off")],
    ["room", "memory a device", data.rooms.length - 1, data.rooms.indexOf(80), (x) => data.rooms[x] * GB, (v) => `${v / GB} GB`],
  ];
  const drawing = svg("svg", { width: "100%", height: row * rows.length + 22, role: "img", "aria-label": data.alt });
  const words = html("output", { "aria-live": "polite" });
  const controls = html("div", { class: "controls" });
  const inputs = dials.map(([, label, max, value]) => {
    const input = html("input", { type: "range", min: 0, max, step: 1, value, "aria-label": label });
    input.style.accentColor = data.colours[0];
    return input;
  });
  const values = dials.map(() => html("output", {}));
  dials.forEach((dial, i) => controls.append(html("span", {}, dial[1]), inputs[i], values[i]));
  const bars = [], numbers = [];
  rows.forEach((name, i) => {
    const y = i * row + 4, fill = data.colours[i] ?? "currentColor";
    bars.push(svg("rect", { x: left, y, height: row - 10, fill }));
    numbers.push(svg("text", { y: y + 14 }));
    drawing.append(svg("text", { x: left - 8, y: y + 14, "text-anchor": "end" }, name), bars[i], numbers[i]);
  });
  const limit = svg("line", { y1: 0, y2: row * rows.length, stroke: "currentColor", "stroke-dasharray": "5 4" });
  const said = svg("text", { y: row * rows.length + 14, "text-anchor": "end" });
  drawing.append(limit, said);
  root.append(drawing, words, controls);

  function show() {
    const chosen = {};
    dials.forEach(([name, , , , of, say], i) => {
      chosen[name] = of(+inputs[i].value);
      values[i].textContent = inputs[i].ariaValueText = say(chosen[name]);
    });
    const found = plan(chosen), room = chosen.room;
    const scale = Math.max(60, drawing.clientWidth - left - 78) / Math.max(found.total, room);
    rows.forEach((name, i) => {
      const long = found[name] * scale;
      set(bars[i], { width: long });
      set(numbers[i], { x: left + long + 6 });
      numbers[i].textContent = `${amount(found[name] / GB)} GB`;
    });
    set(limit, { x1: left + room * scale, x2: left + room * scale });
    set(said, { x: Math.max(left + room * scale + 22, left + 60) });
    said.textContent = `${room / GB} GB`;
    const fits = found.total <= room ? "It fits." : "It does not fit.";
    words.textContent = `${amount(found.total / GB)} of ${room / GB} GB. ${fits} A step: ${time(found.operations / data.rate)} ` +
      `of computing, ${amount(found.sent / GB)} GB sent by each device in ${time(found.sent / data.link)}.`;
    host.budget = { ...found, ...chosen, fits: found.total <= room }; // for the tests
  }
  for (const input of inputs) input.addEventListener("input", show);
  new ResizeObserver(show).observe(drawing);
  show();
});
