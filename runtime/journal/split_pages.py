"""A page of the runs of several stores, newest first, and where the next one begins in each of them."""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from runtime.journal.store import Page, RunQuery, Store, StoredRun

After: TypeAlias = str | bool | None
"""Where the next page of one store begins: None, with its newest run; False: it has no more."""


async def split_page(stores: Sequence[Store], query: RunQuery) -> Page[StoredRun]:
    """The newest runs of all `stores` that `query` asks for."""
    places = _places(query.after, len(stores))
    pages = [await _page(store, query, place, query.limit) for store, place in zip(stores, places, strict=True)]
    taken = list(heapq.merge(*(_numbered(number, page) for number, page in enumerate(pages)), key=_age))[: query.limit]
    for number, page in enumerate(pages):
        count = sum(each == number for each, _ in taken)
        if count == len(page.items):
            places[number] = page.after if page.after is not None else False
        elif count:  # the place behind the last that was taken: a page of so many ends there
            pages[number] = await _page(stores[number], query, places[number], count)
            places[number] = pages[number].after or False
        else:
            pages[number] = Page(())
    merged = heapq.merge(*(_numbered(number, page) for number, page in enumerate(pages)), key=_age)
    after = None if all(place is False for place in places) else json.dumps(places)
    return Page(tuple(run for _, run in merged), after)


def _places(after: str | None, count: int) -> list[After]:
    try:
        found: Any = None if after is None else json.loads(after)
    except ValueError:
        found = None
    return found if isinstance(found, list) and len(found) == count else [None] * count  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


async def _page(store: Store, query: RunQuery, place: After, limit: int) -> Page[StoredRun]:
    if isinstance(place, bool):
        return Page(())
    return await store.runs(attrs.evolve(query, after=place, limit=limit))


def _numbered(number: int, page: Page[StoredRun]) -> list[tuple[int, StoredRun]]:
    return [(number, run) for run in page.items]


def _age(numbered: tuple[int, StoredRun]) -> float:
    return -numbered[1].created.timestamp()
