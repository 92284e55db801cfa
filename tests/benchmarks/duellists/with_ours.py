"""The cases of the duel in this runtime, through its public names only."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import attrs
import trio

from actors import LM, Actor, Graph, Redelivery, RunFailed
from runtime import LoopBlocked, NodeSlowToStop, RunFinished, Runtime, open_runtime
from runtime.lm import LMClient
from runtime.testing import LoopbackHandle
from tests.benchmarks.duel import EXTRACTORS_S, Side, ask, extractors

ONCE = Redelivery(max_attempts=1)


@attrs.frozen
class Start:
    number: int = 1


@attrs.frozen
class Left:
    text: str = ""


@attrs.frozen
class Right:
    text: str = ""


@attrs.frozen
class After:
    text: str = ""


@attrs.frozen
class Out:
    text: str


def in_runtime(body: Callable[[Runtime], Awaitable[str]]) -> str:
    async def main() -> str:
        async with open_runtime(seed=1) as runtime:
            return await body(runtime)

    return trio.run(main)


def join(graph: Graph) -> None:
    @graph.node
    async def both(left: Left, right: Right) -> Out:
        return Out(f"{left.text} and {right.text}")


def siblings_fail() -> str:
    there, both_there = list[str](), trio.Event()

    async def meet() -> None:
        """Both go on at the same moment."""
        there.append("one more")
        if len(there) == 2:
            both_there.set()
        else:
            await both_there.wait()

    graph = Graph("siblings", input=Start, output=Out)

    @graph.node(redelivery=ONCE)
    async def one(start: Start) -> Left:
        await meet()
        raise KeyError("one")

    @graph.node(redelivery=ONCE)
    async def two(start: Start) -> Right:
        await meet()
        raise ValueError("two")

    join(graph)

    async def body(runtime: Runtime) -> str:
        try:
            await runtime.run(graph, Start())
        except RunFailed as group:
            leaves = [f"{type(leaf.__cause__).__name__} at {getattr(leaf, 'path', '?')}" for leaf in group.exceptions]
            return f"{type(group).__name__} of {len(leaves)}: {', '.join(leaves)}"
        return "no error"

    return in_runtime(body)


def caller_cancelled() -> str:
    graph = Graph("blocking", input=Start, output=Out)
    ended: list[float] = []

    @graph.node
    def block(start: Start) -> Out:
        time.sleep(0.6)
        ended.append(perf_counter())
        return Out("done")

    async def body(runtime: Runtime) -> str:
        begin = perf_counter()
        with trio.move_on_after(0.2):
            await runtime.run(graph, Start())
        return f"caller returned at {perf_counter() - begin:.1f} s, thread {'over' if ended else 'still running'}"

    return in_runtime(body)


def barrier() -> str:
    graph = Graph("branches", input=Start, output=Out)
    started: list[float] = []

    @graph.node
    async def slow(start: Start) -> Left:
        await trio.sleep(0.5)
        return Left()

    @graph.node
    async def fast(start: Start) -> After:
        await trio.sleep(0.05)
        return After()

    @graph.node
    async def successor(after: After) -> Right:
        started.append(perf_counter())
        return Right()

    join(graph)

    async def body(runtime: Runtime) -> str:
        begin = perf_counter()
        await runtime.run(graph, Start())
        return f"the successor started at {started[0] - begin:.2f} s"

    return in_runtime(body)


def stubborn() -> str:
    graph = Graph("stubborn", input=Start, output=Out)
    ticks: list[float] = []

    @graph.node(timeout_s=0.2, redelivery=ONCE)
    async def tick(start: Start) -> Out:
        with trio.CancelScope(shield=True):
            for _ in range(12):
                await trio.sleep(0.05)
                ticks.append(perf_counter())
        return Out("late")

    async def body(runtime: Runtime) -> str:
        begin = perf_counter()
        named = "nobody"
        async with runtime.stream(graph, Start()) as events:
            async for event in events:
                if isinstance(event, NodeSlowToStop):
                    named = event.node
                elif isinstance(event, RunFinished) and isinstance(event.error, RunFailed):
                    raised_at, before = perf_counter() - begin, len(ticks)
                    await trio.sleep(0.6)
                    cause = type(event.error.exceptions[0].__cause__).__name__
                    return f"{cause} at {raised_at:.1f} s, then {len(ticks) - before} more ticks; slow to stop: {named}"
        return "no error"

    return in_runtime(body)


def handled() -> str:
    graph = Graph("handled", input=Start, output=Out)

    async def instead(start: Start, error: Exception) -> Left:
        return Left(f"handled {type(error).__name__}")

    @graph.node(redelivery=ONCE, fallback=instead)
    async def bad(start: Start) -> Left:
        raise KeyError("bad")

    @graph.node
    async def good(start: Start) -> Right:
        return Right("good")

    join(graph)

    async def body(runtime: Runtime) -> str:
        out: Out = await runtime.run(graph, Start())
        return out.text

    return in_runtime(body)


class Conversation(Actor):
    """Reads, waits, writes; one message at a time, because it is an actor."""

    def __init__(self) -> None:
        self.entries: list[int] = []

    async def receive(self, message: Start) -> Out:
        count = len(self.entries)
        await trio.sleep(0.01)
        self.entries[count:] = [message.number]
        return Out(f"n = {len(self.entries)}, entries {self.entries}")


def one_writer() -> str:
    graph = Graph("conversation", input=Start, output=Out)
    graph.add(Conversation, takes=Start, returns=Out)

    async def body(runtime: Runtime) -> str:
        await runtime.run(graph, Start(0))
        last: list[Any] = []

        async def increment(handle: Any) -> None:
            last.append(await handle.result())

        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(increment, await runtime.start(graph, Start(number)))
        text: str = last[-1].text
        return text

    return in_runtime(body)


@attrs.frozen
class Third:
    text: str = ""


def three(graph: Graph, add: Callable[[str, type], None]) -> Graph:
    for name, kind in zip(EXTRACTORS_S, (Left, Right, Third), strict=True):
        add(name, kind)

    @graph.node
    async def merge(left: Left, right: Right, third: Third) -> Out:
        return Out(f"{left.text} {right.text} {third.text}")

    return graph


def plain_nodes(api_base: str) -> Graph:
    """Functions that call DSPy as programs without an event loop do."""
    graph = Graph("plain", input=Start, output=Out)

    def add(name: str, kind: type) -> None:
        def node(start: Start) -> Any:
            return kind(ask(name, api_base))

        node.__annotations__["return"] = kind
        graph.node(name=name)(node)

    return three(graph, add)


def blocking_nodes(api_base: str) -> Graph:
    """Async functions that call the synchronous DSPy, which holds the event loop."""
    graph = Graph("blocking", input=Start, output=Out)

    def add(name: str, kind: type) -> None:
        async def node(start: Start) -> Any:
            await trio.lowlevel.checkpoint()
            return kind(ask(name, api_base))

        node.__annotations__["return"] = kind
        graph.node(name=name)(node)

    return three(graph, add)


def asking_nodes(api_base: str) -> Graph:
    """Async functions that ask the node's language model through DSPy."""
    graph = Graph("asking", input=Start, output=Out)

    def add(name: str, kind: type) -> None:
        async def node(start: Start, lm: LM) -> Any:
            return kind((await lm.predict("question -> answer", question="?")).answer)

        node.__annotations__["return"] = kind
        graph.node(name=name, lm=name)(node)

    return three(graph, add)


