"""An application of trio code that a server on asyncio calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio

from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.trio_apps import call_on_trio


async def sent(message: Any) -> None:
    raise AssertionError(message)


class Broken(OSError):
    pass


@pytest.mark.parametrize("is_broken", [False, True], ids=["message", "error"])
def test_what_a_cancelled_receive_returned_comes_next(*, is_broken: bool) -> None:
    """A server may have taken a message out of its queue when the cancellation comes; the client leaves only once."""
    heard: list[Any] = []
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return {"type": "never"}
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if is_broken:
                raise Broken("gone") from None
            return {"type": "http.disconnect"}

    async def app(_: Any, receive: Callable[[], Any], __: Any) -> None:
        with trio.move_on_after(0.001):
            await receive()
        for _ in range(2):
            try:
                heard.append(await receive())
            except Broken as error:
                heard.append(error)

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await call_on_trio(runtime, app, {"type": "http"}, receive, sent)

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(main(), 20))

    first, second = heard
    assert isinstance(first, Broken) if is_broken else first == {"type": "http.disconnect"}
    assert second == {"type": "never"}
