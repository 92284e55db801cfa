"""What all owners of a store may use together: a part of the contract of stores, for those that count it."""

from __future__ import annotations

import trio

from runtime.journal.allowances import NO_LIMIT, AllowanceStore, Amount
from runtime.testing.stores.samples import MakeStore, opened


class AllowanceContract:
    """Rates and budgets that hold over all owners."""

    async def test_what_is_owed_stands_in_one_line(self, make_store: MakeStore) -> None:
        """Each is told what stands before it; what is taken off is at most what is still owed."""
        async with opened(make_store) as store:
            if not isinstance(store, AllowanceStore):
                return

            assert [await store.owe("rate", 30_000.0), await store.owe("another", 1.0)] == [0.0, 0.0]
            assert 29_000.0 < await store.owe("rate", 30_000.0) <= 30_000.0
            assert 59_000.0 < await store.owe("rate", -30_000.0) <= 60_000.0
            assert 29_000.0 < await store.owe("rate", -100_000.0) <= 30_000.0
            assert await store.owe("rate", 0.0) < 1.0

    async def test_a_budget_is_never_spent_twice(self, make_store: MakeStore) -> None:
        """Of many at the same time so many have their part as it covers; what is given back is another's."""
        async with opened(make_store) as store:
            if not isinstance(store, AllowanceStore):
                return
            counting: AllowanceStore = store
            counted: list[bool] = []

            async def spend() -> None:
                is_counted, _ = await counting.spend("month", Amount(30, 0.5), Amount(100, 10.0))
                counted.append(is_counted)

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(spend)

            assert sorted(counted) == [False] * 5 + [True] * 3
            assert await counting.spend("month", Amount(0, 9.0), Amount(100, 10.0)) == (False, Amount(90, 1.5))
            assert await counting.spend("month", Amount(-30, -0.5), NO_LIMIT) == (True, Amount(60, 1.0))
            assert await counting.spend("month", Amount(40, 0.0), Amount(100, 10.0)) == (True, Amount(100, 1.0))
            assert await counting.spend("another", Amount(101, 0.0), Amount(100, 10.0)) == (False, Amount())

    async def test_what_was_spent_is_there_when_it_is_opened_again(self, make_store: MakeStore) -> None:
        """A worker that ends with a part of it has spent that."""
        async with opened(make_store) as store:
            if isinstance(store, AllowanceStore):
                await store.spend("month", Amount(30, 0.5), NO_LIMIT)
                await store.owe("rate", 1000.0)
        async with opened(make_store) as store:
            if isinstance(store, AllowanceStore):
                assert await store.spend("month", Amount(), NO_LIMIT) == (True, Amount(30, 0.5))
                assert await store.owe("rate", 0.0) > 900.0
