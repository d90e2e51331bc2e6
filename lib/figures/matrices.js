// The walk through matrices: it makes the tables beside it, which matrices.py writes, answer.
// Point at an entry, and its operands are marked and its computation is written out.
const STYLE = `
  .tables { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 12px 24px; overflow-x: auto;
    content-visibility: auto; contain-intrinsic-height: auto 300px } /* drawn when near */
  table { border-spacing: 0; font-size: 13px; line-height: 25px; font-variant-numeric: tabular-nums }
  caption { text-align: left; line-height: 1.3; font-family: monospace; font-size: 12px; padding: 2px 0 }
  th { font-weight: normal; opacity: .85; padding: 0 5px; text-align: right }
  th[scope=row] { text-align: left }
  td { padding: 0 5px; text-align: right; min-width: 24px; cursor: pointer; border: solid #8885; border-width: 0 0 1px 1px }
  td { background: var(--tint) }
  td:first-child { border: 0; cursor: default }
  .given caption, .learned caption { border-left: 8px solid #8888; padding-left: 6px }
  .learned caption { border-color: #1b7fbd }
  .a, .b, .c, .me { outline: 2px solid #1b7fbd; outline-offset: -2px; font-weight: bold }
  .b { outline: 3px dashed #d55e00 }
  .c { outline: 3px dotted #009e73 }
  .me { outline: 3px solid currentColor }
  output { display: block; bottom: 0; font-variant-numeric: normal; min-height: 4.2em; padding: 6px 0; font-size: 14px;
    line-height: 1.4; border-top: 1px solid; overflow-wrap: anywhere }
  output.told { position: sticky }
  b { font-family: monospace; font-size: 13px }`;
const KINDS = ["a", "b", "c"], EPSILON = 0.00001;
const read = (cell) => +cell.textContent.replace("−", "-");
const say = (x) => (+x.toFixed(3) + 0).toString().replace("-", "−");
const sign = (x) => (x < 0 ? `(${say(x)})` : say(x)); // a factor below zero in brackets
const sum = (xs) => xs.reduce((a, b) => a + b, 0);
const mean = (xs) => sum(xs) / xs.length;
const plus = (terms) => terms.join(" + ");
const times = (xs, ys) => plus(xs.map((x, k) => `${sign(x)} × ${sign(ys[k])}`));

// Red above zero, blue below, the stronger the larger beside the largest of its table.
function tint(cells) {
  const most = Math.max(...cells.map((cell) => Math.abs(read(cell))));
  for (const cell of cells) {
    const share = read(cell) / (most || 1), hue = share < 0 ? "33 102 172" : "178 24 43";
    cell.style.setProperty("--tint", `rgb(${hue} / ${(0.45 * Math.abs(share)).toFixed(2)})`);
  }
}

