// What each live element starts with: the offer, the click, the progress, then what it makes.
const LIVE = `
  .live { border: 1px solid; border-color: color-mix(in srgb, currentColor 35%, transparent); border-radius: 8px; padding: 10px 12px }
  .live p { margin: 4px 0 }
  .quiet { font-size: 13px; opacity: .85 }
  .row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin: 6px 0 }
  .live button { display: inline-block; width: auto; min-width: 40px; padding: 0 12px; font: inherit }
  .live button:disabled { opacity: .5; cursor: default }
  textarea, select, input[type=text] { font: inherit; color: inherit; background: none; border: 1px solid; border-radius: 8px; padding: 8px; box-sizing: border-box }
  select { min-width: 0; max-width: 100% }
  select option { color: #000; background: #fff }
  textarea { width: 100%; resize: vertical }
  label { display: flex; align-items: center; gap: 8px; white-space: nowrap }
  label input[type=range] { width: 120px; flex: 0 1 auto }
  progress { width: 160px; accent-color: #0173b2 }
  :is(textarea, select, [tabindex]):focus-visible { outline: 2px solid; outline-offset: 2px }
  .wrong { border-left: 4px solid #d55e00; padding-left: 8px }
  .wrong:empty, .said:empty { display: none }
  .scroll { overflow-x: auto; position: relative }
  .bar { display: inline-block; height: 12px; background: #0173b2; vertical-align: middle }
  .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }`;
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const size = (bytes) => `${Math.max(0.1, bytes / 1e6).toFixed(1)} MB`;
const button = (words, act, attrs = {}) => {
  const made = html("button", { type: "button", ...attrs }, words);
  made.addEventListener("click", act);
  return made;
};
const barOf = (share) => {
  const made = html("span", { class: "bar" });
  made.style.width = `${100 * share}%`;
  return made;
};
// A slider with its name and its value in words.
function dial(name, [min, max, step, value], words, change) {
  const input = html("input", { type: "range", min, max, step, value, "aria-label": name }), told = html("output", {});
  const tell = () => (told.textContent = input.ariaValueText = words(+input.value));
  input.style.accentColor = "#0173b2";
  input.addEventListener("input", () => { tell(); change(+input.value); });
  tell();
  return html("label", {}, html("span", {}, name), input, told);
}

// The still stays in its slot until the reader asks for the model and it is there.
// `make(files, body, tell, wrong)` fills the body; it tells what is read aloud, and what is wrong.
function offer(style, make) {
  mount(LIVE + style, data.name, (host, root) => {
    const total = data.files.reduce((sum, { bytes }) => sum + bytes, 0);
    const body = html("div", {}), wrong = html("p", { class: "wrong", role: "alert" });
    const said = html("p", { class: "hidden", role: "status" });
    const bar = html("progress", { max: 1, value: 0, "aria-label": "Loading", hidden: "" });
    const ask = button(`${data.ask ?? "Load the model"}: ${size(total)}`, async () => {
      if (ask.disabled) return; // two clicks at once
      ask.disabled = true;
      bar.hidden = false;
      wrong.textContent = "";
      try {
        const files = await download(data.files, (share) => (bar.value = share));
        if (!host.isConnected) return;
        await make(files, body, (text) => (said.textContent = text), (text) => (wrong.textContent = text ?? ""));
        still.remove();
        row.remove();
        body.querySelector("textarea, select, button, input")?.focus({ preventScroll: true });
      } catch (error) {
        wrong.textContent = error.message;
        ask.disabled = false;
        bar.hidden = true;
      }
    });
    const row = html("div", { class: "row" }, ask, bar, html("span", { class: "quiet" }, "It runs in your browser; nothing you type leaves it."));
    const still = html("slot", {});
    root.append(html("div", { class: "live" }, still, row, body, wrong, said, html("p", { class: "quiet" }, data.credit)));
  });
}
