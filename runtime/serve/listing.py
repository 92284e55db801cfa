"""The list of runs, newest first and by pages: those that are kept in memory, and with a store also those of it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs

from actors.store_errors import StoreError
from runtime.graphs.records.labels import labels_in, text_of
from runtime.graphs.records.run_record import RunStatus
from runtime.journal.store import RunQuery, StoredRun, StoredStatus
from runtime.serve.auth import Caller
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem, problem_of
from runtime.serve.requests import whole_number
from runtime.serve.run_documents import run_told
from runtime.serve.web import Request
from runtime.traces.kept_run import OWNER, QUEUED, RunRecord

MAX_PAGE: Final = 500
"""How many runs a page of a list has at most."""
STATUSES: Final = (QUEUED, *RunStatus)
"""Where a run may be."""
MOST_CHARACTERS: Final = 200
"""Of the place of a store that a cursor names."""
READ: Final = 100
"""How many runs are read from a store together."""
_STAYS: Final = frozenset({*(status for status in StoredStatus if status.is_over), StoredStatus.PARKED})
"""Where a stored run is, no matter what a process has in memory."""


@final
@attrs.frozen
class Wanted:
    """Which runs somebody wants to see."""

    caller: Caller
    graph: str | None
    status: str | None
    labels: tuple[tuple[str, str], ...]

    def fits(self, graph: str, status: str, labels: Mapping[str, str]) -> bool:
        """Whether such a run is wanted, whosever it is."""
        return (
            self.graph in (None, graph)
            and self.status in (None, status)
            and all(labels.get(name) == value for name, value in self.labels)
        )


@final
@attrs.frozen
class _Place:
    """Where a page ends: behind a run, in what a store gives behind `after`."""

    after: str | None
    created: datetime
    run: str

    def text(self) -> str:
        """As a cursor."""
        told = json.dumps([self.after, self.created.isoformat(), self.run]).encode()
        return base64.urlsafe_b64encode(told).decode().rstrip("=")

    @classmethod
    def of(cls, text: str) -> _Place:
        """The place that a cursor names; ``HttpProblem`` if it is none."""
        try:
            after, created, run = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if len(str(after)) > MOST_CHARACTERS:
                raise ValueError(after)
            return cls(None if after is None else str(after), datetime.fromisoformat(created).astimezone(UTC), str(run))
        except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
            raise HttpProblem("bad-request", "cursor: it is none that this list has given.") from None


async def runs_told(live: Live, caller: Caller, request: Request, prefix: str) -> dict[str, Any]:
    """A page of the list of runs, as the query wants it.

    Raises:
        Problem: it cannot be meant, or the store failed.
    """
    query = request.query_params
    limit = whole_number(query.get("limit"), "limit", 50, MAX_PAGE)
    labels = tuple(_label(text) for text in query.getlist("label"))
    status = query.get("status")
    if status is not None and status not in STATUSES:
        raise HttpProblem("bad-request", f"status: expected one of: {', '.join(STATUSES)}.")
    wanted = Wanted(caller, query.get("graph"), status, labels)
    runs = _kept(live, wanted, query.get("cursor")) if live.archive is None else _stored(live, wanted, query.get("cursor"))
    found: list[tuple[RunRecord, str]] = []
    try:
        async with aclosing(runs):
            async for record, cursor in runs:
                found.append((record, cursor))
                if len(found) > limit:
                    break
    except StoreError as error:
        raise problem_of(error, inside=False) from error
    told: dict[str, Any] = {"runs": [run_told(live, record, caller, prefix) for record, _ in found[:limit]]}
    if len(found) > limit and limit:
        told["cursor"] = found[limit - 1][1]
    return told


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise HttpProblem("bad-request", "label: expected NAME:VALUE.")
    return name, value


async def _kept(live: Live, wanted: Wanted, cursor: str | None) -> AsyncGenerator[tuple[RunRecord, str]]:
    """Without a store: behind the run that `cursor` names."""
    is_reached = cursor is None
    for record in live.recorder.newest_first():
        if not is_reached:
            is_reached = record.id == cursor and live.may_see(record, wanted.caller)
        elif live.may_see(record, wanted.caller) and wanted.fits(record.graph, live.status(record), record.labels):
            yield record, record.id
    if not is_reached:
        raise HttpProblem("bad-request", "cursor: nothing is kept of the run that it names.")


async def _stored(live: Live, wanted: Wanted, cursor: str | None) -> AsyncGenerator[tuple[RunRecord, str]]:
    """With a store: its runs, and between them, by their times, those that it does not have."""
    place = None if cursor is None else _Place.of(cursor)
    after = None if place is None else place.after
    others = [each for each in await _others(live) if place is None or each[:2] < (place.created, place.run)]
    async with aclosing(_runs(live, wanted, place)) as runs:
        async for run, after in runs:
            while others and others[0][0] > run.created:
                created, run_id, record = others.pop(0)
                if _is_wanted(live, wanted, record):
                    yield record, _Place(after, created, run_id).text()
            shown = await _shown(live, wanted, run)
            if shown is not None:
                yield shown, _Place(after, run.created, run.id).text()
    for created, run_id, record in others:
        if _is_wanted(live, wanted, record):
            yield record, _Place(after, created, run_id).text()


def _is_wanted(live: Live, wanted: Wanted, record: RunRecord) -> bool:
    return live.may_see(record, wanted.caller) and wanted.fits(record.graph, live.status(record), record.labels)


async def _others(live: Live) -> list[tuple[datetime, str, RunRecord]]:
    """What is kept of runs that the store does not have, newest first."""
    assert live.archive is not None, "asked with a store only"
    others = [record for record in list(live.recorder.newest_first()) if not await live.archive.has(record)]
    found = [(live.runtime.wall_time(record.created_at_s), record.id, record) for record in others]
    return sorted(found, key=lambda each: each[:2], reverse=True)


async def _runs(live: Live, wanted: Wanted, place: _Place | None) -> AsyncGenerator[tuple[StoredRun, str | None]]:
    """Runs of the store behind `place` that may be wanted, each with where its page begins."""
    assert live.archive is not None, "asked with a store only"
    status = StoredStatus(wanted.status) if wanted.status in _STAYS else None
    sees_all = wanted.caller.sees_all or wanted.caller.operates
    label = wanted.labels[:1] if sees_all else ((OWNER, wanted.caller.name),)
    query = RunQuery(wanted.graph, status, label=text_of(dict(label)), limit=READ, after=None if place is None else place.after)
    while True:
        page = await live.archive.page(query)
        items = page.items
        if place is not None:
            ids = [run.id for run in items]
            behind = ids.index(place.run) + 1 if place.run in ids else 0
            items = items[behind:] if behind else tuple(run for run in items if run.created < place.created)
            place = None
        for run in items:
            yield run, query.after
        if page.after is None:
            return
        query = attrs.evolve(query, after=page.after)


async def _shown(live: Live, wanted: Wanted, run: StoredRun) -> RunRecord | None:
    """What is known of a stored run, if it is wanted."""
    assert live.archive is not None, "asked with a store only"
    record = live.recorder.get(run.id)
    if record is None:
        labels = labels_in(run.label)
        owner = labels.get(OWNER)
        status = RunStatus.WAITING if run.status is StoredStatus.READY else run.status
        is_own = owner == wanted.caller.name or wanted.caller.sees_all or wanted.caller.operates
        if not is_own or not wanted.fits(run.graph, str(status), labels):
            return None
        return await live.archive.summary(run)
    return record if _is_wanted(live, wanted, record) else None
