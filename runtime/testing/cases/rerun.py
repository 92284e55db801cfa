"""A recorded run, run again in the graph as it is now: its input, answers, results of tools and faults, in virtual time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs
import trio

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import Kind
from actors.lm import LM
from runtime.app import Runtime, open_runtime
from runtime.graphs.adopting import codec_of, effective
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.history import History
from runtime.graphs.records.journaling import details_of
from runtime.graphs.records.questions import question_id
from runtime.graphs.records.rehearsing import REHEARSAL
from runtime.graphs.records.resuming import check, read_input
from runtime.graphs.records.run_events import QuestionAsked
from runtime.graphs.records.stored_answers import ANSWERED, codec_for, read_answer
from runtime.graphs.runs.terms import terms_of
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import StoredStatus
from runtime.messages.codec import MessageCodec
from runtime.testing.cases.absent import AbsentLM
from runtime.testing.cases.recorded_world import Recorded, models_of

AFTER_THE_END_S: Final = 3_600.0
"""How long after the recorded end, in virtual time, the run may still go on."""


@final
@attrs.frozen
class Rerun:
    """What became of a recorded run when it was run again."""

    output: Any
    error: BaseException | None
    history: History
    diverged: tuple[str, ...]
    """What it asked for that isn't in the record."""


async def rerun(
    case: History,
    graph: Graph[Any, Any],
    *,
    lm: str | LM | None = None,
    lms: Mapping[str, str | LM] | None = None,
    taken: Collection[str] = (),
    chance: random.Random | None = None,
    opened: Any = open_runtime,
    **options: Any,
) -> Rerun:
    """Run `case` again in `graph`; no model is asked, no tool is called, and no person.

    Args:
        case: the recorded run.
        graph: its graph, as it is now.
        lm: what stands for its default model: its name decides what is in the record. None: the model that is recorded.
        lms: the same for named ones.
        taken: nodes that do not run: what they made is taken from the record, too.
        chance: None runs it as it was; otherwise answers come sooner or later by chance.
        opened: what opens the runtime.
        options: of ``open_runtime``: ``predictors``, ``budget``, ``supervision`` and ``seed``.

    Raises:
        UsageError: `case` is of another graph, or `taken` names none of its nodes. StoreDamaged: its records are not whole.
    """
    check_case(case, graph, taken)
    records = effective(case.records)[0]
    recorded = Recorded(case, taken, chance)
    named = _models(case, graph)
    store = MemoryStore(begins=datetime.fromtimestamp(records[0].at, UTC))
    asked: list[QuestionAsked] = []
    heard = _Heard(asked)
    given = {"lm": lm if lm is not None else named.pop(None, None), "lms": {**named, **(lms or {})}}
    runtime_of: AbstractAsyncContextManager[Runtime] = opened(store=store, instruments=[heard], **given, **options)
    async with runtime_of as runtime, trio.open_nursery() as nursery:
        handle = await _started(runtime, graph, case, recorded)
        nursery.start_soon(_speak, runtime, handle, records, recorded, heard, codec_of(graph.plan()))
        output, error = None, None
        limit_s = recorded.at_s(records[-1]) + AFTER_THE_END_S
        with trio.move_on_after(limit_s) as limit:
            try:
                output = await handle.result()
            except (UnderstudyError, ExceptionGroup) as raised:
                error = raised
        if limit.cancelled_caught:
            recorded.diverged.append(_never_ends(handle))
            await handle.cancel()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            return Rerun(output, error, await runtime.history(handle.id), tuple(recorded.diverged))
    raise AssertionError("the block returns")


def _never_ends(handle: RunHandle[Any]) -> str:
    waits = ", ".join(f"{step.path} ({step.status.value})" for step in handle.trace if step.ended_at_s is None)
    return f"it has not ended {AFTER_THE_END_S:g} s after its recorded end; at work: {waits or 'nothing'}"


def check_case(case: History, graph: Graph[Any, Any], taken: Collection[str] = ()) -> None:
    """Raise ``UsageError`` if `case` is no run of `graph`, and ``StoreDamaged`` if its records are not whole."""
    if case.run.graph != graph.name:
        raise UsageError(f"the case is a run of graph {case.run.graph!r}, not of {graph.name!r}.\n  Fix: run it with that graph.")
    check(case.run.id, case.records, case.run.last_seq)
    known = {spec.name for each in _graphs(graph) for spec in each.plan().nodes.values()}
    for name in taken:
        if name not in known:
            raise UsageError(f"taken={name!r}: graph {graph.name!r} has no such node.\n  Fix: one of {', '.join(sorted(known))}.")


