// A prompt, and a small language model that goes on from it; write.py gives its numbers.
offer(`
  .text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; font-size: 14px; line-height: 1.7; max-height: 15em; overflow-y: auto; border: 1px solid; border-radius: 8px; padding: 8px; position: relative }
  .text span { cursor: pointer; border-radius: 3px }
  .text .new { text-decoration: underline; text-decoration-color: #0173b2; text-underline-offset: 3px }
  .text .chosen { outline: 2px solid }
  .choices { display: grid; grid-template-columns: auto auto 1fr; gap: 2px 8px; align-items: center; margin: 6px 0 }
  .choices button { height: 28px; font-family: monospace; min-width: 44px; padding: 0 6px }
  .two { display: flex; flex-wrap: wrap; gap: 8px 24px }
  .two > * { flex: 1 1 260px; min-width: 0 }`, async (files, body, tell, wrong) => {
  const letters = [...data.letters], END = 1000, KEPT = data.config.limit / 2;
  const model = languageModel(await inSlices(tensors(files[data.files[0].file])), data.config);
  const setting = { temperature: 0.8, k: letters.length, p: 1 };
  const seen = (letter) => (letter === "\n" ? "⏎" : letter === " " ? "␣" : letter);
  // One entry for each character: {id, given, logits before it, attention of the one before}.
  let entries = [], state, first = 0, last = null, chosen = 0, running = 0;

  // Reads one more character. At the end of the position table it rereads the last half.
  async function push(id, given) {
    entries.push({ id, given, ...(last ?? {}), from: first });
    if (state.past === model.limit) {
      first = entries.length - 1 - KEPT;
      state.past = 0;
      await inSlices(model.read(entries.slice(first, -1).map((one) => one.id), state));
      note.textContent = `${data.end}: the model has read the last ${KEPT} again and goes on from them.`;
    }
    last = await inSlices(model.read([id], state));
  }
  // Goes back to the first `count` characters.
  async function back(count) {
    const kept = entries.slice(0, count);
    if (count > first && state.past > count - first) {
      state.past = count - first - 1;
      entries = kept;
      last = await inSlices(model.read([kept.at(-1).id], state));
    } else if (count < entries.length) await restart(kept);
  }
  async function restart(list) {
    [entries, state, first, last] = [[], model.start(), 0, null];
    for (const { id, given } of list) await push(id, given);
  }
  async function take(prompt) {
    const known = [...prompt].filter((letter) => letters.includes(letter)), odd = [...prompt].length - known.length;
    wrong(odd ? `${odd} of the characters are not among the model's ${letters.length} and are left out.` : "");
    if (!known.length) wrong(`${odd ? "None of the characters is known to the model." : "The prompt is empty."} It starts after a line break.`);
    const kept = (known.length ? known : ["\n"]).slice(-END / 2);
    if (kept.length < known.length) wrong(`The prompt is long: the model reads its last ${END / 2} characters.`);
    note.textContent = "";
    await restart(kept.map((letter) => ({ id: letters.indexOf(letter), given: true })));
    fresh = prompt;
  }

  const field = html("textarea", { rows: 2, "aria-label": "Prompt", spellcheck: "false" });
  field.value = data.prompt;
  let fresh = null;
  const go = button("Write", () => (running ? stop() : start(Infinity)));
  const one = button("One step", () => start(1));
  const undo = button("Step back", () => alone(async () => {
    const count = entries.length - 1;
    if (count > 0 && !entries[count].given) await back(count);
    choose(entries.length);
  }));
  const output = html("div", { class: "text", role: "group", tabindex: 0, "aria-label": "The text, character by character: arrow keys choose one" });
  const note = html("p", { class: "quiet" }), heading = html("p", {}), bars = html("div", { class: "choices" });
  const kept = html("p", { class: "quiet" }), heads = html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Attention of each head" });
  const redo = (name) => (value) => { setting[name] = value; choose(chosen); };
  body.append(html("label", {}, "Prompt"), field, html("div", { class: "row" }, go, one, undo),
    html("div", { class: "row" },
      dial("temperature", [0.05, 2, 0.05, 0.8], (v) => v.toFixed(2), redo("temperature")),
      dial("top-k", [1, letters.length, 1, letters.length], (v) => (v === 1 ? "1: greedy" : String(v)), redo("k")),
      dial("top-p", [0.05, 1, 0.05, 1], (v) => v.toFixed(2), redo("p"))),
    output, note, html("div", { class: "two" }, html("div", {}, heading, bars, kept), html("div", {}, html("p", {}, "What each head attends to: rows are layer.head"), heads)));

  // One thing at a time: a second click while the model reads does nothing.
  let busy = false;
  async function alone(act) {
    if (busy) return;
    busy = true;
    try {
      if (fresh !== field.value) await take(field.value);
      await act();
    } finally { busy = false; }
  }
  function stop() {
    running = 0;
    go.textContent = "Write";
    tell(`Written: ${entries.filter((entry) => !entry.given).slice(-80).map((entry) => letters[entry.id]).join("")}`);
  }
  const start = (count) => alone(async () => {
    running = count;
    go.textContent = "Pause";
    for (let n = 0; n < count && running && body.isConnected && !document.hidden; n++) {
      if (entries.length >= END) { note.textContent = `${END} characters are enough here: step back, or change the prompt.`; break; }
      await push(draw(filtered(last.logits, setting)), false);
      if (!STILL.matches || n % 40 === 39) {
        choose(entries.length);
        if (count > 1) await new Promise((resume) => setTimeout(resume, STILL.matches ? 0 : 60));
      }
    }
    choose(entries.length);
    stop();
  });

  // Shows the choice at a place: entries.length is the character that is still to come.
  function choose(at) {
    chosen = clamp(0, at, entries.length);
    while (output.childElementCount > entries.length) output.lastChild.remove();
    entries.forEach(({ id, given }, i) => {
      const letter = letters[id], span = output.children[i] ?? output.appendChild(html("span", {}));
      span.textContent = i === chosen && letter === "\n" ? "⏎\n" : letter;
      span.className = (given ? "" : "new") + (i === chosen ? " chosen" : "");
    });
    const place = output.children[Math.min(chosen, entries.length - 1)];
    if (place) output.scrollTop = Math.max(0, place.offsetTop - output.clientHeight + 40);
    const at_ = chosen === entries.length ? last : entries[chosen];
    const before = entries.slice(Math.max(0, chosen - 12), chosen).map((entry) => seen(letters[entry.id])).join("");
    heading.textContent = chosen === entries.length ? `Next, after “${before}”` : `After “${before}” came “${seen(letters[entries[chosen].id])}”`;
    bars.replaceChildren();
    heads.replaceChildren();
    kept.textContent = "";
    if (!at_?.logits) return;
    const shares = filtered(at_.logits, setting), raw = filtered(at_.logits);
    const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a] || raw[b] - raw[a]).slice(0, 8);
    for (const id of order) {
      bars.append(button(seen(letters[id]), () => alone(async () => {
        const here = chosen;
        if (here < entries.length) await back(here);
        await push(id, false);
        choose(entries.length);
        tell(`${seen(letters[id])} was taken.`);
        bars.querySelector("button")?.focus();
      }), { "aria-label": `Take ${letters[id] === " " ? "space" : letters[id] === "\n" ? "line break" : letters[id]}, ${percent(shares[id])}` }), percent(shares[id]), html("span", {}, barOf(shares[id])));
    }
    const left = shares.filter((share) => share > 0).length;
    kept.textContent = `${left} of ${letters.length} characters are left by the filters. Choose one of them, and the text goes on from there.`;
    draw_(at_.attention, at_ === last ? first : at_.from, chosen);
  }
  // Heads as rows, the characters read so far as columns: the darker, the more weight.
  function draw_(attention, from, to) {
    const H = data.config.num_heads, T = attention[0].length / H, w = 11, shown = Math.min(T, clamp(16, Math.floor((heads.clientWidth - 44) / w), 48));
    const drawing = svg("svg", { width: 44 + shown * w, height: 13 * attention.length * H + 18, role: "img", "aria-label":
      `Attention after the last of ${T} characters, one row for each of ${attention.length * H} heads, one column for each of the last ${shown} characters.` });
    attention.forEach((layer, l) => {
      for (let h = 0; h < H; h++) {
        const y = 13 * (l * H + h);
        drawing.append(svg("text", { x: 0, y: y + 10, "font-size": 10 }, `${l + 1}.${h + 1}`));
        for (let j = T - shown; j < T; j++) {
          const weight = layer[h * T + j];
          if (weight > 0.015) drawing.append(svg("rect", { x: 40 + (j - T + shown) * w, y, width: w - 1, height: 12, fill: "#0173b2", opacity: Math.min(1, weight + 0.1) }));
        }
      }
    });
    entries.slice(to - shown, to).forEach((entry, i) =>
      drawing.append(svg("text", { x: 41 + i * w, y: 13 * attention.length * H + 13, "font-family": "monospace", "font-size": 12 }, seen(letters[entry.id]))));
    heads.append(drawing);
  }
  output.addEventListener("click", (event) => {
    const at = [...output.children].indexOf(event.target);
    if (at >= 0 && !busy) choose(at);
  });
  output.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -END, End: END };
    if (!(event.key in moves) || busy || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    choose(chosen + moves[event.key]);
    tell(heading.textContent);
  });
  field.addEventListener("input", () => { fresh = null; });
  await alone(async () => choose(entries.length));
  choose(entries.length);
});
