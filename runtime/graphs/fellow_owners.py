"""What one owner of a store can settle with the others, for parts of the runtime that are spread over all of them.

A name is theirs by the lease of their worker, and what they say to one another goes the way of what is published everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, final

import trio

from runtime.graphs.everywhere import Dropped, Everywhere
from runtime.graphs.keeper import Keeping
from runtime.graphs.registered_names import RegisteredNames, left_s_of
from runtime.journal.meeting import NameHolder, NameStore, NewsStore


class _Meeting(NameStore, NewsStore, Protocol):
    """A store of which several may be owners."""


@final
class FellowOwners:
    """The other owners of this runtime's store, and this one among them."""

    def __init__(self, names: RegisteredNames, everywhere: Everywhere) -> None:
        self._names = names
        self._everywhere = everywhere

    @property
    def can_meet(self) -> bool:
        """Whether there is a store that several may have open at the same time."""
        keeping = self._names.keeping
        if keeping is None or keeping.lease is None:
            return False
        store: object = keeping.store
        return isinstance(store, NameStore) and isinstance(store, NewsStore)

    @property
    def me(self) -> str:
        """By what name the others know this one."""
        lease = self._keeping.lease
        assert lease is not None, "it can meet others"
        return lease.worker

    @property
    def left_s(self) -> float:
        """For how many seconds no other can have what this one holds."""
        return left_s_of(self._keeping)

    async def wait_until_lost(self) -> None:
        """Return when another may have what this one holds."""
        lease = self._keeping.lease
        assert lease is not None, "it can meet others"
        while (left_s := self.left_s) > 0:
            with trio.move_on_after(left_s):
                await lease.lost.wait()

    async def hold(self, name: str) -> NameHolder:
        """Take `name`, if no one has it; who has it now. Not cancelled in between: else no one would know who has it.

        Raises:
            StoreError: the store cannot say.
        """
        store = self._store
        holder: NameHolder | None = None
        with trio.CancelScope(shield=True):
            holder = await store.hold(name)
        assert holder is not None, "a shielded block comes to its end"
        return holder

    async def let_go(self, name: str) -> None:
        """Give up `name`.

        Raises:
            StoreError: the store has not heard that.
        """
        await self._store.release_name(name)

    async def holder(self, name: str) -> NameHolder | None:
        """Who has `name`.

        Raises:
            StoreError: the store cannot say.
        """
        return await self._store.holder(name)

    def say(self, channel: str, words: str, dropped: Dropped) -> None:
        """Have the others that listen to `channel` hear `words`, at most once, soon."""
        self._everywhere.say(channel, words, dropped)

    def listen(self, channel: str, hear: Callable[[str], None] | None) -> None:
        """Hear what the others say on `channel`; None: no longer."""
        self._everywhere.listen(channel, hear)

    @property
    def _keeping(self) -> Keeping:
        keeping = self._names.keeping
        assert keeping is not None, "it can meet others"
        return keeping

    @property
    def _store(self) -> _Meeting:
        return cast("_Meeting", self._keeping.store)
