"""The study with this framework: the graph of ``runtime.cli.demo_graph`` on trio, and what happens when a call fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import attrs
import trio

from actors.restarts import Backoff
from actors.words import words_of
from runtime.app import Runtime
from runtime.cli import study
from runtime.cli.demo_graph import Intent, graph, shown
from runtime.cli.timeline import Measured
from runtime.core.events import ActorCrashed, ActorRestarting, ActorStarted, Event, EventStream, MessageRedelivering
from runtime.graphs.records.run_events import NodeFinished, NodeStarted, RunFinished
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry

NAMES: Final[Mapping[str, str]] = {each.node: each.name for each in study.EXTRACTORS}
BUFFER: Final = 4096
FAILING: Final = "time"
"""The extractor whose first call fails."""


@final
@attrs.frozen
class Happening:
    """One thing that happened, in words."""

    at_s: float
    """Seconds since the run began."""
    who: str
    what: str
    is_failure: bool = False


def clients(api_base: str) -> dict[str, LMClient]:
    """One client per extractor. They make one request per call: the demo wants the node to see a failure, not the client."""
    once = Retry(max_attempts=1, backoff=Backoff(first_s=0.1))
    return {
        each.name: LMClient(f"openai/{each.name}", api_key="none", api_base=api_base, retry=once) for each in study.EXTRACTORS
    }


async def measure(runtime: Runtime, intent: Intent) -> Measured:
    """Run the graph once and note when its extractors began and ended.

    Raises:
        RunFailed: a node failed.
    """
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}
    output: Any = None
    began_s = trio.current_time()
    async with runtime.stream(graph, intent) as events:
        async for event in events:
            if isinstance(event, NodeStarted) and event.node in NAMES:
                starts.setdefault(NAMES[event.node], event.at_s)
            elif isinstance(event, NodeFinished) and event.node in NAMES:
                ends[NAMES[event.node]] = event.at_s
            elif isinstance(event, RunFinished):
                if event.error is not None:
                    raise event.error
                output = event.output
    return Measured(began_s, trio.current_time(), {name: (starts[name], ends[name]) for name in NAMES.values()}, shown(output))


async def fail_and_recover(runtime: Runtime, intent: Intent) -> list[Happening]:
    """Run the graph once, whose provider fails one call, and tell what happened.

    Raises:
        RunFailed: it did not recover.
    """
    began_s = trio.current_time()
    async with runtime.events(_matters, buffer=BUFFER) as events:
        await runtime.run(graph, intent)
        return list(_told(events, began_s))


def _matters(event: Event) -> bool:
    kinds = (ActorCrashed, ActorRestarting, ActorStarted, MessageRedelivering, NodeStarted, NodeFinished, RunFinished)
    return isinstance(event, kinds)


def _told(events: EventStream, began_s: float) -> Iterator[Happening]:
    while (event := events.take_nowait()) is not None:
        told = _words(event)
        if told is not None:
            who, what = told
            yield Happening(event.at_s - began_s, who, what, isinstance(event, ActorCrashed))


def _words(event: Event) -> tuple[str, str] | None:
    match event:
        case ActorCrashed():
            return _who(event.address), f"crashes: {type(event.error).__name__}, {_short(event.error)}"
        case ActorRestarting():
            return "supervisor", f"will restart {_who(event.address)} in {event.delay_s:.3f} s (backoff)"
        case MessageRedelivering():
            return "mailbox", f"keeps the message, to deliver it again in {event.delay_s:.3f} s"
        case ActorStarted():
            return _who(event.address), f"is up again: incarnation {event.incarnation}, same address, same mailbox"
        case NodeStarted():
            again = "" if event.attempt == 1 else f" again, attempt {event.attempt}"
            return _who(event.node), f"gets its message{again}"
        case NodeFinished():
            return _who(event.node), "finishes"
        case RunFinished():
            return "run", event.status
        case _:
            return None


def _who(address: str) -> str:
    node = address.rpartition("/")[2]
    return NAMES.get(node, node)


def _short(error: BaseException) -> str:
    """The status that the provider answered with; what else there is to say stands in the exception's message."""
    status = getattr(error, "status", None)
    return f"HTTP {status}" if status is not None else words_of(error).partition("\n")[0]
