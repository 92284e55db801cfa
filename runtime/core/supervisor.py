"""A supervisor: starts its children in order, decides about each of their ends, and takes them down in reverse order.

Decisions are taken the instant a child ends, in ``child_exited``; waiting (group restarts, the final stop) is done by the
supervisor's own task. Administrative calls run in the caller's task, so none ever queues behind a backoff.

Source of the semantics: OTP 28, ``supervisor.erl``. Differences: delays between restarts; a child keeps address and mailbox
over its restarts, a declared child also when the supervisor itself is restarted; a child may be started while others start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, final

import trio

from actors.actor import StopReason
from actors.errors import RestartsExhausted, SupervisionError
from actors.groups import is_fatal, leaves_of
from actors.supervision import AutoShutdown, ChildSpec, Directive, Strategy, Supervision, SupervisorSpec
from runtime.core.actor_cell import ActorCell, ContextMaker, start_failed
from runtime.core.cell import Cell, Overseer
from runtime.core.children import Children
from runtime.core.duty import in_thread
from runtime.core.events import ActorRestarting, ActorUnresponsive, SupervisorParked
from runtime.core.incarnation import Exit, ExitKind, Start, classify
from runtime.core.lifecycle import State
from runtime.core.mailbox import Mailbox
from runtime.core.restart_group import RestartGroup
from runtime.core.restarts import Escalate, Restart, RestartPolicy, Stop
from runtime.core.services import Doorbell, Services
from runtime.core.stacks import stack_of
from runtime.core.supervisor_ref import LocalSupervisorRef
from runtime.core.worker_threads import thread_not_counted

UNRESPONSIVE_GRACE_S = 1.0
"""How much longer than its ladder allows a cancelled child may take before it is reported."""


@final
class SupervisorCell(Cell):
    """Runs the incarnations of one supervisor."""

    __slots__ = (
        "_bell",
        "_failure",
        "_group",
        "_is_closing",
        "_job",
        "_killing",
        "_make_context",
        "_nursery",
        "_policy",
        "_ref",
        "_significant_ended",
        "_specs",
        "children",
        "supervision",
    )

    def __init__(
        self,
        services: Services,
        address: str,
        parent: Overseer,
        spec: SupervisorSpec,
        make_context: ContextMaker,
        *,
        registered: bool = True,
    ) -> None:
        super().__init__(
            services,
            address,
            parent,
            restart=spec.restart,
            shutdown_s=spec.shutdown_s,
            significant=spec.significant,
            registered=registered,
        )
        self.supervision: Supervision = spec.supervision
        self._make_context = make_context
        self._ref: LocalSupervisorRef | None = None
        self._policy = RestartPolicy(address, spec.supervision, services.rng)
        self._bell = Doorbell()
        self._nursery: trio.Nursery | None = None
        self._failure: BaseException | None = None
        self._killing = False
        self._is_closing = False
        """Whether this incarnation takes its children down: from then on none is started."""
        self._job: trio.CancelScope | None = None
        self._significant_ended = False
        self._specs = spec.children
        self.children = Children(address)
        self._group = RestartGroup(self.children, self._see_out)

    @property
    def ref(self) -> LocalSupervisorRef:
        """The one ref to this supervisor; the same object over all incarnations."""
        if self._ref is None:
            self._ref = LocalSupervisorRef(self)
        return self._ref

    # --- one incarnation ------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._policy.forget()
        self._failure = None
        self._killing = self._is_closing = self._significant_ended = False
        self._group.clear()
        failure: BaseException | None = None
        # Each child runs in its own shielded scope; what ends this nursery is only their ordered stop below.
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._start_children()
                self.mark_started()
                await self._attend()
            except BaseException as error:  # noqa: BLE001 - raised again below, outside the nursery, so none wraps it
                failure = error
                self._killing = self._killing or isinstance(error, trio.Cancelled)
            self._is_closing = True
            with trio.CancelScope(shield=True):
                await self._stop_children()
            self._nursery = None
        failure = self._gravest(failure)
        if failure is not None:
            raise failure

    def _gravest(self, failure: BaseException | None) -> BaseException | None:
        """`failure`, unless a child met one that must never be survived while all were being stopped."""
        return self._failure if self._failure is not None and is_fatal(self._failure) else failure

    def _classify(self, error: BaseException) -> Exit:
        exit_ = classify(error, self.address)
        gave_up = exit_.kind is ExitKind.FAILED and isinstance(exit_.error, RestartsExhausted)
        return Exit(ExitKind.SHUTDOWN, exit_.error) if gave_up else exit_

    async def _start_children(self) -> None:
        """Start the declared children, in order; those of an earlier incarnation keep their cells."""
        known, self.children.cells = self.children.cells, {}
        for spec in self._specs:
            if spec.id in known:
                self.children.cells[spec.id] = known[spec.id]
                known[spec.id].cancel_retry()
            else:
                self._adopt(spec)
        waiting = [(cell, cell.ends) for cell in self.children.cells.values()]
        with trio.CancelScope() as self._job:
            for cell, ends in waiting:
                if self._failure is not None:  # raised below; nothing more is started
                    break
                if self.children.holds(cell) and cell.ends == ends and cell.can_launch:
                    await self._start(cell)
        self._job = None
        if self._failure is not None:  # one that had started has failed meanwhile, beyond the budget
            raise self._failure

    async def _attend(self) -> None:
        """Wait for what needs this task: a group restart, a failure of the supervisor itself, or its stop."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self.stopping or self._is_done():
                return
            if self._group.is_due(trio.current_time()):
                with trio.CancelScope() as self._job:
                    await self._group.restart(self._launch)
                self._job = None
            else:
                await self._bell.wait()

    async def _stop_children(self) -> None:
        """Stop all in reverse order, each within its own time; kill them instead once this supervisor is killed.

        Unless the supervisor itself was told to stop, declared children keep their mailboxes: it may be restarted.
        """
        declared = {spec.id for spec in self._specs}
        for child_id, cell in reversed(list(self.children.cells.items())):
            keep = child_id in declared and not self.stopping
            if not keep:
                cell.stop_permanently(kill=self._killing)
            elif cell.state is not State.BACKING_OFF:
                cell.stop_to_rejoin(kill=self._killing)
            await self._see_out(cell)

    def _close(self) -> None:
        for cell in reversed(list(self.children.cells.values())):
            cell.request_stop()

    async def _see_out(self, cell: Cell) -> None:
        """Wait until `cell` has no incarnation, however long; report it once its time is over."""
        # Handling and clean-up have shutdown_s each; a kill leaves the clean-up its time too.
        patience_s, incarnation = 2 * cell.shutdown_s + UNRESPONSIVE_GRACE_S, cell.incarnation
        if cell.state is State.STOPPING and patience_s != math.inf and isinstance(cell, ActorCell):
            with trio.move_on_after(patience_s):
                await cell.wait_exited()
                return
            if cell.incarnation != incarnation:  # it had ended in the last instant, and was started again
                return
            if self.services.events.wants(ActorUnresponsive):
                stack = stack_of(cell.task)
                self.services.events.publish(ActorUnresponsive(address=cell.address, incarnation=cell.incarnation, stack=stack))
        await cell.wait_exited()

    def _nudge(self) -> None:
        self._bell.ring()
        if self._job is not None:
            self._job.cancel()

    def _bound_stop(self, deadline: float) -> None:
        # Its stop runs shielded; when its time is over the children are killed instead.
        self.services.timekeeper.call_at(deadline, partial(self.kill_if, self.incarnation))

    def kill_if(self, incarnation: int) -> None:
        """Kill the given incarnation, if it is still the present one."""
        if self.incarnation == incarnation and self.state is State.STOPPING:
            self.request_stop(kill=True)

    def request_stop(self, *, kill: bool = False) -> None:
        """See ``Cell.request_stop``; a kill also reaches a child whose stop is being waited for."""
        super().request_stop(kill=kill)
        if kill and self.state is State.STOPPING:
            self._killing = True
            for cell in self.children.cells.values():
                if cell.state is State.STOPPING:
                    cell.request_stop(kill=True)

    # --- children -------------------------------------------------------------------------------------------------------

    def free_name(self, stem: str) -> str:
        """A name for a child that was given none."""
        return self.children.free_name(stem)

    def _adopt(self, spec: ChildSpec | SupervisorSpec) -> Cell:
        address = f"{self.address}/{spec.id}" if self.address else spec.id
        cell: Cell
        if isinstance(spec, SupervisorSpec):
            cell = SupervisorCell(self.services, address, self, spec, self._make_context)
        else:
            if spec.place is not None:
                spec = self.services.placed(spec)
            cell = ActorCell(self.services, address, self, spec, self._make_context)
        self.children.cells[spec.id] = cell
        return cell

    def adopt_worker(self, id: str, spec: ChildSpec, mailbox: Mailbox) -> ActorCell:  # noqa: A002
        """A further actor on a mailbox that belongs to another; started without waiting."""
        cell = ActorCell(self.services, f"{self.address}/{id}", self, spec, self._make_context, shared=mailbox)
        self.children.cells[id] = cell
        self._launch(cell)
        return cell

    def adopt_soon(self, spec: ChildSpec) -> ActorCell:
        """A child that takes messages now, and is started without waiting: a failure of its start is supervised."""
        cell = self._adopt(spec)
        assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
        self._launch(cell)
        return cell

    def start_again(self, cell: Cell) -> None:
        """Start a child that was stopped to rejoin, unless that has been done."""
        self._relaunch(cell)

    @property
    def is_serving(self) -> bool:
        """Whether it can start children."""
        return self._nursery is not None and not self.stopping and not self._is_closing and self._failure is None

    def _open_nursery(self) -> trio.Nursery:
        if self._nursery is None or not self.is_serving:
            raise SupervisionError(
                f"supervisor {self.address or '(root)'!r} is not running, so it starts nothing.\n"
                "  Fix: start children while their supervisor runs (inside `async with open_runtime()`)."
            )
        return self._nursery

    async def _start(self, cell: Cell, *, adopts: bool = False) -> None:
        """Start `cell` and wait until it has; what stops it from starting is raised here, not supervised.

        By the time that this task wakes, others may have stopped and started the cell again. So what follows is done
        at the instant of the failure (in ``child_exited``) or of the cancellation (in ``_abandon``), never after the wait.
        """
        start = Start(adopts=adopts)
        self._launch(cell, start)
        incarnation = cell.incarnation
        try:
            if in_thread.get() is None:  # nearly always
                await start.wait(partial(self._abandon, cell, start))
            else:
                with thread_not_counted():
                    await start.wait(partial(self._abandon, cell, start))
        except BaseException:  # Cancelled, or KeyboardInterrupt in the main task
            if start.abandoned and cell.incarnation == incarnation:
                with trio.CancelScope(shield=True):
                    await self._see_out(cell)
            raise

    def _abandon(self, cell: Cell, start: Start) -> None:
        """The task that waits for `start` was cancelled: stop the cell, so nothing remains of the start."""
        cell.stop_permanently(kill=True, forget=start.adopts)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C comes at its wait; between two lines it would leave a child unstopped
    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> Cell:
        """Adopt and start a child; nothing is kept of one that does not start."""
        self._open_nursery()
        self._reject_significance(spec)
        self.children.reject_known(spec.id)
        self.children.reject_more_than(self.supervision.max_children, spec.id)
        cell = self._adopt(spec)
        await self._start(cell, adopts=True)
        return cell

    def _reject_significance(self, spec: ChildSpec | SupervisorSpec) -> None:
        if spec.significant and self.supervision.auto_shutdown is AutoShutdown.NEVER:
            raise SupervisionError(
                f"{spec.id!r} is significant but the auto_shutdown of {self.address or '(root)'!r} is NEVER.\n"
                "  Fix: Supervision(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT), or significant=False.",
                child_id=spec.id,
            )

    async def terminate(self, cell: Cell, *, discard: bool) -> None:
        """Stop `cell` and wait for it; with `discard`, forget it."""
        self.dismiss(cell, discard=discard)
        with thread_not_counted():
            await self._see_out(cell)

    def dismiss(self, cell: Cell, *, discard: bool) -> None:
        """As ``terminate``, but without waiting for the end."""
        self._group.leave(cell)
        if cell.state is State.NEW:  # waits for its first start
            cell.end(StopReason.STOPPED)
        cell.stop_permanently(forget=discard)

    @trio.lowlevel.enable_ki_protection
    async def restart_child(self, child_id: str) -> Cell:
        """Start a stopped child again."""
        cell = self.children.stopped_child(child_id)
        await self._start(cell)
        return cell

    def delete_child(self, child_id: str) -> None:
        """Forget a stopped child."""
        self.children.stopped_child(child_id)
        del self.children.cells[child_id]

    # --- Overseer -------------------------------------------------------------------------------------------------------

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        """Decide about the end of one incarnation. Synchronous: nothing can happen between the end and the decision."""
        start = cell.take_start()
        if exit.kind is ExitKind.FATAL:
            cell.end(StopReason.FAILED, exit.error)
            assert exit.error is not None, "a fatal exit has its error"
            if start is not None:
                self._start_failed(cell, start, exit.error)
            self._fail(exit.error)
        elif start is not None:
            cell.end(StopReason.FAILED if exit.error is not None else StopReason.STOPPED, exit.error)
            self._start_failed(cell, start, exit.error)
        elif cell.rejoins:
            cell.back_off(is_restart=False)
        elif cell.stopping or self.stopping:
            # What it failed with meanwhile is reported nowhere else. In OTP too, a monitor is told the true reason.
            cell.end(StopReason.FAILED if exit.error is not None else StopReason.STOPPED, exit.error)
        elif not self.is_serving:
            self._set_aside(cell, exit.error)
        else:
            self._carry_out(cell, exit)

    @staticmethod
    def _start_failed(cell: Cell, start: Start, error: BaseException | None) -> None:
        """The start that somebody waits for did not come about."""
        if start.adopts:
            cell.forget_once_gone()
        start.fail(start_failed(cell.address, error))

    def _carry_out(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        match self._policy.decide(cell, exit, trio.current_time()):
            case Escalate(error):
                self._fail_with(cell, exit.error, error)
            case Stop(reason):
                cell.end(reason, exit.error)
                if cell.significant:
                    self._significant_ended = True
                    self._bell.ring()
            case Restart() as restart:
                self._plan_restart(cell, exit.error, restart)

    def _plan_restart(self, cell: Cell, error: BaseException | None, restart: Restart) -> None:
        events, delay_s = self.services.events, restart.delay_s
        if restart.is_parked and events.wants(SupervisorParked):
            events.publish(SupervisorParked(address=self.address, incarnation=self.incarnation, delay_s=delay_s, error=error))
        cell.back_off(is_restart=True)
        if events.wants(ActorRestarting):
            events.publish(
                ActorRestarting(address=cell.address, incarnation=cell.incarnation, delay_s=delay_s, restarts=cell.restarts)
            )
        due = trio.current_time() + delay_s
        if restart.is_alone or self.supervision.strategy is Strategy.ONE_FOR_ONE:
            cell.retry_with(self.services.timekeeper.call_at(due, partial(self._relaunch, cell)))
        else:
            self._group.gather(cell, self.supervision.strategy, due)
            self.services.timekeeper.call_at(due, self._bell.ring)
            self.run_beside(self._group.stop_all)

    def _launch(self, cell: Cell, start: Start | None = None) -> None:
        """Begin the next incarnation of `cell`. Without somebody who waits for its start, a failure of that is supervised."""
        cell.launch(self._open_nursery().start_soon, start)

    def _relaunch(self, cell: Cell) -> None:
        if cell.state is State.BACKING_OFF and self.is_serving:
            self._launch(cell)

    def _fail_with(self, cell: Cell, cause: BaseException | None, error: BaseException) -> None:
        """`cell` takes this supervisor down with `error`."""
        self._set_aside(cell, cause)
        self._fail(error)

    def _set_aside(self, cell: Cell, error: BaseException | None) -> None:
        """`cell` is not started again by this incarnation. A declared child keeps its mailbox: both may be started again."""
        if any(self.children.cells.get(spec.id) is cell for spec in self._specs):
            cell.back_off_permanently(error)
        else:
            cell.end(StopReason.FAILED if error is not None else StopReason.STOPPED, error)

    def _fail(self, error: BaseException) -> None:
        """End this supervisor with `error`. The first failure counts, except that an interrupt replaces any other."""
        if self._failure is None or (is_fatal(error) and not is_fatal(self._failure)):
            self._failure = error
        self._nudge()

    def interrupt(self, error: BaseException) -> None:
        """Something that must never be survived came up outside of its children."""
        self._fail(next(filter(is_fatal, leaves_of(error))))

    def child_ended(self, cell: Cell) -> None:
        """Forget a child that cannot be started again: temporary, or discarded by the call that stopped it."""
        if not cell.is_kept:
            self.children.forget(cell)

    def restarts_spent(self, now: float) -> int:
        """How much of its restart budget is used at `now`."""
        return self._policy.spent(now)

    def directive(self, error: BaseException) -> Directive:
        """What this supervisor does about `error`."""
        return self._policy.directive(error)

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in this supervisor's nursery; also while the children are being stopped."""
        nursery = self._nursery
        if nursery is None:
            nursery = self._open_nursery()
        nursery.start_soon(function, *args)

    def _is_done(self) -> bool:
        """Whether enough significant children have ended by themselves."""
        if not self._significant_ended or self.supervision.auto_shutdown is AutoShutdown.NEVER:
            return False
        if self.supervision.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
            return True
        return not any(cell.significant and cell.state is not State.STOPPED for cell in self.children.cells.values())
