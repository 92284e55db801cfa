"""What readers were told of a run: its events as they were sent, each with its number, kept beside its journal.

A journal has what a run needs to go on; its events have more, such as when a node began, and each was given a number. What was
sent under a number must mean the same for ever, in any process. So an event is kept here before it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, final, runtime_checkable

import attrs

PAGE_ROWS: Final = 500
PAGE_BYTES: Final = 4 * 2**20
"""Of one read."""


@final
@attrs.frozen
class ToldEvent:
    """One event as it was sent."""

    seq: int
    """Its number in its run, from 0."""
    name: str
    """Such as ``node.finished``."""
    inside: bytes = attrs.field(repr=False)
    """Its JSON, for readers who see what is inside."""
    outside: bytes | None = attrs.field(default=None, repr=False)
    """The same for other readers; None: it is the same."""


@runtime_checkable
class EventKeeper(Protocol):
    """A store that keeps what readers were told. Of one that does not, the events of earlier processes are those in its journals.

    ``Store.forget`` deletes the events of a run with it, and so does ``Store.expire``, also where it drops the data alone.
    """

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """Keep `rows`, in the order of their numbers and all of them, so they outlive this process.

        Rows that are there already as they are count as kept. False, and nothing is kept: another event is there under one of
        the numbers, or the run is not stored.
        """
        ...

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """Some of the events behind number `after`, in order; none: there are no more."""
        ...


def first_page(rows: Sequence[ToldEvent]) -> Sequence[ToldEvent]:
    """As many of `rows` as one read gives, and at least one if there is any."""
    size = 0
    for count, row in enumerate(rows[:PAGE_ROWS], 1):
        size += len(row.inside) + len(row.outside or b"")
        if size > PAGE_BYTES:
            return rows[:count]
    return rows[:PAGE_ROWS]
