"""A link whose event loop is held, and what is asked of a call that ends in that very moment."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio
import trio.testing

from actors import Actor, HostLost
from runtime import open_runtime
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import Processes
from runtime.placement.guardian_line import BEAT, GuardianLine
from runtime.placement.link import Link
from runtime.placement.protocol import Called, End, Peer, Settled
from runtime.testing.loopback_hosts import LoopbackHosts


class Holding(Actor[float]):
    """Holds the event loop of its host for so long: nothing is read or sent there."""

    clock: Any = None

    async def receive(self, message: float) -> int:
        for _ in range(10):
            self.clock.jump(message)
            await trio.sleep(0.01)
        return self.context.fence


@pytest.mark.parametrize("seconds", [7.0, 59.0, 61.0])
async def test_a_loop_that_was_held_reads_what_came_before_it_gives_the_other_side_up(seconds, autojump_clock, monkeypatch):
    """A host fences itself after 0.6 × 10 s without a word, and is given up after 60: of time in which the other listens."""
    monkeypatch.setattr(Holding, "clock", autojump_clock)
    events: list[Any] = []
    place = LoopbackHosts(2, by_name=True)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        for number in range(6):
            ref = await runtime.spawn(Holding, name=f"holding-{number}", place="cpu")
            assert await ref.ask(seconds) in (1, 2)
            await trio.sleep(0.1)
    assert not [event for event in events if isinstance(event, HostLostEvent)]


async def test_a_guardian_is_not_given_up_for_what_was_not_read(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    line = GuardianLine(near, 10.0)
    gone: list[str] = []
    async with trio.open_nursery() as nursery:

        async def carry() -> None:
            gone.append((await line.carry()).how)

        nursery.start_soon(carry)
        for _ in range(5):
            await trio.sleep(1.0)
            autojump_clock.jump(30.0)
            await far.send_all(BEAT)
        assert gone == []
        heard_at = trio.current_time()
    assert gone == ["nothing was heard of its guardian for 10 s"]
    assert trio.current_time() - heard_at == pytest.approx(10.0)


def lose(how: str, silent_s: float) -> HostLost:
    return HostLost(how, how=how, silent_s=silent_s)


async def test_what_is_asked_of_a_call_that_ends_in_that_moment_ends_too(autojump_clock):
    """Both come in one piece: the call has its answer, and no one is left to answer what was asked."""
    near, far = trio.testing.memory_stream_pair()
    link, other = Link(near, Peer(0.0), "the other side", lose), Peer(0.0)
    other.greet(1)
    ends: list[Settled] = []

    async def answer() -> None:
        while True:
            for each in other.receive(bytes(await far.receive_some()), 0.0):
                if isinstance(each, Called):
                    other.call(b"is there room?", about=each.id)
                    other.settle(each.id, End.VALUE, b"done")
                if isinstance(each, Settled):
                    ends.append(each)
            await far.send_all(other.take_outgoing())

    link.peer.greet(1)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await link.run(beat_s=1.0, silent_after_s=60.0)

        nursery.start_soon(run)
        nursery.start_soon(answer)
        assert await link.call(b"work") == b"done"
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert [each.end for each in ends] == [End.ENDED]


class Steps(trio.abc.Instrument):
    """Counts the turns of all tasks."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


class Same(Actor[int]):
    async def receive(self, message: int) -> int:
        return message


@pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems only")
async def test_an_ask_of_an_actor_on_a_host_takes_four_turns_of_tasks_here():
    """The asker, the actor, which sends it off itself, who reads the answer, and the actor again, which wakes the asker."""
    async with open_runtime(places={"cpu": Processes(1)}) as runtime:
        ref = await runtime.spawn(Same, place="cpu")
        for number in range(20):
            await ref.ask(number)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for number in range(200):
            assert await ref.ask(number) == number
        trio.lowlevel.remove_instrument(steps)
    assert steps.count / 200 < 4.5  # besides, there are signs of life
