"""On what terms a stored run goes on in its next life: how many steps it may make, what it may spend, what it is labelled."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from actors import LM, Graph, LMBudgetExhausted, Run, RunFailed, StepsExceeded, Usage
from runtime import RunResumed, open_runtime
from runtime.graphs.records.labels import labels_in, text_of
from runtime.graphs.runs.terms import BudgetTerms, Terms, read_terms
from runtime.journal.memory import MemoryStore
from runtime.lm.limits.budget import Budget, budgets_with
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of, leaves

STRANGE = {"customer": "7", "a:b": "c:d\ne", "\\": "\\000041", "é": "\ud800\0"}


def loop_of(rounds: int, rest_in: int = 0) -> Any:
    """Counts up to `rounds`, a step each; in round `rest_in` of the first life it waits for ever."""

    async def begin(ask: Ask) -> Part:
        return Part(1)

    async def count(part: Part, run: Run) -> Part | Done:
        if part.n == rest_in and not run.is_resumed:
            await trio.sleep_forever()
        return Done(part.n) if part.n == rounds else Part(part.n + 1)

    return graph_of(begin, count)


async def test_steps_of_earlier_lives_count_towards_max_steps(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        await runtime.start(loop_of(20, rest_in=6), Ask(), run_id="it", max_steps=10)
        await trio.sleep(1)
        store.crash()
    async with open_runtime(store=store.beside()) as runtime:
        handle = await runtime.start(loop_of(20), Ask(), run_id="it")
        with pytest.raises(StepsExceeded, match="more than 10 steps"):
            await handle.result()
        with pytest.raises(StepsExceeded):
            await (await runtime.resume("it")).result()

        assert await (await runtime.resume("it", max_steps=30)).result() == Done(20)


def asking(rest_in: int) -> Any:
    """Asks a language model three times, 10 tokens each; in the first life it rests before question `rest_in`."""

    async def begin(ask: Ask) -> Part:
        return Part(1)

    async def talk(part: Part, lm: LM, run: Run) -> Part | Done:
        if part.n == rest_in and not run.is_resumed:
            await trio.sleep_forever()
        await lm.chat([{"role": "user", "content": str(part.n)}], max_tokens=5)
        return Done(part.n) if part.n == 3 else Part(part.n + 1)

    return graph_of(begin, talk)


def metered(calls: list[int]) -> ScriptedLM:
    """A model that charges 10 tokens a call to the budgets around it, as a client does."""

    def answer(messages: Any) -> str:
        budgets = budgets_with()
        for budget in budgets:
            shortfall = budget.shortfall(10, 0.0)
            if shortfall is not None:
                raise LMBudgetExhausted(f"the budget does not cover the call: {shortfall}", attempt=0)
        for budget in budgets:
            budget.charge(Usage(5, 5))
        calls.append(len(budgets))
        return "yes"

    return ScriptedLM(answer, usage=Usage(5, 5))


async def test_what_earlier_lives_have_spent_counts_towards_the_budget_of_the_run(autojump_clock):
    calls: list[int] = []
    store, lm = MemoryStore(), metered(calls)
    async with open_runtime(store=store, lm=lm) as runtime:
        await runtime.start(asking(3), Ask(), run_id="it", budget=Budget(max_tokens=25))
        await trio.sleep(1)
        store.crash()
    async with open_runtime(store=store.beside(), lm=lm, budget=(whole := Budget())) as runtime:
        handle = await runtime.start(asking(3), Ask(), run_id="it")
        with pytest.raises(RunFailed) as failed:
            await handle.result()
        [leaf] = leaves(failed.value)
        assert isinstance(leaf.__cause__, LMBudgetExhausted)
        assert "10 tokens asked, 5 of 25 left" in str(leaf)
        assert calls == [1, 1]

        assert await (await runtime.resume("it", budget=Budget(max_tokens=30))).result() == Done(3)

    assert calls == [1, 1, 2]
    assert whole.tokens == 10, "what runs that go on use is charged to their runtime"


async def test_runs_that_shared_a_budget_share_it_again(autojump_clock):
    calls: list[int] = []
    store, lm, shared = MemoryStore(), metered(calls), Budget(max_tokens=45)
    graph = asking(3)
    async with open_runtime(store=store, lm=lm) as runtime:
        for name in ("one", "two"):
            await runtime.start(graph, Ask(), run_id=name, budget=shared)
        await trio.sleep(1)
        assert shared.tokens == 40
        store.crash()
    async with open_runtime(store=store.beside(), lm=lm, graphs=[graph]) as runtime, trio.open_nursery() as nursery:
        ends: list[str] = []

        async def end(name: str) -> None:
            handle = await runtime.handle(name)
            try:
                await handle.result()
                ends.append("succeeded")
            except RunFailed as failed:
                ends.append(str(leaves(failed)[0]).partition(": ")[2])

        nursery.start_soon(end, "one")
        nursery.start_soon(end, "two")

    assert len(ends) == 2
    assert all("10 tokens asked, 5 of 45 left" in each for each in ends), ends
    assert len(calls) == 4, "no call was made before what both have spent was charged"


async def test_many_runs_that_shared_a_budget_are_all_charged_before_one_of_them_spends(autojump_clock):
    """More than are taken up at a time; one of them is started again by its id meanwhile."""
    calls: list[int] = []
    store, lm, shared = MemoryStore(), metered(calls), Budget(max_tokens=445)
    graph = asking(3)
    names = [f"run-{number}" for number in range(22)]
    async with open_runtime(store=store, lm=lm) as runtime:
        for name in names:
            await runtime.start(graph, Ask(), run_id=name, budget=shared)
        await trio.sleep(1)
        assert shared.tokens == 440
        store.crash()
    calls.clear()
    async with open_runtime(store=store.beside(), lm=lm, graphs=[graph]) as runtime:
        await runtime.start(graph, Ask(), run_id="run-21")
        for name in names:
            with pytest.raises(RunFailed, match="failed at"):
                await (await runtime.handle(name)).result()
    assert calls == []


async def test_a_run_with_a_budget_is_handed_back_if_the_runtime_closes_before_all_are_taken_up(autojump_clock):
    store, lm = MemoryStore(), metered([])
    graph = asking(3)
    async with open_runtime(store=store, lm=lm) as runtime:
        for name in ("one", "two"):
            await runtime.start(graph, Ask(), run_id=name, budget=Budget(max_tokens=100))
        await trio.sleep(1)
        store.crash()
    later = store.beside()
    for moment in range(8):
        with trio.CancelScope() as scope:
            async with open_runtime(store=(later := later.beside()), lm=lm, graphs=[graph]):
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
    async with open_runtime(store=later.beside(), lm=lm, graphs=[graph]) as runtime:
        for name in ("one", "two"):
            assert await (await runtime.handle(name)).result() == Done(3)


async def test_a_run_that_has_left_memory_comes_back_to_the_budget_object_of_its_caller(autojump_clock):
    calls: list[int] = []
    budget, lm = Budget(max_tokens=100), metered(calls)
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def before(ask: Ask, lm: LM) -> Part:
        await lm.chat([{"role": "user", "content": "before"}])
        return Part(1)

    @graph.human
    async def person(part: Part) -> Other:
        """Go on?"""
        raise NotImplementedError

    @graph.node
    async def after(other: Other, lm: LM) -> Done:
        await lm.chat([{"role": "user", "content": "after"}])
        return Done(other.n)

    async with open_runtime(store=MemoryStore(), lm=lm, evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(), run_id="it", budget=budget, labels={"customer": "7"})
        await trio.sleep(5)
        assert not runtime.runs()
        assert handle.labels == {"customer": "7"}
        [question] = await runtime.questions("it")
        await runtime.answer(question.id, Other(2))
        assert await handle.result() == Done(2)

    assert budget.tokens == 20
    assert calls == [1, 1]


async def test_labels_of_a_stored_run_survive_its_process(autojump_clock):
    store, seen = MemoryStore(), list[Any]()
    graph = loop_of(3, rest_in=2)
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, Ask(), run_id="it", labels={"customer": "7", "shop": "Kiel"})
        await runtime.start(graph, Ask(), run_id="other")
        await trio.sleep(1)
        store.crash()
    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[seen.append]) as runtime:
        handle = await runtime.handle("it")
        await handle.result()
        assert handle.labels == {"customer": "7", "shop": "Kiel"}
        fork = await runtime.fork("it", run_id_new="fork")
        await fork.result()
        assert fork.labels == {"customer": "7", "shop": "Kiel"}
        page = await runtime.stored(label="customer:7")
        assert [run.id for run in page.items] == ["fork", "it"]
        assert (await runtime.stored(label="customer")).items == ()

    [resumed] = [event for event in seen if isinstance(event, RunResumed) and event.run_id == "it"]
    assert resumed.labels == {"customer": "7", "shop": "Kiel"}


def test_labels_stand_on_lines_that_give_them_back():
    text = text_of(STRANGE)

    assert text is not None
    assert text.isprintable() is False, "it has lines"
    assert all(line.isprintable() for line in text.split("\n"))
    assert labels_in(text) == STRANGE
    assert text_of({}) is None
    assert labels_in(None) == {}


def test_terms_are_read_as_they_were_written():
    terms = Terms(1_234_567, STRANGE, (BudgetTerms("key", 100, math.inf),))

    assert read_terms(terms.written()) == terms
    assert read_terms(Terms().written()) == Terms()
    assert read_terms("100") == Terms(100)
    assert terms.of_fork().budgets[0].key != "key"
