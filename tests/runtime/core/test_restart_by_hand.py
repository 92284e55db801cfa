"""``runtime.restart``: an operator starts an actor again."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Actor, Backoff, RestartType, Supervision, UsageError
from runtime import open_runtime


class Living(Actor[str]):
    """Handles everything, slowly, or fails."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def receive(self, message: str) -> None:
        self._seen.append(message)
        if message == "fail":
            raise OSError("by request")
        await trio.sleep(1)


async def test_it_finishes_its_message_loses_those_that_wait_and_its_ref_stays_valid(autojump_clock: Any) -> None:
    seen: list[str] = []
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Living, seen, name="a")
        for message in ("first", "second", "third"):
            ref.tell_nowait(message)
        await trio.sleep(0.5)
        await runtime.restart(ref)
        look = runtime.look("a")
        ref.tell_nowait("after")
        await trio.sleep(2)

        assert look is not None
        assert (look.incarnation, look.restarts) == (2, 0)
        assert seen == ["first", "after"]
        assert [letter.message for letter in runtime.dead_letters] == ["second", "third"]


async def test_one_that_backs_off_is_started_immediately(autojump_clock: Any) -> None:
    slow = Supervision(backoff=Backoff(first_s=500, jitter=0.0))
    async with open_runtime(supervision=slow) as runtime:
        ref = await runtime.spawn(Living, [], name="a")
        ref.tell_nowait("fail")
        await trio.sleep(1)
        before = runtime.look("a")
        await runtime.restart(ref)
        after = runtime.look("a")

        assert before is not None
        assert after is not None
        assert (str(before.state), str(after.state)) == ("backing_off", "running")
        assert trio.current_time() < 10


async def test_what_is_never_started_again_is_not_stopped_either(autojump_clock: Any) -> None:
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Living, [], name="a", restart=RestartType.TEMPORARY)
        with pytest.raises(UsageError, match=r"'a' is started once and never again"):
            await runtime.restart(ref)

        assert runtime.whereis("a") is ref


async def test_the_backoff_that_it_cut_short_does_not_end_a_later_one(autojump_clock: Any) -> None:
    slow = Supervision(max_restarts=5, within_s=1_000, backoff=Backoff(first_s=100, cap_s=400, jitter=0.0))
    async with open_runtime(supervision=slow) as runtime:
        ref = await runtime.spawn(Living, [], name="a")
        ref.tell_nowait("fail")
        await trio.sleep(1)
        await runtime.restart(ref)
        ref.tell_nowait("fail")
        await trio.sleep(150)  # the first wait would be over, the second of 200 s is not
        look = runtime.look("a")

        assert look is not None
        assert (look.incarnation, str(look.state)) == (2, "backing_off")
