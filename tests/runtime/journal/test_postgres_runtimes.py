"""Whole runtimes on one PostgreSQL: what one leaves, another finishes."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from actors import Graph
from actors.errors import ConversationBusy
from runtime import Runtime, open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.journal.records import CODES, RecordKind
from tests.patience import first_line
from tests.runtime.journal.letters import Order, Sent, letters
from tests.runtime.journal.postgres_server import Server, started

PATIENCE_S = 60.0


@pytest.mark.slow
async def test_the_runs_of_a_runtime_that_was_killed_end_in_another_and_no_step_is_run_twice(
    postgres: Server, schema: str
) -> None:
    async with trio.open_nursery() as nursery:
        store = PostgresStore(postgres.dsn, schema, migrate=True)
        await store.open("maker of tables", nursery)
        await store.close()
    with started("tests.runtime.journal.postgres_program", postgres.dsn, schema, "0.6", "12") as program:
        said = [await trio.to_thread.run_sync(first_line, program) for _ in range(20)]
        program.kill()
        said += (await trio.to_thread.run_sync(program.communicate))[0].splitlines()
    finished = {
        f"{run} {path.split('/')[1]}"
        for run, path in postgres.query(f"select run, path from {schema}.journal where kind = %s", CODES[RecordKind.FINISHED])
    }
    runs = [run for (run,) in postgres.query(f"select id from {schema}.runs")]

    begun: list[str] = []
    graph = letters(begun.append, trio.lowlevel.checkpoint)
    async with open_runtime(store=PostgresStore(postgres.dsn, schema, lease_s=0.6), graphs=[graph]) as runtime:
        with trio.fail_after(PATIENCE_S):
            for run in runs:
                handle = await runtime.handle(run)
                assert await handle.result() == Sent(run)

    assert len(runs) >= 6
    assert finished
    assert finished <= {each.strip() for each in said}
    assert finished.isdisjoint(begun)
    assert max(Counter(begun).values()) == 1
    assert {each.strip() for each in said} | set(begun) == {
        f"{run} {step}" for run in runs for step in ("write", "check", "send")
    }


@pytest.mark.slow
async def test_runs_that_may_run_anywhere_are_shared_by_the_runtimes(postgres: Server, schema: str) -> None:
    """Each takes as many as it has room for."""
    begun: dict[str, list[str]] = {"a": [], "b": []}
    both = trio.Event()

    def graph_of(worker: str) -> Graph[Order, Sent]:
        def note(words: str) -> None:
            begun[worker].append(words)
            if all(begun.values()):
                both.set()

        return letters(note, both.wait)

    graph = graph_of("a")
    async with open_runtime(store=PostgresStore(postgres.dsn, schema, migrate=True), worker="a") as first:
        await first.deploy(graph, max_runs=3)
        async with open_runtime(store=PostgresStore(postgres.dsn, schema), worker="b") as second:
            await second.deploy(graph_of("b"), max_runs=3)
            handles = [await first.start(graph, Order(n), run_id=f"order-{n}", here=False) for n in range(12)]
            with trio.fail_after(PATIENCE_S):
                results = [await handle.result() for handle in handles]

    assert results == [Sent(f"order-{n}") for n in range(12)]
    everything = [f"order-{n} {step}" for n in range(12) for step in ("write", "check", "send")]
    assert sorted(begun["a"] + begun["b"]) == sorted(everything)
    assert begun["a"]
    assert begun["b"]


@pytest.mark.slow
async def test_a_runtime_that_is_closed_leaves_its_runs_to_another_in_no_time(postgres: Server, schema: str) -> None:
    begun: list[str] = []
    reached = trio.Event()

    def note(words: str) -> None:
        begun.append(words)
        reached.set()

    async with open_runtime(store=PostgresStore(postgres.dsn, schema, lease_s=3600, migrate=True)) as first:
        await first.start(letters(note, trio.sleep_forever), Order(1), run_id="order-1")
        with trio.fail_after(PATIENCE_S):
            await reached.wait()
    graph = letters(note, trio.lowlevel.checkpoint)
    async with open_runtime(store=PostgresStore(postgres.dsn, schema, lease_s=3600), graphs=[graph]) as second:
        with trio.fail_after(PATIENCE_S):
            assert await (await second.handle("order-1")).result() == Sent("order-1")

    assert begun == ["order-1 write", "order-1 write", "order-1 check", "order-1 send"]


async def test_a_conversation_goes_on_in_another_runtime_and_is_erased_with_its_runs(postgres: Server, schema: str) -> None:
    graph = letters(lambda _: None, trio.lowlevel.checkpoint)

    async def said(runtime: Runtime) -> list[tuple[object, object]]:
        return [(turn.message, turn.output) for turn in await runtime.conversation(graph, key="user-7").load()]

    with trio.fail_after(PATIENCE_S):
        async with open_runtime(store=PostgresStore(postgres.dsn, schema, migrate=True), worker="a") as first:
            talk = first.conversation(graph, key="user-7")
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(talk.send, Order(number))
            order = [turn.message for turn in talk.history]
            async with open_runtime(store=PostgresStore(postgres.dsn, schema), worker="b") as second:
                with pytest.raises(ConversationBusy, match="is another worker's until"):
                    await second.conversation(graph, key="user-7").send(Order(9))
        async with open_runtime(store=PostgresStore(postgres.dsn, schema), worker="c") as third:
            await third.conversation(graph, key="user-7").send(Order(3))
            turns = await said(third)
            await third.conversation(graph, key="user-7").forget()

            assert await said(third) == []
            assert (await third.stored()).items == ()

    assert [message for message, _ in turns] == [*order, Order(3)]
    assert all(isinstance(output, Sent) for _, output in turns)
