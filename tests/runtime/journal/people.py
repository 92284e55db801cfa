"""Kill a process around the questions that its runs ask people, again and again, and see that nothing is asked or done twice.

``python -m tests.runtime.journal.people 100`` for a SQLite file, ``… 20 postgresql://…`` for a server. Each life is a fork of a
process without threads. It takes up what the ones before have left, answers what is asked, and kills itself at a chosen event: in
the middle of a question, of an answer, or of a step. The last one lives until all runs are over.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
import trio

from actors import AlreadyAnswered, Graph, Recall, Run, RunCrashes
from runtime import NodeFinished, NodeStarted, QuestionAnswered, QuestionAsked, Runtime, open_runtime
from runtime.graphs.records.history import history_of
from runtime.journal import PostgresStore, SqliteStore, Store
from runtime.journal.records import RecordKind
from runtime.journal.store import RunQuery
from tests.runtime.journal.kills import forked

RUNS: Final = 4
EVENTS: Final = RUNS * 20
"""More than the runs of one store make."""
COUNTED: Final = (QuestionAsked, QuestionAnswered, NodeStarted, NodeFinished)
LEASE_S: Final = 2.0
KILLED: Final = -signal.SIGKILL
PATIENCE_S: Final = 60.0
"""How long the runs of one life may take, on the slowest machine."""


@attrs.frozen
class Case:
    number: int


@attrs.frozen
class Draft:
    number: int


@attrs.frozen
class Approved:
    token: str


@attrs.frozen
class Letter:
    token: str


@attrs.frozen
class Signed:
    token: str


@attrs.frozen
class Really:
    token: str


@attrs.frozen
class Sure:
    token: str


@attrs.frozen
class Closed:
    tokens: list[str]


def note(folder: Path, name: str, line: str) -> None:
    """Append a line in one write, which a kill does not tear."""
    file = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def noted(folder: Path, name: str) -> list[list[str]]:
    path = folder / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def asking(folder: Path) -> Graph[Case, Closed]:
    """Two people's steps, and a question from within a node; each other step notes that it begins."""
    graph = Graph("people", input=Case, output=Closed)

    @graph.node
    async def prepare(case: Case, run: Run) -> Draft:
        note(folder, "begun", f"{run.id} {run.path}")
        return Draft(case.number)

    @graph.human
    async def approve(draft: Draft) -> Approved:
        """May it be written?"""
        raise NotImplementedError

    @graph.node
    async def write(ok: Approved, run: Run) -> Letter:
        note(folder, "begun", f"{run.id} {run.path}")
        return Letter(ok.token)

    @graph.human
    async def sign(letter: Letter) -> Signed:
        """Sign it."""
        raise NotImplementedError

    @graph.node
    async def close(signed: Signed, ok: Annotated[Approved, Recall()], run: Run) -> Closed:
        note(folder, "begun", f"{run.id} {run.path}")
        sure = await run.ask(Really(signed.token), Sure)
        return Closed([ok.token, signed.token, sure.token])

    return graph


def store_of(folder: Path, dsn: str) -> Store:
    if not dsn:
        return SqliteStore(folder / "runs.db")
    return PostgresStore(dsn, f"people_{folder.name}", lease_s=LEASE_S, migrate=True)


async def attend(runtime: Runtime, folder: Path, chance: random.Random) -> None:
    """Answer whatever is asked; what is acknowledged is noted."""
    while True:
        for question in await runtime.questions():
            token = f"{chance.getrandbits(64):016x}"
            kind: Any = question.answers[0]
            try:
                await runtime.answer(question.id, kind(token))
            except AlreadyAnswered:
                continue
            note(folder, "answered", f"{question.run_id} {question.id} {token}")
        await trio.sleep(0.01)


