"""What the loopback provider saw: one record per request, and counts over them. Times are seconds on trio's clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, final

import attrs
import trio

REDACTED: Final = "[redacted]"

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})


@final
@attrs.define(eq=False)
class RequestRecord:
    """One chat request, from its arrival to its end. It fills in while the request is being served."""

    number: int
    """1 for the first that arrived."""
    path: str
    model: str
    """As the request names it; empty when it names none."""
    stream: bool
    arrived_s: float
    """When the whole request had been read."""
    body: Any = attrs.field(repr=False)
    """The parsed JSON; None when it is not JSON."""
    headers: Mapping[str, str] = attrs.field(repr=False)
    """By lower-case name; credentials read ``[redacted]``."""
    started_s: float | None = None
    """When it was being served: later than `arrived_s` when it waited behind ``max_concurrent``."""
    first_byte_s: float | None = None
    ended_s: float | None = None
    """When the last bytes were handed over, or the end came otherwise."""
    status: int | None = None
    """The HTTP status that was sent; None when nothing was."""
    cancelled_by_client: bool = False
    """Whether the client closed the connection before the last bytes were handed over."""
    failure: str | None = None
    """The kind of the scripted failure that this request met."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with all fields."""
        return attrs.asdict(self, recurse=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The record that :meth:`to_json` wrote."""
        return cls(**data)


@final
@attrs.define(eq=False)
class RequestRecorder:
    """Keeps the records in arrival order. Every method but the waiting ones is synchronous."""

    requests: list[RequestRecord] = attrs.field(factory=list[RequestRecord])
    in_flight: int = 0
    """Requests that have arrived and not ended, the waiting ones among them."""
    max_in_flight: int = 0
    """The most there ever were at the same time."""
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def arrive(self, *, path: str, model: str, stream: bool, body: Any, headers: Mapping[str, str]) -> RequestRecord:
        """Record a request that has just been read."""
        record = RequestRecord(len(self.requests) + 1, path, model, stream, trio.current_time(), body, redacted(headers))
        self.requests.append(record)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self._changed.unpark_all()
        return record

    def end(self, record: RequestRecord) -> None:
        """Record that nothing more happens to a request; the first call counts."""
        if record.ended_s is not None:
            return
        record.ended_s = trio.current_time()
        self.in_flight -= 1
        self._changed.unpark_all()

    def clear(self) -> None:
        """Forget all records. Requests in flight stay counted and end unrecorded."""
        self.requests.clear()
        self.max_in_flight = self.in_flight

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at whenever a request arrives or ends. Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._changed.park()


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` with the values of those that carry credentials replaced."""
    return {name: REDACTED if name in _SECRET_HEADERS else value for name, value in headers.items()}
