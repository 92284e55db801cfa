"""One-shot tasks: a function that runs once in its own actor, supervised and never restarted."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, cast, final

import attrs
import outcome
import trio

from actors.actor import Actor, ActorRef, Terminated
from actors.argument_checks import unawaited
from actors.errors import UnderstudyError, UsageError
from actors.factories import check_call
from actors.restarts import RestartType
from actors.typevars import Out
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import current_cell, off_duty
from runtime.core.envelope import Envelope, OneShot, Wrapper
from runtime.core.refs import Ask, LocalRef, reject_own_end
from runtime.core.spawning import spawn_under
from runtime.core.supervisor import SupervisorCell
from runtime.core.tracebacks import without_frames


@final
@attrs.frozen
class TaskCall:
    """What the dead letter of a failed task shows as its message."""

    function: str


@final
@attrs.frozen(eq=False)
class _Call(Wrapper):
    run: Callable[[], Awaitable[Any]]
    name: str
    begun: OneShot

    @property
    def content(self) -> object:
        return TaskCall(self.name)


@final
class _TaskActor(Actor):
    """Makes one call and stops."""

    async def receive(self, message: Any) -> Any:
        message.begun.succeed(None)
        try:
            waiting = message.run()
            if not inspect.isawaitable(waiting):
                raise UsageError(
                    f"task({message.name}): it returned {type(waiting).__name__}, expected an async function.\n"
                    f"  Fix: async def, or task(trio.to_thread.run_sync, {message.name}, …) for one that blocks."
                )
            return await waiting
        finally:
            self.context.stop()


class _Result:
    """The slot in which the call's outcome is kept, for any number of tasks that wait for it."""

    __slots__ = ("_outcome", "_waiting", "begun")

    def __init__(self) -> None:
        self.begun = OneShot()
        """Where the starting task waits for the call to begin."""
        self._outcome: outcome.Maybe[Any] | None = None
        self._waiting: dict[OneShot, None] = {}

    def succeed(self, value: Any) -> None:
        self._settle(outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        self._settle(outcome.Error(error))

    def released(self) -> None:
        """Nothing to do: the waiting task wants the outcome only."""

    def _settle(self, result: outcome.Maybe[Any]) -> None:
        if self._outcome is None:
            self._outcome = result
            self.begun.succeed(None)  # if it was stopped before
            waiting, self._waiting = self._waiting, {}
            for slot in waiting:
                self._tell(slot, result)

    @staticmethod
    def _tell(slot: OneShot, result: outcome.Maybe[Any]) -> None:
        if isinstance(result, outcome.Error):
            slot.fail(result.error)
        else:
            slot.succeed(result.value)

    async def wait(self, slot: OneShot) -> Any:
        if self._outcome is not None:
            self._tell(slot, self._outcome)
        else:
            self._waiting[slot] = None
        return await slot.wait(lambda: self._waiting.pop(slot, None))


@final
class TaskHandle(Generic[Out]):
    """One call that runs as an actor; made by ``Runtime.task``."""

    __slots__ = ("_cell", "_result")

    def __init__(self, cell: ActorCell, result: _Result) -> None:
        self._cell = cell
        self._result = result

    @property
    def address(self) -> str:
        """The name of its actor within the runtime."""
        return self._cell.address

    @property
    def ref(self) -> ActorRef[Any]:
        """The ref of its actor: to watch it, or to stop it with its ``shutdown_s``."""
        return self._cell.ref

    async def result(self) -> Out:
        """Wait for what the function returns; over already: no wait. Cancelling this wait does not cancel the task.

        Raises:
            ActorFailed: the function raised; the cause is chained.
            ActorStopped: it was cancelled or stopped before it was done.
            AskCycle: the task waits, directly or through others, for the caller.
        """
        caller = current_cell.get()
        slot = Ask(None if off_duty.get() else caller, self._cell)
        try:
            return cast("Out", await self._result.wait(slot))
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error, and each caller's own
        finally:
            slot.forget_edge()

    async def ended(self) -> Terminated:
        """Wait until it is over, however it ends; see ``ActorRef.ended``."""
        return await self._cell.ref.ended()

    async def cancel(self) -> None:
        """Cancel it and return when it has ended. Over already: no effect.

        Raises:
            UsageError: the caller is the task itself.
        """
        reject_own_end(self._cell)
        if not self._cell.is_gone:
            self._cell.request_stop(kill=True)
        await self.ended()

    def __repr__(self) -> str:
        return f"<TaskHandle {self._cell.address!r} {self._cell.state.value}>"


def _check_function(function: object, args: tuple[object, ...]) -> None:
    call = unawaited(function)
    if call is not None:
        name = call.removeprefix("await ").removesuffix("(…)")
        raise UsageError(f"task(<coroutine>): expected an async function.\n  Fix: task({name}, *args): pass it, do not call it.")
    if not callable(function):
        kind = type(function).__name__
        raise UsageError(f"task(<{kind}>): expected an async function.\n  Fix: task(function, *args): pass it, do not call it.")
    check_call(function, args, "task")


async def start_task(
    supervisor: SupervisorCell,
    function: Callable[..., Awaitable[Out]],
    args: tuple[Any, ...],
    name: str | None,
    shutdown_s: float | None,
) -> TaskHandle[Out]:
    """Run ``function(*args)`` once, as a temporary child of `supervisor`."""
    _check_function(function, args)
    shown = getattr(function, "__name__", type(function).__name__)
    child_id = name if name is not None else supervisor.children.free_name(shown.strip("<>").lower())
    options = {"restart": RestartType.TEMPORARY, "shutdown_s": shutdown_s}
    ref = await spawn_under(supervisor, _TaskActor, (), child_id, options)
    assert isinstance(ref, LocalRef), "spawn_under makes refs of this runtime"
    cell, result = ref.cell, _Result()
    assert isinstance(cell, ActorCell), "a ref that was spawned is an actor's"
    caller = current_cell.get()
    sender = caller.address if caller is not None else None
    call = _Call(partial(function, *args), shown, result.begun)
    cell.mailbox.put_nowait(Envelope(call, sender, result, trio.current_time()))
    handle: TaskHandle[Out] = TaskHandle(cell, result)
    try:
        # From here on a stop gives it its time to finish; before, it would have taken the call back.
        await result.begun.wait(partial(cell.request_stop, kill=True))
    except BaseException:
        with trio.CancelScope(shield=True):
            await handle.ended()
        raise
    return handle
