"""Micro-benchmarks: one mechanism each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator
from typing import Any

import attrs

from actors import Actor, ActorRef, Request, RestartType
from tests.savina.conftest import not_killed
from tests.savina.randomness import PseudoRandom
from tests.savina.stage import Fate, Result, Stage

# State that must outlive a crash is no attribute of the actor: its factory is given the object that holds it.

# --- ping pong ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Start:
    pass


@attrs.frozen
class Exit:
    pass


@attrs.frozen
class PingMessage:
    sender: ActorRef[Any]


@attrs.frozen
class PongMessage:
    pass


@attrs.define
class Tally:
    count: int = 0


class Ping(Actor):
    def __init__(self, pong: ActorRef[Any], pings: int, done: Result[int]) -> None:
        self.pong, self.left, self.done = pong, pings, done

    async def receive(self, message: Start | PongMessage) -> None:
        if self.left:
            self.left -= 1
            await self.pong.tell(PingMessage(self.context.ref))
        else:
            self.done.set(await self.pong.ask(Total()))


@attrs.frozen
class Total(Request[int]):
    pass


class Pong(Actor):
    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    async def receive(self, message: PingMessage | Total) -> int:
        if isinstance(message, PingMessage):
            self.tally.count += 1
            await message.sender.tell(PongMessage())
        return self.tally.count


async def test_ping_pong(stage: Stage) -> None:
    pings, done = stage.size(2000, 200), Result[int]()
    pong = await stage.spawn(Pong, Tally(), hot=True)
    ping = await stage.spawn(Ping, pong, pings, done)

    await ping.tell(Start())

    assert await done.wait() == pings


# --- counting -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Increment:
    pass


class Counter(Actor):
    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    async def receive(self, message: Increment | Total) -> int:
        if isinstance(message, Increment):
            self.tally.count += 1
        return self.tally.count


class Producer(Actor):
    def __init__(self, counter: ActorRef[Any], messages: int, done: Result[int]) -> None:
        self.counter, self.messages, self.done = counter, messages, done

    async def receive(self, message: Start) -> None:
        for _ in range(self.messages):
            await self.counter.tell(Increment())
        self.done.set(await self.counter.ask(Total()))


async def test_counting(stage: Stage) -> None:
    messages, done = stage.size(50_000, 5000), Result[int]()
    counter = await stage.spawn(Counter, Tally(), hot=True)
    producer = await stage.spawn(Producer, counter, messages, done)

    await producer.tell(Start())

    assert await done.wait() == messages


# --- fork-join ----------------------------------------------------------------------------------------------------------


def compute() -> float:
    return math.sin(37.2) ** 2


class Worker(Actor):
    """Counts outside, because an incarnation that ends takes its own count along."""

    def __init__(self, tally: Tally, messages: int, done: Result[None]) -> None:
        self.tally, self.messages, self.done = tally, messages, done

    async def receive(self, message: Start) -> None:
        compute()
        self.tally.count += 1
        if self.tally.count == self.messages:
            self.done.set(None)
            self.context.stop()


async def test_fork_join_throughput(stage: Stage) -> None:
    messages, actors = stage.size(200, 50), 20
    tallies = [Tally() for _ in range(actors)]
    ends = [Result[None]() for _ in range(actors)]
    workers = [
        await stage.spawn(Worker, tally, messages, done, hot=not index, restart=RestartType.TRANSIENT)
        for index, (tally, done) in enumerate(zip(tallies, ends, strict=True))
    ]

    for _ in range(messages):
        for worker in workers:
            await worker.tell(Start())
    for done in ends:
        await done.wait()

    assert [tally.count for tally in tallies] == [messages] * actors


class Mayfly(Actor):
    """Lives for one message."""

    def __init__(self, ended: Tally, actors: int, done: Result[None]) -> None:
        self.ended, self.actors, self.done = ended, actors, done

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        yield  # a crash is raised here, and is no end
        self.ended.count += 1
        if self.ended.count == self.actors:
            self.done.set(None)

    async def receive(self, message: Start) -> None:
        compute()
        self.context.stop()


async def test_fork_join_creation(stage: Stage) -> None:
    actors, ended, done = stage.size(2000, 300), Tally(), Result[None]()

    for _ in range(actors):
        mayfly = await stage.spawn(Mayfly, ended, actors, done, hot=True, restart=RestartType.TRANSIENT)
        await mayfly.tell(Start())
    await done.wait()

    assert ended.count == actors


# --- thread ring --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Token:
    left: int


@attrs.frozen
class Leave:
    left: int


class Node(Actor):
    """Knows its neighbour by name: an address outlives every incarnation."""

    def __init__(self, index: int, ring: int, hops: Tally, exits: Tally, done: Result[None]) -> None:
        self.ring, self.following = ring, f"node-{(index + 1) % ring}"
        self.hops, self.exits, self.done = hops, exits, done

    async def receive(self, message: Token | Leave) -> None:
        following = self.context.runtime.whereis(self.following)
        match message:
            case Token(0):
                await following.tell(Leave(self.ring))
            case Token(left):
                self.hops.count += 1
                await following.tell(Token(left - 1))
            case Leave(left):
                self.exits.count += 1
                if left > 1:
                    await following.tell(Leave(left - 1))
                else:
                    self.done.set(None)


async def test_thread_ring(stage: Stage) -> None:
    ring, rounds = 100, stage.size(5000, 4300)
    hops, exits, done = Tally(), Tally(), Result[None]()
    nodes = [
        await stage.spawn(Node, index, ring, hops, exits, done, name=f"node-{index}", hot=index == 7) for index in range(ring)
    ]

    await nodes[0].tell(Token(rounds))
    await done.wait()

    assert (hops.count, exits.count) == (rounds, ring)


# --- chameneos ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Meet:
    colour: int
    creature: ActorRef[Any]


@attrs.frozen
class Change:
    colour: int


@attrs.define
class MallState:
    left: int
    waiting: ActorRef[Any] | None = None
    counts: list[int] = attrs.field(factory=list)


@attrs.frozen
class Count:
    meetings: int


class Mall(Actor):
    def __init__(self, state: MallState, creatures: int, done: Result[int]) -> None:
        self.state, self.creatures, self.done = state, creatures, done

    async def receive(self, message: Meet | Count) -> None:
        state = self.state
        if isinstance(message, Count):
            state.counts.append(message.meetings)
            if len(state.counts) == self.creatures:
                self.done.set(sum(state.counts))
        elif not state.left:
            await message.creature.tell(Exit())
        elif state.waiting is None:
            state.waiting = message.creature
        else:
            first, state.waiting = state.waiting, None
            state.left -= 1
            await first.tell(message)


class Creature(Actor):
    def __init__(self, mall: ActorRef[Any], colour: int) -> None:
        self.mall, self.colour, self.meetings = mall, colour, 0

    async def receive(self, message: Start | Meet | Change | Exit) -> None:
        match message:
            case Exit():
                await self.mall.tell(Count(self.meetings))
                return
            case Meet(colour, other):
                self._become(self.colour if self.colour == colour else 3 - self.colour - colour)
                await other.tell(Change(self.colour))
            case Change(colour):
                self._become(colour)
            case Start():
                pass
        await self.mall.tell(Meet(self.colour, self.context.ref))

    def _become(self, colour: int) -> None:
        self.colour = colour
        self.meetings += 1


async def test_chameneos(stage: Stage) -> None:
    creatures, meetings, done = 20, stage.size(2000, 300), Result[int]()
    mall = await stage.spawn(Mall, MallState(meetings), creatures, done, hot=True)

    for index in range(creatures):
        creature = await stage.spawn(Creature, mall, index % 3)
        await creature.tell(Start())

    assert await done.wait() == 2 * meetings


# --- big ----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class BigPing:
    sender: int


@attrs.frozen
class BigPong:
    sender: int


@attrs.define
class Chatter:
    """What one actor of the crowd knows."""

    draw: PseudoRandom
    left: int
    expected: int | None = None
    answered: int = 0


class Neighbour(Actor):
    def __init__(self, index: int, crowd: list[ActorRef[Any]], state: Chatter, sink: ActorRef[Any]) -> None:
        self.index, self.crowd, self.state, self.sink = index, crowd, state, sink

    async def receive(self, message: Start | BigPing | BigPong) -> None:
        state = self.state
        match message:
            case BigPing(sender):
                await self.crowd[sender].tell(BigPong(self.index))
                return
            case BigPong(sender):
                assert sender == state.expected, f"pong of {sender}, expected {state.expected}"
                state.answered += 1
            case Start():
                pass
        if state.left:
            state.left -= 1
            state.expected = state.draw.next_int(len(self.crowd))
            await self.crowd[state.expected].tell(BigPing(self.index))
        else:
            await self.sink.tell(Exit())


class Sink(Actor):
    def __init__(self, tally: Tally, crowd: int, done: Result[None]) -> None:
        self.tally, self.crowd, self.done = tally, crowd, done

    async def receive(self, message: Exit) -> None:
        self.tally.count += 1
        if self.tally.count == self.crowd:
            self.done.set(None)


async def test_big(stage: Stage) -> None:
    """Everybody tells everybody: a cycle, so the crowd's mailboxes have no bound."""
    pings, size, done = stage.size(300, 50), 20, Result[None]()
    crowd: list[ActorRef[Any]] = []
    states = [Chatter(PseudoRandom(index), pings) for index in range(size)]
    sink = await stage.spawn(Sink, Tally(), size, done)
    for index, state in enumerate(states):
        crowd.append(await stage.spawn(Neighbour, index, crowd, state, sink, hot=True, on_cycle=True))

    for neighbour in crowd:
        await neighbour.tell(Start())
    await done.wait()

    assert [state.answered for state in states] == [pings] * size


@not_killed("the stage is looked at, not the program")
async def test_a_stage_that_kills_nobody_uses_the_actor_as_it_is(stage: Stage) -> None:
    assert stage.hot(Mall) is Mall
    assert Fate().left == 0
