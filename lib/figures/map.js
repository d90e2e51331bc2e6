// Points with names, from layer to layer or in one map to search; map.py writes its numbers
// beside this. What a reader types and what the data say goes into the page as text alone.
const STYLE = `
  svg { font-size: 12px; overflow: hidden }
  .bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px; margin: 4px 0 }
  .bar svg { display: inline-block; vertical-align: -2px; overflow: visible }
  :is(input[type=search], select) { flex: 1 1 150px; max-width: 220px; box-sizing: border-box; height: 40px; padding: 0 8px;
    font: inherit; border: 1px solid; border-radius: 8px; background: none; color: inherit }
  option { background: Canvas; color: CanvasText }
  select:focus-visible { outline: 2px solid; outline-offset: 2px }
  .bar button { width: auto; min-width: 40px; padding: 0 8px; font: inherit }
  .said { min-height: 2.8em }
  .scroll { cursor: crosshair }`;
const shapes = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-5l4.8 8.4h-9.6z", "M0-5.4l5.4 5.4-5.4 5.4-5.4-5.4z"];
// Whole numbers x, y, x, y, … of one byte or of two.
const unpack = ({ u8, u16 }) => {
  const bytes = Uint8Array.from(atob(u8 ?? u16), (c) => c.charCodeAt(0));
  return u8 ? bytes : new Uint16Array(bytes.buffer);
};
const letters = (text) => [...text].reduce((sum, c) => sum + (c > "\u2e80" ? 2 : 1), 0);

for (const one of data.sets) one.frames = one.frames.map(unpack);

