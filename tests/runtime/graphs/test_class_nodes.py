"""Class nodes and choosing predict nodes at work, with DSPy's real adapter and a scripted model."""

from __future__ import annotations

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import LM, Graph, LMReplyUnreadable, NoOutput, RunFailed
from runtime import open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done

graph = Graph("essay", input=Ask, output=Done)


@graph.node
async def begin(ask: Ask) -> Draft:
    return Draft(f"draft {ask.n}", 0)


@graph.predict
@attrs.frozen
class Draft:
    """Judge the draft: improve it, accept it, or drop it."""

    text: str
    round: int

    async def __call__(self) -> Improve | Accept | None: ...


@graph.node
@attrs.frozen
class Improve:
    advice: str

    async def __call__(self, lm: LM) -> Draft:
        answer = await lm.chat([{"role": "user", "content": self.advice}])
        return Draft(answer.text, 1)


@graph.node
@attrs.frozen
class Accept:
    praise: str

    def __call__(self) -> Done:
        return Done(self.praise)


async def test_the_language_model_routes_among_class_nodes_and_fills_them(virtual_clock):
    lm = ScriptedLM([{"choice": "Improve"}, {"advice": "shorter"}, "short", {"choice": "Accept"}, {"praise": "good"}])

    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(graph, Ask(1))
        assert await handle.result() == Done("good")

    assert [step.path for step in handle.trace] == [
        "essay/begin/0",
        "essay/Draft/0",
        "essay/Improve/0",
        "essay/Draft/1",
        "essay/Accept/1",
    ]
    assert handle.spend.calls == 5
    assert "Judge the draft" in lm.calls[0].text
    assert "draft 1" in lm.calls[1].text


async def test_none_is_a_real_choice_and_ends_the_branch(virtual_clock):
    """An optional node with the body ``...`` could otherwise never stop."""
    async with open_runtime(lm=ScriptedLM([{"choice": "None"}])) as runtime:
        with pytest.raises(NoOutput, match="nothing had made its output Done"):
            await runtime.run(graph, Ask(1))


async def test_an_unknown_choice_fails_the_run_after_its_parse_attempts(virtual_clock):
    lm = ScriptedLM(lambda messages: {"choice": "Draf"})
    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(1))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf.__cause__, LMReplyUnreadable)
    assert len(lm.calls) == 2


async def test_a_predict_node_chooses_among_its_return_types_in_the_same_way(virtual_clock):
    chooser = Graph("chooser", input=Ask, output=Done)

    @chooser.predict(module="ChainOfThought")
    async def judge(ask: Ask) -> Improve | Done | None:
        """Judge it."""
        ...

    @chooser.node
    async def improve(improve: Improve) -> Done:
        return Done(improve.advice)

    lm = ScriptedLM([{"reasoning": "hm", "choice": "Improve"}, {"reasoning": "hm", "advice": "shorter"}])
    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(chooser, Ask(1)) == Done("shorter")


async def test_a_class_works_on_one_message_at_a_time(virtual_clock):
    fan = Graph("fan", input=Ask, output=Done)

    @fan.node
    async def split(ask: Ask) -> list[Slow]:
        return [Slow(i) for i in range(ask.n)]

    @fan.node
    @attrs.frozen
    class Slow:
        i: int

        async def __call__(self) -> Mark:
            await trio.sleep(1)
            return Mark(self.i)

    @attrs.frozen
    class Mark:
        i: int

    @fan.node
    async def gather(marks: list[Mark]) -> Done:
        return Done([mark.i for mark in marks])

    async with open_runtime() as runtime:
        assert await runtime.run(fan, Ask(3)) == Done([0, 1, 2])
        assert trio.current_time() == 3


async def test_a_subclass_that_overrides_the_call_is_called_its_own_way(virtual_clock):
    inherit = Graph("inherit", input=Ask, output=Done)

    @inherit.node
    @attrs.frozen
    class Base:
        async def __call__(self) -> Done:
            return Done("base")

    @attrs.frozen
    class Sub(Base):
        async def __call__(self) -> Done:
            return Done("sub")

    @inherit.node
    async def begin(ask: Ask) -> Base:
        return Sub() if ask.n else Base()

    async with open_runtime() as runtime:
        assert await runtime.run(inherit, Ask(0)) == Done("base")
        assert await runtime.run(inherit, Ask(1)) == Done("sub")
