from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors import Actor, ActorFailed, Backoff, LMUnavailable, Redelivery, Request, Supervision
from actors.lm import Completion
from runtime import open_runtime
from runtime.lm.limits.cache import AnswerCache, MemoryCache
from runtime.testing import (
    Exploration,
    FaultPlan,
    InjectedFault,
    ScriptedLM,
    Simulation,
    cancel_at_every_checkpoint,
    find_failure,
    replay,
)
from runtime.testing.network import VirtualNetwork

SUPERVISION = Supervision(backoff=Backoff(first_s=1.0, jitter=0))


@attrs.frozen
class Add(Request[int]):
    number: int


class Sum(Actor):
    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.total = 0

    async def receive(self, message: Add) -> int:
        self.steps.append("begin")
        await trio.lowlevel.checkpoint()
        self.steps.append("middle")
        await trio.lowlevel.checkpoint()
        self.total += message.number
        return self.total


async def sums(plan: FaultPlan, *numbers: int, attempts: int = 1, steps: list[str] | None = None) -> list[object]:
    """The answers to `numbers`, one after the other, and when they came."""
    answers: list[object] = []
    async with open_runtime(seed=1, supervision=SUPERVISION) as runtime:
        plan.install(runtime)
        redelivery = Redelivery(max_attempts=attempts, backoff=Backoff(first_s=0.5, jitter=0))
        actor = await runtime.spawn(Sum, steps if steps is not None else [], name="sum", redelivery=redelivery)
        for number in numbers:
            with trio.move_on_after(60) as scope:
                try:
                    answers.append(await actor.ask(Add(number)))
                except ActorFailed as error:
                    answers.append(str(error.__cause__))
            if scope.cancelled_caught:
                answers.append("nothing")
    plan.assert_struck()
    return answers


async def test_an_actor_crashes_on_the_message_that_the_plan_says(virtual_clock: trio.testing.MockClock) -> None:
    plan = FaultPlan().crash("sum", on_message=2)

    assert await sums(plan, 1, 2, 3) == [1, "planned: crash 'sum' on message 2", 3]
    assert [str(fault) for fault in plan.struck] == ["crash 'sum' on message 2"]


async def test_a_crash_is_an_ordinary_failure_that_is_redelivered(virtual_clock: trio.testing.MockClock) -> None:
    assert await sums(FaultPlan().crash("sum"), 5, attempts=2) == [5]


async def test_an_actor_crashes_at_the_checkpoint_that_the_plan_says(virtual_clock: trio.testing.MockClock) -> None:
    steps: list[str] = []

    answers = await sums(FaultPlan().crash("sum", at_checkpoint=2), 1, steps=steps)

    assert answers == ["planned: crash 'sum' on message 1 at checkpoint 2"]
    assert steps == ["begin", "middle"]


@pytest.mark.parametrize(
    ("plan", "answers", "ended_s"),
    [
        (FaultPlan().drop("sum", on_message=2), [1, None, 3], 0.0),
        (FaultPlan().duplicate("sum", on_message=2), [1, 5, 7], 0.0),
        (FaultPlan().delay("sum", 5, on_message=2), [1, 3, 5], 5.0),
        (FaultPlan().block("sum", on_message=2), [1, "nothing", 3], 60.0),
    ],
    ids=["drop", "duplicate", "delay", "block"],
)
async def test_what_else_can_happen_to_a_message(
    plan: FaultPlan, answers: list[object], ended_s: float, virtual_clock: trio.testing.MockClock
) -> None:
    assert await sums(plan, 1, 2, 2) == answers
    assert trio.current_time() == ended_s


async def test_a_fault_that_never_came_about_fails_the_test(virtual_clock: trio.testing.MockClock) -> None:
    with pytest.raises(AssertionError, match=r"^these faults never came about: delay 'nobody' on message 1 by 2 s\.$"):
        await sums(FaultPlan().delay("nobody", 2), 1)


async def test_a_model_is_out_for_a_while(virtual_clock: trio.testing.MockClock) -> None:
    lm = FaultPlan().outage(10, 20).lm(ScriptedLM(lambda messages: "yes", model="fake"))
    answers: list[str] = []
    for _ in range(4):
        try:
            answers.append((await lm.chat([{"role": "user", "content": "?"}])).text)
        except LMUnavailable as error:
            answers.append(str(error))
        await trio.sleep(8)

    assert answers == ["yes", "yes", "planned: fake is out at 16 s.", "yes"]