async def live(folder: Path, dsn: str, seed: int, kill_at: int) -> None:
    """One life, which kills itself at that event, if it comes to so many."""
    chance = random.Random(seed)
    seen = 0

    def count(event: object) -> None:
        nonlocal seen
        if isinstance(event, COUNTED):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    graph = asking(folder)
    async with (
        open_runtime(store=store_of(folder, dsn), graphs=[graph], evict_after_s=0.02, instruments=[count]) as runtime,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(attend, runtime, folder, chance)
        for number in range(RUNS):
            await runtime.start(graph, Case(number), run_id=f"case-{number}")
        with trio.move_on_after(PATIENCE_S) as patience:
            for number in range(RUNS):
                await to_its_end(runtime, f"case-{number}")
        if patience.cancelled_caught:
            await show(runtime)
        nursery.cancel_scope.cancel()
    assert not patience.cancelled_caught, "a run does not end"


async def to_its_end(runtime: Runtime, run_id: str) -> None:
    """Wait until it is over. Lives that are killed soon after another leave it parked, though it is to blame for none of that."""
    while True:
        try:
            await (await runtime.handle(run_id)).result()
        except RunCrashes:
            await runtime.resume(run_id)
        else:
            return


async def show(runtime: Runtime) -> None:
    """What there is of runs that do not end, for whoever reads that the test has failed."""
    here = runtime.runs()
    for stored in (await runtime.stored()).items:
        history = await runtime.history(stored.id)
        tail = [(record.kind.value, record.path) for record in history.records[-6:]]
        print(stored, here.get(stored.id), await runtime.questions(stored.id), tail, sep="\n  ")  # noqa: T201


async def look(folder: Path, dsn: str, is_last: bool) -> None:
    """Compare what is stored with what was noted, and write what is wrong as a JSON object."""
    wrong = Counter[str]()
    store = store_of(folder, dsn)
    finished: list[str] = []
    tokens: dict[str, list[str]] = {}
    for run in (await store.runs(RunQuery(limit=100))).items:
        history = await history_of(store, run.id)
        assert history is not None
        wrong["damaged"] += not history.is_intact
        asked = Counter(record.path for record in history.records if record.kind is RecordKind.ASKED)
        answered = Counter(record.path for record in history.records if record.kind is RecordKind.ANSWERED)
        wrong["asked again"] += sum(count - 1 for count in asked.values())
        wrong["answered twice"] += sum(count - 1 for count in answered.values())
        finished += [f"{run.id} {record.path}" for record in history.records if record.kind is RecordKind.FINISHED]
        if is_last:
            wrong["not over"] += run.status != "succeeded"
            last = history.records[-1]
            tokens[run.id] = [token for made in json.loads(last.data or b"{}").values() for token in made["tokens"]]
    await store.close()
    done = {tuple(line) for line in noted(folder, "finished")}
    wrong["steps begun again"] = sum(tuple(line) in done for line in noted(folder, "begun"))
    (folder / "begun").unlink(missing_ok=True)
    (folder / "finished").write_text("".join(f"{line}\n" for line in finished))
    acknowledged = noted(folder, "answered")
    wrong["acknowledged twice"] = len(acknowledged) - len({question for _, question, _ in acknowledged})
    if is_last:
        wrong["acknowledged and lost"] = sum(token not in tokens.get(run, ()) for run, _, token in acknowledged)
    (folder / "found").write_text(json.dumps(wrong))


def ended(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main(kills: int, dsn: str = "", seed: int = 0) -> int:
    chance = random.Random(seed)
    wrong, done, stores = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as place:
        while done < kills:
            stores += 1
            folder = Path(place) / f"{os.getpid()}_{stores}"
            folder.mkdir()
            is_over = False
            while not is_over:
                kill_at = chance.randrange(1, EVENTS // 3) if done < kills else 0
                code = ended(forked(partial(live, folder, dsn, chance.getrandbits(32), kill_at)))
                if code not in (0, KILLED):
                    print(f"a life ended with {code}")  # noqa: T201
                    return 1
                done += code == KILLED
                is_over = code == 0
                if ended(forked(partial(look, folder, dsn, is_over))):
                    return 1
                wrong.update(json.loads((folder / "found").read_text()))
    faults = {what: count for what, count in wrong.items() if count}
    print(f"{done} kills on {stores} stores, wrong: {faults or 'nothing'}")  # noqa: T201
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), "".join(sys.argv[2:3])))
