"""A process that writes a run's records one after the other; its arguments are a DSN, a schema, the run and the lease in seconds.

It prints ``ready``, then the number of each record that is acknowledged, and at the end why it ended.
"""

from __future__ import annotations

import sys

import trio

from runtime.journal.postgres import PostgresStore
from runtime.testing.stores.samples import new_run, record, written


async def main(*arguments: str) -> None:
    dsn, schema, run, lease_s = arguments
    store = PostgresStore(dsn, schema, lease_s=float(lease_s))
    async with trio.open_nursery() as nursery:
        await store.open(f"worker of {run}", nursery)
        await store.create(new_run(run, graph=run), record(store, 1, run=run))
        say("ready")
        seq = 2
        while (error := await written(store, record(store, seq, run=run, data=b'"worker"'), sync=seq % 3 == 0)) is None:
            say(str(seq))
            seq += 1
            await trio.sleep(0.002)
        say(type(error).__name__)
        await store.close()


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
