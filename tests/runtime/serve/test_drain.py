"""The end of a server that is told to stop: its runs end, its followers hear of it, and it answers meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from tests.patience import PATIENCE_S
from tests.runtime.embed.servers import Server, serving
from tests.runtime.serve.test_servers import COMMANDS, asking, client

RUNS = 100


@attrs.define(eq=False)
class Followed:
    """A run, and what its follower has heard."""

    run: str
    names: list[str] = attrs.field(factory=list[str])
    last: Any = None
    has_begun: trio.Event = attrs.field(factory=trio.Event)

    async def follow(self, port: int) -> None:
        received = b""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(asking("GET", f"/v1/runs/{self.run}/events"))
            async for part in stream:
                received += part
                *blocks, received = received.split(b"\n\n")
                for block in blocks:
                    if b"data: " in block:
                        self.last = json.loads(block.partition(b"data: ")[2])
                        self.names.append(self.last["event"])
                        self.has_begun.set()


async def started(http: httpx.AsyncClient, wait_s: float) -> list[Followed]:
    """So many runs that each take `wait_s` seconds."""
    body = {"input": {"text": "a", "wait_s": wait_s}}
    replies = [await http.post("/v1/graphs/answers/runs", json=body) for _ in range(RUNS)]
    return [Followed(reply.json()["id"]) for reply in replies]


@attrs.define(eq=False)
class Probes:
    """Asks whether the server is alive and ready, until it cannot be reached."""

    alive: list[int] = attrs.field(factory=list[int])
    ready: list[int] = attrs.field(factory=list[int])
    over_when_lost: int = 0

    async def ask(self, port: int, runs: Sequence[Followed]) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)  # each on a connection of its own, as probes are
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, limits=limits) as http:
            try:
                while True:
                    self.alive.append((await http.get("/healthz", timeout=PATIENCE_S)).status_code)
                    self.ready.append((await http.get("/readyz", timeout=PATIENCE_S)).status_code)
                    await trio.sleep(0.05)
            except httpx.TransportError:
                self.over_when_lost = sum("run.finished" in each.names for each in runs)


async def stopped(server: Server, runs: Sequence[Followed], signals: int) -> None:
    """Send so many signals when all followers have heard something."""
    with trio.fail_after(PATIENCE_S):
        for each in runs:
            await each.has_begun.wait()
    for _ in range(signals):
        server.process.send_signal(signal.SIGTERM)
        await trio.sleep(0.3)  # two signals at the same moment are one


@pytest.mark.slow
@pytest.mark.parametrize("name", ["understudy", pytest.param("uvicorn", marks=pytest.mark.chaos)])
async def test_a_hundred_runs_and_their_followers_come_to_their_end(name: str, tmp_path: Path) -> None:
    probes = Probes()
    async with serving(COMMANDS[name], {}, tmp_path) as server, client(server) as http:
        runs = await started(http, wait_s=4)
        assert (await http.get("/readyz")).status_code == 200
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for each in runs:
                    nursery.start_soon(each.follow, server.port)
                nursery.start_soon(stopped, server, runs, 1)
                if name == "understudy":  # other servers close their port first
                    nursery.start_soon(probes.ask, server.port, runs)
        code = await server.wait()

    assert {each.last["event"] for each in runs} == {"run.finished"}
    assert {each.last["status"] for each in runs} == {"succeeded"}
    assert {tuple(each.names) for each in runs} == {("run.started", "node.started", "node.finished", "run.finished")}
    assert code == (0 if name == "understudy" else -signal.SIGTERM)  # uvicorn raises it again when it has ended
    if name == "understudy":
        assert set(probes.alive) == {200}
        assert probes.ready[-1] == 503
        assert probes.over_when_lost == RUNS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["understudy", pytest.param("uvicorn", marks=pytest.mark.chaos)])
async def test_a_second_signal_ends_a_hundred_runs(name: str, tmp_path: Path) -> None:
    async with serving(COMMANDS[name], {}, tmp_path) as server, client(server) as http:
        runs = await started(http, wait_s=3_600)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for each in runs:
                    nursery.start_soon(each.follow, server.port)
                nursery.start_soon(stopped, server, runs, 2)
        code = await server.wait()

    assert code == (0 if name == "understudy" else -signal.SIGTERM)
    assert {each.last["event"] for each in runs} == {"run.finished"}
    assert {each.last["status"] for each in runs} == {"cancelled"}
