"""What a node of a durable run does once, and how long it sleeps, however many lives the run has."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import pytest
import trio

from actors import Backoff, Graph, NotStorable, Redelivery, Run, RunFailed, UsageError
from actors.store_errors import RunLost
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.testing import cancel_at_every_checkpoint
from tests.runtime.graphs.lives import Lives
from tests.runtime.graphs.stage import Ask, Done, graph_of, leaves

TWO_ATTEMPTS = Redelivery(max_attempts=2, backoff=Backoff(first_s=1))


async def test_what_was_done_once_is_not_done_again_in_the_next_life(autojump_clock):
    done: list[str] = []

    async def charge(what: str, times: int) -> dict[str, Any]:
        await trio.sleep(1)
        done.append(what)
        return {"id": len(done), "what": what, "parts": [1.5, None, True, Done(times)]}

    async def work(ask: Ask, run: Run) -> Done:
        first = await run.once("charge", charge, "one", 2)
        if not run.is_resumed:
            await lives.die()
        second = await run.once("charge", charge, "two", 3)
        return Done([first["id"], first["parts"][3].n, second["id"], first["parts"][:3]])

    lives = Lives(graph_of(work))
    await lives.one_that_is_killed()

    assert await lives.last() == Done([1, 2, 2, [1.5, None, True]])
    assert done == ["one", "two"]
    once = [record for record in await lives.records() if record.kind is RecordKind.ONCE]
    assert [record.path for record in once] == ["g/work/0#1:charge:1", "g/work/0#1:charge:2"]


async def test_a_further_attempt_gets_what_the_first_has_done(autojump_clock):
    done: list[int] = []

    async def charge() -> int:
        await trio.lowlevel.checkpoint()
        done.append(1)
        return len(done)

    async def work(ask: Ask, run: Run) -> Done:
        found = [await run.once("charge", charge), await run.once("charge", charge)]
        if run.attempt == 1:
            raise OSError("the first time")
        return Done([*found, await run.once("another", charge)])

    lives = Lives(graph_of(work, redelivery=TWO_ATTEMPTS))

    assert await lives.last() == Done([1, 2, 3])


async def test_the_result_is_durable_before_it_is_returned(autojump_clock):
    seen: list[list[str]] = []

    async def work(ask: Ask, run: Run) -> Done:
        await run.once("it", int)
        seen.append(await lives.kinds())
        return Done(1)

    lives = Lives(graph_of(work))
    await lives.last()
    assert seen == [["started", "once"]]


async def test_what_was_in_flight_is_done_again_and_what_raises_is_not_kept(autojump_clock):
    calls: list[int] = []

    async def charge() -> int:
        calls.append(1)
        if len(calls) == 1:
            await lives.die()
        if len(calls) == 2:
            raise OSError("no")
        return len(calls)

    async def work(ask: Ask, run: Run) -> Done:
        return Done(await run.once("charge", charge))

    lives = Lives(graph_of(work, redelivery=TWO_ATTEMPTS))
    await lives.one_that_is_killed()

    assert await lives.last() == Done(3)


async def test_plain_functions_partials_and_lambdas_are_called_too(autojump_clock):
    class Adder:
        async def __call__(self, n: int) -> int:
            await trio.lowlevel.checkpoint()
            return n + 1

    async def add(n: int, *, more: int) -> int:
        await trio.lowlevel.checkpoint()
        return n + more

    def plain(n: int) -> int:
        return n * 2

    async def work(ask: Ask, run: Run) -> Done:
        return Done(
            [
                await run.once("plain", plain, 4),
                await run.once("partial", functools.partial(add, 4, more=5)),
                await run.once("lambda", lambda: add(1, more=1)),
                await run.once("object", Adder(), 1),
            ]
        )

    async with open_runtime(store=MemoryStore()) as runtime:
        assert await (await runtime.start(graph_of(work), Ask(1))).result() == Done([8, 9, 2, 2])
        assert await runtime.run(graph_of(work), Ask(1)) == Done([8, 9, 2, 2])


@attrs.frozen
class Stranger:
    n: int = 0


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Stranger(1), "what run.once('it', …) returned cannot be stored"),
        ({1, 2}, "expected Any, got a value of set"),
        ({"a": [object()]}, "cannot be stored at a[0]"),
        (float("nan"), "cannot be stored"),
    ],
)
async def test_a_result_that_has_no_json_is_an_error_that_says_so(made: Any, words: str, autojump_clock):
    async def work(ask: Ask, run: Run) -> Done:
        await run.once("it", lambda: made)
        return Done(1)

    async with open_runtime(store=MemoryStore()) as runtime:
        handle = await runtime.start(graph_of(work, redelivery=TWO_ATTEMPTS), Ask(1))
        with pytest.raises(RunFailed) as failed:
            await handle.result()
        [leaf] = leaves(failed.value)
        assert isinstance(leaf.__cause__, NotStorable)
        assert words in str(leaf.__cause__)
        assert "Fix:" in str(leaf.__cause__)
        assert leaf.attempt == 1  # no other attempt would do better
        assert await runtime.run(graph_of(work), Ask(1)) == Done(1)  # nothing is stored, so it need not have any


@pytest.mark.parametrize("durable", [True, False])
async def test_wrong_uses_are_told_with_their_mend(durable: bool, autojump_clock):
    words: list[str] = []

    async def work(ask: Ask, run: Run) -> Done:
        for wrong in (
            lambda: run.once("", int),
            lambda: run.once("a#b", int),
            lambda: run.once("a\nb", int),
            lambda: run.once(7, int),  # type: ignore[arg-type]
            lambda: run.once("it", 7),  # type: ignore[arg-type]
            lambda: run.sleep(-1),
            lambda: run.sleep(float("inf")),
            lambda: run.sleep(float("nan")),
            lambda: run.sleep("1"),  # type: ignore[arg-type]
        ):
            with pytest.raises(UsageError) as told:
                await wrong()
            words.append(str(told.value))

        async def both() -> int:
            with pytest.raises(UsageError) as told:
                await run.once("it", int)
            words.append(str(told.value))
            return 1

        return Done(await run.once("it", both))

    async with open_runtime(store=MemoryStore()) as runtime:
        assert await (await runtime.start(graph_of(work), Ask(1), durable=durable)).result() == Done(1)
    assert len(words) == 10
    assert all("\n  Fix: " in each for each in words)
    assert "is in progress" in words[-1]


async def test_a_sleep_ends_at_the_first_time_given_over_lives(autojump_clock):
    begun: list[float] = []

    async def work(ask: Ask, run: Run) -> Done:
        begun.append(trio.current_time())
        async with trio.open_nursery() as nursery:
            if not run.is_resumed:
                nursery.start_soon(die_after, 40)
            await run.sleep(100)
        await run.sleep(10)
        return Done(trio.current_time() - begun[0])

    async def die_after(seconds: float) -> None:
        await trio.sleep(seconds)
        await lives.die()

    lives = Lives(graph_of(work, idle_timeout_s=5))
    await lives.one_that_is_killed()
    await trio.sleep(20)

    assert await lives.last() == Done(110)
    assert begun[1] - begun[0] == 60


async def test_a_sleep_that_is_over_while_nobody_had_the_run_ends_at_once(autojump_clock):
    async def work(ask: Ask, run: Run) -> Done:
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            if not run.is_resumed:
                nursery.start_soon(lives.die)
            await run.sleep(100)
        return Done(trio.current_time() - before)

    lives = Lives(graph_of(work))
    await lives.one_that_is_killed()
    await trio.sleep(1_000)

    assert await lives.last() == Done(0)


async def test_a_further_attempt_sleeps_anew(autojump_clock):
    async def work(ask: Ask, run: Run) -> Done:
        before = trio.current_time()
        await run.sleep(100)
        if run.attempt == 1:
            raise OSError("the first time")
        return Done(round(trio.current_time() - before, 6))

    assert await Lives(graph_of(work, redelivery=TWO_ATTEMPTS)).last() == Done(100)


async def test_a_worker_that_may_have_lost_its_run_does_nothing_outside_until_it_knows(autojump_clock):
    done: list[str] = []
    store = MemoryStore(lease_s=15)

    async def work(ask: Ask, run: Run) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        await run.once("it", done.append, "here")
        return Done(1)

    other = Graph("other", input=Ask, output=Done)
    other.node(work)  # what deploys it looks into the store, and finds that the worker is gone
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside(), graphs=[other]):
        handle = await runtime.start(graph_of(work), Ask(1), run_id="it")
        store.cut_off()
        with pytest.raises(RunLost):
            await handle.result()
    assert done == []


async def test_a_worker_whose_lease_is_renewed_in_time_goes_on(autojump_clock):
    done: list[float] = []
    store = MemoryStore(lease_s=15)
    good_s = [float("inf")]

    async def work(ask: Ask, run: Run) -> Done:
        good_s[0] = trio.current_time()  # past it, and nobody has taken the run over
        await run.once("it", note)
        return Done(1)

    async def note() -> None:
        done.append(trio.current_time())

    async with open_runtime(store=store) as runtime, trio.open_nursery() as nursery:
        object.__setattr__(store._lease, "good_until", lambda: good_s[0])
        handle = await runtime.start(graph_of(work), Ask(1), run_id="it")

        async def renew() -> None:
            await trio.sleep(3)
            good_s[0] = float("inf")

        nursery.start_soon(renew)
        assert await handle.result() == Done(1)
    assert 3 <= done[0] <= 3.5


async def test_a_cancellation_at_any_checkpoint_neither_loses_a_result_nor_does_it_twice(autojump_clock):
    done: list[str] = []

    async def charge() -> int:
        done.append("charge")
        return len(done)

    async def work(ask: Ask, run: Run) -> Done:
        made = await run.once("charge", charge)
        return Done([made, await run.once("charge", charge)])

    async def run_it() -> None:
        done.clear()
        store = MemoryStore()
        graph = graph_of(work)
        try:
            async with open_runtime(store=store) as runtime:
                await runtime.run(graph, Ask(1), run_id="it")
        finally:
            with trio.CancelScope(shield=True):
                told = [record async for record in store.beside().read("it")]
            assert len([record for record in told if record.kind is RecordKind.ONCE]) == len(done)

    await cancel_at_every_checkpoint(run_it)
