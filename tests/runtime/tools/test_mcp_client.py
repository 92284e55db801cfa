"""Tools of MCP servers: real processes of the SDK's low-level server, over stdio and over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import ActorFailed, ActorRef, ActorStartFailed, Graph
from actors.errors import DeclarationError, RunFailed, ToolFailed, ToolServerLost, ToolTimedOut
from actors.graphs.toolboxes import CallTool, CancelTool, ListTools
from actors.restarts import Backoff
from runtime import ToolCalled, open_runtime
from runtime.graphs.nodes.toolbox_actors import SUPERVISION
from runtime.graphs.records.run_events import ToolsChanged
from runtime.testing import ScriptedLM, tool_answer
from runtime.tools import Toolbox, mcp

SERVER = str(Path(__file__).with_name("mcp_server.py"))
COMMAND = [sys.executable, SERVER]

pytestmark = pytest.mark.slow  # each starts a process


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


def agent(box: Toolbox, **options: Any) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[box], **options)
    async def answer(question: Question) -> Answer:
        """Answer with the files."""
        raise NotImplementedError

    return graph


@contextlib.asynccontextmanager
async def served(box: Toolbox) -> AsyncIterator[ActorRef[Any]]:
    with trio.fail_after(60):
        async with open_runtime(supervision=SUPERVISION) as runtime:
            yield await runtime.spawn(box.factory, name="files")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


@contextlib.asynccontextmanager
async def http_server(port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, SERVER, str(port)])  # noqa: ASYNC220 - it takes a millisecond
    try:
        with trio.fail_after(60):
            while True:
                with contextlib.suppress(OSError):
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                await trio.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


async def failure_of(ref: ActorRef[Any], message: Any) -> BaseException | None:
    with pytest.raises(ActorFailed) as caught:
        await ref.ask(message)
    return caught.value.__cause__


async def test_a_model_calls_the_tools_of_a_server_that_it_may_see():
    lm = ScriptedLM([tool_answer("echo", text="hi"), tool_answer("refuse"), {"text": "ok"}])

    with trio.fail_after(60):
        async with open_runtime(lm=lm) as runtime:
            box = mcp("files", command=COMMAND, allow=["echo", "ref*"])
            async with runtime.stream(agent(box), Question("x")) as events:
                called = [event async for event in events if isinstance(event, ToolCalled)]

    assert [tool["function"]["name"] for tool in lm.calls[0].options["tools"]] == ["echo", "refuse"]
    assert [call.messages[-1]["content"] for call in lm.calls[1:]] == ["hi", "Error: ToolFailed: the disk is full"]
    assert [(event.tool, type(event.error)) for event in called] == [("echo", type(None)), ("refuse", ToolFailed)]


async def test_a_tool_that_no_model_may_see_is_no_tool():
    lm = ScriptedLM([tool_answer("pid"), {"text": "ok"}])

    with trio.fail_after(60):
        async with open_runtime(lm=lm) as runtime:
            await runtime.run(agent(mcp("files", command=COMMAND, allow=["echo"])), Question("x"))

    assert lm.calls[1].messages[-1]["content"] == "There is no tool 'pid'; the tools are: echo."


async def test_names_and_descriptions_of_a_server_are_capped():
    async with served(mcp("files", command=COMMAND)) as ref:
        offered = {tool.name: tool for tool in await ref.ask(ListTools())}

        assert len(offered["files_read"].description) == 4_000
        assert await ref.ask(CallTool("files_read", {}, "1")) == "called files.read"


async def test_calls_in_flight_end_when_the_server_is_killed_and_the_next_one_works():
    async with served(mcp("files", command=COMMAND)) as ref:
        failures: list[BaseException | None] = []

        async def call(key: str) -> None:
            failures.append(await failure_of(ref, CallTool("wait", {}, key)))

        for _ in range(2):
            first = int(await ref.ask(CallTool("pid", {}, "pid")))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, "1")
                nursery.start_soon(call, "2")
                await ref.ask(CallTool("echo", {"text": "both have begun"}, "3"))
                os.kill(first, signal.SIGKILL)

            assert int(await ref.ask(CallTool("pid", {}, "pid"))) != first

        assert [type(failure) for failure in failures] == [ToolServerLost] * 4


@pytest.mark.chaos
async def test_a_server_that_is_killed_a_hundred_times_is_named_each_time_and_serves_the_next_call():
    named: list[str] = []
    took_s: list[float] = []

    async def waiting(ref: ActorRef[Any]) -> None:
        failure = await failure_of(ref, CallTool("wait", {}, "1"))
        took_s.append(trio.current_time() - killed_at_s)
        named.append(type(failure).__name__)

    at_once = attrs.evolve(SUPERVISION, backoff=Backoff(first_s=0.01, cap_s=0.05))  # or most rounds wait for two seconds
    async with open_runtime(supervision=at_once) as runtime:
        ref = await runtime.spawn(mcp("files", command=COMMAND).factory, name="files")
        for _ in range(100):
            with trio.fail_after(60):
                first = int(await ref.ask(CallTool("pid", {}, "pid")))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(waiting, ref)
                    await ref.ask(CallTool("echo", {"text": "it has begun"}, "2"))
                    killed_at_s = trio.current_time()
                    os.kill(first, signal.SIGKILL)
                assert int(await ref.ask(CallTool("pid", {}, "pid"))) != first

    assert named == ["ToolServerLost"] * 100
    print(f"named within {max(took_s) * 1_000:.0f} ms, {sorted(took_s)[50] * 1_000:.0f} ms in the middle")  # noqa: T201


async def test_a_cancelled_call_is_cancelled_and_others_go_on():
    async with served(mcp("files", command=COMMAND)) as ref:
        with trio.move_on_after(0.2) as scope:
            await ref.ask(CallTool("wait", {}, "1"))
        await ref.tell(CancelTool("1"))

        assert scope.cancelled_caught
        assert await ref.ask(CallTool("echo", {"text": "on"}, "2")) == "on"


async def test_a_call_that_takes_longer_than_call_s_ends():
    async with served(mcp("files", command=COMMAND, call_s=0.2)) as ref:
        assert isinstance(await failure_of(ref, CallTool("wait", {}, "1")), ToolTimedOut)


async def test_a_list_that_changes_after_it_was_shown_is_an_event():
    lm = ScriptedLM([tool_answer("add_tool"), tool_answer("late"), {"text": "ok"}])

    with trio.fail_after(60):
        async with open_runtime(lm=lm) as runtime:
            async with runtime.stream(agent(mcp("files", command=COMMAND)), Question("x")) as events:
                changes = [event async for event in events if isinstance(event, ToolsChanged)]

    assert [(event.toolbox, event.added, event.removed, event.changed) for event in changes] == [("files", ("late",), (), ())]
    assert lm.calls[2].messages[-1]["content"] == "called late"


async def test_a_server_over_http_is_called_and_found_again_after_it_was_killed(port: int):
    async with http_server(port) as first:
        async with served(mcp("files", url=f"http://127.0.0.1:{port}/mcp")) as ref:
            assert await ref.ask(CallTool("echo", {"text": "hi"}, "1")) == "hi"
            async with trio.open_nursery() as nursery:
                failures: list[BaseException | None] = []

                async def wait() -> None:
                    failures.append(await failure_of(ref, CallTool("wait", {}, "2")))

                nursery.start_soon(wait)
                await ref.ask(CallTool("echo", {"text": "begun"}, "3"))
                first.kill()
            first.wait()

            async with http_server(port):
                assert await ref.ask(CallTool("echo", {"text": "again"}, "4")) == "again"

            assert [type(failure) for failure in failures] == [ToolServerLost]


async def test_a_server_that_is_not_there_is_named_at_deploy():
    with trio.fail_after(60):
        async with open_runtime(lm=ScriptedLM([])) as runtime:
            with pytest.raises(ActorStartFailed) as caught:
                await runtime.deploy(agent(mcp("files", command=["/no/such/server"])))

    assert "the MCP server 'files' cannot be reached" in str(caught.value.__cause__)


async def test_a_lost_server_fails_the_node_if_failures_are_the_nodes():
    lm = ScriptedLM([tool_answer("refuse")])

    with trio.fail_after(60):
        async with open_runtime(lm=lm) as runtime:
            with pytest.raises(RunFailed) as caught:
                await runtime.run(agent(mcp("files", command=COMMAND), on_tool_error="fail"), Question("x"))

    assert isinstance(caught.value.exceptions[0].__cause__, ToolFailed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"command": ["a"], "url": "http://x"},
        {"command": "a b"},
        {"command": ["a"], "allow": "read"},
        {"command": ["a"], "approve": "write"},
        {"url": "x", "call_s": 0},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]):
    with pytest.raises(DeclarationError, match="Fix:"):
        mcp("files", **options)