mount(STYLE, "", (host, root) => {
  const tables = {}; // name -> rows of cells
  const list = [...host.querySelectorAll("table")];
  for (const table of list) {
    const rows = [...table.rows].slice(1);
    const made = {
      cells: rows.map((row) => [...row.cells].slice(1)),
      rows: rows.map((row) => row.cells[0].textContent),
      columns: [...table.rows[0].cells].slice(1).map((cell) => cell.textContent),
    };
    for (const name of [table.dataset.name, ...(table.dataset.also ?? "").split(" ")]) tables[name] = made;
    tint(made.cells.flat());
    table.setAttribute("role", "grid");
  }

  // An operand as it stands in the line: its cells, and what a row and a column is called.
  function operand([name, turned, first, end]) {
    const from = tables[name];
    const cells = from.cells.map((row) => row.slice(first, end ?? row.length));
    const row = (i) => `row ${from.rows[i]} of ${name}`;
    const column = (j) => `column ${from.columns[first + j]} of ${name}`;
    if (!turned) return { cells, row, column };
    return { cells: cells[0].map((_, j) => cells.map((r) => r[j])), row: column, column: row };
  }

  // For each operation: the cells it reads, what it does in words, the numbers, and notes.
  const explain = {
    "@"([A, B], i, j) {
      const a = A.cells[i], b = B.cells.map((row) => row[j]);
      return { uses: [a, b], words: `${A.row(i)} times ${B.column(j)}`, text: times(a.map(read), b.map(read)) };
    },
    softmax([S, mask], i, j) {
      const s = S.cells[i], m = mask.cells[i], power = (cell) => `e^${sign(read(cell))}`;
      const words = `its share of ${S.row(i)}, of the keys that the mask allows`;
      if (!read(m[j])) return { uses: [[s[j]], [m[j]]], words: "the mask forbids this key", text: "0" };
      const allowed = s.filter((_, k) => read(m[k]));
      return { uses: [allowed, m], words, text: `${power(s[j])} ÷ (${plus(allowed.map(power))})` };
    },
    softmax_backward([G, A], i, j) {
      const g = G.cells[i], a = A.cells[i], x = g.map(read), w = a.map(read);
      return {
        uses: [g, a], words: "weight × (gradient − mean of the row's gradients by weight)",
        text: `${sign(w[j])} × (${sign(x[j])} − (${times(w, x)}))`,
      };
    },
    norm([R], i, j) {
      const x = R.cells[i].map(read), m = mean(x), v = mean(x.map((y) => (y - m) ** 2));
      return {
        uses: [R.cells[i]], words: `${R.row(i)}: minus its mean, over its standard deviation`,
        text: `(${sign(x[j])} − ${sign(m)}) ÷ √(${say(v)} + ${EPSILON.toFixed(5)})`,
        notes: `mean (${plus(x.map(sign))}) ÷ ${x.length} = ${say(m)}, ` +
          `variance (${plus(x.map((y) => sign(y - m) + "²"))}) ÷ ${x.length} = ${say(v)}`,
      };
    },
    norm_backward([G, N, R], i, j) {
      const g = G.cells[i].map(read), n = N.cells[i].map(read), x = R.cells[i].map(read);
      const v = mean(x.map((y) => (y - mean(x)) ** 2)), m = mean(g), c = mean(g.map((y, k) => y * n[k]));
      return {
        uses: [G, N, R].map((o) => o.cells[i]), words: "gradient − what moves the mean − what moves the spread, over the deviation",
        text: `(${sign(g[j])} − ${sign(m)} − ${sign(n[j])} × ${sign(c)}) ÷ √(${say(v)} + ${EPSILON.toFixed(5)})`,
        notes: `mean gradient ${say(m)}, mean of gradient × normalised (${times(g, n)}) ÷ ${g.length} = ${say(c)}, variance ${say(v)}`,
      };
    },
    relu([U], i, j) {
      const u = U.cells[i][j];
      return { uses: [[u]], words: "the larger of 0 and the entry", text: `max(0, ${say(read(u))})` };
    },
    relu_backward([G, U], i, j) {
      const g = G.cells[i][j], u = U.cells[i][j];
      const words = read(u) > 0 ? "passed on, as the entry was above 0" : "stopped, as the entry was not above 0";
      return { uses: [[g], [u]], words, text: read(u) > 0 ? say(read(g)) : "0" };
    },
    join(parts, i, j) {
      let p = 0;
      while (j >= parts[p].cells[0].length) j -= parts[p++].cells[0].length;
      const cell = parts[p].cells[i][j];
      return { uses: [[cell]], words: `copied from ${parts[p].row(i)}`, text: say(read(cell)) };
    },
  };
  for (const [op, mark] of [["+", "+"], ["-", "−"], ["*", "×"]])
    explain[op] = ([A, B], i, j) => {
      const [a, b] = [A.cells[i][j], B.cells[i][j]];
      return { uses: [[a], [b]], words: "entry by entry", text: `${sign(read(a))} ${mark} ${sign(read(b))}` };
    };

  // --- Showing one entry ----------------------------------------------------------------
  const said = html("output", { "aria-live": "polite" },
    "Hover, tap or focus an entry. Arrow keys move, also from table to table.");
  const stage = html("div", { class: "tables" }, ...list);
  root.append(stage, said);

  let marked = [], stop;
  const mark = (cell, kind) => (cell.classList.add(kind), marked.push(cell));
  function show(cell) {
    const name = cell.closest("table").dataset.name, recipe = data[name], table = tables[name];
    const i = cell.parentNode.rowIndex - 1, j = cell.cellIndex - 1;
    for (const old of marked) old.classList.remove("me", ...KINDS);
    marked = [];
    mark(cell, "me");
    const place = html("b", {}, `${name}[${table.rows[i]}, ${table.columns[j]}]`);
    if (recipe) {
      const { uses, words, text, notes } = explain[recipe.op](recipe.args.map(operand), i, j);
      uses.forEach((cells, k) => cells.forEach((used) => mark(used, KINDS[k])));
      const divided = recipe.by ? `(${text}) ÷ ${say(recipe.by)}` : text;
      const over = recipe.by ? `, over ${say(recipe.by)}` : "";
      said.replaceChildren(place, `: ${words}${over}. ${divided} = ${cell.textContent}${notes ? `; ${notes}` : ""}`);
    } else said.replaceChildren(place, ` = ${cell.textContent}, given`);
    said.classList.add("told"); // from now on the bar stays in view
    cover();
  }
  // The bar covers tables, so it takes their ground, also when the page's theme changes.
  function cover() {
    said.style.background = "Canvas";
    for (let node = host; node; node = node.parentElement) {
      const ground = getComputedStyle(node).backgroundColor;
      if (/, 0\)$|transparent/.test(ground)) continue;
      said.style.background = ground;
      break;
    }
  }
  new MutationObserver(cover).observe(document.documentElement, { attributes: true });
  function reach(cell) {
    if (stop) stop.tabIndex = -1;
    (stop = cell).tabIndex = 0; // one stop for the Tab key in all tables
  }
  const entry = (event) => (event.target.matches("td:not(:first-child)") ? event.target : null);
  for (const { cells } of Object.values(tables)) for (const cell of cells.flat()) cell.tabIndex = -1;
  const first = tables[Object.keys(data)[0]].cells[0][0];
  reach(first);
  stage.addEventListener("pointerover", (event) => event.pointerType === "mouse" && entry(event) && show(entry(event)));
  stage.addEventListener("focusin", (event) => (reach(event.target), show(event.target)));
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const cell = event.target, table = cell.closest("table");
    const at = (t, i, j) => t?.rows[i]?.cells[j];
    let next = at(table, cell.parentNode.rowIndex + step[0], cell.cellIndex + step[1]);
    if (!next?.matches("[tabindex]")) { // past an edge: the table beside it
      const other = list[list.indexOf(table) + step[0] + step[1]];
      if (other) next = step[0] + step[1] > 0 ? at(other, 1, 1) : other.querySelector("tr:last-child td:last-child");
    }
    if (next?.matches("[tabindex]")) next.focus();
  });
});
