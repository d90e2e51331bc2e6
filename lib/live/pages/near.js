// A word, and the words whose vectors point its way; near.py gives its numbers.
offer(`
  .near { display: grid; grid-template-columns: auto auto minmax(60px, 1fr); gap: 2px 8px; align-items: center }
  .near button { height: 32px; text-align: left }`, async (files, body, tell, wrong) => {
  const [vectors, list] = data.files.map(({ file }) => files[file]), words = text(list).split("\n"), tables = await inSlices(tensors(vectors));
  for (const { shape: [V, D], data: x } of Object.values(tables)) // to length 1: a dot product is a cosine
    for (let i = 0; i < V; i++) {
      const row = x.subarray(i * D, (i + 1) * D), length = Math.hypot(...row);
      row.forEach((value, n) => (row[n] = value / length));
    }
  const field = html("input", { type: "text", "aria-label": "Word", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  field.style.cssText = "flex: 1 1 160px; min-width: 0; height: 40px";
  field.value = data.asked[0];
  const kind = html("select", { "aria-label": "Table" }, ...Object.keys(tables).map((name) => html("option", {}, name)));
  const heading = html("p", {}), found = html("div", { class: "near" });
  const ask = (word) => { field.value = word; run(); };
  body.append(html("div", { class: "row" }, field, kind, button("Neighbours", run)),
    html("div", { class: "row" }, ...data.asked.map((word) => button(word, () => ask(word)))), heading, found);
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
  kind.addEventListener("change", run);

  function run() {
    const word = field.value.trim().toLowerCase().slice(0, 100), at = words.indexOf(word);
    wrong("");
    heading.textContent = "";
    if (at < 0) {
      const alike = word ? words.filter((other) => other.startsWith(word.slice(0, 3))).slice(0, 12) : [];
      found.replaceChildren(...alike.flatMap((other) => [button(other, () => ask(other)), html("span", {}), html("span", {})]));
      return wrong(word ? `“${word}” is not among the ${words.length.toLocaleString("en")} words that have a vector here.${alike.length ? " These begin alike:" : ""}` : "There is no word.");
    }
    const { shape: [V, D], data: x } = tables[kind.value], cosines = Array.from({ length: V }, (_, i) => dot(x, i * D, x, at * D, D));
    const order = [...cosines.keys()].filter((i) => i !== at).sort((a, b) => cosines[b] - cosines[a]).slice(0, 10);
    heading.textContent = `Nearest to “${word}” of ${V.toLocaleString("en")} words, by cosine. Choose one to go on from there:`;
    found.replaceChildren(...order.flatMap((i) => {
      const cosine = cosines[i].toFixed(2);
      const go = button(words[i], () => { ask(words[i]); found.querySelector("button")?.focus(); }, { "aria-label": `${words[i]}, cosine ${cosine}` });
      return [go, html("span", {}, cosine), html("span", {}, barOf(cosines[i]))];
    }));
    tell(`Nearest to ${word}: ${order.slice(0, 3).map((i) => words[i]).join(", ")}`);
  }
  run();
});
