"""Many waits of one length with one deadline."""

from typing import Any

import trio

from runtime.serve.timeouts import Timeouts


async def test_each_wait_is_due_once_after_its_own_time(virtual_clock: Any) -> None:
    due: list[tuple[str, float]] = []
    begun = trio.current_time()
    timeouts: Timeouts[str] = Timeouts(10, lambda wait: due.append((wait, round(trio.current_time() - begun))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timeouts.run)
        for name in ("a", "ended", "b", "again"):
            timeouts.begin(name)
            await trio.sleep(2)
        timeouts.end("ended")
        timeouts.end("again")
        timeouts.begin("again")  # from now on, at 8
        await trio.sleep(12)
        timeouts.end("a")  # was called already
        await trio.sleep(20)
        timeouts.begin("late")  # none was waiting
        await trio.sleep(12)
        nursery.cancel_scope.cancel()

    assert due == [("a", 10), ("b", 14), ("again", 18), ("late", 50)]


async def test_a_thousand_waits_are_one_task_and_one_deadline(virtual_clock: Any) -> None:
    count = 0

    def note(_: int) -> None:
        nonlocal count
        count += 1

    timeouts: Timeouts[int] = Timeouts(10, note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timeouts.run)
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(1_000):
            timeouts.begin(number)
        await trio.sleep(9)
        assert (trio.lowlevel.current_statistics().tasks_living, count) == (before, 0)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

    assert count == 1_000
