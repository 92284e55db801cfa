"""Graphs behind real servers: what clients that leave, loads and signals do to the runs."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from runtime.testing import LoopbackHandle, ModelScript, loopback_process
from tests.runtime.embed.apps.service import CYPHER, INTENT, MODELS, RATING
from tests.runtime.embed.servers import COMMANDS, Server, exchange, listens, request, serving

pytestmark = pytest.mark.slow

HOLD = {"model": "hold", "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.chaos if each != "uvicorn" else ()) for each in COMMANDS])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def provider() -> Iterator[LoopbackHandle]:
    with loopback_process({**MODELS, "rater": RATING}) as handle:
        yield handle


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    with trio.fail_after(within_s):
        while not await condition():  # noqa: ASYNC110 - another process says nothing
            await trio.sleep(0.1)


async def in_flight(provider: LoopbackHandle, count: int) -> bool:
    return (await trio.to_thread.run_sync(provider.snapshot)).in_flight == count


async def pausing(server: Server, count: int) -> bool:
    census: dict[str, int] = await server.get("/census")
    return census["pausing"] == count


async def left(provider: LoopbackHandle, count: int) -> bool:
    requests = (await trio.to_thread.run_sync(provider.snapshot)).requests
    return sum(record.cancelled_by_client for record in requests) == count


async def hang_up_when(gone: trio.Event, port: int, path: str, body: object = INTENT) -> None:
    """A client that sends a request, and leaves without its answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request("POST", path, body))
        await gone.wait()


async def hold_all_calls(provider: LoopbackHandle, nursery: trio.Nursery) -> trio.Event:
    """Occupy the only place of `provider`, so that every other call waits there until ``limit(None)``; the event ends it."""
    provider.configure({"hold": ModelScript("held", latency_s=60)})
    provider.limit(1)
    done = trio.Event()
    nursery.start_soon(hang_up_when, done, int(provider.url.rpartition(":")[2]), "/v1/chat/completions", HOLD)
    await until(partial(in_flight, provider, 1))
    return done


async def test_clients_that_leave_take_their_calls_with_them_and_the_others_are_answered(
    kind: str, provider: LoopbackHandle, tmp_path: Path
) -> None:
    answers: list[tuple[int, str]] = []
    gone = trio.Event()

    async def stay(server: Server) -> None:
        answers.append(await server.post("/ratings", INTENT))

    async with serving(COMMANDS[kind], {"PROVIDER": provider.api_base}, tmp_path) as server:
        assert await server.post("/queries", INTENT) == (200, f'{{"cypher":"{CYPHER}"}}')
        assert await server.post("/ratings", INTENT) == (200, '{"stars":4}')
        before = await server.get("/census")
        provider.clear()
        async with trio.open_nursery() as nursery:
            done = await hold_all_calls(provider, nursery)
            for _ in range(50):
                nursery.start_soon(hang_up_when, gone, server.port, "/ratings")
            await until(partial(in_flight, provider, 1 + 50))
            for _ in range(150):
                nursery.start_soon(stay, server)
            await until(partial(in_flight, provider, 1 + 64))  # what the concurrency of the node lets through

            gone.set()
            await until(partial(left, provider, 50))
            provider.limit(None)
            done.set()
        await until(partial(in_flight, provider, 0))
        after = await server.get("/census")

    records = [record for record in provider.snapshot().requests if record.model != "hold"]
    assert answers == [(200, '{"stars":4}')] * 150
    assert sum(record.cancelled_by_client for record in records) == 50
    assert sum(record.status == 200 for record in records) == 150
    assert after["queued"] == before["queued"] == 0
    assert after["threads"] == before["threads"]
    assert after["tasks"] - before["tasks"] <= 63 + 9  # instances of the node, which are there for the next load
    assert server.log.read_text().count("Traceback") == 0


