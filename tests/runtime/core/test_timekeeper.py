from __future__ import annotations

import contextlib
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from runtime.core.timekeeper import Timekeeper
from runtime.testing import run_in_virtual_time


@contextlib.asynccontextmanager
async def running():
    keeper = Timekeeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper
        nursery.cancel_scope.cancel()


async def test_timers_fire_in_the_order_of_their_deadlines_and_equal_ones_as_set(virtual_clock):
    fired = []
    async with running() as keeper:
        for name, delay_s in (("c", 3), ("a", 1), ("b1", 2), ("b2", 2), ("now", 0)):
            keeper.call_after(delay_s, lambda name=name: fired.append((trio.current_time(), name)))
        await trio.sleep(5)

    assert fired == [(0, "now"), (1, "a"), (2, "b1"), (2, "b2"), (3, "c")]


async def test_a_timer_set_while_it_sleeps_may_be_the_next(virtual_clock):
    fired: list[Any] = []
    async with running() as keeper:
        keeper.call_after(10, lambda: fired.append("late"))
        await trio.sleep(1)
        keeper.call_after(1, lambda: fired.append((trio.current_time(), "early")))
        await trio.sleep(2)

    assert fired == [(2, "early")]


async def test_a_timer_may_set_another_from_within(virtual_clock):
    fired = []
    async with running() as keeper:

        def again():
            keeper.call_after(0, lambda: fired.append(trio.current_time()))

        keeper.call_after(1, again)
        await trio.sleep(1)
        await trio.testing.wait_all_tasks_blocked()

    assert fired == [1]


async def test_a_cancelled_timer_does_not_fire_and_wakes_nobody(virtual_clock):
    async with running() as keeper:
        keeper.call_after(1, lambda: pytest.fail("cancelled")).cancel()
        await trio.sleep(5)


@hypothesis.given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200))
def test_cancelled_timers_are_swept_out_and_the_others_fire(plan):
    fired, expected = [], []

    async def main():
        async with running() as keeper:
            for number, (delay_s, cancelled) in enumerate(plan):
                timer = keeper.call_after(delay_s, lambda number=number: fired.append(number))
                if cancelled:
                    timer.cancel()
                    timer.cancel()
                else:
                    expected.append((delay_s, number))
            assert len(keeper._heap) <= 2 * len(expected) + 17
            await trio.sleep(21)
            assert (keeper._heap, keeper._cancelled) == ([], 0)

    run_in_virtual_time(main)
    assert fired == [number for _, number in sorted(expected)]
