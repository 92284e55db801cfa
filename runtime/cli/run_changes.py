"""``understudy runs resume|fork|answer|send``: what a person decides about a stored run. Needs the graph of the run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TextIO, cast, final

import attrs
import outcome
import trio

from actors.errors import DeclarationError, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.store_errors import AlreadyAnswered, RunChanged, StepUncertain, UnknownRun
from runtime.app import Runtime, open_runtime
from runtime.cli import inputs
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graph
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.run import complain, to_json
from runtime.cli.runs import out, with_store
from runtime.cli.terminal import one_line, plain, printable
from runtime.cli.wrong_usage import WrongUsage
from runtime.graphs.handle import RunHandle
from runtime.graphs.nodes.approvals import forms_of
from runtime.graphs.posting import checked_key, open_question, post_answer, post_signal, question_of, read_signal
from runtime.graphs.records.run_record import RunStatus
from runtime.graphs.records.stored_answers import read_one_of, remember
from runtime.graphs.stored import unknown
from runtime.journal.store import Store
from runtime.lm.client import LMClient
from runtime.messages import json_text
from runtime.messages.problems import MessageInvalid, lines_of

ACTIONS: Final = ("resume", "fork", "answer", "send")
LOOK_S: Final = 0.1
"""How often a run that goes on is looked at, whether it waits for people."""


@final
@attrs.frozen
class Options:
    """What was asked for."""

    action: str
    """One of ``ACTIONS``."""
    store: str
    run: str
    """The run's id; of an answer, the question's."""
    graph: str
    value: str = ""
    """An answer or a signal, as JSON."""
    by: str | None = None
    key: str | None = None
    adopt: bool = False
    uncertain: Sequence[tuple[str, str]] = ()
    """Paths, each with what its step made, or ``repeat``."""
    max_steps: int | None = None
    before: str | None = None
    edit: Sequence[tuple[str, str]] = ()
    """Paths, each with what its step is to have made."""
    new_id: str | None = None
    elsewhere: bool = False
    """Whether other workers go on with the run."""
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None


def run(options: Options) -> int:
    """Do it and return the exit code: 1 when the store or the run could not do it.

    Raises:
        WrongUsage: the store, the graph, a path or a value cannot be meant. KeyboardInterrupt: Ctrl-C.
    """
    with contextlib.redirect_stdout(sys.stderr):  # what the file of the graph prints isn't an output of the command
        graph = load_graph(options.graph)
        try:
            graph.plan()
        except DeclarationError as error:
            return complain(error, 2)
    if options.action in ("answer", "send"):
        post = _answer if options.action == "answer" else _send
        return _told(lambda: with_store(options.store, lambda store: post(store, options, graph)))
    return _told(partial(_go_on, options, graph))


def _told(work: Callable[[], int]) -> int:
    """Do `work`; what is wrong with what was asked for is a mistake of the command line, what only happened to be so isn't."""
    try:
        return work()
    except MessageInvalid as error:
        raise WrongUsage("; ".join(lines_of(error.problems))) from error
    except (AlreadyAnswered, UnknownRun) as error:
        return complain(error, 1)
    except UsageError as error:
        raise WrongUsage(str(error)) from error


# --- what is posted ---------------------------------------------------------------------------------------------------------


async def _answer(store: Store, options: Options, graph: Graph) -> None:
    remember(*_messages_of(graph))
    question = question_of(await open_question(store, options.run))
    await post_answer(store, question, _json(options.value, "the answer"), options.by)
    out(f"question {question.id} is answered; run {question.run_id} goes on where it is, or when a worker takes it up")


async def _send(store: Store, options: Options, graph: Graph) -> None:
    key = checked_key(options.key)
    found = await store.run(options.run)
    if found is None:
        raise unknown(options.run)
    signal = read_signal(graph.name, graph.plan().signal_types, _json(options.value, "the signal"))
    is_new = await post_signal(store, found, signal, key) is not None
    out(f"run {found.id} has it" if is_new else f"run {found.id} had a signal with the key {key} before: nothing was sent")


# --- what goes on -----------------------------------------------------------------------------------------------------------


def _go_on(options: Options, graph: Graph) -> int:
    if not options.store:
        raise WrongUsage("--store is empty")
    client, clients = make_clients([graph], options.model, options.lms, options.api_base)
    uncertain = {path: _decision(graph, path, text) for path, text in options.uncertain}
    edited = {path: _message_at(graph, path, text, "--edit") for path, text in options.edit}

    async def begin(runtime: Runtime) -> RunHandle[Any]:
        here = not options.elsewhere
        if options.action == "fork":
            return await runtime.fork(options.run, before=options.before, edit=edited, run_id_new=options.new_id, here=here)
        return await runtime.resume(options.run, adopt=options.adopt, uncertain=uncertain, max_steps=options.max_steps, here=here)

    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what its nodes print, too
        code, lines = run_until_interrupted(partial(_main, options, graph, client, clients, begin, stdout))
    for line in lines:
        print(printable(line, stdout))
    return code


