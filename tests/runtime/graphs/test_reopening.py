"""Stored runs that somebody takes over, hands on or leaves alone: waiting ones, leftover questions, other workers."""

from __future__ import annotations

import attrs
import pytest
import trio

from actors import Graph, UsageError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from tests.runtime.graphs.stage import Ask, Done, Part


@attrs.frozen
class Yes:
    n: int


def asking(*, name: str = "agree", version: str = "", slow: bool = False) -> Graph[Ask, Done]:
    graph = Graph("asks", input=Ask, output=Done, version=version)

    @graph.node
    async def first(ask: Ask) -> Part:
        if slow:
            await trio.sleep(100)
        return Part(ask.n)

    @graph.human(name=name)
    async def agree(part: Part) -> Yes:
        """May we?"""
        raise NotImplementedError

    @graph.node
    async def take(yes: Yes) -> Done:
        return Done(yes.n)

    return graph


async def waiting(store: MemoryStore, graph: Graph[Ask, Done]) -> str:
    """A run that waits for a person, out of memory; the id of its question."""
    async with open_runtime(store=store, graphs=[graph], evict_after_s=1) as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(5)
        [question] = await runtime.questions()
    return question.id


@pytest.mark.parametrize("here", [True, False])
async def test_a_run_that_waits_can_be_taken_over_by_another_version(here: bool, autojump_clock):
    store = MemoryStore()
    before = await waiting(store, asking(version="1"))

    async with open_runtime(store=store.beside(), graphs=[asking(version="2")], evict_after_s=1) as runtime:
        with pytest.raises(UsageError, match="waiting"):
            await runtime.resume("it")
        handle = await runtime.resume("it", adopt=True, here=here)
        await trio.sleep(5)
        [question] = await runtime.questions()
        assert question.id == before, "it is the same question: nothing of it was changed"
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)


async def test_a_question_of_a_node_that_is_gone_is_closed_when_the_run_is_adopted(autojump_clock):
    store = MemoryStore()
    before = await waiting(store, asking())
    graph = asking(name="decide")

    async with open_runtime(store=store.beside(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.resume("it", adopt=True)
        await trio.sleep(5)
        [question] = await runtime.questions()
        assert (question.node, question.path) == ("decide", "asks/decide/0")
        assert question.id != before
        with pytest.raises(UsageError):
            await runtime.answer(before, Yes(1))
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:  # and so it is in the next life
        handle = await runtime.handle("it")
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)
        assert (await runtime.history("it")).is_intact


async def test_a_runtime_that_takes_nothing_up_leaves_runs_to_other_workers(autojump_clock):
    store = MemoryStore()
    graph = asking(slow=True)
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(1)
    async with open_runtime(store=store.beside(), graphs=[graph], take_up=False) as runtime:
        await trio.sleep(500)
        assert not runtime.runs()
        assert await runtime.questions() == []
        handle = await runtime.start(graph, Ask(2), run_id="own")
        await trio.sleep(200)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(200)
        [question] = await runtime.questions("it")


async def test_a_fork_and_a_resumed_run_may_be_left_to_any_worker(autojump_clock):
    store, graph = MemoryStore(), asking()
    await waiting(store, graph)
    async with open_runtime(store=store.beside(), graphs=[graph], take_up=False) as runtime:
        fork = await runtime.fork("it", run_id_new="copy", here=False)
        await trio.sleep(50)
        assert (fork.status, dict(runtime.runs())) == ("waiting", {})
    async with open_runtime(store=(store := store.beside()), graphs=[graph]) as runtime:
        handle = await runtime.handle("it")
        await handle.cancel()
        await trio.sleep(5)
        assert (await runtime.handle("it")).status == "cancelled"
        [question] = await runtime.questions()
        assert question.run_id == "copy"
    async with open_runtime(store=(store := store.beside()), graphs=[graph], take_up=False) as runtime:
        handle = await runtime.resume("it", here=False)
        await trio.sleep(50)
        assert not runtime.runs()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(5)
        assert {question.run_id for question in await runtime.questions()} == {"copy", "it"}
