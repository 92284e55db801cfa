"""A process that has a name; its arguments are a DSN, a schema, the name and the lease in seconds.

It prints ``held`` with the fence, and at the end how it lost the name and what it is told when it asks for it again.
"""

from __future__ import annotations

import sys

import trio

from actors import NameLost, StoreError
from runtime import Runtime, open_runtime
from runtime.journal.postgres import PostgresStore


async def main(*arguments: str) -> None:
    dsn, schema, name, lease_s = arguments
    async with open_runtime(store=PostgresStore(dsn, schema, lease_s=float(lease_s)), worker="holder") as runtime:
        try:
            await hold(runtime, name)
        except NameLost as error:
            say(type(error).__name__)
        try:
            await hold(runtime, name)
        except StoreError as error:
            say(type(error).__name__)


async def hold(runtime: Runtime, name: str) -> None:
    async with runtime.register(name) as held:
        say(f"held {held.fence}")
        await trio.sleep_forever()


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
