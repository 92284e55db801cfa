"""Handlers that must give a sign of life."""

from __future__ import annotations

import pytest
import trio

from actors import ActorFailed, ActorIdle, ChildSpec, DeclarationError, Redelivery
from runtime import Pool
from tests.runtime.cast import AT_ONCE, PATIENT, Does, Echo, cause_of, stage


async def work(actor, plan):
    """Sleeps for each number, with a heartbeat after it."""
    for pause_s in plan:
        await trio.sleep(pause_s)
        actor.context.heartbeat()
    return actor.context.incarnation


async def worker(runtime, **options):
    """An actor that works to a plan, under a supervisor that restarts it at once."""
    supervisor = await runtime.supervise([], PATIENT, name="s")
    return await supervisor.start_child(ChildSpec("a", Does, (work,), **options))


async def test_a_handler_without_a_sign_of_life_is_cancelled_and_its_actor_restarted(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await worker(runtime, idle_timeout_s=3)

        with pytest.raises(ActorFailed) as caught:
            await ref.ask([2, 100])

        assert isinstance(cause_of(caught), ActorIdle)
        assert str(cause_of(caught)) == (
            "'s/a' gave no sign of life for idle_timeout_s=3.\n"
            "  Fix: call self.context.heartbeat() while it works, or give it a larger idle_timeout_s."
        )
        assert trio.current_time() == 5
        assert await ref.ask([1]) == 2


async def test_an_actor_under_the_root_may_have_an_idle_timeout_too(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, work, name="a", idle_timeout_s=3)

        with pytest.raises(ActorFailed) as caught:
            await ref.ask([2, 100])

        assert str(cause_of(caught)).startswith("'a' gave no sign of life for idle_timeout_s=3.\n")
        assert trio.current_time() == 5


async def test_heartbeats_keep_a_long_handling_alive(virtual_clock):
    async with stage() as runtime:
        ref = await worker(runtime, idle_timeout_s=3)

        assert await ref.ask([2] * 50) == 1
        assert trio.current_time() == 100


async def test_waiting_for_the_next_message_is_no_idleness(virtual_clock):
    async with stage() as runtime:
        ref = await worker(runtime, idle_timeout_s=3)
        await trio.sleep(1000)

        assert await ref.ask([]) == 1


async def test_a_message_whose_handling_went_idle_may_be_delivered_again(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await worker(runtime, idle_timeout_s=1, redelivery=Redelivery(3, AT_ONCE))

        with pytest.raises(ActorFailed, match=r"attempt 3 of 3"):
            await ref.ask([5])

        assert trio.current_time() == 3


async def test_a_withdrawn_ask_is_not_taken_for_idleness(virtual_clock):
    async with stage() as runtime:
        ref = await worker(runtime, idle_timeout_s=3)

        with trio.move_on_after(1):
            await ref.ask([100])
        await trio.sleep(10)

        assert await ref.ask([]) == 1


async def test_the_limit_holds_for_a_handler_put_in_place_and_in_a_pool(virtual_clock):
    async def hang(message):
        await trio.sleep_forever()

    async def become(actor, message):
        actor.context.become(hang)

    async with stage(supervision=PATIENT) as runtime:
        pool = await runtime.spawn(Pool(ChildSpec("w", Does, (become,), idle_timeout_s=2), 1))
        await pool.ask("become")

        with pytest.raises(ActorFailed, match=r"gave no sign of life for idle_timeout_s=2\."):
            await pool.ask("hang")


async def test_without_a_limit_a_heartbeat_has_no_effect(virtual_clock):
    async with stage() as runtime:
        assert await (await runtime.spawn(Does, work)).ask([1000]) == 1


@pytest.mark.parametrize("limit_s", [0, -1, "1"])
def test_an_impossible_limit_is_refused(limit_s):
    with pytest.raises(DeclarationError, match=r"^ChildSpec\(idle_timeout_s=.*\): expected a number > 0\."):
        ChildSpec("a", Echo, idle_timeout_s=limit_s)
