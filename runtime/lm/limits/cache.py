"""Answers kept for requests that are asked again, in memory or in a file.

The key is a digest of the whole request as it would go out (address, body, and the headers that the caller adds), without what
says who asks: no provider's key is stored or compared. Only an answer that would come out the same is kept: of requests with
``temperature=0`` or with a ``seed``, unless the cache is told to keep sampled ones too.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import attrs

from actors.argument_checks import check_count
from actors.errors import DeclarationError
from actors.lm import Completion, Usage
from actors.words import INTERRUPTS, said
from runtime.lm.limits.redaction import redact

BUSY_S = 0.1
"""How long a cache file that another process has locked is waited for; after that the call goes out as if it were not there."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "apikey"})
_CREDENTIAL_ENDS = ("-key", "-token", "-secret", "-password", "-authorization", "_key", "_token", "_secret")

_LOG = logging.getLogger("understudy.cache")


@runtime_checkable
class AnswerCache(Protocol):
    """Where a client looks before it asks. Neither method may block for long; what they raise is logged and fails no call."""

    keeps_sampled: bool
    """Whether answers are kept that might come out otherwise another time."""

    def get(self, key: str) -> Completion | None:
        """The answer kept under `key`."""
        ...

    def put(self, key: str, completion: Completion) -> None:
        """Keep `completion` under `key`."""
        ...


_rollout: ContextVar[object] = ContextVar("understudy_rollout", default=None)
_is_wanted: ContextVar[bool] = ContextVar("understudy_cache_is_wanted", default=True)


@contextmanager
def caching(*, rollout: object = None, is_wanted: bool = True) -> Generator[None]:
    """For the calls of this task in the block: answers of another `rollout` are not theirs; without `is_wanted`, none is."""
    tokens = _rollout.set(rollout), _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _rollout.reset(tokens[0])
        _is_wanted.reset(tokens[1])


def is_bypassed() -> bool:
    """Whether the call that is about to be made is neither answered from a cache nor kept in one."""
    return not _is_wanted.get()


def cache_key(url: str, body: bytes, extra_headers: Mapping[str, Any] | None = None) -> str:
    """The key of a request, within the rollout that it belongs to (see :func:`caching`).

    Headers of the caller's own may ask for another answer, and count; those that say who asks do not.
    """
    rollout = _rollout.get()
    digest = hashlib.sha256(url.encode() + b"\n" + body)
    for name, value in sorted((str(name).lower(), str(value)) for name, value in (extra_headers or {}).items()):
        if not _is_credential(name, value):
            digest.update(json.dumps([name, value]).encode())
    if rollout is not None:
        digest.update(f"\n{rollout!r}".encode())
    return digest.hexdigest()


def _is_credential(name: str, value: str) -> bool:
    return name in _CREDENTIALS or name.endswith(_CREDENTIAL_ENDS) or redact(value, ()) != value


def is_repeatable(options: Mapping[str, Any]) -> bool:
    """Whether the same request asks for the same answer."""
    return options.get("temperature") == 0 or options.get("seed") is not None


@final
class Forgiving:
    """`cache`, whose failures cost a kept answer and never the call: they are logged, and the model is asked."""

    def __init__(self, cache: AnswerCache) -> None:
        self.keeps_sampled = cache.keeps_sampled
        self._cache = cache

    def get(self, key: str) -> Completion | None:
        """See :class:`AnswerCache`."""
        try:
            return self._cache.get(key)
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - anything that the user's own cache raises
            _LOG.warning("%s could not look an answer up; the model is asked: %s", type(self._cache).__name__, said(error))
            return None

    def put(self, key: str, completion: Completion) -> None:
        """See :class:`AnswerCache`."""
        try:
            self._cache.put(key, completion)
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - anything that a user's cache raises
            _LOG.warning("%s could not keep an answer: %s", type(self._cache).__name__, said(error))  # it is there, and paid for


@final
class MemoryCache:
    """Keeps the answers used last, in this process. It takes in and hands out copies, so no caller changes another's answer.

    Args:
        max_entries: how many; the one not used for longest goes first.
        keeps_sampled: also keep answers that might come out otherwise another time.
    """

    def __init__(self, max_entries: int = 1024, *, keeps_sampled: bool = False) -> None:
        check_count(self, "max_entries", max_entries)
        self.keeps_sampled = keeps_sampled
        self._max_entries = max_entries
        self._entries: OrderedDict[str, Completion] = OrderedDict()

    def get(self, key: str) -> Completion | None:
        """See :class:`AnswerCache`."""
        completion = self._entries.get(key)
        if completion is not None:
            self._entries.move_to_end(key)
        return None if completion is None else _copy(completion)

    def put(self, key: str, completion: Completion) -> None:
        """See :class:`AnswerCache`."""
        self._entries[key] = _copy(completion)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


@final
class SqliteCache:
    """Keeps answers in an SQLite file that outlives the process and that several may share.

    Reads and writes take microseconds and run on the event loop. A file that stays locked, is damaged, or has no room counts as
    having no answer: the call is made as if there were no cache.

    Args:
        path: the file; made when it is not there.
        keeps_sampled: also keep answers that might come out otherwise another time.

    Raises:
        DeclarationError: the file cannot be opened, or isn't a database.
    """

    def __init__(self, path: str | Path, *, keeps_sampled: bool = False) -> None:
        self.keeps_sampled = keeps_sampled
        try:
            self._connection = _opened(path)
        except sqlite3.Error as error:
            raise DeclarationError(
                f"SqliteCache({str(path)!r}): the file cannot be used: {error}.\n"
                "  Fix: name a file that is not there yet, or one that SqliteCache has made, in a folder that may be written to."
            ) from error

    def get(self, key: str) -> Completion | None:
        """See :class:`AnswerCache`."""
        try:
            row = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            return _completion(json.loads(row[0])) if row is not None else None
        except (sqlite3.Error, TypeError, ValueError, LookupError):  # locked, damaged, or written by another release
            return None

    def put(self, key: str, completion: Completion) -> None:
        """See :class:`AnswerCache`."""
        try:
            answer = json.dumps(attrs.asdict(completion), ensure_ascii=False)
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))
        except (sqlite3.Error, TypeError, ValueError):  # locked, damaged, full, read-only, or an answer that no file can hold:
            return  # it is asked for again another time

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _opened(path: str | Path) -> sqlite3.Connection:
    # Made in one thread and used in another, where a portal runs trio: SQLite's own lock is enough for single statements.
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the newest answers, not the file
        connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
    except BaseException:
        connection.close()
        raise
    return connection


_COLLECTIONS = ("tool_calls", "thinking", "citations")


def _completion(fields: dict[str, Any]) -> Completion:
    collected: dict[str, Any] = {name: tuple(fields.pop(name, ())) for name in _COLLECTIONS}
    usage = Usage(**fields.pop("usage"))
    return Completion(**fields, **collected, usage=usage)


def _copy(completion: Completion) -> Completion:
    """`completion`, sharing nothing that can be changed."""
    changeable = (*_COLLECTIONS, "logprobs", "audio", "raw")
    return attrs.evolve(completion, **{name: copy.deepcopy(getattr(completion, name)) for name in changeable})
