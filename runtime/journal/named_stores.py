"""Which store a name means: a path a SQLite file, ``postgresql://…`` a database. Each is imported when it is asked for."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from actors.errors import UsageError
from actors.words import repr_of
from runtime.journal.store import Store

_SQLITE: Final = ("runtime.journal.sqlite", "SqliteStore")
_POSTGRES: Final = ("runtime.journal.postgres", "PostgresStore")
_DATABASES: Final = ("postgresql://", "postgres://")


def store_of(wanted: object) -> Store:
    """The store that `wanted` is or names.

    Raises:
        UsageError: it is neither a path, nor the address of a database, nor a store.
    """
    if isinstance(wanted, str | Path) and str(wanted):
        module, name = _POSTGRES if str(wanted).startswith(_DATABASES) else _SQLITE
        made: Store = getattr(import_module(module), name)(wanted if isinstance(wanted, Path) else os.fspath(wanted))
        return made
    store = cast("Any", wanted)
    if isinstance(wanted, str | type) or not all(
        callable(getattr(store, name, None)) for name in ("append", "create", "claim", "read")
    ):
        raise UsageError(
            f"open_runtime(store={repr_of(wanted)}): expected a path, 'postgresql://…', or a Store.\n"
            "  Fix: store='runs.db', or leave it out: then runs end with their process."
        )
    return cast("Store", store)
