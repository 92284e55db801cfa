from __future__ import annotations

import re

import attrs
import pytest
import trio

from actors import Actor, Request
from runtime.testing import Deadlock, Livelock, Simulation, explore
from runtime.testing.schedules.strategies import InTurn, RandomWalk


@attrs.frozen
class Help(Request[str]):
    pass


class Silent(Actor):
    async def receive(self, message: object) -> object:
        await trio.sleep_forever()


def test_an_ask_that_nobody_answers_is_a_deadlock_that_names_both_sides() -> None:
    async def main() -> None:
        async with sim.open_runtime() as runtime:
            silent = await runtime.spawn(Silent, name="silent")
            await silent.ask(Help())

    sim = Simulation(InTurn())

    with pytest.raises(Deadlock) as caught:
        sim.run(main)

    lines = str(caught.value).splitlines()
    assert re.fullmatch(r"nothing can run and no deadline is pending, at 0 s, after \d+ steps:", lines[0])
    assert re.fullmatch(r"  main waits for the answer of 'silent' to its Help   \[test_simulation\.py:\d+ in main\]", lines[1])
    assert re.fullmatch(r"  silent waits for sleep_forever\(\)   \[test_simulation\.py:\d+ in receive\]", lines[2])


def test_a_deadlock_behind_a_shield_ends_the_run_too() -> None:
    async def main() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(Deadlock, match=r"main waits for sleep_forever\(\)"):
        Simulation(InTurn()).run(main)


def test_a_run_without_an_end_is_a_livelock_that_names_the_busiest() -> None:
    async def ping() -> None:
        while True:  # noqa: ASYNC110 - it is what never ends
            await trio.sleep(1)

    with pytest.raises(Livelock, match=r"^no end after 500 steps, at \d+ s\. The last 100 steps: ping \(100×\)\.") as caught:
        Simulation(InTurn(), max_steps=500).run(lambda: in_nursery(ping))

    assert "ping waits for sleep()" in str(caught.value)


async def in_nursery(function: object) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function)  # type: ignore[arg-type]


def test_a_livelock_that_swallows_its_cancellation_ends_all_the_same() -> None:
    async def main() -> None:
        with trio.CancelScope(shield=True):
            while True:
                await trio.lowlevel.checkpoint()

    with pytest.raises(Livelock):
        Simulation(InTurn(), max_steps=300).run(main)


def test_the_choices_of_a_run_repeat_it() -> None:
    async def main(sim: Simulation) -> None:
        async def work(name: str) -> None:
            for _ in range(sim.choose(3)):
                await trio.lowlevel.checkpoint()
            sim.note(name)

        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(work, name, name=name)

    from runtime.testing.schedules.strategies import Replay

    first = Simulation(RandomWalk(9), seed=9)
    first.run(lambda: main(first))
    again = Simulation(Replay(first.choices), seed=9)
    again.run(lambda: main(again))

    assert again.trace == first.trace
    assert again.choices == first.choices


def test_after_calm_the_schedule_is_fair() -> None:
    async def main(sim: Simulation) -> list[str]:
        order: list[str] = []

        async def work(name: str) -> None:
            for _ in range(3):
                order.append(name)
                await trio.lowlevel.checkpoint()

        sim.calm()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(work, name)
        return order

    sim = Simulation(RandomWalk(3))

    assert sim.run(lambda: main(sim)) == list("abcabcabc")


@explore(runs=50, timer_races=0.3)
async def test_with_timer_races_a_deadline_may_pass_while_tasks_can_run(sim: Simulation) -> None:
    with trio.move_on_after(1):
        for _ in range(5):
            await trio.lowlevel.checkpoint()
    RACED.append(trio.current_time())


RACED: list[float] = []


def test_some_of_those_runs_were_late_and_some_were_not() -> None:
    test_with_timer_races_a_deadline_may_pass_while_tasks_can_run()

    assert {0.0, 1.0} <= set(RACED)
