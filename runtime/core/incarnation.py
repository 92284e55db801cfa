"""One incarnation of a cell: who waits for its start, and how it ended (OTP: the exit reason)."""

from __future__ import annotations

import enum
from typing import final

import attrs
import trio

from actors.errors import UsageError
from actors.groups import is_fatal, leaves_of, without
from runtime.core.envelope import OneShot


@final
class ExitKind(enum.Enum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """On its own, or because it was asked to."""
    SHUTDOWN = "shutdown"
    """A supervisor gave up; a transient one is not restarted for it (OTP: exit reason ``shutdown``)."""
    FAILED = "failed"
    FATAL = "fatal"
    """``KeyboardInterrupt`` or ``GeneratorExit``: never restarted, the whole tree ends with it."""


@final
@attrs.frozen
class Exit:
    """The end of one incarnation."""

    kind: ExitKind
    error: BaseException | None = None


@final
class Start(OneShot):
    """A task's wait for one start of a cell; a failure of the start goes to it instead of the supervisor."""

    __slots__ = ("adopts",)

    def __init__(self, *, adopts: bool) -> None:
        super().__init__()
        self.adopts = adopts
        """Whether the cell was made for this start, so nothing is kept of it when it does not come about."""


def classify(error: BaseException, address: str) -> Exit:
    """What an exception out of an incarnation means. Groups are judged by their leaves.

    A ``trio.Cancelled`` among them isn't a failure: the incarnation was told to end, or its handling was. One that
    comes alone was kept and raised again by the actor, which is a mistake of its author.
    """
    fatal = next(filter(is_fatal, leaves_of(error)), None)
    if fatal is not None:
        return Exit(ExitKind.FATAL, fatal)
    failure = without(error, trio.Cancelled)
    if failure is not None:
        return Exit(ExitKind.FAILED, failure)
    stale = UsageError(
        f"{address!r} raised trio.Cancelled although it was not cancelled.\n"
        "  Cause: the actor caught a cancellation and raised it again later.\n"
        "  Fix: let trio.Cancelled pass immediately; never store it."
    )
    stale.__cause__ = error
    return Exit(ExitKind.FAILED, stale)
