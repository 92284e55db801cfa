"""A program that starts durable runs and is killed: its arguments are a DSN, a schema, the lease in seconds and how many runs."""

from __future__ import annotations

import sys
from functools import partial

import trio

from runtime import open_runtime
from runtime.journal.postgres import PostgresStore
from tests.runtime.journal.letters import Order, letters


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def main(*arguments: str) -> None:
    dsn, schema, lease_s, runs = arguments
    graph = letters(say, partial(trio.sleep, 0.3))
    async with open_runtime(store=PostgresStore(dsn, schema, lease_s=float(lease_s)), graphs=[graph]) as runtime:
        for number in range(int(runs)):
            await runtime.start(graph, Order(number), run_id=f"order-{number}")
            await trio.sleep(0.03)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
