"""Journals: what a run was told and what it bought, kept so that the run survives its process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.journal.sqlite import SqliteStore as SqliteStore
from runtime.journal.store import Codec as Codec
from runtime.messages.upcasts import upcast as upcast

if TYPE_CHECKING:
    from runtime.journal.postgres import PostgresStore as PostgresStore


def __getattr__(name: str) -> Any:
    """``PostgresStore``, with which psycopg is imported."""
    if name == "PostgresStore":
        try:
            from runtime.journal.postgres import PostgresStore  # noqa: PLC0415 - psycopg is an extra
        except ImportError as error:
            raise ImportError(
                "PostgresStore needs psycopg.\n  Fix: pip install 'understudy[postgres]'", name=error.name
            ) from error
        return PostgresStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
