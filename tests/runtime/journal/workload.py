"""What the processes that are killed run: every kind of step there is, each of which notes that it begins.

A fan-out into nested runs, a join, a generator with a fan-in, a loop, a node with two calls of a language model, a person, and
two steps that may run once only. One of these finds out itself whether it took effect; the other leaves it to whoever resumes
the run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import attrs
import trio

from actors import LM, Effect, Graph, Run
from actors.errors import UsageError
from actors.store_errors import AlreadyAnswered, RunCrashes, RunParked, StepUncertain, StoreError, UnknownRun
from runtime import Runtime
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import RunQuery, Store, StoredStatus

ASKED: Final = ("first", "second")
"""What the node with two calls asks, in that order."""
ANSWER: Final = "sixty"
"""What the language model says, always."""
POST: Final = "chaos/post/0"
"""The path of the step about which somebody else has to decide."""


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
class Letter:
    text: str


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Sent:
    by: str


@attrs.frozen
class Posted:
    by: str


@attrs.frozen
class Report:
    grams: int
    made: int
    text: str


def expected(number: int) -> Report:
    """What a run of ``Job(number)`` makes."""
    grams = sum((number + index) * 10 + 1 for index in range(4))
    return Report(grams, sum(each**2 for each in range(4)) + 3, f"{ANSWER} and {ANSWER}; {person(f'run-{number}')}")


def person(run_id: str) -> str:
    """Who answers the question of that run: another one in each, so that answers that are exchanged are seen."""
    return f"anna of {run_id}"


@final
class Notes:
    """What the steps of all lives have begun and done, in files: they outlive the process that writes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}

    def write(self, name: str, line: str) -> None:
        """Add a line to the file of that name, in one write."""
        if name not in self._open:
            self._open[name] = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._open[name], f"{line}\n".encode())

    def read(self, name: str) -> list[str]:
        """All lines of it."""
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []

    def delete(self, name: str) -> None:
        """Forget it."""
        (self._folder / name).unlink(missing_ok=True)


def workload(
    begun: Callable[[str, str], object], done: Callable[[str, str], object], was_done: Callable[[str, str], bool]
) -> Graph[Job, Report]:
    """The graph.

    Args:
        begun: told of each step that begins: run and path.
        done: told of each effect that may come about once only: run and path.
        was_done: whether that effect came about, as far as anybody can find out.
    """

    async def begin(run: Run) -> None:
        begun(run.id, run.path)
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
    async def write(total: Total, lm: LM, run: Run) -> Letter:
        await begin(run)
        texts = [(await lm.chat([{"role": "user", "content": f"{run.id} {what}"}])).text for what in ASKED]
        return Letter(" and ".join(texts))

    @graph.human
    async def approve(letter: Letter) -> Approved:
        """May it be sent?"""
        raise NotImplementedError

    async def was_sent(ok: Approved, run: Run) -> Sent | None:
        return Sent(ok.by) if was_done(run.id, run.path) else None

    @graph.node(effect=Effect.ONCE, on_uncertain=was_sent)
    async def send(ok: Approved, run: Run) -> Sent:
        await begin(run)
        done(run.id, run.path)
        return Sent(ok.by)

    @graph.node(effect=Effect.ONCE)
    async def post(sent: Sent, run: Run) -> Posted:
        await begin(run)
        done(run.id, run.path)
        return Posted(sent.by)

    @graph.node
    async def finish(end: End, total: Total, letter: Letter, posted: Posted, run: Run) -> Report:
        await begin(run)
        return Report(total.grams, end.made, f"{letter.text}; {posted.by}")

    return graph


async def attend(runtime: Runtime, notes: Notes) -> None:
    """Be the people that runs wait for: answer what is asked, and decide what was cut short. Never ends."""
    while True:
        for question in await runtime.questions():
            with suppress(AlreadyAnswered, UnknownRun):
                await runtime.answer(question.id, Approved(person(question.run_id)))
                notes.write("answered", f"{question.run_id}\t{question.id}")
        for parked in (await runtime.stored(status=StoredStatus.PARKED)).items:
            await decide(runtime, parked.id)
        await trio.sleep(0.01)


