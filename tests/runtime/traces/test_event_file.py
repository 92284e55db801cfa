"""Events written to a file as they come."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors import Graph
from runtime import ActorEvent, open_runtime
from runtime.core.events import ActorStarted
from runtime.traces import EventFile, read_events, trace_of


@attrs.frozen
class Word:
    text: str


@attrs.frozen
class Loud:
    text: str


def shouting() -> Graph[Word, Loud]:
    graph = Graph("shouting", input=Word, output=Loud)

    @graph.node
    async def shout(word: Word) -> Loud:
        return Loud(word.text.upper())

    return graph


async def test_each_run_is_numbered_from_0_and_can_be_read_while_the_file_is_open(tmp_path: Path, autojump_clock: Any) -> None:
    path = tmp_path / "runs.jsonl"
    with EventFile(path) as file:
        async with open_runtime(instruments=[file]) as runtime:
            await runtime.run(shouting(), Word("a"), run_id="first")
            events = read_events(path.read_text(), "it")
            await runtime.run(shouting(), Word("b"), run_id="second")

    assert [event["event"] for event in events] == ["run.started", "node.started", "node.finished", "run.finished"]
    assert trace_of(events).status == "succeeded"
    assert [(event["run"], event["seq"]) for event in read_events(path.read_text(), "it")] == [
        (run, seq) for run in ("first", "second") for seq in range(4)
    ]


async def test_what_messages_hold_is_left_out_or_changed_before_it_is_written(tmp_path: Path, autojump_clock: Any) -> None:
    none, changed = tmp_path / "none.jsonl", tmp_path / "changed.jsonl"
    with EventFile(none, content="none") as first, EventFile(changed, redact=lambda content: "***") as second:
        async with open_runtime(instruments=[first, second]) as runtime:
            await runtime.run(shouting(), Word("secret"))

    assert "secret" not in none.read_text().lower()
    assert "secret" not in changed.read_text().lower()
    assert json.loads(changed.read_text().splitlines()[0])["input"] == "***"


async def test_events_of_no_run_are_left_out(tmp_path: Path, autojump_clock: Any) -> None:
    path = tmp_path / "runs.jsonl"
    with EventFile(path) as file:
        async with open_runtime(instruments=[file]) as runtime:
            with runtime.observe(lambda event: file(event), [ActorEvent]):
                await runtime.run(shouting(), Word("a"), run_id="first")
            file(ActorStarted(address="by hand", incarnation=0))

    events = read_events(path.read_text(), "it")
    assert [event["event"] for event in events] == ["run.started", "node.started", "node.finished", "run.finished"]


async def test_the_instrument_of_no_runtime_says_so_once(
    tmp_path: Path, autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with EventFile(tmp_path / "runs.jsonl") as file:
        async with open_runtime() as runtime:
            with runtime.observe(file):
                assert await runtime.run(shouting(), Word("a")) == Loud("A")

    assert caplog.text.count("Fix: open_runtime(instruments=[EventFile(…)])") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that takes nothing")
async def test_a_full_disk_ends_the_file_and_neither_the_run_nor_the_program(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with EventFile("/dev/full") as file:
        async with open_runtime(instruments=[file]) as runtime:
            assert await runtime.run(shouting(), Word("a")) == Loud("A")

    assert "EventFile('/dev/full') was called with RunStarted and raised OSError" in caplog.text


async def test_what_a_disk_takes_in_parts_is_written_whole(tmp_path: Path, autojump_clock: Any) -> None:
    class Nearly(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:7])

    path = tmp_path / "run.jsonl"
    with EventFile(path) as file:
        file._file.close()
        file._file = Nearly(path, "wb")
        async with open_runtime(instruments=[file]) as runtime:
            await runtime.run(shouting(), Word("a"))

    assert [event["event"] for event in read_events(path.read_text(), "it")][-1] == "run.finished"
