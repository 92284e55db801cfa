"""Every page of the documentation in Chromium, light and dark, on a desk and on a phone: the faults that a program can see.

It looks at what ``make docs`` has built; ``make browser`` builds it first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="installed by `make browser`")
pytestmark = pytest.mark.browser
BUILT = Path(__file__).resolve().parents[2] / "docs" / "_build" / "html"
PAGES = sorted(str(page.relative_to(BUILT)) for page in BUILT.rglob("*.html"))
PHONE, DESK = 360, 1280  # pixels

LOOK = """() => {
  const screen = document.documentElement.clientWidth;
  const found = [];
  const named = (element) => (element.innerText || element.src || element.tagName).trim().slice(0, 60);
  const tell = (fault, element) => found.push(`${fault}: ${named(element)}`);
  const article = document.querySelector("article, [role=main]");

  // What sticks out can be reached: some box around it scrolls.
  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX);
  if (document.documentElement.scrollWidth > screen) tell("the page is wider than the screen", document.body);
  for (const element of article.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (!box.width || box.right <= screen + 1) continue;
    let around = element.parentElement;
    while (around !== null && around !== article && !scrolls(around)) around = around.parentElement;
    if (around === null || around === article) tell("sticks out of the screen", element);
  }
  for (const table of article.querySelectorAll(".table-wrapper")) {
    if (table.scrollWidth > 2.2 * table.clientWidth) tell("a table of more than two screens", table);
  }

  // A name breaks after a mark, or before a capital.
  const range = document.createRange();
  for (const piece of article.querySelectorAll("td code .pre, th code .pre, .sig .pre, .sig-prename")) {
    const node = piece.firstChild;
    if (node === null || piece.getClientRects().length < 2) continue;
    const walk = document.createTreeWalker(piece, NodeFilter.SHOW_TEXT);
    let before = null;
    while (walk.nextNode()) {
      for (let index = 0; index < walk.currentNode.length; index += 1) {
        range.setStart(walk.currentNode, index);
        range.setEnd(walk.currentNode, index + 1);
        const at = { letter: walk.currentNode.data[index], top: range.getBoundingClientRect().bottom };
        const breaks = before !== null && at.top > before.top + 4 && /\\w/.test(at.letter) && /[a-zA-Z0-9]/.test(before.letter);
        if (breaks && !(/[a-z]/.test(before.letter) && /[A-Z]/.test(at.letter))) tell("a name is broken inside a word", piece);
        before = at;
      }
    }
  }

  for (const image of article.querySelectorAll("img")) {
    if (getComputedStyle(image).display !== "none" && image.naturalWidth === 0) tell("a picture that isn't there", image);
  }
  return [...new Set(found)];
}"""
FAINT = """() => {
  const light = ([r, g, b]) => {
    const part = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const numbers = (colour) => { const all = colour.match(/[\\d.]+/g).map(Number); return all.length < 4 ? [...all, 1] : all; };
  const found = new Set();
  const walk = document.createTreeWalker(document.querySelector("article, [role=main]"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest("script, style, svg, .headerlink")) continue;
    const paint = (each) => numbers(getComputedStyle(each).backgroundColor);
    let behind = element;
    while (behind !== document.documentElement && paint(behind)[3] < 0.9) behind = behind.parentElement;
    const paper = paint(behind);
    const back = paper[3] < 0.9 ? [255, 255, 255] : paper;
    const ink = numbers(getComputedStyle(element).color);
    const seen = [0, 1, 2].map((part) => ink[part] * ink[3] + back[part] * (1 - ink[3]));
    const [dark, bright] = [light(seen), light(back)].sort((a, b) => a - b);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) found.add(`${element.tagName}.${element.className} ${ink} on ${back.slice(0, 3)}`);
  }
  return [...found];
}"""
DRAWN = """() => [...document.querySelectorAll("article img[src$='.svg']")]
  .filter((image) => image.clientWidth).map((image) => [image.src.split("/").pop(), image.clientWidth])"""
SMALLEST = 7.5  # pixels, of a letter in a drawing


def letters(picture: Path) -> float:
    """The size of the smallest letters of a drawing, as a part of its width."""
    text = picture.read_text(encoding="utf-8")
    box = re.search(r'viewBox="0 0 ([\d.]+) ', text)
    assert box is not None, f"{picture.name} has no viewBox"
    return min(map(float, re.findall(r'font-size="([\d.]+)"', text))) / float(box[1])


@pytest.fixture(scope="module")
def screens() -> Iterator[dict[int, Any]]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        opened = {width: browser.new_page(viewport={"width": width, "height": 800}) for width in (PHONE, DESK)}
        for page in opened.values():
            page.set_default_timeout(60_000)  # milliseconds: a long page on a busy machine
        yield opened
        browser.close()


def test_the_pages_are_built() -> None:
    assert PAGES, "Fix: make docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_both_screens_and_is_seen_in_both_lights(screens: dict[int, Any], name: str) -> None:
    for width, page in screens.items():
        page.emulate_media(color_scheme="light")
        page.goto((BUILT / name).as_uri())

        assert page.evaluate(LOOK) == [], f"{width} pixels"
        for picture, shown in page.evaluate(DRAWN):
            size = letters(BUILT / "_images" / picture) * shown
            assert size >= SMALLEST, f"the letters of {picture} have {size:.1f} pixels on a screen of {width}"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(FAINT) == [], scheme
