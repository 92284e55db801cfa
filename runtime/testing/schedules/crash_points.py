"""Where a simulated process ends: a choice at each place where it writes to its store, recorded and replayed like any other."""

from __future__ import annotations

import random
from typing import final

from runtime.testing.schedules.strategies import InTurn, Replay, Strategy


@final
class Crashing:
    """The crashes of one simulated run: so many at most, each at a place that the seed draws."""

    def __init__(self, strategy: Strategy, seed: int, crashes: int, places: int) -> None:
        """`places` is how many a run is expected to have. A run in arrival order, which is the first, has no crash."""
        self.points = 0
        """How many places there were so far."""
        self._replayed = strategy if isinstance(strategy, Replay) else None
        self._rng = random.Random(f"crashes {seed}")
        self._left = crashes
        drawn = 0 if isinstance(strategy, InTurn) or not places else crashes
        self._at = {self._rng.randint(1, places) for _ in range(drawn)}

    def choose(self, count: int) -> int | None:
        """0: go on; else which of `count` - 1 ends it is. None when there are no more crashes to come, which is no choice."""
        self.points += 1
        if not self._left:
            return None
        if self._replayed is not None:
            choice = self._replayed.choose(count)
        else:
            choice = self._rng.randint(1, count - 1) if self.points in self._at else 0
        self._left -= bool(choice)
        return choice

    def stop(self) -> None:
        """No more of them."""
        self._left = 0
