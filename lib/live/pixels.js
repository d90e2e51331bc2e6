// Pictures as Pillow makes them smaller, `resize(…, Image.LANCZOS)`, number for number.

const REACH = 3, BITS = 22; // of the filter, in target pixels; of its whole-number weights

function lanczos(x) {
  const sinc = (t) => (t === 0 ? 1 : Math.sin(t * Math.PI) / (t * Math.PI));
  return Math.abs(x) < REACH ? sinc(x) * sinc(x / REACH) : 0;
}

// For each of `size` target pixels: the first source pixel it reads, and the weights from there.
function weightsOf(source, size) {
  const scale = source / size, wide = Math.max(scale, 1); // a smaller picture is smoothed
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - REACH * wide + 0.5));
    const to = Math.min(source, Math.trunc(centre + REACH * wide + 0.5));
    const found = Array.from({ length: to - from }, (_, n) => lanczos((n + from - centre + 0.5) * (1 / wide)));
    const sum = found.reduce((a, b) => a + b, 0);
    return { from, weights: found.map((w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5))) };
  });
}
const byte = (sum) => Math.max(0, Math.min(255, Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS)));

// Rows of RGBA (height, width, 4) -> rows of RGB (height, size, 3), the first of two passes.
function narrowed(rgba, width, plan) {
  const size = plan.length, height = rgba.length / 4 / width, out = new Uint8Array(height * size * 3);
  for (let y = 0; y < height; y++) plan.forEach(({ from, weights }, x) => {
    const to = (y * size + x) * 3;
    let red = 0, green = 0, blue = 0;
    for (let n = 0, i = (y * width + from) * 4; n < weights.length; n++, i += 4) {
      red += weights[n] * rgba[i]; green += weights[n] * rgba[i + 1]; blue += weights[n] * rgba[i + 2];
    }
    out[to] = byte(red); out[to + 1] = byte(green); out[to + 2] = byte(blue);
  });
  return out;
}
// (height, size, 3) -> (size, size, 3), the second.
function* lowered(rgb, plan) {
  const row = plan.length * 3, out = new Uint8Array(plan.length * row);
  for (const [y, { from, weights }] of plan.entries()) {
    const sums = new Float64Array(row);
    for (let n = 0; n < weights.length; n++) for (let i = 0; i < row; i++) sums[i] += weights[n] * rgb[(from + n) * row + i];
    out.set(sums.map(byte), y * row);
    yield;
  }
  return out;
}

// The square in the middle of a bitmap -> (size, size, 3). In strips: a picture of 48 million
// pixels is never held whole a second time.
function* shrunk(bitmap, size) {
  const side = Math.min(bitmap.width, bitmap.height), strip = Math.min(side, Math.ceil(2 ** 17 / side));
  const left = Math.floor((bitmap.width - side) / 2), top = Math.floor((bitmap.height - side) / 2);
  const canvas = document.createElement("canvas"), rgb = new Uint8Array(side * size * 3), plan = weightsOf(side, size);
  [canvas.width, canvas.height] = [side, strip];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  yield;
  for (let y = 0; y < side; y += strip) {
    const height = Math.min(strip, side - y);
    pen.fillStyle = "#fff"; // under what is transparent
    pen.fillRect(0, 0, side, strip);
    pen.drawImage(bitmap, left, top + y, side, height, 0, 0, side, height);
    rgb.set(narrowed(pen.getImageData(0, 0, side, height).data, side, plan), y * size * 3);
    yield;
  }
  return yield* lowered(rgb, plan);
}
// Bytes (n, n, 3) as the model was trained: minus the mean of each colour, by its spread.
const normalised = (rgb, mean, std) => Float32Array.from(rgb, (value, i) => (value / 255 - mean[i % 3]) / std[i % 3]);
