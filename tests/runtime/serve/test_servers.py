"""Services under the servers that run them, in processes of their own."""

import json
import math
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import trio

from actors.errors import DeclarationError
from runtime.cli.main import main
from runtime.serve import Limits, MCPFace, OpenAIFace, Service, serve
from runtime.serve.problem_documents import HttpProblem
from tests.patience import PATIENCE_S
from tests.runtime.embed.servers import Server, exchange, free_port, listens, request, serving
from tests.runtime.serve.cast import Keys, answers
from tests.runtime.serve.listening import listening
from tests.runtime.serve.test_question_routes import letters

APPS = "tests.runtime.serve.apps"
COMMANDS = {
    "understudy": ("tests.runtime.serve.command", "serve", f"{APPS}:graph", "--port", "{port}", "--no-auth", "--grace", "20"),
    "uvicorn": ("uvicorn", "--port", "{port}", "--no-access-log", f"{APPS}:app"),
    "uvicorn-mounted": ("uvicorn", "--port", "{port}", "--no-access-log", f"{APPS}:mounted"),
    "hypercorn-trio": ("hypercorn", "-k", "trio", "--bind", "127.0.0.1:{port}", f"{APPS}:app"),
}


def prefix(name: str) -> str:
    return "/agents" if name == "uvicorn-mounted" else ""


@pytest.fixture(params=list(COMMANDS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Server]]:
    name: str = request.param
    async with serving(COMMANDS[name], {}, tmp_path) as server:
        yield name, server


def client(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=PATIENCE_S)


