"""Schedules: when they come, over days on which clocks change too; each tick once, whatever happens to workers and clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
import trio

from actors import DeclarationError, Graph, StoreUnavailable, UsageError
from runtime import CatchUp, Runtime, ScheduleFailed, open_runtime
from runtime.graphs import keeper, taking_up
from runtime.graphs.schedule_times import Times
from runtime.journal.memory import MemoryStore

START = datetime(2026, 11, 28, 0, 0, 0, tzinfo=UTC)


@attrs.frozen
class Night:
    name: str = "nightly"


@attrs.frozen
class Report:
    text: str


def reports(began: list[str]) -> Graph[Night, Report]:
    graph = Graph("reports", input=Night, output=Report)

    @graph.node
    async def report(night: Night) -> Report:
        began.append(night.name)
        return Report(night.name)

    return graph


async def started(runtime: Runtime) -> list[str]:
    page = await runtime.stored(limit=1_000)
    return sorted(each.id for each in page.items)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- when --------------------------------------------------------------------------------------------------------------------


def times(count: int, start: str, cron: str, zone: str) -> list[str]:
    spec, at, found = Times.of(None, cron, None, zone), utc(start), []
    for _ in range(count):
        following = spec.after(at)
        assert following is not None
        assert following > at
        at = following
        found.append(at.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z"))
    return found


def test_in_spring_a_time_in_the_gap_comes_once_at_its_end_and_what_recurs_goes_on():
    assert times(3, "2026-03-28T00:00", "30 2 * * *", "Europe/Berlin") == ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]
    hours = times(4, "2026-03-29T00:00", "*/30 * * * *", "Europe/Berlin")
    assert hours == ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200", "29 04:00 +0200"]


def test_in_autumn_a_time_that_comes_twice_is_taken_once_and_what_recurs_goes_on():
    assert times(3, "2026-10-24T12:00", "30 2 * * *", "Europe/Berlin") == ["25 02:30 +0200", "26 02:30 +0100", "27 02:30 +0100"]
    hours = times(4, "2026-10-24T23:30", "0 * * * *", "Europe/Berlin")
    assert hours == ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100", "25 04:00 +0100"]


@pytest.mark.parametrize("cron", ["*/7 * * * *", "0 9 * * MON", "30 2 * * *", "0 0 1 1 *", "15 10 L * *"])
def test_the_latest_time_is_the_last_of_all_that_come(cron):
    spec, first = Times.of(None, cron, None, "America/New_York"), utc("2026-03-01T05:00")
    at = spec.after(first)
    assert at is not None
    first = at
    for now in (first, first + timedelta(minutes=50), first + timedelta(days=9), first + timedelta(days=40)):
        known = first
        while (following := spec.after(known)) is not None and following <= now:
            known = following
        assert spec.latest(first, now) == known


def test_the_latest_of_years_of_seconds_is_found_without_counting_them():
    spec = Times.of(None, "* * * * *", None, "UTC")
    assert spec.latest(utc("2000-01-01T00:00"), utc("2026-01-01T00:00:30")) == utc("2026-01-01T00:00")
    assert Times.of(1, None, None, "UTC").latest(utc("2000-01-01T00:00"), utc("2026-01-01T00:00")) == utc("2026-01-01T00:00")


class Unsayable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of every_s, cron and at"),
        ({"every_s": 1, "cron": "* * * * *"}, "one of every_s, cron and at"),
        ({"every_s": 0}, "whole number of seconds"),
        ({"every_s": 1.5}, "whole number of seconds"),
        ({"every_s": True}, "whole number of seconds"),
        ({"every_s": math.inf}, "whole number of seconds"),
        ({"every_s": math.nan}, "whole number of seconds"),
        ({"every_s": 10**5000}, "whole number of seconds"),
        ({"every_s": 10**12}, "at most a century"),
        ({"cron": Unsayable()}, "expected text"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "every day"}, "Wrong number of fields"),
        ({"cron": 5}, "expected text"),
        ({"cron": "0 0 30 2 *"}, "Bad day-of-month"),
        ({"at": "tomorrow"}, "expected a datetime"),
        ({"every_s": 5, "zone": "Mars/Olympus"}, "no such zone"),
        ({"every_s": 5, "zone": "../etc/passwd"}, "no such zone"),
        ({"every_s": 5, "catch_up": "some"}, "'none', 'last' or 'all'"),
        ({"every_s": 5, "name": "a/b"}, "cannot stand in it"),
        ({"every_s": 5, "name": ""}, "non-empty"),
        ({"every_s": 5, "name": "x" * 190}, "at most 200"),
    ],
)
async def test_what_cannot_be_meant_says_what_to_write(autojump_clock, options, words):
    given: dict[str, Any] = {"name": "nightly", **options}
    async with open_runtime(store=MemoryStore(begins=START)) as runtime:
        with pytest.raises(UsageError, match=words):
            await runtime.schedule(given.pop("name"), reports([]), Night(), **given)
        assert await runtime.schedules() == []


async def test_a_schedule_needs_a_store_and_a_message_of_its_graph(autojump_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="keeps no runs"):
            await runtime.schedule("nightly", reports([]), Night(), every_s=60)
    async with open_runtime(store=MemoryStore(begins=START)) as runtime:
        wrong: Any = Report("")
        with pytest.raises(DeclarationError):
            await runtime.schedule("nightly", reports([]), wrong, every_s=60)


# --- running -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.not_explored("a day has too many steps")
@pytest.mark.chaos
async def test_over_a_day_three_workers_start_each_tick_once(autojump_clock, monkeypatch):
    for module in (keeper, taking_up):
        monkeypatch.setattr(module, "LOOK_S", 30.0)  # a day has 86,400 seconds
    store, began = MemoryStore(begins=START), list[str]()
    graphs = [reports(began) for _ in range(3)]
    async with (
        open_runtime(store=store, graphs=graphs[:1]) as one,
        open_runtime(store=store.beside(), graphs=graphs[1:2]) as two,
        open_runtime(store=store.beside(), graphs=graphs[2:]) as three,
    ):
        for runtime, graph in zip((one, two, three), graphs, strict=True):  # as workers of one program do
            await runtime.schedule("hourly", graph, Night("hourly"), cron="0 * * * *")
        graph = graphs[0]
        await one.schedule("often", graph, Night("often"), every_s=1_800)
        await one.schedule("once", graph, Night("once"), at=datetime(2026, 11, 28, 19, 0), zone="Europe/Berlin")
        await trio.sleep(86_400 + 40)
        ids = await started(three)
        found = {each.name: each.next_at for each in await two.schedules()}

    assert [each for each in ids if each.startswith("hourly")] == [
        *(f"hourly@2026-11-28T{hour:02}:00:00Z" for hour in range(1, 24)),
        "hourly@2026-11-29T00:00:00Z",
    ]
    assert len([each for each in ids if each.startswith("often")]) == 48
    assert [each for each in ids if each.startswith("once")] == ["once@2026-11-28T18:00:00Z"]
    assert sorted(began) == sorted(["hourly"] * 24 + ["often"] * 48 + ["once"])
    assert found == {"hourly": utc("2026-11-29T01:00"), "often": utc("2026-11-29T00:30"), "once": None}


@pytest.mark.parametrize(
    ("catch_up", "ticks"),
    [
        (CatchUp.NONE, ["00:10", "02:00"]),
        (CatchUp.LAST, ["00:10", "01:50", "02:00"]),
        (CatchUp.ALL, ["00:10", *(f"00:{n}0" for n in range(2, 6)), *(f"01:{n}0" for n in range(6)), "02:00"]),
    ],
)
async def test_ticks_that_nobody_was_there_for_are_caught_up_as_it_was_asked(autojump_clock, catch_up, ticks):
    store, began = MemoryStore(begins=START), list[str]()
    graph = reports(began)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await runtime.schedule("n", graph, Night(), every_s=600, catch_up=catch_up)
        await trio.sleep(605)
    await trio.sleep(6_710 - 605)  # 01:51:50
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(495 + 10)
        assert await started(runtime) == [f"n@2026-11-28T{tick}:00Z" for tick in ticks]


async def test_a_worker_without_the_graph_leaves_ticks_to_others(autojump_clock):
    store, began = MemoryStore(begins=START), list[str]()
    graph = reports(began)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await runtime.schedule("n", graph, Night(), every_s=60)
    async with open_runtime(store=store.beside()) as bystander:
        await trio.sleep(300)
        assert await started(bystander) == []
        async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
            await trio.sleep(30)
            assert await started(runtime) == ["n@2026-11-28T00:05:00Z"]


async def test_declaring_a_schedule_again_keeps_its_next_time_and_changing_it_does_not(autojump_clock):
    store, graph = MemoryStore(begins=START), reports([])
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        first = await runtime.schedule("n", graph, Night(), every_s=600)
        await trio.sleep(300)
        assert (await runtime.schedule("n", graph, Night("other"), every_s=600)).next_at == first.next_at
        changed = await runtime.schedule("n", graph, Night(), every_s=601)
        assert changed.next_at == utc("2026-11-28T00:15:01")
        assert [each.times for each in await runtime.schedules()] == ["every 601"]
        assert await runtime.unschedule("n")
        assert not await runtime.unschedule("n")
        await trio.sleep(2_000)
        assert await started(runtime) == []


class JumpingStore:
    """A store whose clock is put forward or back."""

    def __init__(self, store: MemoryStore) -> None:
        self._store: Any = store
        self.offset = timedelta()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def wall_time(self) -> datetime:
        now: datetime = self._store.wall_time() + self.offset
        return now


@pytest.mark.not_explored("hours have too many steps")
async def test_a_clock_that_jumps_starts_nothing_twice(autojump_clock):
    began: list[str] = []
    graph, memory = reports(began), MemoryStore(begins=START)
    store: Any = JumpingStore(memory)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await runtime.schedule("n", graph, Night(), every_s=600)
        await trio.sleep(1_205)
        store.offset = timedelta(hours=1)
        await trio.sleep(20)
        store.offset = timedelta(0)
        await trio.sleep(3_600)
        store.offset = timedelta(hours=-1)
        await trio.sleep(3_000)
        ids = await started(runtime)

    assert ids == ["n@2026-11-28T00:10:00Z", "n@2026-11-28T00:20:00Z", "n@2026-11-28T01:20:00Z"]
    assert len(began) == len(ids)


async def test_a_message_that_cannot_be_read_any_more_is_told_once_and_the_tick_is_not_lost(autojump_clock):
    store, began, events = MemoryStore(begins=START), list[str](), list[Any]()
    graph = reports(began)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        await runtime.schedule("n", graph, Night(), every_s=600)
    good = store._data.schedules["n"]
    store._data.schedules["n"] = attrs.evolve(good, message=b'{"none:None": {}}')
    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[events.append]) as runtime:
        await trio.sleep(700)
        assert await started(runtime) == []
        [failed] = [event for event in events if isinstance(event, ScheduleFailed)]
        assert (failed.name, failed.tick) == ("n", utc("2026-11-28T00:10"))
        store._data.schedules["n"] = good
        await trio.sleep(20)
        assert await started(runtime) == ["n@2026-11-28T00:10:00Z"]


async def test_a_crash_between_the_start_of_a_run_and_the_next_time_starts_it_once(autojump_clock):
    store, began = MemoryStore(begins=START), list[str]()
    graph = reports(began)

    class Dying(JumpingStore):
        async def tick(self, *given: Any) -> bool:
            self._store.crash()
            raise StoreUnavailable("the process has died")

    dying: Any = Dying(store)
    async with open_runtime(store=dying, graphs=[graph]) as runtime:
        await runtime.schedule("n", graph, Night(), every_s=600)
        await trio.sleep(605)
    assert began == []
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(30)
        assert await started(runtime) == ["n@2026-11-28T00:10:00Z"]
        assert began == ["nightly"]
