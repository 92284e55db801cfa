"""Graphs as tools, to the MCP library's own client: in both eras of the protocol, under both kinds of server."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import partial
from typing import Any

import attrs
import httpx2
import mcp_types as types
import pytest
import trio
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from actors import Graph
from actors.errors import DeclarationError
from runtime import open_runtime
from runtime.cli.main import main
from runtime.serve import Limits, MCPFace, Service
from runtime.serve.faces.mcp_server import GraphServer
from runtime.serve.faces.mcp_tools import tools_of
from runtime.serve.live import Live
from runtime.traces import Recorder, Recording
from tests.patience import PATIENCE_S
from tests.runtime.embed.servers import ROOT
from tests.runtime.serve.cast import Answer, Keys, Many, Question, Reply, answers, serving
from tests.runtime.serve.cast import Client as ASGIClient
from tests.runtime.serve.listening import SERVERS, listening
from tests.runtime.serve.test_gate import BAD_JSON
from tests.runtime.serve.test_question_routes import letters
from tests.runtime.serve.test_restarts import Lives

ERAS = ("2026-07-28", "legacy")
# The library's client leaves its streams to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator .(httpx2|httpcore2|mcp):ResourceWarning")


@attrs.frozen
class Total:
    n: int
    parts: list[int]


def sums() -> Graph[Many | Question, Total]:
    """Takes two types, and works in three steps."""
    graph = Graph("sums of", input=Many | Question, output=Total)

    @attrs.frozen
    class Half:
        n: int

    @graph.node
    async def measure(question: Question) -> Many:
        return Many(len(question.text))

    @graph.node
    async def halve(many: Many) -> Half:
        return Half(many.n // 2)

    @graph.node
    async def add(half: Half) -> Total:
        return Total(2 * half.n, [half.n, half.n])

    return graph


@attrs.frozen
class Up:
    address: str
    keys: Keys

    @contextlib.asynccontextmanager
    async def client(self, era: str, key: str | None = None, **options: Any) -> AsyncGenerator[Client]:
        headers = {"authorization": f"Bearer {key or self.keys.ann}"}
        with trio.fail_after(PATIENCE_S):
            async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=PATIENCE_S) as http:
                async with Client(streamable_http_client(f"{self.address}/mcp", http_client=http), mode=era, **options) as client:
                    yield client

    async def runs(self) -> list[Any]:
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {self.keys.eve}"}, trust_env=False) as http:
            found: list[Any] = (await http.get(f"{self.address}/v1/runs")).json()["runs"]
            return found

    async def until(self, status: str) -> None:
        """Wait for the newest run to have that status."""
        with trio.fail_after(PATIENCE_S):
            while (await self.runs())[0]["status"] != status:  # noqa: ASYNC110 - another process says nothing
                await trio.sleep(0.01)


@pytest.fixture(params=SERVERS)
async def up(request: pytest.FixtureRequest) -> AsyncIterator[Up]:
    keys = Keys()
    service = Service([answers(), sums(), letters()], auth=keys.auth, faces=[MCPFace()])
    async with listening(request.param, service) as address:
        yield Up(address, keys)


def text_of(result: Any) -> str:
    [content] = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS)
async def test_graphs_are_tools(up: Up, era: str) -> None:
    heard: list[tuple[float, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with up.client(era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["answers", "sums_of_Many", "sums_of_Question", "letters"]
        assert tools["answers"].description == "A question that somebody asks."
        assert tools["answers"].input_schema["required"] == ["text"]
        assert tools["sums_of_Many"].output_schema is not None

        answer = await client.call_tool("answers", {"text": "hi"})
        assert (answer.structured_content, json.loads(text_of(answer)), answer.is_error) == (
            {"text": "HI"},
            {"text": "HI"},
            False,
        )

        total = await client.call_tool("sums_of_Question", {"text": "four"}, progress_callback=progress)
        assert total.structured_content == {"n": 4, "parts": [2, 2]}
        assert heard == [(1, "measure finished"), (2, "halve finished"), (3, "add finished")]

        wrong = await client.call_tool("answers", {"text": 3, "other": 1})
        assert wrong.is_error
        assert "text" in text_of(wrong)
        assert "other" in text_of(wrong)
        failed = await client.call_tool("answers", {"text": "fail"})
        assert failed.is_error
        assert text_of(failed).startswith("Failed: node 'answer'. Fix: look at the run")
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("none", {})


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cancels_its_call_cancels_the_run(up: Up, era: str) -> None:
    async with up.client(era) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "answers", {"text": "a", "wait_s": 600})
            with trio.fail_after(PATIENCE_S):
                while not await up.runs():  # noqa: ASYNC110 - another process says nothing
                    await trio.sleep(0.01)
            await up.until("running")
            nursery.cancel_scope.cancel()
        await up.until("cancelled")


async def approve(context: Any, params: Any) -> types.ElicitResult:
    assert "May this letter be sent?" in params.message
    assert "order 7" in params.message
    assert params.requested_schema["properties"]["answer"]["enum"] == ["Approved", "Rejected"]
    return types.ElicitResult(action="accept", content={"answer": "Approved", "Approved.remark": "well done"})


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS)
async def test_what_a_run_asks_a_person_goes_to_the_clients_user(up: Up, era: str) -> None:
    async with up.client(era, elicitation_callback=approve) as client:
        assert (await client.call_tool("letters", {"number": 7})).structured_content == {"text": "sent well done"}

    asked: list[str] = []

    async def reject(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        if "really?" in params.message:
            return types.ElicitResult(action="accept", content={"remark": "sure"})
        if "did not fit" not in params.message:
            return types.ElicitResult(action="accept", content={"answer": "Rejected"})
        return types.ElicitResult(action="accept", content={"answer": "Rejected", "Rejected.why": "too long"})

    async with up.client(era, elicitation_callback=reject) as client:
        assert (await client.call_tool("letters", {"number": 7})).structured_content == {"text": "dropped: too long, sure"}
    assert len(asked) == 3

    async def decline(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="decline")

    async with up.client(era, elicitation_callback=decline) as client:
        declined = await client.call_tool("letters", {"number": 7})
        assert declined.is_error
        assert "did not answer" in text_of(declined)
    await up.until("cancelled")


@pytest.mark.slow
@pytest.mark.parametrize(("up", "era"), [("hypercorn", ERAS[0]), ("uvicorn", ERAS[1])], indirect=["up"])
async def test_somebody_else_may_answer_for_a_client_that_cannot_ask(up: Up, era: str) -> None:
    results: list[Any] = []
    async with up.client(era) as client, trio.open_nursery() as nursery:

        async def call() -> None:
            results.append(await client.call_tool("letters", {"number": 7}))

        nursery.start_soon(call)
        with trio.fail_after(PATIENCE_S):
            while not await up.runs():  # noqa: ASYNC110 - another process says nothing
                await trio.sleep(0.01)
        await up.until("waiting")
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {up.keys.ann}"}, trust_env=False) as http:
            asked = (await http.get(up.address + (await up.runs())[0]["links"]["questions"])).json()["questions"]
            await http.post(up.address + asked[0]["links"]["answer"], json={"Approved": {"remark": "by hand"}})
    assert results[0].structured_content == {"text": "sent by hand"}


# --- on stdio ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("era", [ERAS[0], *(pytest.param(era, marks=pytest.mark.chaos) for era in ERAS[1:])])
async def test_the_command_serves_on_standard_input_and_output(era: str) -> None:
    file = "tests.runtime.serve.apps:"
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tests.runtime.serve.command", "mcp", f"{file}graph", f"{file}letters_graph"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    with trio.fail_after(PATIENCE_S):
        async with Client(command, mode=era, elicitation_callback=approve) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["answers", "letters"]
            assert (await client.call_tool("answers", {"text": "hi"})).structured_content == {"text": "HI"}
            with trio.move_on_after(0.2):
                await client.call_tool("answers", {"text": "hi", "wait_s": 600})
            assert (await client.call_tool("letters", {"number": 7})).structured_content == {"text": "sent well done"}


async def test_where_nobody_else_can_answer_a_question_that_cannot_be_asked_fails(virtual_clock: Any) -> None:
    graphs = [letters()]
    recorder = Recorder(Recording())
    options: Any = {"instruments": [recorder]}
    async with open_runtime(graphs=graphs, **options) as runtime:
        live = Live(graphs, Limits(), recorder, runtime)
        async with live.serving(), Client(GraphServer(live, is_alone=True)._server) as client:
            refused = await client.call_tool("letters", {"number": 7})
            assert refused.is_error
            assert "This client cannot ask people." in text_of(refused)
            assert not runtime.runs()


def test_what_the_command_cannot_serve_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "nowhere.py:graph"]) == 2
    assert "nowhere.py" in capfd.readouterr().err


# --- at the door ------------------------------------------------------------------------------------------------------

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
BOTH = {"accept": "application/json, text/event-stream"}


def call(
    name: str, state: str | None = None, answers: Mapping[str, Any] | None = None, **arguments: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """A call in the new era: its body and its headers."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": ERAS[0],
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    }
    params: dict[str, Any] = {"name": name, "arguments": arguments, "_meta": meta}
    if state is not None:
        params |= {"requestState": state, "inputResponses": answers or {}}
    headers = {**BOTH, "mcp-protocol-version": ERAS[0], "mcp-method": "tools/call", "mcp-name": name}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers


