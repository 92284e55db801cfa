"""The graph of waits: who cannot go on before whom, and whether anybody of them ever will.

Cells wait for actors that they ask and for runs whose result they want; a run waits for the cells at work on its messages, or
for a place (an instance of a node, a turn) while others hold them all. So a ring may lead through all of these in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Protocol

from actors.errors import AskCycle
from actors.words import MAX_WORDS, cut


class Waiter(Protocol):
    """Something that waits and is waited for."""

    @property
    def label(self) -> str:
        """How a ring shows it."""
        ...

    @property
    def needs_all(self) -> bool:
        """Whether it goes on only when all that it waits for do; else one of them is enough."""
        ...

    def awaits(self) -> Sequence[Waiter]:
        """What it waits for at this moment; nothing when it can go on."""
        ...

    def make_way(self) -> bool:
        """If it lacks nothing but a place, have one beyond the limit; whether it has one now."""
        ...


def standstill(first: Waiter) -> list[Waiter]:
    """`first` and all that it waits for, nearest first, as far as none of that can ever go on; empty when `first` can."""
    awaited: dict[Waiter, Sequence[Waiter]] = {}
    waiters: dict[Waiter, list[Waiter]] = {}
    left: dict[Waiter, int] = {}
    """How many of those that it waits for must still be found to go on before it does."""
    go_on: set[Waiter] = set()

    def found(waiter: Waiter) -> None:
        awaited[waiter] = those = waiter.awaits()
        left[waiter] = len(those) if waiter.needs_all else min(1, len(those))
        if not those:
            goes_on(waiter)

    def goes_on(waiter: Waiter) -> None:
        line = [waiter]
        while line:
            here = line.pop()
            if here not in go_on:
                go_on.add(here)
                for each in waiters.get(here, ()):
                    left[each] -= 1
                    if left[each] <= 0:
                        line.append(each)

    found(first)
    line = deque([first])
    while line:
        waiter = line.popleft()
        for each in awaited[waiter]:
            if waiter in go_on:
                break
            waiters.setdefault(each, []).append(waiter)
            if each not in awaited:
                line.append(each)
                found(each)
            elif each in go_on:
                left[waiter] -= 1
                if left[waiter] <= 0:
                    goes_on(waiter)
        if first in go_on:
            return []  # nearly always, and soon
    return [waiter for waiter in awaited if waiter not in go_on]


def resolve(first: Waiter) -> list[Waiter]:
    """The same, but where places have run out, each of those that lack one is given it, and nothing stands still."""
    stuck = standstill(first)
    # All of them together: no one would look again when a single one of them has come through.
    return [] if [waiter for waiter in stuck if waiter.make_way()] else stuck


@contextmanager
def waiting(waiter: Waiter, waits_for: list[Waiter], other: Waiter) -> Generator[None]:
    """While `waiter`, whose list `waits_for` is, waits for `other` as well.

    Raises:
        AskCycle: `other` can only go on after `waiter`.
    """
    waits_for.append(other)
    try:
        stuck = resolve(other)
        if waiter in stuck:
            raise no_end(ring(waiter, other, stuck))
        yield
    finally:
        waits_for.remove(other)


def no_end(ring: Sequence[Waiter]) -> AskCycle:
    """The error for the wait that closes `ring`."""
    names = [each.label for each in ring]
    return AskCycle(
        f"this wait closes a ring of actors, nodes and runs that wait for each other: {shown(names)}.\n"
        "  Fix: start() the run and return without waiting for it, or tell() instead of ask(), on one side.",
        cycle=names,
    )


def shown(names: Sequence[str]) -> str:
    """A ring in text; the middle of a very long one is left out."""
    return cut(" -> ".join(names), MAX_WORDS)


def ring(waiter: Waiter, other: Waiter, stuck: Iterable[Waiter]) -> list[Waiter]:
    """From `waiter` by `other`, for which it waits, the shortest way back to it within `stuck`."""
    return [waiter, *_way(other, waiter, set(stuck))]


def _way(start: Waiter, end: Waiter, within: set[Waiter]) -> list[Waiter]:
    came: dict[Waiter, Waiter | None] = {start: None}
    line = deque([start])
    while line:
        here = line.popleft()
        if here is end:
            break
        for each in here.awaits():
            if each in within and each not in came:
                came[each] = here
                line.append(each)
    way: list[Waiter] = []
    at: Waiter | None = end if end in came else start
    while at is not None:
        way.append(at)
        at = came[at]
    return way[::-1]
