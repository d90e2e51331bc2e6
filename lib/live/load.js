// Files of a checkpoint, part by part, each a script that export.py wrote.

const HERE = document.currentScript?.src.replace(/[^/]*$/, "") ?? "";
const CUT = "The download was cut. Nothing is lost: try again.";

const readPart = (src) => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.onload = script.onerror = () => {
    script.remove(); // and its text with it
    script.part === undefined ? reject(Error(CUT)) : resolve(atob(script.part));
  };
  script.src = src;
  document.head.append(script);
});

// [{file, key, bytes, part}] -> their bytes, by `file`; `say(share)` hears how much is there.
async function download(files, say) {
  const found = {}, total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let there = 0;
  for (const { file, key, bytes, part } of files) {
    const packed = new Uint8Array(bytes);
    for (let at = 0, n = 0; at < bytes; n++) {
      const text = await readPart(`${HERE}${key}-${n}.js`);
      if (text.length !== Math.min(part, bytes - at)) throw Error(CUT);
      for (let i = 0; i < text.length; i++) packed[at++] = text.charCodeAt(i);
      say((there += text.length) / total);
    }
    // Unpacking compares a checksum: what comes out is what was packed.
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    found[file] = new Uint8Array(await new Response(stream).arrayBuffer());
  }
  return found;
}
