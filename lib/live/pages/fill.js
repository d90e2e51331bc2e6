// Gaps anywhere in a sentence, and what an encoder puts there; fill.py gives its numbers.
offer(`
  .gaps { display: flex; flex-wrap: wrap; gap: 8px 24px }
  .gaps > div { flex: 1 1 240px; min-width: 0 }
  .best { display: grid; grid-template-columns: auto auto minmax(40px, 1fr); gap: 2px 8px; align-items: center }
  .cut button { height: 34px; min-width: 0; padding: 0 6px; margin: 2px }
  .cut button[aria-pressed=true] { background: #0173b2; color: #fff; border-color: #0173b2 }`, async (files, body, tell, wrong) => {
  const GAP = "[MASK]", [weights, file] = data.files.map((one) => files[one.file]);
  const pieces = tokenizer(file), model = (data.config.local_base ? modernBert : maskedModel)(await inSlices(tensors(weights)), data.config);
  const title = html("input", { type: "text", "aria-label": "Title", lang: "ja" }), field = html("textarea", { rows: 2, "aria-label": "Sentence with [MASK]", lang: "ja", spellcheck: "false" });
  title.style.cssText = "flex: 1 1 200px; min-width: 0; height: 40px";
  const choice = html("select", { "aria-label": "Examples of this page", lang: "ja" }, ...data.examples.map(([, text]) => html("option", {}, text)));
  const meaning = html("p", { class: "quiet" }), gaps = html("div", { class: "gaps", lang: "ja" }), cut = html("div", { class: "cut", lang: "ja", role: "group", "aria-label": "The pieces of the sentence: choose one to hide it" });
  body.append(html("div", { class: "row" }, choice), html("label", {}, "Title", title), field,
    html("div", { class: "row" },
      button(`Put ${GAP} at the cursor`, () => { field.setRangeText(GAP, field.selectionStart, field.selectionEnd, "end"); run(); }),
      button("Fill the gaps", () => run())),
    meaning, html("p", { class: "quiet" }, "Its pieces. Choose one to hide it:"), cut, gaps);
  const take = () => {
    [title.value, field.value, meaning.textContent] = data.examples[choice.selectedIndex];
    return run();
  };
  choice.addEventListener("change", take);
  title.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
  field.addEventListener("input", () => (meaning.textContent = ""));

  // The pieces of a body, {piece, id}, a gap for each [MASK]; a ▁ of its own stands first only.
  const encoded = (text_) => text_.split(GAP).flatMap((part, n) => {
    const found = pieces.encode(part);
    return [...(n ? [{ piece: GAP, id: data.mask }] : []), ...found.slice(+(n > 0 && found[0]?.piece === SPACE))];
  });
  // Kana in Latin letters, as lib.kana has it; null where another sign stands.
  const romaji = (text_) => {
    let found = "", double = false;
    for (let sign of text_) {
      if (sign >= "ぁ" && sign <= "ゖ") sign = String.fromCharCode(sign.charCodeAt(0) + 96);
      if (sign === "ッ") {
        double = true;
        continue;
      }
      let sound = data.sounds[sign];
      if (sign === "ー" && found) sound = found.at(-1);
      else if (data.small[sign] && /[ieou]$/.test(found)) {
        const glide = data.small[sign];
        sound = /(sh|ch|j)i$/.test(found) && glide.length > 1 ? glide.slice(1) : glide;
        found = found.slice(0, -1);
      }
      if (!sound) return null;
      found += (double ? (sound.startsWith("ch") ? "t" : sound[0]) : "") + sound;
      double = false;
    }
    return found;
  };
  let turn_ = 0; // of two runs the later one counts
  async function run() {
    const mine = ++turn_;
    wrong("");
    if (!field.value.trim()) return wrong("There is no sentence.");
    const all = encoded(field.value.slice(0, 10000)), list = all.slice(0, data.body);
    if (list.length < all.length) wrong(`The text is long: the model reads ${data.body} pieces of it.`);
    const head = pieces.encode(title.value.slice(0, 1000)).map((one) => one.id).slice(0, data.title);
    const told_ = list.map((one) => one.id), ends = (n) => Array(n).fill(data.end);
    const ids = data.filled ? [...head, ...ends(data.title - head.length), ...told_] : [data.start, ...head, ...ends(+(head.length > 0)), ...told_, data.end];
    const at = ids.flatMap((id, i) => (id === data.mask ? [i] : [])).slice(0, 12);
    cut.replaceChildren(...list.slice(0, 60).map((one, i) => button(one.piece, () => {
      if (one.piece === GAP) return;
      field.value = list.map(({ piece }, j) => (j === i ? GAP : piece)).join("").replaceAll(SPACE, " ").trim();
      meaning.textContent = "";
      run().then(() => cut.children[i]?.focus());
    }, { "aria-pressed": String(one.piece === GAP), ...(one.piece !== GAP && { "aria-label": `Hide ${one.piece}` }) })));
    gaps.replaceChildren();
    if (!at.length) return wrong(`There is no gap: write ${GAP}, put it at the cursor, or choose a piece.`);
    const found = await inSlices(model(ids, at)), V = found.logits.length / at.length;
    if (mine !== turn_ || !body.isConnected) return;
    const told = [];
    gaps.replaceChildren(...at.map((_, n) => {
      const shares = softmax(found.logits.slice(n * V, (n + 1) * V)), order = largest(shares, 8);
      const name = (id) => (id === data.mask ? GAP : pieces.pieces[id].piece);
      told.push(`gap ${n + 1}: ${order.slice(0, 3).map(name).join(", ")}`);
      return html("div", {}, html("p", {}, `Gap ${n + 1}`), html("div", { class: "best" }, ...order.flatMap((id) => {
        const plain = name(id).replaceAll(SPACE, "") || SPACE, reading = data.readings[plain] ?? romaji(plain);
        return [html("span", {}, name(id), ...(reading ? [html("span", { class: "quiet" }, ` ${reading}`)] : [])), html("span", {}, percent(shares[id])), html("span", {}, barOf(shares[id]))];
      })));
    }));
    tell(told.join("; "));
  }
  await take();
});
