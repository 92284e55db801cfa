"""Several workers on one PostgreSQL: who may write, and what becomes of the runs of those who die, freeze or are cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta

import pytest
import trio

from actors.store_errors import RunLost, StoreInUse
from runtime.journal import lease as leases
from runtime.journal.postgres import PostgresStore
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_wire import Address
from runtime.journal.records import Record
from runtime.journal.store import Created, Existing, Lease, StoredStatus
from runtime.testing.stores.samples import journal, new_run, record, written
from tests.patience import first_line, patience
from tests.runtime.journal.postgres_server import Server, started
from tests.runtime.journal.proxy import Proxy

LEASE_S = 2.0
"""Long enough that a busy machine does not cost a lease, short enough to wait for its end."""
PATIENCE_S = 60.0
ANY = {("g", "1")}


@asynccontextmanager
async def open_store(
    dsn: str, schema: str, worker: str, lease_s: float = LEASE_S, **options: object
) -> AsyncGenerator[tuple[PostgresStore, Lease]]:
    store = PostgresStore(dsn, schema, lease_s=lease_s, migrate=True, **options)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        lease = await store.open(worker, nursery)
        try:
            yield store, lease
        finally:
            with trio.CancelScope(shield=True):
                await store.close()


async def claimed(store: PostgresStore, graph: str = "g") -> str:
    """The id of the run of `graph` that the store takes over, once there is one."""
    with trio.fail_after(PATIENCE_S):
        while True:
            if runs := await store.claim({(graph, "1")}, 1):
                return runs[0].id
            await trio.sleep(0.02)


def started_worker(postgres: Server, schema: str, run: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("tests.runtime.journal.postgres_worker", postgres.dsn, schema, run, str(LEASE_S))


def without_gap(rows: list[Record]) -> bool:
    return [row.seq for row in rows] == list(range(1, len(rows) + 1)) and all(row.is_intact for row in rows)


async def freeze_and_take_over(postgres: Server, schema: str, run: str) -> None:
    """A worker is stopped in the middle of its appends, loses its run, and goes on as if nothing had been."""
    async with open_store(postgres.dsn, schema, f"heir of {run}") as (store, _):
        with started_worker(postgres, schema, run) as worker:
            said = [await trio.to_thread.run_sync(first_line, worker) for _ in range(20)]
            os.kill(worker.pid, signal.SIGSTOP)
            assert await claimed(store, graph=run) == run
            rows = await journal(store, run)
            mine = record(store, rows[-1].seq + 1, run=run, data=b'"heir"')
            assert await written(store, mine, sync=True) is None

            os.kill(worker.pid, signal.SIGCONT)
            with patience(worker):
                said += (await trio.to_thread.run_sync(worker.communicate))[0].splitlines()

        rows = await journal(store, run)
        acknowledged = [int(each) for each in said if each.strip().isdecimal()]
        assert said[-1] == "RunLost"
        assert without_gap(rows)
        assert rows[-1] == mine
        assert acknowledged == list(range(2, len(acknowledged) + 2))
        assert len(acknowledged) + 1 < mine.seq


@pytest.mark.slow
@pytest.mark.chaos
async def test_a_frozen_worker_that_wakes_up_writes_nothing_more(postgres: Server, schema: str) -> None:
    for number in range(2):
        await freeze_and_take_over(postgres, schema, f"run {number}")


@pytest.mark.chaos
async def test_of_forty_frozen_workers_none_writes_anything_more(postgres: Server, schema: str) -> None:
    for number in range(40):
        await freeze_and_take_over(postgres, schema, f"run {number}")


@pytest.mark.slow
async def test_the_runs_of_a_killed_worker_are_taken_over(postgres: Server, schema: str) -> None:
    async with open_store(postgres.dsn, schema, "heir") as (store, _):
        with started_worker(postgres, schema, "r") as worker:
            said = [await trio.to_thread.run_sync(first_line, worker) for _ in range(20)]
            worker.kill()
            said += (await trio.to_thread.run_sync(worker.communicate))[0].splitlines()

        assert await claimed(store, graph="r") == "r"
        run = await store.run("r")
        assert run is not None
        assert (run.status, run.owner, run.lives) == (StoredStatus.RUNNING, "heir", 2)
        rows = await journal(store, "r")
        assert without_gap(rows)
        assert {int(each) for each in said if each.strip().isdecimal()} <= {row.seq for row in rows}


@pytest.mark.slow
async def test_each_of_a_thousand_runs_is_claimed_by_one_of_eight_workers(postgres: Server, schema: str) -> None:
    got: Counter[str] = Counter()
    async with open_store(postgres.dsn, schema, "maker", 30) as (maker, _):
        names = iter(range(1000))

        async def make() -> None:
            for number in names:
                await maker.create(new_run(f"r{number}", here=False), record(maker, 1, run=f"r{number}"))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(make)

        done = 0
        all_done = trio.Event()

        async def work(name: str) -> None:
            nonlocal done
            async with open_store(postgres.dsn, schema, name, 30) as (store, _):
                while got.total() < 1000:
                    runs = await store.claim(ANY, 20)
                    assert {run.owner for run in runs} <= {name}
                    got.update(run.id for run in runs)
                done += 1
                if done == 8:
                    all_done.set()
                await all_done.wait()  # closing would hand its runs to the others

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(work, f"worker {number}")

    assert len(got) == 1000
    assert max(got.values()) == 1


async def test_a_run_that_all_workers_create_is_one_workers(postgres: Server, schema: str) -> None:
    answers: list[Created | Existing] = []

    async def create(number: int) -> None:
        async with open_store(postgres.dsn, schema, f"worker {number}", 30) as (store, _):
            ready.append(number)
            if len(ready) == 6:
                go.set()
            await go.wait()
            answers.append(await store.create(new_run(), record(store, 1, data=str(number).encode())))

    ready: list[int] = []
    go = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(create, number)

    [created] = [answer for answer in answers if isinstance(answer, Created)]
    existing = [answer for answer in answers if isinstance(answer, Existing)]
    assert len(existing) == 5
    assert {f"worker {(answer.first.data or b'').decode()}" for answer in existing} == {created.run.owner}


@pytest.mark.slow
async def test_a_worker_that_is_cut_off_loses_its_runs_and_knows_it(postgres: Server, schema: str) -> None:
    """Its network swallows everything for a while: after the lease it may do nothing more, and is told when it is back."""
    async with trio.open_nursery() as nursery, open_store(postgres.dsn, schema, "heir") as (heir, _):
        proxy = await nursery.start(Proxy.run, postgres.port)
        async with open_store(postgres.address(proxy.port), schema, "cut off") as (store, lease):
            await store.create(new_run(), record(store, 1))
            assert await written(store, record(store, 2)) is None
            assert lease.good_until() > trio.current_time()

            proxy.drop()
            assert await claimed(heir) == "r"
            assert lease.good_until() <= trio.current_time()
            assert await written(heir, record(heir, 3, data=b'"heir"')) is None
            proxy.heal()

            assert isinstance(await written(store, record(store, 3, data=b'"cut off"')), RunLost)
            with trio.fail_after(PATIENCE_S):
                await lease.lost.wait()
            assert lease.good_until() < trio.current_time()
        assert [row.data for row in await journal(heir)] == [b"{}", b"{}", b'"heir"']
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_short_cut_costs_nothing(postgres: Server, schema: str) -> None:
    """Connections are reset in the middle of appends: each is found out, none is written twice or lost."""
    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(Proxy.run, postgres.port)
        async with open_store(postgres.address(proxy.port), schema, "worker", 30) as (store, _):
            await store.create(new_run(), record(store, 1))
            rows = [record(store, seq) for seq in range(2, 202)]
            for row in rows:
                if row.seq % 20 == 0:
                    proxy.reset(answers_only=row.seq % 40 == 0)
                assert await written(store, row, sync=row.seq % 3 == 0) is None
            assert (await journal(store))[1:] == rows
        nursery.cancel_scope.cancel()


async def test_runs_whose_claim_was_not_answered_are_not_stranded(postgres: Server, schema: str) -> None:
    """The server had given them to this worker, and the connection broke before it could say so."""
    async with trio.open_nursery() as nursery, open_store(postgres.dsn, schema, "maker", 60) as (maker, _):
        for name in ("a", "b", "c"):
            await maker.create(new_run(name, here=False), record(maker, 1, run=name))
        proxy = await nursery.start(Proxy.run, postgres.port)
        async with open_store(postgres.address(proxy.port), schema, "claimer", 60) as (store, _):
            got: list[str] = []

            async def claim() -> None:
                got.extend(run.id for run in await store.claim(ANY, 2))

            async with trio.open_nursery() as claiming:
                proxy.drop(answers_only=True)
                claiming.start_soon(claim)
                with trio.fail_after(PATIENCE_S):
                    while len(postgres.query(f"select 1 from {schema}.runs where owner = 'claimer'")) < 2:  # noqa: ASYNC110
                        await trio.sleep(0.01)
                proxy.reset()
                proxy.heal()
            await claim()

            assert sorted(got) == ["a", "b", "c"]
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_when_the_servers_clock_jumps_nothing_is_written_twice(postgres: Server, schema: str, jump_s: float) -> None:
    """Forwards, live workers are taken to be dead; the epoch keeps them from writing. Backwards, nothing is early."""
    with shifted_clock(postgres, schema) as (dsn, shift):
        async with open_store(dsn, schema, "first") as (first, lease), open_store(dsn, schema, "second") as (second, other):
            await first.create(new_run(), record(first, 1))
            before = first.wall_time()

            shift(jump_s)
            with trio.fail_after(PATIENCE_S):
                while True:
                    if lease.lost.is_set() or abs((first.wall_time() - before).total_seconds() - jump_s) < 60:
                        break
                    await trio.sleep(0.02)
            outcome = await written(first, record(first, 2, data=b'"first"'), sync=True)

            rows = await journal(second)
            if outcome is None:
                assert [row.data for row in rows] == [b"{}", b'"first"']
            else:
                assert isinstance(outcome, RunLost)
                assert len(rows) == 1
            if jump_s < 0:
                assert outcome is None
                assert not (lease.lost.is_set())
                assert not (other.lost.is_set())


class shifted_clock:
    """A DSN whose sessions see another time of the day: `now` is looked for in a schema that comes before the server's own."""

    def __init__(self, postgres: Server, schema: str) -> None:
        self._postgres = postgres
        self._name = f"{schema}_clock"

    def __enter__(self) -> tuple[str, Callable[[float], object]]:
        query, name = self._postgres.query, self._name
        query(f"create schema {name}")
        query(f"create table {name}.ahead(s float8 not null)")
        query(f"insert into {name}.ahead values (0)")
        for function in ("now", "clock_timestamp"):
            query(
                f"create function {name}.{function}() returns timestamptz language sql volatile as "
                f"'select pg_catalog.{function}() + (select s from {name}.ahead) * interval ''1 s'''"
            )
        dsn = f"{self._postgres.dsn} options='-c search_path={name},pg_catalog'"
        return dsn, lambda seconds: query(f"update {name}.ahead set s = {seconds:f}")

    def __exit__(self, *exc_info: object) -> None:
        self._postgres.query(f"drop schema {self._name} cascade")


