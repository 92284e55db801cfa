"""One actor per key in all owners of a store: never two at a time, reached from each, elsewhere when its owner is lost."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    DeclarationError,
    NameLost,
    NotPortable,
    OwnerLost,
    Redelivery,
    Request,
    StoreUnavailable,
)
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.memory_meeting import MemoryMeeting
from runtime.placement import Here, Sharded
from runtime.placement.owner_routes import LOOK_S, LOOKS
from runtime.placement.shard_keys import SHARDS, shard_of
from runtime.testing.loopback_hosts import LoopbackHosts

LEASE_S = 15.0
SOON_S = 0.5
"""There and back between two owners."""

lives: collections.Counter[Any] = collections.Counter()
most: collections.Counter[Any] = collections.Counter()
handled: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    lives.clear()
    most.clear()
    handled.clear()


@attrs.frozen
class Said:
    user: Any
    count: int
    fence: int


@attrs.frozen
class Say(Request[Said]):
    user: Any
    nap_s: float = 0.0
    number: int = 0


@attrs.frozen
class Tell:
    user: Any
    number: int


class Chat(Actor[Say | Tell]):
    def __init__(self, user: Any) -> None:
        self.user = user
        self.count = 0

    @contextlib.asynccontextmanager
    async def lifespan(self):
        lives[self.user] += 1
        most[self.user] = max(most[self.user], lives[self.user])
        try:
            yield
        finally:
            lives[self.user] -= 1

    async def receive(self, message: Say | Tell) -> Said | None:
        if isinstance(message, Say):
            await trio.sleep(message.nap_s)
        if message.user == "bad":
            raise ValueError("a bad user")
        handled.append((message.user, message.number))
        self.count += 1
        return Said(self.user, self.count, self.context.fence) if isinstance(message, Say) else None


def user_of(message: Any) -> Any:
    return message.user


@contextlib.asynccontextmanager
async def owner(store: MemoryStore, worker: str, **options: Any) -> AsyncIterator[Any]:
    place = options.pop("place", None)
    sharded = Sharded(Chat, key=user_of, everywhere=True, **options)
    async with open_runtime(store=store, worker=worker, places={"cpu": place} if place else None) as runtime:
        yield await runtime.spawn(sharded, name="chats", place="cpu" if place else None)


@pytest.mark.parametrize("place", [None, Here(), LoopbackHosts(2)])
async def test_a_key_has_one_actor_among_all_owners_and_is_reached_from_each(place, autojump_clock):
    store = MemoryStore()
    async with owner(store, "a", place=place) as one, owner(store.beside(), "b", place=place) as two:
        first = await one.ask(Say("ada"))
        began = trio.current_time()
        second = await two.ask(Say("ada"))
        assert trio.current_time() - began < SOON_S
        assert (await two.ask(Say("bob"))).count == 1
        assert (await one.ask(Say("bob"))).count == 2
        assert [first.count, second.count, (await one.ask(Say("ada"))).count] == [1, 2, 3]
        assert first.fence == second.fence >= 1
    assert most == {"ada": 1, "bob": 1}


async def test_many_keys_asked_from_three_owners_at_once_are_each_activated_once(autojump_clock):
    store = MemoryStore()
    async with contextlib.AsyncExitStack() as stack:
        owners = [await stack.enter_async_context(owner(store.beside(), str(number))) for number in range(3)]
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(owners[number % 3].ask, Say(f"user {number % 50}", 0.01, number))
        assert len(handled) == len(set(handled)) == 300
    assert set(most.values()) == {1}


async def test_messages_of_one_sender_are_handled_in_order_also_while_a_shard_moves(autojump_clock):
    store = MemoryStore()
    async with owner(store, "a", idle_s=2) as one, owner(store.beside(), "b", idle_s=2) as two:
        await one.ask(Say("ada"))
        for number in range(1, 200):
            await two.tell(Tell("ada", number))
            await trio.sleep(3.4 if number % 20 == 0 else 0.013)
            if number % 40 == 0:
                await one.ask(Say("ada", 0.0, -number))
        await trio.sleep(5)
    assert [number for _, number in handled if number > 0] == list(range(1, 200))
    assert most == {"ada": 1}


async def test_keys_of_an_owner_that_died_are_activated_elsewhere_once_its_lease_has_ended(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)
    async with owner(store.beside(), "b", redelivery=Redelivery(max_attempts=3)) as two, owner(store, "a") as one:
        assert (await one.ask(Say("ada"))).count == 1
        assert (await two.ask(Say("ada"))).count == 2
        store.cut_off()
        await trio.sleep(2)
        began = trio.current_time()
        assert (await two.ask(Say("ada"))).count == 1
        assert LEASE_S - 3 <= trio.current_time() - began <= LEASE_S + LOOKS * LOOK_S + 2
        store.heal()
    assert most == {"ada": 1}


async def test_without_redelivery_what_a_lost_owner_had_is_in_doubt(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)
    async with owner(store.beside(), "b") as two, trio.open_nursery() as nursery:

        async def die() -> None:
            async with owner(store, "a") as one:
                await one.ask(Say("ada"))
                await trio.sleep_forever()

        nursery.start_soon(die)
        await trio.sleep(1)

        async def ask() -> None:
            with pytest.raises(ActorFailed) as failed:
                await two.ask(Say("ada", 100.0))
            cause = failed.value.__cause__
            assert isinstance(cause, OwnerLost)
            assert cause.owner.startswith("a-")

        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            await trio.sleep(1)
            store.freeze()  # as a process that was stopped: it says nothing more
            lives.clear()
            began = trio.current_time()
        assert trio.current_time() - began <= LOOKS * LOOK_S + 2
        assert (await two.ask(Say("ada"))).count == 1
        nursery.cancel_scope.cancel()


async def test_an_owner_that_is_cut_off_ends_its_actors_before_another_starts_them(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)
    async with owner(store.beside(), "b", redelivery=Redelivery(max_attempts=5)) as two:
        async with owner(store, "a") as one:
            await one.ask(Say("ada"))
            store.cut_off()
            assert (await two.ask(Say("ada"))).count == 1
            with pytest.raises(NameLost, match="may no longer have actors of 'chats'"):
                await one.ask(Say("ada"))
            store.heal()
    assert most == {"ada": 1}


async def test_an_idle_shard_goes_to_the_owner_that_asks_next_with_a_greater_fence(autojump_clock):
    store = MemoryStore()
    async with owner(store, "a", idle_s=5) as one, owner(store.beside(), "b", idle_s=5) as two:
        first = await one.ask(Say("ada"))
        await trio.sleep(10)
        assert lives["ada"] == 0
        began = trio.current_time()
        second = await two.ask(Say("ada"))
        assert trio.current_time() == began  # it lives there now
        assert (second.count, second.fence) == (1, first.fence + 1)


async def test_an_owner_that_closes_hands_its_keys_over_at_once(autojump_clock):
    store = MemoryStore(lease_s=1000)
    async with owner(store.beside(), "b") as two:
        async with owner(store, "a") as one:
            assert (await one.ask(Say("ada"))).count == 1
            assert (await two.ask(Say("ada"))).count == 2
        began = trio.current_time()
        assert (await two.ask(Say("ada"))).count == 1
        assert trio.current_time() - began < LOOKS * LOOK_S + 2


async def test_a_router_that_is_started_anew_serves_what_the_others_send(autojump_clock):
    store = MemoryStore()
    async with owner(store.beside(), "b") as two, open_runtime(store=store, worker="a") as runtime:
        sharded = Sharded(Chat, key=user_of, everywhere=True)
        for _ in range(2):
            one = await runtime.spawn(sharded, name="chats")
            await one.ask(Say("ada"))
            assert (await two.ask(Say("ada"))).count == 2
            await runtime.stop(one)
            assert lives["ada"] == 0


async def test_errors_answers_and_cancellations_cross_between_owners(autojump_clock):
    store = MemoryStore()
    async with owner(store, "a") as one, owner(store.beside(), "b") as two:
        await one.ask(Say("ada"))
        with pytest.raises(ActorFailed):
            await one.ask(Say("bad"))
        with pytest.raises(ActorFailed, match="a bad user"):
            await two.ask(Say("bad"))
        with trio.move_on_after(1):
            await two.ask(Say("ada", 1000.0))
        await trio.sleep(SOON_S)
        began = trio.current_time()
        assert (await one.ask(Say("ada"))).count == 2  # it no longer sleeps
        assert trio.current_time() == began
        two_ref: Any = two
        with pytest.raises(NotPortable, match="cannot be told to other owners"):
            await two_ref.ask(Say(1.5))
        with pytest.raises(ActorFailed):
            await two_ref.ask("no key")


async def test_a_store_that_is_away_is_said_to_who_asks_for_a_key_of_which_nothing_is_known(autojump_clock):
    store = MemoryStore()
    async with owner(store, "a") as one:
        await one.ask(Say("ada"))
        store.cut_off()
        assert (await one.ask(Say("ada"))).count == 2  # it has that
        other = next(f"user {number}" for number in range(SHARDS) if shard_of(f"user {number}") != shard_of("ada"))
        with pytest.raises(StoreUnavailable):
            await one.ask(Say(other))
        store.heal()
        assert (await one.ask(Say(other))).count == 1


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_message_that_the_store_has_forgotten_is_missed_by_who_waits_for_it(attempts, autojump_clock, monkeypatch):
    store = MemoryStore()
    redelivery = Redelivery(max_attempts=attempts)
    async with owner(store, "a", redelivery=redelivery) as one, owner(store.beside(), "b", redelivery=redelivery) as two:
        await one.ask(Say("ada"))
        announce = MemoryMeeting.announce
        forgotten: list[bytes] = []

        def forget(self: MemoryMeeting, news: bytes, worker: str) -> None:
            if forgotten:
                announce(self, news, worker)
            else:
                forgotten.append(news)

        monkeypatch.setattr(MemoryMeeting, "announce", forget)
        if attempts == 1:
            with pytest.raises(ActorFailed) as failed:
                await two.ask(Say("ada"))
            assert isinstance(failed.value.__cause__, OwnerLost)
        else:
            assert (await two.ask(Say("ada"))).count == 2
        assert (await two.ask(Say("ada", 30.0))).count == attempts + 1  # one that takes long is not missed
    assert len(forgotten) == 1


async def test_without_a_store_they_are_everywhere_here(autojump_clock):
    async with open_runtime() as runtime:
        chats = await runtime.spawn(Sharded(Chat, key=user_of, everywhere=True), name="chats")
        assert await chats.ask(Say("ada")) == Said("ada", 1, 0)


def test_a_key_has_the_same_shard_in_every_process():
    assert [shard_of(each) for each in ("ada", 7, b"ada", ("ada", 7))] == [63, 251, 168, 68]
    assert len({shard_of(number) for number in range(10_000)}) == SHARDS


def test_what_cannot_be_named_is_rejected():
    with pytest.raises(DeclarationError, match="cannot be told to other owners"):
        Sharded(__import__("functools").partial(Chat), key=user_of, everywhere=True)
