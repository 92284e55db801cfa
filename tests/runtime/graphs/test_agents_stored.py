"""Agents of stored runs: what a tool has given is not done again when the run goes on in another process."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Effect, Graph, Redelivery, StepUncertain, UsageError
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


CALL = "agents/answer/0/tool/0"
"""The path of the first call."""


async def uncertain_in(store: MemoryStore, graph: Any) -> StepUncertain:
    """How the run ends in another process, which asks no model and calls no tool."""
    async with open_runtime(store=store, graphs=[graph], lm=ScriptedLM([])) as runtime:
        with pytest.raises(StepUncertain) as caught:
            await (await runtime.handle("it")).result()
        assert (await runtime.handle("it")).status == "parked"
    return caught.value


async def test_a_call_whose_effect_must_not_happen_twice_parks_the_run(autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.ONCE, slow=True)
    await cut_short(graph, store, ScriptedLM([tool_answer("charge", amount=5)]))

    error = await uncertain_in(store := store.beside(), graph)

    assert (error.path, error.reason, error.run_id) == (CALL, "uncertain", "it")
    assert f"tool 'charge' ({CALL}), which may run once only" in str(error)
    async with open_runtime(store=store.beside(), graphs=[graph], lm=ScriptedLM([])) as runtime:
        with pytest.raises(StepUncertain):
            await runtime.resume("it")
        with pytest.raises(UsageError, match=f"what is: '{CALL}'"):
            await runtime.resume("it", uncertain={"agents/answer/0": "repeat"})
    assert calls == ["charge 5"]


@pytest.mark.parametrize("decision", ["charged 5 by hand", "repeat"])
async def test_a_person_decides_what_became_of_the_call(decision: str, autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.ONCE, slow=True)
    await cut_short(graph, store, ScriptedLM([tool_answer("charge", amount=5)]))
    await uncertain_in(store := store.beside(), graph)

    async with open_runtime(store=store.beside(), graphs=[graph], lm=(lm := ScriptedLM([{"text": "ok"}]))) as runtime:
        handle = await runtime.resume("it", uncertain={CALL: decision})
        assert await handle.result() == Answer("ok")

    [told] = [message["content"] for message in lm.calls[0].messages if message["role"] == "tool"]
    assert told == ("charged 5, receipt 2" if decision == "repeat" else decision)
    assert calls == ["charge 5"] * (2 if decision == "repeat" else 1)


async def test_a_call_that_was_repeated_by_hand_is_uncertain_again_if_it_is_cut_short_again(autojump_clock: object):
    calls: list[str] = []
    store, graph = MemoryStore(), agent(calls, effect=Effect.ONCE, slow=True)
    await cut_short(graph, store, ScriptedLM([tool_answer("charge", amount=5)]))
    await uncertain_in(store := store.beside(), graph)
    calls.clear()
    async with open_runtime(store=(store := store.beside()), graphs=[graph], lm=ScriptedLM([])) as runtime:
        await runtime.resume("it", uncertain={CALL: "repeat"})
        await trio.sleep(10)

    assert (await uncertain_in(store.beside(), graph)).path == CALL
    assert calls == ["charge 5"]


async def test_calls_of_one_round_are_decided_together_and_those_that_ended_are_kept(autojump_clock: object):
    done: list[str] = []
    graph = Graph("agents", input=Question, output=Answer)

    @tool(effect=Effect.ONCE)
    async def pay(amount: int) -> str:
        """Pay."""
        done.append(f"pay {amount}")
        if amount > 1:
            await trio.sleep_forever()
        return f"paid {amount}"

    @graph.predict(tools=[pay])
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    three = [{"name": "pay", "arguments": {"amount": amount}} for amount in (1, 2, 3)]
    store = MemoryStore()
    await cut_short(graph, store, ScriptedLM([{"role": "assistant", "content": None, "tool_calls": three}]))

    async with open_runtime(store=store.beside(), graphs=[graph], lm=(lm := ScriptedLM([{"text": "ok"}]))) as runtime:
        with pytest.raises(StepUncertain, match=r"tool 'pay' \(agents/answer/0/tool/1\), tool 'pay' \(agents/answer/0/tool/2\)"):
            await (await runtime.handle("it")).result()
        with pytest.raises(StepUncertain, match="tool/2"):
            await runtime.resume("it", uncertain={"agents/answer/0/tool/1": "paid 2"})
        decisions = {"agents/answer/0/tool/1": "paid 2", "agents/answer/0/tool/2": Answer("paid 3")}
        assert await (await runtime.resume("it", uncertain=decisions)).result() == Answer("ok")

    told = [message["content"] for message in lm.calls[0].messages if message["role"] == "tool"]
    assert told == ["paid 1", "paid 2", '{"text": "paid 3"}']
    assert sorted(done) == ["pay 1", "pay 2", "pay 3"]


async def test_a_call_in_a_nested_run_parks_the_whole_run(autojump_clock: object):
    calls: list[str] = []
    outer = Graph("outer", input=Question, output=Answer)
    outer.add(agent(calls, effect=Effect.ONCE, slow=True), name="inner")
    store = MemoryStore()
    await cut_short(outer, store, ScriptedLM([tool_answer("charge", amount=5)]))

    error = await uncertain_in(store := store.beside(), outer)
    async with open_runtime(store=store.beside(), graphs=[outer], lm=ScriptedLM([{"text": "ok"}])) as runtime:
        handle = await runtime.resume("it", uncertain={error.path: "charged by hand"})
        assert await handle.result() == Answer("ok")

    assert error.path.endswith("/tool/0")
    assert calls == ["charge 5"]


async def test_a_further_attempt_that_asks_for_the_same_call_parks_the_run(autojump_clock: object):
    done: list[str] = []
    graph = Graph("agents", input=Question, output=Answer)

    @tool(effect=Effect.ONCE)
    async def pay(amount: int) -> str:
        """Pay."""
        done.append(f"pay {amount}")
        await trio.sleep_forever()
        raise AssertionError

    @graph.predict(tools=[pay], timeout_s=5, redelivery=Redelivery(max_attempts=2))
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    pays = tool_answer("pay", amount=1)
    async with open_runtime(store=MemoryStore(), lm=ScriptedLM([pays, pays, {"text": "ok"}])) as runtime:
        with pytest.raises(StepUncertain):
            await (await runtime.start(graph, Question("x"), run_id="it")).result()
        handle = await runtime.resume("it", uncertain={CALL: "paid"})
        assert await handle.result() == Answer("ok")

    assert done == ["pay 1"]


async def test_a_further_attempt_that_asks_for_another_call_goes_on(autojump_clock: object):
    calls: list[str] = []
    graph = Graph("agents", input=Question, output=Answer)

    @tool(effect=Effect.ONCE)
    async def charge(amount: int) -> str:
        """Charge."""
        calls.append(f"charge {amount}")
        if len(calls) < 3:
            await trio.sleep_forever()
        return "charged"

    @graph.predict(tools=[charge], timeout_s=5, redelivery=Redelivery(max_attempts=3))
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    store = MemoryStore()
    one, two, three = (tool_answer("charge", amount=amount) for amount in (1, 2, 3))
    async with open_runtime(store=store, lm=ScriptedLM([one, two])) as runtime:
        await runtime.start(graph, Question("x"), run_id="it")
        await trio.sleep(7)  # in the second attempt
    async with open_runtime(store=(store := store.beside()), graphs=[graph], lm=ScriptedLM([])) as runtime:
        with pytest.raises(StepUncertain) as parked:
            await (await runtime.handle("it")).result()
        assert str(parked.value).count("tool 'charge'") == 1
    async with open_runtime(store=store.beside(), graphs=[graph], lm=ScriptedLM([three, {"text": "ok"}])) as runtime:
        handle = await runtime.resume("it", uncertain={CALL: "charged 2 by hand"})
        assert await handle.result() == Answer("ok")
    assert calls[:2] == ["charge 1", "charge 2"]
