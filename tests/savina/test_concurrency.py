"""Concurrency benchmarks: several parties around one arbiter."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import attrs

from actors import Actor, ActorRef, Request
from tests.savina.randomness import JavaRandom, PseudoRandom
from tests.savina.stage import Result, Stage


@attrs.frozen
class Start:
    pass


@attrs.frozen
class Exit:
    pass


def work(rounds: int) -> float:
    """What stands for production, consumption, a haircut or a cigarette."""
    return sum(math.log(1 + round_) for round_ in range(rounds))


@attrs.define
class Countdown:
    """Sets `done` when the last of `left` parties is through."""

    left: int
    done: Result[None]

    def tick(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set(None)


# --- concurrent dictionary ----------------------------------------------------------------------------------------------


@attrs.frozen
class Write(Request[int]):
    key: int
    value: int


@attrs.frozen
class Read(Request[int]):
    key: int


class Dictionary(Actor):
    def __init__(self, data: dict[int, int]) -> None:
        self.data = data

    async def receive(self, message: Write | Read) -> int:
        if isinstance(message, Write):
            self.data[message.key] = message.value
            return message.value
        return self.data[message.key]


class Client(Actor):
    def __init__(
        self, index: int, dictionary: ActorRef[Any], size: int, requests: int, answers: list[int], end: Countdown
    ) -> None:
        self.draw = JavaRandom(index + requests + 10)
        self.dictionary, self.size, self.requests, self.answers, self.end = dictionary, size, requests, answers, end

    async def receive(self, message: Start) -> None:
        for _ in range(self.requests):
            writes = self.draw.next_below(100) < 10
            key = abs(self.draw.next_int()) % self.size
            self.answers.append(await self.dictionary.ask(Write(key, key) if writes else Read(key)))
        self.end.tick()


async def test_concurrent_dictionary(stage: Stage) -> None:
    size, clients, requests = 4096, 20, stage.size(200, 30)
    data, answers, done = {key: key for key in range(size)}, list[int](), Result[None]()
    end = Countdown(clients, done)
    dictionary = await stage.spawn(Dictionary, data, hot=True)

    for index in range(clients):
        client = await stage.spawn(Client, index, dictionary, size, requests, answers, end)
        await client.tell(Start())
    await done.wait()

    assert (len(data), len(answers)) == (size, clients * requests)


# --- producers, consumers and a bounded buffer ------------------------------------------------------------------------------


@attrs.frozen
class Produce:
    pass


@attrs.frozen
class Item:
    value: float
    producer: ActorRef[Any] | None = None


@attrs.frozen
class ConsumerReady:
    consumer: ActorRef[Any]


@attrs.define
class Buffer:
    room: int
    consumers: int
    producers: int
    pending: deque[float] = attrs.field(factory=deque[float])
    idle_producers: deque[Any] = attrs.field(factory=deque[Any])
    idle_consumers: deque[Any] = attrs.field(factory=deque[Any])
    high_water: int = 0


class Manager(Actor):
    """Grants production while there is room for what all producers may have under way."""

    def __init__(self, state: Buffer, done: Result[None]) -> None:
        self.state, self.done = state, done

    async def receive(self, message: Item | ConsumerReady | Exit) -> None:
        state = self.state
        match message:
            case Item(value, producer):
                await self._stock(value, producer)
            case ConsumerReady(consumer):
                state.idle_consumers.append(consumer)
                await self._hand_out()
            case Exit():
                state.producers -= 1
        if not state.producers and not state.pending and len(state.idle_consumers) == state.consumers:
            self.done.set(None)

    async def _stock(self, value: float, producer: ActorRef[Any] | None) -> None:
        state = self.state
        state.pending.append(value)
        state.high_water = max(state.high_water, len(state.pending))
        state.idle_producers.append(producer)
        await self._hand_out()

    async def _hand_out(self) -> None:
        state = self.state
        if state.pending and state.idle_consumers:
            await state.idle_consumers.popleft().tell(Item(state.pending.popleft()))
        if state.idle_producers and len(state.pending) < state.room - state.producers:
            await state.idle_producers.popleft().tell(Produce())


class ItemProducer(Actor):
    def __init__(self, manager: ActorRef[Any], items: int) -> None:
        self.manager, self.left = manager, items

    async def receive(self, message: Produce) -> None:
        if self.left:
            self.left -= 1
            await self.manager.tell(Item(work(5), self.context.ref))
        else:
            await self.manager.tell(Exit())


class Consumer(Actor):
    def __init__(self, manager: ActorRef[Any], consumed: list[float]) -> None:
        self.manager, self.consumed = manager, consumed

    async def receive(self, message: Start | Item) -> None:
        if isinstance(message, Item):
            work(5)
            self.consumed.append(message.value)
        await self.manager.tell(ConsumerReady(self.context.ref))


async def test_producers_and_consumers_with_a_bounded_buffer(stage: Stage) -> None:
    parties, items = 8, stage.size(50, 20)
    state, consumed, done = Buffer(50, parties, parties), list[float](), Result[None]()
    manager = await stage.spawn(Manager, state, done, hot=True)
    producers = [await stage.spawn(ItemProducer, manager, items) for _ in range(parties)]
    consumers = [await stage.spawn(Consumer, manager, consumed) for _ in range(parties)]

    for consumer in consumers:
        await consumer.tell(Start())
    for producer in producers:
        await producer.tell(Produce())
    await done.wait()

    assert len(consumed) == parties * items
    assert state.high_water <= 50


# --- dining philosophers --------------------------------------------------------------------------------------------------


@attrs.frozen
class Hungry:
    seat: int
    philosopher: ActorRef[Any]


@attrs.frozen
class Done:
    seat: int


@attrs.frozen
class Eat:
    pass


@attrs.frozen
class Denied:
    pass


@attrs.define
class Table:
    forks: list[bool]
    """Whether fork `i`, left of seat `i`, is in use."""
    eating: set[int] = attrs.field(factory=set[int])
    meals: int = 0
    denials: int = 0


class Arbitrator(Actor):
    def __init__(self, table: Table) -> None:
        self.table = table

    async def receive(self, message: Hungry | Done) -> None:
        table, seats = self.table, len(self.table.forks)
        left, right = message.seat, (message.seat + 1) % seats
        if isinstance(message, Done):
            table.forks[left] = table.forks[right] = False
            table.eating.remove(left)
        elif table.forks[left] or table.forks[right]:
            table.denials += 1
            await message.philosopher.tell(Denied())
        else:
            assert not {(left - 1) % seats, right} & table.eating, "two neighbours eat together"
            table.forks[left] = table.forks[right] = True
            table.eating.add(left)
            table.meals += 1
            await message.philosopher.tell(Eat())


class Philosopher(Actor):
    """Asks again at once when denied: it keeps the arbitrator busy, and must not keep it from the others."""

    def __init__(self, seat: int, arbitrator: ActorRef[Any], rounds: int, end: Countdown) -> None:
        self.seat, self.arbitrator, self.left, self.end = seat, arbitrator, rounds, end

    async def receive(self, message: Start | Eat | Denied) -> None:
        if isinstance(message, Eat):
            await self.arbitrator.tell(Done(self.seat))
            self.left -= 1
            if not self.left:
                self.end.tick()
                return
        await self.arbitrator.tell(Hungry(self.seat, self.context.ref))


async def test_dining_philosophers(stage: Stage) -> None:
    seats, rounds = 5, stage.size(200, 50)
    table, done = Table([False] * seats), Result[None]()
    end = Countdown(seats, done)
    arbitrator = await stage.spawn(Arbitrator, table, hot=True)

    for seat in range(seats):
        philosopher = await stage.spawn(Philosopher, seat, arbitrator, rounds, end)
        await philosopher.tell(Start())
    await done.wait()

    assert table.meals == seats * rounds
    assert table.denials > 0


# --- sleeping barber ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Enter:
    customer: ActorRef[Any]


@attrs.frozen
class Full:
    customer: ActorRef[Any]


@attrs.frozen
class Seated:
    pass


@attrs.frozen
class HaircutStarted:
    pass


@attrs.frozen
class HaircutDone:
    pass


@attrs.frozen
class Next:
    pass


@attrs.define
class Room:
    seats: int
    waiting: deque[Any] = attrs.field(factory=deque[Any])
    barber_sleeps: bool = True
    high_water: int = 0
    rejected: int = 0


class WaitingRoom(Actor):
    """The original wakes the barber through a message to itself; that would block in a full mailbox, so it is a call."""

    def __init__(self, room: Room, barber: ActorRef[Any], factory: list[ActorRef[Any]]) -> None:
        self.room, self.barber, self.factory = room, barber, factory

    async def receive(self, message: Enter | Next) -> None:
        room = self.room
        if isinstance(message, Next):
            room.barber_sleeps = True
        elif len(room.waiting) == room.seats:
            room.rejected += 1
            await self.factory[0].tell(Full(message.customer))
        else:
            room.waiting.append(message.customer)
            room.high_water = max(room.high_water, len(room.waiting))
            await message.customer.tell(Seated())
        if room.barber_sleeps and room.waiting:
            room.barber_sleeps = False
            await self.barber.tell(Enter(room.waiting.popleft()))


class Barber(Actor):
    def __init__(self, room: list[ActorRef[Any]]) -> None:
        self.room, self.draw = room, PseudoRandom(1)

    async def receive(self, message: Enter) -> None:
        await message.customer.tell(HaircutStarted())
        work(self.draw.next_int(50) + 10)
        await message.customer.tell(HaircutDone())
        await self.room[0].tell(Next())


class Customer(Actor):
    def __init__(self, factory: ActorRef[Any], history: list[str]) -> None:
        self.factory, self.history = factory, history

    async def receive(self, message: Seated | HaircutStarted | HaircutDone) -> None:
        self.history.append(type(message).__name__)
        if isinstance(message, HaircutDone):
            await self.factory.tell(message)


class CustomerFactory(Actor):
    def __init__(self, stage: Stage, room: ActorRef[Any], histories: list[list[str]], end: Countdown) -> None:
        self.stage, self.room, self.histories, self.end = stage, room, histories, end

    async def receive(self, message: Start | Full | HaircutDone) -> None:
        match message:
            case Start():
                for history in self.histories:
                    await self.room.tell(Enter(await self.stage.spawn(Customer, self.context.ref, history)))
            case Full(customer):
                await self.room.tell(Enter(customer))
            case HaircutDone():
                self.end.tick()


async def test_sleeping_barber(stage: Stage) -> None:
    """The factory fills the room while the room sends customers back: a cycle, so the factory's mailbox has no bound."""
    haircuts, seats = stage.size(200, 60), 20
    room, rooms, factories, done = Room(seats), list[ActorRef[Any]](), list[ActorRef[Any]](), Result[None]()
    histories: list[list[str]] = [[] for _ in range(haircuts)]
    barber = await stage.spawn(Barber, rooms)
    rooms.append(await stage.spawn(WaitingRoom, room, barber, factories, hot=True))
    factories.append(await stage.spawn(CustomerFactory, stage, rooms[0], histories, Countdown(haircuts, done), on_cycle=True))

    await factories[0].tell(Start())
    await done.wait()

    assert histories == [["Seated", "HaircutStarted", "HaircutDone"]] * haircuts
    assert room.high_water <= seats


