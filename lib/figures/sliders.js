// A next-token distribution under sliders; sliders.py writes its numbers beside this.
const STYLE = `
  svg { font-size: 13px }
  .controls { display: grid; grid-template-columns: auto 1fr auto; gap: 0 12px; align-items: center }
  input { height: 36px }`;
const [blue, orange] = data.colours;
const percent = (share) => (share >= 0.0005 ? (100 * share).toFixed(1) : share > 0 ? "< 0.1" : "0") + " %";

// The same steps in the same order as lib.filters.filtered.
// Entries {value, count, name}: a named token, or all tokens whose rounded logit is alike.
const entries = data.logits.map((value, name) => ({ value, count: 1, name }));
for (const [value, count] of data.rest) entries.push({ value, count, name: -1 });
entries.sort((a, b) => b.value - a.value);

function softmax(list) {
  const top = list[0].value;
  for (const one of list) one.weight = Math.exp(one.value - top);
  const total = list.reduceRight((sum, one) => sum + one.weight * one.count, 0);
  for (const one of list) one.share = one.weight / total;
}
function filtered({ temperature, k, p, m }) {
  let list = entries.map((one) => ({ ...one, value: one.value / temperature }));
  let left = k;
  const last = list.find((one) => (left -= one.count) <= 0);
  if (last) list = list.filter((one) => one.value >= last.value); // with those that tie
  softmax(list);
  if (p < 1) {
    let below = 0; // summed from the least likely one
    for (let i = list.length - 1; i >= 0; i--) {
      const one = list[i], room = Math.max(0, Math.floor((1 - p - below) / one.share));
      const refused = Math.min(room, one.count - (i === 0)); // the likeliest stays
      below += one.count * one.share;
      one.count -= refused;
      if (!refused) break;
    }
    list = list.filter((one) => one.count > 0);
    softmax(list);
  }
  list = list.filter((one) => !(one.weight < m)); // the likeliest has weight 1
  softmax(list);
  const result = { shares: data.logits.map(() => 0), rest: 0, kept: 0 };
  for (const one of list) {
    if (one.name < 0) result.rest += one.share * one.count;
    else result.shares[one.name] = one.share;
    result.kept += one.count;
  }
  return result;
}

mount(STYLE, data.name, (host, root) => {
  const size = data.size, shown = data.shown, row = 22, left = 110;
  const top = Math.log(size);
  // name, label, range of the slider, value of its position, words
  const dials = [
    ["temperature", "temperature", [5, 200, 5, 100], (x) => x / 100, (v) => v.toFixed(2)],
    ["k", "top-k", [0, 100, 1, 100], (x) => Math.round(Math.exp((top * x) / 100)), (v) => v.toLocaleString("en")],
    ["p", "top-p", [1, 100, 1, 100], (x) => x / 100, (v) => v.toFixed(2)],
    ["m", "min-p", [0, 100, 1, 0], (x) => x / 100, (v) => v.toFixed(2)],
  ];
  const drawing = svg("svg", { width: "100%", height: row * (shown + 1) + 8, role: "img", "aria-label": data.alt });
  const words = html("output", { "aria-live": "polite" });
  const controls = html("div", { class: "controls" });
  const inputs = dials.map(([, label, [min, max, step, value]]) => {
    const input = html("input", { type: "range", min, max, step, value, "aria-label": label });
    input.style.accentColor = blue;
    return input;
  });
  const values = dials.map(() => html("output", {}));
  dials.forEach((dial, i) => controls.append(html("span", {}, dial[1]), inputs[i], values[i]));
  const bars = [], old = [], numbers = [];
  for (let i = 0; i <= shown; i++) {
    const y = i * row + 4, name = i < shown ? data.tokens[i] : "all others";
    old.push(svg("rect", { x: left, y, height: row - 6, fill: "none", stroke: "currentColor", opacity: 0.6 }));
    bars.push(svg("rect", { x: left, y, height: row - 6, fill: i < shown ? blue : orange }));
    numbers.push(svg("text", { y: y + 13 }));
    drawing.append(svg("text", { x: left - 8, y: y + 13, "text-anchor": "end" }, name), bars[i], old[i], numbers[i]);
  }
  root.append(drawing, words, controls);

  const amounts = (found) => [...found.shares.slice(0, shown), 1 - found.shares.slice(0, shown).reduce((a, b) => a + b, 0)];
  function show() {
    const chosen = {};
    dials.forEach(([name, , , of, say], i) => {
      chosen[name] = of(+inputs[i].value);
      values[i].textContent = inputs[i].ariaValueText = say(chosen[name]);
    });
    const found = filtered(chosen), now = amounts(found);
    const before = amounts(filtered({ ...chosen, k: size, p: 1, m: 0 }));
    const width = Math.max(60, drawing.clientWidth - left - 64);
    now.forEach((share, i) => {
      const long = Math.max(0, share) * width, was = Math.max(0, before[i]) * width;
      set(bars[i], { width: long });
      set(old[i], { width: was });
      set(numbers[i], { x: left + Math.max(long, was) + 6 });
      numbers[i].textContent = percent(Math.max(0, share));
    });
    words.textContent = `${found.kept.toLocaleString("en")} of ${size.toLocaleString("en")} tokens are left.`;
    host.distribution = { ...found, ...chosen }; // for the tests
  }
  for (const input of inputs) input.addEventListener("input", show);
  new ResizeObserver(show).observe(drawing);
  show();
});
