"""``understudy graph``: looks at a graph without running it. Nothing here needs a key, a network or a browser."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import final

import attrs

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.words import counted
from runtime.cli.loading import load_graph
from runtime.cli.terminal import printable
from runtime.cli.wrong_usage import WrongUsage
from runtime.draw.svg import draw_svg

ACTIONS = ("show", "check", "describe", "export")
SUFFIXES = (".svg", ".png", ".mmd", ".md")


@final
@attrs.frozen
class Options:
    """What was asked for."""

    action: str
    """One of ``ACTIONS``."""
    graph: str
    output: str | None = None
    """Where ``export`` writes to."""


def run(options: Options) -> int:
    """Do it and return the exit code: 1 when ``check`` finds problems.

    Raises:
        WrongUsage: there is no such graph, or the file cannot be written.
    """
    # What the file prints must not get into the text that is asked for.
    with contextlib.redirect_stdout(sys.stderr):
        graph = load_graph(options.graph)
    if options.action == "check":
        return _check(graph)
    if options.action == "export":
        return _export(graph, options.output)
    text = graph.mermaid() if options.action == "show" else _page(graph).rstrip("\n")
    print(printable(text, sys.stdout))
    return 0


def _check(graph: Graph) -> int:
    problems = graph.check()
    if not problems:
        plan = graph.plan()
        print(f"graph {graph.name!r} has no problems: {counted(len(plan.nodes), 'node')}, {counted(len(plan.edges), 'edge')}")
        for hint in graph.hints():
            print(printable(f"  hint: {hint}", sys.stdout))
        return 0
    print(f"graph {graph.name!r} has {counted(len(problems), 'problem')}:")
    for index, problem in enumerate(problems, start=1):
        print(printable(f"  {index}. {problem}", sys.stdout))
    return 1


def _export(graph: Graph, output: str | None) -> int:
    if output is None:
        raise WrongUsage("graph export: name the output file with -o FILE.svg")
    file = Path(output)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        listed = f"{', '.join(SUFFIXES[:-1])} (Mermaid) or {SUFFIXES[-1]} (the design page)"
        raise WrongUsage(f"-o {output}: expected a name that ends in {listed}")
    contents = _contents(graph, suffix)
    try:
        file.write_bytes(contents)
    except OSError as error:
        fix = "Fix: name a file in a folder that exists and that you may write to"
        raise WrongUsage(f"-o {output}: cannot be written: {error.strerror}. {fix}") from error
    print(printable(f"wrote {output}", sys.stdout))
    return 0


def _contents(graph: Graph, suffix: str) -> bytes:
    if suffix == ".png":
        try:
            from runtime.draw.png import draw_png  # noqa: PLC0415 - an extra installs what it needs
        except ImportError as error:
            fix = "pip install 'understudy[pictures]', or write a .svg, which needs nothing"
            raise WrongUsage(f"a PNG needs Pillow, which is not installed. Fix: {fix}") from error
        return draw_png(graph.sketch())
    if suffix == ".svg":
        return draw_svg(graph.sketch()).encode()
    return (f"{graph.mermaid()}\n" if suffix == ".mmd" else graph.describe()).encode()


def _page(graph: Graph) -> str:
    """The design page, with the prompts as DSPy writes them."""
    from runtime.cli.shown_prompts import prompts_page  # noqa: PLC0415 - it loads what fills nodes, and no other action needs that

    page = graph.describe()
    try:
        prompts = prompts_page(graph.plan())
    except DeclarationError:  # the page lists the problems
        return page
    return f"{page}\n{prompts}" if prompts else page
