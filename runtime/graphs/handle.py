"""The handle of a run that was started, and is not waited for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, final

from actors.typevars import Out
from runtime.graphs.outside import Outside
from runtime.graphs.records.questions import Question
from runtime.graphs.records.run_record import RunStatus, Spend, Step
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.stored import StoredView


@final
class RunHandle(Generic[Out]):
    """A run that was started with ``runtime.start``; it goes on until it ends, is cancelled, or the runtime closes."""

    def __init__(self, run: ActiveRun | StoredView, outside: Outside) -> None:
        """`outside` brings in what is sent to it."""
        self._view = run
        self._outside = outside

    @property
    def _run(self) -> ActiveRun | None:
        """The run itself; None for one that is stored and not in progress in this runtime."""
        return self._view.active if isinstance(self._view, StoredView) else self._view

    @property
    def id(self) -> str:
        """Unique within the runtime, and in its store for ever."""
        return self._view.id

    @property
    def graph(self) -> str:
        """The graph's name."""
        return self._view.graph

    @property
    def durable(self) -> bool:
        """Whether it is kept in the runtime's store, and so survives its process."""
        return isinstance(self._view, StoredView)

    @property
    def started_at_s(self) -> float:
        """When it was accepted, or taken up here; the runtime's clock, in seconds. NaN for one that is not in progress here."""
        return math.nan if self._run is None else self._run.started_at_s

    @property
    def ended_at_s(self) -> float | None:
        """When the last of it had ended; None until then."""
        return None if self._run is None else self._run.ended_at_s

    @property
    def status(self) -> RunStatus:
        """Where the run is now: ``"running"``, ``"waiting"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``.

        It is waiting while all that is left of it waits for people or signals. For a stored run that is elsewhere: where
        it was when this handle looked last, and also ``"waiting"`` for a worker or a time, or ``"parked"`` (for a decision).
        """
        run = self._run
        if run is not None and run.status is RunStatus.FAILED:
            run.waits.mark_awaited()  # the caller knows by now
        return self._view.status if isinstance(self._view, StoredView) else self._view.seen_status

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the run asks people now, oldest first, those of nested graphs among them.

        Of a stored run that is not in progress here: what this process last knew. ``runtime.questions(run_id)`` asks the store.
        """
        return self._view.questions

    @property
    def trace(self) -> tuple[Step, ...]:
        """Every message so far, in the order of delivery."""
        return () if self._run is None else tuple(self._run.trace)

    @property
    def labels(self) -> Mapping[str, str]:
        """What its caller noted of it."""
        return self._view.labels

    @property
    def spend(self) -> Spend:
        """What the run has used of language models so far."""
        return self._view.spend

    async def result(self) -> Out:
        """Wait for the end and return the output. Cancelled, only the waiting ends. May be called more than once.

        Raises:
            RunFailed: nodes failed; its leaves are ``NodeFailed``.
            NoOutput: nothing made the output. StepsExceeded: too many steps. RunCancelled: it was cancelled.
            AskCycle: a node, or an actor, that the run itself waits for asks for it.
            RunParked: a stored run waits for a decision. RunLost: another worker has it now. StoreError: the store failed.
        """
        output: Out = await self._view.result()
        return output

    async def send(self, signal: object, key: str | None = None) -> None:
        """Send a message of a type in ``Graph(signals=…)`` into the run; see ``Runtime.send``."""
        await self._outside.send(self.id, signal, key)

    async def withdraw(self, key: str) -> bool:
        """Take back what was sent under `key`, if no agent has taken it; see ``Runtime.withdraw``."""
        if isinstance(self._view, StoredView):
            return await self._outside.withdraw(self.id, key)
        return await self._view.withdraw(key)  # also when it is over

    async def cancel(self) -> None:
        """Cancel the run and return when none of it is alive. Over already: no effect.

        Cancelled itself, it returns immediately, and the run ends without being waited for.
        """
        if isinstance(self._view, StoredView):
            await self._view.cancel()
            return
        self._view.waits.mark_awaited()
        self._view.cancel()
        await self._view.over.wait()

    def __repr__(self) -> str:
        return f"<RunHandle {self.id!r} {self.status.value}>"
