"""Kill a process that runs graphs on a SQLite store, again and again, and see that nothing was done twice.

``python -m tests.runtime.journal.chaos 1000``. Each life is a fork of a process without threads. A life takes up what the ones
before have left, starts runs of its own, and is killed at a random point; at last one is let live until every run is over.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final, final

import attrs
import trio

from actors import Graph, Run
from runtime import open_runtime
from runtime.journal import SqliteStore, sqlite_writer
from runtime.journal.records import RecordKind
from runtime.journal.store import RunQuery
from tests.runtime.journal.kills import forked

RUNS: Final = 3
"""That each life starts."""
WITHIN_S: Final = 0.12
"""Seconds after its first step within which a life is killed: about as long as its runs take."""
LIVES: Final = 25
"""On one store."""


@attrs.frozen
class Job:
    number: int


@attrs.frozen
class Piece:
    number: int


@attrs.frozen
class Weighed:
    grams: int


@attrs.frozen
class Sized:
    grams: int


@attrs.frozen
class Total:
    grams: int


@attrs.frozen
class Tick:
    number: int


@attrs.frozen
class Square:
    number: int


@attrs.frozen
class Round:
    left: int
    made: int


@attrs.frozen
class End:
    made: int


@attrs.frozen
class Report:
    grams: int
    made: int


def workload(log: int) -> Graph[Job, Report]:
    """A fan-out into nested runs, a join, a generator with a fan-in, a loop and a join of two; each node notes that it begins."""

    async def begin(run: Run) -> None:
        os.write(log, f"{run.id}\t{run.path}\n".encode())
        await trio.sleep(random.random() / 200)

    inner = Graph("inner", input=Piece, output=Sized)

    @inner.node
    async def weigh(piece: Piece, run: Run) -> Weighed:
        await begin(run)
        return Weighed(piece.number * 10)

    @inner.node
    async def size(weighed: Weighed, run: Run) -> Sized:
        await begin(run)
        return Sized(weighed.grams + 1)

    graph = Graph("chaos", input=Job, output=Report)

    @graph.node
    async def split(job: Job, run: Run) -> list[Piece]:
        await begin(run)
        return [Piece(job.number + index) for index in range(4)]

    graph.add(inner)

    @graph.node
    async def total(sizes: list[Sized], run: Run) -> Total:
        await begin(run)
        return Total(sum(each.grams for each in sizes))

    @graph.node(repeatable=True)
    async def count(total: Total, run: Run) -> AsyncIterator[Tick]:
        await begin(run)
        for number in range(4):
            yield Tick(number)

    @graph.node
    async def square(tick: Tick, run: Run) -> Square:
        await begin(run)
        return Square(tick.number**2)

    @graph.node
    async def gather(squares: list[Square], run: Run) -> Round:
        await begin(run)
        return Round(3, sum(each.number for each in squares))

    @graph.node
    async def again(turn: Round, run: Run) -> Round | End:
        await begin(run)
        return Round(turn.left - 1, turn.made + 1) if turn.left else End(turn.made)

    @graph.node
    async def finish(end: End, total: Total, run: Run) -> Report:
        await begin(run)
        return Report(total.grams, end.made)

    return graph


def expected(number: int) -> Report:
    """What a run of ``Job(number)`` makes."""
    return Report(sum((number + index) * 10 + 1 for index in range(4)), sum(each**2 for each in range(4)) + 3)


@final
@attrs.frozen
class Place:
    """The files of one store and what is noted beside it."""

    folder: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.folder / "runs.db"

    @property
    def begun(self) -> Path:
        """The steps that the present life has begun: run and path."""
        return self.folder / "begun"

    @property
    def told(self) -> Path:
        """What was acknowledged: a run, and nothing or its output."""
        return self.folder / "told"

    @property
    def finished(self) -> Path:
        """The steps that were recorded before the present life."""
        return self.folder / "finished"


async def live(place: Place, life: int, seed: int, runs: int, is_last: bool) -> None:
    """One life; the last one ends when all runs are over."""
    sqlite_writer.__dict__["LOG_PAGES"] = random.Random(seed).choice([20, 1000])
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    told, begun = os.open(place.told, flags, 0o600), os.open(place.begun, flags, 0o600)

    async def wait_for(number: int) -> None:
        handle = await runtime.start(graph, Job(number), run_id=f"run-{number}")
        os.write(told, f"run-{number}\t\n".encode())
        output = await handle.result()
        os.write(told, f"run-{number}\t{output.grams},{output.made}\n".encode())

    graph = workload(begun)
    async with open_runtime(store=SqliteStore(place.store), graphs=[graph]) as runtime, trio.open_nursery() as nursery:
        for number in range(0 if is_last else life * RUNS, runs):
            nursery.start_soon(wait_for, number)


async def look(place: Place) -> None:
    """Compare what is stored with what is noted, and print what is wrong as a JSON object."""
    wrong: Counter[str] = Counter()
    before = set(place.finished.read_text().splitlines()) if place.finished.exists() else set()
    begun = place.begun.read_text().splitlines() if place.begun.exists() else []
    wrong["begun again"] = sum(line in before for line in begun)
    place.begun.unlink(missing_ok=True)
    store = SqliteStore(place.store)
    finished: set[str] = set()
    stored: dict[str, str] = {}
    taken_up = 0
    if place.store.exists() and place.store.stat().st_size:
        for run in (await store.runs(RunQuery(limit=10_000))).items:
            stored[run.id] = run.status
            taken_up += run.lives - 1
            rows = [row async for row in store.read(run.id)]
            wrong["gaps"] += [row.seq for row in rows] != list(range(1, len(rows) + 1))
            wrong["damaged"] += not all(row.is_intact for row in rows)
            ended = [row.path.rpartition("\n")[2] for row in rows if row.kind is RecordKind.FINISHED]
            wrong["finished twice"] += len(ended) - len(set(ended))
            finished |= {f"{run.id}\t{path}" for path in ended}
        await store.close()
    for line in place.told.read_text().splitlines() if place.told.exists() else []:
        run_id, _, output = line.partition("\t")
        wrong["lost"] += run_id not in stored
        wanted = expected(int(run_id.partition("-")[2]))
        wrong["other outputs"] += output not in {"", f"{wanted.grams},{wanted.made}"}
    place.finished.write_text("".join(f"{line}\n" for line in sorted(finished)))
    wrong["parked"] = sum(status == "parked" for status in stored.values())
    wrong["failed"] = sum(status in {"failed", "cancelled"} for status in stored.values())
    place.folder.joinpath("wrong").write_text(json.dumps({"wrong": wrong, "taken up": taken_up}))


def looked(place: Place) -> tuple[Counter[str], int]:
    """What is wrong, and how often runs were taken up; found by a process of its own: this one must not open SQLite and fork."""
    _, status = os.waitpid(forked(partial(look, place)), 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the look failed"
    found = json.loads(place.folder.joinpath("wrong").read_text())
    return Counter(found["wrong"]), found["taken up"]


def wait_for_steps(place: Place) -> None:
    """Wait until the present life has begun a step."""
    deadline_s = time.monotonic() + 60
    while not place.begun.exists() or not place.begun.stat().st_size:
        assert time.monotonic() < deadline_s, "no step has begun"
        time.sleep(0.001)


def main(kills: int, seed: int = 0) -> int:
    chance = random.Random(seed)
    wrong: Counter[str] = Counter()
    done = runs = taken_up = 0
    with tempfile.TemporaryDirectory() as folder:
        while done < kills:
            place = Place(Path(folder) / f"{done}")
            place.folder.mkdir()
            lives = min(LIVES, kills - done)
            for life in range(lives):
                child = forked(partial(live, place, life, chance.getrandbits(32), (life + 1) * RUNS, False))
                wait_for_steps(place)
                time.sleep(chance.uniform(0.0, WITHIN_S))
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
                    return 1
                wrong += looked(place)[0]
            _, status = os.waitpid(forked(partial(live, place, lives, 1, lives * RUNS, True)), 0)
            if os.waitstatus_to_exitcode(status):
                return 1
            found, lived = looked(place)
            wrong += found
            done, runs, taken_up = done + lives, runs + lives * RUNS, taken_up + lived
    said = ", ".join(f"{count} {what}" for what, count in sorted(wrong.items()) if count) or "nothing lost or done again"
    print(f"{done} kills, {runs} runs, taken up {taken_up} times: {said}")  # noqa: T201
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
