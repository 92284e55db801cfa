"""Placed nodes on loopback hosts: the same as at home, and what becomes of them when a host is lost."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    DeclarationError,
    Dep,
    DepError,
    Graph,
    GraphInvalid,
    HostLost,
    HostRefused,
    MailboxSpec,
    NodeTimedOut,
    NotPortable,
    PlaceUnavailable,
    Recall,
    RemoteError,
    Run,
    RunFailed,
    Turn,
    UsageError,
)
from runtime import ActorRestarting, NodeReported, open_runtime
from runtime.placement import Here, HostStarted
from runtime.placement import HostLost as HostLostEvent
from runtime.placement.call_payloads import likeness
from runtime.placement.host import serving
from runtime.testing import ScriptedLM
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.benchmarks.hosted_works import Pile, piles
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of, leaves, living
from tests.runtime.placement import parts
from tests.runtime.placement.parts import Grade, Paper


@pytest.fixture(autouse=True)
def clear() -> None:
    parts.log.clear()


def without_times(event: object) -> object:
    return attrs.evolve(event, at_s=0.0)  # type: ignore[misc]  # every event is an attrs class


async def test_a_graph_gives_the_same_output_and_trace_at_home_and_on_hosts(virtual_clock):
    seen = []
    for place in (Here(), LoopbackHosts(2, by_name=True), LoopbackHosts(3, by_name=True, delay_s=0.2, seed=4)):
        async with open_runtime(places={"cpu": place}, seed=1) as runtime:
            handle = await runtime.start(parts.graph, Paper(5, nap_s=1.0))
            output = await handle.result()
            seen.append((output, sorted((step.path, step.attempt, step.status) for step in handle.trace)))

    assert seen[0][0] == Grade((0, 1, 2, 3, 4), 1, "of 5")
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


async def test_dependencies_live_on_each_host_and_are_left_before_the_run_is_over(virtual_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2, by_name=True)}) as runtime:
        with_reports = [event async for event in reports(runtime, Paper(4, nap_s=1.0))]
        assert parts.log == ["open", "open", "close", "close"]

    assert sorted(with_reports) == [f"page {number} from the shelf of 4" for number in range(4)]


async def reports(runtime, paper):
    async with runtime.stream(parts.graph, paper) as events:
        async for event in events:
            if isinstance(event, NodeReported):
                yield event.text


async def test_an_error_comes_with_its_class_its_words_and_the_traceback_of_the_host(virtual_clock):
    async def plain(ask: Ask) -> Done:
        raise ValueError(f"wrong {ask.n}")

    async with open_runtime(places={"cpu": LoopbackHosts(by_name=True), "any": LoopbackHosts()}) as runtime:
        with pytest.raises(RunFailed) as torn:
            await runtime.run(parts.graph, Paper(3, odd=1))
        with pytest.raises(RunFailed) as wrong:
            await runtime.run(graph_of(plain, place="any"), Ask(4))

    error = leaves(torn.value)[0].__cause__
    assert isinstance(error, RemoteError)
    assert error.kind == "tests.runtime.placement.parts:Odd"
    assert error.text == "page 1 is torn"
    assert 'raise Odd(f"page {number} is torn")' in error.trace
    assert str(error).startswith("Odd was raised on host 'host-1' of place 'cpu': page 1 is torn\n  Fix: ")
    cause = leaves(wrong.value)[0].__cause__
    assert (type(cause), str(cause)) == (ValueError, "wrong 4")
    assert "Raised on host 'host-1' of place 'any'" in getattr(cause, "__notes__", [""])[0]


async def test_a_lost_host_fails_what_was_out_there_and_redelivery_makes_it_good_elsewhere(virtual_clock):
    place, events = LoopbackHosts(2, by_name=True), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        handle = await runtime.start(parts.graph, Paper(20, nap_s=5.0))
        await trio.sleep(2)

        place.kill("host-1")

        assert (await handle.result()).marks == tuple(range(20))
        attempts = [step.attempt for step in handle.trace if step.node == "mark"]
    assert sorted(set(attempts)) == [1, 2]
    lost = [event for event in events if isinstance(event, HostLostEvent)]
    assert [(event.place, event.host, event.how, event.silent_s) for event in lost] == [
        ("cpu", "host-1", "its process was killed", 0.0)
    ]
    restarts = [event.address for event in events if isinstance(event, ActorRestarting) and "places" in event.address]
    assert restarts == ["places/cpu/host-1"]
    started = [event.host for event in events if isinstance(event, HostStarted)]
    assert sorted(started) == ["host-1", "host-1", "host-2"]
    assert sorted(event.incarnation for event in events if isinstance(event, HostStarted)) == [1, 2, 3]


async def test_without_redelivery_the_node_fails_with_the_host_named(virtual_clock):
    async def nap(ask: Ask) -> Done:
        await trio.sleep(60)
        return Done()

    place = LoopbackHosts()
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(kill_in, place, "host-1", 3)
        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph_of(nap, place="cpu"), Ask())

    error = leaves(failure.value)[0].__cause__
    assert isinstance(error, HostLost)
    assert str(error).startswith("host 'host-1' of place 'cpu' is lost: its process was killed.\n  Fix: ")
    assert (error.place, error.host, error.incarnation) == ("cpu", "host-1", 1)


async def kill_in(place: LoopbackHosts, host: str, seconds: float) -> None:
    await trio.sleep(seconds)
    place.kill(host)


@pytest.mark.parametrize(("fault", "after_s"), [("freeze", 10.0), ("stop", 20.0)])
async def test_a_silent_host_is_lost_after_the_time_for_its_machine_or_for_its_loop(fault, after_s, virtual_clock):
    place, events = LoopbackHosts(by_name=True, stuck_after_s=20.0, dead_after_s=10.0), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        handle = await runtime.start(parts.graph, Paper(2, nap_s=1.0))
        await trio.sleep(0.5)
        silent_since = trio.current_time()

        getattr(place, fault)("host-1")

        assert (await handle.result()).marks == (0, 1)
    (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.silent_s == pytest.approx(after_s, abs=1.1)
    assert lost.at_s - silent_since == pytest.approx(after_s, abs=1.1)
    assert lost.how.startswith("nothing was heard of ")


async def test_cancelling_a_run_ends_its_work_on_the_host_before_it_returns(virtual_clock):
    ended = []

    async def nap(ask: Ask) -> Done:
        try:
            await trio.sleep(math.inf)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            ended.append(ask.n)
        return Done()

    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        graph = graph_of(nap, place="cpu")
        await runtime.deploy(graph)
        before = living()
        with trio.move_on_after(1) as scope:
            await runtime.run(graph, Ask(3))

        assert ended == [3]
        assert scope.cancelled_caught
        assert living() == before
        assert trio.current_time() == pytest.approx(3)


async def test_what_does_not_end_when_it_is_cancelled_costs_its_host(virtual_clock):
    async def stubborn(ask: Ask) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
        return Done()

    place, events = LoopbackHosts(cancel_grace_s=5.0), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        with trio.move_on_after(1):
            await runtime.run(graph_of(stubborn, place="cpu"), Ask())

        assert trio.current_time() == pytest.approx(6)
        await trio.sleep(1)
        (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.how == "what was cancelled there had not ended 5 s later, so it was killed"


async def test_timeout_sleep_once_and_heartbeat_of_a_node_work_from_a_host(virtual_clock):
    calls = []

    async def slow(ask: Ask) -> Part:
        await trio.sleep(100)
        return Part()

    async def fallback(ask: Ask, run: Run) -> Part:
        return Part(ask.n)

    async def careful(part: Part, run: Run) -> Done:
        for _ in range(5):
            await run.sleep(2)
            run.heartbeat()
        first = await run.once("charge", charge, part)
        second = await run.once("charge", charge, part)
        return Done((first, second, run.key, run.attempt, run.steps_left > 5, run.fence))

    async def charge(part: Part) -> Part:
        calls.append(part)
        return Part(part.n + len(calls))

    graph = Graph("g", input=Ask, output=Done)
    graph.node(place="cpu", timeout_s=3, fallback=fallback)(slow)
    graph.node(place="cpu", idle_timeout_s=4)(careful)
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        done = await runtime.run(graph, Ask(7), run_id="r")

    assert done == Done((Part(8), Part(9), "r/g/careful/0", 1, True, 1))
    assert calls == [Part(7), Part(7)]


async def test_an_attempt_that_is_over_its_time_has_ended_on_the_host(virtual_clock):
    async def slow(ask: Ask) -> Done:
        await trio.sleep(100)
        return Done()

    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph_of(slow, place="cpu", timeout_s=3), Ask())

    assert isinstance(leaves(failure.value)[0].__cause__, NodeTimedOut)


async def test_a_stream_waits_for_room_and_what_the_run_raises_comes_back_as_it_was(virtual_clock):
    yielded = []

    async def many(ask: Ask) -> AsyncIterator[Part]:
        for n in range(6):
            yielded.append(n)
            yield Part(n)

    async def few(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n)

    async def all_of(others: list[Other]) -> Done:
        return Done([each.n for each in others])

    graph = Graph("g", input=Ask, output=Done)
    graph.node(place="cpu")(many)
    graph.node(place="cpu", concurrency=1, mailbox=MailboxSpec(capacity=1))(few)
    graph.node(all_of)
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        handle = await runtime.start(graph, Ask())
        await trio.sleep(0.5)
        assert len(yielded) < 6

        assert await handle.result() == Done([0, 1, 2, 3, 4, 5])


async def test_no_host_in_time_fails_the_node_and_not_the_runtime(virtual_clock):
    async def quick(ask: Ask) -> Done:
        return Done(ask.n)

    place = LoopbackHosts(start_timeout_s=9.0)
    async with open_runtime(places={"cpu": place}) as runtime:
        graph = graph_of(quick, place="cpu")
        assert await runtime.run(graph, Ask(1)) == Done(1)
        place.hold_back("host-1")
        place.kill("host-1")
        await trio.sleep(1)
        began = trio.current_time()

        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph, Ask(2))

        assert trio.current_time() - began == pytest.approx(9)
        error = leaves(failure.value)[0].__cause__
        assert isinstance(error, PlaceUnavailable)
        assert str(error).startswith("place 'cpu' has had no host for start_timeout_s=9.\n  Fix: ")
        place.let_start()
        await trio.sleep(40)
        assert await runtime.run(graph, Ask(3)) == Done(3)


async def test_a_value_that_cannot_travel_fails_its_sender_and_costs_no_host(virtual_clock):
    @attrs.frozen
    class Holds:
        what: object

    async def make(ask: Ask) -> Holds:
        return Holds(print)

    async def take(holds: Holds) -> Done:
        return Done()

    graph = Graph("g", input=Ask, output=Done)
    graph.node(make)
    graph.node(place="cpu")(take)
    place = LoopbackHosts()
    async with open_runtime(places={"cpu": place}) as runtime:
        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph, Ask())

    error = leaves(failure.value)[0].__cause__
    assert isinstance(error, NotPortable)
    assert str(error).startswith("what node 'take' takes cannot go to another process: field 'what' of a Holds")
    assert place.started == ["host-1"]


async def test_a_dependency_that_fails_on_a_host_is_a_dep_error_as_at_home(virtual_clock):
    async def broken(ask: Ask) -> int:
        raise KeyError("no such shelf")

    async def needs(ask: Ask, shelf: Annotated[int, Dep(broken)]) -> Done:
        return Done(shelf)

    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph_of(needs, place="cpu"), Ask())

    error = leaves(failure.value)[0].__cause__
    assert isinstance(error, DepError)
    assert (error.node, error.parameter, type(error.__cause__)) == ("needs", "shelf", KeyError)


async def test_hosts_with_other_code_are_rejected_by_the_names_that_differ(virtual_clock, monkeypatch):
    found = parts.graph.plan().nodes["mark"]
    place = LoopbackHosts(by_name=True)
    monkeypatch.setattr(
        "runtime.testing.loopback_hosts.imported_node",
        lambda name, node: attrs.evolve(found, name=node, outputs=(parts.Grade,)),
    )
    async with open_runtime(places={"cpu": place}) as runtime:
        with pytest.raises(HostRefused, match=r"^host 'host-1' of place 'cpu' is not used: it has other code for ") as failure:
            await runtime.run(parts.graph, Paper(1))

    assert "node 'mark'" in failure.value.differing


async def quick(ask: Ask) -> Done:
    return Done(ask.n)


def second() -> Graph[Ask, Done]:
    graph = Graph("second", input=Ask, output=Done)

    @graph.node(place="cpu")
    async def later(ask: Ask) -> Done:
        return Done(-ask.n)

    return graph


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])
async def test_a_graph_that_is_deployed_while_a_host_starts_again_is_known_there(after_s: float, virtual_clock):
    place = LoopbackHosts(delay_s=2.0, seed=1)
    async with open_runtime(places={"cpu": place}, seed=1) as runtime:
        await runtime.deploy(graph_of(quick, place="cpu"))
        place.kill("host-1")
        await trio.sleep(after_s)

        assert await runtime.run(second(), Ask(1)) == Done(-1)
    assert place.started == ["host-1", "host-1"]  # once more, and not rejected for what it was not asked about


async def test_a_graph_that_hosts_reject_keeps_them_from_nothing_else(virtual_clock, monkeypatch):
    def of_other_code(spec: Any) -> Any:
        return {**likeness(spec), **({"node 'later'": "of another release"} if spec.name == "later" else {})}

    monkeypatch.setattr(serving, "likeness", of_other_code)
    place, graph = LoopbackHosts(), graph_of(quick, place="cpu")
    async with open_runtime(places={"cpu": place}) as runtime:
        assert await runtime.run(graph, Ask(1)) == Done(1)
        with pytest.raises(HostRefused, match="node 'later'"):
            await runtime.deploy(second())
        place.kill("host-1")
        await trio.sleep(0.1)

        assert await runtime.run(graph, Ask(2)) == Done(2)


async def test_a_place_that_is_not_there_names_every_node_its_line_and_the_fix(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError) as failure:
            await runtime.deploy(parts.graph)
        with pytest.raises(UsageError, match=r"^'a' has place='gpu', and this runtime has none\.\n  Fix: open_runtime"):
            await runtime.spawn(Idle, name="a", place="gpu")
    words = str(failure.value)
    assert words.startswith("graph 'grading' names places that this runtime does not have; it was opened without places:\n")
    assert words.count("place='cpu'") == 3
    assert "parts.py:" in words
    assert words.endswith(
        "  Fix: open_runtime(places={'cpu': Here()}), where Here() of runtime.placement runs them in this process."
    )


async def test_all_that_keeps_nodes_from_their_place_is_told_together(virtual_clock):
    async def first(ask: Ask, turns: Annotated[list[Turn], Recall(conversation=True)]) -> Part:
        return Part()

    async def second(part: Part) -> Done:
        return Done()

    graph = graph_of(first, second, place="cpu")
    async with open_runtime(lm=ScriptedLM([]), places={"cpu": LoopbackHosts(by_name=True)}) as runtime:
        with pytest.raises(GraphInvalid) as failure:
            await runtime.deploy(graph)

    codes = [(problem.node, problem.code) for problem in failure.value.problems]
    assert codes == [("first", "placed-parameter"), ("first", "placed-name"), ("second", "placed-name")]
    assert "first is defined within test_all_that_keeps_nodes_from_their_place_is_told_together()" in str(failure.value)


async def test_actors_with_a_place_live_here_where_the_place_is_here(virtual_clock):
    async with open_runtime(places={"gpu": Here()}) as runtime:
        ref = await runtime.spawn(Idle, name="a", place="gpu")

        assert await ref.ask("ping") == "ping"


class Idle(Actor):
    async def receive(self, message):
        return message


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["cpu"], "open_runtime(places=['cpu']): expected a mapping from names to places."),
        ({"a/b": Here()}, "open_runtime(places=…): 'a/b' cannot name a place."),
        ({"cpu": Here}, "open_runtime(places={'cpu': <class 'runtime.placement.places.Here'>}): expected a place."),
        ({"cpu": 4}, "open_runtime(places={'cpu': 4}): expected a place."),
    ],
)
async def test_what_is_no_place_is_said_with_the_line_to_write(places, words):
    with pytest.raises(DeclarationError) as failure:
        async with open_runtime(places=places):
            pass

    assert str(failure.value).startswith(words)


async def test_hosts_that_are_lost_at_any_piece_of_a_stream_lose_no_call(virtual_clock):
    """Seeded losses and delays: every run ends with its output or with the loss named, and nothing stays alive."""
    ends: list[Any] = []
    for seed, losses in enumerate([0, 0.02, 0.03, 0.05]):
        place = LoopbackHosts(2, by_name=True, seed=seed, losses=losses, delay_s=0.3)
        async with open_runtime(places={"cpu": place}, seed=seed) as runtime:
            try:
                ends.append((await runtime.run(parts.graph, Paper(6, nap_s=1.0))).marks)
            except RunFailed as failure:
                ends += [type(leaf.__cause__) for leaf in leaves(failure)]
    assert ends[0] == (0, 1, 2, 3, 4, 5)
    assert set(ends) <= {(0, 1, 2, 3, 4, 5), HostLost, PlaceUnavailable}


async def test_a_fan_out_keeps_the_windows_of_all_hosts_full(autojump_clock):
    """In virtual time nothing but waiting takes any, so what a fan-out takes beyond its naps is room that was left empty."""
    async with open_runtime(places={"cpu": LoopbackHosts(8, window=50)}) as runtime:
        graph = piles("cpu", 8 * 50)
        await runtime.deploy(graph)
        began = trio.current_time()
        done = await runtime.run(graph, Pile(1200, nap_s=0.1))
    assert done.count == 1200
    assert trio.current_time() - began == pytest.approx(1200 / 400 * 0.1)