async def test_without_a_key_there_is_an_error_of_json_rpc() -> None:
    async with serving(auth=Keys().auth, faces=[MCPFace()]) as client:
        for method in ("GET", "POST", "DELETE"):
            reply = await client.call(method, "/mcp", HELLO, headers=BOTH)
            assert (reply.status, reply.json()["jsonrpc"], reply.json()["error"]["code"]) == (401, "2.0", -32600)
            assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_a_session_is_its_callers_alone() -> None:
    keys = Keys()
    async with serving(auth=keys.auth, faces=[MCPFace()]) as client:
        begun = await client.of(keys.ann).post("/mcp", HELLO, headers=BOTH)
        session = {**BOTH, "mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

        assert (await client.of(keys.ben).post("/mcp", listing, headers=session)).status == 404
        assert (await client.of(keys.ben).call("DELETE", "/mcp", headers=session)).status == 404
        assert b'"answers"' in (await client.of(keys.ann).post("/mcp", listing, headers=session)).body
        assert (await client.of(keys.ann).call("DELETE", "/mcp", headers=session)).status == 200
        assert (await client.of(keys.ann).post("/mcp", listing, headers=session)).status == 404


async def test_a_session_can_be_listened_to_until_the_service_drains(virtual_clock: Any) -> None:
    service = Service([answers()], faces=[MCPFace()])
    async with service.lifespan():
        client = ASGIClient(service.app)
        begun = await client.post("/mcp", HELLO, headers=BOTH)
        session = {"accept": "text/event-stream", "mcp-session-id": begun.headers["mcp-session-id"]}
        heard = Reply()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(client.call, "GET", "/mcp", headers=session, reply=heard))
                await trio.sleep(5)
                assert (heard.status, heard.headers["content-type"]) == (200, "text/event-stream")
                assert not heard.is_whole
                service.reject_runs()
    assert trio.current_time() < 8


