// The book's models, forward pass alone: what happens between token ids and logits.
// A matrix (T, D) is a Float32Array, row after row; D is known from the weights. Weights are
// {shape, data} by the names that PyTorch gave them. A pass is a generator that stops after
// each layer, so that a page can breathe: `finish` runs it at once, `inSlices` in turns.

// --- Weights ---------------------------------------------------------------------------

// A float16 has 65,536 values: a table is faster than taking each apart.
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
});

// The bytes of a safetensors file -> {name: {shape, data}}, in float32.
function* tensors(bytes) {
  const start = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start))), found = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const raw = bytes.slice(start + from, start + to).buffer; // a copy starts at a whole number
    if (dtype === "F32") found[name] = { shape, data: new Float32Array(raw) };
    else if (dtype === "F16") found[name] = { shape, data: Float32Array.from(new Uint16Array(raw), (bits) => HALVES[bits]) };
    else throw Error(`${name}: got ${dtype}, wants F16 or F32`);
    yield;
  }
  return found;
}

// The weights of one part, under the rest of their names; `parts` are those with a number.
function part(weights, prefix) {
  const names = Object.keys(weights).filter((name) => name.startsWith(prefix + "."));
  return Object.fromEntries(names.map((name) => [name.slice(prefix.length + 1), weights[name]]));
}
function parts(weights, prefix) {
  const found = [];
  for (let i = 0, p; Object.keys((p = part(weights, `${prefix}.${i}`))).length; i++) found.push(p);
  return found;
}

// --- What acts on each token alone -----------------------------------------------------

function dot(x, i, y, j, size) {
  let sum = 0;
  for (let n = 0; n < size; n++) sum += x[i + n] * y[j + n];
  return sum;
}

// x Wᵀ + b: (T, D) -> (T, out). The weight is (out, D), so that each sum runs over two rows; eight
// sums at a time, of two rows by four, which need not wait for each other. Where rows are over the
// last one is taken again: one read past its end makes all of an array's slow. Sums are float64.
function linear(x, weights, name) {
  const { shape: [out, ...rest], data: w } = weights[`${name}.weight`], bias = weights[`${name}.bias`]?.data;
  const D = rest.reduce((a, b) => a * b), T = x.length / D, y = new Float32Array(T * out);
  for (let t = 0; t < T; t += 2) for (let o = 0; o < out; o += 4) {
    const u = Math.min(t + 1, T - 1), p = Math.min(o + 1, out - 1), q = Math.min(o + 2, out - 1), r = Math.min(o + 3, out - 1);
    let to = 0, tp = 0, tq = 0, tr = 0, uo = 0, up = 0, uq = 0, ur = 0;
    for (let n = 0; n < D; n++) {
      const xt = x[t * D + n], xu = x[u * D + n], wo = w[o * D + n], wp = w[p * D + n], wq = w[q * D + n], wr = w[r * D + n];
      to += xt * wo; tp += xt * wp; tq += xt * wq; tr += xt * wr;
      uo += xu * wo; up += xu * wp; uq += xu * wq; ur += xu * wr;
    }
    y[t * out + o] = to; y[t * out + p] = tp; y[t * out + q] = tq; y[t * out + r] = tr;
    y[u * out + o] = uo; y[u * out + p] = up; y[u * out + q] = uq; y[u * out + r] = ur;
  }
  if (bias) for (let i = 0; i < y.length; i++) y[i] += bias[i % out];
  return y;
}

// Each row to mean 0 and variance 1, then scaled and shifted by what was learned.
function layerNorm(x, weight, bias, D) {
  const y = new Float32Array(x.length);
  for (let t = 0; t < x.length; t += D) {
    let mean = 0, variance = 0;
    for (let i = t; i < t + D; i++) mean += x[i] / D;
    for (let i = t; i < t + D; i++) variance += (x[i] - mean) ** 2 / D;
    const scale = 1 / Math.sqrt(variance + 1e-5);
    for (let i = 0; i < D; i++) y[t + i] = (x[t + i] - mean) * scale * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
  }
  return y;
}
function norm(x, weights, name) { // where a model has none, x stays
  const weight = weights[`${name}.weight`];
  return weight ? layerNorm(x, weight.data, weights[`${name}.bias`]?.data, weight.shape[0]) : x;
}

// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26): JavaScript has none.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}
const gelu = (x) => (x * (1 + erf(x / Math.SQRT2))) / 2;
const relu = (x) => (x > 0 ? x : 0);
const ACTIVATIONS = { gelu, relu, "relu squared": (x) => (x > 0 ? x * x : 0) };

