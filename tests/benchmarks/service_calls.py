"""What a request costs its server, and an event each of its readers: servers in processes of their own, plain sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

SERVERS: Final = {
    "hypercorn-trio": ("hypercorn", "-k", "trio", "--backlog", "2048", "--bind", "127.0.0.1:{port}"),
    "understudy": ("tests.benchmarks.serving", "{port}"),  # whose application is the service alone
    "watched": ("tests.benchmarks.serving", "{port}", "watched"),  # the same with its inspector
    "uvicorn": ("uvicorn", "--port", "{port}", "--no-access-log", "--log-level", "warning", "--backlog", "2048"),
}
PATHS: Final = {"raw": "/run", "by_hand": "/run", "service": "/v1/graphs/answers/runs"}
_ROOT: Final = Path(__file__).resolve().parents[2]
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """One request of HTTP/1.1."""
    data = b"" if body is None else json.dumps(body).encode()
    given = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data


async def answer_to(stream: trio.SocketStream, message: bytes) -> bytes:
    """Send `message` on a connection that stays open; the body of the answer."""
    await stream.send_all(message)
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is not None and len(body) >= int(length[1]):
            if not head.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"the server has answered {head[:40]!r} {body[:200]!r}")
            return body
        part = await stream.receive_some()
        if not part:
            raise RuntimeError(f"the server has hung up after {received[:200]!r}")
        received += part


@attrs.frozen
class Host:
    """A server that is up."""

    port: int
    pid: int

    async def connect(self) -> trio.SocketStream:
        """A connection to it."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The JSON of one answer."""
        async with await self.connect() as stream:
            headers = {"Connection": "close", **headers}  # or the server would keep it open for a while, and count it
            return json.loads(await answer_to(stream, request(method, path, body, **headers)))

    async def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        return float((await self.ask("GET", "/cpu"))["cpu_s"])

    async def state(self) -> Any:
        """What of it is open: ``files``, ``tasks``, ``calls``, ``bytes``."""
        return await self.ask("GET", "/cpu")

    async def bytes(self) -> int:
        """The memory that it holds."""
        return int((await self.ask("GET", "/cpu"))["bytes"])


@contextlib.asynccontextmanager
async def hosting(server: str, app: str) -> AsyncGenerator[Host]:
    """An application of ``service_apps`` under a server, while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[server])]
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment, and nothing else waits
        [*command, f"tests.benchmarks.service_apps:app_{app}"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        host = Host(port, process.pid)
        with trio.fail_after(60):
            while True:
                with contextlib.suppress(OSError):
                    await host.cpu_s()
                    break
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} has ended with {process.returncode}")
                await trio.sleep(0.05)
        yield host
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was told to end
            os.killpg(process.pid, signal.SIGKILL)  # some servers have workers, which would outlive them
        process.wait()


async def call_cost_us(host: Host, app: str, width: int, calls: int) -> float:
    """CPU of the server for one call, in µs, of `calls` on `width` connections."""
    message = request("POST", PATHS[app], {"input": {"text": "a"}}, Prefer="wait=30")

    async def client(stream: trio.SocketStream, times: int) -> None:
        for _ in range(times):
            await answer_to(stream, message)

    async def together(streams: Sequence[trio.SocketStream], times: int) -> None:
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(client, stream, times)

    each = max(1, min(ON_ONE_CONNECTION, calls // width))
    async with contextlib.AsyncExitStack() as connected:
        streams = [await connected.enter_async_context(await host.connect()) for _ in range(width)]
        await together(streams, 2)  # coming and going do not count: they are the server's, and the same for all
        before_s = await host.cpu_s()
        await together(streams, each)
        return (await host.cpu_s() - before_s) / (each * width) * 1e6


ON_ONE_CONNECTION: Final = 900
"""Requests on one connection: hypercorn closes it after a thousand."""
CONNECTING: Final = 100
"""How many clients connect at the same time. A port has no room for more than a few thousand that were not accepted yet, and
hypercorn closes what has not asked within five seconds, which is soon on a busy machine."""
PACE_S: Final = 150e-6
"""How long a step lasts for each reader, in seconds: longer than it takes to tell them all of it."""


async def event_cost_us(host: Host, readers: int, steps: int) -> float:
    """CPU of the server for one event to one reader, in µs.

    So many `readers` wait for the events of a run, which then makes `steps` of them one after the other. Their coming and going
    does not count, and what a step costs without readers does, divided by them.
    """
    wait_s = max(0.002, readers * PACE_S)
    body = {"input": {"left": steps + 4, "wait_s": wait_s, "is_held": True}}
    run = (await host.ask("POST", "/v1/graphs/counting/runs", body))["id"]
    message = request("GET", f"/v1/runs/{run}/events", Accept="text/event-stream")
    connecting = trio.CapacityLimiter(CONNECTING)
    seen = 0
    last = 2 * steps  # the number of the event at which the measurement ends: a few steps are left then
    ready, told = 0, 0
    all_ready, all_told = trio.Event(), trio.Event()

    async def read() -> None:
        nonlocal seen, ready, told
        async with connecting:
            stream = await host.connect()
            await stream.send_all(message)
            received = b""
            while b"\nid: 1\n" not in received:
                received += await stream.receive_some()
        async with stream:
            ready += 1
            if ready == readers:
                all_ready.set()
            tail = b""
            async for part in stream:
                seen += (tail + part).count(b"\nid: ") - tail.count(b"\nid: ")
                if b"\nid: %d\n" % last in tail + part:
                    told += 1
                    if told == readers:
                        all_told.set()
                tail = bytes(part[-64:])
                if b"event: run.finished" in tail + part and part.endswith(b"0\r\n\r\n"):
                    break

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(read)
        await all_ready.wait()
        before_s = await host.cpu_s()
        await host.ask("POST", "/go", {})
        await all_told.wait()
        cost_s, events = await host.cpu_s() - before_s, seen
    return cost_s / events * 1e6


async def write_cost_us(host: Host, readers: int, writes: int) -> float:
    """CPU of the bare server for one write to one reader, in µs: what is under the cost of events, of which a write has two."""
    connecting = trio.CapacityLimiter(CONNECTING)

    async def read(task_status: trio.TaskStatus[None]) -> None:
        async with connecting:
            stream = await host.connect()
            await stream.send_all(request("GET", "/v1/runs/ticking/events", Accept="text/event-stream"))
            await stream.receive_some()
        task_status.started()
        async with stream:
            async for _ in stream:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            await nursery.start(read)
        before_s = await host.cpu_s()
        await host.ask("POST", f"/go?writes={writes}&wait_s={max(0.002, readers * PACE_S)}", {})
        cost_s = await host.cpu_s() - before_s
        nursery.cancel_scope.cancel()
    return cost_s / (readers * writes) * 1e6
