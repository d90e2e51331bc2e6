// Terms, passages and BM25, as lib/retrieval has them; search.py gives stop words and sizes.
const CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff";
const RUN = new RegExp(`[${CJK}]+|\\p{Nd}+(?:[.,]\\p{Nd}+)+|(?:(?![${CJK}])[\\p{L}\\p{N}])+`, "gu");
const JAPANESE = new RegExp(`^[${CJK}]`, "u");
const SENTENCES = /(?<=[.!?])\s+|(?<=[。！？])|\n/u;
const count = (sentence) => sentence.split(/\s+/u).filter(Boolean).length;

function singular(word) {
  if (word.length < 4 || !word.endsWith("s")) return word;
  if (word.endsWith("ies") && !/[ea]ies$/.test(word)) return `${word.slice(0, -3)}y`;
  if (word.endsWith("es") && !/[aeo]es$/.test(word)) return word.slice(0, -1);
  return /[us]s$/.test(word) ? word : word.slice(0, -1);
}

// A text -> its terms, in their order; `stop` is a Set.
function termsOf(given, stop) {
  const found = [];
  for (const [run] of given.normalize("NFKC").toLowerCase().matchAll(RUN)) {
    const signs = [...run];
    if (!JAPANESE.test(run)) stop.has(run) || found.push(singular(run));
    else if (signs.length < 2) found.push(run);
    else signs.slice(1).forEach((sign, i) => found.push(signs[i] + sign));
  }
  return found;
}

// Sections {page, anchor, chapter, title, text} -> passages {section, heading, text}.
function chunks(sections, most) {
  return sections.flatMap((section) => {
    const sentences = section.text.split(SENTENCES).map((s) => s?.trim()).filter(Boolean), lengths = sentences.map(count);
    const total = lengths.reduce((a, b) => a + b, 0), target = total / Math.max(1, Math.ceil(total / most));
    const heading = [...new Set([section.chapter, section.title])].join(" · "), groups = [[]];
    let size = 0;
    sentences.forEach((sentence, i) => {
      if (groups.at(-1).length && (size + lengths[i] > most || size + lengths[i] / 2 > target)) {
        groups.push([]);
        size = 0;
      }
      groups.at(-1).push(sentence);
      size += lengths[i];
    });
    return groups.map((group) => ({ section, heading, text: group.join(" ") }));
  });
}

// Documents, each a list of terms -> search(query, k): the best with their parts, best first.
function bm25(documents, k1, b) {
  const mean = documents.reduce((sum, d) => sum + d.length, 0) / documents.length, postings = new Map();
  const norm = documents.map((d) => k1 * (1 - b + (b * d.length) / mean));
  documents.forEach((document, i) => {
    for (const term of document) {
      if (!postings.has(term)) postings.set(term, new Map());
      postings.get(term).set(i, (postings.get(term).get(i) ?? 0) + 1);
    }
  });
  return (query, k) => {
    const found = new Map();
    for (const term of query) {
      const rows = postings.get(term) ?? new Map(), idf = Math.log(1 + (documents.length - rows.size + 0.5) / (rows.size + 0.5));
      for (const [i, tf] of rows) {
        if (!found.has(i)) found.set(i, new Map());
        const parts = found.get(i);
        parts.set(term, (parts.get(term) ?? 0) + (idf * tf) / (tf + norm[i]));
      }
    }
    const hits = [...found].map(([at, parts]) => ({ at, parts, score: [...parts.values()].reduce((a, c) => a + c, 0) }));
    return hits.sort((a, c) => c.score - a.score || a.at - c.at).slice(0, k);
  };
}
