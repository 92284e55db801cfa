"""Servers that are killed and started again, with their followers: real processes, one store."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
import trio

from tests.patience import PATIENCE_S
from tests.runtime.embed.servers import Server, serving
from tests.runtime.serve.test_servers import APPS, asking, client, until

COMMANDS = {
    "understudy": ("tests.runtime.serve.command", "serve", f"{APPS}:stored_graph", "--port", "{port}", "--no-auth", "--store"),
    "uvicorn": ("uvicorn", "--port", "{port}", "--no-access-log", f"{APPS}:stored"),
}


@attrs.define(eq=False)
class Follower:
    """A client that takes up where it was cut."""

    run: str
    texts: list[str] = attrs.field(factory=list[str])
    """The data of the events."""

    @property
    def is_through(self) -> bool:
        return bool(self.texts) and json.loads(self.texts[-1])["event"] == "run.finished"

    async def follow(self, port: int) -> None:
        """Until the end of the run, or of the server."""
        headers = {"last_event_id": str(len(self.texts) - 1)} if self.texts else {}
        received = b""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(asking("GET", f"/v1/runs/{self.run}/events", **headers))
                async for part in stream:
                    received += part
                    *whole, received = received.split(b"\n\n")
                    self._take(whole)
        except (trio.BrokenResourceError, OSError):
            pass

    def _take(self, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            at = block.find(b"data: ")
            if at >= 0:
                self.texts.append(block[at + len(b"data: ") :].decode())

    async def go_on(self, port: int) -> None:
        """Ask again until the run is over or the server has gone."""
        while not self.is_through:
            await self.follow(port)
            if not await _listens(port):
                return
            await trio.sleep(0.05)


async def _listens(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


async def killed(server: Server, followers: Sequence[Follower], least: int) -> None:
    """Kill the server when each follower has `least` events."""
    with trio.fail_after(PATIENCE_S):
        while any(len(each.texts) < least for each in followers):  # noqa: ASYNC110 - another process says nothing
            await trio.sleep(0.01)
    os.kill(server.process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["understudy", pytest.param("uvicorn", marks=pytest.mark.chaos)])
async def test_followers_of_a_server_that_is_killed_see_every_event_once(name: str, tmp_path: Path) -> None:
    command, store = COMMANDS[name], str(tmp_path / "runs.db")
    command = (*command, store) if name == "understudy" else command
    environment = {"STORE_OF_RUNS": store}
    async with serving(command, environment, tmp_path) as server, client(server) as http:
        body = {"input": {"n": 12}}
        runs = [(await http.post("/v1/graphs/counting/runs", json=body)).json()["id"] for _ in range(4)]
        followers = [Follower(run) for run in runs for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for each in followers:
                nursery.start_soon(each.go_on, server.port)
            nursery.start_soon(killed, server, followers, 5)
    async with serving(command, environment, tmp_path) as server, client(server) as http:
        for run in runs:
            await until(http, f"/v1/runs/{run}", lambda reply: reply.json()["status"] != "waiting")
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for each in followers:
                    nursery.start_soon(each.go_on, server.port)
        late = Follower(runs[0])
        await late.go_on(server.port)
        listed = (await http.get("/v1/runs")).json()["runs"]

    for each in followers:
        told = [json.loads(text) for text in each.texts]
        assert [event["seq"] for event in told] == list(range(len(told)))
        assert [event["event"] for event in told].count("run.finished") == 1
        ended = [event["path"] for event in told if event["event"] == "node.finished"]
        assert len(ended) == len(set(ended)) == 12
        assert [event["event"] for event in told].count("run.resumed") == 1
    for one, other in zip(followers[::2], followers[1::2], strict=True):
        assert one.texts == other.texts
    assert late.texts == followers[0].texts
    assert [run["id"] for run in listed] == runs[::-1]
    assert {run["status"] for run in listed} == {"succeeded"}
