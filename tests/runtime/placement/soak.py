"""Long tests of hosts that are processes: `python -m tests.runtime.placement.soak kills 100`, or `busy 600` (seconds)."""

from __future__ import annotations

import collections
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import trio

from actors import ActorFailed, ActorRef, Backoff, HostLost, MailboxSpec, Redelivery, Supervision
from runtime import open_runtime
from runtime.core.events import Event
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import HostStarted, Processes
from tests.runtime.placement.parts import Busy, Counter

QUICK = Backoff(first_s=0.05)
PATIENCE_S = 300.0
"""How long a thousand asks may take at most, on a machine that does much else."""
WAYS = ("in Python", "in a thread", "asleep", "holding the interpreter", "idle")


@attrs.frozen
class Ends:
    """What became of a thousand asks."""

    reply: int
    failed: int
    wrong: int
    twice: int
    """Messages that were handled twice."""
    moved: int
    """Actors that answer from the host that was not killed, when all asks have ended."""


async def thousand_asks(attempts: int, file: Path, kill_at_s: float) -> Ends:
    """A thousand asks to twenty placed actors on two hosts, of which one is killed."""
    ends: collections.Counter[str] = collections.Counter()
    supervision = Supervision(max_restarts=3, within_s=10, backoff=QUICK)
    place = Processes(2, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S)
    async with open_runtime(places={"cpu": place}, supervision=supervision) as runtime:
        redelivery, mailbox = Redelivery(max_attempts=attempts, backoff=QUICK), MailboxSpec(capacity=1000)
        refs: list[ActorRef[Any]] = [
            await runtime.spawn(Counter, str(file), name=f"w{number}", place="cpu", redelivery=redelivery, mailbox=mailbox)
            for number in range(20)
        ]
        pids = {(await ref.ask(-1))[1] for ref in refs}
        assert len(pids) == 2
        await trio.Path(file).unlink()

        async def ask(number: int) -> None:
            try:
                ends["reply" if (await refs[number % 20].ask(number))[0] == number else "wrong"] += 1
            except ActorFailed as error:
                ends["failed" if isinstance(error.__cause__, HostLost) else "wrong"] += 1

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(ask, number)
                await trio.sleep(kill_at_s)
                os.kill(min(pids), signal.SIGKILL)
            handled = collections.Counter(int(line) for line in (await trio.Path(file).read_text()).split())
            after = [(await ref.ask(-1))[1] for ref in refs]
        assert min(pids) not in after
    twice = sum(count > 1 for count in handled.values())
    return Ends(ends["reply"], ends["failed"], ends["wrong"], twice, after.count(max(pids)))


def is_kept(attempts: int, ends: Ends) -> bool:
    """Whether that is what is promised."""
    if ends.reply + ends.failed != 1000:
        return False
    return ends.failed <= 10 and ends.twice == 0 if attempts == 1 else ends.failed == 0 and ends.twice <= 10


async def busy_handlers(seconds: float) -> tuple[int, list[Event]]:
    """Keep two hosts busy; how many messages were handled, and what was told of hosts."""
    events: list[Event] = []
    handled = 0
    async with open_runtime(places={"cpu": Processes(2)}) as runtime:
        runtime._services.events.add_sink(events.append, (HostLostEvent, HostStarted))
        refs = [await runtime.spawn(Busy, name=f"busy-{number}", place="cpu") for number in range(8)]
        until = trio.current_time() + seconds

        async def work(number: int) -> None:
            nonlocal handled
            while trio.current_time() < until:
                await refs[number].ask(random.choice(WAYS))
                handled += 1

        async with trio.open_nursery() as nursery:
            for number in range(len(refs)):
                nursery.start_soon(work, number)
    return handled, events


async def kills(rounds: int) -> int:
    kept: collections.Counter[int] = collections.Counter()
    moved = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for attempts in (1, 3):
                ends = await thousand_asks(attempts, Path(folder, f"{number}-{attempts}"), random.uniform(0.0, 0.5))
                kept[attempts] += is_kept(attempts, ends)
                moved += ends.moved == 20
                if not is_kept(attempts, ends):
                    print(f"round {number}, Redelivery({attempts}): {ends}", flush=True)  # noqa: T201
            print(f"{number + 1} rounds: kept {kept[1]} and {kept[3]}; all moved in {moved}", flush=True)  # noqa: T201
    return 0 if kept[1] == kept[3] == rounds else 1


async def busy(seconds: float) -> int:
    handled, events = await busy_handlers(seconds)
    lost = [event for event in events if isinstance(event, HostLostEvent)]
    print(f"{handled} messages in {seconds:g} s; {len(lost)} hosts lost: {lost}", flush=True)  # noqa: T201
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(trio.run(kills, int(sys.argv[2])) if sys.argv[1] == "kills" else trio.run(busy, float(sys.argv[2])))
