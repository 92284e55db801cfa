from __future__ import annotations

import re
import threading

import attrs
import pytest
import trio
import trio.testing

from actors import Actor, Request
from runtime.testing import Deadlock
from runtime.testing.schedules.deadlock_watch import fails_when_stuck


@attrs.frozen
class Help(Request[str]):
    pass


class Silent(Actor):
    async def receive(self, message: object) -> object:
        await trio.sleep_forever()


async def test_an_ordinary_test_that_deadlocks_fails_at_once_with_a_report(virtual_runtime) -> None:
    async def ask_in_vain() -> None:
        async with virtual_runtime() as runtime:
            silent = await runtime.spawn(Silent, name="silent", shutdown_s=1)
            await trio.sleep(60)
            await silent.ask(Help())

    with pytest.raises(Deadlock) as caught:
        await ask_in_vain()

    text = str(caught.value)
    assert text.startswith("nothing can run and no deadline is pending, at 60 s:\n")
    assert re.search(r" waits for the answer of 'silent' to its Help   \[test_watchdog\.py:\d+ in ask_in_vain", text)
    assert re.search(r"  silent waits for sleep_forever\(\)   \[test_watchdog\.py:\d+ in receive\]", text)


async def test_a_block_that_ends_is_left_alone(virtual_clock: trio.testing.MockClock) -> None:
    with fails_when_stuck(virtual_clock):
        await trio.sleep(3600)


async def test_a_deadlock_behind_a_shield_ends_too(virtual_clock: trio.testing.MockClock) -> None:
    async def hang() -> None:
        with fails_when_stuck(virtual_clock), trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(Deadlock, match=r"test waits for sleep_forever\(\)"):
        await hang()


async def test_a_thread_of_the_tests_own_may_still_wake_it(virtual_clock: trio.testing.MockClock) -> None:
    token, event = trio.lowlevel.current_trio_token(), trio.Event()
    thread = threading.Timer(0.05, token.run_sync_soon, [event.set])
    thread.start()

    with fails_when_stuck(virtual_clock):
        await event.wait()

    thread.join()
    assert trio.current_time() == 0.0
