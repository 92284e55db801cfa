"""The newest events of a run, of which no one has asked for any: what they are made of, in one flat list.

Most are never asked for. A list of texts and numbers is one object for Python's collections of garbage, which would look at each
event again and again: that cost a recorder as much as all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from runtime.core.events import Event
from runtime.graphs.records.step_events import finished_event, started_event

WHOLE: Final = 0
"""Before an event."""
BEGUN: Final = 1
"""Before what :func:`started_event` takes, without the id of the run."""
DONE: Final = 2
"""Before what :func:`finished_event` takes, without the id of the run."""


def events_in(parts: list[Any], run_id: str) -> Iterator[Event]:
    """The events of which such a list consists."""
    given = iter(parts)
    take = given.__next__
    for kind in given:
        if kind == BEGUN:
            yield started_event(take(), run_id, take(), take(), take(), take(), take())
        elif kind == DONE:
            yield finished_event(take(), run_id, take(), take(), take(), take())
        else:
            yield cast("Event", take())
