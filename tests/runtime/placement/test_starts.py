"""Starts of places: each waits for itself alone, and ends with its runtime and with what it was to come of."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Actor, ActorStartFailed, Graph, GraphInvalid, NotPortable, PlaceUnavailable
from runtime import ActorCrashed, open_runtime
from runtime.placement import HostPending, Sharded
from runtime.placement.known_codes import KnownCodes
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.runtime.placement.test_dialled_hosts import fake
from tests.runtime.placement.test_processes import PATIENCE_S, until


@attrs.frozen
class Word:
    text: str


@attrs.frozen
class Echoed:
    text: str


class Echo(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        return message


def graph_at(place: str | None, name: str = "") -> Graph[Word, Echoed]:
    graph = Graph(name or f"at-{place}", input=Word, output=Echoed)

    @graph.node(place=place)
    async def repeat(word: Word) -> Echoed:
        return Echoed(word.text)

    return graph


def held_back(**options: Any) -> LoopbackHosts:
    """A place whose only host does not start for now."""
    place = LoopbackHosts(1, start_timeout_s=300.0, **options)
    place.hold_back("host-1")
    return place


async def test_a_place_that_waits_for_room_keeps_no_other_from_starting(autojump_clock):
    places = {"full": held_back(), "free": LoopbackHosts(1)}
    async with open_runtime(places=places) as runtime, trio.open_nursery() as nursery:
        waiting = graph_at("full")
        nursery.start_soon(runtime.run, waiting, Word("later"))
        await trio.sleep(1)

        assert await runtime.run(graph_at("free"), Word("now")) == Echoed("now")
        assert await runtime.run(graph_at(None), Word("here")) == Echoed("here")
        assert await (await runtime.spawn(Echo, name="other", place="free")).ask(1) == 1
        assert trio.current_time() < 2

        places["full"].let_start()
        assert await runtime.run(waiting, Word("then")) == Echoed("then")


async def test_a_graph_that_waits_for_its_place_is_deployed_once_by_all_who_run_it(autojump_clock):
    place = held_back()
    graph, outer, answers = graph_at("full", "inner"), Graph("outer", input=Word, output=Echoed), list[Echoed]()
    outer.add(graph)
    async with open_runtime(places={"full": place}) as runtime:
        async with trio.open_nursery() as nursery:

            async def run(graph: Graph[Word, Echoed]) -> None:
                answers.append(await runtime.run(graph, Word("x")))

            for each in (graph, outer, graph, outer):
                nursery.start_soon(run, each)
            await trio.sleep(1)
            place.let_start()
        assert answers == [Echoed("x")] * 4
        assert place.started == ["host-1"]
        deployed = [each.address for each in runtime.tree().children if each.address.startswith(("inner", "outer"))]
        assert deployed == ["inner", "outer"]


@pytest.mark.parametrize("call", ["deploy", "run", "spawn"])
async def test_closing_the_runtime_ends_a_start_in_progress(call, autojump_clock):
    ends: list[Exception] = []
    async with trio.open_nursery() as nursery:
        async with open_runtime(places={"full": held_back()}) as runtime:

            async def start() -> None:
                try:
                    if call == "spawn":
                        await runtime.spawn(Echo, name="a", place="full")
                    else:
                        await getattr(runtime, call)(graph_at("full"), *([Word("x")] if call == "run" else []))
                except (ActorStartFailed, PlaceUnavailable) as error:
                    ends.append(error)

            nursery.start_soon(start)
            await trio.sleep(1)
        assert trio.current_time() == 1
    assert trio.current_time() == 1
    (end,) = ends
    if call == "spawn":
        assert isinstance(end, ActorStartFailed)
    else:
        assert isinstance(end, PlaceUnavailable)
        assert "place 'full' starts no hosts: what supervises them is ending, since the runtime is being closed." in str(end)


async def test_a_start_between_two_attempts_ends_with_the_runtime_too(autojump_clock, monkeypatch):
    """It waits for its next attempt then, which may be half a minute away."""
    ends: list[Exception] = []

    def broken(self: Any, host_id: str, invitation: Any, /) -> Any:
        raise ValueError("no")

    monkeypatch.setattr(LoopbackHosts, "start", broken)
    async with trio.open_nursery() as nursery:
        async with open_runtime(places={"broken": LoopbackHosts(1, start_timeout_s=300.0)}) as runtime:

            async def start() -> None:
                try:
                    await runtime.deploy(graph_at("broken"))
                except (ActorStartFailed, PlaceUnavailable) as error:
                    ends.append(error)

            nursery.start_soon(start)
            await trio.sleep(50)
        closed_at = trio.current_time()
    assert trio.current_time() == closed_at
    assert isinstance(ends[0], PlaceUnavailable)


async def test_draining_does_not_wait_for_a_place_for_longer_than_allowed(autojump_clock):
    async with open_runtime(places={"full": held_back()}) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.deploy, graph_at("full"))
        await trio.sleep(1)
        await runtime.drain(5)
        assert trio.current_time() == 6
        nursery.cancel_scope.cancel()


async def test_starts_in_progress_end_with_what_starts_them():
    """The next attempt comes at once, and not when the start would have been too late."""
    events: list[Any] = []
    async with open_runtime(places={"cpu": fake(1, resources={"nowhere": 1})}) as runtime, trio.open_nursery() as nursery:
        runtime._services.events.add_sink(events.append, (HostPending, ActorCrashed))
        nursery.start_soon(runtime.deploy, graph_at_module)
        await until(lambda: pending(events) == 1)
        engine: Any = runtime.whereis("places/cpu/engine")
        engine.cell.crash(ValueError("it broke"))
        with trio.fail_after(PATIENCE_S / 2):
            await until(lambda: pending(events) == 2)
        nursery.cancel_scope.cancel()
    crashes = [str(event.error) for event in events if isinstance(event, ActorCrashed) and event.address.endswith("host-1")]
    assert "host 'host-1' of place 'cpu' was not started: its launcher was ended.\n" in crashes[0]


def pending(events: list[Any]) -> int:
    return sum(isinstance(event, HostPending) for event in events)


graph_at_module = Graph("at-module", input=Word, output=Echoed)


@graph_at_module.node(place="cpu")
async def repeat_there(word: Word) -> Echoed:
    return Echoed(word.text)


# --- what cannot be started -------------------------------------------------------------------------------------------------


@attrs.define
class Maker:
    """Equal to others like it, and so without a hash."""

    word: str

    def __call__(self, *args: object) -> Echo:
        return Echo()


async def test_a_factory_without_a_hash_is_not_portable(autojump_clock):
    words = "another process imports what makes it by name, and Maker(word='x') has no name"
    async with open_runtime(places={"cpu": LoopbackHosts(1)}) as runtime:
        with pytest.raises(NotPortable) as failure:
            await runtime.spawn(Maker("x"), name="a", place="cpu")
        assert words in str(failure.value)
        assert "Fix: pass the class" in str(failure.value)

        sharded = await runtime.spawn(Sharded(Maker("x"), key=len), name="s", place="cpu")
        with pytest.raises(NotPortable, match="has no name"):
            await sharded.ask("message")

        graph = Graph("makers", input=Word, output=Echoed)
        graph.add(Maker("x"), name="maker", takes=Word, returns=Echoed, place="cpu")
        with pytest.raises(GraphInvalid, match="has no name"):
            await runtime.deploy(graph)

        assert await (await runtime.spawn(Maker("x"), name="here")).ask(1) == 1


def test_a_factory_without_a_hash_is_not_known():
    codes = KnownCodes()

    assert codes.known(Maker("x")) is None
    with pytest.raises(NotPortable, match=r"Maker\(word='x'\) makes actors, and another process cannot import it"):
        codes.of(Maker("x"))
