"""Kill a process that writes to a SQLite store, again and again, and look what is there.

``python -m tests.runtime.journal.kills 1000``. A process of its own without threads, so that each life can be a fork, which is
faster than starting Python.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import trio

from runtime.journal import SqliteStore, sqlite_writer
from runtime.journal.records import RecordKind
from runtime.testing.stores.samples import new_run, record

RUNS = 6
LOST, GAP, DAMAGED = 10, 11, 12


async def live(path: Path, acknowledged: Path, seed: int) -> None:
    """Write to all runs until the process is killed; each acknowledgement goes to a file before anything follows from it."""
    chance = random.Random(seed)
    sqlite_writer.__dict__["LOG_PAGES"] = chance.choice([10, 60, 1000])
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    store = SqliteStore(path, chance.choice(["paid", "paid", "always", "never"]))

    async def write(name: str, seq: int) -> None:
        while True:
            rows = [
                record(store, seq + more, run=name, data=b'"%d"' % (seq + more)) for more in range(chance.choice([1, 1, 1, 3]))
            ]
            written = trio.Event()

            def done(error: object, last: int, written: trio.Event) -> None:
                assert error is None, error
                os.write(log, f"{name} {last}\n".encode())
                written.set()

            store.append(rows, chance.random() < 0.2, partial(done, last=rows[-1].seq, written=written))
            seq += len(rows)
            await written.wait()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await store.open(f"worker-{os.getpid()}", nursery)
        for number in range(RUNS):
            name = f"r{number}"
            run = await store.take(name)
            last = 0 if run is None else run.last_seq
            if run is None:
                await store.create(new_run(name), record(store, 1, run=name, kind=RecordKind.STARTED))
                os.write(log, f"{name} 1\n".encode())
                last = 1
            nursery.start_soon(write, name, last + 1)


def told_by(acknowledged: Path) -> dict[str, int]:
    """The last record of each run that was acknowledged."""
    told: dict[str, int] = {}
    for line in acknowledged.read_text().splitlines() if acknowledged.exists() else []:
        name, seq = line.split()
        told[name] = max(told.get(name, 0), int(seq))
    return told


async def look(path: Path, acknowledged: Path) -> None:
    """Exit with what is wrong, if anything is."""
    told = told_by(acknowledged)
    if not told:
        return
    store = SqliteStore(path)
    for name, last in told.items():
        rows = [each async for each in store.read(name)]
        if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
            os._exit(GAP)
        if len(rows) < last:
            os._exit(LOST)
        if not all(row.is_intact and (row.seq == 1 or row.data == b'"%d"' % row.seq) for row in rows):
            os._exit(DAMAGED)
    await store.close()


def forked(function: Callable[[], Coroutine[None, None, None]]) -> int:
    """Run it in a child, whose process id is returned."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        trio.run(function)
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, and no one else would tell why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(kills: int, seed: int = 0) -> int:
    chance = random.Random(seed)
    wrong = dict.fromkeys((LOST, GAP, DAMAGED), 0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(kills):
            path = Path(folder) / f"{number // 20}.db"
            acknowledged = path.with_suffix(".acknowledged")
            child = forked(partial(live, path, acknowledged, chance.getrandbits(32)))
            time.sleep(chance.uniform(0.0, 0.12))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                print(f"the writer ended by itself: {status}")  # noqa: T201
                return 1
            _, status = os.waitpid(forked(partial(look, path, acknowledged)), 0)
            code = os.waitstatus_to_exitcode(status)
            if code in wrong:
                wrong[code] += 1
            elif code:
                return 1
    print(f"{kills} kills, {wrong[LOST]} lost, {wrong[GAP]} gaps, {wrong[DAMAGED]} damaged")  # noqa: T201
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
