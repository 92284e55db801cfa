"""``understudy trace``: what a run did, from a file of its events or from a service, on the terminal or as a file to look at."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final, final

import attrs

from actors.errors import UsageError
from runtime.cli.blame_drawing import draw_blame
from runtime.cli.fetching import KEY_VARIABLE, fetch_events
from runtime.cli.runs import with_store
from runtime.cli.terminal import Style, plain, printable
from runtime.cli.trace_drawing import draw_trace
from runtime.cli.wrong_usage import WrongUsage
from runtime.graphs.records.history import History, history_of
from runtime.graphs.stored import unknown
from runtime.inspector.export import export_page
from runtime.journal.store import Store
from runtime.traces.blame import blame_of
from runtime.traces.chrome import chrome_trace
from runtime.traces.event_reader import of_run, read_events
from runtime.traces.steps import trace_of
from runtime.traces.trace_svg import draw_trace as draw_svg

FORMATS: Final = (".html", ".json", ".svg")


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    source: str
    """A file, or with `url` the id of a run; ``"-"`` for standard input."""
    output: str | None = None
    url: str | None = None
    key: str | None = None
    run: str | None = None
    """Which one, of a file that holds several."""
    blame: bool = False
    """Whether to show where the time and the money went."""


def run(options: Options) -> int:
    """Show or write the trace and return the exit code: 1 when there is none to be had.

    Raises:
        WrongUsage: the options contradict one another, or the output cannot be written.
    """
    if options.key is not None and options.url is None:
        raise WrongUsage("--key is for a service: give its address with --url, too")
    if options.output is not None and Path(options.output).suffix not in FORMATS:
        raise WrongUsage(f"-o {options.output}: its name must end with one of {', '.join(FORMATS)}")
    try:
        text, source = _text(options)
        events = of_run(read_events(text, source, _note), options.run, source)
    except UsageError as error:
        sys.stderr.write(printable(plain(f"understudy: {error}\n"), sys.stderr))
        return 1
    trace = trace_of(events)
    if options.output is None:
        for line in draw_trace(trace, Style.of(sys.stdout)):
            print(printable(line, sys.stdout))
        for line in draw_blame(blame_of(trace), Style.of(sys.stdout)) if options.blame else ():
            print(printable(line, sys.stdout))
        return 0
    match Path(options.output).suffix:
        case ".html":
            made = export_page(events)
        case ".json":
            made = json.dumps(chrome_trace(trace), indent=1)
        case _:
            made = draw_svg(trace)
    try:
        Path(options.output).write_text(made, encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"-o {options.output}: {error.strerror or error}") from error
    return 0


def _note(words: str) -> None:
    sys.stderr.write(printable(plain(f"understudy: {words}\n"), sys.stderr))


def capture(run: str, store: str | None, output: str | None) -> int:
    """Write a run as a case, to `output` or to standard output, and return the exit code: 1 when there is none to be had.

    `run` is the id of a run in `store`; or a file, that of an exported run or a case.

    Raises:
        WrongUsage: the options contradict one another, or the output cannot be written.
    """
    if store is None and not Path(run).is_file():
        raise WrongUsage(f"trace capture {run}: there is no such file. Fix: give the store that has the run with --store STORE")
    try:
        if store is not None:
            return with_store(store, lambda opened: _captured(opened, run, output))
        text = _decoded(Path(run).read_bytes(), run)
        if text.lstrip().startswith('{"v":'):
            raise UsageError(
                f"{run} holds the events of a run, and not what its models and tools have answered.\n"
                "  Fix: keep the run itself: understudy run … --case case.jsonl, or open_runtime(store=…)."
            )
        _write_case(History.of_export(text).case(), output)
    except UsageError as error:
        sys.stderr.write(printable(plain(f"understudy: {error}\n"), sys.stderr))
        return 1
    return 0


async def _captured(store: Store, run: str, output: str | None) -> None:
    history = await history_of(store, run)
    if history is None:
        raise unknown(run)
    _write_case(history.case(), output)


def _write_case(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(text)  # JSON in ASCII, no matter what the run holds
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"-o {output}: {error.strerror or error}") from error


def _text(options: Options) -> tuple[str, str]:
    """The lines, and what they are called in errors."""
    if options.url is not None:
        key = options.key if options.key is not None else os.environ.get(KEY_VARIABLE)
        return fetch_events(options.url, options.source, key), f"run {options.source}"
    if options.source == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input"), "standard input"
    try:
        return _decoded(Path(options.source).read_bytes(), options.source), options.source
    except OSError as error:
        known = "" if Path(options.source).suffix else " A run of a service needs --url, too."
        raise UsageError(
            f"{options.source} cannot be read: {error.strerror or error}.\n  Fix: give a file that `understudy run --record "
            f"FILE.jsonl` has written.{known}"
        ) from error


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{source}, line {line} isn't text in UTF-8.\n"
            "  Fix: give a file that `understudy run --record FILE.jsonl` has written."
        ) from error