async def until(http: httpx.AsyncClient, path: str, is_so: Callable[[httpx.Response], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so(await http.get(path)):  # noqa: ASYNC110 - another process says nothing
            await trio.sleep(0.02)


async def events(port: int, message: bytes, most: int = 10**9) -> tuple[str, list[tuple[int, str]]]:
    """Send `message`, read `most` events of the answer or all of them, and hang up: the run's id, numbers and names."""
    received = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(message)
            async for part in stream:
                received += part
                if received.count(b"\nevent: ") >= most:
                    break
    head, _, body = received.decode().partition("\r\n\r\n")
    run = re.search(r"x-run-id: (\S+)", head, re.IGNORECASE)
    assert run is not None, head
    return run[1], [(int(seq), name) for seq, name in re.findall(r"^id: (\d+)\nevent: (\S+)$", body, re.MULTILINE)][:most]


def asking(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """A request for events."""
    given = {"Host": "localhost", "Accept": "text/event-stream", **headers}
    lines = "\r\n".join(f"{name.replace('_', '-')}: {value}" for name, value in given.items())
    return request(method, path, body).replace(b"Host: test", lines.encode())


@pytest.mark.slow
async def test_a_service_does_the_same_under_every_server(server: tuple[str, Server]) -> None:
    name, up = server
    start = f"{prefix(name)}/v1/graphs/answers/runs"
    async with client(up) as http:
        waited = await http.post(start, json={"input": {"text": "a"}}, headers={"prefer": "wait=20"})
        assert waited.json()["output"] == {"text": "A"}
        assert waited.headers["location"].startswith(f"{prefix(name)}/v1/runs/")
        assert (await http.get(waited.headers["location"])).json()["status"] == "succeeded"

        run, first = await events(up.port, asking("POST", start, {"input": {"text": "b", "wait_s": 0.2}}), 2)
        _, rest = await events(up.port, asking("GET", f"{prefix(name)}/v1/runs/{run}/events", last_event_id="1"))
        assert [*first, *rest] == [(0, "run.started"), (1, "node.started"), (2, "node.finished"), (3, "run.finished")]

        going = (await http.post(start, json={"input": {"text": "c", "wait_s": 600}})).json()["id"]
        cancelled = await http.post(f"{prefix(name)}/v1/runs/{going}/cancel")
        assert cancelled.json()["status"] == "cancelled"

        assert (await http.get(f"{prefix(name)}/healthz", headers={"host": "evil.example"})).status_code == 400
        large = request("POST", start).replace(b"Host: test", b"Host: localhost").replace(b"Length: 0", b"Length: 2000000")
        assert (await exchange(up.port, large))[0] == 413

        body = {"input": {"text": "a", "wait_s": 600}, "run_id": "gone"}
        await events(up.port, asking("POST", start, body, prefer="cancel-on-disconnect"), 2)
        await until(http, f"{prefix(name)}/v1/runs/gone", lambda reply: reply.json()["status"] == "cancelled")


@pytest.mark.slow
async def test_a_signal_lets_runs_end_and_answers_until_they_have(tmp_path: Path) -> None:
    async with serving(COMMANDS["understudy"], {}, tmp_path) as up, client(up) as http:
        body = {"input": {"text": "a", "wait_s": 1.5}, "run_id": "last"}
        followed: list[Any] = []

        async def follow() -> None:
            followed.extend((await events(up.port, asking("GET", "/v1/runs/last/events")))[1])

        await http.post("/v1/graphs/answers/runs", json=body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(0.2)
            up.process.send_signal(signal.SIGTERM)
            await until(http, "/readyz", lambda reply: reply.status_code == 503)
            assert (await http.get("/healthz")).status_code == 200
            refused = await http.post("/v1/graphs/answers/runs", json=body | {"run_id": "new"})
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:understudy:problem:draining")
        assert followed[-1][1] == "run.finished"
        assert await up.wait() == 0


@pytest.mark.slow
async def test_an_open_inspector_does_not_keep_a_server_from_ending(tmp_path: Path) -> None:
    async with serving(COMMANDS["uvicorn"], {}, tmp_path) as up:
        message = asking("GET", "/inspector/api/changes?view=overview")
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", up.port) as stream:
                await stream.send_all(message)
                received = b""
                while b"event: view" not in received:
                    received += await stream.receive_some()
                up.process.send_signal(signal.SIGTERM)
                assert await up.wait() == -signal.SIGTERM  # which uvicorn raises again when it has ended


async def test_serve_says_where_it_is_and_ends_when_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    service = Service([answers()], auth=Keys().auth, faces=[MCPFace()])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            address = await nursery.start(lambda task_status: serve(service, port=0, task_status=task_status))
            async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
                assert (await http.get("/readyz")).text == "ok"
                assert (await http.get("/v1/graphs")).status_code == 401
            nursery.cancel_scope.cancel()
    assert [
        record.message for record in caplog.records if record.levelname == "CRITICAL"
    ] == []  # it was not the runtime that ended


async def test_a_port_that_is_taken_is_said_to_be() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await serve(Service([answers()]), port=taken.getsockname()[1])


async def test_a_port_is_free_again_when_the_service_does_not_come_up() -> None:
    class Broken:
        def running(self, _: Any) -> Any:
            raise LookupError("no model")

        def endpoints(self) -> list[Any]:
            return []

        def check(self, graphs: Any) -> None:
            pass

    port, broken = free_port(), cast("OpenAIFace", Broken())
    with pytest.raises(LookupError) as failed:
        await serve(Service([answers()], faces=[broken]), port=port)

    assert failed.traceback  # which has the frames and what is in them
    assert not await listens(port)


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 1e-6])
async def test_every_limit_may_be_as_long_or_as_short_as_one_likes(seconds: float) -> None:
    limits = Limits(body_s=math.inf, wait_s=math.inf, run_s=max(seconds, 600), stall_s=seconds)
    with trio.fail_after(PATIENCE_S):
        async with listening("hypercorn", Service([answers()], faces=[MCPFace()], limits=limits)) as address:
            async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
                run = await http.post(
                    "/v1/graphs/answers/runs", json={"input": {"text": "a"}}, headers={"prefer": "wait=123456789"}
                )
                assert run.json()["output"] == {"text": "A"}
                assert run.headers["preference-applied"] == "wait=123456789"
                bounds = (await http.get("/openapi.json")).json()["components"]["schemas"]["Bounds"]
    assert bounds["properties"]["timeout_s"].get("maximum") == (None if seconds == math.inf else limits.run_s)


@pytest.mark.parametrize("grace_s", [math.nan, -1.0, "5", True])
async def test_a_grace_that_is_no_time_is_refused_before_it_is_needed(grace_s: Any) -> None:
    with pytest.raises(DeclarationError, match="expected a number of seconds >= 0"):
        await serve(Service([answers()]), port=0, grace_s=grace_s)


async def test_a_model_that_is_away_for_ever_is_asked_for_again_tomorrow() -> None:
    assert HttpProblem("model-overloaded", retry_after_s=math.inf).headers == {"Retry-After": "86400"}


# --- signals ----------------------------------------------------------------------------------------------------------


async def test_the_first_signal_says_what_is_waited_for_and_the_second_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "understudy.serve")
    service = Service([answers(), letters()])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            address = await nursery.start(lambda task_status: serve(service, port=0, grace_s=20, task_status=task_status))
            async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
                await http.post("/v1/graphs/answers/runs", json={"input": {"text": "a", "wait_s": 600}})
                asks = await http.post("/v1/graphs/letters/runs", json={"input": {"number": 7}})
                await until(http, f"/v1/runs/{asks.json()['id']}", lambda reply: reply.json()["status"] == "waiting")
                signal.raise_signal(signal.SIGTERM)
                await until(http, "/readyz", lambda reply: reply.status_code == 503)
                assert "SIGTERM: no more runs are taken; 2 are in progress (1 of them waits for an answer) and have 20 s" in [
                    record.message for record in caplog.records
                ]
                signal.raise_signal(signal.SIGINT)
    assert caplog.records[-1].message == "SIGINT again: all runs are cancelled"


async def test_a_signal_says_that_nothing_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "understudy.serve")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: serve(Service([answers()]), port=0, task_status=task_status))
            signal.raise_signal(signal.SIGTERM)
    assert caplog.records[-1].message == "SIGTERM: no more runs are taken; none is in progress"


