"""Sphinx configuration; `make docs` builds with every warning as an error."""

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `tests`, which holds the rooms
sys.path.insert(0, str(Path(__file__).parent))
import lifecycle
import pages
import rooms
import troubleshooting
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

import runtime

project = "understudy"
author = "the understudy authors"
copyright = "the understudy authors"  # noqa: A001 - the name Sphinx reads
release = version = importlib.metadata.version("understudy")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "understudy"
pygments_dark_style = "github-dark"  # furo's own underlines the names of classes
html_favicon = "../runtime/inspector/static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
copybutton_prompt_text = "$ "  # of console blocks the commands alone are copied
copybutton_line_continuation_character = "\\"
copybutton_exclude = ".linenos, .gp, .go"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]  # the first: each error is a place that `error.page` names
myst_heading_anchors = 3

# Signatures name types of other libraries, whose inventories are on the network; ours are checked.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!(actors|runtime)\.).*|actors\.typevars\..*")]
# A class is known by its front door and by the module that defines it; a short name then fits both.
suppress_warnings = ["ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 160  # a longer one, with the modules of its types, has a line for each parameter
napoleon_custom_sections = ["Source"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False

FRONT_DOORS = (
    "actors",
    "runtime",
    "runtime.lm",
    "runtime.testing",
    "actors.errors",
    "actors.message_errors",
    "actors.placement_errors",
    "actors.store_errors",
)


def in_module(name: str) -> str | None:
    """What follows the module in a dotted name ("ActorRef.tell" of "actors.actor.ActorRef.tell"); None for no such object."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return None
            found = getattr(found, part, None)
        return ".".join(parts[end:])
    return None


def by_front_door(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a name by the module that defines it to the entry of the front door that shows it.

    An internal name that is on no page stays plain text; one that does not exist is left to the nitpicker.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith(("actors.", "runtime.")):
        return None
    name = in_module(target)
    if name is None:
        return None
    domain = env.get_domain("py")
    for door in FRONT_DOORS:
        if f"{door}.{name}" in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"{door}.{name}", node, contnode)
    return contnode


def in_plain_words(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before the first colon of an attribute's docstring for its type: an empty comment."""
    if what in {"attribute", "data", "property"} and lines:
        lines[:0] = ["..", ""]


def once(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Tell what ``retryable`` means at the base of all errors, and of the others which value it has.

    A name of a type has what is written below it, and not the docstring of ``Mapping`` or of unions.
    """
    if what == "attribute" and name.endswith(".retryable") and name != "actors.errors.UnderstudyError.retryable":
        lines.clear()
    elif name in {"actors.ChatMessage", "actors.Delta"}:
        lines[:] = ModuleAnalyzer.for_module("actors.lm").find_attr_docs()["", name.removeprefix("actors.")]


def unions() -> list[tuple[re.Pattern[str], str]]:
    """How autodoc writes a union of events that has a name, and the name: it would write some forty classes."""
    found = []
    for name in ("AnyEvent", "AnyRunEvent", "AnyNodeEvent", "AnyActorEvent"):
        written = stringify_annotation(getattr(runtime, name), mode="smart")
        of_what = re.compile(r"(?<=RunFinished)\\\[.+?\\\]")  # the output of the run, which the union is of
        pattern, changes = of_what.subn(r"\\[([^\\[\\]]+)\\]", re.escape(written))
        found.append((re.compile(pattern), rf"~runtime.{name}[\1]" if changes else f"~runtime.{name}"))
    return found


def in_short(app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None) -> Any:
    """Name the unions of events; and show a default that only attrs' constructor knows as ``...``, not as the lookup it is."""

    def short(text: str | None) -> str | None:
        for written, name in UNIONS if text else ():
            text = written.sub(name, text)
        return text

    shown = re.sub(r"attr_dict\['\w+'\]\.default|NOTHING\b", "...", signature) if signature else signature
    return short(shown), short(returned)


UNIONS = unions()


def setup(app: Any) -> None:
    """Sphinx's hook."""
    for generated in (lifecycle, rooms, troubleshooting):
        generated.write(Path(__file__).parent / "_generated")
    pages.setup(app)
    app.connect("missing-reference", by_front_door)
    app.connect("autodoc-process-signature", in_short)
    app.connect("autodoc-process-docstring", in_plain_words, priority=400)  # before napoleon, which has 500
    app.connect("autodoc-process-docstring", once)
