// A question, and the book's passages that fit it; search.py gives its numbers.
offer(`
  ol { margin: 8px 0; padding: 0 0 0 24px }
  li { margin: 0 0 14px }
  a { color: inherit; overflow-wrap: anywhere }
  mark { background: none; color: inherit; font-weight: 700; text-decoration: underline }
  .parts { display: flex; flex-wrap: wrap; gap: 2px 12px; margin: 2px 0 }
  .parts > span { display: inline-flex; align-items: center; gap: 6px }
  .passage { margin: 2px 0; overflow-wrap: anywhere }`, async (files, body, tell, wrong) => {
  const MOST = 500, stop = new Set(data.stop);
  const passages = chunks(JSON.parse(text(files[data.files[0].file])), data.words);
  const find = bm25(passages.map((p) => termsOf(`${p.heading}\n${p.text}`, stop)), data.k1, data.b);
  const field = html("input", { type: "text", "aria-label": "Question", autocomplete: "off", spellcheck: "false" });
  field.style.cssText = "flex: 1 1 220px; min-width: 0; height: 40px";
  field.value = data.asked[0];
  const heading = html("p", {}), list = html("ol", {});
  body.append(html("div", { class: "row" }, field, button("Search", run)),
    html("div", { class: "row" }, ...data.asked.map((question) => button(question, () => { field.value = question; run(); }, { style: "white-space: normal; min-height: 40px; height: auto; text-align: left" }))),
    heading, list);
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });

  // A second section of one name has another anchor on the site: its page has to do.
  const address = ({ page, anchor }) => `${HERE}../../${page}.html${/-\d+$/.test(anchor) ? "" : `#${anchor}`}`;

  // The passage as text, its words that were asked for marked.
  const marked = (passage, parts) => {
    const pieces = [];
    let from = 0;
    for (const run of passage.matchAll(RUN)) {
      if (!termsOf(run[0], stop).some((term) => parts.has(term))) continue;
      pieces.push(passage.slice(from, run.index), html("mark", {}, run[0]));
      from = run.index + run[0].length;
    }
    return [...pieces, passage.slice(from)];
  };

  function run() {
    const given = field.value.slice(0, MOST), query = termsOf(given, stop);
    wrong("");
    heading.textContent = "";
    list.replaceChildren();
    if (!given.trim()) return wrong("There is no question.");
    if (!query.length) return wrong("No term is left: the question has stop words or signs alone.");
    const hits = find(query, data.shown);
    if (!hits.length) return wrong(`The book has none of these terms: ${[...new Set(query)].slice(0, 20).join(", ")}.`);
    if (given.length < field.value.length) wrong(`The question is long: its first ${MOST} characters are asked.`);
    const largest = Math.max(...hits.flatMap(({ parts }) => [...parts.values()]));
    heading.textContent = `The best ${hits.length} of ${passages.length.toLocaleString("en")} passages, with what each term adds to the score:`;
    list.append(...hits.map(({ at, parts, score }) => {
      const { section, heading: name, text: passage } = passages[at], ordered = [...parts].sort((a, b) => b[1] - a[1]);
      const shown = ordered.map(([term, part]) => {
        const bar = barOf(0);
        bar.style.width = `${Math.round((60 * part) / largest)}px`;
        return html("span", {}, `${term} ${part.toFixed(2)}`, bar);
      });
      return html("li", {}, html("a", { href: address(section) }, name), ` ${score.toFixed(2)}`,
        html("div", { class: "parts quiet" }, ...shown), html("p", { class: "passage" }, ...marked(passage, parts)));
    }));
    tell(`${hits.length} passages. The best: ${passages[hits[0].at].heading}, score ${hits[0].score.toFixed(2)}`);
  }
  run();
});
