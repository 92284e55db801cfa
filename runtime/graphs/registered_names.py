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
from actors.words import add_note, repr_of
from runtime.graphs.keeper import Keeping
from runtime.journal.meeting import NameHolder, NameStore

LOOK_S: Final = 1.0
"""How often who waits for a name looks whether it is free; less often where so many wait that it would be more than:"""
MOST_LOOKS_S: Final = 100.0
"""Looks in a second, by all who wait in one runtime: the store has other things to do."""
LEAVE_S: Final = 5.0
"""How long who leaves waits until the store has heard of it; after that a task of the runtime tells it, when it can."""
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
    outside: int = 0
    """How many nurseries the task that has it had open when it got it: all others are inside of its block."""


@final
class RegisteredNames:
    """The names of one runtime. Without a store that gives out names, they hold for this runtime alone."""

    def __init__(self) -> None:
        self.keeping: Keeping | None = None
        """What has the store, once it is open."""
        self._queues: dict[str, _Queue] = {}
        self._waiting = _Waiting()
        self._last_fence = 0
        """Of names without a store: one number for all of them, since it need only grow."""

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
        async with self._turn(name):
            store, keeping = self._store, self.keeping
            if store is None or keeping is None:
                self._last_fence += 1
                yield RegisteredName(name, self._last_fence)
            else:
                async with self._held(store, keeping, name) as held:
                    yield held

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncGenerator[None]:
        """Wait until no other task of this runtime has the name."""
        queue = self._queues.setdefault(name, _Queue())
        _check_that_it_may_wait(name, queue)
        queue.users += 1
        try:
            async with queue.lock:
                queue.outside = len(trio.lowlevel.current_task().child_nurseries)
                yield
        finally:
            queue.users -= 1
            if not queue.users:
                self._queues.pop(name, None)

    @asynccontextmanager
    async def _held(self, store: NameStore, keeping: Keeping, name: str) -> AsyncGenerator[RegisteredName]:
        ended: BaseException | None = None
        is_lost = False
        taking = _Taking(store, keeping, name)
        try:
            fence = await taking.taken(self._waiting)
            async with trio.open_nursery() as nursery:
                scope, watching = trio.CancelScope(), trio.CancelScope(shield=True)
                nursery.start_soon(_watch, keeping, scope, watching)
                try:
                    with scope:  # what it cancels ends here, and what is raised for another reason does not
                        yield RegisteredName(name, fence)
                except BaseException as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
                    ended = error
                is_lost = scope.cancel_called or left_s_of(keeping) <= 0
                watching.cancel()
        finally:
            if not await taking.is_let_go() and keeping.nursery is not None:
                keeping.nursery.start_soon(self._let_go_later, store, keeping, name)
        lost = (
            f"this process no longer has the name {repr_of(name)}: its lease of the store ended, and another may have taken it."
        )
        if ended is not None:
            if is_lost and not isinstance(ended, trio.Cancelled):
                add_note(ended, lost)
            raise ended
        if is_lost:
            raise NameLost(f"{lost}\n  Fix: register it again; let what it writes outside carry the fence.", name=name)

    async def _let_go_later(self, store: NameStore, keeping: Keeping, name: str) -> None:
        """The store may take this worker to have the name still: take it for certain, and give it up."""
        async with self._turn(name):
            while keeping.lease is None or not keeping.lease.lost.is_set():
                taking = _Taking(store, keeping, name)
                with suppress(StoreError):
                    await taking.asked()
                if await taking.is_let_go():
                    return
                await trio.sleep(LOOK_S)


@attrs.define(eq=False)
class _Waiting:
    """How many wait for names, of all those in this runtime."""

    count: int = 0


@attrs.define(eq=False)
class _Taking:
    """A name that is asked for, and what is known of whether this worker has it."""

    _store: NameStore
    _keeping: Keeping
    _name: str
    _fence: int | None = None
    _in_doubt: bool = False
    """It was asked for, and the answer was not heard: this worker may have it."""

    async def taken(self, waiting: _Waiting) -> int:
        """Wait until this worker has the name, as one of those who are `waiting`; its fence."""
        waiting.count += 1
        try:
            while True:
                try:
                    fence = await self.asked()
                except StoreError:
                    if left_s_of(self._keeping) <= 0:
                        raise
                else:
                    if fence is not None and left_s_of(self._keeping) > 0:  # the answer may have been long on its way
                        return fence
                await trio.sleep(max(LOOK_S, waiting.count / MOST_LOOKS_S))
        finally:
            waiting.count -= 1

    async def asked(self) -> int | None:
        """Ask for the name; its fence, or None: another has it."""
        self._in_doubt = True
        holder = await self._store.hold(self._name)
        self._in_doubt = False
        lease = self._keeping.lease
        self._fence = holder.fence if lease is not None and holder.worker == lease.worker else None
        return self._fence

    async def is_let_go(self) -> bool:
        """Give up the name, if this worker has it; whether it surely has not, after ``LEAVE_S`` at most."""
        if self._in_doubt or self._fence is None:
            return not self._in_doubt
        with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_S):
            try:
                await self._store.release_name(self._name, self._fence)
            except StoreError:
                return False
            return True
        return False


def _check_that_it_may_wait(name: str, queue: _Queue) -> None:
    """Raise ``UsageError`` if this task would wait for one that waits for it: itself, or one in whose block it was started."""
    owner = queue.lock.statistics().owner
    task = trio.lowlevel.current_task()
    if owner is task:
        raise UsageError(
            f"register({repr_of(name)}): this task has that name already, and would wait for itself.\n"
            "  Fix: register it once, around all that needs it."
        )
    nursery = task.parent_nursery
    while owner is not None and nursery is not None:
        if nursery.parent_task is owner and nursery in owner.child_nurseries[queue.outside :]:
            raise UsageError(
                f"register({repr_of(name)}): this task was started in the block of one that has that name, "
                "which ends after this one, so it would wait for ever.\n"
                "  Fix: register it once, around all that needs it; or start this task in a nursery around that block."
            )
        nursery = nursery.parent_task.parent_nursery


def left_s_of(keeping: Keeping) -> float:
    """For how many seconds no other can have the names of this worker."""
    lease = keeping.lease
    if lease is None or lease.lost.is_set():
        return 0.0
    return lease.good_until() - trio.current_time()


async def _watch(keeping: Keeping, scope: trio.CancelScope, watching: trio.CancelScope) -> None:
    """End what goes on in the name's block when another may have the name; until `watching` is cancelled, and nothing else.

    What cancels the block from outside would end this as well, and then stand in place of what the block raises.
    """
    lease = keeping.lease
    assert lease is not None, "the store gave a name to it"
    with watching:
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
