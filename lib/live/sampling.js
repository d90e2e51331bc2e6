// From logits to the next token, as `lib/filters.py` and `lib/decoding.py` do it.

// The probabilities (V,) that are left after the temperature, top-k and top-p, in this order.
function filtered(logits, { temperature = 1, k = Infinity, p = 1 } = {}) {
  const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  const top = logits[order[0]], last = logits[order[Math.min(k, order.length) - 1]];
  const shares = new Float64Array(logits.length);
  const spread = (kept) => { // the softmax of those that are kept; the others have 0
    let sum = 0;
    for (const i of kept) sum += Math.exp((logits[i] - top) / temperature);
    shares.fill(0);
    for (const i of kept) shares[i] = Math.exp((logits[i] - top) / temperature) / sum;
  };
  let kept = order.filter((i) => logits[i] >= last); // with those that tie with the k-th
  spread(kept);
  let below = 0, from = kept.length; // summed from the least likely one; the likeliest stays
  if (p < 1) while (from > 1 && (below += shares[kept[from - 1]]) <= 1 - p) from--;
  spread((kept = kept.slice(0, from)));
  return shares;
}

// The shares lie end to end on a line; `at`, from 0 to below 1, falls into one of them.
function draw(shares, at = Math.random()) {
  let end = 0, last = 0;
  for (let i = 0; i < shares.length; i++) {
    if (shares[i]) last = i;
    if ((end += shares[i]) > at) return i;
  }
  return last; // where the shares add up to a little less than 1
}
const likeliest = (logits) => logits.reduce((best, value, i) => (value > logits[best] ? i : best), 0);

function logSoftmax(logits) {
  const top = logits[likeliest(logits)];
  const sum = logits.reduce((total, value) => total + Math.exp(value - top), 0);
  return logits.map((value) => value - top - Math.log(sum));
}

// The places of the n largest, from the first on; the sort of plain numbers is the fast one.
function largest(values, n) {
  const least = values.slice().sort().at(-n) ?? -Infinity;
  return [...values.keys()].filter((i) => values[i] >= least).sort((a, b) => values[b] - values[a]).slice(0, n);
}

// Beam search: `next(beam)` is a pass with the logits after a beam's ids; `fork(state)` copies
// what it keeps. Ranked by the summed log-probability; a finished one by its mean. Stops where
// no running beam can overtake the worst of K finished ones. `told` hears who is running.
function* beamSearch(next, fork, state, begin, { beams: K, room, end, told = () => {} }) {
  let running = [{ ids: [begin], state, score: 0 }], finished = [];
  for (let n = 1; n <= room; n++) {
    const candidates = [];
    for (const beam of running) {
      const { logits, ...more } = yield* next(beam), shares = logSoftmax(logits);
      for (const id of largest(shares, 2 * K)) candidates.push({ ids: [...beam.ids, id], from: beam, more, score: beam.score + shares[id] });
    }
    candidates.sort((a, b) => b.score - a.score);
    const done = (one) => one.ids.at(-1) === end || n === room;
    finished.push(...candidates.slice(0, K).filter(done).map((one) => ({ ...one, mean: one.score / n })));
    finished = finished.sort((a, b) => b.mean - a.mean).slice(0, K);
    running = candidates.filter((one) => !done(one)).slice(0, K);
    running = running.map((one) => ({ ...one, state: fork(one.from.state) }));
    if (running.length) told(running);
    if (!running.length || (finished.length === K && running[0].score / n <= finished.at(-1).mean)) break;
  }
  return { best: finished[0] };
}
