// What each element of a page starts with: its nodes, a player's controls, and the way into
// the page. element.py puts this before the script of one kind; both see `key` and `data`.
// Elements live in a shadow root, so neither page styles nor other elements meet them. What
// the host holds in the page, a still or tables, stands wherever scripts do not run.
const BASE = `
  :host { display: block }
  .element { font-size: 14px; margin: 8px 0; text-align: left }
  svg { display: block }
  text { fill: currentColor }
  .player { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px }
  button { display: grid; place-items: center; width: 40px; height: 40px; padding: 0;
    border: 1px solid; border-radius: 8px; background: none; color: inherit; cursor: pointer }
  input { flex: 1 1 140px; min-width: 0; height: 40px; margin: 0 }
  :is(button, input, .scroll):focus-visible { outline: 2px solid; outline-offset: 2px }
  output { font-variant-numeric: tabular-nums }`;

const set = (node, attrs, children = []) => {
  for (const name in attrs) node.setAttribute(name, attrs[name]);
  node.append(...children);
  return node;
};
const html = (tag, attrs, ...children) => set(document.createElement(tag), attrs, children);
const svg = (tag, attrs, ...children) =>
  set(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);
const clamp = (low, value, high) => Math.max(low, Math.min(high, value));

// Button, slider and label under `root`, for the frames that data.labels names, data.fps a
// second. `draw(position)` shows a frame, or, while easing to the next, a place between two.
// It starts on the last frame. Returns the label, and redraw().
function player(host, root, draw) {
  const last = data.labels.length - 1;
  const button = html("button", { type: "button" });
  const slider = html("input", { type: "range", max: last, "aria-label": "Frame" });
  const label = html("output", {});
  root.append(html("div", { class: "player" }, button, slider, label));
  slider.style.accentColor = data.colours[0];

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let frame = last, timer = 0;
  function show(next) {
    frame = clamp(0, next, last);
    slider.value = frame;
    slider.ariaValueText = `${data.labels[frame]}, frame ${frame + 1} of ${last + 1}`;
    label.textContent = data.labels[frame];
    draw(frame);
  }
  function face() {
    const path = timer ? "M3 2h4v12H3zM9 2h4v12H9z" : "M3 1l11 7-11 7z";
    button.ariaLabel = timer ? "Pause" : "Play";
    button.replaceChildren(svg("svg", { width: 16, height: 16 }, svg("path", { d: path, fill: "currentColor" })));
  }
  function stop() {
    cancelAnimationFrame(timer);
    timer = 0;
    face();
    label.ariaLive = "polite"; // speaks where it stops, not on the way
    show(frame);
  }
  function play() {
    const period = 1000 / data.fps;
    let start = performance.now();
    label.ariaLive = "off";
    if (frame === last) show(0);
    const tick = (now) => {
      if (now - start >= period) {
        start = Math.max(start + period, now - period);
        show(frame + 1);
        if (frame === last || !host.isConnected) return stop();
      }
      // Ease over the last third of a frame's time: whole frames stand longest.
      const part = ((now - start) / period) * 3 - 2;
      if (part > 0 && !still.matches) draw(frame + Math.min(part, 0.99));
      timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
    face();
  }
  function go(next) {
    if (timer) stop();
    label.ariaLive = "off"; // the slider speaks its own value
    show(next);
  }
  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => go(+slider.value));
  root.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -last, End: last };
    if (event.target.matches(".scroll") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in moves) go(frame + moves[event.key]);
    else if (event.key === " " && event.target === slider) button.click();
    else return;
    event.preventDefault();
  });
  show(last);
  face();
  return { label, redraw: () => draw(frame) };
}

// Makes the hosts of this key, `make(host, root)`, as a group of this name. A page may hold
// the same element twice; JupyterLab may run this before the host is there.
function mount(style, name, make, tries = 50) {
  const hosts = document.querySelectorAll(`[data-key="${key}"]`);
  for (const host of hosts) {
    if (host.shadowRoot) continue;
    const root = html("div", { class: "element", ...(name && { role: "group", "aria-label": name }) });
    host.attachShadow({ mode: "open" }).append(html("style", {}, BASE + style), root);
    make(host, root);
  }
  if (!hosts.length && tries) setTimeout(mount, 100, style, name, make, tries - 1);
}
