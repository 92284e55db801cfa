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


def served(app: Any, receive: Any, send: Any, *headers: tuple[bytes, bytes]) -> None:
    """One request."""

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await call_on_trio(runtime, app, {"type": "http", "headers": [*headers]}, receive, send)

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("is_broken", [False, True], ids=["message", "error"])
def test_what_a_cancelled_receive_returned_comes_next(*, is_broken: bool) -> None:
    """It is not cancelled at the server, which may have taken a message out of its queue by then; the client leaves only once."""
    heard: list[Any] = []
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return {"type": "never"}
        await asyncio.sleep(0.02)
        if is_broken:
            raise Broken("gone")
        return {"type": "http.disconnect"}

    async def app(_: Any, receive: Callable[[], Any], __: Any) -> None:
        with trio.move_on_after(0.001):
            await receive()
        for _ in range(2):
            try:
                heard.append(await receive())
            except Broken as error:
                heard.append(error)

    served(app, receive, sent)

    first, second = heard
    assert isinstance(first, Broken) if is_broken else first == {"type": "http.disconnect"}
    assert second == {"type": "never"}


async def never() -> Any:
    await asyncio.sleep(3_600)


START = {"type": "http.response.start", "status": 200, "headers": []}


def test_a_response_of_one_piece_is_sent_when_the_application_has_returned() -> None:
    """Then the server's own task sends it, and the guest is woken for none of it."""
    done: list[Any] = []
    body = {"type": "http.response.body", "body": b"a"}

    async def app(_: Any, __: Any, send: Any) -> None:
        await send(START)
        await send(body)
        done.append("returned")

    async def send(message: Any) -> None:
        done.append(message)

    served(app, never, send)

    assert done == ["returned", START, body]


def test_pieces_are_sent_as_they_come_and_the_beginning_with_the_first() -> None:
    done: list[Any] = []
    pieces = [{"type": "http.response.body", "body": each, "more_body": bool(each)} for each in (b"a", b"b", b"")]
    seen: list[int] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        for message in (START, *pieces):
            await send(message)
            seen.append(len(done))

    async def send(message: Any) -> None:
        done.append(message)

    served(app, never, send)

    assert done == [START, *pieces]
    assert seen == [0, 2, 3, 4]


@pytest.mark.parametrize("app_fails", [False, True])
def test_an_application_that_begins_a_response_and_ends_has_begun_it(*, app_fails: bool) -> None:
    done: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send(START)
        if app_fails:
            raise Broken

    async def send(message: Any) -> None:
        done.append(message)

    if app_fails:
        with pytest.raises(Broken):
            served(app, never, send)
    else:
        served(app, never, send)

    assert done == [START]


@pytest.mark.parametrize(("headers", "is_asked"), [([], True), ([(b"expect", b"100-continue")], False)])
def test_a_body_that_wants_to_be_asked_for_is_not_asked_for_before_the_application_does(
    headers: list[tuple[bytes, bytes]], *, is_asked: bool
) -> None:
    asked: list[str] = []

    async def receive() -> Any:
        asked.append("asked")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def app(_: Any, __: Any, ___: Any) -> None:
        await trio.sleep(0.01)

    served(app, receive, sent, *headers)

    assert bool(asked) is is_asked
