"""Runs as tests: one that was exported must be adopted by the graph as it is now, one that was captured runs again in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.lm import LM
from runtime.graphs.adopting import Restored, Terrain, restored
from runtime.graphs.records.history import History
from runtime.graphs.records.journaling import details_of
from runtime.graphs.records.recorded_errors import RecordedError
from runtime.graphs.records.resuming import check
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import StoredStatus
from runtime.testing.cases.rerun import Rerun, rerun
from runtime.testing.schedules.deadlock_watch import run_in_virtual_time


def replays(
    journal: str | Path,
    graph: Graph[Any, Any],
    *,
    lm: str | LM | None = None,
    lms: Mapping[str, str | LM] | None = None,
    taken: Collection[str] = (),
    predictors: str | Path | None = None,
) -> History:
    """Assert that a run which was kept in a file does in `graph`, as it is now, what it did.

    ::

        def test_the_incident_of_last_night():
            replays("incident.jsonl", letters)

    A *case*, as ``understudy trace capture`` writes it, runs again in virtual time: the input, the answers of models, the results
    of tools, messages, answers of people and faults come out of the record, when and in the order in which they came. It must
    end as it did, with the same output or the same errors at the same steps. An *export*, as ``understudy runs export`` writes
    it, does not run: the graph must adopt all of its results and end the same. Returns what the file holds.

    Args:
        journal: the path of the file.
        graph: the run's graph; neither its version nor its fingerprint has to be the same.
        lm: for a case: what stands for the default model; it is not asked. None: the model of that name that the run had.
        lms: the same for named ones.
        taken: for a case: nodes that do not run, because they reach out of the process; their results are in the record.
        predictors: for a case: the folder of compiled predictors that the run had.

    Raises:
        AssertionError: it ends as something else, or asks for what isn't in the record; the message tells which.
        UsageError: the file is neither, or is of another graph; or it is a case, and this is called inside of trio.
        StoreDamaged: its records are not whole.
    """
    history = History.of_export(Path(journal).read_text(encoding="utf-8"))
    if history.run.graph != graph.name:
        raise UsageError(
            f"{journal}: the export is of graph {history.run.graph!r}, not {graph.name!r}.\n  Fix: replays(…) with that graph."
        )
    if not history.is_case:
        assert_replays(history, graph, str(journal))
        return history
    if trio.lowlevel.in_trio_run():
        raise UsageError(
            f"replays({os.fspath(journal)!r}, …): a case runs on its own virtual clock, and this is an async function.\n"
            "  Fix: write the test as a plain function: def test_…(): replays(…)."
        )
    run = partial(rerun, history, graph, lm=lm, lms=lms, taken=taken, predictors=predictors)
    assert_same_end(history, run_in_virtual_time(run), str(journal))
    return history


def assert_same_end(case: History, again: Rerun, name: str) -> None:
    """Assert that a case has ended as it did."""
    was, now = _end_of(case), _end_of(again.history)
    if again.diverged:
        raise AssertionError(f"{name}: {'; '.join(again.diverged)}.\n  It had {was}, and now it has {now}.")
    if was != now:
        raise AssertionError(f"{name}: it had {was}, and now it has {now}.")


def _end_of(history: History) -> str:
    """How a run ended, in words; of errors their classes, their places and their causes, but not lines of code."""
    over = next((record for record in reversed(history.records) if record.kind is RecordKind.OVER), None)
    if over is None:
        return "not ended"
    if over.path == StoredStatus.SUCCEEDED.value:
        return f"succeeded with {(over.data or b'null').decode()}"
    told = details_of(over)
    nodes: Any = told.get("nodes", ())
    places = [f"{each['path']} (attempt {each['attempt']}) by {_cause_of(each)}" for each in nodes]
    why = f" at {', '.join(sorted(places))}" if places else f": {told.get('message', '')}"
    return f"{over.path} with {told.get('error')}{why}"


def _cause_of(node: Any) -> str:
    cause: Any = node.get("cause") or "nothing"
    return str(cause if isinstance(cause, str) else cause["error"]).removeprefix(f"{RecordedError.__name__}: ")


def assert_replays(history: History, graph: Graph[Any, Any], name: str) -> None:
    """The same for a history that is read already; `name` is what failures call it."""
    check(history.run.id, history.records, history.run.last_seq)
    told = [record for record in history.records if record.kind is not RecordKind.OVER]
    try:
        back = restored(history.run.id, told, Terrain.of(graph), history.run.fingerprint, 0.0)
    except UnderstudyError as error:
        raise AssertionError(f"{name}: {error}") from error
    over = next((record for record in reversed(history.records) if record.kind is RecordKind.OVER), None)
    if over is not None:
        _compare(back, over, graph, name)


def _compare(back: Restored, over: Record, graph: Graph[Any, Any], name: str) -> None:
    state, codec = back.resumed.state, Terrain.of(graph).codec
    if over.path == StoredStatus.SUCCEEDED:
        if state.output is None:
            paths = ", ".join(state.live_paths)
            left = f"this would run: {paths}" if paths else "nothing makes its output"
            raise AssertionError(f"{name}: the run had succeeded, and now {left}.")
        if codec.encode(state.output) != codec.encode(codec.decode(over.data or b"null")):
            raise AssertionError(f"{name}: the run ends with another output: {state.output!r}.")
        return
    if state.output is not None:
        raise AssertionError(f"{name}: the run ended as {over.path}, and now it has an output: {state.output!r}.")
    known = {record for record in back.resumed.past if back.resumed.past[record].then == "gave up"}
    at_work = set(state.live_paths)
    if known and not known <= at_work:
        gone = ", ".join(sorted(known - at_work))
        raise AssertionError(f"{name}: the run failed at {gone}, and does not come there any more.")