async def test_a_stream_of_events_ends_with_its_client(kind: str, provider: LoopbackHandle, tmp_path: Path) -> None:
    gone = trio.Event()

    async with serving(COMMANDS[kind], {"PROVIDER": provider.api_base}, tmp_path) as server:
        status, text = await server.post("/queries/events", INTENT)
        provider.clear()
        async with trio.open_nursery() as nursery:
            done = await hold_all_calls(provider, nursery)
            nursery.start_soon(hang_up_when, gone, server.port, "/queries/events")
            await until(partial(in_flight, provider, 4))

            gone.set()
            await until(partial(in_flight, provider, 1))
            done.set()

    assert status == 200
    assert text.count("event: RunStarted") == text.count("event: RunFinished") == 1
    assert sum(record.cancelled_by_client for record in provider.snapshot().requests if record.model != "hold") == 3
    assert server.log.read_text().count("Traceback") == 0


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.chaos)])
async def test_many_requests_leave_nothing_behind(kind: str, times: int, provider: LoopbackHandle, tmp_path: Path) -> None:
    async with serving(COMMANDS[kind], {"PROVIDER": provider.api_base}, tmp_path) as server:

        async def requests(count: int) -> None:
            for _ in range(count):
                assert await server.get("/pauses/0") == {"paused": 0.0}

        async def many(count: int) -> dict[str, int]:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(requests, count // 10)
            census: dict[str, int] = await server.get("/census")
            return census

        before = await many(200 * times)
        after = await many(500 * times)

    assert after["resident"] - before["resident"] < 4_000_000
    for name in ("tasks", "threads", "fds", "queued"):
        assert after[name] <= before[name] + 9, name  # connections that the server has not noticed to be closed


async def test_sigterm_under_load_loses_no_accepted_request(kind: str, provider: LoopbackHandle, tmp_path: Path) -> None:
    answers: list[tuple[int, str]] = []

    async def ask(server: Server) -> None:
        answers.append(await exchange(server.port, request("GET", "/pauses/4.0")))

    async with serving(COMMANDS[kind], {"PROVIDER": provider.api_base}, tmp_path) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask, server)
            await until(partial(pausing, server, 100))  # until then a request may be the kernel's, and never accepted

            server.process.send_signal(signal.SIGTERM)
        await server.wait()

    assert [status for status, _ in answers] == [200] * 100
    assert not await listens(server.port)
    assert server.log.read_text().count("Traceback") == 0


async def test_an_application_of_quart_trio_is_served(provider: LoopbackHandle, tmp_path: Path) -> None:
    command = (*COMMANDS["hypercorn-trio"][:-1], "tests.runtime.embed.apps.quart_app:app")

    async with serving(command, {"PROVIDER": provider.api_base}, tmp_path) as server:
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.get(f"http://127.0.0.1:{server.port}/pauses/0.1")).json() == {"paused": 0.1}
        server.process.send_signal(signal.SIGTERM)
        await server.wait()

    assert server.log.read_text().count("Traceback") == 0


@pytest.mark.parametrize("loop", ["uvicorn", pytest.param("uvicorn-uvloop", marks=pytest.mark.chaos)])
async def test_a_second_sigterm_cancels_what_runs(loop: str, provider: LoopbackHandle, tmp_path: Path) -> None:
    answers: list[tuple[int, str]] = []

    async def ask(server: Server) -> None:
        answers.append(await exchange(server.port, request("GET", "/pauses/60")))

    async with serving(COMMANDS[loop], {"PROVIDER": provider.api_base}, tmp_path) as server:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, server)
                await trio.sleep(0.5)
                server.process.send_signal(signal.SIGTERM)
                await trio.sleep(0.5)
                server.process.send_signal(signal.SIGTERM)
            await server.wait()

    assert answers == [(500, "Internal Server Error")]
    assert "was cancelled: a second SIGTERM came." in server.log.read_text()


async def test_sigint_ends_a_server_without_a_traceback(kind: str, provider: LoopbackHandle, tmp_path: Path) -> None:
    async with serving(COMMANDS[kind], {"PROVIDER": provider.api_base}, tmp_path) as server:
        await server.get("/census")

        server.process.send_signal(signal.SIGINT)
        await server.wait()

    assert server.log.read_text().count("Traceback") == 0
