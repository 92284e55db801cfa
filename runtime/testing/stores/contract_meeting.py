"""Names that one owner has at a time, and news for the others: a part of the contract of stores, for those that have them."""

from __future__ import annotations

import trio

from runtime.journal.meeting import NameHolder, NameStore, NewsStore
from runtime.testing.stores.samples import MakeStore, opened


class MeetingContract:
    """What the owners of a store settle and tell one another."""

    async def test_a_name_is_held_until_it_is_let_go_and_its_fence_grows(self, make_store: MakeStore) -> None:
        """Also over the end of who had it."""
        async with opened(make_store) as store:
            if not isinstance(store, NameStore):
                return
            names: NameStore = store
            assert await names.holder("index") is None
            first = await names.hold("index")
            assert first.fence == 1
            assert await names.holder("index") == first
            assert await names.hold("index") == NameHolder(first.worker, 2)
            await names.release_name("index", first.fence)
            assert await names.holder("index") == NameHolder(first.worker, 2), "it was taken again since"
            await names.release_name("index", 2)
            await names.release_name("another", 1)
            assert await names.holder("index") is None
            assert (await names.hold("index")).fence == 3
        async with opened(make_store) as store:
            if isinstance(store, NameStore):
                assert await store.holder("index") is None
                assert (await store.hold("index")).fence == 4

    async def test_what_one_owner_announces_all_others_hear_once(self, make_store: MakeStore, nursery: trio.Nursery) -> None:
        """Those that had opened the store by then, and not the one that says it."""
        stores = [make_store() for _ in range(3)]
        if not all(isinstance(store, NewsStore) for store in stores):
            return
        first, second, third = (store for store in stores if isinstance(store, NewsStore))
        await stores[0].open("first", nursery)
        await stores[1].open("second", nursery)
        await first.announce(b"before the third")
        await stores[2].open("third", nursery)
        for number in range(3):
            await first.announce(b"%d" % number)
        await second.announce(b"from the second")

        assert await _heard(second, 4) == [b"0", b"1", b"2", b"before the third"]
        assert await _heard(third, 4) == [b"0", b"1", b"2", b"from the second"]
        assert await _heard(first, 1) == [b"from the second"]
        await third.announce(b"last")
        for each in (first, second):
            assert await _heard(each, 1) == [b"last"]
        for store in stores:
            await store.close()

    async def test_a_name_is_one_owners_at_a_time(self, make_store: MakeStore, nursery: trio.Nursery) -> None:
        """The others are told who has it; when that one closes the store, it is free."""
        one, other = make_store(), make_store()
        if not isinstance(one, NewsStore) or not isinstance(one, NameStore) or not isinstance(other, NameStore):
            return  # of a store for one process at a time there are no others
        await one.open("one", nursery)
        await other.open("other", nursery)
        assert await one.hold("index") == NameHolder("one", 1)
        assert await other.hold("index") == NameHolder("one", 1)
        await other.release_name("index", 1)
        assert await other.holder("index") == NameHolder("one", 1)
        await one.close()
        assert await other.hold("index") == NameHolder("other", 2)
        await other.close()


async def _heard(store: NewsStore, count: int) -> list[bytes]:
    found: list[bytes] = []
    with trio.fail_after(10):
        while len(found) < count:
            found += [news for news in await store.announced() if isinstance(news, bytes)]
    return sorted(found)
