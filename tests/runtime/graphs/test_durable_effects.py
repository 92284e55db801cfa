"""Steps that may run once only, and runs that somebody has resumed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from actors import (
    LM,
    Backoff,
    Effect,
    Graph,
    Redelivery,
    Run,
    RunCancelled,
    RunFailed,
    StepUncertain,
    UnknownRun,
    Usage,
    UsageError,
)
from runtime import RunParkedEvent, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.journal.store import Store
from runtime.testing import ScriptedLM
from runtime.testing.stores.crashes import crash_everywhere
from tests.runtime.graphs.lives import Lives
from tests.runtime.graphs.stage import EXACT, Ask, Done, Other, Part, graph_of

PATH = "g/send/0"


def sending(sent: list[str], die: Any, **options: Any) -> Graph:
    """A node ``send`` that may run once only, and in its first life dies after it took effect."""
    graph = graph_of()

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    @graph.node(effect=Effect.ONCE, **options)
    async def send(part: Part, run: Run) -> Other:
        sent.append(f"{run.attempt} {run.is_resumed}")
        if not run.is_resumed:
            await die()
        return Other(part.n + 1)

    @graph.node
    async def last(other: Other) -> Done:
        return Done(other.n)

    return graph


def lives_of(**options: Any) -> tuple[Lives, list[str]]:
    sent: list[str] = []

    async def die() -> None:
        await lives.die()

    lives = Lives(sending(sent, die, **options))
    return lives, sent


async def test_a_step_that_may_run_once_only_is_begun_durably_and_ends_so():
    async def send(ask: Ask) -> Done:
        return Done(1)

    lives = Lives(graph_of(send, effect=Effect.ONCE))
    assert await lives.last() == Done(1)
    assert await lives.kinds() == ["started", "began", "finished", "over"]
    async with open_runtime() as runtime:
        assert await runtime.run(lives.graph, Ask(1)) == Done(1)


async def test_a_crash_in_it_parks_the_run_and_a_person_decides_that_it_is_done(autojump_clock):
    lives, sent = lives_of()
    await lives.one_that_is_killed()

    with pytest.raises(StepUncertain, match="'send'") as parked:
        await lives.last()
    assert (parked.value.path, parked.value.reason) == (PATH, "uncertain")
    assert any(isinstance(event, RunParkedEvent) for event in lives.events)
    lives.store = lives.store.beside()
    async with open_runtime(store=lives.store, graphs=[lives.graph]) as runtime:
        handle = await runtime.handle("it")
        assert handle.status == "parked"
        with pytest.raises(StepUncertain) as told:
            await runtime.resume("it")
        assert told.value.path == PATH
        assert (await runtime.handle("it")).status == "parked"

        handle = await runtime.resume("it", uncertain={PATH: Other(70)})
        assert await handle.result() == Done(70)
    assert sent == ["1 False"]


async def test_a_person_decides_that_it_begins_again(autojump_clock):
    lives, sent = lives_of()
    await lives.one_that_is_killed()
    async with open_runtime(store=lives.store, graphs=[lives.graph]) as runtime:
        with pytest.raises(StepUncertain):
            await (await runtime.handle("it")).result()
        handle = await runtime.resume("it", uncertain={PATH: "repeat"})
        assert await handle.result() == Done(2)
    assert sent == ["1 False", "1 True"]


async def test_a_decision_on_no_such_step_or_of_another_type_is_refused(autojump_clock):
    lives, _ = lives_of()
    await lives.one_that_is_killed()
    async with open_runtime(store=lives.store, graphs=[lives.graph]) as runtime:
        with pytest.raises(StepUncertain):
            await (await runtime.handle("it")).result()
        for wrong, words in (
            ({"g/last/0": "repeat"}, f"what is: '{PATH}'"),
            ({PATH: Part(1)}, "not what node 'send' returns: Other"),
            ({PATH: "again"}, "not what node 'send' returns"),
        ):
            with pytest.raises(UsageError, match="Fix:") as told:
                await runtime.resume("it", uncertain=wrong)
            assert words in str(told.value)
        records = [record async for record in lives.store.read("it")]
        assert records[-1].kind is RecordKind.PARKED


@pytest.mark.parametrize("found", [Other(70), None])
async def test_on_uncertain_finds_out_what_became_of_it(found: Other | None, autojump_clock):
    keys: list[str] = []

    async def look(part: Part, run: Run) -> Other | None:
        await trio.sleep(1)
        keys.append(run.key)
        return found

    lives, sent = lives_of(on_uncertain=look)
    await lives.one_that_is_killed()

    assert await lives.last() == (Done(70) if found else Done(2))
    assert sent == (["1 False"] if found else ["1 False", "1 True"])
    assert keys == [f"it/{PATH}"]


async def test_on_uncertain_that_cannot_find_out_parks_the_run(autojump_clock):
    def look(part: Part) -> Other | None:
        raise OSError("the provider is away")

    lives, sent = lives_of(on_uncertain=look)
    await lives.one_that_is_killed()

    with pytest.raises(StepUncertain, match="look could not find out: OSError: the provider is away"):
        await lives.last()
    assert (await lives.kinds())[-1] == "parked"
    lives.store = lives.store.beside()
    async with open_runtime(store=lives.store, graphs=[lives.graph]) as runtime:
        handle = await runtime.resume("it", uncertain={PATH: Other(5)})
        assert await handle.result() == Done(5)
    assert sent == ["1 False"]


async def test_a_step_that_fails_has_failed_for_certain_and_its_fallback_goes_on(autojump_clock):
    async def instead(part: Part, run: Run) -> Other:
        if not run.is_resumed:
            await lives.die()
        return Other(9)

    graph = graph_of()

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    @graph.node(effect=Effect.ONCE, fallback=instead)
    async def send(part: Part) -> Other:
        raise OSError("no")

    @graph.node
    async def last(other: Other) -> Done:
        return Done(other.n)

    lives = Lives(graph)
    await lives.one_that_is_killed()
    assert await lives.last() == Done(9)


async def test_a_step_in_a_nested_run_parks_the_whole_run_and_is_decided_by_its_path(autojump_clock):
    sent: list[int] = []
    inner = Graph("inner", input=Part, output=Other)

    @inner.node(effect=Effect.ONCE)
    async def send(part: Part, run: Run) -> Other:
        sent.append(part.n)
        if part.n == 1 and not run.is_resumed:
            await trio.sleep(1)
            await lives.die()
        return Other(part.n * 10)

    graph = graph_of()

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(0), Part(1)]

    graph.add(inner)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    lives = Lives(graph)
    await lives.one_that_is_killed()
    async with open_runtime(store=lives.store, graphs=[graph]) as runtime:
        with pytest.raises(StepUncertain) as parked:
            await (await runtime.handle("it")).result()
        handle = await runtime.resume("it", uncertain={parked.value.path: Other(77)})
        assert await handle.result() == Done([0, 77])
    assert sorted(sent) == [0, 1]


async def test_a_cancellation_of_a_step_that_may_run_once_only_leaves_it_uncertain(autojump_clock):
    sent: list[int] = []

    async def send(ask: Ask) -> Done:
        sent.append(1)
        await trio.sleep(100 if len(sent) == 1 else 0)
        return Done(1)

    store, graph = MemoryStore(), graph_of(send, effect=Effect.ONCE)
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(1)
        await handle.cancel()
        with pytest.raises(StepUncertain):
            await runtime.resume("it")
        handle = await runtime.resume("it", uncertain={"g/send/0": "repeat"})
        assert await handle.result() == Done(1)
    assert len(sent) == 2


async def test_a_crash_at_any_record_runs_it_at_most_once(autojump_clock):
    began: Counter[int] = Counter()
    worlds: dict[int, int] = {}

    async def look(part: Part, run: Run) -> Other | None:
        return Other(part.n) if began[worlds[id(current[0])]] else None

    current: list[Any] = [None]
    graph = graph_of()

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    @graph.node(effect=Effect.ONCE, on_uncertain=look)
    async def send(part: Part) -> Other:
        began[worlds[id(current[0])]] += 1
        await trio.sleep(1)
        return Other(part.n)

    @graph.node
    async def last(other: Other) -> Done:
        return Done(other.n)

    kept: list[Any] = []

    async def run(store: Store) -> Any:
        data: Any = store
        data = getattr(data, "_store", data)._data  # one for all lives of one run
        kept.append(data)  # or another may get its id
        current[0] = data
        worlds.setdefault(id(data), len(worlds))
        async with open_runtime(store=store, seed=1) as runtime:
            return await (await runtime.start(graph, Ask(3), run_id="it")).result()

    crashes = await crash_everywhere(run)

    assert crashes.output == Done(3)
    assert set(began.values()) == {1}
    assert crashes.points == 2 * 6


# --- runs that somebody has resumed ---------------------------------------------------------------------------------------


async def test_a_failed_run_is_resumed_at_what_failed_with_fresh_attempts_and_new_answers(autojump_clock):
    ran: list[str] = []
    broken = [True]
    graph = graph_of()

    @graph.node
    async def first(ask: Ask, lm: LM) -> Part:
        ran.append("first")
        return Part(int((await lm.chat([{"role": "user", "content": "first"}])).text))

    @graph.node(redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1)))
    async def second(part: Part, lm: LM, run: Run) -> Done:
        text = (await lm.chat([{"role": "user", "content": "second"}])).text
        ran.append(f"second {run.attempt} {text} {await run.once('count', lambda: len(ran))}")
        if broken[0]:
            raise OSError("broken")
        return Done([part.n, text])

    lm = ScriptedLM(["1", "2", "3", "4"], usage=Usage(10, 5))
    store = MemoryStore()
    async with open_runtime(store=store, lm=lm) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        broken[0] = False
        handle = await runtime.resume("it")
        assert await handle.result() == Done([1, "4"])
        assert handle.spend.calls == 4
    assert ran == ["first", "second 1 2 1", "second 2 3 1", "second 1 4 1"]


async def test_a_nested_run_that_failed_goes_on_where_it_was(autojump_clock):
    ran: list[str] = []
    broken = [True]
    inner = Graph("inner", input=Part, output=Other, supervision=EXACT)

    @inner.node
    async def deep(part: Part) -> Ask:
        ran.append("deep")
        return Ask(part.n)

    @inner.node
    async def deeper(ask: Ask) -> Other:
        ran.append("deeper")
        if broken[0]:
            raise OSError("broken")
        return Other(ask.n)

    graph = graph_of()

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    graph.add(inner)

    @graph.node
    async def last(other: Other) -> Done:
        return Done(other.n)

    async with open_runtime(store=MemoryStore()) as runtime:
        for _ in range(2):
            handle = await runtime.start(graph, Ask(1), run_id="it") if not ran else await runtime.resume("it")
            with pytest.raises(RunFailed):
                await handle.result()
        broken[0] = False
        assert await (await runtime.resume("it")).result() == Done(1)
    assert ran == ["deep", "deeper", "deeper", "deeper"]


async def test_a_cancelled_run_goes_on_and_can_be_cancelled_again(autojump_clock):
    ran: list[str] = []

    async def work(ask: Ask) -> Done:
        ran.append("work")
        await trio.sleep(100)
        return Done(1)

    store = MemoryStore()
    graph = graph_of(work)
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        await runtime.start(graph, Ask(1), run_id="it")
        for _ in range(2):
            await trio.sleep(1)
            await (await other.handle("it")).cancel()
            assert (await runtime.handle("it")).status == "cancelled"
            await runtime.resume("it")
        handle = await runtime.handle("it")
        assert await handle.result() == Done(1)
        with pytest.raises(UsageError, match="is succeeded"):
            await runtime.resume("it")
    assert ran == ["work"] * 3


async def test_what_cannot_be_resumed_says_why(autojump_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(100)
        return Done(1)

    store = MemoryStore()
    graph = graph_of(work)
    async with open_runtime(store=store) as runtime:
        with pytest.raises(UnknownRun):
            await runtime.resume("it")
        handle = await runtime.start(graph, Ask(1), run_id="it")
        with pytest.raises(UsageError, match="is in progress"):
            await runtime.resume("it")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
    async with open_runtime(store=store.beside()) as runtime:
        with pytest.raises(UsageError, match="is not deployed"):
            await runtime.resume("it")
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="keeps no runs"):
            await runtime.resume("it")
