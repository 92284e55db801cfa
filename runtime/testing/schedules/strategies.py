"""How the next step is chosen: strategies over choices. Pure; each draws from its own seeded generator.

A choice is an index among the things that are possible, in the order of their arrival: 0 is the one that has waited longest. So a
recorded run is a list of small integers in which 0 means "in turn", a shorter list means "in turn from here on", and making a
failure simpler is making its list shorter and more zero.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Protocol, final

from actors.argument_checks import rejected
from actors.errors import DeclarationError


class Strategy(Protocol):
    """One way to choose. An instance serves one run."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """The index of the task to run next; there are at least two."""
        ...

    def choose(self, count: int) -> int:
        """Another choice, below `count`; at least two."""
        ...


StrategyMaker = Callable[[int, int], Strategy]
"""Makes a strategy from a seed and the number of choices that a run is expected to have."""


@final
class InTurn:
    """Always the one that has waited longest. Fair."""

    name = "arrival order"

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """0."""
        return 0

    def choose(self, count: int) -> int:
        """0."""
        return 0


@final
class RandomWalk:
    """Any task, each with the same chance."""

    name = "random walk"

    def __init__(self, seed: int, steps: int = 0) -> None:
        self._rng = random.Random(f"random walk {seed}")

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """Uniform."""
        return self._rng.randrange(len(tasks))

    def choose(self, count: int) -> int:
        """Uniform."""
        return self._rng.randrange(count)


@final
class PCT:
    """Probabilistic concurrency testing: strict random priorities; at `depth` - 1 random moments the highest falls lowest.

    Finds a bug that needs `depth` ordered events with a chance of at least 1/(tasks · steps^(depth-1)) per run.
    Source: Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.
    """

    def __init__(self, seed: int, steps: int, depth: int = 3) -> None:
        if depth < 1:
            raise rejected(self, "depth", depth, "a whole number >= 1")
        self._rng = random.Random(f"pct {depth} {seed}")
        self.name = f"PCT, depth {depth}"
        self._waiting: dict[Hashable, float] = {}
        # Weak, so a test can see what a task that has ended releases.
        self._running: MutableMapping[Hashable, float] = weakref.WeakKeyDictionary()
        self._step = self._fallen = 0
        self._falls = {self._rng.randrange(1, max(2, steps + 1)) for _ in range(depth - 1)}

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """The one with the highest priority."""
        waiting = self._waiting
        for task in tasks:
            if task not in waiting:
                known = self._running.pop(task, None)
                waiting[task] = known if known is not None else 1 + self._rng.random()
        if len(waiting) > len(tasks):  # some ran when there was no choice
            self._running.update((task, waiting.pop(task)) for task in set(waiting).difference(tasks))
        self._step += 1
        if self._step in self._falls:
            self._fallen -= 1
            waiting[tasks[_highest(tasks, waiting)]] = self._fallen
        highest = _highest(tasks, waiting)
        chosen = tasks[highest]
        self._running[chosen] = waiting.pop(chosen)
        return highest

    def choose(self, count: int) -> int:
        """Uniform."""
        return self._rng.randrange(count)


@final
class PartialOrder:
    """Partial-order sampling: every pending step has its own random priority, drawn when it becomes pending.

    Source: Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling", CAV 2018 (the basic form).
    """

    name = "partial-order sampling"

    def __init__(self, seed: int, steps: int = 0) -> None:
        self._rng = random.Random(f"partial order {seed}")
        self._priorities: dict[Hashable, float] = {}

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """The one whose pending step has the highest priority."""
        priorities = self._priorities
        for task in tasks:
            if task not in priorities:
                priorities[task] = self._rng.random()
        if len(priorities) > len(tasks):  # some ran when there was no choice
            for task in set(priorities).difference(tasks):
                del priorities[task]
        highest = _highest(tasks, priorities)
        del priorities[tasks[highest]]
        return highest

    def choose(self, count: int) -> int:
        """Uniform."""
        return self._rng.randrange(count)


def _highest(tasks: Sequence[Hashable], priorities: Mapping[Hashable, float]) -> int:
    ranked = list(map(priorities.__getitem__, tasks))
    return ranked.index(max(ranked))


@final
class BatchShuffle:
    """Whole batches in random order, which is as much as trio itself ever varies."""

    name = "batch shuffle"

    def __init__(self, seed: int, steps: int = 0) -> None:
        self._rng = random.Random(f"batch {seed}")
        self._batch: list[Hashable] = []

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """The next of the batch; a new batch is everything that can run."""
        while self._batch:
            task = self._batch.pop()
            if task in tasks:
                return tasks.index(task)
        self._batch = list(tasks)
        self._rng.shuffle(self._batch)
        return tasks.index(self._batch.pop())

    def choose(self, count: int) -> int:
        """Uniform."""
        return self._rng.randrange(count)


@final
class Replay:
    """A recorded list of choices, and in turn after its end. A choice that is not possible counts as 0.

    ``divergence`` tells where the first such choice was: from there on the run is another one than was recorded.
    """

    name = "replay"

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = choices
        self._next = 0
        self.divergence: str | None = None

    def pick(self, tasks: Sequence[Hashable]) -> int:
        """As recorded."""
        return self.choose(len(tasks))

    def choose(self, count: int) -> int:
        """As recorded."""
        choice = self._choices[self._next] if self._next < len(self._choices) else 0
        self._next += 1
        if choice < count:
            return choice
        if self.divergence is None:
            where = f"choice {self._next} of {len(self._choices)}"
            self.divergence = f"{where} is {choice}, and there are only {count} ways, counted from 0"
        return 0

    def end(self) -> None:
        """The run is over: what is left of the choices had no place in it."""
        left = sum(1 for choice in self._choices[self._next :] if choice)
        if left and self.divergence is None:
            self.divergence = f"the run was over after {self._next} of {len(self._choices)} choices, {left} of the rest not 0"


def pct(depth: int) -> StrategyMaker:
    """:class:`PCT` of one depth."""
    return lambda seed, steps: PCT(seed, steps, depth)


def portfolio(seed: int, steps: int) -> Strategy:
    """One strategy after the other, by seed: what one misses another finds."""
    makers: tuple[StrategyMaker, ...] = (RandomWalk, PartialOrder, pct(2), pct(3), BatchShuffle)
    return makers[seed % len(makers)](seed, steps)


STRATEGIES: dict[str, StrategyMaker] = {
    "portfolio": portfolio,
    "random": RandomWalk,
    "pct": pct(3),
    "partial-order": PartialOrder,
    "batch": BatchShuffle,
}
"""By the names that ``explore(strategy=…)`` takes."""


def strategy_named(strategy: str | StrategyMaker) -> StrategyMaker:
    """The maker that `strategy` is or names.

    Raises:
        DeclarationError: there is none of that name.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy not in STRATEGIES:
        names = ", ".join(map(repr, STRATEGIES))
        raise DeclarationError(f"there is no strategy {strategy!r}.\n  Fix: one of {names}, or a function of seed and steps.")
    return STRATEGIES[strategy]
