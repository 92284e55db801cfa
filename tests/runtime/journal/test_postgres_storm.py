"""Names and news on PostgreSQL while connections break, answers are lost and the server is slow: none is had twice."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any, final

import attrs
import psycopg
import pytest
import trio

from actors import Actor, NameLost, StoreError
from runtime import Runtime, open_runtime
from runtime.journal.postgres import PostgresStore
from tests.runtime.journal.postgres_server import Server
from tests.runtime.journal.proxy import Proxy

LEASE_S = 2.0
PATIENCE_S = 120.0


@attrs.frozen
class Told:
    number: int


class Listener(Actor[Told]):
    def __init__(self, heard: list[int]) -> None:
        self.heard = heard

    async def receive(self, message: Told) -> None:
        self.heard.append(message.number)


@final
class Storm:
    """Some runtimes, each behind a network of its own, that share a few names."""

    def __init__(self, server: Server, schema: str, names: int, seconds: float, seed: int) -> None:
        self._server = server
        self._schema = schema
        self._names = [f"name {number}" for number in range(names)]
        self._until = trio.current_time() + seconds
        self._draw = random.Random(seed)
        self._numbers = iter(range(10**9))
        self._proxies: list[Proxy] = []
        self.holders: dict[str, str] = {}
        self.fences: defaultdict[str, list[int]] = defaultdict(list)
        self.heard: list[list[int]] = []

    @property
    def goes_on(self) -> bool:
        return trio.current_time() < self._until

    async def blow(self, workers: int) -> None:
        """Harm the network or the server for as long as it lasts."""
        async with trio.open_nursery() as nursery:
            for number in range(workers):
                self._proxies.append(await nursery.start(Proxy.run, self._server.port))
                nursery.start_soon(self._live, number)
            while self.goes_on:
                proxy = self._draw.choice(self._proxies)
                await getattr(self, self._draw.choice(["_reset", "_lose_answers", "_cut_off", "_slow"]))(proxy)
                await trio.sleep(self._draw.uniform(0, 0.3))
            for proxy in self._proxies:
                proxy.heal()
            await self._all_free()
            nursery.cancel_scope.cancel()

    async def _reset(self, proxy: Proxy) -> None:
        proxy.reset()

    async def _lose_answers(self, proxy: Proxy) -> None:
        """What the server does it has done, and no one hears of it."""
        proxy.drop(answers_only=True)
        await trio.sleep(self._draw.uniform(0, 0.3))
        proxy.reset(answers_only=True)
        proxy.heal()

    async def _cut_off(self, proxy: Proxy) -> None:
        """Now and then for longer than the lease."""
        proxy.drop()
        await trio.sleep(self._draw.choice([0.1, 0.5, 1.5 * LEASE_S]))
        proxy.heal()

    async def _slow(self, _: Proxy) -> None:
        """No name can be written for a while."""
        await trio.to_thread.run_sync(self._lock, self._draw.uniform(0, 0.5))

    def _lock(self, seconds: float) -> None:
        with psycopg.connect(self._server.dsn) as connection:
            connection.execute(f"lock table {self._schema}.names in exclusive mode".encode())
            connection.execute(b"select pg_sleep(%s)", [seconds])

    async def _live(self, number: int) -> None:
        """One worker after the other: one that has lost its lease ends."""
        while True:
            dsn = self._server.address(self._proxies[number].port)
            try:
                async with open_runtime(store=PostgresStore(dsn, self._schema, lease_s=LEASE_S), worker=f"w{number}") as runtime:
                    heard: list[int] = []
                    self.heard.append(heard)
                    runtime.subscribe(Told, await runtime.spawn(Listener, heard))
                    async with trio.open_nursery() as nursery:
                        for _ in range(3):
                            nursery.start_soon(self._work, runtime, nursery.cancel_scope)
                        nursery.start_soon(self._tell, runtime)
            except* StoreError:
                await trio.sleep(0.1)

    async def _tell(self, runtime: Runtime) -> None:
        while self.goes_on:
            runtime.publish(Told(next(self._numbers)), everywhere=True)
            await trio.sleep(self._draw.uniform(0, 0.2))

    async def _work(self, runtime: Runtime, life: trio.CancelScope) -> None:
        while self.goes_on:
            name = self._draw.choice(self._names)
            try:
                with trio.move_on_after(self._draw.choice([0.01, 0.1, 5])):
                    async with runtime.register(name) as held:
                        self._enter(name, held.fence)
                        try:
                            await trio.sleep(self._draw.uniform(0, 0.2))
                        finally:
                            del self.holders[name]
            except (NameLost, StoreError):
                life.cancel()
        await trio.sleep_forever()

    def _enter(self, name: str, fence: int) -> None:
        assert name not in self.holders, f"two have {name!r}"
        assert not self.fences[name] or fence > self.fences[name][-1]
        self.holders[name] = name
        self.fences[name].append(fence)

    async def _all_free(self) -> None:
        """No worker keeps a name that nobody in it has any more."""
        left: list[Any] = []
        with trio.move_on_after(PATIENCE_S):
            while True:
                left = await trio.to_thread.run_sync(
                    self._server.query, f"select * from {self._schema}.names where owner is not null"
                )
                if not left:
                    return
                await trio.sleep(0.2)
        raise AssertionError(f"left over: {left}")


async def weather(server: Server, schema: str, *, workers: int, names: int, seconds: float, seed: int) -> None:
    await PostgresStore(server.dsn, schema).migrate()
    storm = Storm(server, schema, names, seconds, seed)
    await storm.blow(workers)
    assert sum(map(len, storm.fences.values())) > seconds
    for heard in storm.heard:
        assert len(heard) == len(set(heard)), "nothing is heard twice"


@pytest.mark.slow
async def test_names_and_news_in_a_short_storm(postgres: Server, schema: str) -> None:
    await weather(postgres, schema, workers=3, names=3, seconds=4, seed=1)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
async def test_names_and_news_in_a_long_storm(postgres: Server, schema: str, seed: int) -> None:
    await weather(postgres, schema, workers=5, names=4, seconds=60, seed=seed)
