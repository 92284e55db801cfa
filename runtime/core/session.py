"""One open runtime between its first and its last task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio

from actors.actor import StopReason
from actors.groups import is_fatal
from actors.supervision import Directive, SupervisorSpec
from runtime.core.cell import Cell
from runtime.core.context import LocalContext
from runtime.core.incarnation import Exit
from runtime.core.services import Services
from runtime.core.supervisor import SupervisorCell


@final
class Session:
    """The tasks of one open runtime: the timekeeper and the root supervisor, whose overseer it is."""

    address = ""

    def __init__(self, services: Services, spec: SupervisorSpec) -> None:
        self.body = trio.CancelScope()
        self.error: BaseException | None = None
        self.exit: Exit | None = None
        self.root = SupervisorCell(services, "", self, spec, LocalContext, registered=False)
        self._services = services
        services.events.on_interrupt = self.root.interrupt
        self._timers = trio.CancelScope(shield=True)
        self._nursery: trio.Nursery | None = None

    @property
    def outcome(self) -> BaseException | None:
        """What comes out of the runtime: an interrupt before what the body raised, and that before a supervisor's failure."""
        failure = self.exit.error if self.exit is not None else None
        if failure is not None and (self.error is None or is_fatal(failure)):
            return failure
        return self.error

    def note(self, error: BaseException) -> None:
        """The body raised `error`, or the closing did. The first counts, except that an interrupt replaces any other error."""
        if self.error is None or (is_fatal(error) and not is_fatal(self.error)):
            self.error = error

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the timers and the root supervisor as tasks of `nursery`."""
        self._nursery = nursery
        nursery.start_soon(self._keep_time, name="understudy timekeeper")
        self.root.launch(nursery.start_soon)
        await self.root.wait_started()

    async def _keep_time(self) -> None:
        with self._timers:
            await self._services.timekeeper.run()

    async def finish(self) -> None:
        """End the tree: in order and with grace after a normal body, by cancellation otherwise."""
        self.root.request_stop(kill=self.error is not None)
        try:
            with trio.CancelScope(shield=self.error is not None):
                await self.root.wait_exited()
        except BaseException:
            self.root.request_stop(kill=True)
            with trio.CancelScope(shield=True):
                await self.root.wait_exited()
            raise
        finally:
            self._timers.cancel()
            self._services.events.close()

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        """The root supervisor has ended: so does the body."""
        cell.end(StopReason.FAILED if exit.error is not None else StopReason.STOPPED, exit.error)
        self.exit = exit
        self.body.cancel()

    def child_ended(self, cell: Cell) -> None:
        """Nothing to forget."""

    def directive(self, error: BaseException) -> Directive:
        """No supervisor is above the root."""
        return Directive.ESCALATE

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function beside the root supervisor."""
        assert self._nursery is not None, "only a started session is asked"
        self._nursery.start_soon(function, *args)
