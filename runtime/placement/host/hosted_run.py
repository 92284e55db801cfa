"""The ``Run`` of a node that works on a host: what it asks and tells goes to the runtime, over the call that it works on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar, final

import attrs
import trio

from actors.errors import UsageError
from runtime.graphs.nodes.once import call_of_once
from runtime.placement.call_payloads import NodeCodec, packed
from runtime.placement.link import Answer

A = TypeVar("A")


class AskRuntime(Protocol):
    """Asks the runtime something about the call."""

    def __call__(self, body: bytes, *, answer: Answer | None = None) -> Awaitable[bytes]:
        """What it answers; `answer` answers what it asks back."""
        ...


Tell = Callable[[bytes], None]
"""Tells the runtime something about the call."""


@final
@attrs.frozen
class HostedRun:
    """See ``actors.Run``."""

    id: str
    graph: str
    node: str
    path: str
    attempt: int
    is_resumed: bool
    steps_left: float
    """As of the beginning of the attempt."""
    fence: int
    """See ``actors.Run``."""
    _wall_time: datetime = attrs.field(repr=False, eq=False)
    _begun_at: float = attrs.field(repr=False, eq=False)
    _codec: NodeCodec = attrs.field(repr=False, eq=False)
    _ask: AskRuntime = attrs.field(repr=False, eq=False)
    _tell: Tell = attrs.field(repr=False, eq=False)

    @classmethod
    def of(cls, told: Mapping[str, Any], fence: int, codec: NodeCodec, ask: AskRuntime, tell: Tell) -> HostedRun:
        """That of an attempt, by what the runtime has told of it."""
        steps_left = math.inf if told["steps_left"] is None else told["steps_left"]
        return cls(
            told["id"],
            told["graph"],
            told["node"],
            told["path"],
            told["attempt"],
            told["is_resumed"],
            steps_left,
            fence,
            datetime.fromisoformat(told["wall_time"]),
            trio.current_time(),
            codec,
            ask,
            tell,
        )

    @property
    def key(self) -> str:
        """See ``actors.Run.key``."""
        return f"{self.id}/{self.path}"

    def wall_time(self) -> datetime:
        """See ``actors.Run.wall_time``: the runtime's when it sent the message, and the time since; not this machine's."""
        return self._wall_time + timedelta(seconds=_here(trio.current_time) - self._begun_at)

    def heartbeat(self) -> None:
        """See ``actors.Run.heartbeat``."""
        self._say({"op": "heartbeat"})

    def report(self, text: str, *, done: float | None = None, of: float | None = None) -> None:
        """See ``actors.Run.report``."""
        self._say({"op": "report", "text": text, "done": done, "of": of})

    async def sleep(self, seconds: float) -> None:
        """See ``actors.Run.sleep``."""
        await self._ask(packed({"op": "sleep", "seconds": seconds}))

    async def once(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """See ``actors.Run.once``: the function is called here, and what it returns is kept by the runtime's store.

        Raises:
            NotPortable: what it returns cannot travel.
        """

        async def do(_: int, __: bytes) -> bytes:
            made = await call_of_once(partial(function, *args))
            return self._codec.any_value(made, f"what run.once({name!r}, …) returned")

        return self._codec.read_any(await self._ask(packed({"op": "once", "name": name}), answer=do))

    async def ask(self, question: object, answer: type[A], timeout_s: float | None = None) -> A:
        """Not on a host.

        Raises:
            UsageError: always.
        """
        raise self._not_here(f"ask(…, {getattr(answer, '__name__', '…')})")

    def _not_here(self, call: str) -> UsageError:
        return UsageError(
            f"node {self.node!r} called run.{call} on a host, which has no store and no people.\n"
            "  Fix: call it in a node that isn't placed, and send this one what comes of it."
        )

    def _say(self, told: Mapping[str, Any]) -> None:
        body = packed(told)
        _here(lambda: self._tell(body))


def _here(call: Callable[[], Any]) -> Any:
    """What `call` returns on trio, also from the worker thread of a plain function."""
    return call() if trio.lowlevel.in_trio_task() else trio.from_thread.run_sync(call)
