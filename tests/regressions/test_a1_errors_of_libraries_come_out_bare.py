"""Errors of libraries that do not derive from Exception, raised below a language model: failures like any other, bare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
import trio

from actors import Completion
from runtime.embed.disconnects import CancelOnDisconnect
from runtime.lm.dspy.dspy_calls import ask
from runtime.lm.dspy.from_threads import Crossing, with_crossing
from runtime.lm.dspy.streamify import open_prediction_stream
from runtime.lm.limits.cache import Forgiving, MemoryCache
from runtime.lm.limits.hedge import OnSent, first_of

SIGNATURE: Any = dspy.Signature("question -> answer")  # type: ignore[call-arg, unused-ignore]  # pyright: ignore[reportCallIssue]


class OfALibrary(BaseException):
    pass


KINDS = [OfALibrary("x"), asyncio.CancelledError("x"), SystemExit(2), BaseExceptionGroup("g", [OfALibrary("x")])]


class Model:
    """A language model whose library raises what it is given."""

    model = "m"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def chat(self, *_: Any, **__: Any) -> Completion:
        await trio.lowlevel.checkpoint()
        raise self.error


async def hedged(error: BaseException) -> None:
    async def attempt(sent: OnSent) -> None:
        sent()
        await trio.sleep(2)
        raise error

    await first_of(attempt, 1, lambda: True)


async def several_answers(error: BaseException) -> None:
    async def chat() -> Completion:
        await trio.lowlevel.checkpoint()
        raise error

    await ask(chat, 3)


async def streamed(error: BaseException) -> None:
    async with open_prediction_stream(Model(error), SIGNATURE, {"question": "?"}) as stream:
        async for _ in stream:
            pass


async def around_a_stream(error: BaseException) -> None:
    async with open_prediction_stream(Model(ValueError()), SIGNATURE, {"question": "?"}):
        raise error


async def crossed(error: BaseException) -> None:
    async def call() -> None:
        raise error

    def in_a_foreign_thread(crossing: Crossing) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(crossing.run, call).result()

    async def work(crossing: Crossing) -> None:
        await trio.to_thread.run_sync(in_a_foreign_thread, crossing)

    await with_crossing(work)


async def behind_the_middleware(error: BaseException) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async def receive() -> Any:
        await trio.sleep_forever()

    async def send(message: Any) -> None: ...

    await CancelOnDisconnect(app)({"type": "http"}, receive, send)


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", [hedged, several_answers, streamed, around_a_stream, crossed, behind_the_middleware])
async def test_a1_an_error_of_a_library_comes_out_as_it_was_raised(
    place: Callable[[BaseException], Awaitable[None]], error: BaseException, virtual_clock: trio.abc.Clock
) -> None:
    with pytest.raises(BaseException) as caught:
        await place(error)

    assert caught.value is error


@pytest.mark.parametrize("error", KINDS[:3], ids=lambda error: type(error).__name__)
async def test_a1_a_hedge_that_answers_wins_over_an_error_of_a_library(
    error: BaseException, virtual_clock: trio.abc.Clock
) -> None:
    tries = iter([True, False])

    async def attempt(sent: OnSent) -> str:
        fails = next(tries)
        sent()
        await trio.sleep(2)
        if fails:
            raise error
        return "answered"

    assert await first_of(attempt, 1, lambda: True) == "answered"


@pytest.mark.parametrize("error", KINDS[:3], ids=lambda error: type(error).__name__)
async def test_a1_a_cache_that_fails_costs_a_kept_answer_only(error: BaseException) -> None:
    class Broken(MemoryCache):  # type: ignore[misc]  # final, and broken all the same
        def get(self, key: str) -> Completion | None:
            raise error

        def put(self, key: str, completion: Completion) -> None:
            raise error

    forgiving = Forgiving(Broken(10))

    assert forgiving.get("k") is None
    forgiving.put("k", Completion("text", "m"))
