"""A graph as an importable module has it, for hosts that find code by its name."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import attrs
import trio

from actors import LM, Actor, Dep, Gather, Graph, Recall, Redelivery, Run

log: list[str] = []


class Odd(Exception):
    """An error that only its module knows."""


@attrs.frozen
class Paper:
    pages: int
    odd: int = -1
    nap_s: float = 0.0


@attrs.frozen
class Page:
    number: int
    data: bytes = b""
    nap_s: float = 0.0


@attrs.frozen
class Mark:
    number: int
    pid: int = 0


@attrs.frozen
class Grade:
    marks: tuple[int, ...]
    pids: int = 0
    title: str = ""


async def shelf(paper: Paper) -> AsyncIterator[str]:
    log.append("open")
    yield f"shelf of {paper.pages}"
    log.append("close")


graph = Graph("grading", input=Paper, output=Grade)


@graph.node(place="cpu")
async def split(paper: Paper) -> AsyncIterator[Page]:
    for number in range(paper.pages):
        if number == paper.odd:
            raise Odd(f"page {number} is torn")
        yield Page(number, bytes([number]), paper.nap_s)


@graph.node(place="cpu", concurrency=32, redelivery=Redelivery(max_attempts=3))
async def mark(page: Page, run: Run, where: Annotated[str, Dep(shelf)]) -> Mark:
    assert page.data == bytes([page.number])
    assert isinstance(run.wall_time(), datetime)
    run.report(f"page {page.number} from the {where}")
    await trio.sleep(page.nap_s)
    return Mark(page.number, os.getpid())


@graph.node(place="cpu")
def grade(marks: Annotated[list[Mark], Gather()], paper: Annotated[Paper, Recall()]) -> Grade:
    return Grade(tuple(each.number for each in marks), len({each.pid for each in marks}), f"of {paper.pages}")


burning = Graph("burning", input=Paper, output=Grade)


@burning.node(place="cpu", timeout_s=0.3)
async def burn(paper: Paper) -> Grade:
    """Holds the loop of its host for as long as nobody ends that."""
    while paper.pages:
        time.sleep(0.01)  # noqa: ASYNC251 - that is the fault
    return Grade((), os.getpid())


@attrs.frozen
class Stuck:
    how: str


stuck = Graph("stuck", input=Stuck, output=Grade)


def never_ends(how: str) -> None:
    if how == "sleep in a thread":
        time.sleep(1000)
    elif how == "busy in a thread":
        while how:
            pass
    else:
        ctypes.PyDLL(None).sleep(1000)  # in C, without letting go of the interpreter


@stuck.node(place="cpu")
def hang(stuck: Stuck, run: Run) -> Grade | Paper:
    if stuck.how == "holds the loop":
        return Paper(0)
    run.report("begins")
    never_ends(stuck.how)
    return Grade(())


@stuck.node(place="cpu")
async def hold(paper: Paper, run: Run) -> Grade:
    run.report("begins")
    await trio.sleep(0.1)
    time.sleep(1000)  # noqa: ASYNC251 - that is the fault
    return Grade(())


talking = Graph("talking", input=Paper, output=Grade)


@talking.node(place="cpu", redelivery=Redelivery(max_attempts=1))
async def talk(paper: Paper, lm: LM) -> Grade:
    answer = await lm.chat([{"role": "user", "content": "How long?"}])
    return Grade((), title=answer.text)


class Counter(Actor[int]):
    """Notes what it handles in a file, where other processes can see it, and tells in which process it is."""

    def __init__(self, file: str) -> None:
        self._file = file

    async def receive(self, message: int) -> tuple[int, int]:
        with open(self._file, "a") as file:  # noqa: ASYNC230 - a line
            file.write(f"{message}\n")
        await trio.sleep(0.01)
        return message, os.getpid()


class Busy(Actor[str]):
    """Keeps its host busy in one way or another, for a time in which it must not be taken for dead."""

    async def receive(self, message: str) -> int:
        if message == "in Python":
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                pass
        elif message == "in a thread":
            await trio.to_thread.run_sync(sum, range(20_000_000))
        elif message == "asleep":
            time.sleep(2.0)  # noqa: ASYNC251 - it holds the loop of its host
        elif message == "holding the interpreter":
            ctypes.PyDLL(None).sleep(3)
        else:
            await trio.sleep(0.5)
        return os.getpid()


napping = Graph("napping", input=Paper, output=Grade)


@napping.node(place="cpu")
async def nap(paper: Paper) -> Grade:
    time.sleep(paper.nap_s)  # noqa: ASYNC251 - that is the fault
    return Grade(())
