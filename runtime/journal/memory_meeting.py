"""Names and news of the owners of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from runtime.journal.meeting import NameHolder


@attrs.define(eq=False)
class MemoryMeeting:
    """Shared by all who have the store open."""

    _holders: dict[str, NameHolder] = attrs.field(factory=dict[str, NameHolder])
    """The last of each name."""
    _is_held: set[str] = attrs.field(factory=set[str])
    _news: dict[str, list[bytes]] = attrs.field(factory=dict[str, list[bytes]])
    """By the worker that has not heard it yet."""
    _bell: trio.Event = attrs.field(factory=trio.Event)

    def join(self, worker: str) -> None:
        """A worker has opened the store."""
        self._news[worker] = []

    def leave(self, worker: str) -> None:
        """A worker is over: it has no names any more."""
        self._news.pop(worker, None)
        self._is_held = {name for name in self._is_held if self._holders[name].worker != worker}
        self.ring()

    def hold(self, name: str, worker: str) -> NameHolder:
        """See ``NameStore.hold``."""
        known = self._holders.get(name)
        if known is not None and name in self._is_held and known.worker != worker:
            return known
        self._is_held.add(name)
        taken = self._holders[name] = NameHolder(worker, 1 if known is None else known.fence + 1)
        return taken

    def release_name(self, name: str, fence: int, worker: str) -> None:
        """See ``NameStore.release_name``."""
        if name in self._is_held and self._holders[name] == NameHolder(worker, fence):
            self._is_held.discard(name)

    def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        return self._holders[name] if name in self._is_held else None

    def announce(self, news: bytes, worker: str) -> None:
        """See ``NewsStore.announce``."""
        for other, waiting in self._news.items():
            if other != worker:
                waiting.append(news)
        self.ring()

    def heard(self, worker: str) -> Sequence[bytes]:
        """What `worker` has not heard."""
        waiting = self._news.get(worker)
        if not waiting:
            return ()
        self._news[worker] = []
        return waiting

    async def wait(self) -> None:
        """Wait until anything is announced, a worker leaves, or one that was cut off is back."""
        await self._bell.wait()

    def ring(self) -> None:
        """Let those that wait look again."""
        bell, self._bell = self._bell, trio.Event()
        bell.set()
