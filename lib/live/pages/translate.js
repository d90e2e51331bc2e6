// An English sentence, and the German one as it grows; translate.py gives its numbers.
offer(`
  .words { display: flex; flex-wrap: wrap; gap: 4px; margin: 6px 0; min-height: 40px }
  .words button { height: 36px; min-width: 0; padding: 0 8px }
  .words button[aria-pressed=true] { outline: 3px solid #0173b2; outline-offset: 1px }
  .beams { padding-left: 20px; margin: 4px 0 }`, async (files, body, tell, wrong) => {
  const [weights, model] = data.files.map(({ file }) => files[file]);
  const pieces = tokenizer(model), BOS = pieces.ids.get("<s>"), EOS = pieces.ids.get("</s>"), H = data.config.num_heads;
  const net = encoderDecoder(await inSlices(tensors(weights)), { ...data.config, limit: 2 * data.longest + 2 });
  const field = html("input", { type: "text", "aria-label": "English sentence", autocomplete: "off", spellcheck: "false" });
  field.style.cssText = "flex: 1 1 240px; height: 40px";
  field.value = data.sentences[0];
  const kind = html("select", { "aria-label": "Search" }, html("option", { value: 1 }, "greedy"), html("option", { value: data.beams }, `${data.beams} beams`));
  const sample = html("select", { "aria-label": "Sentences of this page" }, ...data.sentences.map((one) => html("option", {}, one)));
  const german = html("p", {}), words = html("div", { class: "words", role: "group", "aria-label": "German pieces: choose one" });
  const beams = html("ol", { class: "beams" }), note = html("p", { class: "quiet" });
  const heads = html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Cross-attention" });
  const go = button("Translate", () => run());
  body.append(html("div", { class: "row" }, sample), html("div", { class: "row" }, field, kind, go), german, words, note, beams, heads);
  sample.addEventListener("change", () => { field.value = sample.value; run(); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
  kind.addEventListener("change", () => run());

  let turn_ = 0; // of two runs the later one goes on
  async function run() {
    const mine = ++turn_, sentence = field.value.trim();
    wrong("");
    if (!sentence) return wrong("There is no sentence to translate.");
    let source = pieces.encode(sentence.slice(0, 2000)).map((one) => one.id);
    if (source.length >= data.longest) wrong(`The sentence is long: the first ${data.longest - 1} pieces are translated.`);
    source = [...source.slice(0, data.longest - 1), EOS];
    if (source.includes(pieces.unknown)) wrong("Some characters are in no piece of the model: it reads <unk> in their place.");
    const memory = await inSlices(net.encode(source)), K = +kind.value;
    // `next` also keeps what each step looked at, under the ids that it followed.
    const looked = new Map();
    function* next(beam) {
      const found = yield* net.decode(beam.ids.slice(beam.state.past), memory, beam.state);
      looked.set(beam.ids.join(" "), found.attention);
      return found;
    }
    const fork = (state) => K === 1 ? state : { past: state.past, caches: state.caches.map(({ key, value }) => ({ key: key.slice(), value: value.slice() })) };
    const search = beamSearch(next, fork, net.start(), BOS, { beams: K, room: 2 * source.length, end: EOS, told: (running) => {
      if (!STILL.matches) show(running[0].ids, source, looked, running);
    } });
    let step = search.next();
    for (; !step.done; step = search.next()) {
      await new Promise((resume) => setTimeout(resume));
      if (mine !== turn_ || !body.isConnected) return;
    }
    const { best } = step.value;
    show(best.ids, source, looked, []);
    note.textContent = `${best.ids.at(-1) === EOS ? "" : "It was stopped by its length. "}Mean log-probability of a piece: ${best.mean.toFixed(2)}. Choose a piece to see where it looked: rows are layer.head, the stronger the blue the more weight.`;
    tell(`German: ${pieces.decode(best.ids)}`);
    choose(0);

    function choose(at) {
      [...words.children].forEach((one, i) => one.setAttribute("aria-pressed", i === at));
      draw_(looked.get(best.ids.slice(0, at + 1).join(" ")), best.ids[at + 1]);
    }
    words.replaceChildren(...best.ids.slice(1).map((id, i) => button(pieces.pieces[id].piece, () => choose(i), { "aria-pressed": "false" })));

    // Rows are heads and their mean, columns the English pieces: the darker, the more weight.
    function draw_(attention, id) {
      const names = source.map((one) => pieces.pieces[one].piece), w = 26, rows_ = [];
      attention.forEach((layer, l) => {
        for (let h = 0; h < H; h++) rows_.push([`${l + 1}.${h + 1}`, layer.subarray(h * source.length, (h + 1) * source.length)]);
      });
      const last = attention.at(-1), mean = source.map((_, j) => { let sum = 0; for (let h = 0; h < H; h++) sum += last[h * source.length + j] / H; return sum; });
      rows_.push(["mean, last layer", mean]);
      const top = mean.indexOf(Math.max(...mean)), left = 100, name = pieces.pieces[id].piece;
      const drawing = svg("svg", { width: left + w * names.length + 40, height: 70 + 18 * rows_.length, role: "img", "aria-label":
        `Cross-attention when ${name} was chosen, ${rows_.length - 1} heads and the mean of the last layer, which is largest on ${names[top]}: ${percent(mean[top])}.` });
      names.forEach((one, j) => drawing.append(svg("text", { transform: `translate(${left + w * j + 12} 64) rotate(-40)`, "font-size": 12 }, one)));
      rows_.forEach(([label, shares], r) => {
        drawing.append(svg("text", { x: left - 6, y: 84 + 18 * r, "text-anchor": "end", "font-size": 11 }, label));
        names.forEach((_, j) => drawing.append(svg("rect", { x: left + w * j, y: 71 + 18 * r, width: w - 2, height: 16, fill: "#0173b2", opacity: Math.max(0.04, shares[j]) })));
      });
      heads.replaceChildren(html("p", {}, `When “${name}” was chosen, the last layer looked most at “${names[top]}” (${percent(mean[top])}).`), drawing);
    }
  }
  function show(ids, source, looked, running) {
    german.textContent = pieces.decode(ids);
    beams.replaceChildren(...(running.length > 1 ? running : []).map((one) => html("li", {}, `${pieces.decode(one.ids)} (${one.score.toFixed(1)})`)));
  }
  await run();
});
