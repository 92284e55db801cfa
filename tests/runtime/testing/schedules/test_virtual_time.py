from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
import trio.testing

from actors.errors import UsageError
from runtime.testing import Simulation, thread_gate
from runtime.testing.schedules.strategies import RandomWalk


async def race(thread_s: float, timeout_s: float) -> bool:
    """Whether the thread came back before the timeout."""
    with trio.move_on_after(timeout_s) as scope:
        await trio.to_thread.run_sync(time.sleep, thread_s, abandon_on_cancel=True)
    return not scope.cancelled_caught


async def test_a_short_thread_never_loses_to_a_long_virtual_timeout(virtual_clock: trio.testing.MockClock) -> None:
    assert await race(thread_s=0.02, timeout_s=10)
    assert trio.current_time() == 0.0


def test_without_the_gate_it_does_lose() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    assert not trio.run(race, 0.02, 10, clock=clock)


async def test_the_clock_goes_on_while_the_thread_waits_for_the_loop(virtual_clock: trio.testing.MockClock) -> None:
    def work() -> str:
        time.sleep(0.01)
        trio.from_thread.run(trio.sleep, 60)
        time.sleep(0.01)
        return "done"

    with trio.fail_after(100):
        assert await trio.to_thread.run_sync(work) == "done"

    assert trio.current_time() == 60.0


async def test_the_clock_jumps_again_when_the_last_thread_is_back(virtual_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for thread_s in (0.01, 0.02, 0.03):
            nursery.start_soon(race, thread_s, 1000)

    await trio.sleep(3600)

    assert trio.current_time() == 3600.0


async def test_a_thread_that_no_task_waits_for_holds_the_clock_too(virtual_clock: trio.testing.MockClock) -> None:
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    trio.lowlevel.start_thread_soon(lambda: time.sleep(0.02), lambda _: token.run_sync_soon(event.set))
    with trio.fail_after(10):
        await event.wait()

    assert trio.current_time() == 0.0


async def test_the_clock_goes_on_for_threads_that_a_worker_thread_started(virtual_clock: trio.testing.MockClock) -> None:
    token = trio.lowlevel.current_trio_token()

    def work() -> list[None]:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda wait_s: trio.from_thread.run(trio.sleep, wait_s, trio_token=token), [60, 60, 60]))

    with trio.fail_after(100):
        assert await trio.to_thread.run_sync(work) == [None] * 3
    assert trio.current_time() == 60.0
    assert await race(thread_s=0.2, timeout_s=10)


def test_threads_can_be_forbidden() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    with (
        thread_gate(threads="forbid"),
        pytest.raises(UsageError, match=r"^worker threads are forbidden in this test, and .*sleep"),
    ):
        trio.run(race, 0.02, 10, clock=clock)


def test_threads_of_a_simulation_return_in_the_order_of_their_start() -> None:
    async def main() -> tuple[list[int], float]:
        order: list[int] = []

        def work(number: int) -> int:
            time.sleep(0.005 * (3 - number))
            trio.from_thread.run(trio.sleep, 5)
            return number

        async def run(number: int) -> None:
            order.append(await trio.to_thread.run_sync(work, number))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(run, number)
        return order, trio.current_time()

    results = [Simulation(RandomWalk(4)).run(main) for _ in range(5)]

    assert results == [results[0]] * 5
    assert results[0][1] == 5.0


def test_a_simulation_can_forbid_threads() -> None:
    with pytest.raises(UsageError, match=r"^worker threads are forbidden in this test"):
        Simulation(RandomWalk(4), threads="forbid").run(lambda: race(0.02, 10))
