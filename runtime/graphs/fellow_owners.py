"""What one owner of a store can settle with the others, for parts of the runtime that are spread over all of them.

A name is theirs by the lease of their worker, and what they say to one another goes the way of what is published everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, cast, final

import trio

from actors.store_errors import StoreError
from runtime.graphs.everywhere import Dropped, Everywhere
from runtime.graphs.keeper import Keeping
from runtime.graphs.registered_names import RegisteredNames, left_s_of
from runtime.journal.meeting import NameHolder, NameStore, NewsStore

AGAIN_S: Final = 1.0
"""After which a store that has not heard of the end of a name is told again."""


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
        """Take `name`, if no one has it; who has it now. Not heard to its end, this one may have it.

        Raises:
            StoreError: the store cannot say.
        """
        return await self._store.hold(name)

    async def let_go(self, name: str, fence: int) -> None:
        """Give up `name`, which this one has with `fence`; a store that does not hear that is told again, while it is open."""
        try:
            await self._store.release_name(name, fence)
        except BaseException as error:
            nursery = self._keeping.nursery
            if nursery is not None:
                nursery.start_soon(self._let_go_later, name, fence)
            if not isinstance(error, StoreError):
                raise

    async def _let_go_later(self, name: str, fence: int) -> None:
        lease = self._keeping.lease
        while lease is None or not lease.lost.is_set():  # also past its time: it may be renewed yet, and the name with it
            await trio.sleep(AGAIN_S)
            with suppress(StoreError):
                await self._store.release_name(name, fence)
                return

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