def timed_extraction(nodes: Callable[[str], Graph]) -> str:
    """The three extractors on the second of two runs: time, calls out at once, and whom the watchdog named."""

    async def main(provider: LoopbackHandle) -> str:
        lms = {name: LMClient(f"openai/{name}", api_base=provider.api_base, api_key="none") for name in EXTRACTORS_S}
        async with open_runtime(lms=lms, seed=1, watchdog_s=0.1) as runtime:
            graph = nodes(provider.api_base)
            await runtime.run(graph, Start())
            provider.clear()
            events = runtime.events()
            begin = perf_counter()
            await runtime.run(graph, Start())
            took_s = perf_counter() - begin
            blocked = [event.address for event in iter(events.take_nowait, None) if isinstance(event, LoopBlocked)]
            named = f"; named: {', '.join(sorted(map(str, blocked)))}" if blocked else ""
            return f"{took_s:.2f} s, {provider.snapshot().max_in_flight} at once{named}"

    with extractors() as provider:
        return trio.run(main, provider)


def extraction() -> str:
    return f"plain {timed_extraction(plain_nodes)}; async {timed_extraction(asking_nodes)}"


def blocked_extraction() -> str:
    return timed_extraction(blocking_nodes)


SIDE = Side(
    "understudy",
    {"a": siblings_fail, "b": caller_cancelled, "c": barrier, "d": stubborn, "e": handled, "g": one_writer}
    | {"h": extraction, "i": blocked_extraction},
)
