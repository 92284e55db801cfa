from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from actors import Actor
from runtime import open_runtime
from runtime.testing import EventLog, assert_golden


class Fragile(Actor):
    async def receive(self, message: object) -> None:
        raise RuntimeError("broken")


@attrs.frozen
class Go:
    pass


async def crashed_once() -> list[str]:
    log = EventLog()
    async with open_runtime(seed=1, instruments=[log]) as runtime:
        fragile = await runtime.spawn(Fragile, name="fragile")
        await fragile.tell(Go())
        await trio.sleep(1)
    return log.lines


async def test_a_log_is_the_same_for_the_same_seed(virtual_clock: trio.testing.MockClock) -> None:
    first = [line.partition(" ")[2] for line in await crashed_once()]
    again = [line.partition(" ")[2] for line in await crashed_once()]

    assert first == again
    assert "ActorCrashed address=fragile incarnation=1 error=RuntimeError('broken') while_starting=False" in first


def test_a_difference_is_shown_as_a_diff(tmp_path: Path) -> None:
    file = tmp_path / "run.trace"
    file.write_text("one\ntwo\nthree\n")

    assert_golden(["one", "two", "three"], file)
    with pytest.raises(AssertionError) as caught:
        assert_golden(["one", "2", "three"], file)

    assert str(caught.value).splitlines() == [
        "the trace differs from run.trace:",
        "--- run.trace",
        "+++ this run",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "+2",
        " three",
        "If it should: UNDERSTUDY_UPDATE=1 pytest …",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_golden(["one"], tmp_path / "gone.trace")

    assert str(caught.value).splitlines()[0] == f"there is no {tmp_path}/gone.trace to compare the trace with:"


def test_golden_files_are_written_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_UPDATE", "1")

    assert_golden(["one"], tmp_path / "new" / "run.trace")

    monkeypatch.delenv("UNDERSTUDY_UPDATE")
    assert_golden(["one"], tmp_path / "new" / "run.trace")
