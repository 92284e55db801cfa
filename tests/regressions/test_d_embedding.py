"""Services behind real servers: clients that leave, bodies too large, mounted applications, signals with open streams."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route

from runtime.embed.asgi import CancelOnDisconnect, runtime_of, understudy_lifespan
from tests.patience import PATIENCE_S
from tests.runtime.embed.cast import Order, Stage
from tests.runtime.embed.servers import Server, exchange, request, serving

APP = "tests.runtime.embed.apps.leaving:app"
HYPERCORN = ("hypercorn", "--graceful-timeout", "20", "--bind", "127.0.0.1:{port}", APP)
SERVERS = {
    "uvicorn": ("uvicorn", "--port", "{port}", "--no-access-log", APP),
    "hypercorn-asyncio": (*HYPERCORN[:1], "-k", "asyncio", *HYPERCORN[1:]),
    "hypercorn-trio": (*HYPERCORN[:1], "-k", "trio", *HYPERCORN[1:]),
}
ALONE = ("hypercorn", "-k", "asyncio", "--workers", "0", "--bind", "127.0.0.1:{port}", APP)
"""In one process, whose signals the application hears; hypercorn's workers hear none."""
LIBRARIES: dict[str, Any] = {"asyncio": (asyncio.run, asyncio.sleep), "trio": (lambda main: trio.run(lambda: main), trio.sleep)}


@pytest.fixture(params=list(LIBRARIES))
def library(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]


async def begun(server: Server, count: int) -> None:
    with trio.fail_after(20):
        while len((await server.get("/log"))["began"]) < count:  # noqa: ASYNC110 - another process says nothing
            await trio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SERVERS))
async def test_d1_a_client_that_leaves_cancels_a_request_whose_body_nobody_reads(kind: str, tmp_path: Path) -> None:
    asked = [request("GET", "/wait"), request("POST", "/wait", {"a": "b" * 1000}), request("GET", "/stream")]
    left_at, ended = list[float](), list[float]()

    async with serving(SERVERS[kind], {}, tmp_path) as server:
        for index, message in enumerate([*asked, request("GET", "/inner/inmost/wait")], start=1):
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            await stream.send_all(message)
            await begun(server, index)
            left_at.append(time.monotonic())
            await stream.aclose()
            with trio.fail_after(30):
                while len(ended := (await server.get("/log"))["ended"]) < index:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.02)

    delays = [end - left for end, left in zip(ended, left_at, strict=True)]
    assert all(delay < 10 for delay in delays), delays  # 0.1 s on a machine that does nothing else
    assert server.log.read_text().count("Traceback") == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/stream", pytest.param("/watch", marks=pytest.mark.chaos)])
@pytest.mark.parametrize(
    "kind", [*(kind if kind == "uvicorn" else pytest.param(kind, marks=pytest.mark.chaos) for kind in SERVERS), "hypercorn-alone"]
)
async def test_a7_an_open_stream_ends_with_the_drain(kind: str, path: str, tmp_path: Path) -> None:
    if kind == "hypercorn-asyncio" and sys.version_info >= (3, 12):
        pytest.skip("hypercorn 0.18 waits there for open connections itself, and tells the application nothing")
    command = (
        ALONE if kind == "hypercorn-alone" else tuple(part for part in SERVERS[kind] if part not in ("--graceful-timeout", "20"))
    )  # as a user starts it
    received = bytearray()

    async with serving(command, {"GRACE_S": "2"}, tmp_path) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(request("GET", path))
            with trio.fail_after(PATIENCE_S):
                while b"event: " not in received:
                    received += await stream.receive_some()
            began_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
                async for part in stream:
                    received += part
            await server.wait()

    assert time.monotonic() - began_s < 2 + 3  # hypercorn has its own patience, of 3 s
    assert b"event: RunFinished" in received or path == "/watch" or kind not in ("uvicorn", "hypercorn-alone")


@pytest.mark.slow
@pytest.mark.chaos
async def test_a7_what_a_response_left_behind_has_no_second_grace_period(tmp_path: Path) -> None:
    async with serving(SERVERS["uvicorn"], {"GRACE_S": "8"}, tmp_path) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, server.port, request("GET", "/behind/7"))
            await begun(server, 1)
            began_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
        await server.wait()

    assert time.monotonic() - began_s < 8 + 6  # counted from the response, it would be 15


def drive(library: Any, app: Callable[..., Awaitable[None]], receive: Callable[[], Awaitable[dict[str, Any]]]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await CancelOnDisconnect(app)({"type": "http"}, receive, send)

    library[0](main())
    return sent


class TooLarge(Exception):
    pass


def test_d2_what_receive_raises_reaches_the_application_that_reads(library: Any) -> None:
    async def receive() -> dict[str, Any]:
        await library[1](0.01)
        raise TooLarge("413")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TooLarge, match=r"^413$"):
            await receive()
        with pytest.raises(TooLarge):
            await receive()
        await send({"type": "http.response.body", "status": 413})

    assert drive(library, app, receive) == [{"type": "http.response.body", "status": 413}]