async def test_the_state_that_a_client_sends_back_is_its_callers_and_cannot_be_forged(virtual_clock: Any) -> None:
    keys = Keys()
    async with serving(letters(), auth=keys.auth, faces=[MCPFace()]) as client:
        body, headers = call("letters", number=7)
        asked = (await client.of(keys.ann).post("/mcp", body, headers=headers)).json()["result"]
        state = asked["requestState"]
        assert asked["resultType"] == "input_required"
        [run] = (await client.of(keys.eve).get("/v1/runs")).json()["runs"]
        assert run["id"] not in state

        async def again(key: str, state: str, number: int = 7) -> Any:
            body, headers = call("letters", state, number=number)
            return (await client.of(key).post("/mcp", body, headers=headers)).json()

        for refused in (
            await again(keys.ben, state),  # another caller's
            await again(keys.ann, state, 8),  # of another call
            await again(keys.ann, state[:-4] + "AAAA"),
            await again(keys.ann, json.dumps({"run": run["id"]})),
        ):
            assert refused["error"]["message"] == "Invalid or expired requestState"
        assert (await again(keys.ann, state))["result"]["resultType"] == "input_required"  # nothing was answered


async def test_another_process_with_the_same_keys_and_store_takes_the_answer(virtual_clock: Any) -> None:
    lives = Lives(letters(), faces=[MCPFace(keys=[b"k" * 32])])
    async with lives.life() as client:
        body, headers = call("letters", number=7)
        asked = (await client.post("/mcp", body, headers=headers)).json()["result"]
    answer = {"action": "accept", "content": {"answer": "Approved", "Approved.remark": "well done"}}
    async with lives.life() as client:
        body, headers = call("letters", asked["requestState"], dict.fromkeys(asked["inputRequests"], answer), number=7)
        done = (await client.post("/mcp", body, headers=headers)).json()["result"]

    assert (done["resultType"], done["structuredContent"]) == ("complete", {"text": "sent well done"})


