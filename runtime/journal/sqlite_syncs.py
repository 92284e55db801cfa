"""Syncs of a SQLite log without its connection: what was written on the event loop is on the platter when a thread says so.

A sync takes as long as the disk does; the connection is free meanwhile, so other records are written as if there were none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import attrs
import outcome
import trio

from actors.store_errors import StoreError
from actors.words import said
from runtime.journal.sqlite_file import no_thread, store_error

Told = Callable[[outcome.Outcome[Any]], None]

_FULL: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""Of macOS, whose own fsync leaves the data in the cache of the disk."""
_SYNC: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


@final
class LogFile:
    """The log of a database, opened beside the connection. SQLite has no locks on it that closing this would release."""

    def __init__(self, path: Path) -> None:
        """Of the database in `path`. Raises ``OSError``."""
        self._file = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)

    def sync(self) -> None:
        """Return when everything that was written to it is on the platter. Raises ``OSError``."""
        if _FULL is not None:
            fcntl.fcntl(self._file, _FULL)
        else:
            _SYNC(self._file)

    def close(self) -> None:
        """It is not used any more."""
        os.close(self._file)


@attrs.frozen
class _Waiting:
    run: str
    rows: int
    told: Told
    result: outcome.Outcome[Any]


@final
class LogSyncs:
    """What is written and waits for a sync. One sync at a time, for all that waits when it begins; told in that order.

    Its methods are called on the event loop.
    """

    def __init__(self, log: LogFile, path: Path, nursery: trio.Nursery, on_failure: Callable[[], None]) -> None:
        """Of `log`, that of the database in `path`; `on_failure` is called when the disk has failed, before anyone is told."""
        self._log = log
        self._path = path
        self._nursery = nursery
        self._on_failure = on_failure
        self._token = trio.lowlevel.current_trio_token()
        self._new: list[_Waiting] = []
        self._flying: list[_Waiting] = []
        self._runs = Counter[str]()
        self._is_busy = False
        self._rest: trio.Event | None = None
        self.rows = 0
        """Records that wait."""
        self.count = 0
        """Syncs that were done."""

    def holds(self, run: str) -> bool:
        """Whether a record of `run` waits: then those behind it wait, too."""
        return run in self._runs

    def add(self, run: str, rows: int, told: Told, result: outcome.Outcome[Any]) -> None:
        """Tell `result` when everything that is in the log now is on the platter, or why it isn't."""
        self._new.append(_Waiting(run, rows, told, result))
        self._runs[run] += 1
        self.rows += rows
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        self._is_busy = True
        while self._new:
            self._flying, self._new = self._new, []
            try:
                trio.lowlevel.start_thread_soon(self._sync, self._synced)
            except RuntimeError as error:
                self._tell(outcome.Error(no_thread(error, self._path)))
            else:
                return
        self._is_busy = False
        if self._rest is not None:
            self._rest.set()

    def _sync(self) -> None:
        """In the thread."""
        self._log.sync()

    def _synced(self, result: outcome.Outcome[None]) -> None:
        """In the thread."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._landed, result)

    def _landed(self, result: outcome.Outcome[None]) -> None:
        if isinstance(result, outcome.Error):
            if isinstance(result.error, OSError):
                self._on_failure()
                self._flying += self._new  # what was written meanwhile may be lost, too, and the next sync would not say so
                self._new = []
            else:
                self._nursery.start_soon(_raise, result.error)
        else:
            self.count += 1
        self._tell(result)
        self._start()

    def _tell(self, result: outcome.Outcome[None]) -> None:
        failure = outcome.Error(self._failure(result.error)) if isinstance(result, outcome.Error) else None
        told, self._flying = self._flying, []
        for each in told:
            self.rows -= each.rows
            self._runs[each.run] -= 1
            if not self._runs[each.run]:
                del self._runs[each.run]
            each.told(each.result if failure is None or isinstance(each.result, outcome.Error) else failure)

    def _failure(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, OSError):
            return store_error(error, self._path)
        why = said(error) if isinstance(error, Exception) else repr(error)
        return StoreError(f"the store {self._path} failed: {why}\n  Fix: report it, and open the store again.")

    async def rest(self) -> None:
        """Return when nothing waits."""
        while self._is_busy:
            self._rest = trio.Event()
            await self._rest.wait()


async def _raise(error: BaseException) -> None:
    raise error
