"""Crashes at every record, and whether what goes on afterwards ends as it would have ended: for tests in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, final

import attrs

from runtime.journal.store import Store
from runtime.testing.stores.crashing_store import KILLED, Ending, at_record
from runtime.testing.stores.findings import records_in
from runtime.testing.stores.lives import WITHIN_S, Lives


@final
@attrs.frozen
class Crashes:
    """What :func:`crash_everywhere` has tried."""

    output: Any
    """What the run makes, with and without a crash."""
    points: int
    """How many crashes there were."""


async def crash_everywhere(
    run: Callable[[Store], Awaitable[Any]],
    *,
    same: Callable[[Any, Any], bool] = lambda one, other: one == other,
    within_s: float = WITHIN_S,
    pairs: bool = False,
    endings: Collection[Ending] = KILLED,
    most: int | None = None,
) -> Crashes:
    """Let `run` crash before and after each record that it writes, go on with the same store, and see that it ends the same.

    `run` opens a runtime with the store it is given, starts its runs by ``run_id``, and returns what they make; it is called
    again for each life. Use it in virtual time.

    Args:
        run: what is tried.
        same: whether what two lives have made is the same.
        within_s: how long a life may take, in seconds of virtual time.
        pairs: let the life after a crash crash, too, at each of its records.
        endings: how the lives end at each record; ``list(Ending)`` is all ways. A runtime that is cancelled hands its runs back,
            so `run` must have begun them with ``start``: ``runtime.run()`` cancels its run.
        most: try so many crashes at most, spread evenly; None: all.

    Raises:
        AssertionError: a life after a crash made something else, wrote down again what was recorded, or has lost what was
            acknowledged; or a worker that had lost its runs wrote on.
    """
    whole = Lives(run, within_s)
    expected = await whole.through(iter(()))
    records, points = records_in(whole.latest), 0

    async def crash(*ends: tuple[int, Ending]) -> int:
        nonlocal points
        lives = Lives(run, within_s)
        made = await lives.through(at_record(number, ending) for number, ending in ends)
        if not same(made, expected):
            raise AssertionError(f"{lives.where()}the next life made {made!r}, expected {expected!r}")
        points += 1
        return records_in(lives.latest)

    for number, ending in _spread([(number, Ending(ending)) for number in range(1, records + 1) for ending in endings], most):
        later = await crash((number, ending)) - number + 1
        for second in [(n, Ending(each)) for n in range(1, later + 1) for each in endings] if pairs else ():
            await crash((number, ending), second)
    return Crashes(expected, points)


def _spread(points: list[tuple[int, Ending]], most: int | None) -> list[tuple[int, Ending]]:
    if most is None or len(points) <= most:
        return points
    return [points[index * len(points) // most] for index in range(most)]
