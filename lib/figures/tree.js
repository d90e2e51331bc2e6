// A beam search that grows; tree.py writes its nodes beside this.
const STYLE = `
  .scroll { overflow-x: auto }
  svg { font-size: 13px }`;
const [blue, orange] = data.colours;
// candidate, kept, dropped, ended, best: ink and weight, never colour alone
const looks = { c: [1, 1, ""], k: [1, 2, ""], d: [0.75, 1, "3 3"], e: [1, 2, ""], b: [1, 3.5, ""] };

mount(STYLE, data.name, (host, root) => {
  const wide = data.wide, row = 30;
  const lanes = 1 + Math.max(...data.nodes.map((node) => node.lane));
  const depth = 1 + Math.max(...data.nodes.map((node) => node.depth));
  const width = depth * wide + 20, height = lanes * row + 10;
  const x = (node) => node.depth * wide + 10, y = (node) => node.lane * row + 20;
  const drawing = svg("svg", { width, height, role: "img", "aria-label": data.alt });
  const groups = data.nodes.map((node) => {
    const group = svg("g", {}), parent = data.nodes[node.parent];
    if (parent) {
      const from = x(parent) + wide - 28, to = x(node) - 4, middle = (from + to) / 2;
      group.append(svg("path", {
        d: `M${from} ${y(parent) - 4}C${middle} ${y(parent) - 4} ${middle} ${y(node) - 4} ${to} ${y(node) - 4}`,
        fill: "none", stroke: "currentColor",
      }));
    }
    group.append(svg("text", { x: x(node), y: y(node) }, node.text));
    group.append(svg("text", { x: x(node) + wide - 34, y: y(node), "text-anchor": "end", opacity: 0.85 }, node.value));
    drawing.append(group);
    return group;
  });
  root.append(html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tree" }, drawing));
  player(host, root, (position) => data.nodes.forEach((node, i) => {
    const state = node.states[Math.floor(position)], look = looks[state];
    groups[i].style.display = look ? "" : "none";
    if (!look) return;
    set(groups[i], { opacity: look[0], "font-weight": state === "d" || state === "c" ? 400 : 700 });
    const edge = groups[i].querySelector("path");
    if (edge) set(edge, { "stroke-width": look[1], "stroke-dasharray": look[2], stroke: state === "b" ? orange : state === "k" || state === "e" ? blue : "currentColor" });
  }));
});
