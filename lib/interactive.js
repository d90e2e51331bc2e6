// Two figures that a reader works: a next-token distribution under sliders, and a beam
// tree that grows. lib/interactive.py writes their numbers beside this. Each lives in a
// shadow root; the still picture in its host stands wherever this script does not run.
(function (key, data) {
  "use strict";
  const STYLE = `
    :host { display: block }
    .figure { font-size: 14px; margin: 8px 0; text-align: left }
    .scroll { overflow-x: auto }
    .scroll:focus-visible { outline: 2px solid; outline-offset: 2px }
    svg { display: block; font-size: 13px }
    text { fill: currentColor }
    .controls { display: grid; grid-template-columns: auto 1fr auto; gap: 0 12px; align-items: center }
    .player { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px }
    button { display: grid; place-items: center; width: 40px; height: 40px; padding: 0;
      border: 1px solid; border-radius: 8px; background: none; color: inherit; cursor: pointer }
    input { flex: 1 1 140px; min-width: 0; height: 36px; margin: 0 }
    button:focus-visible, input:focus-visible { outline: 2px solid; outline-offset: 2px }
    output { font-variant-numeric: tabular-nums }`;
  const set = (node, attributes, children = []) => {
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    node.append(...children);
    return node;
  };
  const html = (tag, attributes, ...children) => set(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const [blue, orange] = data.colours;
  const percent = (share) => (share >= 0.0005 ? (100 * share).toFixed(1) : share > 0 ? "< 0.1" : "0") + " %";

  // --- The distribution: the same steps in the same order as lib.decoding.filtered -------
  // Entries {value, count, name}: a named token, or all tokens whose rounded logit is alike.
  const entries = (data.logits || []).map((value, name) => ({ value, count: 1, name }));
  for (const [value, count] of data.rest || []) entries.push({ value, count, name: -1 });
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

  function distribution(host, root) {
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
  }

  // --- The tree ------------------------------------------------------------------------
  function tree(host, root) {
    const wide = data.wide, row = 30, last = data.labels.length - 1;
    const lanes = 1 + Math.max(...data.nodes.map((node) => node.lane));
    const depth = 1 + Math.max(...data.nodes.map((node) => node.depth));
    const width = depth * wide + 20, height = lanes * row + 10;
    const x = (node) => node.depth * wide + 10, y = (node) => node.lane * row + 20;
    const drawing = svg("svg", { width, height, role: "img", "aria-label": data.alt });
    const groups = data.nodes.map((node) => {
      const group = svg("g", {}), parent = data.nodes[node.parent];
      if (parent) {
        const from = x(parent) + wide - 28, to = x(node) - 4, middle = (from + to) / 2;
        group.append(svg("path", {
          d: `M${from} ${y(parent) - 4}C${middle} ${y(parent) - 4} ${middle} ${y(node) - 4} ${to} ${y(node) - 4}`,
          fill: "none", stroke: "currentColor",
        }));
      }
      group.append(svg("text", { x: x(node), y: y(node) }, node.text));
      group.append(svg("text", { x: x(node) + wide - 34, y: y(node), "text-anchor": "end", opacity: 0.85 }, node.value));
      drawing.append(group);
      return group;
    });
    const slider = html("input", { type: "range", max: last, "aria-label": "Frame" });
    const button = html("button", { type: "button" });
    const label = html("output", { "aria-live": "polite" });
    slider.style.accentColor = blue;
    root.append(html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tree" }, drawing),
      html("div", { class: "player" }, button, slider, label));
    let frame = last, timer = 0;
    // candidate, kept, dropped, ended, best: ink and weight, never colour alone
    const looks = { c: [1, 1, ""], k: [1, 2, ""], d: [0.75, 1, "3 3"], e: [1, 2, ""], b: [1, 3.5, ""] };
    function show(next) {
      frame = Math.max(0, Math.min(last, next));
      slider.value = frame;
      slider.ariaValueText = `${data.labels[frame]}, frame ${frame + 1} of ${last + 1}`;
      label.textContent = data.labels[frame];
      data.nodes.forEach((node, i) => {
        const state = node.states[frame], look = looks[state];
        groups[i].style.display = look ? "" : "none";
        if (!look) return;
        set(groups[i], { opacity: look[0], "font-weight": state === "d" || state === "c" ? 400 : 700 });
        const edge = groups[i].querySelector("path");
        if (edge) set(edge, { "stroke-width": look[1], "stroke-dasharray": look[2], stroke: state === "b" ? orange : state === "k" || state === "e" ? blue : "currentColor" });
      });
    }
    function face() {
      button.ariaLabel = timer ? "Pause" : "Play";
      const path = timer ? "M3 2h4v12H3zM9 2h4v12H9z" : "M3 1l11 7-11 7z";
      button.replaceChildren(svg("svg", { width: 16, height: 16 }, svg("path", { d: path, fill: "currentColor" })));
    }
    function stop() {
      clearInterval(timer);
      timer = 0;
      face();
    }
    function play() {
      if (frame === last) show(0);
      timer = setInterval(() => {
        show(frame + 1);
        if (frame === last || !host.isConnected) stop();
      }, 1200);
      face();
    }
    const go = (next) => { stop(); show(next); };
    button.addEventListener("click", () => (timer ? stop() : play()));
    slider.addEventListener("input", () => go(+slider.value));
    root.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -last, End: last };
      if (event.target.className === "scroll" || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key in moves) go(frame + moves[event.key]);
      else if (event.key === " " && event.target === slider) button.click();
      else return;
      event.preventDefault();
    });
    show(last);
    face();
  }

  // A page may hold the same figure twice; JupyterLab may run this before the host is there.
  (function start(tries) {
    const hosts = document.querySelectorAll(`[data-interactive="${key}"]`);
    for (const host of hosts) {
      if (host.shadowRoot) continue;
      const root = html("div", { class: "figure", role: "group", "aria-label": data.name });
      host.attachShadow({ mode: "open" }).append(html("style", {}, STYLE), root);
      (data.kind === "tree" ? tree : distribution)(host, root);
    }
    if (!hosts.length && tries) setTimeout(start, 100, tries - 1);
  })(50);
})
