"""One of several processes that share the actors of keys: its arguments are a DSN, a schema, the lease in seconds, and its name.

It reads keys, a line each, asks for the actor of that key, and writes what came of it. Each activation is a row of a table, and
its end another one, so the test can see whether two lived at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncGenerator
from functools import partial

import attrs
import psycopg
import trio

from actors import Actor, Redelivery, Request
from actors.errors import UnderstudyError
from runtime import open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.placement import Sharded


@attrs.frozen
class Count(Request[str]):
    key: str


class Counter(Actor[Count]):
    def __init__(self, dsn: str, schema: str, key: str) -> None:
        self.where = dsn, schema
        self.key = key
        self.count = 0

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        await trio.to_thread.run_sync(self.note, "+")
        yield
        await trio.to_thread.run_sync(self.note, "-")

    def note(self, what: str) -> None:
        dsn, schema = self.where
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                f"insert into {schema}.lives(key, pid, fence, what) values (%s, %s, %s, %s)".encode(),
                (self.key, os.getpid(), self.context.fence, what),
            )

    async def receive(self, message: Count) -> str:
        self.count += 1
        return f"{os.getpid()} {self.count}"


async def main(dsn: str, schema: str, lease_s: str, name: str) -> None:
    def counter(key: str) -> Counter:
        return Counter(dsn, schema, key)

    sharded = Sharded(counter, key=lambda message: message.key, everywhere=True, redelivery=Redelivery(max_attempts=5))
    store = PostgresStore(dsn, schema, lease_s=float(lease_s))
    async with open_runtime(store=store, worker=name) as runtime, trio.open_nursery() as nursery:
        counters = await runtime.spawn(sharded, name="counters")

        async def ask(key: str) -> None:
            try:
                said = await counters.ask(Count(key))
            except UnderstudyError as error:
                said = f"failed {type(error).__name__}"
            sys.stdout.write(f"{key} {said}\n")
            sys.stdout.flush()

        sys.stdout.write("open\n")
        sys.stdout.flush()
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            nursery.start_soon(ask, line.strip())


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
