"""The live elements say in Firefox what they say in Chromium; skipped where it is absent.

Firefox is driven by its own protocol, Marionette: a length and JSON, over a socket.
"""

import json
import shutil
import socket
import subprocess
import time

import pytest
from test_site import SITE

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")
SECONDS = 120
# Loads each model; each then shows what it makes of its first example.
LOADED = """
  const wait = () => new Promise((resume) => setTimeout(resume, 50)), found = [];
  for (const host of document.querySelectorAll("[data-live]")) {
    host.scrollIntoView();
    while (!host.shadowRoot) await wait();
    host.shadowRoot.querySelector("button").click();
    while (host.shadowRoot.querySelector("slot")) await wait();
    found.push(`${host.dataset.live}: ${host.shadowRoot.textContent}`);
  }
  return found;"""


def in_firefox(profile, url, script):
    """What an asynchronous script returns on a page."""
    (profile / "user.js").write_text('user_pref("marionette.port", 0);', "utf8")
    command = [PROGRAM, "--headless", "--marionette", "--profile", str(profile)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as program:
        try:
            port, end = profile / "MarionetteActivePort", time.monotonic() + SECONDS
            while not (port.is_file() and port.read_text()) and time.monotonic() < end:
                time.sleep(0.1)
            address = "127.0.0.1", int(port.read_text())
            with socket.create_connection(address, 2 * SECONDS).makefile("rwb") as line:

                def read():
                    digits = iter(lambda: line.read(1), b":")
                    return json.loads(line.read(int(b"".join(digits))))

                def ask(name, **parameters):
                    text = json.dumps([0, 1, f"WebDriver:{name}", parameters]).encode()
                    line.write(b"%d:%s" % (len(text), text))
                    line.flush()
                    _, _, error, result = read()
                    assert not error, error
                    return result

                read()  # who answers
                ask("NewSession")
                ask("SetTimeouts", script=1000 * SECONDS)
                ask("Navigate", url=url)
                return ask("ExecuteScript", script=script)["value"]
        finally:
            program.terminate()


@pytest.mark.skipif(PROGRAM is None, reason="no Firefox")
def test_live_elements_say_the_same(browser, tmp_path):
    url, script = (SITE / "book" / "try.html").as_uri(), f"(async () => {{{LOADED}}})()"
    page = browser.new_page()
    page.goto(url)
    wanted = page.evaluate(script)
    page.close()
    assert in_firefox(tmp_path, url, f"return {script}") == wanted
    assert len(wanted) >= 7
