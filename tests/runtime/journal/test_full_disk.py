"""A run whose disk is full in the middle stands still, and goes on where it was when there is room again."""

from __future__ import annotations

import resource
from collections import Counter
from typing import Any

import attrs
import trio

from actors import Graph
from runtime import StoreRecovered, StoreStalled, open_runtime
from runtime.graphs import keeper

TEXT = "x" * 50_000


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Checked:
    text: str


@attrs.frozen
class Sent:
    characters: int


async def test_a_run_goes_on_when_there_is_room_again_and_nothing_begins_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "LOOK_S", 0.01)
    monkeypatch.setattr(keeper, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(keeper, "LAST_RETRY_S", 0.01)
    begun: Counter[str] = Counter()
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    stalled, happened = trio.Event(), list[type]()

    def listen(event: Any) -> None:
        if isinstance(event, StoreStalled | StoreRecovered):
            happened.append(type(event))
            stalled.set()

    graph: Graph[Order, Sent] = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order) -> Draft:
        begun["write"] += 1
        return Draft("short")

    @graph.node
    async def check(draft: Draft) -> Checked:
        begun["check"] += 1
        used = max(file.stat().st_size for file in tmp_path.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + 10_000, former[1]))  # what follows has no room
        return Checked(TEXT)

    @graph.node
    async def send(checked: Checked) -> Sent:
        begun["send"] += 1
        return Sent(len(checked.text))

    try:
        async with open_runtime(store=tmp_path / "runs.db", instruments=[listen]) as runtime:
            handle = await runtime.start(graph, Order(7), run_id="order-7")
            with trio.fail_after(60):
                await stalled.wait()
            for _ in range(5):  # tries that fail as the first did
                await trio.sleep(0.02)
            assert (begun["send"], handle.status) == (0, "running")
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
            with trio.fail_after(60):
                assert await handle.result() == Sent(len(TEXT))
            history = await runtime.history("order-7")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)

    assert begun == {"write": 1, "check": 1, "send": 1}
    assert happened == [StoreStalled, StoreRecovered]
    assert [record.seq for record in history.records] == list(range(1, 6))
