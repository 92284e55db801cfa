"""The start of a run, and how its caller waits for it: however the caller leaves, nothing of the run is alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import attrs
import trio

from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.runs.run import ActiveRun


@final
@attrs.define(eq=False)
class Launch:
    """A run that is about to begin."""

    run: ActiveRun
    message: object
    commands: Commands
    admit: Callable[[ActiveRun], Awaitable[None]] | None = None
    """Waits for the run's turn; None if it needs none."""

    async def begin(self) -> None:
        """Begin once it is its turn; return once its first messages have found room. Cancelled, none of it is alive."""
        if self.admit is not None:
            await self.admit(self.run)
        if self.run.over.is_set():
            return
        try:
            await self.run.begin(self.message, self.commands)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.run.over.wait()
            raise

    async def result(self, why: str) -> Any:
        """Begin, and wait for the output. However this ends, nothing is alive afterwards; `why` tells a cancelled run."""
        try:  # no asynccontextmanager: one costs a tenth of a run of one node
            with self.run.waits.awaited() as cell:
                await self.begin()
                await self.run.waits.wait_over(cell)
        finally:
            await self.end(why)
        return self.run.outcome()

    async def end(self, why: str) -> None:
        """Cancel the run if it is not over, and wait for its end."""
        if not self.run.over.is_set():
            self.run.cancel(why)
            with trio.CancelScope(shield=True):
                await self.run.over.wait()
