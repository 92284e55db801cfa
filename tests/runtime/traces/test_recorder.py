"""What is kept of runs."""

import json
from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import DeclarationError, RunFailed
from runtime import Runtime, open_runtime
from runtime.graphs.records.run_events import NodeFinished, RunEvent
from runtime.traces import Encoder, Recorder, Recording, RunRecord


@attrs.frozen
class Word:
    text: str


@attrs.frozen
class Echo:
    text: str


GRAPH = Graph("echo", input=Word, output=Echo)


@GRAPH.node
async def repeat(word: Word) -> Echo:
    if word.text == "fail":
        raise LookupError("inside")
    if word.text.startswith("wait"):
        await trio.sleep(float(word.text.removeprefix("wait")))
    return Echo(word.text)


def lines(record: RunRecord, runtime: Runtime, after: int = -1, *, inside: bool = True) -> list[Any]:
    encoder = Encoder(runtime.wall_time)
    texts = (entry.text(encoder, record.created_at_s, inside=inside) for entry in record.after(after))
    return [json.loads(text) for text in texts]


def names(record: RunRecord, after: int = -1) -> list[str]:
    return [entry.name for entry in record.after(after)]


async def test_events_of_a_run_are_numbered_from_0_and_end_with_its_end() -> None:
    recorder = Recorder(Recording())
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            handle = await runtime.start(GRAPH, Word("a"), "r-1", labels={"k": "v"})
            await handle.result()

        record = recorder.get("r-1")
        assert record is not None
        assert names(record) == ["run.started", "node.started", "node.finished", "run.finished"]
        assert [line["seq"] for line in lines(record, runtime)] == [0, 1, 2, 3]
        assert [line["elapsed_s"] for line in lines(record, runtime)] == sorted(
            line["elapsed_s"] for line in lines(record, runtime)
        )
        assert (record.status, record.output, record.labels, record.steps) == ("succeeded", Echo("a"), {"k": "v"}, 1)


async def test_a_run_that_fails_shows_its_error() -> None:
    recorder = Recorder(Recording())
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            handle = await runtime.start(GRAPH, Word("fail"), "r")
            with pytest.raises(RunFailed):
                await handle.result()

        record = recorder.get("r")
        assert record is not None
        assert record.status == "failed"
        assert lines(record, runtime, inside=True)[-1]["error"]["nodes"][0]["error"]["type"] == "LookupError"
        assert "LookupError" not in json.dumps(lines(record, runtime, inside=False))


async def test_a_reader_goes_on_after_the_number_it_has_seen() -> None:
    recorder = Recorder(Recording())
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            await runtime.run(GRAPH, Word("a"), run_id="r")

    record = recorder.get("r")
    assert record is not None
    assert names(record, 1) == ["node.finished", "run.finished"]
    assert names(record, 3) == []
    assert names(record, 99) == []


async def test_a_reader_behind_what_is_kept_is_told_how_much_it_missed() -> None:
    recorder = Recorder(Recording(events_per_run=2))
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            await runtime.run(GRAPH, Word("a"), run_id="r")

        record = recorder.get("r")
        assert record is not None
        assert names(record, 0) == ["events.missed", "node.finished", "run.finished"]
        assert [(line["seq"], line.get("count")) for line in lines(record, runtime, 0)] == [(1, 1), (2, None), (3, None)]
        assert names(record, 1) == ["node.finished", "run.finished"]


async def test_a_run_that_is_read_now_and_then_shows_what_one_shows_that_is_read_at_its_end() -> None:
    """Entries are made of events when somebody reads: their numbers and their weights must not depend on when that is."""
    graph = Graph("loop", input=Word, output=Echo)

    @graph.node
    async def again(word: Word) -> Word | Echo:
        if len(word.text) % 3 == 0:
            seen.extend(names(read, seen[-1][0] if seen else -1) and [(read.next_seq - 1, read.weight)])
        return Echo(word.text) if len(word.text) > 30 else Word(word.text + "x")

    recorder, other, seen = Recorder(Recording(events_per_run=20)), Recorder(Recording(events_per_run=20)), list[Any]()
    read = recorder.accept("r", "loop", None, {})
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]), runtime.observe(other, [RunEvent]):
            await runtime.run(graph, Word(""), run_id="r")
        late = other.get("r")
        assert late is not None
        assert [entry.event for entry in read.after(-1)][1:] == [entry.event for entry in late.after(-1)][1:]
        assert [entry.seq for entry in read.after(-1)] == [entry.seq for entry in late.after(-1)]

    assert len(seen) > 5
    assert recorder.weight_bytes == other.weight_bytes == sum(entry.weight for entry in late.entries)
    assert (read.count, read.first_seq, read.next_seq) == (20, late.first_seq, late.next_seq)


