"""Journals as tests: a run that was exported is told to the graph as it is now, which must adopt all of it and end the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from runtime.graphs.adopting import Restored, Terrain, restored
from runtime.graphs.history import History
from runtime.graphs.resuming import check
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import StoredStatus


def replays(journal: str | Path, graph: Graph[Any, Any]) -> History:
    """Assert that `graph`, as it is now, would go on with an exported run without running anything again, and ends it the same.

    ::

        def test_the_letters_of_last_year_still_replay():
            replays("case.jsonl", letters)

    Nothing runs: no node, no language model, no store. Returns what the journal holds.

    Args:
        journal: the path of a file with what ``understudy runs export ID`` or ``(await runtime.history(run_id)).export()`` gave.
        graph: its graph; neither its version nor its fingerprint has to be the same.

    Raises:
        AssertionError: a result no longer fits or cannot be read, or the run ends as something else; the message tells which.
        UsageError: the file isn't an export, or is of another graph. StoreDamaged: its records are not whole.
    """
    history = History.of_export(Path(journal).read_text(encoding="utf-8"))
    if history.run.graph != graph.name:
        raise UsageError(
            f"{journal}: the export is of graph {history.run.graph!r}, not {graph.name!r}.\n  Fix: replays(…) with that graph."
        )
    assert_replays(history, graph, str(journal))
    return history


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
