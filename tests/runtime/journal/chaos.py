"""Kill a process that runs graphs on a SQLite store, again and again, and see that nothing was lost and nothing done twice.

``python -m tests.runtime.journal.chaos 1000``. Each life is a fork of a process without threads. A life takes up what the ones
before have left, starts runs of its own, answers what they ask, and is killed at a random point; at last one is let live until
every run is over. The language model is a provider in a process of its own, which knows best what it was asked.
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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from runtime import open_runtime
from runtime.journal import SqliteStore, sqlite_writer
from runtime.journal.records import RecordKind
from runtime.journal.store import RunQuery
from runtime.lm.client import LMClient
from runtime.lm.providers.translation import warm_up
from runtime.testing.loopback import LoopbackHandle, ModelScript, loopback_process
from tests.runtime.journal.kills import forked
from tests.runtime.journal.workload import ANSWER, ASKED, Notes, attend, ended, faults_of, finished_in, workload

RUNS: Final = 3
"""That each life starts."""
AGAIN: Final = 3
"""Lives before the present one whose runs it goes on with from its first moment: so that what was resumed is killed, too."""
MOST_STEPS: Final = 60
"""A life is killed when it has begun so many steps at most: fewer than its runs have, so on no machine are they all over."""
WITHIN_S: Final = 0.005
"""Seconds after its last step within which it is killed: as long as a step takes."""
LIVES: Final = 25
"""On one store."""
LATENCY_S: Final = 0.01
PATIENCE_S: Final = 120.0
"""How long the runs of one life may take, on the slowest machine."""


async def live(folder: Path, address: str, life: int, seed: int, runs: int, is_last: bool) -> None:
    """One life; the last one ends when all runs are over."""
    sqlite_writer.__dict__["LOG_PAGES"] = random.Random(seed).choice([20, 1000])
    notes = Notes(folder)
    graph = workload(
        lambda run_id, path: notes.write("begun", f"{run_id}\t{path}"),
        lambda run_id, path: notes.write("done", f"{run_id}\t{path}"),
        lambda run_id, path: f"{run_id}\t{path}" in notes.read("done"),
    )
    lm = LMClient("openai/m", api_key="key-of-a-test", api_base=address)
    async with (
        open_runtime(store=SqliteStore(folder / "runs.db"), graphs=[graph], lm=lm) as runtime,
        trio.open_nursery() as all_of_it,
    ):
        all_of_it.start_soon(attend, runtime, notes)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(0 if is_last else max(0, life - AGAIN) * RUNS, runs):
                    nursery.start_soon(ended, runtime, graph, number, notes)
        all_of_it.cancel_scope.cancel()


async def look(folder: Path, calls: Sequence[str]) -> None:
    """Compare what is stored with what was noted and what the provider was asked, and write what is wrong as a JSON object."""
    notes, store = Notes(folder), SqliteStore(folder / "runs.db")
    found: dict[str, Any] = {"wrong": {}, "figures": {}, "finished": [], "answered": []}
    if (folder / "runs.db").exists() and (folder / "runs.db").stat().st_size:
        found["wrong"], found["figures"] = await faults_of(store, notes, calls)
        for run in (await store.runs(RunQuery(limit=1_000))).items:
            rows = [row async for row in store.read(run.id)]
            found["finished"] += [f"{run.id}\t{path}" for path in finished_in(rows)]
            found["answered"] += [f"{run.id} {what}" for what in ASKED[: sum(row.kind is RecordKind.ANSWER for row in rows)]]
        await store.close()
    folder.joinpath("found").write_text(json.dumps(found))


class Place:
    """One store, and what is known of it after each life."""

    def __init__(self, folder: Path, provider: LoopbackHandle) -> None:
        self.folder = folder
        self._provider = provider
        self._finished: set[str] = set()
        self._answered: set[str] = set()
        self._calls = 0
        provider.clear()

    def look(self) -> tuple[Counter[str], Counter[str]]:
        """What is wrong after one more life, and other figures."""
        notes = Notes(self.folder)
        calls = [record.body["messages"][-1]["content"] for record in self._provider.snapshot().requests]
        # A process of its own: this one must not open SQLite and fork.
        _, status = os.waitpid(forked(partial(look, self.folder, calls)), 0)
        assert os.waitstatus_to_exitcode(status) == 0, "the look failed"
        found = json.loads((self.folder / "found").read_text())
        wrong = Counter[str](found["wrong"])
        wrong["steps begun again"] = sum(line in self._finished for line in notes.read("begun"))
        wrong["answers paid for again"] = sum(call in self._answered for call in calls[self._calls :])
        notes.delete("begun")
        self._finished, self._answered, self._calls = set(found["finished"]), set(found["answered"]), len(calls)
        return wrong, Counter(found["figures"])

    def wait_for_steps(self, count: int) -> None:
        """Wait until the present life has begun so many steps."""
        deadline_s, notes = time.monotonic() + 60, Notes(self.folder)
        while len(notes.read("begun")) < count:
            assert time.monotonic() < deadline_s, f"{len(notes.read('begun'))} steps have begun, and {count} were to begin"
            time.sleep(0.001)


def main(kills: int, seed: int = 0) -> int:
    chance = random.Random(seed)
    wrong, figures = Counter[str](), Counter[str]()
    done = runs = 0
    seen = Counter[str]()
    trio.run(warm_up)  # once, for all forks
    models = {"m": ModelScript(ANSWER, latency_s=LATENCY_S)}
    with tempfile.TemporaryDirectory() as folder, loopback_process(models) as provider:
        while done < kills:
            place = Place(Path(folder) / f"{done}", provider)
            place.folder.mkdir()
            lives = min(LIVES, kills - done)
            for life in range(lives + 1):
                seed, is_last = chance.getrandbits(32), life == lives
                wanted = (lives if is_last else life + 1) * RUNS
                child = forked(partial(live, place.folder, provider.api_base, life, seed, wanted, is_last))
                if not is_last:
                    place.wait_for_steps(chance.randint(1, MOST_STEPS))
                    time.sleep(chance.uniform(0.0, WITHIN_S))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
                    print(f"life {life} of the store at {done} kills ended with {os.waitstatus_to_exitcode(status)}")  # noqa: T201
                    return 1
                found, seen = place.look()
                wrong += found
            done, runs, figures = done + lives, runs + lives * RUNS, figures + seen
            print(f"{done} kills, wrong so far: {dict(+wrong) or 'nothing'}", file=sys.stderr, flush=True)  # noqa: T201
    said = ", ".join(f"{count} {what}" for what, count in sorted(wrong.items()) if count) or "nothing lost or done again"
    more = ", ".join(f"{count} {what}" for what, count in sorted(figures.items()))
    print(f"{done} kills, {runs} runs, taken up {figures['lives'] - runs} times, {more}: {said}")  # noqa: T201
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
