"""Parallelism benchmarks in which values stream through a fixed network of actors, and the search on a graph."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import Any

import attrs
import pytest

from actors import Actor, ActorRef
from tests.savina.conftest import not_killed
from tests.savina.randomness import JavaRandom, PseudoRandom
from tests.savina.stage import Result, Stage

# A filter, a joiner or a cell is what it has seen; a new incarnation of it would be another one. So nobody is struck here,
# but for the search, whose state is on the graph.


# --- filter bank --------------------------------------------------------------------------------------------------------


class Delay(Actor):
    def __init__(self, length: int, following: ActorRef[Any]) -> None:
        self.buffer, self.following = deque([0.0] * length), following

    async def receive(self, message: float) -> None:
        self.buffer.append(message)
        await self.following.tell(self.buffer.popleft())


class FirFilter(Actor):
    """Silent until it has seen as many values as it has coefficients."""

    def __init__(self, coefficients: list[float], following: ActorRef[Any]) -> None:
        self.coefficients, self.following = coefficients, following
        self.window = deque[float](maxlen=len(coefficients))

    async def receive(self, message: float) -> None:
        self.window.append(message)
        if len(self.window) == len(self.coefficients):
            await self.following.tell(sum(map(float.__mul__, self.window, self.coefficients)))


class Sampler(Actor):
    """Lets one value of `rate` pass and sends zero for the others."""

    def __init__(self, rate: int, following: ActorRef[Any]) -> None:
        self.rate, self.following, self.seen = rate, following, 0

    async def receive(self, message: float) -> None:
        await self.following.tell(message if self.seen % self.rate == 0 else 0.0)
        self.seen += 1


class Tagger(Actor):
    def __init__(self, channel: int, following: ActorRef[Any]) -> None:
        self.channel, self.following = channel, following

    async def receive(self, message: float) -> None:
        await self.following.tell((self.channel, message))


class Integrator(Actor):
    """Puts together one value of each channel."""

    def __init__(self, channels: int, following: ActorRef[Any]) -> None:
        self.waiting: list[deque[float]] = [deque() for _ in range(channels)]
        self.following = following

    async def receive(self, message: tuple[int, float]) -> None:
        self.waiting[message[0]].append(message[1])
        if all(self.waiting):
            await self.following.tell([values.popleft() for values in self.waiting])


class Combiner(Actor):
    def __init__(self, following: ActorRef[Any]) -> None:
        self.following = following

    async def receive(self, message: list[float]) -> None:
        await self.following.tell(sum(message))


class Sink(Actor):
    def __init__(self, expected: int, done: Result[list[float]]) -> None:
        self.expected, self.done, self.values = expected, done, list[float]()

    async def receive(self, message: float) -> None:
        self.values.append(message)
        if len(self.values) == self.expected:
            self.done.set(self.values)


class Branches(Actor):
    def __init__(self, channels: list[ActorRef[Any]]) -> None:
        self.channels = channels

    async def receive(self, message: Any) -> None:
        for channel in self.channels:
            await channel.tell(message)


Bank = list[list[float]]


def banks(channels: int, columns: int) -> tuple[Bank, Bank]:
    h = [[float(i * columns + j * channels + j + i + j + 1) for i in range(columns)] for j in range(channels)]
    f = [[float(i * j + j * j + j + i) for i in range(columns)] for j in range(channels)]
    return h, f


def filtered(values: list[float], columns: int, bank: tuple[Bank, Bank]) -> list[float]:
    """What the sink should get, as plain loops."""
    channels = []
    for h, f in zip(*bank, strict=True):
        delayed = [0.0] * (columns - 1) + values[: len(values) - columns + 1]
        first = [sum(map(float.__mul__, delayed[k : k + columns], h)) for k in range(len(values) - columns + 1)]
        sampled = [value if k % columns == 0 else 0.0 for k, value in enumerate(first)]
        later = ([0.0] * (columns - 1) + sampled)[: len(sampled)]
        channels.append([sum(map(float.__mul__, later[k : k + columns], f)) for k in range(len(later) - columns + 1)])
    return [sum(values) for values in zip(*channels, strict=True)]


@not_killed("filters hold a window of the past")
async def test_filter_bank(stage: Stage) -> None:
    columns, channels, values, done = 64, 8, stage.size(400, 200), Result[list[float]]()
    bank = banks(channels, columns)
    sink = await stage.spawn(Sink, values - 2 * (columns - 1), done)
    integrator = await stage.spawn(Integrator, channels, await stage.spawn(Combiner, sink))
    entries = list[ActorRef[Any]]()
    for channel, (h, f) in enumerate(zip(*bank, strict=True)):
        ref = await stage.spawn(Tagger, channel, integrator)
        ref = await stage.spawn(FirFilter, f, ref)
        ref = await stage.spawn(Delay, columns - 1, ref)
        ref = await stage.spawn(Sampler, columns, ref)
        ref = await stage.spawn(FirFilter, h, ref)
        entries.append(await stage.spawn(Delay, columns - 1, ref))
    source = await stage.spawn(Branches, entries)
    stream = [float(value % 1000) for value in range(values)]

    for value in stream:
        await source.tell(value)

    assert await done.wait() == filtered(stream, columns, bank)


# --- bitonic sort -------------------------------------------------------------------------------------------------------


class Splitter(Actor):
    """Deals the values of a sequence to the comparators of their places."""

    def __init__(self, comparators: list[ActorRef[Any]]) -> None:
        self.comparators, self.seen = comparators, 0

    async def receive(self, message: int) -> None:
        self.seen += 1
        await self.comparators[self.seen - 1].tell(message)


class Comparator(Actor):
    """Takes the values of two places and passes them on in its order, each with its new place."""

    def __init__(self, places: tuple[int, int], ascending: bool, joiner: ActorRef[Any]) -> None:
        self.places, self.ascending, self.joiner, self.values = places, ascending, joiner, list[int]()

    async def receive(self, message: int) -> None:
        self.values.append(message)
        if len(self.values) == 2:
            for place, value in zip(self.places, sorted(self.values, reverse=not self.ascending), strict=True):
                await self.joiner.tell((place, value))


class Joiner(Actor):
    """Passes values on in the order of their places, whenever they arrive."""

    def __init__(self, following: ActorRef[Any]) -> None:
        self.following, self.waiting, self.next = following, dict[int, int](), 0

    async def receive(self, message: tuple[int, int]) -> None:
        self.waiting[message[0]] = message[1]
        while self.next in self.waiting:
            await self.following.tell(self.waiting.pop(self.next))
            self.next += 1


class IntegerSink(Actor):
    def __init__(self, expected: int, done: Result[list[int]]) -> None:
        self.expected, self.done, self.values = expected, done, list[int]()

    async def receive(self, message: int) -> None:
        self.values.append(message)
        if len(self.values) == self.expected:
            self.done.set(self.values)


async def comparing(stage: Stage, size: int, part: int, distance: int, following: ActorRef[Any]) -> ActorRef[Any]:
    """One step of the network, built before what feeds it: places that are `distance` apart are compared."""
    joiner = await stage.spawn(Joiner, following)
    at_place: list[Any] = [None] * size
    for low in (place for place in range(size) if not place & distance):
        places, ascending = (low, low + distance), not low & part
        at_place[low] = at_place[low + distance] = await stage.spawn(Comparator, places, ascending, joiner)
    return await stage.spawn(Splitter, at_place)


@not_killed("splitters, comparators and joiners hold a part of the stream")
async def test_bitonic_sort(stage: Stage) -> None:
    size, done = stage.size(256, 64), Result[list[int]]()
    draw = PseudoRandom(2048).next_value
    numbers = [draw() for _ in range(size)]
    merges = [2**power for power in range(1, size.bit_length())]
    steps = [(part, 2**power) for part in merges for power in reversed(range(part.bit_length() - 1))]
    entry = await stage.spawn(IntegerSink, size, done)
    for part, distance in reversed(steps):
        entry = await comparing(stage, size, part, distance, entry)

    for number in numbers:
        await entry.tell(number)

    assert await done.wait() == sorted(numbers)


# --- successive over-relaxation -------------------------------------------------------------------------------------------

OMEGA = 1.25
ITERATIONS = 100


@attrs.frozen
class Begin:
    neighbours: list[ActorRef[Any]]


@attrs.frozen
class Value:
    value: float


class GridCell(Actor):
    """One point of the grid; red ones speak first. What arrives before the beginning is kept for later."""

    def __init__(self, value: float, is_red: bool, total: ActorRef[Any]) -> None:
        self.value, self.is_red, self.total = value, is_red, total
        self.neighbours: list[ActorRef[Any]] = []
        self.parked, self.received, self.iterations = list[float](), list[float](), 0

    async def receive(self, message: Begin | Value) -> None:
        if isinstance(message, Begin):
            self.neighbours = message.neighbours
            if self.is_red:
                await self._speak()
            for value in self.parked:
                await self._hear(value)
        elif not self.neighbours:
            self.parked.append(message.value)
        else:
            await self._hear(message.value)

    async def _hear(self, value: float) -> None:
        if self.iterations == ITERATIONS:
            return
        self.received.append(value)
        if len(self.received) == len(self.neighbours):
            self.value = OMEGA / 4 * sum(self.received) + (1 - OMEGA) * self.value
            self.received.clear()
            await self._speak()
            if self.iterations == ITERATIONS:
                await self.total.tell(Value(self.value))

    async def _speak(self) -> None:
        self.iterations += 1
        for neighbour in self.neighbours:
            await neighbour.tell(Value(self.value))


class Total(Actor):
    def __init__(self, cells: int, done: Result[float]) -> None:
        self.missing, self.done, self.sum = cells, done, 0.0

    async def receive(self, message: Value) -> None:
        self.sum += message.value
        self.missing -= 1
        if not self.missing:
            self.done.set(self.sum)


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
@pytest.mark.parametrize(
    ("generator", "expected"),
    [(PseudoRandom, 4.162686342332718e-10), (JavaRandom, 3.1894200848712754e-06)],
    ids=["random numbers of savina", "random numbers of java"],
)
@pytest.mark.chaos
async def test_successive_over_relaxation(stage: Stage, generator: type[PseudoRandom | JavaRandom], expected: float) -> None:
    """Neighbours tell each other, so mailboxes have no bound; the sum at level 0 is known for both generators.

    In two halves, as in the original: the second is begun when the first is in progress already.
    """
    side, draw, done = 20, generator(10101010).next_double, Result[float]()
    total = await stage.spawn(Total, side * side, done)
    grid = {
        (i, j): await stage.spawn(GridCell, draw() * 1e-6, (i + j) % 2 == 0, total, on_cycle=True)
        for i in range(side)
        for j in range(side)
    }

    for (i, j), cell in sorted(grid.items(), key=lambda item: item[0][1] >= side // 2):
        near = [(i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)]
        await cell.tell(Begin([grid[place] for place in near if place in grid]))

    assert await done.wait() == pytest.approx(expected, rel=1e-12)


# --- A* -----------------------------------------------------------------------------------------------------------------

Place = tuple[int, int, int]


@attrs.define
class Labyrinth:
    """A grid whose places are linked forwards only; `parents` is shared, and each place is taken once."""

    side: int
    target: Place
    links: dict[Place, list[Place]]
    parents: dict[Place, Place]

    @classmethod
    def of(cls, side: int, draw: JavaRandom) -> Labyrinth:
        links: dict[Place, list[Place]] = {}
        for x, y, z in itertools.product(range(side), repeat=3):
            forward = [(x + i, y + j, z + k) for i, j, k in itertools.product((0, 1), repeat=3) if i + j + k]
            inside = [near for near in forward if max(near) < side]
            links[x, y, z] = [near for near in inside if sum(near) == x + y + z + 1 or draw.next_boolean()][:6]
        far = int(side * 0.8)
        return cls(side, (far, far, far), links, {})


@attrs.frozen
class Explore:
    places: list[Place]


@attrs.frozen
class Explored:
    pass


@attrs.frozen
class Found:
    pass


class Explorer(Actor):
    """Expands as many places as the threshold says, nearest to the target first, and hands back what is left."""

    def __init__(self, maze: Labyrinth, threshold: int, master: list[ActorRef[Any]]) -> None:
        self.maze, self.threshold, self.master = maze, threshold, master

    async def receive(self, message: Explore) -> None:
        maze, master = self.maze, self.master[0]
        frontier = [(math.dist(place, maze.target), place) for place in message.places]
        heapq.heapify(frontier)
        for _ in range(self.threshold):
            if not frontier:
                break
            _, place = heapq.heappop(frontier)
            if place == maze.target:
                await master.tell(Found())
                break
            for near in maze.links[place]:
                if maze.parents.setdefault(near, place) is place:
                    heapq.heappush(frontier, (math.dist(near, maze.target), near))
        half = len(frontier) // 2
        for part in (frontier[:half], frontier[half:]):
            if part:
                await master.tell(Explore([place for _, place in part]))
        await master.tell(Explored())


@attrs.define
class Expedition:
    sent: int = 0
    done: int = 0
    found: bool = False


class ExplorerMaster(Actor):
    """Hands out parts of the frontier in turn, until the target is found."""

    def __init__(self, state: Expedition, workers: list[ActorRef[Any]], done: Result[bool]) -> None:
        self.state, self.workers, self.done = state, workers, done

    async def receive(self, message: Explore | Explored | Found) -> None:
        state = self.state
        match message:
            case Found():
                state.found = True
            case Explored():
                state.done += 1
            case Explore():
                if not state.found:
                    state.sent += 1
                    await self.workers[state.sent % len(self.workers)].tell(message)
        if state.done == state.sent:
            self.done.set(state.found)


async def test_guided_search(stage: Stage) -> None:
    maze, masters, done = Labyrinth.of(10, JavaRandom(123456)), list[ActorRef[Any]](), Result[bool]()
    workers = [await stage.spawn(Explorer, maze, 2, masters) for _ in range(20)]
    masters.append(await stage.spawn(ExplorerMaster, Expedition(), workers, done, hot=True, on_cycle=True))

    await masters[0].tell(Explore([(0, 0, 0)]))
    assert await done.wait()

    chain = [maze.target]
    while chain[-1] != (0, 0, 0):
        assert chain[-1] in maze.links[maze.parents[chain[-1]]]
        chain.append(maze.parents[chain[-1]])
    assert len(chain) <= 1 + sum(maze.target)
