"""``understudy runs``: lists, shows, exports, cancels and forgets what a store holds. Needs none of the graphs."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, final

import attrs
import outcome
import trio

from actors.errors import UsageError
from actors.store_errors import StoreError, UnknownRun
from runtime.cli.failed_run import describe
from runtime.cli.terminal import Style, one_line, plain, printable
from runtime.cli.timeline import Span, Timeline, draw
from runtime.cli.wrong_usage import WrongUsage
from runtime.graphs.records.history import History, HistoryStep, history_of
from runtime.graphs.stored import unknown
from runtime.journal.named_stores import store_of
from runtime.journal.records import RecordKind
from runtime.journal.store import Posted, PostedKind, RunQuery, Store, StoredRun, StoredStatus

ACTIONS: Final = ("list", "show", "export", "cancel", "forget")
MOST_STEPS: Final = 200
"""Steps that are shown one by one."""


@final
@attrs.frozen
class Options:
    """What was asked for."""

    action: str
    """One of ``ACTIONS``."""
    store: str
    run: str = ""
    graph: str | None = None
    status: str | None = None
    label: str | None = None
    since: datetime | None = None
    limit: int = 100
    after: str | None = None


def run(options: Options) -> int:
    """Do it and return the exit code: 1 when the store or the run could not do it.

    Raises:
        WrongUsage: the store's name cannot be meant.
    """
    actions: dict[str, Callable[[Store, Options], Awaitable[None]]] = {
        "list": _list,
        "show": _show,
        "export": _export,
        "cancel": _cancel,
        "forget": _forget,
    }
    return with_store(options.store, lambda store: actions[options.action](store, options))


def with_store(name: str, work: Callable[[Store], Awaitable[None]]) -> int:
    """Do `work` with the store that `name` means, and return the exit code."""
    if not name:
        raise WrongUsage("--store is empty")
    try:
        store = store_of(name)
    except UsageError as error:
        raise WrongUsage(str(error)) from error

    async def main() -> None:
        try:
            await work(store)
        finally:
            await store.close()

    try:
        trio.run(main)
    except (StoreError, UnknownRun) as error:
        sys.stderr.write(printable(f"{describe(error)}\n", sys.stderr))
        return 1
    return 0


def out(text: str) -> None:
    """Print one line; what came from a run cannot move the cursor or fake a line."""
    print(printable(plain(text).replace("\n", " ").replace("\t", " "), sys.stdout))


async def _list(store: Store, options: Options) -> None:
    where = None if options.status is None else StoredStatus(options.status)
    query = RunQuery(options.graph, where, options.since, options.label, options.limit, options.after)
    page = await store.runs(query)
    if page.items:
        out(f"{'started':20} {'status':10} {'steps':>6} {'lives':>5}  {'graph':20} run")
    for each in page.items:
        label = f"  ({each.label})" if each.label else ""
        out(f"{when(each.created):20} {each.status:10} {each.last_seq:6} {each.lives:5}  {each.graph:20} {each.id}{label}")
    if page.after is not None:
        out(f"more: --after {page.after}")


async def _show(store: Store, options: Options) -> None:
    history = await _history(store, options.run)
    for line in summary(history.run):
        out(line)
    if not history.is_intact:
        out("damaged: a record is missing, or is not what was written")
    steps = history.steps
    style = Style.of(sys.stdout)
    timeline = _timeline(history, steps)
    if timeline is not None:
        names = max(len(span.name) for span in timeline.spans)
        for line in draw(timeline, scale_s=max(timeline.makespan_s, 0.001), style=style, names=min(names, 10)):
            print(printable(line, sys.stdout))
    for step in steps[:MOST_STEPS]:
        for line in _step_lines(step):
            out(line)
    if len(steps) > MOST_STEPS:
        out(f"… {len(steps) - MOST_STEPS} more steps: `understudy runs export` has them all")
    for question in history.questions:
        out(f"asks {question.to or 'anybody'}: {question.id} at {question.path}, answers {', '.join(question.answers)}")
    for record in history.records:
        if record.kind in (RecordKind.RESUMED, RecordKind.PARKED, RecordKind.RELEASED):
            out(f"{record.kind} as record {record.seq}")


def summary(run: StoredRun) -> list[str]:
    """What is known of a run but its steps."""
    lines = [f"run {run.id} of graph {run.graph}{f', version {run.version}' if run.version else ''}: {run.status}"]
    took = "" if run.ended is None else f", ended {when(run.ended)} after {_seconds(run.ended - run.created)}"
    lines.append(f"started {when(run.created)}{took}")
    lines.append(f"{run.last_seq} records, {run.lives} {'life' if run.lives == 1 else 'lives'}")
    if run.owner is not None:
        lines.append(f"at work in {run.owner}")
    if run.wake_at is not None:
        lines.append(f"due {when(run.wake_at)}")
    if run.parent is not None:
        lines.append(f"forked from {run.parent} at record {run.parent_seq}")
    return lines


def _step_lines(step: HistoryStep) -> list[str]:
    indent = "  " * (step.depth + 1)
    took = "" if step.ended_at is None else f" after {_seconds(step.ended_at - step.ready_at)}"
    attempts = f", attempt {step.attempts}" if step.attempts > 1 else ""
    items = f", {step.items} items" if step.items else ""
    lines = [f"{indent}{step.node}: {step.status}{took}{attempts}{items}  {step.path.rpartition(chr(10))[2]}"]
    if step.error:
        lines.append(f"{indent}  {step.error}")
    return lines


def _timeline(history: History, steps: tuple[HistoryStep, ...]) -> Timeline | None:
    """Of what has ended at the outermost level; a bar begins when the step could have begun."""
    began = history.run.created
    spans = tuple(
        Span(
            name=one_line(step.node),
            started_s=max(0.0, (step.ready_at - began).total_seconds()),
            arrived_s=None,
            replied_s=None,
            ended_s=max(0.0, (step.ended_at - began).total_seconds()),
        )
        for step in steps[:MOST_STEPS]
        if step.ended_at is not None and not step.depth
    )
    return Timeline(spans, max(span.ended_s for span in spans)) if spans else None


async def _export(store: Store, options: Options) -> None:
    text = (await _history(store, options.run)).export()
    sys.stdout.write(text)  # JSON in ASCII, no matter what the run holds


async def _cancel(store: Store, options: Options) -> None:
    found = await store.run(options.run)
    if found is None:
        raise unknown(options.run)
    if found.status.is_over:
        out(f"run {options.run} is over already: {found.status}")
        return
    await store.post(Posted(options.run, PostedKind.CANCEL, f"cancel-{found.last_seq}"))
    out(f"run {options.run} ends as cancelled " + ("shortly" if found.owner else "when a worker takes it up"))


async def _forget(store: Store, options: Options) -> None:
    if await store.run(options.run) is None:
        raise unknown(options.run)

    async def forget() -> None:
        await store.open(f"understudy-runs-{os.getpid()}", nursery)
        try:
            await store.forget(options.run)
        finally:
            await store.close()

    async with trio.open_nursery() as nursery:  # the error itself, not in a group
        forgotten = await outcome.acapture(forget)
    forgotten.unwrap()
    out(f"run {options.run} is forgotten")


async def _history(store: Store, run: str) -> History:
    found = await history_of(store, run)
    if found is None:
        raise unknown(run)
    return found


def when(time: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{time:%Y-%m-%d %H:%M:%SZ}"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.3f} s"
