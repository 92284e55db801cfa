"""One of several processes that start the same runs; its arguments are a DSN, a schema, the lease in seconds and how many runs.

It goes on until it is killed, with another runtime when its own has lost its lease or its server.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Final

import trio

from actors.errors import UnderstudyError
from runtime import Runtime, open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.journal.store import Lease
from runtime.testing.stores.passing import PassingStore
from tests.runtime.journal.letters import Order, letters

PACE_S: Final = 0.1
"""Between one run and the next."""


class Leased(PassingStore):
    """A store whose lease can be seen."""

    lease: Lease

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        self.lease = await super().open(worker, nursery)
        return self.lease


async def main(*arguments: str) -> None:
    dsn, schema, lease_s, runs = arguments
    graph = letters(lambda _: None, partial(trio.sleep, 0.2))

    async def start(runtime: Runtime, number: int) -> None:
        await trio.sleep(number * PACE_S)
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
