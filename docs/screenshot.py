"""Writes ``_static/inspector.png`` and its dark twin.

With what `make browser` installs: ``.venv-browser/bin/python -m docs.screenshot``.
"""

import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "_static"
TARGETS = {"light": "inspector.png", "dark": "inspector-dark.png"}


def main() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.browser.faulty", str(port), "5", "0.5", "plain"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 520})
        page.goto(f"http://127.0.0.1:{port}/inspector/#/actors/crashing")
        page.locator("aside .feed li").nth(2).wait_for()
        for scheme, name in TARGETS.items():
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=FOLDER / name)
        browser.close()
    process.kill()


if __name__ == "__main__":
    main()
