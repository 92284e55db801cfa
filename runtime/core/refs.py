"""Refs to actors of this runtime: how a message gets from a sender into a mailbox, and which asks can only wait for ever."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, final

import trio

from actors.actor import ActorRef, Terminated
from actors.actor import ActorStatistics as ActorStatistics
from actors.argument_checks import COROUTINE, unawaited
from actors.errors import AskCycle, UnderstudyError, UsageError
from actors.words import repr_of
from runtime.core.cell import Cell, current_cell, off_duty
from runtime.core.duty import in_thread
from runtime.core.envelope import Envelope, OneShot
from runtime.core.lifecycle import State
from runtime.core.mailbox import Mailbox
from runtime.core.services import Services
from runtime.core.tracebacks import without_frames
from runtime.core.waits import Waiter, no_end, resolve, ring, shown
from runtime.core.worker_threads import thread_not_counted


class Awaited(Waiter, Protocol):
    """What the wait for an answer or for an end needs of the cell that it waits for."""

    @property
    def address(self) -> str:
        """Its name within its runtime."""
        ...

    @property
    def asking(self) -> list[Waiter]:
        """What its handler waits for."""
        ...

    def on_end(self, tell: Callable[[Terminated], None]) -> None:
        """Call `tell` once when it is gone permanently."""
        ...

    def forget_on_end(self, tell: Callable[[Terminated], None]) -> None:
        """Undo ``on_end``."""
        ...


class Recipient(Awaited, Protocol):
    """What a ref needs of the cell that takes its messages."""

    @property
    def services(self) -> Services:
        """The runtime that it is of."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Belongs to the address, not to an incarnation."""
        ...

    @property
    def state(self) -> State:
        """Where it is between its start and its end."""
        ...

    def statistics(self) -> ActorStatistics:
        """One look at this actor; see :class:`ActorStatistics`."""
        ...


@final
class LocalRef(ActorRef[Any]):
    """The ref to an actor of this runtime. One per cell, so identity is equality."""

    __slots__ = ("__weakref__", "cell")

    def __init__(self, cell: Recipient) -> None:
        self.cell = cell

    @property
    def address(self) -> str:
        """The actor's name within its runtime."""
        return self.cell.address

    @trio.lowlevel.enable_ki_protection  # Ctrl-C comes at its wait; between two lines it would leave half an envelope
    async def tell(self, message: Any) -> None:
        """See ``ActorRef.tell``."""
        # Cancelled here: not sent. After the put: sent, so no cancellation may hide that.
        await trio.lowlevel.checkpoint_if_cancelled()
        if type(message) is COROUTINE:
            raise not_awaited(message, "message")
        cell, sender = self.cell, current_cell.get()
        envelope = Envelope(message, sender.address if sender is not None else None, None, cell.services.now())
        if cell.mailbox.makes_wait:
            with thread_not_counted():
                await cell.mailbox.put(envelope)
        else:
            cell.mailbox.put_nowait(envelope)
        await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    def tell_nowait(self, message: Any) -> None:
        """See ``ActorRef.tell_nowait``."""
        if type(message) is COROUTINE:
            raise not_awaited(message, "message")
        cell, sender = self.cell, current_cell.get()
        cell.mailbox.put_nowait(Envelope(message, sender.address if sender is not None else None, None, cell.services.now()))

    @trio.lowlevel.enable_ki_protection
    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """See ``ActorRef.ask``."""
        if type(message) is COROUTINE:
            raise not_awaited(message, "message")
        deadline = trio.current_effective_deadline()
        if deadline == -math.inf:  # an ask that is too late displaces no other message
            await trio.lowlevel.checkpoint_if_cancelled()
        cell, caller = self.cell, current_cell.get()
        slot = Ask(None if off_duty.get() else caller, cell)
        sender = caller.address if caller is not None else None
        envelope = Envelope(message, sender, slot, cell.services.now(), math.inf if detach else deadline)
        try:
            if cell.mailbox.makes_wait:
                with thread_not_counted():
                    await cell.mailbox.put(envelope)
            else:
                cell.mailbox.put_nowait(envelope)
            on_abandon = None if detach else envelope.withdraw
            if in_thread.get() is None:  # nearly always
                return await slot.wait(on_abandon)
            with thread_not_counted():
                return await slot.wait(on_abandon)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error
        finally:
            slot.forget_edge()

    async def ended(self) -> Terminated:
        """See ``ActorRef.ended``."""
        return await wait_for_end(self.cell)

    def statistics(self) -> ActorStatistics:
        """One look at the actor; see :class:`ActorStatistics`."""
        return self.cell.statistics()

    def __repr__(self) -> str:
        return f"<ActorRef {self.cell.address!r} {self.cell.state.value}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the ref to {self.cell.address!r} is bound to a running runtime and cannot be pickled.\n"
            "  Fix: send its address, and look it up there with runtime.whereis(address)."
        )


