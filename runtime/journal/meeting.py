"""What the owners of one store settle and tell one another: names that one of them has at a time, and news for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import attrs

from actors.store_errors import StoreDamaged


@final
@attrs.frozen
class NameHolder:
    """Who has a name."""

    worker: str
    fence: int
    """Grows each time that the name is taken, also over the end of all processes."""


@runtime_checkable
class NameStore(Protocol):
    """A store that gives out names; with any other, a name holds for one runtime.

    A worker has a name until it lets it go, closes the store, or has lost its lease: then no one needs to find out.
    """

    async def hold(self, name: str) -> NameHolder:
        """Take `name` for this worker, durably, if no other has it; who has it now. Taken again, it has a new fence.

        One call for a name at a time. After an error, or cancelled, this worker may have it or not: hold it again to know.
        """
        ...

    async def release_name(self, name: str, fence: int) -> None:
        """Give `name` up, if this worker has it with that fence: not what it has taken since."""
        ...

    async def holder(self, name: str) -> NameHolder | None:
        """Who has `name`; None: no worker that lives."""
        ...


@runtime_checkable
class NewsStore(Protocol):
    """A store that tells all who have it open what one of them announces; with any other, news stay in one runtime."""

    async def announce(self, news: bytes) -> None:
        """Tell all other workers that have the store open now: each at most once, in no order between different workers.

        It may cost all writers of the store a moment, so it is called 20 times a second at most.
        """
        ...

    async def announced(self) -> Sequence[bytes | StoreDamaged]:
        """What others have announced since this was last asked, at first since the store was opened; waits for it.

        What cannot be read, because it was sealed with another key, say, is there as the error.
        """
        ...
