"""Agents over a real provider's wire, tools that are actors and tools of DSPy's, and what hostile models do."""

from __future__ import annotations

import json
from typing import Any

import attrs
import dspy
import pytest
import trio

from actors import LM, Actor, Graph, Policy, Request, RunCancelled
from actors.errors import LMReplyUnreadable, RunFailed
from runtime import FieldDelta, ToolCalled, open_runtime
from runtime.journal import MemoryStore
from runtime.lm import Budget, LMClient
from runtime.testing import ScriptedLM, open_loopback, tool_answer
from runtime.tools import tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


def agent(*tools: object, **options: Any) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=list(tools), **options)
    async def answer(question: Question) -> Answer:
        """Answer from the archive."""
        raise NotImplementedError

    return graph


async def look(at: str) -> str:
    """Look around."""
    return f"a tree at {at}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5"])
async def test_an_agent_runs_over_the_wire_of_a_provider(dialect: str, stream: bool):
    script = [tool_answer("look", at="home"), {"text": "a tree"}]
    async with open_loopback({"*": script}) as provider:
        base = provider.api_base if dialect.startswith("openai") else provider.api_base.removesuffix("/v1")
        lm = LMClient(dialect, api_key="sk-long-enough-to-be-one", api_base=base)
        async with open_runtime(lm=lm) as runtime, runtime.stream(agent(look, stream=stream), Question("x")) as events:
            seen = [event async for event in events]

    called = [event for event in seen if isinstance(event, ToolCalled)]
    assert [(event.tool, event.error) for event in called] == [("look", None)]
    assert seen[-1].output == Answer("a tree")  # type: ignore[union-attr]
    assert "".join(event.text for event in seen if isinstance(event, FieldDelta)) == ("a tree" if stream else "")
    first, second = (json.dumps(record.body) for record in provider.requests)
    assert '"name": "look"' in first
    assert "a tree at home" in second


@attrs.frozen
class Withdraw(Request[int]):
    """Take money out."""

    amount: int


class Account(Actor[Withdraw]):
    def __init__(self) -> None:
        self.balance = 10

    async def receive(self, message: Withdraw) -> int:
        if message.amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= message.amount
        return self.balance


async def test_an_actor_is_a_tool_that_keeps_its_state():
    script = [tool_answer("withdraw", amount=4), tool_answer("withdraw", amount=40), {"text": "six are left"}]
    lm = ScriptedLM(script)
    async with open_runtime(lm=lm) as runtime:
        account = await runtime.spawn(Account, name="account")
        await runtime.run(agent(tool(account, Withdraw)), Question("x"))

    assert lm.calls[0].options["tools"][0]["function"]["description"] == "Take money out."
    assert lm.calls[1].messages[-1]["content"] == "6"
    assert lm.calls[2].messages[-1]["content"].endswith("not enough money")


async def test_a_tool_of_dspys_is_a_tool():
    def shelf(number: int) -> str:
        """Name a shelf."""
        return f"shelf {number}"

    lm = ScriptedLM([tool_answer("shelf", number=7), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(dspy.Tool(shelf)), Question("x"))

    described = lm.calls[0].options["tools"][0]["function"]
    assert (described["name"], described["description"]) == ("shelf", "Name a shelf.")
    assert lm.calls[1].messages[-1]["content"] == "shelf 7"


async def test_a_run_that_is_cancelled_in_the_middle_of_a_call_closes_the_socket_of_its_tool():
    connected, ended = trio.Event(), trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        connected.set()
        assert await stream.receive_some() == b""  # its other side is closed
        ended.set()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]

        async def fetch(page: int) -> bytes:
            """Fetch a page."""
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                received: bytes = await stream.receive_some()
                return received

        async with open_runtime(lm=ScriptedLM([tool_answer("fetch", page=1)])) as runtime:
            handle = await runtime.start(agent(fetch), Question("x"))
            with trio.fail_after(60):
                await connected.wait()
                await handle.cancel()
                await ended.wait()
            assert [str(step.status) for step in handle.trace] == ["cancelled", "cancelled"]
        nursery.cancel_scope.cancel()


async def test_a_conversation_that_is_interrupted_leaves_no_call_running_at_the_provider():
    graph = Graph("talks", input=Question, output=Answer)

    @graph.predict
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    async with open_loopback({"*": [{"text": "never"}, {"text": "ok"}]}) as provider:
        provider.set_latency(60)
        lm = LMClient("openai/gpt-4o-mini", api_key="sk-long-enough-to-be-one", api_base=provider.api_base)
        async with open_runtime(lm=lm) as runtime, trio.open_nursery() as nursery:
            talk = runtime.conversation(graph, key="user-7", policy=Policy.INTERRUPT)

            async def interrupted() -> None:
                with pytest.raises(RunCancelled):
                    await talk.send(Question("one"))

            nursery.start_soon(interrupted)
            await provider.wait_request(1)
            provider.set_latency(0)
            assert await talk.send(Question("two")) == Answer("ok")

            first = await provider.wait_ended(1)
            assert first.cancelled_by_client
            assert provider.in_flight == 0