@pytest.mark.slow
@pytest.mark.chaos
async def test_a_blocked_event_loop_does_not_cost_the_lease_until_it_is_taken_for_dead(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread renews it; one that renewed for ever would keep the runs of a process that does nothing."""

    def until() -> object:
        return postgres.query(f"select until from {schema}.workers")[0][0]

    def renewed_while_blocked(wait_s: float) -> bool:
        before, end = until(), time.monotonic() + wait_s
        while time.monotonic() < end:
            time.sleep(0.05)
            if until() != before:
                return True
        return False

    async with open_store(postgres.dsn, schema, "worker") as (_, lease):
        assert renewed_while_blocked(PATIENCE_S)
        monkeypatch.setattr(leases, "MAX_BLOCKED_S", 0.1)
        for _ in range(int(PATIENCE_S)):
            if not renewed_while_blocked(2 * LEASE_S):
                break
        else:
            pytest.fail("it was renewed again and again")
        assert not lease.lost.is_set()


async def test_a_crash_between_the_two_halves_of_a_take_over_strands_no_run(postgres: Server, schema: str) -> None:
    """The worker was declared dead, and its runs were not freed yet: the next one who looks frees them."""
    async with open_store(postgres.dsn, schema, "dead", 30) as (dead, _):
        await dead.create(new_run(), record(dead, 1))
        pool = ConnectionPool(Address.of(postgres.dsn), schema)
        postgres.query(f"update {schema}.workers set until = now() - interval '1 s'")
        await pool.write(leases._BURY, "another")
        pool.close()
        async with open_store(postgres.dsn, schema, "heir") as (heir, _):
            assert await claimed(heir) == "r"
            assert isinstance(await written(dead, record(dead, 2)), RunLost)
            assert await dead.take("r") is None


async def test_a_worker_name_is_used_once(postgres: Server, schema: str) -> None:
    async with open_store(postgres.dsn, schema, "anna", 30), trio.open_nursery() as nursery:
        other = PostgresStore(postgres.dsn, schema)
        with pytest.raises(StoreInUse, match="there is a worker of the name 'anna' already"):
            await other.open("anna", nursery)


async def test_a_closed_store_gives_its_runs_back_immediately(postgres: Server, schema: str) -> None:
    """So a rolling deploy moves runs in seconds, and not after a lease."""
    async with open_store(postgres.dsn, schema, "new", 3600) as (new, _):
        async with open_store(postgres.dsn, schema, "old", 3600) as (old, lease):
            await old.create(new_run(), record(old, 1))
            await old.create(new_run("later"), record(old, 1, run="later"))
            await old.release("later", StoredStatus.WAITING, old.wall_time() + timedelta(days=1))
        assert lease.lost.is_set()
        assert [run.id for run in await new.claim(ANY, 10)] == ["r"]
        assert postgres.query(f"select id from {schema}.workers") == [("new",)]
