"""Agents of stored runs: what a tool has given is not done again when the run goes on in another process."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Effect, Graph, RunFailed
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, tool_answer
from runtime.tools import tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


def agent(calls: list[str], *, effect: Effect, slow: bool) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @tool(effect=effect)
    async def charge(amount: int) -> str:
        """Charge the customer."""
        calls.append(f"charge {amount}")
        if slow and len(calls) == 1:
            await trio.sleep_forever()
        return f"charged {amount}, receipt {len(calls)}"

    async def broken() -> str:
        """Fail."""
        calls.append("broken")
        raise LookupError(f"failure {len(calls)}")

    async def wait() -> str:
        """Wait, the first time for ever."""
        calls.append("wait")
        if calls.count("wait") == 1:
            await trio.sleep_forever()
        return "waited"

    @graph.predict(tools=[charge, broken, wait])
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    return graph


async def cut_short(graph: Any, store: MemoryStore, lm: ScriptedLM) -> None:
    """A run that is at work when its runtime closes, and hands it back."""
    async with open_runtime(store=store, lm=lm) as runtime:
        await runtime.start(graph, Question("x"), run_id="it")
        await trio.sleep(10)


async def test_what_tools_have_given_and_how_they_failed_is_kept(autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.ONCE, slow=False)
    both = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"name": "charge", "arguments": {"amount": 5}}, {"name": "broken", "arguments": {}}],
    }
    await cut_short(graph, store, ScriptedLM([both, tool_answer("wait")]))
    lm = ScriptedLM([{"text": "ok"}])

    async with open_runtime(store=store.beside(), graphs=[graph], lm=lm) as runtime:
        assert await (await runtime.handle("it")).result() == Answer("ok")

    assert sorted(calls) == ["broken", "charge 5", "wait", "wait"]
    told = [message["content"] for message in lm.calls[0].messages if message["role"] == "tool"]
    assert told[0].startswith("charged 5, receipt ")
    assert told[1].startswith("Error: LookupError: failure ")
    assert told[2] == "waited"


async def test_a_call_that_was_cut_short_is_made_again_if_that_does_no_harm(autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.REPEAT, slow=True)
    await cut_short(graph, store, ScriptedLM([tool_answer("charge", amount=5)]))

    async with open_runtime(store=store.beside(), graphs=[graph], lm=ScriptedLM([{"text": "ok"}])) as runtime:
        assert await (await runtime.handle("it")).result() == Answer("ok")

    assert calls == ["charge 5", "charge 5"]


async def test_a_call_whose_effect_must_not_happen_twice_is_not_made_again(autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.ONCE, slow=True)
    await cut_short(graph, store, ScriptedLM([tool_answer("charge", amount=5)]))

    async with open_runtime(store=store.beside(), graphs=[graph], lm=ScriptedLM([])) as runtime:
        with pytest.raises(RunFailed) as caught:
            await (await runtime.handle("it")).result()

    assert "the tool 'charge' may run once only" in str(caught.value.exceptions[0].__cause__)
    assert calls == ["charge 5"]
