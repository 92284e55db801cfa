"""``understudy run FILE.py:graph``: one run of a graph, progress on standard error, the output as JSON on standard output."""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO, final

import attrs
import trio

from actors.errors import DeclarationError, InternalError, RunFailed, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from runtime.app import Runtime, open_runtime
from runtime.cli import inputs
from runtime.cli.board import Board
from runtime.cli.failed_run import describe, describe_whole
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graph
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.terminal import ProgressLine, Style, encodes, plain, printable
from runtime.cli.ticking import View, ticking
from runtime.cli.wrong_usage import WrongUsage
from runtime.graphs.records.run_events import LMAsked, LMCalled, RunFinished
from runtime.journal.memory import MemoryStore
from runtime.lm.client import LMClient
from runtime.lm.predictors.loaded_predictors import Predictors
from runtime.messages import schemas
from runtime.traces.event_file import EventFile

# JSON writes the controls below space as escapes on its own; these it does not have to, and a terminal may act on them.
_TO_ESCAPE = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    graph: str
    input: str = "{}"
    input_type: str | None = None
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    timeout_s: float | None = None
    quiet: bool = False
    watch: bool = False
    predictors: str | None = None
    traceback: bool = False
    show_prompts: bool = False
    record: str | None = None
    """The file to which the run's events are written."""
    case: str | None = None
    """The file to which the run is written as a case."""


def run(options: Options) -> int:
    """Run the graph and return the exit code.

    Raises:
        WrongUsage: the file, the graph's name, the input or a model is wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    if options.watch and options.quiet:
        raise WrongUsage("--watch shows progress and -q leaves it out: give one of them")
    if options.watch and options.show_prompts:
        raise WrongUsage("--watch draws over the lines in which --show-prompts writes: give one of them")
    out, err = sys.stdout, sys.stderr
    style = Style.of(err)
    values = inputs.parse_object(inputs.read_input(options.input))
    # What the file and its nodes print must not get between the lines of the JSON.
    with contextlib.redirect_stdout(err):
        graph = load_graph(options.graph)
        try:
            nodes = graph.plan().nodes
            if options.predictors is not None:
                Predictors(options.predictors)  # read once for its mistakes, before anything runs
        except DeclarationError as error:
            return complain(error, 2, whole=options.traceback)
        message = inputs.build_input(graph.input_types, values, options.input_type)
        client, clients = make_clients([graph], options.model, options.lms, options.api_base)
        board = Board(graph.name, nodes)
        progress = ProgressLine(err, style, quiet=options.quiet)
        view = _view(board, err, style) if options.watch and style.live else progress
        run = _Run(
            graph,
            message,
            client,
            clients,
            options.timeout_s,
            board,
            progress,
            view,
            tells_calls=options.watch,
            predictors=options.predictors,
            whole=options.traceback,
            shows_prompts=options.show_prompts,
            record=None if options.record is None else _record(options.record),
            case=None if options.case is None else _writable("--case", options.case),
        )
        with run.record or contextlib.nullcontext():
            result = run_until_interrupted(run.main)
    if not isinstance(result, _Output):
        return result
    if not options.quiet:
        err.write(printable(plain(result.picks), err))
    out.write(to_json(result.value, out) + "\n")
    return 0


_ROOM: Final = "make room, or write it elsewhere, and run it again."


@final
@attrs.frozen
class _Output:
    value: Any
    picks: str = ""
    """What there is to say of trained predictors, for standard error."""


@final
@attrs.frozen(eq=False)
class _Run:
    """One run, told about on standard error."""

    graph: Graph
    message: Any
    default: LMClient | None
    named: Mapping[str, LMClient]
    timeout_s: float | None
    board: Board
    preparing: ProgressLine
    view: View
    tells_calls: bool = False
    """Whether each call to a language model gets a line, too, where there is a line for every step."""
    predictors: str | None = None
    """The folder of the trained predictors."""
    whole: bool = False
    """Whether an error is told with its traceback."""
    shows_prompts: bool = False
    """Whether what language models are asked is written to standard error."""
    record: EventFile | None = None
    """Where the run's events are written."""
    case: Path | None = None
    """Where it is written as a case."""

    async def main(self) -> _Output | int:
        """Run the graph to its end; its output, or the exit code when there is none."""
        with self.preparing.showing():
            self.preparing.update("getting ready")  # a library that takes seconds to load is loaded here
            await check_clients([*self.named.values(), *([self.default] if self.default is not None else [])])
        try:
            async with open_runtime(
                lm=self.default,
                lms=self.named,
                predictors=self.predictors,
                show_prompts=self.shows_prompts,
                instruments=[] if self.record is None else [self.record],
                store=None if self.case is None else MemoryStore(),
            ) as runtime:
                with trio.move_on_after(math.inf if self.timeout_s is None else self.timeout_s):
                    try:
                        finished = await ticking(self.view, self.board.now, partial(self._follow, runtime))
                    finally:
                        await self._keep(runtime)
                    picks = self._picks(runtime)
                    return _Output(finished.output, picks) if finished.error is None else self._complain(finished.error, 1)
        except DeclarationError as error:  # a predictor that its node does not fit any more
            return self._complain(error, 2)
        except UnderstudyError as error:
            return self._complain(error, 1)
        return complain(TimeoutError(f"no output within {self.timeout_s:g} s (--timeout); {self.board.now()}"), 1)

    async def _keep(self, runtime: Runtime) -> None:
        """Write the run as a case, however it has ended; a disk that does not take it costs the case, and not the output."""
        if self.case is None:
            return
        with trio.CancelScope(shield=True):
            page = await runtime.stored(self.graph)
            for stored in page.items:
                case = (await runtime.history(stored.id)).case()
                try:
                    await trio.Path(self.case).write_text(case, encoding="utf-8")
                except OSError as error:
                    self._complain(UsageError(f"--case {self.case} is not whole: {error.strerror or error}.\n  Fix: {_ROOM}"), 1)

    def _complain(self, error: BaseException, code: int) -> int:
        return complain(error, code, whole=self.whole)

    def _picks(self, runtime: Runtime) -> str:
        """How often the nodes had a trained predictor, and how often none."""
        if self.predictors is None:
            return ""
        counts = runtime.predictor_statistics()
        unknown = f"; no node's: {', '.join(counts.unknown_files)}" if counts.unknown_files else ""
        return f"predictors: {counts.optimized} trained, {counts.naive} without{unknown}\n"

    async def _follow(self, runtime: Runtime) -> RunFinished:
        """Run the graph; keep the board."""
        run_id = None if self.case is None else f"{self.graph.name}-{secrets.token_hex(8)}"  # one with an id is stored
        async with runtime.stream(self.graph, self.message, run_id=run_id) as events:
            began_s = trio.current_time()
            async for event in events:
                if isinstance(event, LMAsked):
                    print(printable(_prompt(event), sys.stderr), file=sys.stderr)
                words = self.board.note(event)
                if words and not self.view.is_live and (self.tells_calls or not isinstance(event, LMCalled)):
                    self.view.step(f"{event.at_s - began_s:8.3f} s  {words}")
                if isinstance(event, RunFinished):
                    return event
        raise InternalError("a run's stream ended without RunFinished.")