async def test_work_is_cancelled_at_each_of_its_checkpoints_in_turn() -> None:
    seen: list[tuple[int, str]] = []
    steps: list[str] = []

    async def work() -> None:
        steps.clear()
        for name in "abc":
            steps.append(name)
            await trio.lowlevel.checkpoint()

    async def after(number: int) -> None:
        seen.append((number, "".join(steps)))

    # A plain checkpoint gives way once; it is cancelled when it is resumed, at a second stop of its own.
    assert await cancel_at_every_checkpoint(work, after) == 3
    assert seen == [(1, "a"), (2, "ab"), (3, "abc")]


async def fragile(sim: Simulation) -> None:
    async with sim.open_runtime() as runtime:
        plan = FaultPlan.drawn(sim, ["sum"], faults=3, messages=3).install(runtime)
        actor = await runtime.spawn(Sum, [], name="sum")
        for number in (1, 2, 3):
            with trio.move_on_after(60):
                await actor.ask(Add(number))
        assert not any(fault.kind == "duplicate" for fault in plan.struck)


def test_drawn_faults_are_replayed_and_shrunk_with_the_schedule() -> None:
    failure = find_failure(fragile)

    assert failure is not None
    again = replay(fragile, failure.schedule)
    assert again is not None
    assert again.steps == failure.steps


def plans(**options: Any) -> list[FaultPlan]:
    """What is drawn in sixty runs."""
    drawn: list[FaultPlan] = []

    async def draw(sim: Simulation) -> None:
        drawn.append(FaultPlan.drawn(sim, messages=3, **options))

    find_failure(draw, Exploration(runs=60))
    return drawn


def test_faults_of_every_kind_are_drawn_for_every_address_and_store() -> None:
    faults = [fault for plan in plans(addresses=["sum"], stores=["cache"], faults=2) for fault in plan.pending]

    assert {(fault.kind, fault.address) for fault in faults} == {
        *((kind, "sum") for kind in ("crash", "drop", "duplicate", "delay", "block")),
        ("read", "cache"),
        ("write", "cache"),
    }
    assert {fault.message for fault in faults} == {1, 2, 3}
    assert {len(plan.pending) for plan in plans(addresses=["sum"], faults=2)} == {0, 1, 2}


async def fragile_cache(sim: Simulation) -> None:
    """Believes that what was put into a cache is in it."""
    cache = FaultPlan.drawn(sim, stores=["cache"], faults=2, messages=2).cache(MemoryCache())
    with suppress(InjectedFault):
        cache.put("key", Completion(text="kept", model="m"))
    assert cache.get("key") is not None


def test_a_drawn_fault_of_a_store_is_found_and_made_simple() -> None:
    failure = find_failure(fragile_cache)

    assert failure is not None
    assert isinstance(failure.error, InjectedFault | AssertionError)
    assert (failure.overtakings, failure.own_choices) == (0, 1)
    assert " choices other than 0: 0 out of turn (marked *), 1 of the test's own or " in failure.report().splitlines()[0]


async def impatient(sim: Simulation) -> None:
    lm = FaultPlan.drawn(sim, faults=1, outage_s=60).lm(ScriptedLM(lambda messages: "yes"))
    for _ in range(6):
        await lm.chat([{"role": "user", "content": "?"}])
        await trio.sleep(10)


def test_a_model_that_is_out_is_drawn_too() -> None:
    failure = find_failure(impatient)

    assert failure is not None
    assert isinstance(failure.error, LMUnavailable)


async def hello(cache: AnswerCache) -> tuple[list[str], int]:
    """The answers to one question asked three times, with `cache`; and how often the provider was asked."""
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": "hello"})
    async with network.client("openai/gpt-4o-mini", cache=cache) as lm:
        answers = [(await lm.chat([{"role": "user", "content": "hi"}], temperature=0)).text for _ in range(3)]
    return answers, len(network.requests)


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        (FaultPlan(), 1),
        (FaultPlan().fail_write(), 2),
        (FaultPlan().fail_write(error=sqlite3.OperationalError("database or disk is full")), 2),
        (FaultPlan().fail_read(on_read=2, error=sqlite3.DatabaseError("database disk image is malformed")), 2),
        (FaultPlan().fail_read().fail_write(), 2),
    ],
    ids=["none", "write", "disk full", "damaged", "read and write"],
)
async def test_a_cache_that_fails_costs_a_request_and_no_call(
    plan: FaultPlan, asked: int, virtual_clock: trio.testing.MockClock
) -> None:
    answers, requests = await hello(plan.cache(MemoryCache()))

    assert (answers, requests) == (["hello"] * 3, asked)
    plan.assert_struck()


def test_a_fault_of_a_store_says_which() -> None:
    plan = FaultPlan().fail_write("answers", on_write=2)

    with pytest.raises(AssertionError, match=r"^these faults never came about: fail write 2 of 'answers'\.$"):
        plan.assert_struck()