// down(activation(up(x))); where there is a gate it is activated, and multiplies.
function mlp(x, weights, activation) {
  const up = linear(x, weights, "mlp.up"), gate = weights["mlp.gate.weight"] && linear(x, weights, "mlp.gate");
  for (let i = 0; i < up.length; i++) up[i] = gate ? activation(gate[i]) * up[i] : activation(up[i]);
  return linear(up, weights, "mlp.down");
}
const add = (x, y) => x.map((value, i) => value + y[i]);

function softmax(row) { // in its place; of −∞ alone it stays 0, as in PyTorch's attention
  const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i] = top === -Infinity ? 0 : Math.exp(row[i] - top);
  for (let i = 0; i < row.length; i++) row[i] /= sum || 1;
  return row;
}

// --- Where tokens stand ----------------------------------------------------------------

// The waves of the first transformer, for positions from `first`: added to (T, D).
function addWaves(x, D, first = 0) {
  for (let i = 0; i < x.length; i++) {
    const at = first + Math.floor(i / D), feature = i % D, angle = at / 10000 ** ((feature - (feature % 2)) / D);
    x[i] += feature % 2 ? Math.cos(angle) : Math.sin(angle);
  }
  return x;
}

// RoPE: two numbers of a head are a point of the plane, turned by the position, in its place.
// They are neighbours, or `half` a head apart.
function turn(x, D, H, base, { first = 0, half = false } = {}) {
  const d = D / H;
  for (let at = 0; at < x.length; at += d) for (let n = 0; n < d / 2; n++) {
    const angle = (first + Math.floor(at / D)) * base ** ((-2 * n) / d), c = Math.cos(angle), s = Math.sin(angle);
    const i = at + (half ? n : 2 * n), j = half ? i + d / 2 : i + 1, a = x[i], b = x[j];
    x[i] = a * c - b * s;
    x[j] = a * s + b * c;
  }
}

// --- Attention -------------------------------------------------------------------------

// softmax(QKᵀ / √d) V in each head: output (Tq, D) and weights (H, Tq, Tk). `meets(i, j)` says
// whether query i may attend to key j.
function attend(query, key, value, D, H, meets) {
  const Tq = query.length / D, Tk = key.length / D, d = D / H;
  const output = new Float32Array(query.length), weights = new Float32Array(H * Tq * Tk);
  for (let h = 0; h < H; h++) for (let i = 0; i < Tq; i++) {
    const row = weights.subarray((h * Tq + i) * Tk, (h * Tq + i + 1) * Tk), at = i * D + h * d;
    for (let j = 0; j < Tk; j++) row[j] = meets(i, j) ? dot(query, at, key, j * D + h * d, d) / Math.sqrt(d) : -Infinity;
    softmax(row);
    for (let j = 0; j < Tk; j++)
      if (row[j]) for (let n = 0; n < d; n++) output[at + n] += row[j] * value[j * D + h * d + n];
  }
  return { output, weights };
}

// One attention of a model. `memory` is the other text in cross-attention. A `cache` holds keys
// and values (limit, D) of the tokens before, `past` of them: each is computed once. With a `base`
// there is RoPE.
function attention(x, weights, name, H, { memory = x, cache, past = 0, base, half, meets = () => true } = {}) {
  const maps = part(weights, name), D = maps["to_query.weight"].shape[0], d = D / H;
  let query = linear(x, maps, "to_query"), key = linear(memory, maps, "to_key"), value = linear(memory, maps, "to_value");
  if (maps.gain) { // queries and keys of equal length, and how sharp each head may be
    [query, key] = [layerNorm(query, null, null, d), layerNorm(key, null, null, d)];
    for (let i = 0; i < query.length; i++) query[i] *= maps.gain.data[Math.floor((i % D) / d)];
  }
  if (base) for (const one of [query, key]) turn(one, D, H, base, { first: past, half });
  if (cache) {
    cache.key.set(key, past * D);
    cache.value.set(value, past * D);
    [key, value] = [cache.key, cache.value].map((all) => all.subarray(0, past * D + key.length));
  }
  const found = attend(query, key, value, D, H, meets);
  return { output: linear(found.output, maps, "to_output"), weights: found.weights };
}

const rows = (table, ids) => { // the embeddings of ids: (T, D)
  const D = table.shape[1], x = new Float32Array(ids.length * D);
  ids.forEach((id, t) => x.set(table.data.subarray(id * D, (id + 1) * D), t * D));
  return x;
};
const caches = (layers, D, limit) =>
  layers.map(() => ({ key: new Float32Array(limit * D), value: new Float32Array(limit * D) }));

