"""Incidents become cases, and a case runs again as it was."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors import Graph, UsageError
from runtime import open_runtime
from runtime.graphs.records.history import History
from runtime.graphs.records.journaling import details_of
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, explore, replays, run_in_virtual_time
from tests.runtime.testing.incidents import INCIDENTS, SHARED, Mood, Offer, Reply, Ticket, Topic, triage


def kept(name: str, folder: Path) -> tuple[Path, History]:
    history = run_in_virtual_time(INCIDENTS[name].happen)
    path = folder / "incident.jsonl"
    path.write_text(history.case(), encoding="utf-8")
    return path, history


def again(name: str, folder: Path, times: int) -> None:
    incident = INCIDENTS[name]
    case, history = kept(name, folder)

    assert incident.cause in str(details_of(history.records[-1])).replace("\\", "")
    for _ in range(times):
        SHARED.clear()
        replays(case, incident.graph(), taken=incident.taken)


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_replays_to_the_same_error(name, tmp_path):
    again(name, tmp_path, 1)


@pytest.mark.chaos
@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_replays_to_the_same_error_ten_times_of_ten(name, tmp_path):
    again(name, tmp_path, 10)


def test_a_graph_without_the_fault_does_not_replay_it(tmp_path):
    case, _ = kept("a poisoned input", tmp_path)
    mended = Graph("triage", input=Ticket, output=Reply)
    for node in ("topic", "mood"):
        mended.predict(lm="mood" if node == "mood" else None)(QUESTIONS[node])

    @mended.node
    async def reply(topic: Topic, mood: Mood) -> Reply:
        return Reply(f"{topic.name}, {mood.name}")

    with pytest.raises(AssertionError, match=r"it had failed with RunFailed at triage/reply/0 .*now it has succeeded with"):
        replays(case, mended)


async def topic(ticket: Ticket) -> Topic:
    """Say what the ticket is about."""
    raise NotImplementedError


async def mood(ticket: Ticket) -> Mood:
    """Say how its writer feels."""
    raise NotImplementedError


QUESTIONS = {"topic": topic, "mood": mood}


def test_another_prompt_is_not_in_the_record_and_the_node_is_named(tmp_path):
    case, _ = kept("a poisoned input", tmp_path)
    changed = Graph("triage", input=Ticket, output=Reply)

    @changed.predict
    async def topic(ticket: Ticket) -> Topic:
        """Say what the ticket is about, in one word."""
        raise NotImplementedError

    changed.predict(lm="mood")(mood)

    @changed.node
    async def reply(topic: Topic, mood: Mood) -> Reply:
        return Reply(f"{topic.name}, {mood.name}")

    with pytest.raises(AssertionError, match="triage/topic/0#1 asks its language model what isn't in the record"):
        replays(case, changed)


@attrs.frozen
class Two:
    first: str


def first_of_two(seen: list[str]) -> Graph[Ticket, Reply]:
    """Two calls that take the same time: which ends first is chance's."""
    graph: Graph[Ticket, Reply] = Graph("two", input=Ticket, output=Reply)

    @graph.predict
    async def left(ticket: Ticket) -> Topic:
        """Left."""
        raise NotImplementedError

    @graph.predict
    async def right(ticket: Ticket) -> Mood:
        """Right."""
        raise NotImplementedError

    @graph.node
    async def after_left(topic: Topic) -> Two:
        seen.append("left")
        return Two("left")

    @graph.node
    async def after_right(mood: Mood) -> Offer:
        seen.append("right")
        return Offer("right")

    @graph.node
    async def join(two: Two, offer: Offer) -> Reply:
        return Reply(seen[0])

    return graph


def test_what_ended_at_the_same_time_ends_in_the_recorded_order(tmp_path):
    path, orders = tmp_path / "case.jsonl", set[str]()

    async def record() -> str:
        lm = ScriptedLM({"Left": {"name": "l"}, "Right": {"name": "r"}}, latency_s=1.0)
        graph = first_of_two([])
        async with open_runtime(lm=lm, store=MemoryStore(), graphs=[graph]) as runtime:
            handle = await runtime.start(graph, Ticket("?"))
            found: Reply = await handle.result()
            path.write_text((await runtime.history(handle.id)).case())
        return found.text

    for _ in range(40):
        order = run_in_virtual_time(record)
        if order not in orders:
            orders.add(order)
            for _ in range(5):
                replays(path, first_of_two([]))
        if len(orders) == 2:
            break
    assert orders == {"left", "right"}


async def test_a_case_does_not_run_inside_of_trio(autojump_clock, tmp_path):
    history = await INCIDENTS["a poisoned input"].happen()
    (tmp_path / "case.jsonl").write_text(history.case())

    with pytest.raises(UsageError, match=r"Fix: write the test as a plain function"):
        replays(tmp_path / "case.jsonl", triage())


def test_a_node_that_is_taken_from_the_record_must_be_one(tmp_path):
    case, _ = kept("a host that is gone", tmp_path)

    with pytest.raises(UsageError, match="taken='fetched': graph 'hosting' has no such node"):
        replays(case, INCIDENTS["a host that is gone"].graph(), taken=["fetched"])


# --- around a case ------------------------------------------------------------------------------------------------------


async def recorded_race() -> History:
    """The run in which the left branch, whose model is faster, comes first."""
    lm = ScriptedLM({"Left": {"name": "l"}, "Right": {"name": "r"}}, latency_s={"Left": 1.0, "Right": 1.2})
    graph = first_of_two([])
    async with open_runtime(lm=lm, store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Ticket("?"))
        await handle.result()
        return await runtime.history(handle.id)


def test_exploration_begins_with_the_case_and_goes_around_it():
    orders: list[tuple[bool, str]] = []

    @explore(start=run_in_virtual_time(recorded_race), runs=20)
    async def around(case):
        orders.append((case.is_as_recorded, (await case.run(first_of_two([]))).text))

    around()

    assert orders[0] == (True, "left")
    assert {order for is_first, order in orders[1:] if not is_first} == {"left", "right"}


def test_a_failure_that_is_found_around_a_case_is_told():
    @explore(start=run_in_virtual_time(recorded_race), runs=50, shrink_attempts=20)
    async def around(case):
        assert (await case.run(first_of_two([]))).text == "left"

    with pytest.raises(AssertionError) as failed:
        around()
    assert "--understudy-replay" in "".join(failed.value.__notes__)


def test_a_case_and_the_parameter_for_it_go_together():
    with pytest.raises(UsageError, match="go together, and one is missing"):

        @explore(start=run_in_virtual_time(recorded_race))
        async def without() -> None: ...

    with pytest.raises(UsageError, match="there is no such file"):

        @explore(start="nowhere.jsonl")
        async def nowhere(case) -> None: ...
