"""Makes a recorded schedule simpler while it still fails: shorter, more zero, smaller. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final


@final
class _Spent(Exception):
    """The budget of attempts is used up."""


def shrink(choices: Sequence[int], fails: Callable[[Sequence[int]], bool], *, attempts: int) -> list[int]:
    """The simplest list found that still `fails`, with at most `attempts` calls of it.

    Simpler is: shorter (what is missing counts as 0), then fewer choices out of turn, then smaller ones. `choices` itself fails.
    """
    best = _trimmed(choices)
    left = attempts

    def better(candidate: Sequence[int]) -> bool:
        nonlocal best, left
        trimmed = _trimmed(candidate)
        if trimmed == best:
            return False
        if left <= 0:
            raise _Spent
        left -= 1
        if not fails(trimmed):
            return False
        best = trimmed
        return True

    try:
        improved = True
        while improved and best:
            before = list(best)
            _cut_tail(lambda: best, better)
            _zero_blocks(lambda: best, better)
            _drop_blocks(lambda: best, better)
            _lower(lambda: best, better)
            improved = best != before
    except _Spent:
        pass
    return best


def _cut_tail(best: Callable[[], list[int]], better: Callable[[Sequence[int]], bool]) -> None:
    """Look for the shortest beginning that still fails, by halving."""
    low, high = 0, len(best())
    while low < high:
        middle = (low + high) // 2
        if better(best()[:middle]):
            high = min(middle, len(best()))
        else:
            low = middle + 1


def _zero_blocks(best: Callable[[], list[int]], better: Callable[[Sequence[int]], bool]) -> None:
    """Put blocks of choices back in turn, large ones first."""
    size = max(1, len(best()) // 2)
    while size:
        at = 0
        while at < len(best()):
            current = best()
            if any(current[at : at + size]):
                better([*current[:at], *[0] * len(current[at : at + size]), *current[at + size :]])
            at += size
        size //= 2


def _drop_blocks(best: Callable[[], list[int]], better: Callable[[Sequence[int]], bool]) -> None:
    """Leave blocks out, so what follows them comes earlier."""
    for size in (8, 4, 2, 1):
        at = 0
        while at + size <= len(best()):
            current = best()
            if not better([*current[:at], *current[at + size :]]):
                at += size


def _lower(best: Callable[[], list[int]], better: Callable[[Sequence[int]], bool]) -> None:
    """Overtake fewer others."""
    at = 0
    while at < len(best()):
        current = best()
        if current[at] > 1:
            better([*current[:at], 1, *current[at + 1 :]])
        at += 1


def _trimmed(choices: Sequence[int]) -> list[int]:
    end = len(choices)
    while end and choices[end - 1] == 0:
        end -= 1
    return list(choices[:end])
