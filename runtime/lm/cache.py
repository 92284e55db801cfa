"""Answers kept for requests that are asked again, in memory or in a file.

The key is a digest of the whole request as it would go out (address, body), without its headers: no provider's key is stored or
compared. Only an answer that would come out the same is kept: of requests with ``temperature=0`` or with a ``seed``, unless the
cache is told to keep sampled ones too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import attrs

from actors.checks import refuse
from actors.lm import Completion, Usage

BUSY_S = 0.1
"""How long a cache file that another process has locked is waited for; after that the call goes out as if it were not there."""


@runtime_checkable
class AnswerCache(Protocol):
    """Where a client looks before it asks. Neither method may block for long or raise."""

    keeps_sampled: bool
    """Whether answers are kept that might come out otherwise another time."""

    def get(self, key: str) -> Completion | None:
        """The answer kept under `key`."""
        ...

    def put(self, key: str, completion: Completion) -> None:
        """Keep `completion` under `key`."""
        ...


def cache_key(url: str, body: bytes) -> str:
    """The key of a request."""
    return hashlib.sha256(url.encode() + b"\n" + body).hexdigest()


def is_repeatable(options: Mapping[str, Any]) -> bool:
    """Whether the same request asks for the same answer."""
    return options.get("temperature") == 0 or options.get("seed") is not None


@final
class MemoryCache:
    """Keeps the answers used last, in this process.

    Args:
        max_entries: how many; the one not used for longest goes first.
        keeps_sampled: also keep answers that might come out otherwise another time.
    """

    def __init__(self, max_entries: int = 1024, *, keeps_sampled: bool = False) -> None:
        if isinstance(max_entries, bool) or max_entries < 1:
            raise refuse(self, "max_entries", max_entries, "a whole number >= 1")
        self.keeps_sampled = keeps_sampled
        self._max_entries = max_entries
        self._entries: OrderedDict[str, Completion] = OrderedDict()

    def get(self, key: str) -> Completion | None:
        """See :class:`AnswerCache`."""
        completion = self._entries.get(key)
        if completion is not None:
            self._entries.move_to_end(key)
        return completion

    def put(self, key: str, completion: Completion) -> None:
        """See :class:`AnswerCache`."""
        self._entries[key] = completion
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


@final
class SqliteCache:
    """Keeps answers in an SQLite file that outlives the process and that several may share.

    Reads and writes take microseconds and run on the event loop; a file that stays locked counts as having no answer.

    Args:
        path: the file; made when it is not there.
        keeps_sampled: also keep answers that might come out otherwise another time.
    """

    def __init__(self, path: str | Path, *, keeps_sampled: bool = False) -> None:
        self.keeps_sampled = keeps_sampled
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the newest answers, not the file
        self._connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")

    def get(self, key: str) -> Completion | None:
        """See :class:`AnswerCache`."""
        try:
            row = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError:  # locked
            return None
        return _completion(json.loads(row[0])) if row is not None else None

    def put(self, key: str, completion: Completion) -> None:
        """See :class:`AnswerCache`."""
        answer = json.dumps(attrs.asdict(completion), ensure_ascii=False)
        try:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))
        except sqlite3.OperationalError:  # locked: the answer is asked for again another time
            return

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _completion(fields: dict[str, Any]) -> Completion:
    calls = tuple(fields.pop("tool_calls"))
    usage = Usage(**fields.pop("usage"))
    return Completion(**fields, usage=usage, tool_calls=calls)
