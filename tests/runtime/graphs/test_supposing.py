"""What would have become of a run: as many calls as there are steps that depend on what is replaced."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from actors import DeclarationError, Graph, RunFailed, UsageError
from runtime import open_runtime
from runtime.graphs.records.history import History
from runtime.graphs.records.supposing import Prompt, WhatIf
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, tool_answer


@attrs.frozen
class Q:
    text: str


@attrs.frozen
class A:
    text: str


@attrs.frozen
class B:
    text: str


@attrs.frozen
class C:
    text: str


@attrs.frozen
class D:
    text: str


@attrs.frozen
class Out:
    text: str


def a_graph(name: str) -> Graph[Q, Out]:
    return Graph(name, input=Q, output=Out)


def chain() -> Graph[Q, Out]:
    graph = a_graph("chain")

    @graph.predict
    async def a(q: Q) -> A:
        """Do a."""
        raise NotImplementedError

    @graph.predict
    async def b(a: A) -> B:
        """Do b."""
        raise NotImplementedError

    @graph.predict
    async def out(b: B) -> Out:
        """Do out."""
        raise NotImplementedError

    return graph


def diamond() -> Graph[Q, Out]:
    """Two branches that are joined, and one of two steps."""
    graph = a_graph("diamond")

    @graph.predict
    async def a(q: Q) -> A:
        """Do a."""
        raise NotImplementedError

    @graph.predict
    async def b(q: Q) -> B:
        """Do b."""
        raise NotImplementedError

    @graph.predict
    async def c(b: B) -> C:
        """Do c."""
        raise NotImplementedError

    @graph.predict
    async def out(a: A, c: C) -> Out:
        """Do out."""
        raise NotImplementedError

    return graph


def loop() -> Graph[Q, Out]:
    """Three rounds of a draft and its review."""
    graph = a_graph("loop")

    @graph.predict
    async def a(q: Q | C) -> A:
        """Do a."""
        raise NotImplementedError

    @graph.predict
    async def b(a: A) -> B:
        """Do b."""
        raise NotImplementedError

    @graph.node
    async def again(b: B) -> C | Out:
        return Out(b.text) if b.text.count("b") >= 3 else C(b.text)

    return graph


def nested() -> Graph[Q, Out]:
    inside: Graph[A, B] = Graph("inside", input=A, output=B)

    @inside.predict
    async def d(a: A) -> D:
        """Do d."""
        raise NotImplementedError

    @inside.predict
    async def b(d: D) -> B:
        """Do b."""
        raise NotImplementedError

    graph = a_graph("nested")

    @graph.predict
    async def a(q: Q) -> A:
        """Do a."""
        raise NotImplementedError

    graph.add(inside)

    @graph.predict
    async def c(q: Q) -> C:
        """Do c."""
        raise NotImplementedError

    @graph.predict
    async def out(b: B, c: C) -> Out:
        """Do out."""
        raise NotImplementedError

    return graph


CALLED: list[str] = []


async def look_up(word: str) -> str:
    """Look a word up."""
    CALLED.append(word)
    return f"{word} is known"


def agent() -> Graph[Q, Out]:
    """Two agents, of which the second takes what the first makes; each makes two calls and one of a tool."""
    graph = a_graph("agent")

    @graph.predict(tools=[look_up])
    async def a(q: Q) -> A:
        """Do a. Look it up."""
        raise NotImplementedError

    @graph.predict(tools=[look_up])
    async def out(a: A) -> Out:
        """Do out. Look it up."""
        raise NotImplementedError

    return graph


def answer(messages: Any) -> Any:
    """Each node adds its letter to what it was given; an agent looks it up first."""
    text = str(messages)
    node = text.partition("Do ")[2].partition(".")[0]
    if "Look it up." in text and "is known" not in text:
        return tool_answer("look_up", word=node)
    given = "".join(f"<{each}>" * text.count(f"<{each}>") for each in "abcd")
    return {"text": f"{given}<{node}>"}


async def recorded(graph: Graph[Q, Out]) -> History:
    CALLED.clear()
    async with open_runtime(lm=ScriptedLM(answer), store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Q("q"), max_steps=30)
        await handle.result()
        return await runtime.history(handle.id)


async def supposed(graph: Graph[Q, Out], replace: dict[str, Any], case: Any = None) -> tuple[WhatIf, int]:
    lm = ScriptedLM(answer)
    case = await recorded(graph) if case is None else case
    CALLED.clear()
    async with open_runtime(lm=lm, graphs=[graph]) as runtime:
        return await runtime.what_if(case, replace), len(lm.calls)


@pytest.mark.parametrize(
    ("graph", "replace", "calls"),
    [
        (chain, {"a": A("x")}, 2),
        (chain, {"chain/b/0": B("x")}, 1),
        (chain, {"out": Out("x")}, 0),
        (chain, {"a": A("x"), "b": B("y")}, 1),
        (diamond, {"a": A("x")}, 1),
        (diamond, {"b": B("x")}, 2),
        (diamond, {"a": A("x"), "c": C("y")}, 1),
        (loop, {"b": B("bbb")}, 0),
        (nested, {"a": A("x")}, 3),
        (nested, {"d": D("x")}, 2),
        (nested, {"inside": B("x")}, 1),
        (nested, {"c": C("x")}, 1),
        (agent, {"a": A("x")}, 2),
        (agent, {"out": Out("x")}, 0),
    ],
)
@pytest.mark.not_explored("it counts calls")
async def test_as_many_calls_as_dependants(autojump_clock, graph, replace, calls):
    found, made = await supposed(graph(), replace)

    assert found.error is None
    assert (made, found.spend.calls) == (calls, calls)
    assert len(CALLED) == calls // 2 * (graph is agent)


@pytest.mark.not_explored("nothing in it depends on order")
class TestWhatMayBeReplaced:
    async def test_another_model_is_asked_by_the_node_alone_and_by_what_depends_on_it(self, autojump_clock):
        other, case = ScriptedLM(lambda _: {"text": "other"}, model="other"), await recorded(diamond())

        found, made = await supposed(diamond(), {"b": other}, case)

        assert (len(other.calls), made, found.spend.calls) == (1, 2, 3)
        assert found.ran == ("diamond/b/0", "diamond/c/0", "diamond/out/0")

    async def test_another_prompt_is_sent(self, autojump_clock):
        lm = ScriptedLM(lambda messages: {"text": "polite" if "Be polite." in str(messages) else "rude"})
        case = await recorded(chain())
        async with open_runtime(lm=lm, graphs=[chain()]) as runtime:
            found = await runtime.what_if(case, {"out": Prompt("Be polite.")})
            same = await runtime.what_if(case, {"out": "Be polite."})

        assert found.output == same.output == Out("polite")

    async def test_an_error_is_what_the_step_fails_with(self, autojump_clock):
        found, made = await supposed(chain(), {"b": ValueError("no")})

        assert isinstance(found.error, RunFailed)
        assert (found.output, made) == (None, 0)
        assert isinstance(found.error.exceptions[0].__cause__, ValueError)

    async def test_it_is_a_case_in_its_turn(self, autojump_clock):
        case = await recorded(chain())
        first, _ = await supposed(chain(), {"a": A("x")}, case)

        second, made = await supposed(chain(), {"out": Out("end")}, first.history)

        assert (second.output, made) == (Out("end"), 0)
        assert first.history.run.id != case.run.id

    async def test_a_file_is_a_case(self, autojump_clock, tmp_path):
        (tmp_path / "case.jsonl").write_text((await recorded(chain())).case())

        found, _ = await supposed(chain(), {"out": Out("end")}, tmp_path / "case.jsonl")

        assert found.output == Out("end")

    @pytest.mark.parametrize(
        ("replace", "error", "words"),
        [
            ({"nobody": A("x")}, UsageError, "the case has no such step"),
            ({"a": "gpt"}, DeclarationError, "neither a model's name nor a prompt"),
            ({"again": "openai/gpt-4o"}, DeclarationError, "node 'again' .* has no language model"),
        ],
    )
    async def test_what_cannot_be_meant_is_said(self, autojump_clock, replace, error, words):
        with pytest.raises(error, match=words):
            await supposed(loop(), replace)

    async def test_the_graph_must_be_known(self, autojump_clock):
        case = await recorded(chain())
        async with open_runtime() as runtime:
            with pytest.raises(UsageError, match=r"graph 'chain' of run .* is not deployed in this runtime"):
                await runtime.what_if(case, {"a": A("x")})