// Layers, pre-norm, one after the other; `options(i)` are those of the i-th attention.
function* through(layers, x, H, activation, options = () => ({})) {
  const shown = [];
  for (const [i, layer] of layers.entries()) {
    const found = attention(norm(x, layer, "attention_norm"), layer, "attention", H, options(i));
    x = add(x, found.output);
    yield;
    x = add(x, mlp(norm(x, layer, "mlp_norm"), layer, activation));
    shown.push(found.weights);
    yield;
  }
  return { x, attention: shown };
}

// --- Five models -----------------------------------------------------------------------

// A causal language model. `read(ids, state)` reads ids after the `state.past` tokens before; a
// smaller `past` forgets. Returns the logits after the last, and each layer's weights.
function languageModel(weights, { num_heads: H, limit, base, activation = "gelu" }) {
  const blocks = parts(weights, "blocks"), table = weights["embed.weight"], D = table.shape[1];
  const start = () => ({ past: 0, caches: caches(blocks, D, limit) });
  function* read(ids, state) {
    const { past } = state, meets = (query, key) => key <= past + query;
    if (past + ids.length > limit) throw Error(`ids: got ${past + ids.length} tokens, wants at most ${limit}`);
    let x = rows(table, ids);
    if (weights["table.weight"]) x = add(x, weights["table.weight"].data.subarray(past * D));
    const found = yield* through(blocks, x, H, ACTIVATIONS[activation], (i) => ({ cache: state.caches[i], past, base, meets }));
    state.past += ids.length;
    return { logits: linear(norm(found.x.subarray(-D), weights, "norm"), weights, "readout"), attention: found.attention };
  }
  return { start, read, limit };
}

// The first transformer, pre-norm. `encode` reads the source as a whole, `decode` the target
// after `state.past` tokens; the attention returned is that of the target to the source.
function encoderDecoder(weights, { num_heads: H, limit }) {
  const table = weights["source_embed.weight"], D = table.shape[1], vocabulary = { "out.weight": table };
  const [encoder, decoder] = [parts(weights, "encoder"), parts(weights, "decoder")];
  const embed = (ids, first) => addWaves(rows(table, ids).map((value) => value * Math.sqrt(D)), D, first);
  function* encode(ids) {
    let x = embed(ids, 0);
    for (const layer of encoder) {
      x = add(x, attention(norm(x, layer, "norms.0"), layer, "attention", H).output);
      x = add(x, mlp(norm(x, layer, "norms.1"), layer, relu));
      yield;
    }
    return norm(x, weights, "encoder_norm");
  }
  const start = () => ({ past: 0, caches: caches(decoder, D, limit) });
  function* decode(ids, memory, state) {
    const { past } = state, shown = [], meets = (query, key) => key <= past + query;
    let x = embed(ids, past);
    for (const [i, layer] of decoder.entries()) {
      x = add(x, attention(norm(x, layer, "norms.0"), layer, "attention", H, { cache: state.caches[i], past, meets }).output);
      const across = attention(norm(x, layer, "norms.1"), layer, "cross", H, { memory });
      x = add(x, across.output);
      x = add(x, mlp(norm(x, layer, "norms.2"), layer, relu));
      shown.push(across.weights);
      yield;
    }
    state.past += ids.length;
    return { logits: linear(norm(x.subarray(-D), weights, "decoder_norm"), vocabulary, "out"), attention: shown };
  }
  return { encode, decode, start, limit };
}

// Two encoders that fill gaps: logits (gaps, V) of the tokens `at`, read out by the embeddings.
const readout = (x, table, bias) => linear(x, { "out.weight": table, "out.bias": bias }, "out");

// A token meets the blocks of tokens beside its own; the first tokens meet all, and all meet them.
function maskedModel(weights, { num_heads: H, base, block, window, global_tokens: first }) {
  const layers = parts(weights, "layers"), table = weights["embed.weight"], side = (window - 1) / 2;
  const meets = (i, j) => i < first || j < first || Math.abs(Math.floor(i / block) - Math.floor(j / block)) <= side;
  return function* (ids, at) {
    const { x, attention } = yield* through(layers, norm(rows(table, ids), weights, "embed_norm"), H, gelu, () => ({ base, meets }));
    const read = rows({ data: norm(x, weights, "norm"), shape: table.shape }, at);
    return { logits: readout(read, table, weights.bias), attention };
  };
}