async def test_a_tool_that_calls_its_own_language_model_is_charged_to_the_run():
    async def second_opinion(question: str, lm: LM) -> str:
        """Ask another."""
        return (await lm.chat([{"role": "user", "content": question}])).text

    lm = ScriptedLM([tool_answer("second_opinion", question="?"), "yes", {"text": "yes"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(second_opinion), Question("x"))
        await handle.result()

    assert handle.spend.calls == 3


HOSTILE = {
    "not JSON": "{",
    "a list": "[]",
    "a number": "1e999",
    "deep": "[" * 100_000,
    "a doubled name": '{"at": "a", "at": "b"}',
    "another type": '{"at": 7}',
    "an unknown name": '{"at": "a", "and": 1}',
    "nothing": "",
    "half a character": '{"at": "\\ud83d"}',
    "null": "null",
}


@pytest.mark.parametrize("arguments", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("tools", ["native", "text"])
async def test_hostile_arguments_come_back_as_words(arguments: str, tools: Any):
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "look", "arguments": arguments}]}
    written = f'[[ ## tool_calls ## ]]\n[{{"name": "look", "arguments": {arguments}}}]'
    lm = ScriptedLM([call if tools == "native" else written, {"text": "ok"}], tools=tools)

    with trio.fail_after(20):
        async with open_runtime(lm=lm) as runtime:
            assert await runtime.run(agent(look), Question("x")) == Answer("ok")

    told = lm.calls[1].messages[-1]["content"]
    assert len(told) < 5_000
    assert "a tree" not in told


async def test_a_model_that_only_ever_calls_wrongly_is_unreadable():
    lm = ScriptedLM({"": tool_answer("no_such_tool")})

    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(agent(look, parse_attempts=3), Question("x"))

    assert isinstance(caught.value.exceptions[0].__cause__, LMReplyUnreadable)
    assert len(lm.calls) == 3


async def test_a_hundred_calls_in_one_turn_are_all_answered():
    calls = [{"name": "look", "arguments": {"at": str(number)}, "id": "same"} for number in range(100)]
    lm = ScriptedLM([{"role": "assistant", "content": None, "tool_calls": calls}, {"text": "ok"}])

    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(look), Question("x"))

    told = lm.calls[1].messages[-100:]
    assert [message["content"] for message in told] == [f"a tree at {number}" for number in range(100)]
    assert len({message["tool_call_id"] for message in told}) == 100


@pytest.mark.parametrize("stored", [False, True], ids=["without a store", "stored"])
async def test_a_long_result_is_cut_and_a_strange_one_is_shown(stored: bool):
    async def long() -> str:
        """Much."""
        return "x" * 1_000_000

    async def strange() -> object:
        """Something."""
        return {b"\xff": {1, 2}, "self": object}

    lm = ScriptedLM([tool_answer("long"), tool_answer("strange"), {"text": "ok"}])
    async with open_runtime(lm=lm, store=MemoryStore() if stored else None) as runtime:
        await runtime.run(agent(long, strange), Question("x"), run_id="r")

    assert lm.calls[1].messages[-1]["content"].endswith("… (950000 more characters)")
    assert "[1, 2]" in lm.calls[2].messages[-1]["content"]


async def test_an_error_with_a_key_in_it_is_told_without_the_key():
    async def leak() -> str:
        """Leak."""
        raise ValueError("Authorization: Bearer sk-abcdefghijklmnopqrstuvwxyz012345")

    lm = ScriptedLM([tool_answer("leak"), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(leak), Question("x"))

    assert "sk-abcdefghijklmnop" not in lm.calls[1].messages[-1]["content"]


async def test_a_budget_ends_the_rounds():
    async with open_loopback({"*": tool_answer("look", at="x")}) as provider:
        client = LMClient("openai/gpt-4o-mini", api_key="sk-long-enough-to-be-one", api_base=provider.api_base)
        async with open_runtime(lm=client) as runtime:
            with pytest.raises(RunFailed) as caught:
                await runtime.run(agent(look, max_rounds=1_000), Question("x"), budget=Budget(max_tokens=3_000))

    assert type(caught.value.exceptions[0].__cause__).__name__ == "LMBudgetExhausted"


@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
async def test_cancelling_at_any_moment_leaves_nothing_running(when: float, autojump_clock: object):
    alive: list[str] = []

    async def slow() -> str:
        """Slow."""
        alive.append("slow")
        try:
            await trio.sleep(1)
            return "done"
        finally:
            alive.remove("slow")

    lm = ScriptedLM([tool_answer("slow"), {"text": "ok"}], latency_s=1, unused="ok")
    async with open_runtime(lm=lm) as runtime:
        with trio.move_on_after(when):
            await runtime.run(agent(slow), Question("x"))

        assert alive == []
        assert lm.in_flight == 0
        assert runtime.runs() == {}
