"""``understudy runs`` and ``understudy store``."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import RunFailed, UsageError
from actors.store_errors import StoreError, UnknownRun
from runtime import History, open_runtime
from runtime.cli.main import main
from runtime.journal import SqliteStore
from runtime.journal.records import RecordKind
from runtime.journal.store import PostedKind
from runtime.testing.stores.samples import create, new_run, opened, record, written


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Part:
    number: int


@attrs.frozen
class Sent:
    parts: int


def shipping() -> Graph[Order, Sent]:
    graph = Graph("shipping", input=Order, output=Sent)

    @graph.node
    async def split(order: Order) -> list[Part]:
        return [Part(number) for number in range(order.number)]

    @graph.node
    async def send(parts: list[Part]) -> Sent:
        if not parts or parts[0].number < 0 or len(parts) > 5:
            raise ValueError("too many \x1b[31mparts")
        return Sent(len(parts))

    return graph


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one run that went well and one that failed."""
    path = tmp_path / "runs.db"

    async def fill() -> None:
        async with open_runtime(store=path) as runtime:
            graph = shipping()
            await (await runtime.start(graph, Order(2), run_id="good")).result()
            with pytest.raises(RunFailed):
                await (await runtime.start(graph, Order(6), run_id="bad")).result()

    trio.run(fill)
    return path


def command(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


# --- the runtime ------------------------------------------------------------------------------------------------------------


async def test_a_history_has_the_steps_and_exports_exactly_what_is_stored(tmp_path):
    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        await (await runtime.start(shipping(), Order(2), run_id="good")).result()
        history = await runtime.history("good")

        assert [(step.node, step.status, step.attempts) for step in history.steps] == [("split", "done", 1), ("send", "done", 1)]
        assert all(step.ended_at is not None and step.ready_at <= step.ended_at for step in history.steps)
        assert (history.run.status, history.is_intact, history.questions) == ("succeeded", True, ())
        again = History.of_export(history.export())
        assert again.records == history.records
        assert again.steps == history.steps
        assert again.run == history.run


async def test_an_attempt_that_failed_is_told_in_the_history(tmp_path):
    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(shipping(), Order(6), run_id="bad")).result()
        *_, last = (await runtime.history("bad")).steps

    assert (last.node, last.status, last.error) == ("send", "failed", "ValueError: too many \x1b[31mparts")


async def test_stored_runs_are_listed_by_filters_and_forgotten(tmp_path):
    graph = shipping()
    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        for number in range(3):
            await (await runtime.start(graph, Order(2), run_id=f"r{number}")).result()

        assert [run.id for run in (await runtime.stored(graph)).items] == ["r2", "r1", "r0"]
        page = await runtime.stored("shipping", "succeeded", limit=2)
        assert [run.id for run in (await runtime.stored(limit=2, after=page.after)).items] == ["r0"]
        assert (await runtime.stored(status="failed")).items == ()

        await runtime.forget("r1")

        assert [run.id for run in (await runtime.stored()).items] == ["r2", "r0"]
        for call in (runtime.forget, runtime.history):
            with pytest.raises(UnknownRun, match="no run 'r1' is stored"):
                await call("r1")
        with pytest.raises(UsageError, match="expected 1 to 1,000"):
            await runtime.stored(limit=0)
        with pytest.raises(UsageError, match="expected 'ready', 'running'"):
            await runtime.stored(status="done")


async def test_a_runtime_without_a_store_says_so():
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="this runtime keeps no runs"):
            await runtime.stored()


async def test_a_run_at_work_is_not_forgotten(tmp_path):
    graph = Graph("slow", input=Order, output=Sent)

    @graph.node
    async def never(order: Order) -> Sent:
        await trio.sleep(3_600)
        return Sent(0)

    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        handle = await runtime.start(graph, Order(1), run_id="r")
        with pytest.raises(StoreError, match="run 'r' is at work"):
            await runtime.forget("r")
        await handle.cancel()
        await runtime.forget("r")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not JSON", '{"understudy": 1, "run": "r"}\n{"seq": 1}'])
def test_what_is_not_an_export_is_rejected(text):
    with pytest.raises(UsageError, match="export"):
        History.of_export(text)


