// Files of a checkpoint, part by part, each a script that export.py wrote.

const HERE = document.currentScript?.src.replace(/[^/]*$/, "") ?? "";

const readPart = (src) => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  const end = () => {
    script.remove(); // and its text with it
    if (script.part === undefined) reject(Error("The download was cut. Nothing is lost: try again."));
    else resolve(atob(script.part));
  };
  script.onload = script.onerror = end;
  script.src = src;
  document.head.append(script);
});

// [{file, key, bytes, part}] -> their bytes, by `file`; `say(share)` hears how much is there.
async function download(files, say) {
  const found = {}, total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let there = 0;
  for (const { file, key, bytes, part } of files) {
    const whole = new Uint8Array(bytes);
    for (let at = 0, n = 0; at < bytes; n++) {
      const text = await readPart(`${HERE}${key}-${n}.js`);
      if (text.length !== Math.min(part, bytes - at)) throw Error("A part of the download is not as it was made.");
      for (let i = 0; i < text.length; i++) whole[at++] = text.charCodeAt(i);
      say((there += text.length) / total);
    }
    found[file] = whole;
  }
  return found;
}
