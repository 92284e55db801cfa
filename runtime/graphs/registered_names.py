"""Names that one owner of a store has at a time: held by the lease of its worker, lost with it, and given to who waits."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final, final

import attrs
import trio

from actors.errors import UsageError
from actors.store_errors import NameLost, StoreError
from actors.words import repr_of
from runtime.graphs.keeper import Keeping
from runtime.journal.meeting import NameHolder, NameStore

LOOK_S: Final = 1.0
"""How often who waits for a name looks whether it is free."""
LEAVE_S: Final = 5.0
"""How long the store may take to hear that a name is given up; after that it is free when the lease ends."""
MAX_CHARACTERS: Final = 200


@final
@attrs.frozen
class RegisteredName:
    """A name that this runtime has."""

    name: str
    fence: int
    """Grows each time that the name is taken, by whom it may be: let writes outside carry it, and reject smaller ones."""


@final
@attrs.define(eq=False)
class _Queue:
    """Those in this runtime who have the name or wait for it."""

    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0
    fence: int = 0


@final
class RegisteredNames:
    """The names of one runtime. Without a store that gives out names, they hold for this runtime alone."""

    def __init__(self) -> None:
        self.keeping: Keeping | None = None
        """What has the store, once it is open."""
        self._queues: dict[str, _Queue] = {}
        self._fences: dict[str, int] = {}
        """Of names without a store."""

    @property
    def _store(self) -> NameStore | None:
        store: object = None if self.keeping is None else self.keeping.store
        return store if isinstance(store, NameStore) else None

    async def holder(self, name: str) -> str | None:
        """See ``Runtime.registered``."""
        check_name(name)
        store = self._store
        if store is None:
            await trio.lowlevel.checkpoint()
            queue = self._queues.get(name)
            return "this runtime" if queue is not None and queue.lock.locked() else None
        found: NameHolder | None = await store.holder(name)
        return None if found is None else found.worker

    @asynccontextmanager
    async def register(self, name: str) -> AsyncGenerator[RegisteredName]:
        """See ``Runtime.register``."""
        check_name(name)
        queue = self._queues.setdefault(name, _Queue())
        if queue.lock.statistics().owner is trio.lowlevel.current_task():
            raise UsageError(
                f"register({name!r}): this task has that name already, and would wait for itself.\n"
                "  Fix: register it once, around all that needs it."
            )
        queue.users += 1
        try:
            async with queue.lock:
                store, keeping = self._store, self.keeping
                if store is None or keeping is None:
                    fence = self._fences[name] = self._fences.get(name, 0) + 1
                    yield RegisteredName(name, fence)
                else:
                    async with _held(store, keeping, name) as held:
                        yield held
        finally:
            queue.users -= 1
            if not queue.users:
                self._queues.pop(name, None)


@asynccontextmanager
async def _held(store: NameStore, keeping: Keeping, name: str) -> AsyncGenerator[RegisteredName]:
    ended: BaseException | None = None
    is_lost = False
    try:
        fence = await _taken(store, keeping, name)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_watch, keeping, scope)
                try:
                    yield RegisteredName(name, fence)
                except BaseException as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
                    ended = error
            is_lost = scope.cancel_called
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_S), suppress(StoreError):
            await store.release_name(name)
    if is_lost and not isinstance(ended, Exception):
        raise NameLost(
            f"this process no longer has the name {name!r}: its lease of the store ended, and another may have taken it.\n"
            "  Fix: register it again; let what it writes outside carry the fence.",
            name=name,
        ) from ended
    if ended is not None:
        raise ended


async def _taken(store: NameStore, keeping: Keeping, name: str) -> int:
    """Wait until this worker has the name; its fence."""
    while True:
        holder: NameHolder | None = None
        try:
            with trio.CancelScope(shield=True):  # or the store might have given it to this worker, and no one would know
                holder = await store.hold(name)
        except StoreError:
            if left_s_of(keeping) <= 0:
                raise
        if holder is not None and keeping.lease is not None and holder.worker == keeping.lease.worker:
            return holder.fence
        await trio.sleep(LOOK_S)


def left_s_of(keeping: Keeping) -> float:
    """For how many seconds no other can have the names of this worker."""
    lease = keeping.lease
    if lease is None or lease.lost.is_set():
        return 0.0
    return lease.good_until() - trio.current_time()


async def _watch(keeping: Keeping, scope: trio.CancelScope) -> None:
    """End what goes on in the name's block when another may have the name."""
    lease = keeping.lease
    assert lease is not None, "the store gave a name to it"
    while (left_s := left_s_of(keeping)) > 0:
        with trio.move_on_after(left_s) if left_s != math.inf else trio.CancelScope():
            await lease.lost.wait()
    scope.cancel()


def check_name(name: object) -> None:
    """Raise ``UsageError`` for what cannot be a name."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_CHARACTERS or "\0" in name:
        raise UsageError(
            f"register({repr_of(name)}): expected a text of 1 to {MAX_CHARACTERS} characters.\n  Fix: register('index'), say."
        )
