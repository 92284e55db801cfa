"""What an agent hears between two rounds of what is said into its run.

Of a stored run it is written down what was taken before which call of the model, so a life that begins again tells the model the
same, and what comes later it hears when it has come as far as the life before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, final

from runtime.graphs.nodes.once import Once
from runtime.graphs.records.run_events import SignalTaken
from runtime.graphs.runs.inbox import HEARD, Inbox, Note, pairs_in
from runtime.graphs.runs.run import ActiveDelivery


@final
class Hearing:
    """What one attempt of an agent hears."""

    def __init__(self, active: ActiveDelivery, once: Once | None, is_replayed: Callable[[], bool]) -> None:
        """`once` writes down what was taken; `is_replayed` tells whether calls of an earlier life are still being repeated."""
        self._active = active
        self._once = once
        self._is_replayed = is_replayed
        self._looks = 0
        self._attempt = str(active.step.attempt)
        inbox = active.run.outermost.inbox
        if inbox is not None:
            inbox.begin_again(active.delivery.path, self._attempt)

    async def __call__(self) -> Sequence[Any]:
        """What has come since the last look. Not a checkpoint where nothing has."""
        inbox = self._active.run.outermost.inbox
        self._looks += 1
        if self._once is None:
            return [note.message for note in self._taken(inbox)]
        name = f"{HEARD} {self._attempt} {self._looks}"
        is_known = self._once.knows(name)
        if not is_known and (inbox is None or not inbox.has_news or self._is_replayed()):
            return ()
        told: str = await self._once.call(name, self._written, ())
        journal = self._active.run.outermost.journal
        assert journal is not None, "what is kept is in a journal"
        return [journal.codec.decode(data.encode()) for _, data in pairs_in(json.loads(told))]

    async def _written(self) -> str:
        """What is taken now, as it is written down."""
        journal = self._active.run.outermost.journal
        assert journal is not None, "only a durable run writes"
        taken = self._taken(self._active.run.outermost.inbox)
        return json.dumps([[note.key, journal.codec.encode(note.message).decode()] for note in taken])

    def _taken(self, inbox: Inbox | None) -> Sequence[Note]:
        if inbox is None:
            return ()
        found = inbox.take(self._active.delivery.path, self._attempt)
        for note in found:
            self._active.tell(SignalTaken, key=note.key, signal=note.message)
        return found
