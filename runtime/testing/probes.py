"""Probes: actors whose messages the test receives, and expectations on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Self, final

import trio
import trio.testing

from actors.actor import Actor, ActorRef
from actors.words import repr_of
from runtime.app import Runtime
from runtime.testing.patterns import advance, describe, expected_next, is_done

PATIENCE_S = 3.0
"""Seconds of (virtual) time in which an expected message must come."""


@final
class TestProbe:
    """An actor of a test: ``probe.ref`` is what the code under test sends to, ``probe.expect(...)`` what came of it.

    Made by :meth:`spawn`. What is asked of it is answered with `answer`: a value, or a function of the message.
    """

    __test__ = False  # pytest collects classes named so

    def __init__(self, answer: object | Callable[[Any], object] = None) -> None:
        self.messages: deque[Any] = deque()
        """Came and not yet expected or received."""
        self.patience_s = PATIENCE_S
        self._answer = answer
        self._arrival = trio.Event()
        self._ref: ActorRef[Any] | None = None

    @classmethod
    async def spawn(cls, runtime: Runtime, name: str = "probe", *, answer: object | Callable[[Any], object] = None) -> Self:
        """Start a probe under `runtime`."""
        probe = cls(answer)
        probe._ref = await runtime.spawn(_ProbeActor, probe, name=name)
        return probe

    @property
    def ref(self) -> ActorRef[Any]:
        """The probe's ref."""
        assert self._ref is not None, "made by TestProbe.spawn()"
        return self._ref

    def took(self, message: Any) -> object:
        """A message has come; return the answer to it."""
        self.messages.append(message)
        self._arrival.set()
        return self._answer(message) if callable(self._answer) else self._answer

    async def receive(self) -> Any:
        """The next message.

        Raises:
            AssertionError: none came within ``patience_s``.
        """
        with trio.move_on_after(self.patience_s):
            while not self.messages:
                self._arrival = trio.Event()
                await self._arrival.wait()
            return self.messages.popleft()
        raise AssertionError(f"{self.ref.address!r} got no message within {self.patience_s:g} s.")

    async def expect(self, *pattern: Any) -> list[Any]:
        """Expect exactly these messages next, and return them as they came.

        An item is a value (equal), a type (an instance of it) or a function (true for it). Items come in this order; those in a
        set, or in ``Unordered(...)``, in any order; a list in there keeps its own.

        Raises:
            AssertionError: another message came, or too few within ``patience_s``; it shows what was expected and what came.
        """
        left: Any = list(pattern)
        came: list[Any] = []
        while not is_done(left):
            try:
                came.append(await self.receive())
                left = advance(left, came[-1])
            except AssertionError as error:
                raise self._mismatch("nothing", left, came) from error
            except LookupError:
                raise self._mismatch(repr_of(came[-1]), left, came[:-1]) from None
        return came

    async def expect_nothing(self) -> None:
        """Assert that no message has come and that none will before the test does something or the clock moves.

        Instant and certain: it waits until every task is blocked, not for a while.
        """
        await trio.testing.wait_all_tasks_blocked()
        if self.messages:
            raise AssertionError(f"{self.ref.address!r} expected nothing and got {', '.join(map(repr_of, self.messages))}.")

    def _mismatch(self, got: str, left: Any, came: list[Any]) -> AssertionError:
        choices = " or ".join(describe(item) for item in expected_next(left))
        so_far = "".join(f"\n  {repr_of(message)}" for message in came) or " nothing"
        return AssertionError(f"{self.ref.address!r} expected {choices}, got {got}.\nCame before:{so_far}")


@final
class _ProbeActor(Actor):
    def __init__(self, probe: TestProbe) -> None:
        self._probe = probe

    async def receive(self, message: Any) -> object:
        return self._probe.took(message)
