"""The handle of a run that was started, and is not waited for."""

from __future__ import annotations

from typing import Generic, final

from actors.typevars import Out
from runtime.graphs.record import RunStatus, Spend, Step
from runtime.graphs.run import ActiveRun


@final
class RunHandle(Generic[Out]):
    """A run that was started with ``runtime.start``; it goes on until it ends, is cancelled, or the runtime closes."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run

    @property
    def id(self) -> str:
        """Unique within the runtime."""
        return self._run.id

    @property
    def graph(self) -> str:
        """The graph's name."""
        return self._run.state.plan.name

    @property
    def started_at_s(self) -> float:
        """When it was accepted; the runtime's clock, in seconds."""
        return self._run.started_at_s

    @property
    def ended_at_s(self) -> float | None:
        """When the last of it had ended; None until then."""
        return self._run.ended_at_s

    @property
    def status(self) -> RunStatus:
        """Where the run is now: ``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
        if self._run.status is RunStatus.FAILED:
            self._run.waits.mark_awaited()  # whoever asks knows by now
        return self._run.status

    @property
    def trace(self) -> tuple[Step, ...]:
        """Every message so far, in the order of delivery."""
        return tuple(self._run.trace)

    @property
    def spend(self) -> Spend:
        """What the run has used of language models so far."""
        return self._run.spend

    async def result(self) -> Out:
        """Wait for the end and return the output. Cancelled, only the waiting ends. May be called more than once.

        Raises:
            RunFailed: nodes failed; its leaves are ``NodeFailed``.
            NoOutput: nothing made the output. StepsExceeded: too many steps. RunCancelled: it was cancelled.
            AskCycle: a node, or an actor, that the run itself waits for asks for it.
        """
        output: Out = await self._run.result()
        return output

    async def cancel(self) -> None:
        """Cancel the run and return when nothing of it is alive. Over already: no effect.

        Cancelled itself, it returns at once, and the run ends without being waited for.
        """
        self._run.waits.mark_awaited()
        self._run.cancel()
        await self._run.over.wait()

    def __repr__(self) -> str:
        return f"<RunHandle {self.id!r} {self.status.value}>"
