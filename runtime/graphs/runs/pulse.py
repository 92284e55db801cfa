"""How long one attempt may take, and what counts as a sign of life of it."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, final

import trio

_MOVING: Final = nullcontext()


@final
class Pulse:
    """Signs of life of one attempt; without one for `idle_s` seconds, :attr:`scope` is cancelled."""

    def __init__(self, idle_s: float) -> None:
        self.scope = trio.CancelScope()
        self.limit: trio.CancelScope | None = None
        """Cancelled when the attempt has taken as long as it may; None: it may take any time, and gives no signs of life."""
        self._idle_s = idle_s
        self._resting = 0
        self._stills = 0
        self._left_s = math.inf
        self.beat()

    def beat(self) -> None:
        """The attempt is alive. Without effect once it has ended."""
        if self._idle_s != math.inf and not self._resting:
            self.scope.deadline = trio.current_time() + self._idle_s

    @contextmanager
    def rest(self) -> Generator[None]:
        """While the block lasts, the attempt is alive without a sign of it."""
        self._resting += 1
        self.scope.deadline = math.inf
        try:
            yield
        finally:
            self._resting -= 1
            self.beat()

    def still(self) -> AbstractContextManager[None]:
        """While the block lasts, the attempt's time stands still: it waits for the store, which isn't its fault."""
        return _MOVING if self.limit is None else self._still(self.limit)

    @contextmanager
    def _still(self, limit: trio.CancelScope) -> Generator[None]:
        if not self._stills:
            self._left_s, limit.deadline = limit.deadline - trio.current_time(), math.inf
        self._stills += 1
        try:
            with self.rest():
                yield
        finally:
            self._stills -= 1
            if not self._stills:
                limit.deadline = trio.current_time() + self._left_s

    @property
    def left_s(self) -> float:
        """How many seconds more it may take."""
        if self.limit is None:
            return math.inf
        return self._left_s if self._stills else self.limit.deadline - trio.current_time()
