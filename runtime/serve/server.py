"""A service on a port, in a trio program: hypercorn's trio worker, with our signals and our drain.

Servers close their port at the first signal, and then probes fail and pollers lose their runs while those still go on. Here the
port closes last: new runs are rejected first, and everything else is answered until the runs are over.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from typing import Final

import trio
from hypercorn.config import Config

from actors.argument_checks import is_seconds, rejected
from actors.errors import UsageError
from runtime.embed.asgi import GRACE_S
from runtime.graphs.records.run_record import RunStatus
from runtime.serve.connections import serve_connections
from runtime.serve.live import Live
from runtime.serve.service import Service

_LOG = logging.getLogger("understudy.serve")

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; with fewer, a thousand clients that arrive together retry for seconds."""
LAST_WORDS_S: Final = 1.0
"""How long open responses have when all runs are over, in seconds."""
HURRIED_S: Final = 0.25
"""The same after a second signal."""
MOST_MS: Final = 2**31 - 1
"""The longest time that the system takes for a socket: 24 days."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


async def serve(
    service: Service,
    host: str = "127.0.0.1",
    port: int = 8321,
    *,
    grace_s: float = GRACE_S,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT, and then until the runs in progress are over, for at most `grace_s` seconds.

    The first signal makes ``/readyz`` a 503 and rejects new runs; a second one cancels the runs. ``await nursery.start(serve,
    service)`` returns the address once it can be called; `port` 0 takes a free one. In threads other than the main one, signals
    are left alone: cancel it.

    Raises:
        UsageError: called outside of trio. DeclarationError: `grace_s` is no time. OSError: the port cannot be had.
    """
    if not trio.lowlevel.in_trio_run():
        raise UsageError("serve() was called outside of trio.\n  Fix: trio.run(serve, service); uvicorn serves service.app.")
    if not is_seconds(grace_s):
        raise rejected(serve, "grace_s", grace_s, "a number of seconds >= 0")
    bound = await _bound(host, port, service.limits.stall_s)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{bound.getsockname()[1]}"
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
    config = Config()
    config.graceful_timeout = LAST_WORDS_S
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("understudy.serve.http")
    stop = trio.Event()
    async with listener, service.lifespan(), trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            await serve_connections(service.dispatch, config, listener, stop, task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(listen)
        await nursery.start(_until_stopped, service, grace_s, config, stop, nursery.cancel_scope)
        _LOG.info("serving %s", address)
        task_status.started(address)


async def _bound(host: str, port: int, stall_s: float) -> socket.socket:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Hypercorn's writes cannot be cancelled, so the kernel has to end a connection whose client takes nothing.
        with contextlib.suppress(AttributeError, OSError):  # Linux alone has it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(min(stall_s * 1000, MOST_MS))))
        bound.bind(address)
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


async def _until_stopped(
    service: Service,
    grace_s: float,
    config: Config,
    stop: trio.Event,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[None],
) -> None:
    """Wait for a signal, drain, and let the server stop."""
    if threading.current_thread() is not threading.main_thread():
        task_status.started()
        await trio.sleep_forever()
    with trio.open_signal_receiver(*_STOPS) as signals:
        task_status.started()
        async with trio.open_nursery() as nursery:
            count = 0
            async for number in signals:
                count += 1
                name = signal.Signals(number).name
                if count == 1:
                    _LOG.info("%s: no more runs are taken; %s", name, _in_progress(service.live, grace_s))
                    service.reject_runs()
                    nursery.start_soon(_drained, service, grace_s, stop)
                elif count == 2 and not stop.is_set():
                    _LOG.info("%s again: all runs are cancelled", name)
                    config.graceful_timeout = HURRIED_S
                    service.live.runtime.cancel_runs(f"a second {name} came")
                else:
                    scope.cancel()


def _in_progress(live: Live, grace_s: float) -> str:
    """What the end of the service waits for, in words."""
    handles = live.runtime.runs()
    count = len(handles.keys() | live.launches.keys())
    if not count:
        return "none is in progress"
    waiting = sum(handle.status is RunStatus.WAITING for handle in handles.values())
    who = f"{count} {'is' if count == 1 else 'are'} in progress"
    asked = f" ({waiting} of them {'waits' if waiting == 1 else 'wait'} for an answer)" if waiting else ""
    return f"{who}{asked} and {'has' if count == 1 else 'have'} {grace_s:g} s"


async def _drained(service: Service, grace_s: float, stop: trio.Event) -> None:
    await service.live.runtime.drain(grace_s)
    await trio.lowlevel.checkpoint()  # readers of the runs' last events come first
    stop.set()
