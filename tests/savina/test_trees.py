"""Parallelism benchmarks whose actors make further actors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors import Actor, ActorRef, Request
from tests.savina.randomness import JavaRandom, PseudoRandom
from tests.savina.stage import AGAIN, UNBOUNDED, Result, Stage

# A parent that waits for its children asks them, all at once, in a nursery of its handler. A crash then takes the children
# along, and the redelivered message begins the work again: nothing is lost and nothing counts twice.


async def ask_all(questions: list[tuple[ActorRef[Any], Any]]) -> list[Any]:
    """The answers, in the order of the questions."""
    answers: list[Any] = [None] * len(questions)

    async def ask_one(index: int, ref: ActorRef[Any], question: Any) -> None:
        answers[index] = await ref.ask(question)

    async with trio.open_nursery() as nursery:
        for index, (ref, question) in enumerate(questions):
            nursery.start_soon(ask_one, index, ref, question)
    return answers


# --- Fibonacci ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Fibonacci(Request[int]):
    n: int


class Summand(Actor):
    def __init__(self, stage: Stage, made: Callable[[], None]) -> None:
        self.stage, self.made = stage, made
        made()

    async def receive(self, message: Fibonacci) -> int:
        if message.n <= 2:
            return 1
        kind, mailbox = self.stage.hot(Summand), self.stage.mailbox
        children = [
            await self.context.spawn(kind, self.stage, self.made, mailbox=mailbox, redelivery=AGAIN, name=name)
            for name in ("left", "right")
        ]
        first, second = await ask_all([(children[0], Fibonacci(message.n - 1)), (children[1], Fibonacci(message.n - 2))])
        answer: int = first + second
        return answer


async def test_fibonacci(stage: Stage) -> None:
    """The redelivery of a crashed sum makes its children anew, so only undisturbed runs make the exact number of actors."""
    made: list[None] = []
    n, strikes = 15, stage.fate.left
    root = await stage.spawn(Summand, stage, lambda: made.append(None), hot=True)

    assert await root.ask(Fibonacci(n)) == 610
    assert len(made) == 1219 if not strikes else len(made) > 1219


# --- quicksort ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Sort(Request[list[int]]):
    numbers: list[int]


class Sorter(Actor):
    """Sorts a long list by two children, one for what is below its middle element and one for what is above."""

    def __init__(self, stage: Stage, cut_off: int) -> None:
        self.stage, self.cut_off = stage, cut_off

    async def receive(self, message: Sort) -> list[int]:
        numbers = message.numbers
        if len(numbers) < self.cut_off:
            return sorted(numbers)
        pivot = numbers[len(numbers) // 2]
        parts = [n for n in numbers if n < pivot], [n for n in numbers if n > pivot]
        kind, mailbox = self.stage.hot(Sorter), self.stage.mailbox
        children = [
            await self.context.spawn(kind, self.stage, self.cut_off, mailbox=mailbox, redelivery=AGAIN, name=name)
            for name in ("below", "above")
        ]
        below, above = await ask_all([(child, Sort(part)) for child, part in zip(children, parts, strict=True)])
        return [*below, *[n for n in numbers if n == pivot], *above]


async def test_quicksort(stage: Stage) -> None:
    draw = PseudoRandom(1024).next_value
    numbers = [draw() for _ in range(20_000)]
    sorter = await stage.spawn(Sorter, stage, 512, hot=True)

    assert await sorter.ask(Sort(numbers)) == sorted(numbers)


# --- unbalanced cobwebbed tree --------------------------------------------------------------------------------------------

BRANCHES = 10


@attrs.frozen
class MayIGrow(Request[list[int] | None]):
    """Answered with the work of each child to make, with nothing for "not now", with None for "never"."""


@attrs.frozen
class Grow:
    pass


@attrs.frozen
class Visit(Request[int]):
    """How many nodes there are from here down."""


@attrs.define
class Forest:
    limit: int
    draw: JavaRandom
    size: int = 1
    urgent: int = 0


class Warden(Actor):
    def __init__(self, state: Forest) -> None:
        self.state = state

    async def receive(self, message: MayIGrow) -> list[int] | None:
        state = self.state
        if state.size + BRANCHES > state.limit:
            return None
        if not state.draw.next_boolean():
            return []
        state.size += BRANCHES
        state.urgent += state.draw.next_boolean()
        return [max(1, round(state.draw.next_gaussian() * 10 + 50)) for _ in range(BRANCHES)]


@attrs.define
class Growth:
    """How many nodes still want to grow."""

    wanting: int
    over: Result[None]

    def change(self, by: int) -> None:
        self.wanting += by
        if not self.wanting:
            self.over.set(None)


class TreeNode(Actor):
    def __init__(self, stage: Stage, warden: ActorRef[Any], growth: Growth, work: int) -> None:
        self.stage, self.warden, self.growth, self.work = stage, warden, growth, work
        self.children: list[ActorRef[Any]] = []

    async def receive(self, message: Grow | Visit) -> int | None:
        sum(math.sqrt(i) for i in range(self.work))
        if isinstance(message, Visit):
            below: int = sum(await ask_all([(child, Visit()) for child in self.children]))
            return 1 + below
        while (plan := await self.warden.ask(MayIGrow())) == []:
            pass
        for work in plan or ():
            node = await self.context.spawn(TreeNode, self.stage, self.warden, self.growth, work, mailbox=self.stage.mailbox)
            self.children.append(node)
        self.growth.change(len(self.children))
        for child in self.children:
            await child.tell(Grow())
        self.growth.change(-1)
        return None


async def test_unbalanced_cobwebbed_tree(stage: Stage) -> None:
    limit, over = stage.size(2000, 500), Result[None]()
    forest = Forest(limit, JavaRandom(2))
    warden = await stage.spawn(Warden, forest, hot=True)
    root = await stage.spawn(TreeNode, stage, warden, Growth(1, over), 50)

    await root.tell(Grow())
    await over.wait()

    assert forest.size == 1 + BRANCHES * ((limit - 1) // BRANCHES)
    assert await root.ask(Visit()) == forest.size


# --- online facility location ---------------------------------------------------------------------------------------------

GRID = 500.0
THRESHOLD = 2 * math.sqrt(2) * GRID
MAX_DEPTH = 8
Point = tuple[float, float]


@attrs.frozen
class Place:
    """A customer that arrives; the one who sent it waits for ``NextPlease`` before it sends another."""

    point: Point
    producer: ActorRef[Any] | None = None


@attrs.frozen
class NextPlease:
    pass


@attrs.frozen
class Opened:
    """A facility was opened in the quadrant of that index; told upwards, and by the parent to the opposite sibling."""

    point: Point
    quadrant: int | None


@attrs.frozen
class Count(Request[tuple[int, int]]):
    """Facilities and customers from here down."""


class Quadrant(Actor):
    """A square of the plane. Its edges to the left and below belong to it, so that each customer is in one square."""

    def __init__(
        self, corner: Point, side: float, depth: int, known: list[Point], parent: ActorRef[Any] | None, index: int
    ) -> None:
        self.corner, self.side, self.depth, self.known, self.parent, self.index = corner, side, depth, known, parent, index
        self.children: list[ActorRef[Any]] = []
        self.customers: list[Point] = []
        self.facilities, self.cost = 0, 0.0

    async def receive(self, message: Place | Opened | Count) -> tuple[int, int] | None:
        match message:
            case Place(point, producer):
                await self._place(point)
                if producer is not None:
                    await producer.tell(NextPlease())
            case Opened(point, quadrant):
                self.known.append(point)
                if quadrant is not None:
                    await self.children[3 - quadrant].tell(Opened(point, None))
            case Count():
                return await self._count()
        return None

    async def _count(self) -> tuple[int, int]:
        below = await ask_all([(child, Count()) for child in self.children])
        return self.facilities + sum(f for f, _ in below), len(self.customers) + sum(c for _, c in below)

    async def _place(self, point: Point) -> None:
        if self.children:
            await self.children[self._quadrant_of(point)].tell(Place(point))
            return
        self.customers.append(point)
        self.cost += min(math.dist(point, facility) for facility in self.known)
        if self.cost > THRESHOLD and self.depth < MAX_DEPTH:
            await self._open_facility()

    def _quadrant_of(self, point: Point) -> int:
        half = self.side / 2
        return (point[0] >= self.corner[0] + half) + 2 * (point[1] >= self.corner[1] + half)

    async def _open_facility(self) -> None:
        half = self.side / 2
        centre = (self.corner[0] + half, self.corner[1] + half)
        self.facilities += 1
        self.known.append(centre)
        for index in range(4):
            corner = (self.corner[0] + half * (index % 2), self.corner[1] + half * (index // 2))
            known, me = list(self.known), self.context.ref
            child = await self.context.spawn(Quadrant, corner, half, self.depth + 1, known, me, index, mailbox=UNBOUNDED)
            self.children.append(child)
        customers, self.customers = self.customers, []
        for point in customers:
            await self.children[self._quadrant_of(point)].tell(Place(point))
        if self.parent is not None:
            await self.parent.tell(Opened(centre, self.index))


class CustomerProducer(Actor):
    def __init__(self, root: ActorRef[Any], draw: PseudoRandom, left: list[int], done: Result[None]) -> None:
        self.root, self.draw, self.left, self.done = root, draw, left, done

    async def receive(self, message: NextPlease) -> None:
        if not self.left[0]:
            self.done.set(None)
            return
        self.left[0] -= 1
        point = (self.draw.next_int(int(GRID)) * 1.0, self.draw.next_int(int(GRID)) * 1.0)
        await self.root.tell(Place(point, self.context.ref))


async def test_online_facility_location(stage: Stage) -> None:
    """News of a facility goes up while customers go down: a cycle, so the mailboxes of quadrants have no bound.

    Only the producer is struck: a quadrant that crashed would take its children and their customers along.
    """
    customers, done = stage.size(2000, 500), Result[None]()
    root = await stage.spawn(Quadrant, (0.0, 0.0), GRID, 0, [(GRID / 2, GRID / 2)], None, 0, on_cycle=True)
    producer = await stage.spawn(CustomerProducer, root, PseudoRandom(), [customers], done, hot=True)

    await producer.tell(NextPlease())
    await done.wait()
    facilities, counted = await root.ask(Count())

    assert counted == customers
    assert facilities > 4