def _prompt(event: LMAsked) -> str:
    """The prompt in lines, each message under its role."""
    head = f"--- {event.node} ({event.path}, attempt {event.attempt}) asks {event.model}"
    messages = (f"[{message.role}]\n{message.text}" for message in event.prompt)
    return plain("\n".join([head, *messages, "---"]))


def _record(path: str) -> EventFile:
    try:
        return EventFile(path)
    except OSError as error:
        raise WrongUsage(f"--record {path}: {error.strerror or error}") from error


def _writable(option: str, path: str) -> Path:
    try:
        Path(path).open("w").close()
    except OSError as error:
        raise WrongUsage(f"{option} {path}: {error.strerror or error}") from error
    return Path(path)


def _view(board: Board, stream: TextIO, style: Style) -> View:
    try:
        from runtime.cli.live_view import LiveView  # noqa: PLC0415 - an extra installs what it needs
    except ImportError as error:
        raise WrongUsage("--watch needs rich, which is not installed. Fix: pip install 'understudy[watch]'") from error
    return LiveView(board, stream, style)


def complain(error: BaseException, code: int, *, whole: bool | None = None) -> int:
    """Report on standard error what went wrong; `code`, for the caller to return.

    `whole`: True shows the traceback, False tells of ``--traceback``, None is for a command that has no such option.
    """
    text = f"{describe_whole(error)}{describe(error)}" if whole else describe(error)
    more = "\n  --traceback shows where each error was raised" if whole is False and isinstance(error, RunFailed) else ""
    print(printable(text + more, sys.stderr), file=sys.stderr)
    return code


def to_json(value: Any, stream: TextIO) -> str:
    """`value` as JSON that `stream` can write and a terminal shows without acting on it.

    Bytes are in base64, as ``--input`` reads them.
    """
    text = json.dumps(schemas.dump(value, base64_bytes=True), indent=2, ensure_ascii=not encodes(stream, "é…語🙂"))
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
