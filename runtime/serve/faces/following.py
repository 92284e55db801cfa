"""A run that a face has started: its events as they come, and what it has made in the end."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, final

import trio

from runtime.graphs.records.run_record import RunStatus
from runtime.serve.auth import Caller
from runtime.serve.live import Live
from runtime.serve.problem_documents import RETRY_S, HttpProblem
from runtime.serve.run_documents import problem_of_run
from runtime.serve.sse import QUIET_S
from runtime.traces.kept_run import KeptEvent, RunRecord


@final
class Following:
    """The events of a run, those that are kept and those that come, for one reader."""

    def __init__(self, live: Live, record: RunRecord, after: int = -1) -> None:
        self._live = live
        self._record = record
        self._last = after

    async def more(self, quiet_s: float = QUIET_S) -> Sequence[KeptEvent] | None:
        """What has come since the last call; empty when nothing has for `quiet_s` seconds; None when no more will come."""
        while not (entries := self._record.after(self._last)):
            if self._record.is_over:
                return None
            if self._live.is_over:
                await trio.lowlevel.checkpoint()  # the last event of a run that has just ended comes first
                if not self._record.after(self._last):
                    return None
                continue
            with trio.move_on_after(quiet_s) as quiet:
                await self._record.wait()
            if quiet.cancelled_caught:
                return ()
        self._last = entries[-1].seq
        return entries


@contextlib.contextmanager
def cancelling(live: Live, record: RunRecord) -> Generator[None]:
    """Cancel the run if the block is cancelled: its client does not want it any more."""
    try:
        yield
    except trio.Cancelled:
        cancel(live, record)
        raise


def cancel(live: Live, record: RunRecord) -> None:
    """Cancel a run that was started here, without waiting for its end."""
    launch = live.launches.get(record.id)
    if launch is not None:
        launch.cancel()


def output_of(live: Live, record: RunRecord, caller: Caller) -> Any:
    """What the run has made.

    Raises:
        Problem: it made nothing, or isn't over.
    """
    problem = problem_of_run(live, record, caller)
    if problem is not None:
        raise problem
    if not record.is_over:  # stored, it goes on where the service starts again
        raise HttpProblem("draining", run=record.id, retry_after_s=RETRY_S)
    if record.status != RunStatus.SUCCEEDED:
        raise HttpProblem("run-cancelled", run=record.id)
    return record.output


def words_of(problem: HttpProblem) -> str:
    """A problem in words, with the places that are wrong or else with what can be done."""
    if not problem.errors:
        return f"{problem.detail} Fix: {problem.fix}"
    return "; ".join(f"{each.place}: {each.message}" if each.path else each.message for each in problem.errors[:5])
