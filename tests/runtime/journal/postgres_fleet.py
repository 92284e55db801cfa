"""One of several processes that start the same runs; its arguments are a DSN, a schema, the lease in seconds, runs and a time.

All start each run in the same instant, counted from that time in seconds since 1970: else the process that came up first would
start, and have, every one, and what befalls the others would show nothing. It goes on until it is killed, with another runtime
when its own has lost its lease or its server.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any, Final

import trio

from actors.errors import UnderstudyError
from runtime import Runtime, open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.journal.store import Lease
from runtime.testing.stores.passing import PassingStore
from tests.runtime.journal.letters import Order, letters

PACE_S: Final = 0.15
"""Between one run and the next."""


class Leased(PassingStore):
    """A store whose lease can be seen."""

    lease: Lease

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        self.lease = await super().open(worker, nursery)
        return self.lease


async def main(*arguments: str) -> None:
    dsn, schema, lease_s, runs, began = arguments
    graph = letters(lambda _: None, partial(trio.sleep, 0.2))

    async def start(runtime: Runtime, number: int) -> None:
        await trio.sleep(max(0.0, float(began) + number * PACE_S - time.time()))
        while True:
            try:
                await runtime.start(graph, Order(number), run_id=f"order-{number}")
            except UnderstudyError:  # the server is away
                await trio.sleep(0.1)
            else:
                return

    while True:
        store: Any = Leased(PostgresStore(dsn, schema, lease_s=float(lease_s)))
        try:
            async with open_runtime(store=store, graphs=[graph]) as runtime, trio.open_nursery() as nursery:
                for number in range(int(runs)):
                    nursery.start_soon(start, runtime, number)
                sys.stdout.write("open\n")
                sys.stdout.flush()
                await store.lease.lost.wait()
                nursery.cancel_scope.cancel()
        except* UnderstudyError:
            await trio.sleep(0.1)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
