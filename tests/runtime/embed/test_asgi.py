import asyncio
import inspect
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import httpx
import pytest
import trio.testing
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.errors import UsageError
from runtime import Runtime, open_runtime
from runtime.embed.asgi import CancelOnDisconnect, runtime_dependency, runtime_of, understudy_lifespan
from runtime.embed.asyncio import AsyncioRuntime
from tests.runtime.embed.cast import Order, Stage
from tests.runtime.embed.servers import ROOT

MESSAGES: list[dict[str, Any]] = [
    {"type": "http.request", "body": b"a", "more_body": True},
    {"type": "http.request", "body": b"b"},
]


def test_a_lifespan_under_asyncio_gives_an_asyncio_runtime_and_drains_it() -> None:
    stage = Stage()

    async def main() -> str:
        async with understudy_lifespan()() as state:
            runtime = state["understudy"]
            assert isinstance(runtime, AsyncioRuntime)
            handle = await runtime.start(stage.graph, Order("double"))
        return str(handle.status)

    assert asyncio.run(main()) == "succeeded"


async def test_a_lifespan_under_trio_gives_the_runtime_itself_and_drains_it() -> None:
    stage = Stage()

    async with understudy_lifespan()() as state:
        runtime = state["understudy"]
        assert isinstance(runtime, Runtime)
        handle = await runtime.start(stage.graph, Order("double"))

    assert handle.status == "succeeded"


async def test_a_run_that_outlasts_the_grace_is_cancelled(virtual_clock: trio.testing.MockClock) -> None:
    stage = Stage()

    async with understudy_lifespan().with_grace(5)() as state:
        handle = await state["understudy"].start(stage.graph, Order("wait"))
        begin = trio.current_time()

    assert handle.status == "cancelled"
    assert trio.current_time() - begin == pytest.approx(5, abs=0.1)


def test_a_fastapi_handler_gets_the_runtime() -> None:
    app = FastAPI(lifespan=understudy_lifespan())
    stage = Stage()

    @app.get("/{number}")
    async def double(number: int, runtime: Annotated[AsyncioRuntime, Depends(runtime_dependency)]) -> int:
        answer: int = (await runtime.run(stage.graph, Order("double", number))).number
        return answer

    async def main() -> object:
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return (await client.get("/4")).json()

    assert asyncio.run(main()) == 8


def test_without_a_lifespan_the_error_says_what_to_do() -> None:
    message = (
        "no runtime is open for this application.\n"
        "  Fix: FastAPI(lifespan=understudy_lifespan(...)), and in tests `with TestClient(app)`, which runs the lifespan."
    )

    with pytest.raises(UsageError) as caught:
        runtime_of({"type": "http", "app": FastAPI()})

    assert str(caught.value) == message


def test_the_dependency_asks_for_a_connection_and_the_lifespan_for_what_open_runtime_takes() -> None:
    (parameter,) = inspect.signature(runtime_dependency).parameters.values()

    assert parameter.annotation is HTTPConnection
    assert inspect.signature(understudy_lifespan).parameters == inspect.signature(open_runtime).parameters


def test_embedding_imports_no_framework() -> None:
    names = ["django", "dspy", "fastapi", "flask", "hypercorn", "litellm", "pydantic", "quart", "starlette", "uvicorn", "uvloop"]
    code = f"import sys, runtime.embed.asgi, runtime.embed.portal; print([name for name in {names} if name in sys.modules])"

    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)

    assert run.stdout == "[]\n"


