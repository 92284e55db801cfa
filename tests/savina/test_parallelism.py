"""Parallelism benchmarks: one problem, divided among actors."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import attrs
import pytest

from actors import Actor, ActorRef
from tests.savina.stage import Result, Stage

# Where a master hands out work and workers hand back results or further work, the two form a cycle of tells. The master's
# mailbox has no bound then: workers never wait for the master, so the master never waits for long.


@attrs.frozen
class Start:
    pass


@attrs.define
class Progress:
    """What a master knows of the work under way."""

    sent: int = 0
    done: int = 0


# --- trapezoidal rule ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Piece:
    left: float
    step: float
    steps: int


@attrs.frozen
class Area:
    value: float


@attrs.define
class Integral:
    missing: int
    value: float = 0.0


def integrand(x: float) -> float:
    return math.sin(x**3 - 1) / (x + 1) * math.sqrt(1 + math.exp(math.sqrt(2 * x)))


class Integrator(Actor):
    def __init__(self, master: list[ActorRef[Any]]) -> None:
        self.master = master

    async def receive(self, message: Piece) -> None:
        heights = [integrand(message.left + i * message.step) for i in range(message.steps + 1)]
        area = message.step * (sum(heights) - (heights[0] + heights[-1]) / 2)
        await self.master[0].tell(Area(area))


class Adder(Actor):
    def __init__(self, state: Integral, steps: int, workers: list[ActorRef[Any]], done: Result[float]) -> None:
        self.state, self.steps, self.workers, self.done = state, steps, workers, done

    async def receive(self, message: Start | Area) -> None:
        if isinstance(message, Area):
            self.state.value += message.value
            self.state.missing -= 1
            if not self.state.missing:
                self.done.set(self.state.value)
            return
        share, step = self.steps // len(self.workers), 4.0 / self.steps
        for index, worker in enumerate(self.workers):
            await worker.tell(Piece(1 + index * share * step, step, share))


@pytest.mark.parametrize(("steps", "expected"), [(10_000, 0.271080630161), (100_000, 0.271080750735)])
async def test_trapezoidal_rule(stage: Stage, steps: int, expected: float) -> None:
    masters, done = list[ActorRef[Any]](), Result[float]()
    workers = [await stage.spawn(Integrator, masters) for _ in range(100)]
    masters.append(await stage.spawn(Adder, Integral(100), steps, workers, done, hot=True))

    await masters[0].tell(Start())

    assert await done.wait() == pytest.approx(expected, abs=5e-13)


# --- n queens -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Board:
    queens: tuple[int, ...]
    """Column of the queen in each row so far."""
    priority: int


@attrs.frozen
class Solution:
    pass


@attrs.frozen
class Finished:
    pass


def extensions(queens: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    row = len(queens)
    safe = (c for c in range(size) if all(c != q and abs(c - q) != row - r for r, q in enumerate(queens)))
    return [(*queens, column) for column in safe]


def solutions(queens: tuple[int, ...], size: int) -> int:
    if len(queens) == size:
        return 1
    return sum(solutions(longer, size) for longer in extensions(queens, size))


class QueenWorker(Actor):
    def __init__(self, size: int, depth: int, master: list[ActorRef[Any]]) -> None:
        self.size, self.depth, self.master = size, depth, master

    async def receive(self, message: Board) -> None:
        master = self.master[0]
        if len(message.queens) < self.depth:
            for longer in extensions(message.queens, self.size):
                await master.tell(Board(longer, message.priority - 1))
        else:
            for _ in range(solutions(message.queens, self.size)):
                await master.tell(Solution())
        await master.tell(Finished())


@attrs.define
class Search(Progress):
    solutions: int = 0


class QueenMaster(Actor):
    def __init__(self, state: Search, workers: list[ActorRef[Any]], done: Result[int]) -> None:
        self.state, self.workers, self.done = state, workers, done

    async def receive(self, message: Board | Solution | Finished) -> None:
        state = self.state
        match message:
            case Board():
                state.sent += 1
                await self.workers[state.sent % len(self.workers)].tell(message)
            case Solution():
                state.solutions += 1
            case Finished():
                state.done += 1
                if state.done == state.sent:
                    self.done.set(state.solutions)


@pytest.mark.parametrize("hot", [QueenMaster, QueenWorker])
async def test_n_queens(stage: Stage, hot: type[Actor]) -> None:
    masters, done = list[ActorRef[Any]](), Result[int]()
    workers = [await stage.spawn(QueenWorker, 8, 4, masters, hot=hot is QueenWorker) for _ in range(20)]
    masters.append(await stage.spawn(QueenMaster, Search(), workers, done, hot=hot is QueenMaster, on_cycle=True))

    await masters[0].tell(Board((), 10))

    assert await done.wait() == 92


# --- digits of pi -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Term:
    number: int


@attrs.frozen
class TermValue:
    scaled: int


@attrs.define
class PiSum(Progress):
    scaled: int = 0
    exhausted: bool = False


class TermWorker(Actor):
    def __init__(self, scale: int, master: list[ActorRef[Any]]) -> None:
        self.scale, self.master = scale, master

    async def receive(self, message: Term) -> None:
        k = 8 * message.number
        value = Fraction(4, k + 1) - Fraction(2, k + 4) - Fraction(1, k + 5) - Fraction(1, k + 6)
        await self.master[0].tell(TermValue(int(self.scale * value / 16**message.number)))


class PiMaster(Actor):
    """Asks for terms until one is too small to matter; at most ten per worker are under way."""

    def __init__(self, state: PiSum, smallest: int, workers: list[ActorRef[Any]], done: Result[int]) -> None:
        self.state, self.smallest, self.workers, self.done = state, smallest, workers, done

    async def receive(self, message: Start | TermValue) -> None:
        state = self.state
        if isinstance(message, Start):
            for _ in range(10 * len(self.workers)):
                await self._request()
            return
        state.done += 1
        state.scaled += message.scaled
        state.exhausted = state.exhausted or message.scaled <= self.smallest
        if not state.exhausted:
            await self._request()
        elif state.done == state.sent:
            self.done.set(state.scaled)

    async def _request(self) -> None:
        term = Term(self.state.sent)
        self.state.sent += 1
        await self.workers[term.number % len(self.workers)].tell(term)


def machin(digits: int) -> str:
    """Digits of pi by another formula: 16 arctan(1/5) - 4 arctan(1/239)."""
    unit = 10 ** (digits + 10)

    def arctan(inverse: int) -> int:
        total, power, odd, sign = 0, unit // inverse, 1, 1
        while power:
            total += sign * (power // odd)
            power, odd, sign = power // inverse**2, odd + 2, -sign
        return total

    return str((16 * arctan(5) - 4 * arctan(239)) // 10**10)


async def test_digits_of_pi(stage: Stage) -> None:
    digits, guard, done, masters = 200, 10, Result[int](), list[ActorRef[Any]]()
    scale = 10 ** (digits + guard)
    workers = [await stage.spawn(TermWorker, scale, masters, hot=True) for _ in range(5)]
    masters.append(await stage.spawn(PiMaster, PiSum(), 10**guard, workers, done, on_cycle=True))

    await masters[0].tell(Start())
    found = str(await done.wait())

    assert found[: digits - 10] == machin(digits)[: digits - 10]
    assert found.startswith("314159265358979")


# --- recursive matrix multiplication --------------------------------------------------------------------------------------


@attrs.frozen
class Block:
    row_a: int
    column_a: int
    row_b: int
    column_b: int
    row_c: int
    column_c: int
    size: int


Matrix = list[list[int]]


class BlockWorker(Actor):
    """Splits a block in eight, or multiplies it. What goes into one block of the product goes through one worker."""

    def __init__(self, a: Matrix, b: Matrix, c: Matrix, smallest: int, master: list[ActorRef[Any]]) -> None:
        self.a, self.b, self.c, self.smallest, self.master = a, b, c, smallest, master

    async def receive(self, message: Block) -> None:
        if message.size * message.size > self.smallest:
            half = message.size // 2
            for i, j, k in ((i, j, k) for i in (0, half) for j in (0, half) for k in (0, half)):
                await self.master[0].tell(
                    Block(
                        message.row_a + i,
                        message.column_a + k,
                        message.row_b + k,
                        message.column_b + j,
                        message.row_c + i,
                        message.column_c + j,
                        half,
                    )
                )
        else:
            self._multiply(message)
        await self.master[0].tell(Finished())

    def _multiply(self, block: Block) -> None:
        span = range(block.size)
        columns = [[self.b[block.row_b + k][block.column_b + j] for k in span] for j in span]
        for i in span:
            row = self.a[block.row_a + i][block.column_a : block.column_a + block.size]
            for j in span:
                self.c[block.row_c + i][block.column_c + j] += sum(x * y for x, y in zip(row, columns[j], strict=True))


class BlockMaster(Actor):
    def __init__(self, state: Progress, workers: list[ActorRef[Any]], done: Result[int]) -> None:
        self.state, self.workers, self.done = state, workers, done

    async def receive(self, message: Block | Finished) -> None:
        state = self.state
        if isinstance(message, Block):
            state.sent += 1
            await self.workers[(message.row_c + message.column_c) % len(self.workers)].tell(message)
            return
        state.done += 1
        if state.done == state.sent:
            self.done.set(state.sent)


async def test_recursive_matrix_multiplication(stage: Stage) -> None:
    size, masters, done = 64, list[ActorRef[Any]](), Result[int]()
    a = [[row] * size for row in range(size)]
    b, c = [list(range(size)) for _ in range(size)], [[0] * size for _ in range(size)]
    workers = [await stage.spawn(BlockWorker, a, b, c, 64, masters, hot=True) for _ in range(20)]
    masters.append(await stage.spawn(BlockMaster, Progress(), workers, done, on_cycle=True))

    await masters[0].tell(Block(0, 0, 0, 0, 0, 0, size))

    assert await done.wait() == 1 + 8 + 64 + 512
    assert c == [[size * row * column for column in range(size)] for row in range(size)]
