"""One actor per key: started by its first message, one at a time, ended when idle, and elsewhere when its host is lost."""

from __future__ import annotations

import collections
import contextlib
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, ActorFailed, Backoff, NotPortable, Redelivery, Request
from runtime import open_runtime
from runtime.placement import Here, Sharded
from runtime.testing.loopback_hosts import LoopbackHosts

lives: collections.Counter[Any] = collections.Counter()
most: collections.Counter[Any] = collections.Counter()
log: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    lives.clear()
    most.clear()
    log.clear()


@attrs.frozen
class Say(Request[tuple[str, int]]):
    user: Any
    nap_s: float = 0.0


class Chat(Actor[Say]):
    def __init__(self, user: Any) -> None:
        self.user = user
        self.said = 0

    @contextlib.asynccontextmanager
    async def lifespan(self):
        lives[self.user] += 1
        most[self.user] = max(most[self.user], lives[self.user])
        log.append((trio.current_time(), "+", self.user))
        try:
            yield
            await trio.sleep(1)  # its clean-up
        finally:
            lives[self.user] -= 1
            log.append((trio.current_time(), "-", self.user))

    async def receive(self, message: Say) -> tuple[Any, int]:
        await trio.sleep(message.nap_s)
        self.said += 1
        return self.user, self.said


def user_of(message: Say) -> Any:
    return message.user


@pytest.mark.parametrize("place", [None, Here(), LoopbackHosts(2)])
async def test_the_first_message_of_a_key_starts_its_actor_and_idle_ones_go(place, autojump_clock):
    began = trio.current_time()
    async with open_runtime(places={"cpu": place} if place else None) as runtime:
        sharded = Sharded(Chat, key=user_of, idle_s=10.0)
        chats = await runtime.spawn(sharded, name="chats", place="cpu" if place else None)
        assert [await chats.ask(Say(user)) for user in ("ada", "bob", "ada")] == [("ada", 1), ("bob", 1), ("ada", 2)]
        assert runtime.inspect(chats) == {"active": 2}
        await trio.sleep(6)
        assert await chats.ask(Say("ada")) == ("ada", 3)
        await trio.sleep(8)
        assert runtime.inspect(chats) == {"active": 1}
        assert runtime.whereis("chats/bob") is None
        await trio.sleep(8)
        assert runtime.inspect(chats) == {"active": 0}
        assert await chats.ask(Say("ada")) == ("ada", 1)
    assert [(at - began, *what) for at, *what in log][:4] == [
        (0, "+", "ada"),
        (0, "+", "bob"),
        (11, "-", "bob"),
        (17, "-", "ada"),
    ]


async def test_what_comes_while_it_ends_waits_and_starts_it_anew(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2)}) as runtime:
        chats = await runtime.spawn(Sharded(Chat, key=user_of, idle_s=10.0), name="chats", place="cpu")
        await chats.ask(Say("ada"))
        await trio.sleep(10.5)
        assert lives["ada"] == 1  # in its clean-up
        assert await chats.ask(Say("ada")) == ("ada", 1)
        assert await chats.ask(Say("ada")) == ("ada", 2)
    assert most == {"ada": 1}
    assert [what for _, what, _ in log] == ["+", "-", "+", "-"]


async def test_no_more_live_than_the_limit_and_the_one_idle_for_longest_goes_first(autojump_clock):
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        chats = await runtime.spawn(Sharded(Chat, key=user_of, limit=2), name="chats")
        for user in ("ada", "bob", "ada"):
            await chats.ask(Say(user))
        await chats.ask(Say("eve"))
        assert sorted(user for user, count in lives.items() if count) == ["ada", "eve"]
        nursery.start_soon(chats.ask, Say("ada", 5.0))
        nursery.start_soon(chats.ask, Say("eve", 3.0))
        await trio.sleep(0.1)
        assert await chats.ask(Say("bob")) == ("bob", 1)  # both are at work: it waits for the first that is not
        assert sorted(user for user, count in lives.items() if count) == ["ada", "bob"]


async def test_a_message_without_a_key_and_a_key_that_cannot_travel_end_no_one(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2)}) as runtime:
        chats: Any = await runtime.spawn(Sharded(Chat, key=user_of), name="chats", place="cpu")
        await chats.ask(Say("ada"))
        with pytest.raises(ActorFailed) as failure:
            await chats.ask("nothing")
        assert isinstance(failure.value.__cause__, AttributeError)
        with pytest.raises(NotPortable):
            await chats.ask(Say(frozenset([object()])))
        assert await chats.ask(Say("a/b")) == ("a/b", 1)
        assert await chats.ask(Say("ada")) == ("ada", 2)


async def test_over_a_lost_host_all_are_answered_and_one_of_each_key_lives_at_a_time(autojump_clock):
    await keys_over_a_loss(60)


@pytest.mark.chaos
async def test_two_thousand_keys_over_a_lost_host(autojump_clock):
    await keys_over_a_loss(2000)


async def keys_over_a_loss(keys: int) -> None:
    place = LoopbackHosts(2)
    async with open_runtime(places={"cpu": place}) as runtime:
        redelivery = Redelivery(max_attempts=3, backoff=Backoff(first_s=0.05))
        chats = await runtime.spawn(Sharded(Chat, key=user_of, idle_s=30.0, redelivery=redelivery), name="chats", place="cpu")
        answers: list[Any] = []

        async def ask(user: str) -> None:
            answers.append((await chats.ask(Say(user, 0.5)))[0])

        users = [f"user-{number}" for number in range(keys)]
        for kill in (False, True):
            async with trio.open_nursery() as nursery:
                for user in users:
                    nursery.start_soon(ask, user)
                if kill:
                    await trio.sleep(0.2)
                    place.kill("host-1")
        assert collections.Counter(answers) == dict.fromkeys(users, 2)
        assert set(most.values()) == {1}
        await trio.sleep(70)
        assert runtime.inspect(chats) == {"active": 0}
        assert not any(lives.values())
