"""Journals: what a run was told and what it bought, kept so that the run survives its process."""

from runtime.journal.sqlite import SqliteStore as SqliteStore
from runtime.journal.store import Codec as Codec
