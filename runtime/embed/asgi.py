"""The runtime in an ASGI application: up before the first request, drained after the last, at hand in every handler.

One line for FastAPI and Starlette, ``FastAPI(lifespan=understudy_lifespan(lm=...))``; others are wrapped whole. Under a server on
asyncio (uvicorn) handlers get an ``AsyncioRuntime``, under one on trio (hypercorn's trio worker) the ``Runtime`` itself. No
framework is imported: what this needs of theirs is duck-typed.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from functools import partial, wraps
from types import FrameType
from typing import Any, Final, ParamSpec, final

import trio

from actors.errors import UsageError
from actors.words import said
from runtime.app import Runtime, open_runtime
from runtime.embed.asyncio_faces import AsyncioRuntime
from runtime.embed.asyncio_visit import for_asyncio
from runtime.embed.crossing import OpenRuntime
from runtime.embed.disconnects import ASGIApp, Message, Receive, Scope, Send
from runtime.embed.disconnects import CancelOnDisconnect as CancelOnDisconnect

P = ParamSpec("P")

_LOG = logging.getLogger("understudy.embed")

STATE: Final = "understudy"
"""The runtime's name in ``app.state`` and ``request.state``."""
GRACE_S: Final = 30.0
"""How long a shut-down waits for the runs in progress before it cancels them, in seconds, unless ``with_grace`` sets another."""


