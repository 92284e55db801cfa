"""``understudy run FILE.py:graph``: one run of a graph, progress on standard error, the output as JSON on standard output."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, TextIO, final

import attrs
import trio

from actors.errors import DeclarationError, InternalError, UnderstudyError
from actors.graph import Graph
from runtime.app import Runtime, open_runtime
from runtime.cli import inputs
from runtime.cli.failures import describe
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graph
from runtime.cli.models import check_clients, choose_models, make_client
from runtime.cli.terminal import Progress, Style, encodes, printable
from runtime.cli.ticking import ticking
from runtime.graphs.events import NodeEvent, NodeFinished, NodeGaveUp, NodeRetrying, NodeStarted, RunFinished
from runtime.lm import schemas
from runtime.lm.client import LMClient

# JSON writes the controls below space as escapes by itself; these it does not have to, and a terminal may act on them.
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


def run(options: Options) -> int:
    """Run the graph and return the exit code.

    Raises:
        WrongUsage: the file, the graph's name, the input or a model is wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    out, progress = sys.stdout, Progress(sys.stderr, Style.of(sys.stderr), quiet=options.quiet)
    values = inputs.parse_object(inputs.read_input(options.input))
    # What the file and its nodes print must not get between the lines of the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        graph = load_graph(options.graph)
        try:
            nodes = graph.plan().nodes.values()
        except DeclarationError as error:
            return complain(error, 2)
        message = inputs.build_input(graph.input_types, values, options.input_type)
        default, named = choose_models(nodes, options.model, options.lms)
        clients = {name: make_client(model, options.api_base) for name, model in named.items()}
        client = None if default is None else make_client(default, options.api_base)
        run = _Run(graph, message, client, clients, options.timeout_s, progress)
        result = run_until_interrupted(run.main)
    progress.clear()
    if not isinstance(result, _Output):
        return result
    out.write(to_json(result.value, out) + "\n")
    return 0


@final
@attrs.frozen
class _Output:
    value: Any


@final
@attrs.frozen(eq=False)
class _Run:
    """One run, told about on standard error."""

    graph: Graph
    message: Any
    default: LMClient | None
    named: Mapping[str, LMClient]
    timeout_s: float | None
    progress: Progress
    at_work: dict[str, tuple[str, int]] = attrs.field(factory=dict[str, tuple[str, int]], init=False)
    """Path → node and attempt of what is being worked on."""

    async def main(self) -> _Output | int:
        """Run the graph to its end; its output, or the exit code when there is none."""
        await check_clients([*self.named.values(), *([self.default] if self.default is not None else [])])
        try:
            async with open_runtime(lm=self.default, lms=self.named) as runtime:
                with trio.move_on_after(math.inf if self.timeout_s is None else self.timeout_s):
                    finished = await ticking(self.progress, self._now, partial(self._follow, runtime))
                    return _Output(finished.output) if finished.error is None else self._fail(finished.error)
        except UnderstudyError as error:
            return self._fail(error)
        return self._fail(TimeoutError(f"no output within {self.timeout_s:g} s (--timeout); {self._now()}"))

    async def _follow(self, runtime: Runtime) -> RunFinished:
        """Run the graph; keep book of what is at work."""
        async with runtime.stream(self.graph, self.message) as events:
            began_s = trio.current_time()
            async for event in events:
                if isinstance(event, RunFinished):
                    return event
                if isinstance(event, NodeEvent):
                    self._note(event, event.at_s - began_s)
        raise InternalError("a run's stream ended without RunFinished.")

    def _note(self, event: NodeEvent, at_s: float) -> None:
        told = None
        match event:
            case NodeStarted():
                self.at_work[event.path] = (event.node, event.attempt)
                told = "starts" if event.attempt == 1 else f"starts again (attempt {event.attempt})"
            case NodeFinished():
                told = "finished"
            case NodeRetrying():
                told = f"failed and will be tried again: {type(event.error).__name__}: {event.error}"
            case NodeGaveUp():
                told = "gave up"
            case _:
                return
        if not isinstance(event, NodeStarted):
            self.at_work.pop(event.path, None)
        if not self.progress.is_live:
            self.progress.step(f"{at_s:8.3f} s  {event.node} {told}")

    def _now(self) -> str:
        """What is at work."""
        nodes = ", ".join(node if attempt == 1 else f"{node} (attempt {attempt})" for node, attempt in self.at_work.values())
        return f"at work: {nodes}" if nodes else "nothing is at work"

    def _fail(self, error: BaseException) -> int:
        self.progress.clear()
        return complain(error, 1)


def complain(error: BaseException, code: int) -> int:
    """Say on standard error what went wrong; `code`, for the caller to return."""
    print(printable(describe(error), sys.stderr), file=sys.stderr)
    return code


def to_json(value: Any, stream: TextIO) -> str:
    """`value` as JSON that `stream` can write and a terminal shows without acting on it."""
    text = json.dumps(schemas.dump(value), indent=2, ensure_ascii=not encodes(stream, "é…語🙂"))
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
