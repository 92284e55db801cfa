"""Parallel calls of an agent, under chosen schedules: what the model reads does not depend on them, and nothing is left."""

from __future__ import annotations

import contextlib

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import trio

from actors import Graph, RunFailed
from runtime import open_runtime
from runtime.testing import ScriptedLM, explore
from runtime.tools import tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


THREE: dict[str, object] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": name, "name": name, "arguments": {}} for name in ("works", "raises", "endless")],
}
TOLD = [
    ("works", "fine"),
    ("raises", "Error: LookupError: no such shelf"),
    ("endless", "Error: ToolTimedOut: the tool 'endless' did not finish within timeout_s=1."),
]


async def three_calls(on_tool_error: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What the model was told, and how the steps of the calls ended."""
    alive: set[str] = set()

    async def works() -> str:
        alive.add("works")
        try:
            await trio.sleep(0.5)
        finally:
            alive.discard("works")
        return "fine"

    async def raises() -> str:
        await trio.sleep(0.5)
        raise LookupError("no such shelf")

    @tool(timeout_s=1)
    async def endless() -> None:
        alive.add("endless")
        try:
            await trio.sleep_forever()
        finally:
            alive.discard("endless")

    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[works, raises, endless], on_tool_error=on_tool_error)  # type: ignore[call-overload]
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    lm = ScriptedLM([THREE, {"text": "ok"}], unused="ok")
    async with open_runtime(lm=lm, seed=0) as runtime:
        handle = await runtime.start(graph, Question("x"))
        with contextlib.suppress(RunFailed):
            await handle.result()
        assert alive == set()
        steps = [(step.tool or "", str(step.status)) for step in handle.trace if step.tool]
    told = [(message["tool_call_id"], message["content"]) for call in lm.calls[1:] for message in call.messages[-3:]]
    return told, steps


@explore(runs=150)
async def test_a_raising_and_an_endless_call_give_the_same_transcript_under_every_schedule():
    told, steps = await three_calls("tell")

    assert told == TOLD
    assert steps == [("works", "done"), ("raises", "failed"), ("endless", "failed")]


@explore(runs=100)
async def test_a_call_that_fails_the_node_leaves_nothing_running_under_any_schedule():
    told, steps = await three_calls("fail")

    assert told == []
    assert [step for step, _ in steps] == ["works", "raises", "endless"]
    assert {status for _, status in steps} <= {"done", "failed", "cancelled"}
    assert "failed" in dict(steps).values()  # one that was slower than the other's deadline may be the first
