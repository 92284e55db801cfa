"""``python -m tests.load``: a service under many clients, in a process of its own; says what was seen, and what it took.

Exits with 1 when anything was lost or left open. Memory is told, and judged by whoever reads it: it is the system's to count.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path

import trio

from tests.benchmarks.service_calls import Host, hosting
from tests.load.clients import Reader, Watcher, leave_a_wait, listen, stall, start, visit, whole

SERVER = "understudy"
WATCHED = "watched"
BARE = "hypercorn-trio"
LOOKING = 0.05
"""What of a core an open view of the inspector may take."""


async def bare_server(count: int) -> bool:
    """So many clients of the server under ours, with an application that sends a line and then waits: the base of the figures."""
    async with hosting(BARE, "bare") as host:
        before = await host.bytes()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                await nursery.start(listen, host, "none")
            held = await host.bytes() - before
            nursery.cancel_scope.cancel()
    say(f"{count:,} clients of {BARE} alone: {held / count / 1024:.1f} KiB a client")
    return True


async def on_one_run(host: Host, count: int) -> bool:
    """So many clients follow one run."""
    run = await start(host, 5, is_held=True)
    before = await host.bytes()
    return await _followed(host, [Reader(run) for _ in range(count)], before, f"{count:,} clients of one run")


async def on_many_runs(host: Host, count: int) -> bool:
    """So many clients, each with a run."""
    alone = await host.bytes()
    readers = [Reader(await start(host, 5, is_held=True)) for _ in range(count)]
    before = await host.bytes()
    say(f"{count:,} runs that no one follows: {(before - alone) / count / 1024:.1f} KiB a run")
    return await _followed(host, readers, before, f"{count:,} clients of {count:,} runs")


async def _followed(host: Host, readers: list[Reader], before: int, what: str) -> bool:
    async with trio.open_nursery() as nursery:
        for each in readers:
            nursery.start_soon(each.read, host)
        for each in readers:
            await each.begun.wait()
        held = await host.bytes() - before
        await host.ask("POST", "/go", {})  # until then the runs wait
    seen = whole(readers, 12)
    say(f"{what}: {seen:,} saw every event once; {held / len(readers) / 1024:.1f} KiB a client")
    return seen == len(readers)


async def stalled_readers(host: Host, count: int) -> bool:
    """So many readers take nothing of a log of 1 MiB, while others read it."""
    run = await start(host, 130, text="x" * 8_000)
    first = Reader(run)
    await first.read(host)
    before = await host.bytes()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(stall, host, run)
        await trio.sleep(1)
        held = await host.bytes() - before
        others = [Reader(run) for _ in range(10)]
        async with trio.open_nursery() as reading:
            for each in others:
                reading.start_soon(each.read, host)
        nursery.cancel_scope.cancel()
    seen = whole(others, len(first.seqs))
    say(
        f"{count:,} readers that take nothing of {first.bytes / 2**20:.1f} MiB: {held / count / 1024:.0f} KiB a reader; "
        f"{seen} of {len(others)} others saw all of it"
    )
    return seen == len(others)


async def comings_and_goings(host: Host, count: int) -> bool:
    """So many connects and disconnects while a run goes on; what they leave open."""
    run = await start(host, 1, wait_s=3_600)
    await _until_same(host, await host.state())
    before = await host.state()
    left = iter(range(count))

    async def visitor() -> None:
        for _ in left:
            await visit(host, run)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(visitor)
    after = await _until_same(host, before)
    await host.ask("POST", f"/v1/runs/{run}/cancel", {})
    grown = {name: after[name] - before[name] for name in ("tasks", "files", "calls")}
    say(f"{count:,} connects and disconnects leave {grown}")
    return all(more <= 0 for more in grown.values())


async def cancelled_waits(host: Host, count: int) -> bool:
    """So many clients leave while they wait for a run; what is left of the calls that their runs had open."""
    before = await host.state()
    leave = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(leave_a_wait, host, leave)
        with trio.move_on_after(60):
            while (during := await host.state())["calls"] < count:  # noqa: ASYNC110 - another process says nothing
                await trio.sleep(0.1)
        leave.set()
    after = await _until_same(host, before, ("files", "calls"))  # a node keeps the instances that so many runs have made
    say(f"{count:,} waits that were left: {during['calls']} calls were open, {after['calls']} are left")
    return bool(during["calls"] == count and after["calls"] == before["calls"])


async def watched_actors(host: Host, count: int, span_s: float = 20.0) -> bool:
    """The inspector's view of so many actors, some of which are at work, is open somewhere: what of a core that takes."""
    await host.ask("POST", f"/actors?count={count}", {})
    watcher = Watcher()
    alone_s = await _cpu_within(host, span_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.watch, host)
        with trio.fail_after(60):
            await watcher.begun.wait()
        await trio.sleep(min(span_s, 5))  # the line at the top was made for it, and rests from now on for thirty times as long
        before = watcher.updates
        both_s = await _cpu_within(host, span_s)
        seen = watcher.updates - before
        nursery.cancel_scope.cancel()
    share = (both_s - alone_s) / span_s
    rate = seen / span_s
    say(f"{count:,} actors whose view is open: {100 * share:.1f} % of a core for {rate:.1f} updates a second")
    return share < LOOKING and seen > 0


async def _cpu_within(host: Host, span_s: float) -> float:
    before_s = await host.cpu_s()
    await trio.sleep(span_s)
    return await host.cpu_s() - before_s


async def two_signals(host: Host, count: int) -> bool:
    """So many runs that would go on for long, each with a follower, when the server is told to end, and then to end now."""
    readers = [Reader(await start(host, 1, wait_s=3_600)) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for each in readers:
            nursery.start_soon(each.read, host)
        for each in readers:
            await each.begun.wait()
        os.kill(host.pid, signal.SIGTERM)
        await trio.sleep(0.5)  # two signals at the same moment are one
        os.kill(host.pid, signal.SIGTERM)
        begun = trio.current_time()
        while Path(f"/proc/{host.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)
        took_s = trio.current_time() - begun
    seen = whole(readers, 4)
    say(f"two signals to {count:,} runs with a follower each: {seen:,} heard of the end; the server is gone after {took_s:.1f} s")
    return seen == count


async def _until_same(host: Host, before: dict[str, int], names: tuple[str, ...] = ("tasks", "files", "calls")) -> dict[str, int]:
    """The state when nothing more of it ends, or is as it was `before`."""
    state: dict[str, int] = await host.state()
    for _ in range(60):
        if all(state[name] <= before[name] for name in names):
            break
        await trio.sleep(0.5)
        state = await host.state()
    return state


async def load(scale: float) -> bool:
    """All of it, on one server each."""
    results = [await bare_server(max(2, int(1_000 * scale)))]
    for scene, count in (
        (on_one_run, 1_000),
        (on_many_runs, 1_000),
        (stalled_readers, 300),
        (comings_and_goings, 10_000),
        (cancelled_waits, 200),
        (two_signals, 100),
    ):
        async with hosting(SERVER, "service") as host:
            results.append(await scene(host, max(2, int(count * scale))))
    async with hosting(WATCHED, "service") as host:
        results.append(await watched_actors(host, max(2, int(10_000 * scale))))
    return all(results)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description="A service under many clients.")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the clients (default: 1)")
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8_192), hard), hard))
    return 0 if trio.run(partial(load, options.scale)) else 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
