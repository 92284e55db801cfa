"""Forks: a run of its own from some step of another, or with another result."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Graph, NotStorable, RunExists, RunFailed, UnknownRun, UsageError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from tests.runtime.graphs.test_adopting import A, B, C, D, Out, Q, Ran, diamond, fan, nest


async def forks(store: MemoryStore, graph: Graph[Any, Any], ran: Ran, **options: Any) -> tuple[Any, list[str]]:
    """The output of a run, and of a fork of it, and what ran in the fork."""
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await (await runtime.start(graph, Q("q"), run_id="it")).result()
        before = [record async for record in store.read("it")]
        ran.clear()
        fork = await runtime.fork("it", run_id_new="other", **options)
        output = await fork.result()
        assert [record async for record in store.read("it")] == before
        forked = await store.run("other")
        assert forked is not None
        assert (forked.parent, forked.parent_seq) == ("it", len(before))
        return output, ran


@pytest.mark.parametrize(
    ("before", "runs"),
    [("g/a/0", "a c d out"), ("g/c/0", "c d out"), ("g/out/0", "out"), (None, "")],
)
async def test_a_fork_before_a_step_runs_it_and_what_came_of_it_again(autojump_clock, before, runs):
    ran = Ran()
    assert await forks(MemoryStore(), diamond(ran), ran, before=before) == (Out("qaqbd"), runs.split())


async def test_a_fork_with_another_result_keeps_what_does_not_depend_on_it(autojump_clock):
    ran = Ran()
    assert await forks(MemoryStore(), diamond(ran), ran, edit={"g/b/0": B("edited")}) == (
        Out("qaediteddd"[:-1]),
        ["c", "d", "out"],
    )


async def test_a_result_that_is_the_same_changes_nothing(autojump_clock):
    ran = Ran()
    assert await forks(MemoryStore(), diamond(ran), ran, edit={"g/b/0": B("qb")}) == (Out("qaqbd"), [])


async def test_a_step_may_be_given_up_and_another_edited(autojump_clock):
    ran = Ran()
    output, again = await forks(MemoryStore(), diamond(ran), ran, before="g/a/0", edit={"g/b/0": B("B")})
    assert (output, again) == (Out("qaBd"), ["a", "c", "d", "out"])


async def test_one_item_of_a_fan_out_may_be_edited(autojump_clock):
    ran = Ran()
    output, again = await forks(MemoryStore(), fan(ran), ran, edit={"g/split/0/1/each/0": B("9")})
    assert (output, again) == (Out("029"), ["join", "out"])


async def test_a_step_of_a_nested_run_may_be_edited_or_run_again(autojump_clock):
    ran, store = Ran(), MemoryStore()
    graph = nest(ran)
    path = "g/inner/0/one/0"
    assert await forks(store, graph, ran, edit={path: B("!")}) == (Out("!2"), ["two", "out"])
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        ran.clear()
        assert await (await runtime.fork("it", before=path)).result() == Out("q12")
        assert ran == ["one", "two", "out"]


async def test_a_failed_step_may_be_given_a_result_by_hand(autojump_clock):
    store, graph = MemoryStore(), Graph("g", input=Q, output=Out)

    @graph.node
    async def a(q: Q) -> A:
        raise OSError("never")

    @graph.node
    async def out(a: A) -> Out:
        return Out(a.t)

    async with open_runtime(store=store, graphs=[graph]) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(graph, Q("q"), run_id="it")).result()
        fork = await runtime.fork("it", edit={"g/a/0": A("by hand")})
        assert await fork.result() == Out("by hand")


async def test_a_fork_of_a_fork_and_a_crash_in_one(autojump_clock):
    store, ran = MemoryStore(), Ran()
    graph = diamond(ran)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await (await runtime.start(graph, Q("q"), run_id="it")).result()
        ran.held = "d"
        await runtime.fork("it", edit={"g/a/0": A("1")}, run_id_new="one")
        await trio.sleep(1)
        store.crash()
    ran = Ran()
    later = store.beside()
    async with open_runtime(store=later, graphs=[diamond(ran)]) as runtime:
        assert await (await runtime.handle("one")).result() == Out("1qbd")
        assert ran == ["d", "out"]
        two = await runtime.fork("one", edit={"g/c/0": C("2")}, run_id_new="two")
        assert await two.result() == Out("2d")
        assert await (await runtime.fork("one", run_id_new="two")).result() == Out("2d")
        kinds = [record.kind async for record in later.read("two")]
        assert kinds.count(RecordKind.FORKED) == 1


async def test_what_cannot_be_forked_says_why(autojump_clock):
    ran, store = Ran(), MemoryStore()
    graph = diamond(ran)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await (await runtime.start(graph, Q("q"), run_id="it")).result()
        await (await runtime.start(graph, Q("r"), run_id="own")).result()
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"before": "g/none/0"}, UsageError, "recorded nothing of such a step. Recorded: g/"),
            ({"edit": {"g/none/0": D("")}}, UsageError, "recorded nothing"),
            ({"edit": {"g/b/0#3": B("")}}, UsageError, "recorded nothing"),
            ({"edit": {"g/a/7": A("")}}, UsageError, "nothing would come of it"),
            ({"edit": {"g/a/0": A("1"), "g/d/0": D("2")}}, UsageError, "nothing would come of it"),
            ({"edit": {"g/b/0": object()}}, NotStorable, "none of the graph's message types"),
            ({"run_id_new": "own"}, RunExists, "isn't a fork of 'it'"),
            ({"run_id_new": "a/b"}, UsageError, "cannot stand in it"),
        ]
        for options, error, words in cases:
            with pytest.raises(error, match=words.replace("(", r"\(")):
                await runtime.fork("it", **options)
        with pytest.raises(UnknownRun):
            await runtime.fork("none")
        assert store.run_ids == ("it", "own")
    async with open_runtime(store=store.beside()) as runtime:
        with pytest.raises(UsageError, match="not deployed"):
            await runtime.fork("it")
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="keeps no runs"):
            await runtime.fork("it")
