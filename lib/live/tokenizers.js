// SentencePiece in the browser, a .model file with its normaliser, Unigram and BPE; and GPT-2's
// BPE of bytes. A text is cut as `sentencepiece` and `lib/tokenizers` do it, ties included.

const SPACE = "▁", UTF8 = new TextEncoder();

// The fields of a message of Protocol Buffers, in their order: [number, value].
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte > 127);
    return value;
  };
  while (at < bytes.length) {
    const head = varint(), kind = head & 7;
    let value;
    if (kind === 0) value = varint();
    else if (kind === 1) { value = view.getFloat64(at, true); at += 8; }
    else if (kind === 5) { value = view.getFloat32(at, true); at += 4; }
    else { const size = varint(); value = bytes.subarray(at, (at += size)); }
    yield [head >> 3, value];
  }
}
const text = (bytes) => new TextDecoder().decode(bytes);

// BPE: the neighbours of the lowest rank are joined wherever they stand, from left to right; then
// again, until no neighbours have a rank.
function joined(letters, rankOf) {
  for (let found = letters; ; ) {
    const ranks = found.map((piece, i) => (i + 1 < found.length ? rankOf(piece, found[i + 1]) : Infinity)), next = [];
    const best = ranks.reduce((a, b) => Math.min(a, b), Infinity);
    if (best === Infinity) return found;
    for (let i = 0; i < found.length; i++) next.push(ranks[i] === best ? found[i] + found[++i] : found[i]);
    found = next;
  }
}

