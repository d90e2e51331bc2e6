// Text as coloured pieces, frame by frame; pieces.py writes its rows beside this.
const STYLE = `
  .rows { display: grid; grid-template-columns: auto 1fr; gap: 8px 12px; margin: 8px 0; align-content: start }
  .title { text-align: right; opacity: 0.85; line-height: 26px; white-space: pre }
  .row { display: flex; flex-wrap: wrap; align-content: start; gap: 4px 3px; min-width: 0 }
  .row > span { border: 1px solid; border-radius: 4px; padding: 1px 4px; line-height: 22px; overflow-wrap: anywhere; white-space: pre-wrap }
  .row > .grey { border-color: #8888; border-style: dashed }
  @media (max-width: 480px) { .rows { grid-template-columns: 1fr; gap: 2px } .title { text-align: left } }`;

mount(STYLE, data.name, (host, root) => {
  const rows = html("div", { class: "rows", role: "group", "aria-label": data.alt });
  root.append(rows);
  const piece = ([text, colour]) => {
    const node = html("span", colour ? {} : { class: "grey" }, text);
    const hue = data.colours[colour - 1];
    if (hue) node.style.cssText = `border-color: ${hue}; background: ${hue}40`;
    return node;
  };
  let shown = -1;
  const draw = (position) => {
    const frame = Math.floor(position);
    if (frame === shown) return;
    shown = frame;
    rows.replaceChildren(...data.frames[frame].flatMap(([title, row]) => [
      html("div", { class: "title" }, title),
      html("div", { class: "row" }, ...row.map((i) => piece(data.pieces[i]))),
    ]));
  };
  // Room for the tallest frame, so that the page stands still while it plays.
  const room = () => {
    const back = shown;
    rows.style.minHeight = "";
    let tall = 0;
    data.frames.forEach((_, i) => { draw(i); tall = Math.max(tall, rows.offsetHeight); });
    rows.style.minHeight = `${tall}px`;
    draw(back < 0 ? data.frames.length - 1 : back);
  };
  player(host, root, draw);
  let wide = 0;
  new ResizeObserver(() => {
    if (rows.clientWidth !== wide) { wide = rows.clientWidth; room(); }
  }).observe(rows);
});
