"""Lighthouse, mobile, on one chapter page: `make lighthouse`. Four scores; 1 if one is low.

Node.js fetches the pinned Lighthouse into _build/lighthouse once. Other work on the machine
can only lower a score (Lighthouse times the page's scripts), so the best of at most five
runs counts, and all are printed.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from serve import ROOT, served

VERSION = "12.8.2"  # the last for Node.js 20
WANTED = {"performance": 90, "accessibility": 100, "best-practices": 100, "seo": 100}
RUNS = 5
PAGE = "notebooks/block/attention.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking"


def installed() -> Path:
    """The program, fetched with npm where it is not there yet."""
    home = ROOT / "_build" / "lighthouse"
    program = home / "node_modules" / "lighthouse" / "cli" / "index.js"
    if not program.is_file():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home)]
        subprocess.run([*command, f"lighthouse@{VERSION}"], check=True)
    return program


def scores(program: Path, address: str, browser: str) -> dict[str, float]:
    report = ROOT / "_build" / "lighthouse" / "report.json"
    command = ["node", str(program), address, "--quiet", "--output=json"]
    command += [f"--output-path={report}", f"--chrome-flags={FLAGS}"]
    command += [f"--only-categories={','.join(WANTED)}"]
    subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": browser})
    result = json.loads(report.read_text("utf8"))
    for name, category in result["categories"].items():
        for part in category["auditRefs"]:
            audit = result["audits"][part["id"]]
            if part["weight"] and name != "performance" and audit["score"] == 0:
                print(f"  {name}: {audit['title']}")
    return {k: round(100 * c["score"]) for k, c in result["categories"].items()}


def main() -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [
        name
        for name, found in {
            "Node.js": shutil.which("node") and shutil.which("npm"),
            "a browser": browser,
        }.items()
        if not found
    ]
    if missing:
        print(f"lighthouse: not run, {' and '.join(missing)} missing")
        # In CI with Node.js the measurement must not go missing in silence.
        return int(os.environ.get("CI") == "true" and "Node.js" not in missing)
    folder = Path(*sys.argv[1:] or [ROOT / "_build" / "html"])
    program = installed()
    with served(folder) as site:
        runs, best = [], {}
        while len(runs) < RUNS and any(best.get(k, 0) < v for k, v in WANTED.items()):
            runs.append(scores(program, site + PAGE, browser))
            best = {name: max(run[name] for run in runs) for name in WANTED}
    for name, least in WANTED.items():
        seen = [run[name] for run in runs]
        print(f"{name:>16}  {best[name]:3}  (at least {least})  runs {seen}")
    low = sum(best[name] < least for name, least in WANTED.items())
    return int(low > 0)


if __name__ == "__main__":
    sys.exit(main())
