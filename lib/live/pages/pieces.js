// A text, and its pieces by tokenizer; of a short one the lattice. pieces.py gives its numbers.
offer(`
  .line { display: flex; flex-wrap: wrap; gap: 3px; margin: 2px 0 8px }
  .piece { border: 1px solid; border-radius: 4px; padding: 1px 5px; line-height: 1.5 }
  .byte { opacity: .75; font-size: 12px }
  svg path.way { stroke: #0173b2; stroke-width: 3; stroke-opacity: 1 }
  svg path { fill: none; stroke: currentColor; stroke-opacity: .35 }`, async (files, body, tell, wrong) => {
  const MOST = 10000, DRAWN = 14, BYTES = /^(<0x..>|([0-9A-F]{2} ?)+)$/;
  const models = [], rest = () => new Promise((resume) => setTimeout(resume));
  for (const [name, { file, merges }] of Object.entries(data.models)) {
    models.push({ name, ...(file ? tokenizer(files[file]) : byteTokenizer(merges.split("\n").map((pair) => pair.split(" ")))) });
    await rest();
  }
  const unigrams = models.filter((one) => one.unigram), normaliser = models.find((one) => one.normalise);
  const field = html("textarea", { rows: 2, "aria-label": "Text", spellcheck: "false" }), kind = html("select", { "aria-label": "Vocabulary of the lattice" },
    ...unigrams.map(({ name }) => html("option", {}, name)));
  field.value = data.text;
  const clean = html("p", { class: "quiet" }), lines = html("div", {}), net = html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Lattice" });
  const net_ = html("div", {}, html("label", {}, "Lattice of", kind), net);
  body.append(field, clean, lines, net_);
  let later = 0;
  field.addEventListener("input", () => { clearTimeout(later); later = setTimeout(run, 150); });
  kind.addEventListener("change", lattice);

  let turn_ = 0; // of two runs the later one counts
  async function run() {
    const mine = ++turn_;
    wrong("");
    clean.textContent = "";
    net_.hidden = true;
    lines.replaceChildren();
    const given = field.value.slice(0, MOST);
    if (!given.trim()) return wrong("There is no text to cut.");
    if (given.length < field.value.length) wrong(`The text is long: its first ${MOST.toLocaleString("en")} characters are cut.`);
    const made = normaliser?.normalise(given) ?? given, counts = [];
    const whose = normaliser === models[0] ? "first" : `by ${normaliser?.name}`;
    if (made !== given) clean.textContent = `Normalised ${whose}: ${made.slice(0, 200)}${made.length > 200 ? " …" : ""}`;
    for (const { name, encode, shown = (piece) => piece } of models) {
      await rest();
      if (mine !== turn_ || !body.isConnected) return;
      const found = encode(given);
      counts.push(`${name}: ${found.length}`);
      lines.append(html("div", {}, `${name}, ${found.length} tokens`), html("div", { class: "line" },
        ...found.slice(0, 400).map(({ piece }) => shown(piece)).map((piece) => html("span", { class: BYTES.test(piece) ? "piece byte" : "piece" }, piece)), ...(found.length > 400 ? ["…"] : [])));
    }
    tell(`Tokens. ${counts.join(", ")}.`);
    lattice();
  }
  // Every piece that fits, as an arc from its first letter to behind its last, best way in blue.
  function lattice() {
    if (!unigrams.length) return;
    const model = unigrams[kind.selectedIndex], letters = [...model.marked(model.normalise(field.value.slice(0, MOST)))];
    net_.hidden = !letters.length || letters.length > DRAWN;
    if (net_.hidden) {
      clean.textContent += letters.length > DRAWN ? ` The lattice is drawn for texts of up to ${DRAWN - 1} characters.` : "";
      return;
    }
    const best = model.unigram(letters), ends = new Set(), w = 64;
    let at = 0;
    for (const { piece } of best) ends.add(`${at} ${(at += [...piece].length)}`);
    const arcs = model.lattice(letters).flatMap((edges, end) => edges.map((edge) => ({ ...edge, end }))).sort((a, b) => a.end - a.start - (b.end - b.start));
    const levels = [], drawing = svg("svg", { width: w * letters.length + 20, role: "img", "aria-label":
      `Lattice of ${arcs.length} pieces over ${letters.length} characters; the best way: ${best.map(({ piece }) => piece).join(", ")}` });
    for (const arc of arcs) { // stacked, so that no two of a level overlap
      let level = arc.end - arc.start - 1;
      while (levels[level]?.some((other) => other.start < arc.end && arc.start < other.end)) level++;
      (levels[level] ??= []).push(arc);
      arc.level = level;
    }
    const base = 30 + 34 * levels.length;
    for (const { start, end, level, score, id } of arcs) {
      const way = ends.has(`${start} ${end}`) ? "way" : "", y = base - 30 - 34 * level, from = 10 + w * start + 3, to = 10 + w * end - 3;
      const name = id === model.unknown ? "unk" : letters.slice(start, end).join("");
      drawing.append(svg("path", { class: way, d: `M${from} ${y + 6}v-6H${to}v6` }), svg("text", { x: (from + to) / 2, y: y - 4, "text-anchor": "middle", "font-size": 11, "font-weight": way ? 700 : 400 }, `${name} ${score.toFixed(1)}`));
    }
    letters.forEach((letter, i) => drawing.append(svg("text", { x: 10 + w * (i + 0.5), y: base, "text-anchor": "middle", "font-size": 15 }, letter)));
    drawing.setAttribute("height", base + 8);
    net.replaceChildren(drawing);
  }
  await run();
});
