"""One run of everything whose order could differ between machines; prints its trace. Run as a program, with a seed."""

from __future__ import annotations

import random
import sys
import time
import uuid

import attrs
import trio

from actors import Actor, Backoff, Redelivery, Request, Supervision
from runtime.testing import ScriptedLM, Simulation, open_loopback
from runtime.testing.schedules.strategies import portfolio


@attrs.frozen
class Work(Request[str]):
    number: int


class Worker(Actor):
    """Crashes sometimes, by the seed; works in a thread, which calls back."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    async def receive(self, message: Work) -> str:
        if self.sim.rng.random() < 0.3:
            raise RuntimeError("crash")
        words = await trio.to_thread.run_sync(self.count, message.number)
        await trio.sleep(self.sim.rng.random())
        return " ".join(sorted(words))

    def count(self, number: int) -> set[str]:
        time.sleep(0.001 * (number % 2))
        trio.from_thread.run(trio.sleep, 0.5)
        return {f"word-{number}-{index}" for index in range(4)}


async def program(sim: Simulation) -> None:
    lm = ScriptedLM(lambda messages: "answer", latency_s=0.25)
    supervision = Supervision(max_restarts=1000, backoff=Backoff(jitter=1.0))
    async with sim.open_runtime(supervision=supervision) as runtime, open_loopback({"m": "hello"}, unused="ok") as provider:
        workers = [
            await runtime.spawn(Worker, sim, name=f"worker-{number}", redelivery=Redelivery(max_attempts=50))
            for number in range(3)
        ]

        async def ask(number: int) -> None:
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time() + 30
                sim.note(f"{number}: {await workers[number % 3].ask(Work(number))} {uuid.uuid4()} {random.random()}")
            await lm.chat([{"role": "user", "content": str(number)}])

        async def fetch() -> None:
            host, port = provider.url.removeprefix("http://").split(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                sim.note(f"fetched {len(b''.join([bytes(piece) async for piece in stream]))} bytes")

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, number)
                nursery.start_soon(fetch)


def main(seed: int) -> list[str]:
    sim = Simulation(portfolio(seed, 200), seed=seed)
    sim.run(lambda: program(sim))
    return sim.trace


if __name__ == "__main__":
    sys.stdout.write("\n".join(main(int(sys.argv[1]))) + "\n")
