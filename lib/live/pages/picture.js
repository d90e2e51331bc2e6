// A picture, what the model gets of it, and what it says; picture.py gives its numbers.
offer(`
  .samples { display: flex; flex-wrap: wrap; gap: 8px }
  .samples button { height: auto; padding: 4px }
  .samples img { display: block; width: 72px; height: 72px }
  .sight { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: flex-start }
  canvas { image-rendering: pixelated; width: 160px; height: 160px; border: 1px solid; display: block }
  .answers { display: grid; grid-template-columns: auto auto minmax(60px, 1fr); gap: 2px 8px; align-items: center; flex: 1 1 220px; min-width: 0 }
  .over { outline: 3px dashed #0173b2; outline-offset: 4px }`, async (files, body, tell, wrong) => {
  const model = visionTransformer(await inSlices(tensors(files[data.files[0].file])), data.config), H = data.config.num_heads, SIDE = 32;
  const field = html("input", { type: "file", accept: "image/*", "aria-label": "A picture of yours" });
  field.style.cssText = "height: auto; max-width: 100%";
  const samples = html("div", { class: "samples" }, ...data.samples.map(({ name, source }) =>
    button(html("img", { src: source, alt: name }), () => look(blobOf(source), name), { "aria-label": `Take the ${name}` })));
  const canvas = html("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": `The ${SIDE} by ${SIDE} pixels that the model reads` });
  const answers = html("div", { class: "answers" }), note = html("p", { class: "quiet" }), name_ = html("p", {});
  const paths = html("div", { class: "sight" });
  body.append(samples, html("p", { class: "quiet" }, "Or drop a picture here, or choose one; it does not leave your computer:"), field, name_,
    html("div", { class: "sight" }, canvas, answers), note, paths);
  const blobOf = (source) => { // a data URI; fetch would be a request, which a strict page forbids
    const bytes = Uint8Array.from(atob(source.split(",")[1]), (letter) => letter.charCodeAt(0));
    return new Blob([bytes], { type: "image/png" });
  };
  const picked = (file) => file && look(file, file.name);
  field.addEventListener("change", () => picked(field.files[0]));
  body.addEventListener("dragover", (event) => { event.preventDefault(); body.classList.add("over"); });
  body.addEventListener("dragleave", () => body.classList.remove("over"));
  body.addEventListener("drop", (event) => {
    event.preventDefault();
    body.classList.remove("over");
    event.dataTransfer.files.length ? picked(event.dataTransfer.files[0]) : wrong("That was no file.");
  });

  let turn_ = 0; // of two pictures the later one counts
  async function look(file, name) {
    const mine = ++turn_;
    wrong("");
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
    } catch {
      return wrong(`${name}: this file is no picture that the browser can read.`);
    }
    const { width, height } = bitmap, rgb = await inSlices(shrunk(bitmap, SIDE));
    bitmap.close(); // 48 million pixels are 192 MB
    const found = await inSlices(model(normalised(rgb, data.mean, data.std), SIDE));
    if (mine !== turn_ || !body.isConnected) return;
    paint(canvas, rgb);
    const shares = softmax(Float64Array.from(found.logits)), order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
    answers.replaceChildren(...order.flatMap((i) =>
      [data.classes[i], percent(shares[i]), barOf(shares[i])].map((one) => html("span", {}, one))));
    name_.textContent = `${name}, ${width} × ${height} pixels`;
    const cut = width !== height ? "the square in its middle, " : "";
    note.textContent = `What the model reads: ${cut}${SIDE} × ${SIDE} pixels. It has ten classes only and no word for anything else, so something is always named. Rollout: the brighter a patch, the more of it reaches the answer, by the attention weights.`;
    const reached = rollout(found.attention, H);
    paths.replaceChildren(...reached.map((matrix, l) => {
      const P = Math.sqrt(matrix.length), to = Array.from({ length: P }, (_, j) => { let sum = 0; for (let i = 0; i < P; i++) sum += matrix[i * P + j] / P; return sum; });
      const small = html("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": `Rollout up to layer ${l + 1}: how much of each of ${P} patches reaches the mean, as brightness` });
      paint(small, rgb, to.map((share) => share / Math.max(...to)));
      small.style.cssText = "width: 96px; height: 96px";
      return html("div", {}, html("p", { class: "quiet" }, `rollout, layer ${l + 1}`), small);
    }));
    tell(`${name}: ${order.slice(0, 3).map((i) => `${data.classes[i]} ${percent(shares[i])}`).join(", ")}`);
  }
  // Pixels (32, 32, 3), each 4×4 patch dimmed by its light where that is given.
  function paint(target, rgb, light) {
    const pen = target.getContext("2d"), image = pen.createImageData(SIDE, SIDE), grid = Math.sqrt(light?.length ?? 0);
    for (let i = 0; i < SIDE * SIDE; i++) {
      const row = Math.floor(i / SIDE), column = i % SIDE, step = SIDE / grid;
      const by = light ? 0.1 + 0.9 * light[Math.floor(row / step) * grid + Math.floor(column / step)] : 1;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = rgb[3 * i + c] * by;
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
  }
  await look(blobOf(data.samples[0].source), data.samples[0].name);
});
