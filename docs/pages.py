"""What makes the built pages fit a phone: names that break where a reader would break them, and pictures that keep their size.

Sphinx's own pages have neither: a path in the cell of a table broke in the middle of a word, and a picture of two columns of
panels was shrunk until its words could not be read. ``tests/browser/test_documentation.py`` holds both.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODE = re.compile(r'(<span class="pre">)(?P<text>[^<]+)(?=</span>)')
NAME = re.compile(r'<span class="sig-name descname">')
BRACKET = re.compile(r'<span class="sig-paren">[(\[]</span>|<span class="p"><span class="pre">[(\[]</span></span>')
SEAM = re.compile(r"(?<=[\w)\]}])([/._=([,|:?-]+)(?=[\w*…\"'<{])|(?<=[a-z])(?=[A-Z][a-z])")
SHORTEST = 12  # characters; what is shorter fits into any column
LONG = 30  # characters; what is longer doesn't fit into a line of a phone
WIDE = 500.0  # units of a drawing, which are pixels at its natural size; a phone shows about 330
BOX = re.compile(r'viewBox="0 0 (?P<width>[\d.]+) [\d.]+"')


def broken(text: str) -> str:
    """A piece of code, as HTML, with places where its line may break: after a mark, and before a capital inside a name.

    Those of a piece that fits into a line are of the class ``cell``, which counts in cells on a phone: elsewhere it goes to the
    next line as a whole.
    """
    length = len(unescape(text))
    if length < SHORTEST:
        return text
    seam = r"\1<wbr>" if length > LONG else r'\1<wbr class="cell">'
    # An entity is one character: nothing inside it is a seam.
    return "".join(part if part.startswith("&") else SEAM.sub(seam, part) for part in re.split(r"(&[#\w]+;)", text))


def seamed(body: str) -> str:
    """The HTML of a page with those places. A signature may also break before the name and behind a bracket."""
    body = CODE.sub(lambda match: match[1] + broken(match["text"]), body)
    return BRACKET.sub(r"\g<0><wbr>", NAME.sub(r"<wbr>\g<0>", body))


def with_seams(app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object) -> None:
    """Sphinx's hook: the code inside of sentences, cells and signatures. Blocks of code scroll."""
    body = context.get("body")
    if isinstance(body, str):
        context["body"] = seamed(body)


def with_wide_pictures(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Sphinx's hook: a picture that is wider than a phone is of the class ``wide``, whose box scrolls there."""
    for image in doctree.findall(nodes.image):
        if is_wide(Path(app.srcdir) / image["uri"]):
            image["classes"].append("wide")


def is_wide(picture: Path) -> bool:
    """Whether a drawing is wider than a phone; a photograph of a screen is."""
    if picture.suffix != ".svg":
        return True
    box = BOX.search(picture.read_text(encoding="utf-8"))
    return box is not None and float(box["width"]) > WIDE


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.connect("html-page-context", with_seams)
    app.connect("doctree-resolved", with_wide_pictures)
