"""Signals: messages that come into a run from outside, routed by type, once for each key."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import DeclarationError, Graph, NoOutput, UnknownRun, UsageError
from actors.message_errors import MessageInvalid
from runtime import RunSignalled, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing.stores.crashes import crash_everywhere
from tests.runtime.graphs.test_humans import STORES, made


@attrs.frozen
class Order:
    n: int


@attrs.frozen
class Invoice:
    n: int


@attrs.frozen
class Paid:
    amount: int


@attrs.frozen
class Withdrawn:
    why: str


@attrs.frozen
class Shipped:
    text: str


def orders(ran: list[str] | None = None) -> Graph[Order, Shipped]:
    """An invoice waits for its payment; a withdrawal ends the run at any time."""
    ran = [] if ran is None else ran
    graph: Graph[Order, Shipped] = Graph("orders", input=Order, output=Shipped, signals=(Paid, Withdrawn))

    @graph.node
    async def bill(order: Order) -> Invoice:
        ran.append("bill")
        return Invoice(order.n)

    @graph.node
    async def ship(invoice: Invoice, paid: Paid) -> Shipped:
        ran.append("ship")
        return Shipped(f"{invoice.n} for {paid.amount}")

    @graph.node
    async def stop(gone: Withdrawn) -> Shipped:
        ran.append("stop")
        return Shipped(f"nothing: {gone.why}")

    return graph


@STORES
async def test_a_join_that_lacks_only_a_signal_waits_for_it(store, autojump_clock):
    graph, events = orders(), list[Any]()
    assert graph.check() == []
    async with open_runtime(store=made(store), instruments=[events.append]) as runtime:
        handle = await runtime.start(graph, Order(7), run_id="it")
        await trio.sleep(3)
        assert handle.status == "waiting"
        await handle.send(Paid(3), key="payment-1")
        assert await handle.result() == Shipped("7 for 3")
    assert [(each.key, each.signal) for each in events if isinstance(each, RunSignalled)] == [("payment-1", Paid(3))]


@STORES
async def test_a_signal_may_start_a_node_by_itself(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(orders(), Order(7), run_id="it")
        await trio.sleep(3)
        await runtime.send("it", {"Withdrawn": {"why": "second thoughts"}})
        assert await handle.result() == Shipped("nothing: second thoughts")


@STORES
async def test_a_second_signal_of_the_same_key_has_no_effect(store, autojump_clock):
    @attrs.frozen
    class Sum:
        total: int

    graph: Graph[Order, Sum] = Graph("sums", input=Order, output=Sum, signals=Paid | Withdrawn)
    got: list[int] = []

    @graph.node
    async def first(order: Order) -> Invoice:
        return Invoice(order.n)

    @graph.node
    async def count(paid: Paid) -> None:
        got.append(paid.amount)

    @graph.node
    async def end(invoice: Invoice, gone: Withdrawn) -> Sum:
        return Sum(sum(got))

    assert [problem.code for problem in graph.check()] == []
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(graph, Order(1), run_id="it")
        await trio.sleep(1)
        for _ in range(3):
            await runtime.send("it", Paid(5), key="a")
        await runtime.send("it", Paid(7), key="b")
        await trio.sleep(1)
        await runtime.send("it", Withdrawn("enough"))
        assert await handle.result() == Sum(12)


@STORES
async def test_what_is_no_signal_of_the_graph_is_refused(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(orders(), Order(7), run_id="it")
        await trio.sleep(1)
        with pytest.raises(UsageError, match=r"takes as signals: Paid \| Withdrawn. Got: Order"):
            await runtime.send("it", Order(1))
        with pytest.raises(MessageInvalid, match="amount"):
            await runtime.send("it", {"amount": "much"})
        with pytest.raises(UnknownRun):
            await runtime.send("none", Paid(1))
        with pytest.raises(UsageError, match="key"):
            await runtime.send("it", Paid(1), key="\n")
        await runtime.send("it", Paid(1), key="a")
        assert await handle.result() == Shipped("7 for 1")
        if store is not None:
            await runtime.send("it", Paid(1), key="a")
            with pytest.raises(UsageError, match="is over"):
                await runtime.send("it", Paid(1), key="b")


async def test_without_a_join_that_waits_a_run_at_rest_is_over(autojump_clock):
    graph: Graph[Order, Shipped] = Graph("g", input=Order, output=Shipped, signals=Paid)

    @graph.node
    async def bill(order: Order) -> None:
        return None

    @graph.node
    async def ship(paid: Paid) -> Shipped:
        return Shipped("")

    async with open_runtime() as runtime:
        with pytest.raises(NoOutput):
            await runtime.run(graph, Order(1))


def test_a_signal_that_no_node_takes_is_a_problem():
    graph: Graph[Order, Shipped] = Graph("g", input=Order, output=Shipped, signals=Paid)

    @graph.node
    async def bill(order: Order) -> Shipped:
        return Shipped("")

    assert [problem.code for problem in graph.check()] == ["signal-not-taken"]
    outer: Graph[Order, Shipped] = Graph("outer", input=Order, output=Shipped)
    outer.add(orders())
    assert [problem.code for problem in outer.check()] == ["nested-signals"]
    with pytest.raises(DeclarationError):
        Graph("g", input=Order, output=Shipped, signals=int)


async def test_a_run_that_waits_for_a_signal_leaves_memory_and_comes_back(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    graph = orders(ran)
    async with open_runtime(store=store, graphs=[graph]) as runtime, open_runtime(store=store.beside()) as other:
        handle = await runtime.start(graph, Order(7), run_id="it")
        await trio.sleep(70)
        assert (handle.status, len(runtime.runs())) == ("waiting", 0)
        await other.send("it", Paid(3), key="a")
        assert await handle.result() == Shipped("7 for 3")
    assert ran == ["bill", "ship"]


async def test_a_signal_outlives_its_process_at_every_record(autojump_clock):
    async def run(store: Any) -> Any:
        graph = orders()
        async with open_runtime(store=store, graphs=[graph], evict_after_s=5) as runtime:
            handle = await runtime.start(graph, Order(7), run_id="it")
            await trio.sleep(10)
            if handle.status != "succeeded":
                await runtime.send("it", Paid(3), key="a")
            return await handle.result()

    crashes = await crash_everywhere(run)
    assert crashes.output == Shipped("7 for 3")
