"""The turns of a deployed graph that was given ``max_runs``: so many runs go on at a time, and others wait at their start."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

import trio

from runtime.core.envelope import OneShot
from runtime.core.waits import Waiter, resolve


@final
class Turns:
    """Who has a turn, and who waits for one, first come first served."""

    def __init__(self, graph: str, max_runs: float) -> None:
        self._graph = graph
        self.max_runs = max_runs
        self._taken: dict[Waiter, None] = {}
        self._waiting: dict[Waiter, OneShot] = {}

    async def take(self, run: Waiter) -> None:
        """Wait until `run` may begin. A checkpoint; cancelled, it has no turn and waits for none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self._taken) < self.max_runs:
            self._taken[run] = None
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        slot = self._waiting[run] = OneShot()
        resolve(run)
        await slot.wait(partial(self._forget, run))

    def _forget(self, run: Waiter) -> None:
        del self._waiting[run]

    @property
    def are_awaited(self) -> bool:
        """Whether any run waits for one."""
        return bool(self._waiting)

    def is_awaited_by(self, run: Waiter) -> bool:
        """Whether `run` waits for a turn."""
        return run in self._waiting

    def let_in(self, run: Waiter) -> bool:
        """Let `run` begin without a turn; whether it was waiting for one."""
        slot = self._waiting.pop(run, None)
        if slot is not None:
            slot.succeed(None)
        return slot is not None

    def give_back(self, run: Waiter) -> None:
        """`run` is over; the next one that waits has its turn, if it had one."""
        if run not in self._taken:
            return
        del self._taken[run]
        if self._waiting:
            following = next(iter(self._waiting))
            self._taken[following] = None
            self.let_in(following)

    # --- Waiter -----------------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How a ring shows it."""
        return f"a turn of graph {self._graph!r}"

    @property
    def needs_all(self) -> bool:
        """One run that ends is enough."""
        return False

    def awaits(self) -> Sequence[Waiter]:
        """The runs that have a turn, if there is none left."""
        return list(self._taken) if len(self._taken) >= self.max_runs else ()

    def make_way(self) -> bool:
        """It is for the run that waits to be let in."""
        return False