async def test_an_application_can_be_wrapped_whole() -> None:
    """Open before its own start-up, closed after its own shut-down, and only then is the server told."""
    log: list[str] = []
    scope: dict[str, Any] = {"type": "lifespan"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown"):
            await receive()
            await scope["state"]["understudy"].run(Stage().graph, Order("double"))
            await send({"type": f"lifespan.{word}.complete"})
            log.append(f"{word} sent by the application")

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan"}

    async def send(message: Any) -> None:
        log.append(message["type"])

    await understudy_lifespan().around(app)(scope, receive, send)

    assert log == [
        "lifespan.startup.complete",
        "startup sent by the application",
        "shutdown sent by the application",
        "lifespan.shutdown.complete",
    ]


# --- clients that leave ---------------------------------------------------------------------------------------------------

App = Callable[[Any, Any, Any], Awaitable[None]]
LIBRARIES = {"asyncio": (asyncio.run, asyncio.sleep), "trio": (lambda main: trio.run(lambda: main), trio.sleep)}


@pytest.fixture(params=list(LIBRARIES))
def library(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]


def serve(library: Any, app: App, messages: list[dict[str, Any]]) -> list[str]:
    """One request whose messages come one by one, 10 ms apart, and after them nothing; the types of what was sent."""
    run, sleep = library
    waiting = list(messages)
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        await sleep(0.01)
        if not waiting:
            await sleep(60)
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def main() -> None:
        await CancelOnDisconnect(app)({"type": "http"}, receive, send)

    run(main())
    return sent


def test_a_client_that_leaves_cancels_its_request(library: Any) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        log.append((await receive())["type"])
        try:
            await library[1](60)
        finally:
            log.append("cancelled")

    assert serve(library, app, [MESSAGES[1], {"type": "http.disconnect"}]) == []
    assert log == ["http.request", "cancelled"]


def test_a_body_comes_through_in_its_parts(library: Any) -> None:
    body: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in MESSAGES:
            body.append((await receive())["body"])  # noqa: PERF401 - one after the other
        await send({"type": "http.response.body"})

    assert serve(library, app, MESSAGES) == ["http.response.body"]
    assert body == [b"a", b"b"]


def test_what_follows_the_response_is_not_cancelled(library: Any) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body"})
        await library[1](0.1)
        log.append((await receive())["type"])
        log.append((await receive())["type"])
        log.append((await receive())["type"])

    serve(library, app, [MESSAGES[1], {"type": "http.disconnect"}])

    assert log == ["http.request", "http.disconnect", "http.disconnect"]


def test_an_error_of_the_application_is_not_wrapped(library: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match=r"^lost$"):
        serve(library, app, MESSAGES)


def test_a_request_that_its_server_cancels_is_over_when_that_returns() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            log.append("stopped")

    async def never() -> Any:
        await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(CancelOnDisconnect(app)({"type": "http"}, never, never), 0.05)  # type: ignore[arg-type]

        assert log == ["stopped"]

    asyncio.run(main())


async def _status(app: Any, headers: list[tuple[bytes, bytes]], parts: list[bytes]) -> int:
    """That of the response to a request whose body comes in `parts`."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    await app({"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}, receive, send)
    return statuses[0]


@pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])
def test_what_a_limit_of_the_framework_raises_reaches_it_bare(run: Callable[[Any], Any]) -> None:
    """A limit raises inside ``receive``, where the watch for a departure calls it; in a group it would be a 500."""

    async def endpoint(request: Request) -> Response:
        await request.body()
        return Response()

    limits = [Middleware(RequestBodyLimitMiddleware, max_body_size=10), Middleware(CancelOnDisconnect)]
    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])], middleware=limits)

    assert run(partial(_status, app, [(b"content-length", b"20")], [b"x" * 20])) == 413
    assert run(partial(_status, app, [], [b"abcdef"] * 5)) == 413


@pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])
def test_a_mounted_application_finds_the_runtime_of_the_one_around_it(run: Callable[[Any], Any]) -> None:
    async def endpoint(request: Request) -> Response:
        return Response(type(runtime_of(request)).__name__)

    app = Starlette(routes=[Mount("/inner", Starlette(routes=[Route("/", endpoint)]))], lifespan=understudy_lifespan())

    async def main() -> str:
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return (await client.get("/inner/")).text

    assert run(main) in ("Runtime", "AsyncioRuntime")