async def decide(runtime: Runtime, run_id: str) -> None:
    """Let a parked run go on. Of the step that nobody can look up, it is taken that it took effect."""
    decisions: Mapping[str, Posted] = {}
    try:
        await (await runtime.handle(run_id)).result()
    except StepUncertain:
        decisions = {POST: Posted(person(run_id))}
    except RunCrashes:  # it had the bad luck to be killed three times between two records
        pass
    except RunParked as error:
        raise AssertionError(f"run {run_id!r} is parked: {error}") from error
    with suppress(StepUncertain, StoreError, UsageError):  # decided meanwhile, or there is one more to decide
        await runtime.resume(run_id, uncertain=decisions)


async def ended(runtime: Runtime, graph: Graph[Job, Report], number: int, notes: Notes) -> None:
    """Start a run and wait for its end; that it was accepted, and its output, are noted."""
    run_id = f"run-{number}"
    handle = await runtime.start(graph, Job(number), run_id=run_id)
    notes.write("told", run_id)
    while True:
        try:
            output = await handle.result()
        except RunParked:  # until somebody has decided
            await trio.sleep(0.01)
            handle = await runtime.handle(run_id)
            continue
        notes.write("told", f"{run_id}\t{output.grams},{output.made},{output.text}")
        return


async def faults_of(store: Store, notes: Notes, lm_calls: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """What is wrong in a store, by kind, and other figures of it. `lm_calls` are all that the provider was ever asked."""
    wrong, figures = Counter[str](), Counter[str]()
    asked, runs = Counter(lm_calls), (await store.runs(RunQuery(limit=1_000))).items
    stored = {run.id: run for run in runs}
    for run in runs:
        rows = [row async for row in store.read(run.id)]
        figures["records"] += len(rows)
        figures["lives"] += run.lives
        figures["runs that were killed more than once"] += run.lives > 2
        wrong["gaps"] += [row.seq for row in rows] != list(range(1, len(rows) + 1))
        wrong["damaged"] += not all(row.is_intact for row in rows)
        kinds = Counter(row.kind for row in rows)
        wrong["ended twice"] += kinds[RecordKind.OVER] > 1
        paths = finished_in(rows)
        wrong["finished twice"] += len(paths) - len(set(paths))
        answered = [row.path for row in rows if row.kind is RecordKind.ANSWERED]
        wrong["answered twice"] += len(answered) - len(set(answered))
        wrong["failed"] += run.status in (StoredStatus.FAILED, StoredStatus.CANCELLED)
        sent = sum(asked[f"{run.id} {what}"] for what in ASKED)
        figures["calls of the language model"] += sent
        figures["calls without a recorded end"] += (
            kinds[RecordKind.CALLED] - kinds[RecordKind.ANSWER] - kinds[RecordKind.UNANSWERED]
        )
        wrong["calls that nobody counted"] += max(0, sent - kinds[RecordKind.CALLED])
        wrong["answers without a call"] += max(0, kinds[RecordKind.ANSWER] - sent)
    for line in notes.read("told"):
        run_id, _, output = line.partition("\t")
        wrong["lost runs"] += run_id not in stored
        whole = expected(int(run_id.partition("-")[2]))
        wrong["other outputs"] += output not in {"", f"{whole.grams},{whole.made},{whole.text}"}
        wrong["lost ends"] += bool(output) and stored[run_id].status is not StoredStatus.SUCCEEDED
    for line in notes.read("answered"):
        run_id, _, question = line.partition("\t")
        posted = {item.key for item in await store.inbox(run_id)}
        known = await store.question(question)
        wrong["lost answers"] += question not in posted and (known is None or known.answered is None)
    wrong["effects done twice"] += sum(times - 1 for times in Counter(notes.read("done")).values())
    return wrong, figures


def finished_in(rows: Iterable[Record]) -> list[str]:
    """The paths of the steps whose result is recorded, without the frames before them."""
    return [row.path.rpartition("\n")[2] for row in rows if row.kind is RecordKind.FINISHED]