// A model: its pieces by id, and a tree of their characters. Field numbers are those of
// sentencepiece_model.proto; what a file leaves out has the value given here.
function tokenizer(file) {
  const NORMAL = 1, UNKNOWN = 2, USER = 4, BYTE = 6;
  const pieces = [], root = new Map();
  let bpe = false, bytesForUnknown = false, map = new Uint8Array(0), prefix = 1, trim = 1;
  for (const [field, value] of fields(file)) {
    const inner = field <= 3 ? [...fields(value)] : [];
    if (field === 1) {
      const found = Object.fromEntries(inner);
      pieces.push({ piece: text(found[1]), score: found[2] ?? 0, kind: found[3] ?? NORMAL });
    }
    if (field === 2) for (const [n, v] of inner) { if (n === 3) bpe = v === 2; if (n === 35) bytesForUnknown = !!v; }
    if (field === 3) for (const [n, v] of inner) { if (n === 2) map = v; if (n === 3) prefix = v; if (n === 4) trim = v; }
  }
  const ids = new Map(pieces.map(({ piece }, id) => [piece, id])), unknown = pieces.findIndex((one) => one.kind === UNKNOWN);
  const normal = pieces.flatMap((one, id) => (one.kind === NORMAL || one.kind === USER ? [id] : []));
  // An unknown character is worse than the worst piece. Scores are float32, and so are sums.
  const worst = Math.fround(normal.reduce((low, id) => Math.min(low, pieces[id].score), Infinity) - 10);
  for (const id of normal) {
    let node = root;
    for (const letter of pieces[id].piece) node = node.get(letter) ?? node.set(letter, new Map()).get(letter);
    node.id = id;
  }

  // The normaliser: a tree of byte sequences in 32-bit units (Darts), then what each becomes.
  const size = map.length && new DataView(map.buffer, map.byteOffset).getUint32(0, true);
  const units = new Uint32Array(map.slice(4, 4 + size).buffer), targets = map.subarray(4 + size);
  const offset = (unit) => (unit >>> 10) << ((unit & 512) >>> 6);
  function normalise(given) {
    const bytes = UTF8.encode(given), out = [];
    for (let at = 0; at < bytes.length; ) {
      let node = 0, length = 0, target = -1;
      if (units.length) node ^= offset(units[0]);
      for (let n = at; units.length && n < bytes.length; n++) { // the longest sequence that starts here
        node ^= bytes[n];
        const unit = units[node] >>> 0;
        if (((unit & 0x800000ff) >>> 0) !== bytes[n]) break;
        node ^= offset(unit);
        if (unit & 256) { length = n + 1 - at; target = units[node] & 0x7fffffff; }
      }
      if (target < 0) { // as it is: one character, whose first byte says how long it is
        length = bytes[at] < 128 ? 1 : bytes[at] < 224 ? 2 : bytes[at] < 240 ? 3 : 4;
        out.push(...bytes.subarray(at, at + length));
      } else for (let n = target; targets[n]; n++) out.push(targets[n]);
      at += length;
    }
    const clean = text(new Uint8Array(out));
    return trim ? clean.replace(/^ +| +$/g, "").replace(/ +/g, " ") : clean;
  }
  const marked = (clean) => (clean ? (prefix ? SPACE : "") + clean.replaceAll(" ", SPACE) : "");

  // All pieces in a text: for each end, the {start, score, id} of those that end there.
  function lattice(letters) {
    const edges = letters.map(() => []).concat([[]]);
    for (let start = 0; start < letters.length; start++) {
      let single = false;
      for (let end = start, node = root; end < letters.length && (node = node.get(letters[end])); end++)
        if (node.id !== undefined) {
          edges[end + 1].push({ start, score: pieces[node.id].score, id: node.id });
          single ||= end === start;
        }
      if (!single) edges[start + 1].push({ start, score: worst, id: unknown });
    }
    return edges;
  }
  // The likeliest cut (Viterbi): for each end the best way to it. Of equal ones the longest piece.
  function unigram(letters) {
    const edges = lattice(letters), best = [0], back = [null], found = [];
    for (let end = 1; end <= letters.length; end++) {
      best.push(-Infinity);
      for (const edge of edges[end]) {
        const total = Math.fround(best[edge.start] + Math.fround(edge.score));
        if (total > best[end]) [best[end], back[end]] = [total, edge];
      }
    }
    for (let end = letters.length; end; end = back[end].start)
      found.unshift({ piece: letters.slice(back[end].start, end).join(""), id: back[end].id });
    return found;
  }
  const known = (piece) => pieces[ids.get(piece)]?.kind === NORMAL;
  // The best scored join of two neighbours comes first.
  const merges = (letters) =>
    joined(letters, (a, b) => (known(a + b) ? -pieces[ids.get(a + b)].score : Infinity)).map((piece) => ({ piece, id: known(piece) ? ids.get(piece) : unknown }));
  // A text -> [{piece, id}]. Unknown characters side by side are one piece, or their bytes.
  function encode(given) {
    const found = [], letters = [...marked(normalise(given))];
    for (const one of bpe ? merges(letters) : unigram(letters)) {
      if (one.id !== unknown) found.push(one);
      else if (bytesForUnknown)
        for (const byte of UTF8.encode(one.piece)) {
          const piece = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
          found.push({ piece, id: ids.get(piece) });
        }
      else if (found.at(-1)?.id === unknown) found.at(-1).piece += one.piece;
      else found.push(one);
    }
    return found;
  }
  function decode(list) { // ids -> a text; bytes are put together again
    const bytes = list.flatMap((id) => {
      const { piece, kind } = pieces[id];
      if (kind === BYTE) return parseInt(piece.slice(3, 5), 16);
      return kind === NORMAL || kind === USER ? [...UTF8.encode(piece)] : [];
    });
    const whole = text(new Uint8Array(bytes)).replaceAll(SPACE, " ");
    return prefix ? whole.replace(/^ /, "") : whole;
  }
  return { pieces, ids, unknown, normalise, marked, lattice, unigram, encode, decode };
}

// GPT-2's tokenizer: a text is cut into words, a word becomes bytes, each with a visible name, and
// `merges`, [left, right] in the order in which they were learned, join these.
const WORDS = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
let moved = 256; // the 68 bytes that are no visible character of Latin-1 move up
const NAMES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte < 33 || (byte > 126 && byte < 161) || byte === 173 ? moved++ : byte));
function byteTokenizer(merges) {
  const ranks = new Map(merges.map((pair, rank) => [pair.join(" "), rank])), rankOf = (a, b) => ranks.get(`${a} ${b}`) ?? Infinity;
  const encode = (given) => (given.match(WORDS) ?? []).flatMap((word) => joined(Array.from(UTF8.encode(word), (byte) => NAMES[byte]), rankOf)).map((piece) => ({ piece }));
  function shown(piece) { // as text, or as bytes where it is no whole character
    const bytes = Array.from(piece, (name) => NAMES.indexOf(name)), found = text(Uint8Array.from(bytes));
    return found.includes("\ufffd") ? bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ") : found.replaceAll(" ", "␣");
  }
  return { encode, shown };
}
