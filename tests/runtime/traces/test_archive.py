"""What the archive reads of a stored run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runtime.journal.records import Record, RecordKind
from runtime.traces.archive import up_to


class Reading:
    """A journal of a thousand records, and how much of it was read."""

    def __init__(self) -> None:
        self.read = 0
        self.is_closed = False

    async def records(self) -> AsyncIterator[Record]:
        try:
            for seq in range(1, 1001):
                self.read = seq
                yield Record.of("r", seq, RecordKind.FINISHED, "", 0.0, None)
        finally:
            self.is_closed = True


@pytest.mark.parametrize(("count", "read"), [(3, 3), (0, 1), (1000, 1000), (2000, 1000), (None, 1000)])
async def test_no_more_of_a_journal_is_read_than_is_wanted_and_the_reader_is_closed(count: int | None, read: int) -> None:
    reading = Reading()

    found = await up_to(count, reading.records())

    assert [record.seq for record in found] == list(range(1, min(1000 if count is None else count, 1000) + 1))
    assert (reading.read, reading.is_closed) == (read, True)