async def test_another_process_does_not_know_a_session() -> None:
    async with serving(faces=[MCPFace()]) as client:
        begun = await client.post("/mcp", HELLO, headers=BOTH)
    session = {**BOTH, "mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
    async with serving(faces=[MCPFace()]) as client:
        reply = await client.post("/mcp", {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers=session)

    assert reply.status == 404


async def test_the_host_and_the_origin_are_looked_at() -> None:
    async with serving(faces=[MCPFace()], hosts=["ours.example"], cors=["https://page.example"]) as client:
        assert (await client.post("/mcp", HELLO, headers={**BOTH, "host": "evil.example"})).status == 400
        evil = await client.post("/mcp", HELLO, headers={**BOTH, "origin": "https://evil.example"})
        assert (evil.status, evil.json()["error"]["data"]["type"]) == (403, "urn:understudy:problem:forbidden")
        assert (await client.post("/mcp", HELLO, headers={**BOTH, "content-type": "text/plain"})).status == 415
        for good in (
            {"host": "ours.example:8321"},
            {"host": "[::1]:80"},
            {"host": "ours.example", "origin": "https://ours.example"},
            {"origin": "https://page.example"},
        ):
            assert (await client.post("/mcp", HELLO, headers={**BOTH, **good})).status == 200


@pytest.mark.parametrize("era", [{}, {"mcp-protocol-version": ERAS[0]}, {"mcp-protocol-version": "1999-01-01"}], ids=str)
@pytest.mark.parametrize("body", [*BAD_JSON.values(), b"[]", b"3", b"null", b'{"jsonrpc": "2.0"}', b'{"id": {}}'], ids=repr)
async def test_no_message_is_a_500(body: bytes, era: dict[str, str]) -> None:
    async with serving(faces=[MCPFace()]) as client:
        reply = await client.call("POST", "/mcp", raw=[body], headers={**BOTH, **era})

    assert 400 <= reply.status < 500 or (era and reply.status == 202)
    assert reply.json()["error"]["code"] < -32000


async def test_a_body_that_is_too_large_is_a_413() -> None:
    async with serving(faces=[MCPFace()]) as client:
        reply = await client.call("POST", "/mcp", raw=[b"x" * 65_536] * 32, headers=BOTH)

    assert (reply.status, reply.json()["error"]["code"]) == (413, -32600)


# --- how it is declared -----------------------------------------------------------------------------------------------


def named(name: str) -> Graph[Question, Answer]:
    graph = answers()
    graph.name = name
    return graph


def test_names_of_tools_are_those_that_models_take() -> None:
    assert list(tools_of([sums(), answers()])) == ["sums_of_Many", "sums_of_Question", "answers"]
    with pytest.raises(DeclarationError, match="that of two tools"):
        Service([named("a b"), named("a_b")], faces=[MCPFace()])
    with pytest.raises(DeclarationError, match="more than 64 characters"):
        Service([named("a" * 65)], faces=[MCPFace()])


def test_a_key_is_long_enough() -> None:
    MCPFace(keys=[b"k" * 32])
    with pytest.raises(DeclarationError, match="at least 32"):
        MCPFace(keys=[b"short"])
    with pytest.raises(DeclarationError, match="session_idle_s"):
        MCPFace(session_idle_s=0)