// ModernBERT: a token meets `window` others on each side, and in every third layer the whole text.
// Queries, keys and values are one matrix, gate and up another: here they are taken apart.
function modernBert(weights, { num_heads: H, window, local_base, global_base }) {
  const model = part(weights, "model"), table = model["embeddings.tok_embeddings.weight"];
  const cut = ({ shape: [rows, D], data }, i, of) => ({ shape: [rows / of, D], data: data.subarray((i * rows * D) / of, ((i + 1) * rows * D) / of) });
  const layers = parts(model, "layers").map(({ "attn.Wqkv.weight": three, "mlp.Wi.weight": two, ...layer }) => ({
    "attention_norm.weight": layer["attn_norm.weight"], "mlp_norm.weight": layer["mlp_norm.weight"],
    ...Object.fromEntries(["query", "key", "value"].map((name, i) => [`attention.to_${name}.weight`, cut(three, i, 3)])),
    "attention.to_output.weight": layer["attn.Wo.weight"], "mlp.down.weight": layer["mlp.Wo.weight"],
    "mlp.gate.weight": cut(two, 0, 2), "mlp.up.weight": cut(two, 1, 2),
  }));
  const options = (i) => (i % 3 ? { base: local_base, half: true, meets: (i, j) => Math.abs(i - j) <= window } : { base: global_base, half: true });
  return function* (ids, at) {
    const { x, attention } = yield* through(layers, norm(rows(table, ids), model, "embeddings.norm"), H, gelu, options);
    const read = linear(rows({ data: norm(x, model, "final_norm"), shape: table.shape }, at), weights, "head.dense");
    return { logits: readout(norm(read.map(gelu), weights, "head.norm"), table, weights["decoder.bias"]), attention };
  };
}

// A 3×3 convolution of a picture {data (h, w, C), side} is a linear map of what the filter lies
// on, place by place; then its batch norm, as it is after training, and ReLU.
function convolution({ data, side }, weights, [conv, bn], stride) {
  const C = weights[`${conv}.weight`].shape[1], size = Math.ceil(side / stride), fields = new Float32Array(size * size * 9 * C);
  for (let i = 0; i < fields.length; i++) { // in the order of the weights: channel, row, column
    const n = i % 9, c = Math.floor(i / 9) % C, place = Math.floor(i / 9 / C);
    const row = Math.floor(place / size) * stride + Math.floor(n / 3) - 1, column = (place % size) * stride + (n % 3) - 1;
    if (row >= 0 && column >= 0 && row < side && column < side) fields[i] = data[(row * side + column) * C + c];
  }
  const [scale, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((name) => weights[`${bn}.${name}`].data);
  const y = linear(fields, weights, conv), out = scale.length;
  for (let i = 0; i < y.length; i++) y[i] = relu(((y[i] - mean[i % out]) / Math.sqrt(variance[i % out] + 1e-5)) * scale[i % out] + shift[i % out]);
  return { data: y, side: size };
}

// A vision transformer behind convolutions: a picture (32, 32, 3), normalised -> logits.
function visionTransformer(weights, { num_heads: H, strides }) {
  const stem = part(weights, "patches"), layers = parts(weights, "layers"), places = weights["places.weight"];
  return function* (data, side) {
    let maps = { data, side };
    for (const [i, stride] of strides.entries()) {
      maps = convolution(maps, stem, [3 * i, 3 * i + 1], stride);
      yield;
    }
    const [P, D] = places.shape, mean = new Float32Array(D);
    const { x, attention } = yield* through(layers, add(linear(maps.data, stem, String(3 * strides.length)), places.data), H, gelu);
    norm(x, weights, "norm").forEach((value, i) => (mean[i % D] += value / P));
    return { logits: linear(mean, weights, "head"), attention };
  };
}

// How much of each input token reaches each token, by the weights alone, after each layer:
// the mean over the heads, half of it the residual, times that of the layers before.
function rollout(attention, H) {
  const T = Math.sqrt(attention[0].length / H), found = [];
  let reached = Float32Array.from({ length: T * T }, (_, i) => +(i % (T + 1) === 0));
  for (const weights of attention) {
    const next = new Float32Array(T * T);
    for (let i = 0; i < T; i++) for (let k = 0; k < T; k++) {
      let share = +(i === k);
      for (let h = 0; h < H; h++) share += weights[(h * T + i) * T + k] / H;
      for (let j = 0; j < T; j++) next[i * T + j] += (share / 2) * reached[k * T + j];
    }
    found.push((reached = next));
  }
  return found;
}

// --- Running a pass --------------------------------------------------------------------

function finish(pass) {
  let step = pass.next();
  while (!step.done) step = pass.next();
  return step.value;
}

// The same, but the page comes in between where 12 ms have gone by: no frame waits long.
let since = 0;
async function inSlices(pass) {
  for (let step = pass.next(); ; step = pass.next()) {
    if (performance.now() - since > 12) {
      await new Promise((resume) => setTimeout(resume));
      since = performance.now();
    }
    if (step.done) return step.value;
  }
}
