"""Real servers in processes of their own, and a client that can hang up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
APPS = "tests.runtime.embed.apps"
COMMANDS = {
    "uvicorn": ("uvicorn", "--loop", "asyncio", "--port", "{port}", "--no-access-log", f"{APPS}.fastapi_app:app"),
    "uvicorn-uvloop": ("uvicorn", "--loop", "uvloop", "--port", "{port}", "--no-access-log", f"{APPS}.fastapi_app:app"),
    "hypercorn-trio": (
        "hypercorn",
        "-k",
        "trio",
        "--graceful-timeout",
        "20",
        "--bind",
        "127.0.0.1:{port}",
        f"{APPS}.starlette_app:app",
    ),
}


@attrs.frozen
class Server:
    """A server that is up."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    async def get(self, path: str) -> Any:
        return json.loads((await exchange(self.port, request("GET", path)))[1])

    async def post(self, path: str, body: object) -> tuple[int, str]:
        return await exchange(self.port, request("POST", path, body))

    async def wait(self) -> int:
        """Its exit code."""
        with trio.fail_after(PATIENCE_S):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110 - another process says nothing
                await trio.sleep(0.02)
        return code


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def serving(command: Sequence[str], environment: dict[str, str], folder: Path, cwd: Path = ROOT) -> AsyncGenerator[Server]:
    """Start ``python -m command``, wait until it listens, and see that it is gone afterwards."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment, and nothing else waits
            [sys.executable, "-m", *(part.format(port=port) for part in command)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the processes that it starts can be ended with it
        )
    try:
        with trio.fail_after(PATIENCE_S):
            while not await listens(port):
                assert process.poll() is None, log.read_text()
                await trio.sleep(0.05)
        yield Server(process, port, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)


async def listens(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


def request(method: str, path: str, body: object = None) -> bytes:
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


async def exchange(port: int, message: bytes) -> tuple[int, str]:
    """Send a request and read the whole response: its status and body."""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(message)
            received = b"".join([part async for part in stream])
    head, _, body = received.partition(b"\r\n\r\n")
    assert head, "the connection was closed without a response"
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(body.split(b"\r\n")[1::2])  # fit for bodies without line ends of that kind
    return int(head.split()[1]), body.decode()
