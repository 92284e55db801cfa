"""Pools behind one ref, and the bus."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    AskCycle,
    ChildSpec,
    DeclarationError,
    MailboxFull,
    MailboxSpec,
    Overflow,
    UsageError,
)
from runtime.core.routers import Pool, Routing
from tests.runtime.cast import PATIENT, TEMPORARY, Boom, Does, Echo, Recorder, cause_of, names, settled, stage


async def name_itself(actor, message):
    if isinstance(message, Exception):
        raise message
    if isinstance(message, float):
        await trio.sleep(message)
    return actor.context.ref.address.rpartition("-")[2]


def pool_of(size, routing=Routing.ROUND_ROBIN, **options):
    return Pool(ChildSpec("w", Does, (name_itself,), **options), size, routing)


async def test_PK_R01_round_robin(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(3), name="pool")

        assert [await ref.ask("?") for _ in range(7)] == ["1", "2", "3", "1", "2", "3", "1"]
        assert list(runtime.statistics().actors) == ["pool", "pool/w-1", "pool/w-2", "pool/w-3"]


async def test_PK_R01_least_busy(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(2, Routing.LEAST_BUSY))
        await ref.tell(5.0)
        await settled()

        assert [await ref.ask("?") for _ in range(3)] == ["2", "2", "2"]


async def test_PK_R01_EX_10_equal_keys_go_to_the_same_actor_in_every_process(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(4, Routing.HASH(lambda message: message[0])))

        answers = {key: {await ref.ask((key, number)) for number in range(5)} for key in ("ada", "bob", "cyd")}

    assert answers == {"ada": {"3"}, "bob": {"3"}, "cyd": {"4"}}


async def test_OTP_092_broadcast_partitions_into_replies_and_failures(virtual_clock):
    async def odd_ones_fail(actor, message):
        if actor.context.ref.address.endswith("2"):
            raise Boom
        return message

    async with stage() as runtime:
        ref = await runtime.spawn(Pool(ChildSpec("w", Does, (odd_ones_fail,)), 3, Routing.BROADCAST))

        first, second, third = await ref.ask("all")

    assert (first, type(second), third) == ("all", ActorFailed, "all")


async def test_broadcast_tells_all(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Pool(ChildSpec("w", Recorder, (log,)), 3, Routing.BROADCAST))
        await ref.tell("x")
        await settled()

    assert names(log) == "+ + + x x x - - -"


async def test_a_pool_handles_as_many_messages_at_once_as_it_has_actors(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(3))
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ref.ask, 1.0)

        assert trio.current_time() == 2.0


async def test_cancelling_an_ask_of_a_pool_reaches_the_actor_that_handles_it(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(1))
        with trio.move_on_after(1):
            await ref.ask(100.0)
        await ref.ask("next")

        assert trio.current_time() == 1


async def test_a_failing_actor_of_a_pool_is_restarted_and_the_asker_gets_its_error(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(pool_of(2), name="pool")
        with pytest.raises(
            ActorFailed, match=r"^'pool/w-1' failed while it handled a Boom message: Boom: x\n  at .*:\d+ in \w+$"
        ):
            await ref.ask(Boom("x"))
        await trio.sleep(1)

        assert [await ref.ask("?") for _ in range(2)] == ["2", "1"]


async def test_PK_R01_a_pool_ends_with_the_last_of_its_actors(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(2, restart=TEMPORARY), name="pool", restart=TEMPORARY)
        for _ in range(2):
            with pytest.raises(ActorFailed):
                await ref.ask(Boom())
            await settled()

        assert runtime.whereis("pool") is None


async def test_a_full_actor_of_a_pool_refuses_for_itself(virtual_clock):
    full = MailboxSpec(1, Overflow.REJECT)
    async with stage() as runtime:
        ref = await runtime.spawn(pool_of(1, mailbox=full), name="pool")
        ref.tell_nowait(5.0)
        await settled()
        ref.tell_nowait("waits")
        await settled()

        with pytest.raises(MailboxFull, match=r"^'pool/w-1' rejected a str message: 1 of 1 messages wait, overflow=REJECT\."):
            await ref.ask("too many")
        assert [letter.recipient for letter in runtime.dead_letters] == ["pool/w-1"]


async def test_a_ring_of_asks_through_a_pool_is_refused(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        refs: dict[str, Any] = {}

        async def ask_back(actor, message):
            return await refs["outer"].ask("back")

        async def ask_pool(actor, message):
            return await refs["pool"].ask(message)

        refs["outer"] = await runtime.spawn(Does, ask_pool)
        refs["pool"] = await runtime.spawn(Pool(ChildSpec("w", Does, (ask_back,)), 1))
        with pytest.raises(ActorFailed) as caught:
            await refs["outer"].ask("go")

    assert isinstance(cause_of(cause_of(caught)), AskCycle)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((3, 1), "Pool(spec=3): expected a ChildSpec."),
        ((ChildSpec("w", Echo), 0), "Pool(size=0): expected a whole number >= 1."),
        ((ChildSpec("w", Echo), 1, "all"), "Pool(routing='all'): expected a Routing."),
    ],
)
def test_wrong_pools_are_refused(args, words):
    with pytest.raises(DeclarationError) as caught:
        Pool(*args)

    assert str(caught.value).startswith(words)


# --- the bus ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Weather:
    degrees: int


@attrs.frozen
class Storm(Weather):
    pass


class Listener(Actor):
    def __init__(self, log):
        self.log = log

    async def receive(self, message):
        if isinstance(message, Exception):
            raise message
        self.log.append(message)


async def test_PK_R03_each_subscriber_of_a_type_receives_each_message_once(virtual_clock):
    mild: list[Any] = []
    wild: list[Any] = []
    async with stage() as runtime:
        all_weather, storms_only = await runtime.spawn(Listener, mild), await runtime.spawn(Listener, wild)
        for kind in (Weather, Weather, Storm):
            runtime.subscribe(kind, all_weather)
        runtime.subscribe(Storm, storms_only)

        assert (runtime.publish(Weather(20)), runtime.publish(Storm(9)), runtime.publish("nobody")) == (1, 2, 0)
        await settled()

    assert (mild, wild) == ([Weather(20), Storm(9)], [Storm(9)])


async def test_PK_R03_a_subscription_survives_restarts_and_ends_with_the_actor_or_by_request(virtual_clock):
    heard: list[Any] = []
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Listener, heard)
        runtime.subscribe(Weather, ref)
        ref.tell_nowait(Boom())
        await settled()
        assert runtime.publish(Weather(1)) == 1
        await settled()
        runtime.unsubscribe(Weather, ref)
        assert runtime.publish(Weather(2)) == 0
        runtime.subscribe(Weather, ref)
        await runtime.stop(ref)

        assert runtime.publish(Weather(3)) == 0
        runtime.subscribe(Weather, ref)
        assert runtime.publish(Weather(4)) == 0
    assert heard == [Weather(1)]


async def test_a_subscriber_without_room_does_not_hold_the_publisher_up(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, name="slow", mailbox=MailboxSpec(1))
        runtime.subscribe(Weather, ref)

        assert [runtime.publish(Weather(number)) for number in range(2)] == [1, 0]
        assert [(letter.recipient, letter.message) for letter in runtime.dead_letters] == [("slow", Weather(1))]


async def test_only_actors_of_this_runtime_subscribe(virtual_clock):
    async with stage() as runtime:
        with pytest.raises(UsageError) as caught:
            runtime.subscribe(Weather, "slow")

    assert str(caught.value) == "'slow' isn't a ref to an actor of this runtime.\n  Fix: pass what spawn() returned."
