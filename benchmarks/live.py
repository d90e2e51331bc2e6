"""make bench PART=live: how fast the models run in a browser. Printed, nowhere recorded.

Processor time of the page's process in headless Chromium, one core, the median of some
runs: a wall clock says little on a machine that does other things as well. A pass can
rest after each of its steps; the longest step is told by the clock, each step at its
fastest of all runs.
"""

import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from lib import weights
from lib.live import export, fill, picture, pieces, publish, translate, write

RUNS = 5
FILES = {
    "lm": write.FILES[0],
    "net": translate.FILES[0],
    "pieces": translate.FILES[1],
    "masked": fill.FILES[0],
    "vit": picture.FILES[0],
    "news": pieces.FILES[1],
}
# Each makes a function of no arguments: one run, which returns how much was done.
TASKS = {
    "language model, tokens": """() => {
      const model = languageModel(finish(tensors(files.lm)), { num_heads: 4, limit: 128 });
      return () => {
        const state = model.start();
        for (let id = 1, n = 0; n < 128; n++) id = likeliest(finish(model.read([id], state)).logits);
        return 128;
      };
    }""",
    "translation, sentences": """() => {
      const net = encoderDecoder(finish(tensors(files.net)), { num_heads: 4, limit: 128 });
      const cut = tokenizer(files.pieces), BOS = cut.ids.get("<s>"), EOS = cut.ids.get("</s>");
      const source = [...cut.encode("A woman is reading a book in the park.").map((p) => p.id), EOS];
      return () => {
        const memory = finish(net.encode(source)), same = (state) => state;
        const next = (beam) => net.decode(beam.ids.slice(beam.state.past), memory, beam.state);
        finish(beamSearch(next, same, net.start(), BOS, { beams: 1, room: 30, end: EOS }));
        return 1;
      };
    }""",
    "images": """() => {
      const model = visionTransformer(finish(tensors(files.vit)), { num_heads: 3, strides: [1, 2, 1, 2] });
      const image = Float32Array.from({ length: 3072 }, (_, i) => Math.sin(i));
      return () => { finish(model(image, 32)); return 1; };
    }""",
    "gaps, sentences of 32 + 32 tokens": """() => {
      const model = maskedModel(finish(tensors(files.masked)), config);
      const ids = Array.from({ length: 64 }, (_, i) => 3 + 7 * i);
      return () => { finish(model(ids, [40])); return 1; };
    }""",
    "pieces, thousand characters": """() => {
      const cut = tokenizer(files.news), text_ = "そのソフトウェアは多くのユーザーから賛同を得ている。".repeat(40).slice(0, 1000);
      return () => { cut.encode(text_); return 1; };
    }""",
}
# In the place of `finish`: a pass, whose steps are timed. The n-th step of a run does the
# same work each time, so what is more than its shortest time is the machine's.
TIMED = """() => {
  const once = run;
  let n, steps = [];
  run = () => { n = 0; return once(); };
  finish = (pass) => {
    for (;;) {
      const start = performance.now(), step = pass.next();
      steps[n] = Math.min(steps[n++] ?? Infinity, performance.now() - start);
      if (step.done) return step.value;
    }
  };
  window.longest = () => Math.max(0, ...steps);
}"""


def main() -> None:
    names = "chromium", "chromium-browser", "google-chrome"
    program = next(filter(None, map(shutil.which, names)))
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place)
        for file in FILES.values():
            export.write(folder, *file)
        tags = ""
        for name in publish.ENGINE:
            shutil.copy(publish.HERE / f"{name}.js", folder)
            tags += f'<script src="{name}.js"></script>'
        (folder / "index.html").write_text(f'<meta charset="utf-8">{tags}', "utf8")
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto((folder / "index.html").as_uri())
        page.evaluate(
            "(c) => { window.files = {}; window.config = c; }",
            weights.card("hybrid")["config"]["model"],
        )
        for key, file in FILES.items():
            page.evaluate(
                "async ([k, f]) => { files[k] = (await download([f], () => {}))[f.file]; }",
                [key, export.listed(*file)],
            )
        cdp = browser.new_browser_cdp_session()

        def spent() -> float:  # seconds of the renderers
            found = cdp.send("SystemInfo.getProcessInfo")["processInfo"]
            return sum(one["cpuTime"] for one in found if one["type"] == "renderer")

        for name, task in TASKS.items():
            page.evaluate(f"window.run = ({task})()")
            page.evaluate("run(), run(), 0")  # compiled by now
            page.evaluate(TIMED)
            rates = []
            for _ in range(RUNS):
                start = spent()
                done = page.evaluate(
                    "() => { let done = 0; for (let n = 0; n < 10; n++) done += run(); return done; }"
                )
                rates.append((spent() - start) / done)
            each = statistics.median(rates)
            said = f"{name:36} {1 / each:9,.0f} a second {1000 * each:9.2f} ms each"
            if longest := page.evaluate("longest()"):
                said += f", longest step {longest:.0f} ms"
            print(said)
        browser.close()


if __name__ == "__main__":
    main()