# --- the command ------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_by_filters(path, capsys):
    assert command("runs", "list", "--store", path) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["started", "status", "steps", "lives", "graph", "run"]
    assert [(line.split()[2], line.split()[-1]) for line in lines] == [("failed", "bad"), ("succeeded", "good")]

    assert command("runs", "list", "--store", path, "--status", "failed", "--graph", "shipping", "--since", "2020-01-01") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert command("runs", "list", "--store", path, "--limit", "1") == 0
    more = capsys.readouterr().out.splitlines()[-1].split()
    assert command("runs", "list", "--store", path, *more[1:]) == 0
    assert capsys.readouterr().out.split()[-1] == "good"


def test_one_run_is_shown_with_its_timeline_and_nothing_that_moves_the_cursor(path, capsys):
    assert command("runs", "show", "bad", "--store", path) == 0

    shown = capsys.readouterr().out
    assert "run bad of graph shipping: failed" in shown
    assert "  send: failed" in shown
    assert "ValueError: too many parts" in shown
    assert "\x1b" not in shown
    assert "start arrive  reply    end" in shown
    assert len([line for line in shown.splitlines() if line.startswith("  send")]) == 2


def test_an_export_is_json_lines(path, capsys):
    assert command("runs", "export", "good", "--store", path) == 0

    text = capsys.readouterr().out
    head, *records = map(json.loads, text.splitlines())
    assert (head["run"], head["graph"], head["status"]) == ("good", "shipping", "succeeded")
    assert [each["kind"] for each in records] == ["started", "finished", "finished", "over"]
    assert History.of_export(text).is_intact


def test_a_run_is_cancelled_by_another_process_and_forgotten(path, capsys):
    async def left() -> None:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store, new_run("left"))
            assert command_in_thread("runs", "cancel", "left", "--store", path) == 0
            with trio.fail_after(60):
                assert [item.kind for item in await store.posted()] == [PostedKind.CANCEL]
            assert command_in_thread("runs", "forget", "left", "--store", path) == 1

    def command_in_thread(*arguments: object) -> int:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as threads:  # it runs a loop of its own
            return threads.submit(command, *arguments).result()

    trio.run(left)
    told = capsys.readouterr()
    assert "run left ends as cancelled shortly" in told.out
    assert "belongs to process" in told.err
    assert command("runs", "forget", "left", "--store", path) == 0
    assert command("runs", "show", "left", "--store", path) == 1
    assert capsys.readouterr().err == ("understudy: no run 'left' is stored.\n  Fix: give the run_id that it was started with.\n")


@pytest.mark.parametrize("action", ["show", "export", "cancel", "forget"])
def test_a_run_or_a_store_that_is_not_there_is_exit_code_1(path, capsys, action):
    assert command("runs", action, "none", "--store", path) == 1
    assert command("runs", action, "good", "--store", path.with_name("none.db")) == 1
    assert command("runs", action, "good", "--store", "") == 2
    assert not path.with_name("none.db").exists()


def test_check_finds_what_is_damaged(path, capsys):
    assert command("store", "check", "--store", path) == 0
    assert re.fullmatch(r"2 runs, \d+ records, none damaged\n", capsys.readouterr().out)
    db = sqlite3.connect(path)
    db.execute("update journal set data = cast('{}' as blob) where run = 'good' and seq = 2")
    db.commit()
    db.close()

    assert command("store", "check", "--store", path) == 1

    counts, damage = capsys.readouterr().out.splitlines()
    assert counts.endswith(" records, 1 damaged")
    assert damage == "damaged: run good: a record is missing, or is not what was written"


def test_a_store_is_made_smaller_and_brought_up_to_date(path, capsys):
    async def grow() -> None:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store, new_run("large"), data=b'"' + b"x" * 3_000_000 + b'"')
            over = record(store, 2, run="large", kind=RecordKind.OVER, path="succeeded")
            assert await written(store, over, sync=True) is None
            assert await store.forget("large")

    trio.run(grow)
    before = path.stat().st_size
    assert command("store", "vacuum", "--store", path) == 0
    assert path.stat().st_size < before - 2_000_000
    assert command("store", "migrate", "--store", path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{path} is up to date"