async def _main(
    options: Options,
    graph: Graph,
    client: LMClient | None,
    clients: Mapping[str, LMClient],
    begin: Callable[[Runtime], Awaitable[RunHandle[Any]]],
    stdout: TextIO,
) -> tuple[int, Sequence[str]]:
    """The exit code, and what to print."""
    await check_clients([*clients.values(), *([client] if client is not None else [])])
    try:
        async with open_runtime(store=options.store, graphs=[graph], lm=client, lms=clients, take_up=False) as runtime:
            handle = await begin(runtime)
            if options.elsewhere:
                return 0, [plain(f"run {handle.id} is left to a worker that has deployed graph {handle.graph}")]
            if options.action == "fork":
                _say(f"run {handle.id} is a fork of {options.run}")
            return 0, await _followed(handle, stdout)
    except UsageError:
        raise
    except UnderstudyError as error:
        code = complain(error, 1)
        if isinstance(error, StepUncertain):
            _say(f"  understudy runs resume … --uncertain '{error.path}=repeat', or ={{…}} with what it returned")
        elif isinstance(error, RunChanged) and not options.adopt:
            _say("  understudy runs resume … --adopt goes on with what still fits")
        return code, []


async def _followed(handle: RunHandle[Any], stdout: TextIO) -> Sequence[str]:
    """Wait until the run is over, or waits for people and is left to anyone who comes next."""
    ended: list[outcome.Outcome[Any]] = []
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            ended.append(await outcome.acapture(handle.result))
            nursery.cancel_scope.cancel()

        async def look() -> None:
            while True:
                await trio.sleep(LOOK_S)
                if handle.status is RunStatus.WAITING:
                    nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        nursery.start_soon(look)
    if ended and not (isinstance(ended[0], outcome.Error) and isinstance(ended[0].error, trio.Cancelled)):
        return [to_json(ended[0].unwrap(), stdout)]
    lines = [f"run {handle.id} waits" + (":" if handle.questions else " for a signal")]
    for question in handle.questions:
        kinds = ", ".join(kind.__name__ for kind in question.answers)
        lines.append(f"asks {question.to or 'anybody'}: {question.id} at {question.path}, answers {kinds}")
    return [one_line(line) for line in lines]


def _say(text: str) -> None:
    print(printable(plain(text), sys.stderr), file=sys.stderr)


# --- what was written on the command line -------------------------------------------------------------------------------------


def _json(text: str, what: str) -> Any:
    try:
        return json_text.parse(inputs.read_input(text), max_bytes=inputs.MAX_BYTES)
    except MessageInvalid as error:
        told = "; ".join(lines_of(error.problems))
        raise WrongUsage(
            f"""{what} is not JSON: {told}. Fix: write it in single quotes, such as '{{"text": "…"}}', or name a file: @FILE"""
        ) from error


def _decision(graph: Graph, path: str, text: str) -> Any:
    """What became of a step that was cut short, or of a call of a tool, whose result is a text."""
    if text == "repeat":
        return text
    if "/tool/" in path:
        return inputs.read_input(text)
    return _message_at(graph, path, text, "--uncertain")


def _message_at(graph: Graph, path: str, text: str, option: str) -> Any:
    """What the step of `path` made, as `text` has it in JSON."""
    spec = _node_at(graph, path)
    if spec is None:
        raise WrongUsage(
            f"{option} {path}: graph {graph.name!r} has no node at that path. Fix: `understudy runs show` has them all"
        )
    return _made(spec, _json(text, f"{option} {path}"), f"{option} {path}")


def _made(spec: NodeSpec, value: object, what: str) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_made(spec, each, what) for each in cast("list[object]", value)]
    names = ", ".join(kind.__name__ for kind in spec.outputs) or "nothing"
    if not isinstance(value, dict):
        raise WrongUsage(f"{what}: node {spec.name!r} makes {names}. Fix: give an object with the fields of one of them")
    try:
        return read_one_of(spec.outputs, cast("dict[str, Any]", value))
    except MessageInvalid as error:
        raise WrongUsage(f"{what}: node {spec.name!r} makes {names}; {'; '.join(lines_of(error.problems))}") from error


def _node_at(graph: Graph, path: str) -> NodeSpec | None:
    """The node whose step has that path, in the graph or in one inside it."""
    parts = path.partition("#")[0].split("/")
    if len(parts) < 2:
        return None
    name, todo = parts[-2].partition("@")[0], [graph]
    while todo:
        nodes = todo.pop(0).plan().nodes
        if name in nodes:
            return nodes[name]
        todo += [spec.embedded for spec in nodes.values() if spec.kind is Kind.GRAPH]
    return None


def _messages_of(graph: Graph) -> set[type]:
    """What the nodes of a graph make and their tools ask for, nested ones among them: answers are of these types."""
    found: set[type] = set()
    for spec in graph.plan().nodes.values():
        found.update(spec.outputs, forms_of(spec))
        if spec.kind is Kind.GRAPH:
            found |= _messages_of(spec.embedded)
    return found