# --- cigarette smokers ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Smoke:
    rounds: int


@attrs.frozen
class StartedSmoking:
    pass


@attrs.define
class Cigarettes:
    left: int
    draw: PseudoRandom
    acknowledged: int = 0


class Arbiter(Actor):
    def __init__(self, state: Cigarettes, smokers: list[ActorRef[Any]], done: Result[None]) -> None:
        self.state, self.smokers, self.done = state, smokers, done

    async def receive(self, message: Start | StartedSmoking) -> None:
        state = self.state
        if isinstance(message, StartedSmoking):
            state.acknowledged += 1
        if state.left:
            state.left -= 1
            smoker = self.smokers[state.draw.next_int(len(self.smokers))]
            await smoker.tell(Smoke(state.draw.next_int(50) + 10))
        else:
            for smoker in self.smokers:
                await smoker.tell(Exit())
            self.done.set(None)


class Smoker(Actor):
    def __init__(self, arbiter: list[ActorRef[Any]]) -> None:
        self.arbiter = arbiter

    async def receive(self, message: Smoke | Exit) -> None:
        if isinstance(message, Smoke):
            await self.arbiter[0].tell(StartedSmoking())
            work(message.rounds)


async def test_cigarette_smokers(stage: Stage) -> None:
    rounds, smokers, arbiters, done = stage.size(200, 60), 20, list[ActorRef[Any]](), Result[None]()
    state = Cigarettes(rounds, PseudoRandom(rounds * smokers))
    refs = [await stage.spawn(Smoker, arbiters) for _ in range(smokers)]
    arbiters.append(await stage.spawn(Arbiter, state, refs, done, hot=True))

    await arbiters[0].tell(Start())
    await done.wait()

    assert state.acknowledged == rounds