@pytest.mark.parametrize("reads", [True, False])
def test_d2_what_receive_raises_comes_out_bare(library: Any, reads: bool) -> None:
    async def receive() -> dict[str, Any]:
        await library[1](0.01)
        raise TooLarge("413")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if reads:
            await receive()
        await library[1](30)

    with pytest.raises(TooLarge, match=r"^413$"):
        drive(library, app, receive)


def test_d2_what_send_raises_comes_out_bare(library: Any) -> None:
    async def never() -> dict[str, Any]:
        await library[1](30)
        raise AssertionError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})

    async def send(message: Any) -> None:
        raise BrokenPipeError("gone")

    async def main() -> None:
        await CancelOnDisconnect(app)({"type": "http"}, never, send)

    with pytest.raises(BrokenPipeError, match=r"^gone$"):
        library[0](main())


@pytest.mark.parametrize("limited", ["application", "route"])
def test_d2_a_body_over_starlettes_limit_is_413(library: Any, limited: str) -> None:
    async def read(request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    route = Route("/", read, methods=["POST"], max_body_size=10 if limited == "route" else None)
    app = Starlette(
        routes=[route], middleware=[Middleware(CancelOnDisconnect)], max_body_size=10 if limited == "application" else None
    )

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await library[1](0)
        return {"type": "http.request", "body": b"12345", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await app(scope, receive, send)

    library[0](main())
    assert sent[0]["status"] == 413


def test_d2_a_handlers_own_http_exception_keeps_its_status(library: Any) -> None:
    async def rejected(request: Request) -> Response:
        await request.body()
        raise HTTPException(418)

    app = Starlette(routes=[Route("/", rejected, methods=["POST"])], middleware=[Middleware(CancelOnDisconnect)])

    async def main() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return (await client.post("/", content=b"x")).status_code

    assert library[0](main()) == 418


def test_d1_a_large_body_is_not_read_ahead_of_the_handler(library: Any) -> None:
    given: list[int] = []

    async def receive() -> dict[str, Any]:
        await library[1](0)
        given.append(1)
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await library[1](0.2)
        ahead.append(len(given))
        for _ in range(50):
            await receive()
        await send({"type": "http.response.body"})

    ahead: list[int] = []
    drive(library, app, receive)

    assert ahead == [7]
    assert len(given) <= 50 + 7


def test_d1_a_client_that_leaves_behind_an_unread_body_cancels_its_request(library: Any) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x" * 1000, "more_body": True},
        {"type": "http.request", "body": b"x" * 1000, "more_body": False},
        {"type": "http.disconnect"},
    ]
    log: list[str] = []

    async def receive() -> dict[str, Any]:
        await library[1](0.001)
        return messages.pop(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await library[1](30)
        finally:
            log.append("cancelled")

    drive(library, app, receive)

    assert log == ["cancelled"]


@pytest.mark.parametrize("outer", [Starlette, FastAPI])
def test_d3_a_mounted_application_finds_the_runtime_at_any_depth(outer: Any) -> None:
    """With a lifespan of its own that yields nothing, a request bears the state of the innermost application only."""
    stage = Stage()

    async def double(request: Request) -> JSONResponse:
        return JSONResponse((await runtime_of(request).run(stage.graph, Order("double", 4))).number)

    inmost = Starlette(routes=[Route("/double", double)])
    middle = FastAPI()
    middle.mount("/inmost", CancelOnDisconnect(inmost))
    other = Starlette(routes=[Route("/double", double)])

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        async with understudy_lifespan()(app):
            yield

    app = outer(lifespan=lifespan)
    app.mount("/middle", middle, name="middle")
    app.router.routes.append(Host("other.test", other))

    async def main() -> list[object]:
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
                urls = ["http://test/middle/inmost/double", "http://other.test/double"]
                return [(await client.get(url)).json() for url in urls]

    assert asyncio.run(main()) == [8, 8]


def test_d3_two_applications_side_by_side_keep_their_own_runtimes() -> None:
    async def which(request: Request) -> JSONResponse:
        return JSONResponse(id(runtime_of(request)))

    async def main() -> list[object]:
        found: list[object] = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                app = Starlette(
                    routes=[Mount("/in", Starlette(routes=[Route("/", which)]))],
                    lifespan=lambda app: understudy_lifespan()(app),
                )
                await stack.enter_async_context(app.router.lifespan_context(app))
                client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
                found.append((await (await stack.enter_async_context(client)).get("/in/")).json())
        return found

    first, second = asyncio.run(main())
    assert first != second
