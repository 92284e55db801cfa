"""One store made of several: each run is in one of them, by a digest of its id, so their servers share the writing.

What belongs to no run (names, allowances, schedules) is in one of them by a digest of its name. News go by the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2s
from pathlib import Path
from typing import Final, Protocol, cast, final

import trio

from actors.errors import DeclarationError
from actors.store_errors import RunLost, StoreDamaged, StoreError
from runtime.journal.allowances import AllowanceStore, Amount
from runtime.journal.meeting import NameHolder, NameStore, NewsStore
from runtime.journal.named_stores import store_of
from runtime.journal.records import Record
from runtime.journal.split_pages import split_page
from runtime.journal.store import (
    Created,
    Done,
    Existing,
    Lease,
    NewRun,
    Page,
    Posted,
    RunQuery,
    Store,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
    StoredStatus,
)
from runtime.journal.told_events import EventKeeper, ToldEvent

LOOKED_AT: Final = 20
"""How many runs of each store are looked at, when it is opened, for one that belongs to another."""


class _Part(Store, NameStore, NewsStore, AllowanceStore, EventKeeper, Protocol):
    """What each of them must be."""


@final
class SplitStore:
    """``open_runtime(store=SplitStore(["postgresql://a/runs", "postgresql://b/runs"]))``: beyond the writes of one server.

    All owners give the same stores in the same order, for as long as any of their runs is kept: which of them a run is in follows
    from its id and their number.
    """

    def __init__(self, stores: Iterable[str | Path | Store]) -> None:
        """Each is a store, or names one as ``open_runtime(store=…)`` does.

        Raises:
            DeclarationError: there is none, or one is for a single process. UsageError: one is no store.
        """
        parts = [store_of(each) for each in stores]
        if not parts:
            raise DeclarationError("SplitStore([]): there is no store.\n  Fix: SplitStore(['postgresql://a', 'postgresql://b']).")
        for each in parts:
            if not all(isinstance(each, kind) for kind in (NameStore, NewsStore, AllowanceStore, EventKeeper)):
                raise DeclarationError(
                    f"SplitStore([…]): a {type(each).__name__} is for one process, which needs no second one.\n"
                    "  Fix: split over databases: SplitStore(['postgresql://a', 'postgresql://b'])."
                )
        self._parts = cast("list[_Part]", parts)
        self._posted: list[Posted] = []
        """What was handed out here and not to who asks."""
        self._first = 0
        """Which is asked first for runs that are due."""
        self._is_closing = False

    # --- which ------------------------------------------------------------------------------------------------------------

    def _number_of(self, name: str) -> int:
        digest = blake2s(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % len(self._parts)

    def _of(self, name: str) -> _Part:
        return self._parts[self._number_of(name)]

    # --- opening and closing ----------------------------------------------------------------------------------------------

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``. The lease is over when that of one of them is: then the runs in the others are handed back.

        Raises:
            StoreError: one cannot be opened, or has a run that belongs to another.
        """
        leases: list[Lease] = []
        try:
            for part in self._parts:
                leases.append(await part.open(worker, nursery))  # noqa: PERF401 - those that are open when one fails are closed
            for number in range(len(self._parts)):
                await self._check(number)
        except BaseException:
            with trio.CancelScope(shield=True):
                for part in self._parts[: len(leases)]:
                    await part.close()
            raise
        lease = Lease(worker, max(each.epoch for each in leases), good_until=lambda: min(each.good_until() for each in leases))
        for each in leases:
            nursery.start_soon(self._watch, each, lease)
        return lease

    async def _check(self, number: int) -> None:
        page = await self._parts[number].runs(RunQuery(limit=LOOKED_AT))
        for run in page.items:
            if self._number_of(run.id) != number:
                raise StoreError(
                    f"store {number + 1} of {len(self._parts)} has run {run.id!r}, which belongs in store "
                    f"{self._number_of(run.id) + 1}.\n  Fix: give SplitStore the stores that it was given first, in that order."
                )

    async def _watch(self, one: Lease, all_of_them: Lease) -> None:
        with trio.CancelScope(shield=True):
            await one.lost.wait()
            all_of_them.lost.set()
            await self.close()

    async def close(self) -> None:
        """See ``Store.close``."""
        if self._is_closing:
            await trio.lowlevel.checkpoint()
            return
        self._is_closing = True
        async with trio.open_nursery() as nursery:
            for each in self._parts:
                nursery.start_soon(each.close)

    # --- runs -------------------------------------------------------------------------------------------------------------

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``. All or none, and the order of the calls of `done`, hold within each of the stores."""
        parts = dict.fromkeys(self._number_of(row.run) for row in rows)
        if len(parts) == 1:
            self._of(rows[0].run).append(rows, sync, done, question, answered)
            return
        outcomes: list[StoreError | RunLost | None] = []

        def one_done(outcome: StoreError | RunLost | None) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(parts):
                done(next((each for each in outcomes if each is not None), None))

        for number in parts:
            own = [row for row in rows if self._number_of(row.run) == number]
            asked = question if question is not None and self._number_of(question.run) == number else None
            self._parts[number].append(own, sync, one_done, asked, answered)

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        return await self._of(run.id).create(run, first)

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``: the longest due of each store first, and as many of each, if it has them."""
        found: list[StoredRun] = []
        failures: dict[_Part, StoreError] = {}
        share = max(1, limit // len(self._parts))
        order = [*self._parts[self._first :], *self._parts[: self._first]]
        self._first = (self._first + 1) % len(self._parts)
        for most in (share, limit):
            for each in order:
                left = min(most, limit - len(found))
                if left > 0 and each not in failures:
                    try:
                        found += await each.claim(graphs, left)
                    except StoreError as error:  # what was claimed of the others is this worker's all the same
                        failures[each] = error
        if not found and failures:
            raise next(iter(failures.values()))
        return found

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        return await self._of(run).take(run, only)

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        """See ``Store.release``."""
        await self._of(run).release(run, status, wake_at, looked_at=looked_at, life=life)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """See ``Store.read``."""
        return self._of(run).read(run, after)

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        return await self._of(run).run(run)

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        return await split_page(self._parts, query)

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        return await self._of(run.id).fork(run, records)

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        return await self._of(run).forget(run)

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        return sum([await each.expire(done, failed, payload) for each in self._parts])

    # --- what people and other programs say -------------------------------------------------------------------------------

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        if run is not None:
            return await self._of(run).questions(run)
        found = [question for each in self._parts for question in await each.questions()]
        return sorted(found, key=lambda question: question.asked)

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``; its id does not tell which of them has it."""
        for each in self._parts:
            found = await each.question(question)
            if found is not None:
                return found
        return None

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        return await self._of(item.run).post(item)

    async def posted(self) -> Sequence[Posted]:
        """See ``Store.posted``."""
        failures: list[StoreError] = []
        if not self._posted:
            async with trio.open_nursery() as nursery:
                for each in self._parts:
                    nursery.start_soon(self._ask_for_posted, each, failures, nursery.cancel_scope)
        found, self._posted = self._posted, []
        if not found and failures:
            raise failures[0]
        return found

    async def _ask_for_posted(self, part: _Part, failures: list[StoreError], scope: trio.CancelScope) -> None:
        try:
            self._posted += await part.posted()
        except StoreError as error:
            failures.append(error)
        scope.cancel()  # the others: what they had not handed out, they keep

    async def inbox(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        return await self._of(run).inbox(run)

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        return await self._of(run).tell(run, rows)

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""
        return await self._of(run).told(run, after)

    # --- what belongs to no run -------------------------------------------------------------------------------------------

    async def schedule(self, schedule: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        await self._of(schedule.name).schedule(schedule)

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        return await self._of(name).unschedule(name)

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        found = [schedule for each in self._parts for schedule in await each.schedules()]
        return sorted(found, key=lambda schedule: schedule.name)

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        return await self._of(name).tick(name, seen, next_at)

    async def hold(self, name: str) -> NameHolder:
        """See ``NameStore.hold``."""
        return await self._of(name).hold(name)

    async def release_name(self, name: str, fence: int) -> None:
        """See ``NameStore.release_name``."""
        await self._of(name).release_name(name, fence)

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        return await self._of(name).holder(name)

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        return await self._of(name).owe(name, seconds)

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        return await self._of(name).spend(name, amount, most)

    async def announce(self, news: bytes) -> None:
        """See ``NewsStore.announce``."""
        await self._parts[0].announce(news)

    async def announced(self) -> Sequence[bytes | StoreDamaged]:
        """See ``NewsStore.announced``."""
        return await self._parts[0].announced()

    def statistics(self) -> Mapping[str, float]:
        """See ``Store.statistics``: the sums."""
        counts: dict[str, float] = {}
        for each in self._parts:
            for name, count in each.statistics().items():
                counts[name] = counts.get(name, 0.0) + count
        return counts

    def wall_time(self) -> datetime:
        """See ``Store.wall_time``: that of the first."""
        return self._parts[0].wall_time()