async def test_a_message_that_lacks_a_field_is_weighed_too() -> None:
    made, recorder = object.__new__(Word), Recorder(Recording())
    recorder(NodeFinished(run_id="r", node="n", path="n/0", attempt=1, output=made))

    assert recorder.weight_bytes > 0


async def test_what_is_written_once_is_written_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Recording())
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            await runtime.run(GRAPH, Word("a"), run_id="r")
        record = recorder.get("r")
        assert record is not None
        encoder = Encoder(runtime.wall_time)

        first = [entry.text(encoder, 0.0, inside=True) for entry in record.after(-1)]
        second = [entry.text(encoder, 0.0, inside=False) for entry in record.after(-1)]

    assert all(one is other for one, other in zip(first[:3], second[:3], strict=True))


async def test_the_oldest_runs_that_are_over_are_forgotten_first(virtual_clock: Any) -> None:
    recorder = Recorder(Recording(runs=2))
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            alive = await runtime.start(GRAPH, Word("wait60"), "alive")
            for name in ("a", "b", "c"):
                await runtime.run(GRAPH, Word(name), run_id=name)

            assert [record.id for record in recorder.newest_first()] == ["c", "alive"]
            assert recorder.is_forgotten("a")
            assert not recorder.is_forgotten("never")
            await alive.result()
    assert [record.status for record in recorder.newest_first()] == ["succeeded", "succeeded"]


async def test_memory_is_bounded_whatever_messages_hold() -> None:
    recorder = Recorder(Recording(bytes=100_000))
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            for number in range(30):
                await runtime.run(GRAPH, Word("x" * 20_000), run_id=f"r{number}")

    assert recorder.weight_bytes <= 100_000
    assert sum(1 for _ in recorder.newest_first()) < 10


async def test_one_long_run_is_bounded_too() -> None:
    graph = Graph("loop", input=Word, output=Echo)

    @graph.node
    async def again(word: Word) -> Word | Echo:
        return Echo(word.text) if len(word.text) > 5_000 else Word(word.text + "x" * 50)

    recorder = Recorder(Recording(bytes=50_000))
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            await runtime.run(graph, Word(""), run_id="r")

    record = recorder.get("r")
    assert recorder.weight_bytes <= 50_000
    assert record is not None
    assert names(record)[0] == "events.missed"
    assert names(record)[-1] == "run.finished"


async def test_a_reader_that_waits_is_woken_and_nothing_is_lost() -> None:
    recorder = Recorder(Recording())
    seen: list[str] = []
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            record = recorder.accept("r", "echo", "me", {})

            async def read() -> None:
                last = -1
                while not record.is_over or last < record.next_seq - 1:
                    for entry in record.after(last):
                        seen.append(entry.name)
                        last = entry.seq
                    if not record.is_over:
                        await record.wait()

            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read)
                    await runtime.run(GRAPH, Word("a"), run_id="r")

    assert seen == ["run.started", "node.started", "node.finished", "run.finished"]
    assert record.owner == "me"
    assert not record.waiting


async def test_those_who_wait_for_a_run_are_woken_together_or_one_alone_and_leave_nothing() -> None:
    record = RunRecord("r", "echo", 0.0)
    woken: list[int] = []
    tasks: list[trio.lowlevel.Task] = []

    async def wait(number: int) -> None:
        tasks.append(trio.lowlevel.current_task())
        await record.wait()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await record.wait()
        record.nudge(tasks[2])
        record.nudge(tasks[2])  # it does not wait any more
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [2]
        record.wake()
        record.wake()

    assert sorted(woken) == [0, 1, 2, 3]
    assert not record.waiting


async def test_an_id_that_is_used_again_begins_a_new_record() -> None:
    recorder = Recorder(Recording())
    async with open_runtime() as runtime:
        with runtime.observe(recorder, [RunEvent]):
            await runtime.run(GRAPH, Word("a"), run_id="r")
            await runtime.run(GRAPH, Word("b"), run_id="r")

    record = recorder.get("r")
    assert record is not None
    assert record.output == Echo("b")
    assert record.next_seq == 4


@pytest.mark.parametrize(
    "options", [{"runs": 0}, {"events_per_run": 1}, {"bytes": "64"}, {"content": "some"}, {"redact": 1}], ids=str
)
def test_wrong_options_are_rejected(options: Any) -> None:
    with pytest.raises(DeclarationError):
        Recording(**options)