mount(STYLE, data.name, (host, root) => {
  const searched = "near" in data.sets[0], [wide, high] = data.size;
  const drawing = svg("svg", { width: "100%", role: "img", "aria-label": data.alt });
  const stage = html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Points: arrow keys name one after the other" }, drawing);
  const said = html("output", { class: "bar said", "aria-live": "polite" });
  const bar = html("div", { class: "bar" }), legend = html("div", { class: "bar" });
  const lines = svg("g", {}), dots = svg("g", {}), texts = svg("g", {});
  drawing.append(lines, dots, texts);
  let points = data.sets[0], marks = [], chosen = -1, position = 0, zoom = 1, middle = [wide / 2, high / 2], places = [];

  // Where point i stands in the drawing, between two frames if need be.
  function place(i) {
    const a = points.frames[Math.floor(position)], b = points.frames[Math.ceil(position)];
    const part = position - Math.floor(position), w = drawing.clientWidth, h = +drawing.getAttribute("height");
    const at = [0, 1].map((k) => a[2 * i + k] + (b[2 * i + k] - a[2 * i + k]) * part - middle[k]);
    return [w / 2 + (at[0] * zoom * (w - 24)) / wide, h / 2 + (at[1] * zoom * (h - 24)) / high];
  }
  function words(found, w) { // where there is room: the chosen one, its nearest, the commonest
    const taken = [], row = 14;
    const put = (i, weight = 400) => {
      const [x, y] = found[i], long = 7 * letters(points.names[i]) + 8;
      const left = x + 6 + long > w ? x - 6 - long : x + 6, box = [left, y - row / 2, left + long, y + row / 2];
      const free = taken.every((t) => box[2] < t[0] || t[2] < box[0] || box[3] < t[1] || t[3] < box[1]);
      if (!free && i !== chosen) return;
      taken.push(box);
      texts.append(svg("text", { x: left, y: y + 4, "font-weight": weight }, points.names[i]));
    };
    const marked = chosen >= 0 ? [chosen, ...points.near[chosen]] : [];
    marked.forEach((i) => put(i, 700));
    found.forEach(([x, y], i) => x > 0 && x < w && y > 0 && taken.length < 160 && !marked.includes(i) && put(i));
  }
  function draw() {
    const w = drawing.clientWidth, h = Math.max(300, Math.min(520, (w * 2) / 3));
    if (!w) return;
    set(drawing, { height: h });
    places = points.names.map((_, i) => place(i));
    const near = searched && chosen >= 0 ? points.near[chosen] : [];
    const small = searched ? Math.min(0.6, 0.25 + (w * zoom) / 4000) : 1; // many points in a small frame
    marks.forEach((mark, i) => {
      const scale = i === chosen ? 1.8 : near.includes(i) ? 1.2 : small;
      set(mark, { transform: `translate(${places[i].map((x) => x.toFixed(1)).join(" ")}) scale(${scale})`, "stroke-width": i === chosen ? 1.2 : 0 });
      if (!searched) return;
      const rank = i === chosen ? 1 : near.includes(i) ? 0 : 5;
      set(mark, { fill: data.colours[rank], opacity: rank === 5 ? 0.55 : 1 });
    });
    if (searched && chosen >= 0) dots.append(...near.map((i) => marks[i]), marks[chosen]); // on top
    texts.replaceChildren();
    lines.replaceChildren();
    for (const i of near) {
      const [[x1, y1], [x2, y2]] = [places[chosen], places[i]];
      lines.append(svg("line", { x1, y1, x2, y2, stroke: data.colours[0], "stroke-dasharray": "3 3" }));
    }
    if (searched) words(places, w);
    host.map = { set: data.sets.indexOf(points), chosen, position, zoom, places }; // for the tests
  }
  function choose(i) {
    chosen = i;
    if (zoom > 1 && i >= 0) middle = points.frames[0].slice(2 * i, 2 * i + 2);
    said.replaceChildren();
    if (i >= 0 && searched) {
      said.append(html("span", {}, `${points.names[i]}, nearest by cosine:`));
      for (const j of points.near[i]) {
        const button = html("button", { type: "button" }, points.names[j]);
        button.addEventListener("click", () => choose(j));
        said.append(button);
      }
    } else if (i >= 0) said.append(`${points.groups[points.kinds[i]]}: ${points.names[i]}`);
    else said.append(data.hint);
    draw();
  }
  function open(number) {
    points = data.sets[number];
    const kinds = points.kinds ?? points.names.map(() => 0);
    marks = kinds.map((kind) => svg("path", { d: shapes[kind % shapes.length], fill: data.colours[kind], stroke: "currentColor", opacity: 0.9 }));
    dots.replaceChildren(...marks);
    legend.replaceChildren(...(points.groups ?? []).map((name, kind) => html("span", {}, svg("svg", { width: 16, height: 12 },
      svg("path", { d: shapes[kind % shapes.length], fill: data.colours[kind], transform: "translate(6 6)" })), name)));
    choose(-1);
  }
  function nearest(event) {
    const box = drawing.getBoundingClientRect();
    const away = places.map(([x, y]) => Math.hypot(x + box.x - event.clientX, y + box.y - event.clientY));
    const i = away.indexOf(Math.min(...away));
    return away[i] < 24 ? i : -1;
  }
  drawing.addEventListener("click", (event) => choose(nearest(event)));
  drawing.addEventListener("pointermove", (event) => {
    const i = event.pointerType === "mouse" ? nearest(event) : -1;
    drawing.querySelector("title")?.remove();
    if (i >= 0) drawing.append(svg("title", {}, points.names[i]));
    if (i >= 0 && !searched && i !== chosen) choose(i);
  });
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    choose((Math.max(chosen, step > 0 ? -1 : 0) + step + points.names.length) % points.names.length);
    event.preventDefault();
  });

  if (searched) {
    const input = html("input", { type: "search", "aria-label": "Search a word", placeholder: "search a word", autocomplete: "off", spellcheck: "false", maxlength: 40 });
    let turn = 0;
    const look = (next) => {
      const text = input.value.trim().toLowerCase();
      const found = points.names.flatMap((name, i) => (name.toLowerCase().startsWith(text) ? [i] : []));
      found.sort((a, b) => points.names[a].length - points.names[b].length || a - b);
      turn = next ? turn + 1 : 0;
      choose(text && found.length ? found[turn % found.length] : -1);
      if (text && !found.length) said.replaceChildren(`None of the ${points.names.length.toLocaleString("en")} words starts with “${text}”.`);
    };
    input.addEventListener("input", () => look(false));
    input.addEventListener("keydown", (event) => event.key === "Enter" && look(true));
    bar.append(input);
    for (const [face, label, factor] of [["+", "Zoom in", 1.6], ["−", "Zoom out", 1 / 1.6]]) {
      const button = html("button", { type: "button", "aria-label": label }, face);
      button.addEventListener("click", () => {
        zoom = clamp(1, zoom * factor, 16);
        if (zoom < 1.01) [zoom, middle] = [1, [wide / 2, high / 2]];
        else if (chosen >= 0) middle = points.frames[0].slice(2 * chosen, 2 * chosen + 2);
        draw();
      });
      bar.append(button);
    }
  }
  if (data.sets.length > 1) {
    const select = html("select", { "aria-label": "Word" }, ...data.sets.map((one, i) => html("option", { value: i }, one.title)));
    select.addEventListener("change", () => open(+select.value));
    bar.append(select);
  }
  root.append(bar, legend, stage, said);
  open(0);
  if (data.labels.length > 1) player(host, root, (now) => { position = now; draw(); });
  new ResizeObserver(draw).observe(drawing);
});
