"""Actors of keys shared by processes on one PostgreSQL: each lives once, is reached from all, and moves when one is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from runtime.journal.postgres import PostgresStore
from tests.patience import first_line
from tests.runtime.journal.postgres_server import Server

PATIENCE_S = 60.0
LEASE_S = "1.5"
KEYS = [f"key {number}" for number in range(20)]


@contextlib.contextmanager
def owner(postgres: Server, schema: str, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.runtime.journal.postgres_shards", postgres.dsn, schema, LEASE_S, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


async def asked(program: subprocess.Popen[str], keys: list[str]) -> dict[str, tuple[int, int]]:
    """Ask one process for all `keys` at once: which process has the actor of each, and how often that was asked."""
    assert program.stdin is not None
    for key in keys:
        program.stdin.write(f"{key}\n")
    program.stdin.flush()
    said: dict[str, tuple[int, int]] = {}
    for _ in keys:
        line = await trio.to_thread.run_sync(first_line, program)
        key, pid, count = line.strip().rsplit(" ", 2)
        said[key] = int(pid), int(count)
    return said


@pytest.mark.slow
async def test_each_key_has_one_actor_among_three_processes_also_when_one_is_killed(postgres: Server, schema: str) -> None:
    async with trio.open_nursery() as nursery:
        store = PostgresStore(postgres.dsn, schema, migrate=True)
        await store.open("maker of tables", nursery)
        await store.close()
    postgres.query(f"create table {schema}.lives(id serial, key text, pid int, fence bigint, what text)")
    with contextlib.ExitStack() as stack, trio.fail_after(PATIENCE_S):
        programs = [stack.enter_context(owner(postgres, schema, f"owner-{number}")) for number in range(3)]
        for program in programs:
            assert (await trio.to_thread.run_sync(first_line, program)).strip() == "open"
        first = [await asked(programs[number], KEYS[number::3]) for number in range(3)]
        homes = {key: pid for said in first for key, (pid, _) in said.items()}
        for program in programs:
            again = await asked(program, KEYS)
            assert {key: pid for key, (pid, _) in again.items()} == homes
        assert len(set(homes.values())) == 3
        programs[0].kill()
        moved = await asked(programs[1], KEYS)

    lost = programs[0].pid
    for key, (pid, count) in moved.items():
        assert (pid, count) == (homes[key], 5) if homes[key] != lost else (pid != lost and count == 1)
    lives = postgres.query(f"select key, pid, fence, what from {schema}.lives order by id")
    for key in KEYS:
        begun = [(pid, fence) for each, pid, fence, what in lives if each == key and what == "+"]
        assert len(begun) == (2 if homes[key] == lost else 1)
        assert [fence for _, fence in begun] == sorted({fence for _, fence in begun})