@final
class UnderstudyLifespan:
    """The ``lifespan`` of a Starlette or FastAPI application. Made by :data:`understudy_lifespan`.

    Start-up completes when the runtime is open. Shut-down drains it: runs in progress have the grace period to finish, and are
    cancelled after it. Servers wait for open responses before they shut a lifespan down, so the period begins with the SIGTERM
    where the application's process receives it (uvicorn): when it is over, runs are cancelled and event streams end, and so do
    the responses made of them. It is one period, for responses and for the runs that they left behind together. A second SIGTERM
    cancels the runs immediately.

    A runtime that ends on its own (its root supervisor gives up, an actor raises ``KeyboardInterrupt``) ends the server: the
    lifespan fails with the runtime's error, and the server stops as at a SIGTERM, with an exit code that is not 0.
    """

    def __init__(self, opens: OpenRuntime, grace_s: float = GRACE_S, on_sigterm: Callable[[], None] | None = None) -> None:
        self.grace_s = grace_s
        self._opens = opens
        self._on_sigterm = on_sigterm
        """Called in the loop at the first SIGTERM: to end responses that would never end."""

    def with_grace(self, grace_s: float) -> UnderstudyLifespan:
        """The same with another grace period, in seconds."""
        return UnderstudyLifespan(self._opens, grace_s, self._on_sigterm)

    @contextlib.asynccontextmanager
    async def __call__(self, app: Any = None) -> AsyncGenerator[Mapping[str, Any]]:
        """Open the runtime for `app`; what is yielded becomes part of each request's state."""
        opens = self._opens if trio.lowlevel.in_trio_task() else for_asyncio(self._opens)
        interruption: BaseException | None = None
        try:
            async with opens() as runtime:
                for each in _applications(app):
                    setattr(each.state, STATE, runtime)
                with _sigterm_drains(runtime, self.grace_s, self._on_sigterm):
                    try:
                        yield {STATE: runtime}
                    except BaseException as error:
                        interruption = error
                        raise
                    await runtime.drain(self.grace_s)  # hurried by the period that a SIGTERM has begun
        except BaseException as error:
            # Cancelled by its end, the application would raise the cancellation; the runtime puts its own error in its place.
            # What a cancellation becomes on its way out is no error of the runtime: it is another object behind each nursery.
            is_cancelled = isinstance(error, trio.Cancelled | asyncio.CancelledError)
            if interruption is not None and error is not interruption and not is_cancelled:
                _end_server(error)
            raise

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app` with the runtime in each request's ``scope["state"]``; for frameworks without a ``lifespan`` option.

        The runtime is open before the application's own start-up, and drained after its own shut-down.
        """

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:  # uvicorn takes no partial for an application
            await self._serve(app, scope, receive, send)

        return wrapped

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        last: list[Message] = []
        told: set[str] = set()

        async def hold_back(message: Message) -> None:
            told.add(message["type"])
            if message["type"] == "lifespan.shutdown.complete":
                last.append(message)
            else:
                await send(message)

        try:
            async with self() as state:
                scope.setdefault("state", {}).update(state)
                await app(scope, receive, hold_back)
        except Exception as error:
            # A lifespan that only raises is one that the application does not have, to some servers: they would serve without.
            if not told & {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
                phase = "shutdown" if "lifespan.startup.complete" in told else "startup"
                await send({"type": f"lifespan.{phase}.failed", "message": said(error)})
            raise
        for message in last:
            await send(message)


def _applications(app: Any) -> list[Any]:
    """`app` and the applications mounted in it, at any depth, that have a ``state``; middleware around them has none.

    A request to a mounted application bears that one's ``state``, not the outer one's.
    """
    found: list[Any] = []
    left, seen = [app], set[int]()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if hasattr(each, "state"):
            found.append(each)
        routes: Any = getattr(each, "routes", None)
        left += [getattr(route, "app", None) for route in (routes if hasattr(routes, "__iter__") else ())]
        left.append(getattr(each, "app", None))
    return found


def _once_up(opens: Callable[P, contextlib.AbstractAsyncContextManager[Runtime]]) -> Callable[P, UnderstudyLifespan]:
    """`opens` as a lifespan: the same parameters, by construction."""

    @wraps(opens)
    def lifespan(*args: P.args, **kwargs: P.kwargs) -> UnderstudyLifespan:
        return UnderstudyLifespan(partial(opens, *args, **kwargs))

    return lifespan


understudy_lifespan: Final = _once_up(open_runtime)
"""Make the lifespan of an application: ``FastAPI(lifespan=understudy_lifespan(lm="openai/gpt-4o-mini"))``.

Takes what :func:`runtime.open_runtime` takes; see :class:`UnderstudyLifespan`.
"""


def runtime_of(request: Any) -> Any:
    """The runtime for a request, web socket or ASGI scope: an ``AsyncioRuntime`` on asyncio, the ``Runtime`` itself on trio.

    Raises:
        UsageError: the application was not given :data:`understudy_lifespan`, or has not started.
    """
    scope: Mapping[str, Any] = getattr(request, "scope", request)
    runtime = scope.get("state", {}).get(STATE)
    if runtime is None:
        runtime = getattr(getattr(scope.get("app"), "state", None), STATE, None)
    if not isinstance(runtime, AsyncioRuntime | Runtime):
        raise UsageError(
            "no runtime is open for this application.\n"
            "  Fix: FastAPI(lifespan=understudy_lifespan(...)), and in tests `with TestClient(app)`, which runs the lifespan."
        )
    return runtime


@final
class _Dependency:
    """``Depends(runtime_dependency)``: FastAPI asks for a signature, in which only Starlette's own classes mean something."""

    @property
    def __signature__(self) -> inspect.Signature:
        # The caller has imported Starlette; we need not.
        requests = sys.modules.get("starlette.requests")
        connection = getattr(requests, "HTTPConnection", inspect.Parameter.empty)
        parameter = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=connection)
        return inspect.Signature([parameter])

    async def __call__(self, request: Any) -> Any:
        """The runtime of the request's application."""
        return runtime_of(request)


runtime_dependency: Final = _Dependency()
"""Give a handler the runtime: ``runtime: Annotated[AsyncioRuntime, Depends(runtime_dependency)]``."""


def _end_server(error: BaseException) -> None:
    """The runtime has ended on its own: have the server stop, which might otherwise continue without, and answer 500 forever."""
    _LOG.critical("the runtime has ended, and the server stops with it: %s", said(error))
    is_handled = callable(signal.getsignal(signal.SIGTERM))
    is_worker = multiprocessing.parent_process() is not None  # of a server whose first process watches over it, as hypercorn's
    if threading.current_thread() is threading.main_thread() and (is_handled or is_worker):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        signal.raise_signal(signal.SIGTERM)  # elsewhere, as in tests, the error has to do


@contextlib.contextmanager
def _sigterm_drains(runtime: Runtime | AsyncioRuntime, grace_s: float, on_sigterm: Callable[[], None] | None) -> Generator[None]:
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield  # no drain on a signal here, or the server's own process keeps the signals
        return
    post, countdown = (_on_trio if trio.lowlevel.in_trio_task() else _on_asyncio)(partial(_end_streams, runtime), grace_s)
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        previous(number, frame)
        if count == 1:
            post(countdown.start)
            if on_sigterm is not None:
                post(on_sigterm)
        if count == 2:
            post(partial(runtime.cancel_runs, "a second SIGTERM came"))

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        countdown.stop()
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, previous)


async def _end_streams(runtime: Runtime | AsyncioRuntime) -> None:
    """What is done when the grace period is over: the server may still wait for responses, or the lifespan for runs."""
    await runtime.drain(0)
    runtime.close_event_streams()


Post = Callable[[Callable[[], object]], object]
"""How a signal handler gets something done in the loop."""


@final
class _Countdown:
    """Something to be done in the loop, some time after it was started, unless it was stopped."""

    def __init__(self, start: Callable[[], Callable[[], object]]) -> None:
        self._start = start
        self._cancel: Callable[[], object] = lambda: None
        self._is_stopped = False

    def start(self) -> None:
        if not self._is_stopped:
            self._cancel = self._start()

    def stop(self) -> None:
        self._is_stopped = True
        self._cancel()


def _on_asyncio(work: Callable[[], Awaitable[None]], delay_s: float) -> tuple[Post, _Countdown]:
    loop = asyncio.get_running_loop()

    async def later() -> None:
        await asyncio.sleep(delay_s)
        await work()

    def start() -> Callable[[], object]:
        return asyncio.ensure_future(later()).cancel

    return loop.call_soon_threadsafe, _Countdown(start)


def _on_trio(work: Callable[[], Awaitable[None]], delay_s: float) -> tuple[Post, _Countdown]:
    scope = trio.CancelScope()

    async def later() -> None:
        with scope:
            await trio.sleep(delay_s)
            await work()

    def start() -> Callable[[], object]:
        trio.lowlevel.spawn_system_task(later)
        return scope.cancel

    return trio.lowlevel.current_trio_token().run_sync_soon, _Countdown(start)
