"""A few connections to one database, for what is asked of a store beside appending."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, final

import attrs
import trio

from actors.store_errors import StoreError
from runtime.journal.postgres_schema import check, quoted
from runtime.journal.postgres_values import Value
from runtime.journal.postgres_wire import Address, ConnectionLost, PostgresConnection, StatementResult

MAX_CONNECTIONS: Final = 4


@final
class ConnectionPool:
    """Statements are written with ``{s}`` for the schema. Each runs on any free connection."""

    def __init__(self, address: Address, schema: str) -> None:
        self.address = address
        self.schema = schema
        self._name = quoted(schema)
        self._texts: dict[str, str] = {}
        self._idle: list[PostgresConnection] = []
        self._is_checked = False
        self._is_closed = False
        self._room = trio.CapacityLimiter(MAX_CONNECTIONS)

    def text(self, statement: str) -> str:
        """`statement` with the name of the schema."""
        found = self._texts.get(statement)
        if found is None:
            found = self._texts[statement] = statement.replace("{s}", self._name)
        return found

    async def connect(self) -> PostgresConnection:
        """A connection of the caller's own, to tables that are those of this release."""
        if self._is_closed:
            raise StoreError(f"the store in PostgreSQL at {self.address!r} is closed.\n  Fix: use it while its runtime is open.")
        connection = await PostgresConnection.open(self.address)
        if not self._is_checked:
            try:
                await check(connection, self.address, self.schema)
                self._is_checked = True
            finally:
                if not self._is_checked:
                    connection.close()
        return connection

    async def read(self, statement: str, *values: Value) -> StatementResult:
        """Carry out one statement; if the connection breaks, once more on a new one. Raises ``StoreError``."""
        try:
            return await self._run(statement, values)
        except ConnectionLost:  # most often one that was idle while the server started again
            return attrs.evolve(await self._run(statement, values), is_second=True)

    async def write(self, statement: str, *values: Value) -> StatementResult:
        """The same, for what must not be left half known: begun, it is not cancelled."""
        await trio.lowlevel.checkpoint_if_cancelled()
        answers: list[StatementResult] = []
        with trio.CancelScope(shield=True):
            answers.append(await self.read(statement, *values))
        return answers[0]

    async def once(self, statement: str, *values: Value) -> StatementResult:
        """The same, for what must not be done twice: if the connection breaks, it may have been done."""
        await trio.lowlevel.checkpoint_if_cancelled()
        answers: list[StatementResult] = []
        with trio.CancelScope(shield=True):
            answers.append(await self._run(statement, values))
        return answers[0]

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresConnection]:
        """A connection in a transaction, which is committed at the end of the block or not at all."""
        async with self._connection() as connection:
            try:
                await connection.run("begin")
                yield connection
                await connection.run("commit")
            finally:
                if connection.in_transaction:
                    connection.close()

    def close(self) -> None:
        """Close what is idle, and connect no more."""
        self._is_closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close what is idle; the next statement connects again."""
        while self._idle:
            self._idle.pop().close()

    async def _run(self, statement: str, values: tuple[Value, ...]) -> StatementResult:
        async with self._connection() as connection:
            answer = await connection.run(self.text(statement), *values)
        return answer

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[PostgresConnection]:
        async with self._room:
            connection = self._idle.pop() if self._idle else await self.connect()
            try:
                yield connection
            finally:
                if connection.is_open and self._is_closed:
                    connection.close()
                elif connection.is_open:
                    self._idle.append(connection)
                else:
                    self.drop_idle()  # what broke one has most likely broken the others
