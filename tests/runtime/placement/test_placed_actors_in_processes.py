"""Placed actors in real processes that are killed. What they promise is tested in virtual time, in the files beside this one."""

from __future__ import annotations

import collections
import os
import signal

import pytest
import trio

from actors import ActorFailed, Backoff, HostLost, MailboxSpec, Redelivery, Supervision
from runtime import open_runtime
from runtime.placement import Processes
from tests.runtime.placement.parts import Counter

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems")]
QUICK = Backoff(first_s=0.05)


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_thousand_asks_over_a_host_that_is_killed(attempts, tmp_path):
    ends: collections.Counter[str] = collections.Counter()
    supervision = Supervision(max_restarts=3, within_s=10, backoff=QUICK)
    file = tmp_path / "handled"
    async with open_runtime(places={"cpu": Processes(2)}, supervision=supervision) as runtime:
        redelivery, mailbox = Redelivery(max_attempts=attempts, backoff=QUICK), MailboxSpec(capacity=1000)
        refs = [
            await runtime.spawn(Counter, str(file), name=f"w{number}", place="cpu", redelivery=redelivery, mailbox=mailbox)
            for number in range(20)
        ]
        pids = {(await ref.ask(-1))[1] for ref in refs}
        assert len(pids) == 2
        file.unlink()

        async def ask(number: int) -> None:
            try:
                assert (await refs[number % 20].ask(number))[0] == number
                ends["reply"] += 1
            except ActorFailed as error:
                ends["failed" if isinstance(error.__cause__, HostLost) else "wrong"] += 1

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(ask, number)
                await trio.sleep(0.25)
                os.kill(min(pids), signal.SIGKILL)

    handled = collections.Counter(int(line) for line in file.read_text().split())
    twice = sum(count > 1 for count in handled.values())
    assert ends["reply"] + ends["failed"] == 1000
    assert (ends["failed"] <= 10, twice) == (True, 0) if attempts == 1 else (ends["failed"] == 0, twice <= 10)
