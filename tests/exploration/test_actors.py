"""What the runtime promises of actors, mailboxes and supervisors, under every schedule and with faults."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    Backoff,
    ChildSpec,
    MailboxSpec,
    Redelivery,
    Request,
    Strategy,
    Supervision,
)
from runtime.testing import FaultPlan, MessageLedger, Simulation, assert_conserved, explore, no_orphans

PATIENT = Supervision(max_restarts=1000, backoff=Backoff(first_s=0.1, jitter=0.5))


@attrs.frozen
class Echo(Request[int]):
    number: int


@attrs.frozen
class Note:
    sender: str
    number: int


class Listener(Actor):
    def __init__(self, heard: list[Note]) -> None:
        self.heard = heard

    async def receive(self, message: Echo | Note) -> int | None:
        await trio.lowlevel.checkpoint()
        if isinstance(message, Echo):
            return message.number
        self.heard.append(message)
        return None


@explore(runs=100)
async def test_messages_of_one_sender_are_handled_in_their_order(sim: Simulation) -> None:
    heard: list[Note] = []
    async with sim.open_runtime() as runtime:
        listener = await runtime.spawn(Listener, heard, name="listener", mailbox=MailboxSpec(capacity=2))

        async def send(name: str) -> None:
            for number in range(4):
                await listener.tell(Note(name, number))

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(send, name)
        await listener.ask(Echo(0))

    for name in "abc":
        assert [note.number for note in heard if note.sender == name] == [0, 1, 2, 3]


@explore(runs=100)
async def test_an_ask_always_ends_whatever_fault_strikes_its_actor(sim: Simulation) -> None:
    ends = 0
    async with sim.open_runtime(supervision=PATIENT) as runtime:
        FaultPlan.drawn(sim, ["listener"], faults=2).install(runtime)
        listener = await runtime.spawn(Listener, [], name="listener", redelivery=Redelivery(max_attempts=2))

        async def ask(number: int) -> None:
            nonlocal ends
            with trio.move_on_after(5):
                with suppress(ActorFailed, ActorStopped):
                    assert await listener.ask(Echo(number)) in (number, None)
            ends += 1

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(ask, number)

    assert ends == 4


@explore(runs=100)
async def test_no_message_is_lost_or_handled_twice_when_an_actor_crashes_and_is_stopped(sim: Simulation) -> None:
    async with sim.open_runtime(supervision=PATIENT) as runtime:
        ledger = MessageLedger(runtime)
        FaultPlan().crash("listener", on_message=1 + sim.choose(4)).install(runtime)
        listener = await runtime.spawn(Listener, [], name="listener", mailbox=MailboxSpec(capacity=2))

        async def send(name: str) -> None:
            for number in range(3):
                await listener.tell(ledger.sent(Note(name, number)))

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(send, name)
            if sim.choose(2):
                await runtime.stop(listener)
        await runtime.stop(listener)

        assert_conserved(ledger)


class Opened(Actor):
    """Counts itself among the open ones."""

    open = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        Opened.open += 1
        try:
            await trio.lowlevel.checkpoint()
            yield
        finally:
            Opened.open -= 1

    async def receive(self, message: object) -> None:
        raise RuntimeError("crash")


@explore(runs=100)
async def test_every_lifespan_that_was_entered_is_left_and_no_task_stays(sim: Simulation) -> None:
    Opened.open = 0
    supervision = Supervision(list(Strategy)[sim.choose(3)], max_restarts=2, backoff=Backoff(first_s=0.1, jitter=0))
    with no_orphans():
        try:
            async with sim.open_runtime(supervision=PATIENT) as runtime:
                children = [ChildSpec(name, Opened) for name in "abc"]
                await runtime.supervise(children, supervision, name="group")
                for _ in range(sim.choose(5)):
                    ref = runtime.whereis(f"group/{'abc'[sim.choose(3)]}")
                    if ref is not None:
                        ref.tell_nowait("go")  # type: ignore[union-attr]
                    await trio.sleep(0.05 * sim.choose(4))
        finally:
            assert Opened.open == 0


@explore(runs=100)
async def test_a_cancelled_ask_leaves_nothing_behind(sim: Simulation) -> None:
    async with sim.open_runtime() as runtime:
        listener = await runtime.spawn(Listener, [], name="listener", mailbox=MailboxSpec(capacity=1))
        scopes = [trio.CancelScope(), trio.CancelScope()]

        async def impatient(scope: trio.CancelScope) -> None:
            with scope:
                await listener.ask(Echo(1))

        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(impatient, scope)
            for scope in scopes:
                await trio.lowlevel.checkpoint()
                scope.cancel()

        assert await listener.ask(Echo(2)) == 2
        assert listener.statistics().mailbox.depth == 0
