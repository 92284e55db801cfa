"""What all owners may use together, in PostgreSQL: one statement for each question, so no two can overlook each other."""

from __future__ import annotations

from typing import Final, final

from runtime.journal.allowances import Amount
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_runs import check_name

# Not waited for on the platter: a server that forgets a second of it lets a second more through.
_OWE: Final = """
with old as (select until from {s}.allowances where name = $1::text and $2::float8 < 0 for update)
insert into {s}.allowances as a (name, until)
select $1::text, clock_timestamp() + greatest($2::float8, 0) * interval '1 s'
from (select count(*) from old) locked
where set_config('synchronous_commit', 'off', true) is not null
on conflict (name) do update set until =
    greatest(greatest(a.until, clock_timestamp()) + $2::float8 * interval '1 s', clock_timestamp())
returning extract(epoch from case when $2::float8 < 0 then (select until from old)
    else until - $2::float8 * interval '1 s' end - clock_timestamp())::float8"""
_SPEND: Final = """
with s as (
    insert into {s}.allowances as a (name, tokens, usd)
    select $1::text, greatest($2::float8, 0), greatest($3::float8, 0) where $2::float8 <= $4::float8 and $3::float8 <= $5::float8
    on conflict (name) do update set tokens = greatest(a.tokens + $2::float8, 0), usd = greatest(a.usd + $3::float8, 0)
    where a.tokens + $2::float8 <= $4::float8 and a.usd + $3::float8 <= $5::float8
    returning tokens, usd)
select true, tokens, usd from s
union all select false, tokens, usd from {s}.allowances where name = $1::text and not exists (select from s)"""


@final
class Allowances:
    """An ``AllowanceStore``."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        check_name("the name of a limit,", name)
        answer = await self._pool.write(_OWE, name, seconds)
        return max(0.0, float(answer.rows[0][0] or 0.0))  # None: nothing was ever owed

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        check_name("the name of a budget,", name)
        answer = await self._pool.write(_SPEND, name, amount.tokens, amount.usd, most.tokens, most.usd)
        if not answer.rows:  # nothing was ever spent of it, and this was too much
            return False, Amount()
        is_counted, tokens, usd = answer.rows[0]
        return bool(is_counted), Amount(tokens, usd)