@final
class Ask(OneShot):
    """The slot of one ask, which is also an edge "waits for" between two actors while the asker's handler waits."""

    __slots__ = ("_callee", "_caller")

    def __init__(self, caller: Cell | None, callee: Awaited) -> None:
        self._outcome = self._task = None  # as OneShot does; one call less for every ask
        self.abandoned = False
        self._caller = caller
        self._callee = callee
        if caller is not None:
            caller.asking.append(callee)
            _reject_cycle(caller, callee)

    def hand_over(self, callee: Awaited) -> None:
        """Another actor will answer. Raises ``AskCycle`` when that one can only go on after the asker."""
        if self._caller is not None:
            caller, self._caller = self._caller, None
            caller.asking.remove(self._callee)
            caller.asking.append(callee)
            _reject_cycle(caller, callee)
            self._caller, self._callee = caller, callee

    @property
    def caller(self) -> Cell | None:
        """Whose handler waits for the answer; None when none does."""
        return self._caller

    def forget_edge(self) -> None:
        """The asker waits no longer for the actor's handler: it was answered, or will be answered later by something else."""
        if self._caller is not None:
            self._caller.asking.remove(self._callee)
            self._caller = None


def not_awaited(coroutine: object, what: str) -> UsageError:
    """The error for a coroutine that was given as `what`."""
    return UsageError(f"the {what} is a coroutine that was not awaited.\n  Fix: {unawaited(coroutine)}.")


def not_a_ref(given: object, what: str, makers: str) -> UsageError:
    """The error for a call that was given something else than `what`, which the calls `makers` return."""
    call = unawaited(given)
    if call is not None:
        return UsageError(f"a coroutine that was not awaited isn't a {what}.\n  Fix: ref = {call}.")
    return UsageError(f"{repr_of(given)} isn't a {what}.\n  Fix: pass what {makers} returned.")


async def wait_for_end(cell: Awaited) -> Terminated:
    """Wait until `cell` is gone permanently; the wait of a handler is an edge like an ask."""
    reject_own_end(cell)
    slot = Ask(None if off_duty.get() else current_cell.get(), cell)
    try:
        cell.on_end(slot.succeed)
        with thread_not_counted():
            ended: Terminated = await slot.wait(lambda: cell.forget_on_end(slot.succeed))
        return ended
    finally:
        slot.forget_edge()


def reject_own_end(cell: Awaited) -> None:
    """Raise when the caller runs in `cell` or below it, so it could not see the end."""
    caller = current_cell.get()
    if caller is not None and f"{caller.address}/".startswith(f"{cell.address}/"):
        raise UsageError(
            f"{caller.address!r} would wait for the end of {cell.address!r}, with which it ends itself.\n"
            "  Fix: wait for it from outside, or watch() it from an actor that does not live in it."
        )


def _reject_cycle(caller: Cell, callee: Awaited) -> None:
    """Raise when `caller`, which waits for `callee` by now, thereby waits for itself."""
    if callee is not caller and not callee.asking:
        return  # nearly always
    stuck = resolve(callee)
    if caller not in stuck:
        return
    way = ring(caller, callee, stuck)
    caller.asking.remove(callee)
    if callee is caller:
        text = f"{caller.address!r} asks itself: it handles one message at a time, so the answer could never come."
        cycle = [caller.address, caller.address]
    else:
        if not all(isinstance(each, Cell) for each in way):
            raise no_end(way)
        cycle = [each.label for each in way]
        text = f"this ask closes a cycle of actors that wait for each other: {shown(cycle)}."
    raise AskCycle(
        f"{text}\n  Fix: tell() instead of ask() on one side, answer later with context.reply_later(), "
        "or do the work in a method.",
        cycle=cycle,
    )
