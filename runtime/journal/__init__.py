"""Journals: what a run was told and what it bought, kept so the run survives its process.

Begin at ``store.py`` (what every store must do) and ``records.py`` (what is kept). ``sqlite.py``, ``postgres.py`` and
``memory.py`` are the stores, each with files of its name beside it; ``split.py`` makes one of several. ``log.py`` is the way of
one run's records to them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.journal.retention import Retention as Retention
from runtime.journal.store import Codec as Codec
from runtime.journal.store import Page as Page
from runtime.journal.store import Store as Store
from runtime.journal.store import StoredQuestion as StoredQuestion
from runtime.journal.store import StoredRun as StoredRun
from runtime.journal.store import StoredStatus as StoredStatus
from runtime.messages.upcasts import upcast as upcast

if TYPE_CHECKING:
    from runtime.journal.memory import MemoryStore as MemoryStore
    from runtime.journal.postgres import PostgresStore as PostgresStore
    from runtime.journal.split import SplitStore as SplitStore
    from runtime.journal.sqlite import SqliteStore as SqliteStore

_STORES = {
    "MemoryStore": "runtime.journal.memory",
    "PostgresStore": "runtime.journal.postgres",
    "SplitStore": "runtime.journal.split",
    "SqliteStore": "runtime.journal.sqlite",
}


def __getattr__(name: str) -> Any:
    """The stores, each imported when it is asked for: without one, `import runtime` costs what it did."""
    if name in _STORES:
        return getattr(import_module(_STORES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