async def _started(runtime: Runtime, graph: Graph[Any, Any], case: History, recorded: Recorded) -> RunHandle[Any]:
    message = read_input(codec_of(graph.plan()), case.records[0])
    terms, deadline = terms_of(case.records), case.run.deadline
    deadline_s = None if deadline is None else max(0.0, (deadline - case.run.created).total_seconds())
    token = REHEARSAL.set(recorded)
    try:
        return await runtime.start(
            graph, message, case.run.id, max_steps=terms.max_steps, deadline_s=deadline_s, labels=terms.labels
        )
    finally:
        REHEARSAL.reset(token)


@final
class _Heard:
    """An instrument that hears what people are asked."""

    kinds = (QuestionAsked,)

    def __init__(self, asked: list[QuestionAsked]) -> None:
        self._asked = asked
        self.news = trio.Event()

    def __call__(self, event: Any) -> None:
        """Keep a question."""
        self._asked.append(event)
        self.news.set()

    def take(self) -> list[QuestionAsked]:
        """The questions since the last time."""
        found = list(self._asked)
        self._asked.clear()
        self.news = trio.Event()
        return found


async def _speak(
    runtime: Runtime,
    handle: RunHandle[Any],
    records: list[Record],
    recorded: Recorded,
    heard: _Heard,
    codec: MessageCodec,
) -> None:
    """Say into the run what people and programs said into it."""
    async with trio.open_nursery() as nursery:
        for record in records:
            if record.kind is RecordKind.SIGNALLED:
                nursery.start_soon(_signal, runtime, handle, record, recorded, codec)
            elif record.kind is RecordKind.OVER and record.path == StoredStatus.CANCELLED.value:
                nursery.start_soon(_cancel, handle, record, recorded)
        answers = dict(_answers(handle.id, records))
        while True:
            await heard.news.wait()
            for event in heard.take():
                if event.question in answers:
                    nursery.start_soon(_answer, runtime, event.question, answers[event.question], recorded)


def _answers(run_id: str, records: list[Record]) -> Iterator[tuple[str, Record]]:
    times: dict[str, int] = {}
    for record in records:
        if record.kind is RecordKind.ASKED:
            times[record.path] = times.get(record.path, 0) + 1
        elif record.kind is RecordKind.ANSWERED and read_answer(record.data)[0] == ANSWERED:
            yield question_id(run_id, record.path, times.get(record.path, 1)), record


async def _answer(runtime: Runtime, question: str, record: Record, recorded: Recorded) -> None:
    await recorded.until(recorded.at_s(record), 1.0)
    asked = next((each for each in await runtime.questions() if each.id == question), None)
    if asked is not None:
        value = codec_for(*asked.answers).decode(read_answer(record.data)[1])
        await runtime.answer(question, value, by=details_of(record).get("by"))


async def _signal(runtime: Runtime, handle: RunHandle[Any], record: Record, recorded: Recorded, codec: MessageCodec) -> None:
    await recorded.until(recorded.at_s(record), recorded.at_s(record))
    with contextlib.suppress(UsageError):  # it is over already
        await runtime.send(handle.id, codec.decode(record.data or b"null"), record.path)


async def _cancel(handle: RunHandle[Any], record: Record, recorded: Recorded) -> None:
    await recorded.until(recorded.at_s(record), recorded.at_s(record))
    await handle.cancel()


def _models(case: History, graph: Graph[Any, Any]) -> dict[Any, LM]:
    """For each name of a model in `graph`, None for the default one: what stands for the one that the run had."""
    recorded, found = models_of(case), dict[Any, LM]()
    for each in _graphs(graph):
        for spec in each.plan().nodes.values():
            name = spec.options.lm
            if spec.wants_lm and (name is None or isinstance(name, str)) and (name not in found or spec.name in recorded):
                found[name] = AbsentLM(recorded.get(spec.name) or "absent")
    return found


def _graphs(graph: Graph[Any, Any]) -> Iterator[Graph[Any, Any]]:
    """`graph`, and those inside it."""
    seen: list[Graph[Any, Any]] = []
    left: list[Graph[Any, Any]] = [graph]
    while left:
        each = left.pop()
        if each in seen:
            continue
        seen.append(each)
        yield each
        left += [spec.embedded for spec in each.plan().nodes.values() if spec.kind is Kind.GRAPH]
