"""The cases of the duel in LangGraph, with its own means: node timeout, error handler, saver."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
import contextlib
import operator
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from tests.benchmarks.duel import EXTRACTORS_S, Side, ask, ask_on_asyncio, extractors


class Notes(TypedDict):
    notes: Annotated[list[str], operator.add]


def siblings(one: Any, two: Any, **options: Any) -> Any:
    """A graph of two nodes side by side."""
    builder: Any = StateGraph(Notes)
    builder.add_node("one", one, **options)
    builder.add_node("two", two)
    for name in ("one", "two"):
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder.compile()


def siblings_fail() -> str:
    there, both_there = list[str](), asyncio.Event()

    async def meet() -> None:
        """Both go on at the same moment."""
        there.append("one more")
        if len(there) == 2:
            both_there.set()
        else:
            await both_there.wait()

    async def one(state: Notes) -> Notes:
        await meet()
        raise KeyError("one")

    async def two(state: Notes) -> Notes:
        await meet()
        raise ValueError("two")

    async def main() -> str:
        try:
            await siblings(one, two).ainvoke({"notes": []})
        except BaseExceptionGroup as group:
            return f"{type(group).__name__} of {len(group.exceptions)}"
        except Exception as error:  # noqa: BLE001 - which one is the question
            return f"{type(error).__name__} alone, no group"
        return "no error"

    return asyncio.run(main())


def caller_cancelled() -> str:
    ended: list[float] = []

    def block(state: Notes) -> Notes:
        time.sleep(0.6)
        ended.append(perf_counter())
        return {"notes": ["done"]}

    async def idle(state: Notes) -> Notes:
        return {"notes": []}

    async def main() -> str:
        graph = siblings(block, idle)
        begin = perf_counter()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(graph.ainvoke({"notes": []}), 0.2)
        return f"caller returned at {perf_counter() - begin:.1f} s, thread {'over' if ended else 'still running'}"

    return asyncio.run(main())


def barrier() -> str:
    started: list[float] = []

    async def slow(state: Notes) -> Notes:
        await asyncio.sleep(0.5)
        return {"notes": ["slow"]}

    async def fast(state: Notes) -> Notes:
        await asyncio.sleep(0.05)
        return {"notes": ["fast"]}

    async def successor(state: Notes) -> Notes:
        started.append(perf_counter())
        return {"notes": ["successor"]}

    async def main() -> str:
        builder: Any = StateGraph(Notes)
        for name, node in (("slow", slow), ("fast", fast), ("successor", successor)):
            builder.add_node(name, node)
        for source, target in ((START, "slow"), (START, "fast"), ("fast", "successor"), ("slow", END), ("successor", END)):
            builder.add_edge(source, target)
        graph = builder.compile()
        begin = perf_counter()
        await graph.ainvoke({"notes": []})
        return f"the successor started at {started[0] - begin:.2f} s"

    return asyncio.run(main())


def stubborn() -> str:
    ticks: list[float] = []

    async def tick(state: Notes) -> Notes:
        end = perf_counter() + 0.6
        while perf_counter() < end:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
            ticks.append(perf_counter())
        return {"notes": ["late"]}

    async def idle(state: Notes) -> Notes:
        return {"notes": []}

    async def main() -> str:
        graph = siblings(tick, idle, timeout=0.2)
        begin = perf_counter()
        try:
            await graph.ainvoke({"notes": []})
        except Exception as error:  # noqa: BLE001 - which one is the question
            raised_at, before = perf_counter() - begin, len(ticks)
            await asyncio.sleep(0.6)
            return f"{type(error).__name__} at {raised_at:.1f} s, then {len(ticks) - before} more ticks"
        return "no error"

    return asyncio.run(main())


def handled() -> str:
    async def bad(state: Notes) -> Notes:
        raise KeyError("bad")

    async def good(state: Notes) -> Notes:
        return {"notes": ["good"]}

    async def instead(state: Notes) -> Notes:
        return {"notes": ["handled"]}

    async def main() -> str:
        done = await siblings(bad, good, error_handler=instead).ainvoke({"notes": []})
        return " and ".join(sorted(done["notes"], reverse=True))

    return asyncio.run(main())


class Counted(TypedDict):
    n: int
    number: int
    entries: Annotated[list[int], operator.add]


def one_writer() -> str:
    async def increment(state: Counted) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"n": state.get("n", 0) + 1, "entries": [state["number"]]}

    async def main() -> str:
        builder: Any = StateGraph(Counted)
        builder.add_node("increment", increment)
        builder.add_edge(START, "increment")
        builder.add_edge("increment", END)
        graph = builder.compile(checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "one"}}
        await graph.ainvoke({"number": 0}, thread)
        await asyncio.gather(*(graph.ainvoke({"number": number}, thread) for number in range(1, 6)))
        values = (await graph.aget_state(thread)).values
        return f"n = {values['n']}, entries {values['entries']}"

    return asyncio.run(main())


def timed_extraction(node: Callable[[str, str], Any]) -> str:
    """The three extractors as such nodes, on the second of two runs: how long it takes, and how many calls are out at once."""
    with extractors() as provider:
        builder: Any = StateGraph(Notes)
        for name in EXTRACTORS_S:
            builder.add_node(name, node(name, provider.api_base))
            builder.add_edge(START, name)
            builder.add_edge(name, END)
        graph = builder.compile()

        async def main() -> str:
            await graph.ainvoke({"notes": []})
            provider.clear()
            begin = perf_counter()
            await graph.ainvoke({"notes": []})
            return f"{perf_counter() - begin:.2f} s, {provider.snapshot().max_in_flight} at once"

        return asyncio.run(main())


def plain_extractor(name: str, api_base: str) -> Callable[[Notes], Notes]:
    def node(state: Notes) -> Notes:
        return {"notes": [ask(name, api_base)]}

    return node


def async_extractor(name: str, api_base: str) -> Callable[[Notes], Awaitable[Notes]]:
    async def node(state: Notes) -> Notes:
        return {"notes": [await ask_on_asyncio(name, api_base)]}

    return node


def blocking_extractor(name: str, api_base: str) -> Callable[[Notes], Awaitable[Notes]]:
    async def node(state: Notes) -> Notes:
        await asyncio.sleep(0)
        return {"notes": [ask(name, api_base)]}

    return node


def extraction() -> str:
    return f"plain {timed_extraction(plain_extractor)}; async {timed_extraction(async_extractor)}"


def blocked_extraction() -> str:
    return f"{timed_extraction(blocking_extractor)}; nothing says so"


SIDE = Side(
    f"LangGraph {version('langgraph')}",
    {"a": siblings_fail, "b": caller_cancelled, "c": barrier, "d": stubborn, "e": handled, "g": one_writer}
    | {"h": extraction, "i": blocked_extraction},
)
