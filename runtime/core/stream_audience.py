"""Whom a run tells whose own events somebody reads."""

from __future__ import annotations

from typing import Any, final

from runtime.core.events import Event, EventBus, EventStream, Tellers, UnmadeTellers, reraise


@final
class WithStream:
    """The audience of a run whose events are read from a stream of that run: the stream, which wants all of them, and the bus."""

    listening = True

    def __init__(self, stream: EventStream[Any], bus: EventBus) -> None:
        def tell(event: Event) -> None:
            stream.offer(event)
            if bus.listening:
                bus.publish(event)

        self._tell = tell
        self.tellers = Tellers(lambda _: tell)
        self.unmade = UnmadeTellers(lambda what: what.telling(tell, reraise))

    def wants(self, kind: type[Event]) -> bool:
        """True: the stream does."""
        return True

    def publish(self, event: Event) -> None:
        """Tell the stream, and anyone who listens to the runtime."""
        self._tell(event)
