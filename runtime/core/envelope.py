"""A message on its way: who sent it, who waits for the answer, which attempt this is, where it is now."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, cast, final

import attrs
import outcome
import trio


class Slot(Protocol):
    """Is told what became of a message. Exactly one of the first two is called, once; `released` is last."""

    def succeed(self, value: Any) -> None:
        """The message was handled and answered with `value`."""
        ...

    def fail(self, error: Exception) -> None:
        """The message was given up; `error` tells why, with the last failure chained as its cause."""
        ...

    def released(self) -> None:
        """No actor holds the message any more: also called when it was withdrawn."""
        ...


class Wrapper(ABC):
    """A message that only carries another one; reports show the one inside."""

    __slots__ = ()

    @property
    @abstractmethod
    def content(self) -> object:
        """What its author sent."""

    def held_back(self, delay_s: float) -> None:  # noqa: B027 - most do not care
        """It will be delivered again after `delay_s` seconds."""


def content_of(message: object) -> object:
    """The message that reports show."""
    # Not isinstance: that would ask the __class__ of a message, which may be its author's property.
    return cast("Wrapper", message).content if issubclass(type(message), Wrapper) else message


class Holder(Protocol):
    """What holds an envelope at the moment: a mailbox, the cell that handles it, or the wait before its redelivery."""

    def withdrawn(self, envelope: Envelope) -> None:
        """Stop holding it: its sender no longer wants it handled."""
        ...


@final
@attrs.define(eq=False)
class Envelope:
    """One message and what the runtime must know about it."""

    message: Any
    sender: str | None
    slot: Slot | None
    sent_at: float
    deadline: float = math.inf
    """When the asker gives up (trio's clock); the handling is cancelled then."""
    attempt: int = 1
    """Which delivery this is, counted from 1."""
    withdrawn: bool = False
    holder: Holder | None = None
    last_error: BaseException | None = None

    def withdraw(self) -> None:
        """Take the message back: forgotten if it still waits, its handling cancelled if it has begun."""
        if not self.withdrawn:
            self.withdrawn = True
            if self.holder is not None:
                self.holder.withdrawn(self)

    def give_up(self, error: Exception) -> None:
        """Tell the waiting task that the message will not be handled."""
        self.holder = None
        if self.slot is not None:
            self.slot.fail(error)
            self.slot.released()


class OneShot:
    """A cell for one outcome in which at most one task waits. Asks wait in it for their reply, starters for the start.

    Invariant: at most one outcome is ever stored, and the waiting task is rescheduled exactly once.
    """

    __slots__ = ("_outcome", "_task", "abandoned")

    def __init__(self) -> None:
        self._outcome: outcome.Maybe[Any] | None = None
        """What came before anybody waited."""
        self._task: trio.lowlevel.Task | None = None
        self.abandoned = False
        """Whether the waiting task was cancelled; an outcome that comes now is dropped."""

    def succeed(self, value: Any) -> None:
        """End the wait with `value` (which may be an exception: as a value it is returned, not raised)."""
        if self._outcome is None:
            self._settle(outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        """End the wait by raising `error` in the waiting task."""
        if self._outcome is None:
            self._settle(outcome.Error(error))

    def released(self) -> None:
        """Nothing to do: the waiting task wants the outcome only."""

    def _settle(self, result: outcome.Maybe[Any]) -> None:
        task = self._task
        if task is None:
            self._outcome = result
        else:  # handed over in the same move as the wake-up
            self._task = None
            self._outcome = _TAKEN
            trio.lowlevel.reschedule(task, result)

    async def wait(self, on_abandon: Callable[[], None] | None = None) -> Any:
        """Wait for the outcome; a checkpoint. Cancelled, call `on_abandon` in the same instant."""
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                self._task = None
                self.abandoned = True
                if on_abandon is not None:
                    on_abandon()
                return trio.lowlevel.Abort.SUCCEEDED

            return await trio.lowlevel.wait_task_rescheduled(abort)
        await trio.lowlevel.checkpoint()
        result, self._outcome = self._outcome, _TAKEN
        return result.unwrap()


_TAKEN: outcome.Maybe[Any] = outcome.Value(None)
"""Stands in for an outcome that was taken, so the cell keeps no error (and its frames) alive."""
