"""What the journals of several lives show: what was lost, and what was done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from runtime.graphs.records.journaling import details_of
from runtime.graphs.records.stored_answers import WITHDRAWN
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record, RecordKind
from runtime.testing.stores.crashing_store import CrashingStore

_ONCE: Final = frozenset(
    {
        RecordKind.STARTED,
        RecordKind.FINISHED,
        RecordKind.STOOD_IN,
        RecordKind.EMITTED,
        RecordKind.ASKED,
        RecordKind.ANSWERED,
        RecordKind.SIGNALLED,
        RecordKind.OVER,
    }
)
"""What is recorded once for each path, however many lives there were."""


def records_in(store: Any) -> int:
    """How many records there are."""
    return int(store.statistics()["records"])


async def journals_in(store: MemoryStore) -> dict[str, list[Record]]:
    """All of them, by run."""
    return {run_id: [record async for record in store.read(run_id)] for run_id in store.run_ids}


async def lost_by(store: CrashingStore) -> list[str]:
    """What the process was told is written, and is not there."""
    kept = {
        (record.run, record.seq): record.crc for records in (await journals_in(store.beside())).values() for record in records
    }
    gone = (record for record in store.acknowledged if kept.get((record.run, record.seq)) != record.crc)
    return [f"{record.kind} {record.path!r}, record {record.seq} of run {record.run!r}" for record in gone]


async def recorded_twice(store: MemoryStore) -> Sequence[str]:
    """What stands there more than once, and can have happened once only."""
    found: list[str] = []
    for run_id, records in (await journals_in(store)).items():
        told: Counter[tuple[RecordKind, str]] = Counter()
        for record in records:
            if any(frame.startswith("?") for frame in record.path.split("\n")[:-1]):  # computed again after it has failed
                continue
            if record.kind is RecordKind.RETRACTED:  # its items come again
                for key in [key for key in told if key[0] is RecordKind.EMITTED and key[1].startswith(f"{record.path}#")]:
                    del told[key]
            elif record.kind is RecordKind.ANSWERED and details_of(record).get("how") == WITHDRAWN:
                # The node that asked was cut short, and may ask again: test_a_question_that_was_withdrawn_may_be_asked_again.
                told.pop((RecordKind.ASKED, record.path), None)
            elif record.kind in _ONCE:
                told[record.kind, record.path] += 1
            elif record.kind is RecordKind.ONCE:  # once for all attempts
                path, _, rest = record.path.rpartition("#")
                told[record.kind, f"{path}:{rest.partition(':')[2]}"] += 1
        found += [f"{kind} {path!r} of run {run_id!r}" for (kind, path), times in told.items() if times > 1]
    return found
