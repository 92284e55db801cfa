"""Lifespans that hold a scope or a nursery open for as long as their actor lives."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest
import trio

from actors import Actor
from runtime import open_runtime


class Holding(Actor[str]):
    """Has tasks of its own, in a nursery that its lifespan holds open."""

    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work)
            try:
                yield
            finally:
                self._ended.append("left")
                nursery.cancel_scope.cancel()

    async def _work(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._ended.append("task")

    async def receive(self, message: str) -> str:
        if message == "fail":
            raise LookupError(message)
        await trio.sleep(1)
        return message


async def test_an_actor_whose_lifespan_holds_a_nursery_open_is_stopped(autojump_clock):
    ended: list[str] = []
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Holding, ended)
        assert await ref.ask("one") == "one"
        await runtime.stop(ref)

    assert ended == ["left", "task"]


async def test_an_actor_whose_lifespan_holds_a_nursery_open_ends_with_its_runtime(autojump_clock):
    ended: list[str] = []
    async with open_runtime() as runtime:
        await runtime.spawn(Holding, ended)

    assert ended == ["left", "task"]


async def test_an_actor_whose_lifespan_holds_a_nursery_open_is_cancelled_with_the_body(autojump_clock):
    ended: list[str] = []

    async def body() -> None:
        async with open_runtime() as runtime:
            ref = await runtime.spawn(Holding, ended)
            await ref.tell("one")
            await trio.sleep(0.5)
            raise LookupError

    with pytest.raises(LookupError):
        await body()

    assert sorted(ended) == ["left", "task"]


async def test_an_actor_whose_lifespan_holds_a_nursery_open_is_restarted_after_a_failure(autojump_clock):
    ended: list[str] = []
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Holding, ended)
        with pytest.raises(Exception, match="fail"):
            await ref.ask("fail")
        assert await ref.ask("two") == "two"

    assert ended == ["left", "task"] * 2