# --- the command ------------------------------------------------------------------------------------------------------

GRAPH = f"{APPS}:graph"


def test_check_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", GRAPH, "--check"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert "/v1/graphs/answers/runs" in document["paths"]
    assert document["paths"]["/v1/graphs"]["get"]["security"] == [{"bearer": []}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "callers need keys"),
        (["--host", "0.0.0.0", "--no-auth"], "callers need keys"),
        (["--no-auth", "--keys", "x"], "give one of them"),
        (["--keys", "/nowhere"], "cannot be read"),
        (["--port", "70000"], "expected a port"),
        (["--cors", "*", "--no-auth"], "would let everybody in"),
    ],
)
def test_what_would_let_everybody_in_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", GRAPH, *options]) == 2
    assert words in capsys.readouterr().err


def test_a_new_key_is_printed_once_and_its_line_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"

    assert main(["keys", "new", "ci", "--scopes", "run,inspect", "--file", str(file)]) == 0

    key = capsys.readouterr().out.strip()
    assert key.startswith("usk_ci_")
    assert key not in file.read_text()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert main(["keys", "new", "c i"]) == 2
    assert main(["keys", "new", "ci", "--scopes", "fly"]) == 2


def test_a_process_that_has_done_its_command_does_not_look_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """That took half a second of a server's end, among everything that was imported: more than all the rest of it."""
    left: list[None] = []
    monkeypatch.setattr("runtime.cli.main.leave_quickly", lambda: left.append(None))

    assert main(["serve", GRAPH, "--check"]) == 0
    assert left == []  # the process is its caller's
    monkeypatch.setattr(sys, "argv", ["understudy", "serve", GRAPH, "--check"])
    assert main() == 0
    assert left == [None]


@pytest.mark.slow
async def test_the_command_serves_the_faces_that_it_is_asked_for_and_logs_no_session(tmp_path: Path) -> None:
    command = (*COMMANDS["understudy"], "--mcp", "--no-openai")
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    async with serving(command, {}, tmp_path) as up, client(up) as http:
        assert (await http.get("/v1/models")).status_code == 404
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        begun = await http.post("/mcp", json=body, headers={"accept": "application/json, text/event-stream"})
        assert begun.status_code == 200
        up.process.send_signal(signal.SIGTERM)
        assert await up.wait() == 0
    assert f"http://127.0.0.1:{up.port}/mcp" in up.log.read_text()
    assert begun.headers["mcp-session-id"] not in up.log.read_text()
