"""What readers were told of runs, in a store in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from actors.store_errors import StoreDamaged, StoreError
from actors.words import said
from runtime.journal import postgres_values as values
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.store import Codec
from runtime.journal.told_events import PAGE_ROWS, ToldEvent, first_page

# All or nothing: another worker that writes the same numbers at this moment makes one of the two fail as a whole.
_TELL: Final = """
insert into {s}.told(run, seq, name, inside, outside)
select $1::text, u.* from unnest($2::int[], $3::text[], $4::bytea[], $5::bytea[]) u
where exists (select from {s}.runs where id = $1::text)
and not exists (select from {s}.told where run = $1::text and seq = any($2::int[]))"""
_TOLD: Final = """
select seq, name, inside, outside from {s}.told where run = $1::text and seq > $2::int and seq <= $3::int
order by seq limit $4::int"""
_LAST: Final = 2**31 - 1


@final
class ToldEvents:
    """The events that readers were given: an ``EventLog``."""

    def __init__(self, pool: ConnectionPool, codec: Codec | None) -> None:
        self._pool = pool
        self._codec = codec

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        if await self._added(run, rows):
            return True
        answer = await self._pool.read(_TOLD, run, rows[0].seq - 1, rows[-1].seq, len(rows))
        kept = {row[0]: self._event(run, row) for row in answer.rows}
        if any(kept.get(row.seq, row) != row for row in rows):
            return False
        missing = [row for row in rows if row.seq not in kept]
        return not missing or await self._added(run, missing)

    async def _added(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        answer = await self._pool.write(
            _TELL,
            run,
            values.ints([row.seq for row in rows]),
            values.texts([row.name for row in rows]),
            values.blobs([self._seal(row.inside, f"told\n{run}\n{row.seq}") for row in rows]),
            values.blobs([self._seal(row.outside, f"told\n{run}\n{row.seq}\noutside") for row in rows]),
        )
        return answer.count == len(rows)

    async def told(self, run: str, after: int) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""
        answer = await self._pool.read(_TOLD, run, after, _LAST, PAGE_ROWS)
        return first_page([self._event(run, row) for row in answer.rows])

    def _event(self, run: str, row: tuple[Any, ...]) -> ToldEvent:
        seq, name, inside, outside = row
        about = f"told\n{run}\n{seq}"
        return ToldEvent(seq, name, self._open(inside, about) or b"", self._open(outside, f"{about}\noutside"))

    def _seal(self, data: bytes | None, about: str) -> bytes | None:
        if self._codec is None or data is None:
            return data
        try:
            return self._codec.seal(data, about.encode("utf-8", "surrogatepass"))
        except Exception as error:
            raise StoreError(f"the store's codec could not seal {about!r}: {said(error)}\n  Fix: look at its seal().") from error

    def _open(self, data: bytes | None, about: str) -> bytes | None:
        if self._codec is None or data is None:
            return data
        try:
            return self._codec.open(data, about.encode("utf-8", "surrogatepass"))
        except Exception as error:
            raise StoreDamaged(
                f"the store's codec could not open {about!r}: {said(error)}\n  Fix: give it the key with which this was sealed."
            ) from error
