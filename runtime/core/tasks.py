"""The tasks that one incarnation of an actor started beside its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from actors.actor import ActorNursery
from actors.errors import UsageError
from actors.groups import leaves_of
from runtime.core.cell import Overseer, off_duty
from runtime.core.foreign_errors import is_of_a_dead_loop


@final
class ActorTasks(ActorNursery):
    """Runs tasks that end with the incarnation; the first failure among them is the incarnation's.

    They run in the nursery of the actor's supervisor, each in its own shielded scope, so only the incarnation's end
    cancels them.
    """

    def __init__(self, address: str, overseer: Overseer, crash: Callable[[BaseException], None]) -> None:
        self._address = address
        self._overseer = overseer
        self._crash = crash
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False
        self._idle = trio.Event()

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """See ``ActorNursery.start_soon``."""
        if self._closed:
            raise UsageError(
                f"the incarnation of {self._address!r} that this nursery belongs to has ended, so it starts no task.\n"
                "  Fix: use self.context.nursery of the present incarnation."
            )
        scope = trio.CancelScope(shield=True)
        self._scopes.add(scope)
        try:
            self._overseer.run_beside(self._run, scope, function, args)
        except BaseException:
            self._scopes.discard(scope)
            raise

    async def _run(self, scope: trio.CancelScope, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        off_duty.set(True)
        task = trio.lowlevel.current_task()
        try:
            with scope:
                await function(*args)
        except BaseException as error:  # it crashes the actor, whose exit is classified like any other
            if is_of_a_dead_loop(error, task):
                raise
            self._crash(_alone(error))
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._idle.set()

    async def close(self) -> None:
        """Cancel all tasks and wait for their end, however long."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        with trio.CancelScope(shield=True):
            while self._scopes:
                self._idle = trio.Event()
                await self._idle.wait()


def _alone(error: BaseException) -> BaseException:
    """The only leaf of a group, so a nursery inside the task does not hide what failed; else `error` itself."""
    leaves = [leaf for leaf in leaves_of(error) if not isinstance(leaf, trio.Cancelled)]
    return leaves[0] if len(leaves) == 1 else error
