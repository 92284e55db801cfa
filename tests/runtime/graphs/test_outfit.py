"""The outfit graph of the examples, and what a system of typed nodes promises its authors, row by row."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import LM, Dep, DepError, Graph, LMReplyUnreadable, NodeFailed, Recall, Redelivery, RunFailed, StepsExceeded
from actors.graphs.dependencies import Injected
from runtime import open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Other, Part

EXAMPLE = Path(__file__).parents[3] / "docs/examples/outfit.py"
found = importlib.util.spec_from_file_location("outfit", EXAMPLE)
assert found is not None
assert found.loader is not None
example = importlib.util.module_from_spec(found)
sys.modules["outfit"] = example
found.loader.exec_module(example)

DAY = {"formality": "formal", "activities": ["interview", "climbing"]}
LOOK = {"style": "sober", "layers": 3}
OUTFIT = {"pieces": ["wool coat", "suit"], "why": "sleet"}
SCRIPT: dict[Any, Any] = {
    "Does the user ask": [{"choice": "Day"}, DAY],
    "Find a look": [LOOK],
    "Recommend an outfit": [OUTFIT],
}


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names = []
    read = trio.Path.read_text

    async def counted(self, *arguments, **more):
        names.append(self.name)
        return await read(self, *arguments, **more)

    monkeypatch.setattr(trio.Path, "read_text", counted)
    return names


async def test_the_request_becomes_a_day_a_look_and_an_outfit(virtual_clock, reads):
    lm = ScriptedLM(SCRIPT)
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(example.graph, example.Request("No jeans, please."))
        assert await handle.result() == example.Outfit(["wool coat", "suit"], "sleet")

    assert [step.path for step in handle.trace] == ["outfit/Request/0", "outfit/Day/0", "outfit/Look/0"]
    assert reads == ["calendar.json", "location.json", "weather.json"]
    first, _, look, outfit = (call.text for call in lm.calls)
    assert "No jeans, please." in first
    assert "job interview" in first
    assert "sleet" in look
    assert "interview" in look
    assert "No jeans, please." in outfit
    assert "sober" in outfit


async def test_anything_else_is_answered_without_a_look_at_the_weather(virtual_clock, reads):
    lm = ScriptedLM([{"choice": "Reply"}, {"text": "Four."}])
    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(example.graph, example.Request("What is two and two?")) == example.Reply("Four.")

    assert reads == ["calendar.json"]


def test_a20_edges_and_terminals_come_from_the_return_types():
    edges = [(edge.source, edge.type.__name__, edge.target) for edge in example.graph.plan().edges]

    assert edges == [
        (None, "Request", "Request"),
        ("Request", "Day", "Day"),
        ("Request", "Reply", None),
        ("Day", "Look", "Look"),
        ("Look", "Outfit", None),
    ]


def test_a20_a_language_model_is_injected_by_the_type_of_the_parameter():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def work(ask: Ask, whatever: LM) -> Done:
        raise NotImplementedError

    assert graph.plan().nodes["work"].injected == {"whatever": Injected.LM}


def test_a21_a_cycle_that_reaches_no_end_is_reported():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def ping(ask: Ask | Other) -> Part:
        raise NotImplementedError

    @graph.node
    async def pong(part: Part) -> Other:
        raise NotImplementedError

    @graph.node
    async def end(ask: Ask) -> Done:
        raise NotImplementedError

    assert [problem.code for problem in graph.check()] == ["endless-loop"]


async def test_a15_a_choice_with_none_and_one_without(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict
    async def maybe(ask: Ask) -> Maybe | None:
        """Maybe."""
        ...

    @graph.node
    async def otherwise(ask: Ask, made: Maybe | None) -> Done:
        return Done(made)

    filled: list[Any] = [{"choice": "Maybe"}, {"n": 4}]
    for answers, expected in (([{"choice": "None"}], None), (filled, Maybe(4))):
        async with open_runtime(lm=ScriptedLM(answers)) as runtime:
            assert await runtime.run(graph, Ask()) == Done(expected)


@attrs.frozen
class Maybe:
    n: int


async def test_a16_a_name_within_a_name_is_no_choice(virtual_clock):
    graph = Graph("g", input=Ask, output=Review | ReviewFailed)

    @graph.predict
    async def judge(ask: Ask) -> Review | ReviewFailed:
        """Fill it."""
        ...

    answers = [{"choice": "It is ReviewFailed"}, {"choice": "ReviewFailed"}, {"text": "no"}]
    async with open_runtime(lm=ScriptedLM(answers)) as runtime:
        assert await runtime.run(graph, Ask()) == ReviewFailed("no")


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class ReviewFailed:
    text: str


async def test_a17_what_is_filled_is_validated_and_the_source_is_in_the_prompt(virtual_clock):
    graph = Graph("g", input=Ask, output=Other)

    @graph.predict(parse_attempts=1, redelivery=Redelivery(max_attempts=1))
    async def fill(ask: Ask) -> Other:
        """Fill it."""
        ...

    lm = ScriptedLM([{"n": "many"}])
    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(4711))

    assert isinstance(caught.value.exceptions[0].__cause__, LMReplyUnreadable)
    assert "4711" in lm.calls[0].text


async def test_a22_a_limit_of_steps_ends_a_loop(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def loop(ask: Ask) -> Ask | Done:
        return Ask(ask.n + 1)

    async with open_runtime() as runtime:
        handle = await runtime.start(graph, Ask(), max_steps=10)
        with pytest.raises(StepsExceeded, match="made more than 10 steps"):
            await handle.result()

    assert len(handle.trace) >= 10


async def test_a23_the_trace_holds_every_node_in_order_the_last_one_included(virtual_clock):
    async with open_runtime(lm=ScriptedLM(SCRIPT)) as runtime:
        handle = await runtime.start(example.graph, example.Request("?"))
        await handle.result()

    assert [(step.node, step.status) for step in handle.trace] == [("Request", "done"), ("Day", "done"), ("Look", "done")]


async def test_a25_the_newest_message_is_recalled(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def count(ask: Ask) -> Ask | Part:
        return Ask(ask.n + 1) if ask.n < 3 else Part()

    @graph.node
    async def end(part: Part, newest: Annotated[Ask, Recall()]) -> Done:
        return Done(newest.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(3)


async def test_a26_dependencies_are_called_once_in_a_hundred_runs_each(virtual_clock):
    calls = []

    def sync() -> int:
        calls.append("sync")
        return 1

    async def awaited(one: Annotated[int, Dep(sync)]) -> int:
        calls.append("async")
        await trio.sleep(1)
        return one + 1

    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def left(ask: Ask, two: Annotated[int, Dep(awaited)]) -> Part:
        return Part(two)

    @graph.node
    async def right(ask: Ask, one: Annotated[int, Dep(sync)], two: Annotated[int, Dep(awaited)]) -> Other:
        return Other(one + two)

    @graph.node
    async def end(part: Part, other: Other) -> Done:
        return Done((part.n, other.n))

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(runtime.run, graph, Ask())

    assert sorted(calls) == ["async"] * 10 + ["sync"] * 10


async def test_a27_a_failed_dependency_carries_cause_node_and_trace(virtual_clock, monkeypatch, tmp_path):
    monkeypatch.setattr(example, "DATA", tmp_path)
    async with open_runtime(lm=ScriptedLM(SCRIPT, unused="ok")) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(example.graph, example.Request("?"))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert isinstance(leaf.__cause__, DepError)
    assert (leaf.__cause__.node, leaf.__cause__.parameter) == ("Request", "events")
    assert isinstance(leaf.__cause__.__cause__, FileNotFoundError)
    assert [step.node for step in leaf.trace] == ["Request"]


def test_a31_the_picture_has_a_shape_for_each_kind():
    lines = example.graph.mermaid().splitlines()

    assert lines[:3] == ["graph TD", '    input(["Request"])', '    n1{{"Request"}}']
    assert '    output[["Outfit #124; Reply"]]' in lines


async def test_a32_a_node_has_a_language_model_of_its_own(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(lm="large")
    async def first(ask: Ask) -> Part:
        """Fill it."""
        ...

    @graph.predict
    async def second(part: Part) -> Done:
        """Fill it."""
        ...

    small, large = ScriptedLM([{"n": "2"}]), ScriptedLM([{"n": 1}])
    async with open_runtime(lm=small, lms={"large": large}) as runtime:
        await runtime.run(graph, Ask())

    assert (len(small.calls), len(large.calls)) == (1, 1)


async def test_a39_ten_runs_at_once_take_as_long_as_one(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict
    async def fill(ask: Ask) -> Done:
        """Fill it."""
        ...

    async with open_runtime(lm=ScriptedLM(lambda messages: {"n": "1"}, latency_s=2)) as runtime:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(runtime.run, graph, Ask())
        assert trio.current_time() == 2
