// A picture, and how alike its patches are to the one that a reader picks, in the layer that
// a reader picks; patches.py writes the numbers. Names go into the page as text alone.
const STYLE = `
  .bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px; margin: 4px 0 }
  .bar label { display: inline-flex; align-items: center; gap: 4px; max-width: 100% }
  select { height: 40px; min-width: 0; max-width: 100%; padding: 0 8px; font: inherit; border: 1px solid; border-radius: 8px; background: none; color: inherit }
  option { background: Canvas; color: CanvasText }
  select:focus-visible { outline: 2px solid; outline-offset: 2px }
  .stage { display: flex; flex-wrap: wrap; gap: 8px; cursor: crosshair; width: fit-content; max-width: 100% }
  svg { touch-action: manipulation; font-size: 11px }
  image { image-rendering: pixelated }
  .said { display: block; margin-top: 8px; min-height: 2.8em }`;
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const middle = (data.ramp.length - 1) / 2;
const number = (x) => x.toFixed(2).replace("-", "\u2212").replace(/^(\u2212?)0\./, "$1.");

mount(STYLE, data.name, (host, root) => {
  let [layer, ...place] = data.start, picture = data.pictures[0], read = null, unit = 16;
  const said = html("output", { class: "said", "aria-live": "polite" });
  const bar = html("div", { class: "bar" });
  const left = svg("svg", { role: "img", "aria-label": data.alt }), right = svg("svg", { role: "img" });
  const stage = html("div", { class: "scroll stage", tabindex: 0, role: "group", "aria-label": "Patches: arrow keys pick one" }, left, right);
  const size = () => picture.grid[0] * picture.grid[1];
  function level(i, j) { // of 0 to 62, where 31 is a cosine of 0
    const [low, high] = i < j ? [i, j] : [j, i];
    return LEVELS.indexOf(picture.maps[layer][(high * (high + 1)) / 2 + low]);
  }
  const cosine = (i, j) => level(i, j) / middle - 1;
  const chosen = () => place[0] * picture.grid[1] + place[1];
  const named = (i) => `row ${Math.floor(i / picture.grid[1]) + 1}, column ${(i % picture.grid[1]) + 1}`;
  function tell() {
    const others = Array.from({ length: size() }, (_, i) => i).filter((i) => i !== chosen());
    others.sort((a, b) => level(chosen(), b) - level(chosen(), a) || a - b);
    const text = `${data.layers[layer]}, patch in ${named(chosen())}: `;
    said.textContent = text + (read === null || read === chosen()
      ? `most alike ${others.slice(0, 3).map((i) => `${named(i)} (${number(cosine(chosen(), i))})`).join("; ")}`
      : `cosine with ${named(read)} is ${number(cosine(chosen(), read))}`);
    host.patches = { picture: picture.title, layer: data.layers[layer], place }; // for the tests
  }
  function frame(parent, i, width) {
    const [r, c] = [Math.floor(i / picture.grid[1]), i % picture.grid[1]], box = { x: c * unit, y: r * unit, width: unit, height: unit, fill: "none" };
    parent.append(svg("rect", { ...box, stroke: "#fff", "stroke-width": width + 2 }), svg("rect", { ...box, stroke: "#000", "stroke-width": width }));
  }
  function draw() {
    const [rows, columns] = picture.grid, wide = columns * unit, high = rows * unit;
    left.replaceChildren(svg("image", { href: picture.source, width: wide, height: high, preserveAspectRatio: "none" }));
    right.replaceChildren(...Array.from({ length: size() }, (_, i) => svg("rect", {
      x: (i % columns) * unit, y: Math.floor(i / columns) * unit, width: unit, height: unit, fill: data.ramp[level(chosen(), i)] })));
    for (const drawing of [left, right]) {
      frame(drawing, chosen(), 2);
      if (read !== null && read !== chosen()) frame(drawing, read, 1);
      set(drawing, { width: wide, height: high });
    }
    right.setAttribute("aria-label", `Cosines of all patches with the one in ${named(chosen())}, ${data.layers[layer]}`);
    tell();
  }
  function pick(row, column) {
    place = [clamp(0, row, picture.grid[0] - 1), clamp(0, column, picture.grid[1] - 1)];
    read = null;
    draw();
  }
  for (const drawing of [left, right]) {
    const at = (event) => {
      const box = drawing.getBoundingClientRect();
      return [(event.clientY - box.y) / unit, (event.clientX - box.x) / unit].map((x, k) => clamp(0, Math.floor(x), picture.grid[k] - 1));
    };
    drawing.addEventListener("click", (event) => pick(...at(event)));
    drawing.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse") return;
      const [row, column] = at(event), next = row * picture.grid[1] + column;
      if (next === read) return;
      read = next;
      draw();
    });
    drawing.addEventListener("pointerleave", () => { read = null; draw(); });
  }
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    pick(place[0] + step[0], place[1] + step[1]);
    event.preventDefault();
  });
  function choice(label, names, start, change) {
    const select = html("select", {}, ...names.map((name, i) => html("option", { value: i }, name)));
    select.value = start;
    select.addEventListener("change", () => change(+select.value));
    bar.append(html("label", {}, label, select));
  }
  choice("picture", data.pictures.map((one) => one.title), 0, (i) => { picture = data.pictures[i]; resize(); });
  choice("layer", data.layers, layer, (i) => { layer = i; read = null; draw(); });
  const legend = svg("svg", { width: 220, height: 14, role: "img", "aria-label": "Colours: cosines from −1 to 1" });
  legend.append(svg("text", { x: 14, y: 11, "text-anchor": "end" }, "−1"), svg("text", { x: 150, y: 11 }, "1 (cosine)"),
    ...data.ramp.map((fill, k) => svg("rect", { x: 18 + 2 * k, y: 1, width: 2.2, height: 12, fill })));
  bar.append(legend);
  root.append(bar, stage, said);
  function resize() {
    const wide = root.clientWidth;
    if (!wide) return;
    unit = clamp(8, Math.floor((wide - 12) / 2 / picture.grid[1]), 32);
    pick(...place);
  }
  new ResizeObserver(resize).observe(root);
});
