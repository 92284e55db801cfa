"""Clients of event streams on plain sockets: some read, some take nothing, some leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from tests.benchmarks.service_calls import Host, request

START: Final = "/v1/graphs/counting/runs"


def following(run: str) -> bytes:
    """The request for the events of a run."""
    return request("GET", f"/v1/runs/{run}/events", Accept="text/event-stream")


@attrs.define(eq=False)
class Reader:
    """A client that reads a stream to its end."""

    run: str
    seqs: list[int] = attrs.field(factory=list[int])
    bytes: int = 0
    begun: trio.Event = attrs.field(factory=trio.Event)

    async def read(self, host: Host) -> None:
        """Until the server ends it."""
        rest = b""
        async with await host.connect() as stream:
            await stream.send_all(following(self.run))
            async for part in stream:
                self.begun.set()
                self.bytes += len(part)
                *lines, rest = (rest + part).split(b"\n")
                self.seqs += [int(line[4:]) for line in lines if line.startswith(b"id: ")]
                if part.endswith(b"0\r\n\r\n"):
                    return


def whole(readers: Sequence[Reader], events: int) -> int:
    """How many of them saw every event once, in order."""
    return sum(each.seqs == list(range(events)) for each in readers)


async def start(host: Host, left: int, **more: Any) -> str:
    """Start a run of so many steps; its id."""
    return str((await host.ask("POST", START, {"input": {"left": left, **more}}))["id"])


async def stall(host: Host, run: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Ask for the events of a run, and take nothing of the answer."""
    async with await host.connect() as stream:
        await stream.send_all(following(run))
        task_status.started()
        await trio.sleep_forever()


async def listen(host: Host, run: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Ask for the events of a run, wait for the first bytes, and stay."""
    async with await host.connect() as stream:
        await stream.send_all(following(run))
        await stream.receive_some(1_000)
        task_status.started()
        await trio.sleep_forever()


async def visit(host: Host, run: str) -> None:
    """Ask for the events of a run, wait for the first bytes, and leave."""
    async with await host.connect() as stream:
        await stream.send_all(following(run))
        await stream.receive_some(1_000)


async def leave_a_wait(host: Host, leave: trio.Event) -> None:
    """Start a run and wait for it until `leave`: the run is cancelled."""
    async with await host.connect() as stream:
        body = {"input": {"left": 1, "wait_s": 3_600}}
        await stream.send_all(request("POST", START, body, Prefer="wait=300, cancel-on-disconnect"))
        await leave.wait()


@attrs.define(eq=False)
class Watcher:
    """A client that has the inspector's view of actors open."""

    updates: int = 0
    begun: trio.Event = attrs.field(factory=trio.Event)

    async def watch(self, host: Host) -> None:
        """Read for ever, as the page does."""
        async with await host.connect() as stream:
            await stream.send_all(request("GET", "/inspector/api/changes?view=actors", Accept="text/event-stream"))
            async for part in stream:
                self.updates += part.count(b"event: ")
                self.begun.set()
