"""The actors that tests of the runtime put on stage, and what they need to watch them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from actors import Actor, Backoff, ChildSpec, RestartType, Supervision
from runtime import open_runtime

EXACT = Backoff(first_s=1.0, factor=2.0, cap_s=30.0, jitter=0)
"""Delays of 1, 2, 4, 8, 16, 30, 30, … seconds."""
AT_ONCE = Backoff(first_s=0, jitter=0)
PATIENT = Supervision(max_restarts=1_000_000, backoff=AT_ONCE)
"""Restarts at once, as often as it takes."""


class Boom(Exception):
    """What an actor of these tests fails with."""


class Fault(Exception):
    """The other kind of failure."""


class Recorder(Actor):
    """Notes what happens to it in a list that outlives it, with the time on trio's clock, and does what it is told.

    Messages: ``("sleep", s)``, ``("raise", error)``, ``("stop",)``, ``("incarnation",)``; any other is echoed.
    """

    def __init__(self, log: list[Any], name: str = "") -> None:
        self.log = log
        self.name = name

    def note(self, what: Any) -> None:
        self.log.append((trio.current_time(), f"{self.name}{what}"))

    @contextlib.asynccontextmanager
    async def lifespan(self):
        self.note("+")
        try:
            yield
        finally:
            self.note("-")

    async def receive(self, message: Any) -> Any:
        match message:
            case ("sleep", seconds):
                await trio.sleep(seconds)
            case ("raise", error):
                raise error
            case ("stop",):
                self.context.stop()
            case ("incarnation",):
                return self.context.incarnation
            case _:
                self.note(message)
        return message


class Echo(Actor):
    """Answers every message with itself; raises it if it is an exception."""

    async def receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message


class Does(Actor):
    """Handles every message with the given ``async def f(self, message)``."""

    def __init__(self, handle: Callable[[Any, Any], Any]) -> None:
        self.handle = handle

    async def receive(self, message: Any) -> Any:
        return await self.handle(self, message)


class Script(Actor):
    """Runs ``async def f(actor)`` when it is sent one, and notes any other message with its time."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def receive(self, message: Any) -> Any:
        if callable(message):
            run: Any = message
            return await run(self)
        self.log.append((trio.current_time(), message))
        return message


async def fail(actor: Actor) -> None:
    """Makes a :class:`Script` fail."""
    raise Boom


class Fragile(Recorder):
    """Fails to start while `failures` holds something."""

    def __init__(self, log: list[Any], failures: list[BaseException], name: str = "") -> None:
        super().__init__(log, name)
        self.failures = failures

    @contextlib.asynccontextmanager
    async def lifespan(self):
        if self.failures:
            self.note("!")
            raise self.failures.pop(0)
        async with super().lifespan():
            yield


def cause_of(error: Any) -> Any:
    """The error that `error` was raised from; of an ``ExceptionInfo``, that of its error."""
    return getattr(error, "value", error).__cause__


def stage(**options: Any) -> Any:
    """``open_runtime``, untyped: tests look behind what the declared refs promise."""
    return open_runtime(**options)


def child(child_id: str, log: list[Any], **options: Any) -> ChildSpec:
    """A :class:`Recorder` under its own name."""
    return ChildSpec(child_id, Recorder, (log, child_id), **options)


def budget(max_restarts: float, within_s: float = 3600.0, **options: Any) -> Supervision:
    """Restarts at once, so often within so many seconds."""
    return Supervision(max_restarts=max_restarts, within_s=within_s, **{"backoff": AT_ONCE, **options})


async def settled() -> None:
    """Everything that happens without further time passing has happened."""
    await trio.testing.wait_all_tasks_blocked(0.001)


async def crash(ref: Any, error: Exception | None = None) -> None:
    """Let a :class:`Recorder` fail, and see what comes of it."""
    ref.tell_nowait(("raise", error or Boom()))
    await settled()


async def counts(supervisor: Any) -> list[int]:
    """Of its children: specs, active, supervisors, workers."""
    found = await supervisor.count_children()
    return [found.specs, found.active, found.supervisors, found.workers]


async def states(supervisor: Any) -> dict[str, str]:
    """Its children by id, in the order in which they were added, and the words of their states."""
    return {info.id: info.state.value for info in reversed(await supervisor.which_children())}


def names(log: list[Any]) -> str:
    """What was noted, without the times."""
    return " ".join(what for _, what in log)


TEMPORARY, TRANSIENT, PERMANENT = RestartType.TEMPORARY, RestartType.TRANSIENT, RestartType.PERMANENT
