"""Calls from threads that trio did not start: tasks of the work that they belong to."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from actors.errors import LMRateLimited, UsageError
from runtime.lm.dspy.from_threads import Crossing, with_crossing

label: contextvars.ContextVar[str] = contextvars.ContextVar("label", default="none")


def in_a_foreign_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


async def test_a_call_from_a_foreign_thread_has_the_context_of_the_work():
    async def call() -> str:
        await trio.lowlevel.checkpoint()
        return label.get()

    label.set("work")

    async def work(crossing: Crossing) -> str:
        return await trio.to_thread.run_sync(in_a_foreign_thread, lambda: crossing.run(call))

    assert await with_crossing(work) == "work"


async def test_an_error_reaches_the_thread_and_comes_out_bare():
    async def call() -> None:
        raise LMRateLimited("slow down")

    async def work(crossing: Crossing) -> None:
        await trio.to_thread.run_sync(in_a_foreign_thread, lambda: crossing.run(call))

    with pytest.raises(LMRateLimited, match=r"^slow down$"):
        await with_crossing(work)


async def test_a_cancellation_ends_the_call_and_the_thread_that_waits_for_it():
    began, ended = trio.Event(), []

    async def call() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_effective_deadline())

    async def work(crossing: Crossing) -> None:
        await trio.to_thread.run_sync(in_a_foreign_thread, lambda: crossing.run(call))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(with_crossing, work)
        await began.wait()
        nursery.cancel_scope.cancel()

    assert len(ended) == 1


async def test_a_call_after_the_work_is_refused():
    kept: list[Crossing] = []

    async def work(crossing: Crossing) -> None:
        kept.append(crossing)

    await with_crossing(work)

    async def call() -> None:
        raise AssertionError("never called")

    with pytest.raises(UsageError, match=r"^A thread asked a language model after the module that had started it was done\."):
        await trio.to_thread.run_sync(in_a_foreign_thread, lambda: kept[0].run(call))


async def test_what_the_work_left_under_way_is_cancelled():
    began = trio.Event()
    outcomes: list[str] = []
    threads: list[threading.Thread] = []

    async def call() -> None:
        began.set()
        await trio.sleep_forever()

    def ask(crossing: Crossing) -> None:
        try:
            crossing.run(call)
        except trio.Cancelled:
            outcomes.append("cancelled")

    async def work(crossing: Crossing) -> str:
        threads.append(threading.Thread(target=ask, args=(crossing,)))
        threads[0].start()
        await began.wait()
        return "done"

    assert await with_crossing(work) == "done"

    await trio.to_thread.run_sync(threads[0].join)
    assert outcomes == ["cancelled"]
