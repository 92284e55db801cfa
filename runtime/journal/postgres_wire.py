"""PostgreSQL's protocol, on trio and in a thread: the only file that uses psycopg.

psycopg's protocol code is generators that say what they wait for. Here trio waits in a task, and ``poll`` in a thread: there is
no event loop of another library, and no thread for each call. These generators are not psycopg's published interface, so
``pyproject.toml`` allows one minor release, and ``tests/runtime/journal/test_postgres_wire.py`` holds what is used of it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Generator, Sequence
from hashlib import blake2s
from typing import Any, Final, TypeVar, final

import attrs
import trio

try:
    from psycopg import Error, conninfo, generators, pq
    from psycopg.pq.abc import PGconn, PGresult
    from psycopg.waiting import Ready, Wait
except ImportError as error:
    raise ImportError(
        "a store in PostgreSQL needs psycopg.\n  Fix: pip install 'understudy[postgres]'", name=error.name
    ) from error

from actors.errors import UsageError
from actors.store_errors import StoreError, StoreUnavailable
from actors.words import words_of
from runtime.journal.postgres_values import Value, parameter, reader

T = TypeVar("T")

CONNECT_S: Final = 10.0
"""How long one address is tried, unless the DSN has a ``connect_timeout``."""
_DEFAULTS: Final = {"application_name": "understudy", "client_encoding": "utf8", "tcp_user_timeout": "30000"}
_LOST: Final = ("08", "57P01", "57P02", "57P03", "57P05", "25P03")
"""SQLSTATEs after which the connection is of no use: it broke, or the server stops or starts."""
_LATER: Final = ("53", "58", "40", "25006", "55P03", "57014")
"""No resources, an error of the disk, a deadlock, a standby that is read-only, a lock or a statement that took too long."""
_UNPREPARED: Final = frozenset({"26000", "42P05"})
"""The prepared statement is not there, or there twice: a pooler gave us another session of the server."""


class ConnectionLost(StoreUnavailable):
    """The connection broke in the middle of a statement, which may have been carried out or not."""


class Rejected(StoreError):
    """The server says that a statement is wrong, for this reason; no part of it was carried out."""

    def __init__(self, message: str, *, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@final
@attrs.frozen
class StatementResult:
    """What a statement gave."""

    rows: list[tuple[Any, ...]]
    count: int
    """How many rows it inserted, changed or selected."""
    is_second: bool = False
    """It was sent twice, because the connection broke before there was an answer to the first."""


def monotonic() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@final
@attrs.frozen(repr=False)
class Address:
    """A DSN, taken apart. Its password is in no text."""

    fields: dict[str, Any]

    @classmethod
    def of(cls, dsn: str) -> Address:
        """Raises ``UsageError``, whose text has nothing of `dsn`: what cannot be read may be the password."""
        try:
            return cls({key: value for key, value in conninfo.conninfo_to_dict(dsn).items() if value is not None})
        except Error:
            pass
        raise UsageError(
            "the address of the PostgreSQL store cannot be read.\n"
            "  Fix: write postgresql://user:password@host:5432/database, "
            "with what is special in the user and the password %-encoded."
        )

    def __repr__(self) -> str:
        return f"{self._field('host', 'PGHOST', 'local')}:{self._field('port', 'PGPORT', '5432')}/{self.fields.get('dbname', '')}"

    def _field(self, name: str, variable: str, default: str) -> str:
        return str(self.fields.get(name) or os.environ.get(variable) or default)

    @property
    def connect_s(self) -> float:
        """How long one address is tried."""
        try:
            seconds = float(self.fields.get("connect_timeout", CONNECT_S))
        except ValueError:
            seconds = CONNECT_S
        return seconds if seconds > 0 else CONNECT_S

    def conninfo(self, **fields: str) -> str:
        """What libpq is given."""
        return conninfo.make_conninfo("", **{**_DEFAULTS, **self.fields, **fields})

    async def resolved(self) -> list[str]:
        """One text for each address that its hosts have, in their order; libpq would look names up while everything waits."""
        hosts = self._field("host", "PGHOST", "").split(",")
        ports = self._field("port", "PGPORT", "").split(",")
        if "hostaddr" in self.fields or not any(hosts):
            return [self.conninfo()]
        found: list[str] = []
        failure: OSError | None = None
        for number, host in enumerate(hosts):
            port = ports[number] if len(ports) == len(hosts) else ports[0]
            given = {"host": host, **({"port": port} if port else {})}
            if host.startswith(("/", "@")) or not host:
                found.append(self.conninfo(**given))
                continue
            try:
                infos = await trio.socket.getaddrinfo(host, port or "5432", type=trio.socket.SOCK_STREAM)
            except OSError as error:
                failure = error
            else:
                found += [self.conninfo(**given, hostaddr=str(info[4][0])) for info in infos]
        if not found and failure is not None:
            raise self.unreachable(words_of(failure))
        return found

    def unreachable(self, words: str) -> StoreUnavailable:
        """The error, without the password, should a library have repeated it."""
        password = str(self.fields.get("password") or "")
        shown = words.replace(password, "…") if password else words
        return StoreUnavailable(
            f"the PostgreSQL store at {self!r} cannot be reached: {shown.strip()}\n"
            "  Fix: start the server, or correct the address, the user or the password."
        )


class _Session:
    """What both kinds of connection share: a libpq connection, and which statements it has prepared."""

    def __init__(self, pgconn: PGconn, address: Address) -> None:
        self._pgconn = pgconn
        self._address = address
        self._prepared: set[str] = set()
        self._prepares = True

    @property
    def is_open(self) -> bool:
        """Whether it has not been seen to be broken."""
        return self._pgconn.status == pq.ConnStatus.OK

    @property
    def in_transaction(self) -> bool:
        """Whether a ``begin`` has not met its end."""
        return self.is_open and self._pgconn.transaction_status != pq.TransactionStatus.IDLE

    @property
    def server_version(self) -> int:
        """150004 is 15.4."""
        return self._pgconn.server_version

    def close(self) -> None:
        """Close it; closed already: no effect."""
        self._pgconn.finish()

    def _lost(self, words: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(f"the connection to the PostgreSQL store at {self._address!r} was lost: {words.strip()}")

    def _statement(self, sql: str, values: Sequence[Value], prepare: bool) -> Generator[Wait, Any, StatementResult]:
        given = [parameter(value) for value in values]
        data, formats = [each[0] for each in given], [each[1] for each in given]
        if prepare and self._prepares:
            try:
                name = yield from self._preparing(sql)
                self._pgconn.send_query_prepared(name, data, param_formats=formats, result_format=1)
                return self._answer((yield from generators.execute(self._pgconn)))
            except Rejected as error:
                if error.sqlstate not in _UNPREPARED:
                    raise
                self._prepares = False
        self._pgconn.send_query_params(sql.encode(), data, param_formats=formats, result_format=1)
        return self._answer((yield from generators.execute(self._pgconn)))

    def _with_socket(self, waiting: Generator[Wait, Any, T]) -> Generator[tuple[int, Wait], Any, T]:
        """The same, saying which socket it waits for, as a connecting one does."""
        try:
            wanted = next(waiting)
            while True:
                wanted = waiting.send((yield self._pgconn.socket, wanted))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # of type T

    def _preparing(self, sql: str) -> Generator[Wait, Any, bytes]:
        """The name is made of the text, so behind a pooler the name of one never stands for another."""
        name = f"understudy_{blake2s(sql.encode(), digest_size=12).hexdigest()}"
        if name not in self._prepared:
            self._pgconn.send_prepare(name.encode(), sql.encode())
            self._answer((yield from generators.execute(self._pgconn)))
            self._prepared.add(name)
        return name.encode()

    def _answer(self, results: Sequence[PGresult]) -> StatementResult:
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise self._error(result)
        (result,) = results
        readers = [reader(result.ftype(column)) for column in range(result.nfields)]
        rows = [
            tuple(
                None if (stored := result.get_value(row, column)) is None else read(stored) for column, read in enumerate(readers)
            )
            for row in range(result.ntuples)
        ]
        return StatementResult(rows, result.command_tuples or 0)

    def _error(self, result: PGresult) -> StoreError:
        """The first line of what the server says, which has the reason; the others may show what is stored."""
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        words = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if sqlstate.startswith(_LOST) or not sqlstate:
            return self._lost(words or "it was closed")
        if sqlstate.startswith(_LATER):
            return StoreUnavailable(f"the PostgreSQL store at {self._address!r} cannot do that now: {words} ({sqlstate})")
        return Rejected(
            f"the PostgreSQL store at {self._address!r} rejected a statement: {words} ({sqlstate})", sqlstate=sqlstate
        )


@final
class PostgresConnection(_Session):
    """A connection for one task at a time. Anyone who is cancelled in the middle of a statement has closed it."""

    @classmethod
    async def open(cls, address: Address) -> PostgresConnection:
        """Try the addresses in turn. Raises ``StoreUnavailable`` with the reason of the last."""
        words = "it has no address"
        for each in await address.resolved():
            with trio.move_on_after(address.connect_s):
                try:
                    return cls(await _drive(generators.connect(each)), address)
                except (Error, OSError) as error:
                    words = words_of(error)
                    continue
            words = f"no answer within {address.connect_s:g} s"
        raise address.unreachable(words)

    async def run(self, sql: str, *values: Value, prepare: bool = False, patience_s: float = 30.0) -> StatementResult:
        """Carry out one statement.

        Raises ``ConnectionLost`` when the outcome is unknown, also when there is none within `patience_s` seconds,
        ``StoreUnavailable`` or ``Rejected`` when nothing was done.
        """
        finished = False
        try:
            with trio.move_on_after(patience_s):
                answer = await _drive(self._with_socket(self._statement(sql, values, prepare)))
                finished = True
                return answer
        except StoreError:
            finished = True
            raise
        except (Error, OSError, trio.ClosedResourceError) as error:
            raise self._lost(words_of(error)) from None
        finally:
            if not finished:  # cancelled, or too late: its answer would be taken for that of the next
                self.close()
        raise self._lost(f"no answer within {patience_s:g} s")

    async def notified(self) -> None:
        """Wait for a NOTIFY to a channel that this connection listens to."""
        try:
            while not await _drive(self._with_socket(generators.notifies(self._pgconn))):
                pass
        except (Error, OSError, trio.ClosedResourceError) as error:
            raise self._lost(words_of(error)) from None


@final
class BlockingConnection(_Session):
    """A connection for a thread."""

    @classmethod
    def open(cls, address: Address) -> BlockingConnection:
        """Connect, or raise ``StoreUnavailable``."""
        try:
            waiting = generators.connect(address.conninfo())
            return cls(_poll(waiting, monotonic() + address.connect_s), address)
        except (Error, OSError) as error:
            raise address.unreachable(words_of(error)) from None

    def run(self, sql: str, *values: Value, patience_s: float) -> StatementResult:
        """Carry out one statement; raises as ``PostgresConnection.run`` does."""
        try:
            return _poll(self._with_socket(self._statement(sql, values, prepare=False)), monotonic() + patience_s)
        except (Error, OSError) as error:
            raise self._lost(words_of(error)) from None


def _poll(waiting: Generator[tuple[int, Wait], Any, T], deadline: float) -> T:
    """Drive `waiting` in this thread; ``TimeoutError`` at `deadline` on :func:`monotonic`."""
    try:
        fd, wanted = next(waiting)
        while True:
            poll = select.poll()
            poll.register(fd, (select.POLLIN if wanted & Wait.R else 0) | (select.POLLOUT if wanted & Wait.W else 0))
            events = poll.poll(max(0.0, deadline - monotonic()) * 1000)
            if not events:
                raise TimeoutError("no answer in time")
            happened = events[0][1]
            ready = Ready.R if happened & ~select.POLLOUT else 0
            ready |= Ready.W if happened & ~select.POLLIN else 0
            fd, wanted = waiting.send(ready & wanted)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of type T


async def _drive(waiting: Generator[tuple[int, Wait], Any, T]) -> T:
    """Drive `waiting` in this task."""
    try:
        fd, wanted = next(waiting)
        while True:
            fd, wanted = waiting.send(await _ready(fd, wanted))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of type T


async def _ready(fd: int, wanted: Wait) -> Ready:
    if wanted == Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wanted == Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    return await _either(fd)


async def _either(fd: int) -> Ready:
    """Readable or writable: a server that answers before it has read everything must be heard, or both sides wait."""
    seen: list[Ready] = []
    async with trio.open_nursery() as nursery:

        async def readable() -> None:
            await trio.lowlevel.wait_readable(fd)
            seen.append(Ready.R)
            nursery.cancel_scope.cancel()

        async def writable() -> None:
            await trio.lowlevel.wait_writable(fd)
            seen.append(Ready.W)
            nursery.cancel_scope.cancel()

        nursery.start_soon(readable)
        nursery.start_soon(writable)
    return Ready.RW if len(seen) == 2 else seen[0]
