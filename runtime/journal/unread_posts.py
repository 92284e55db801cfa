"""What was posted to the runs of one worker and was not handed to them yet. No file, no clock, no task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from runtime.journal.store import Posted


@final
class UnreadPosts:
    """Each item is handed out once in each life of its run: a run that begins again gets everything again."""

    __slots__ = ("_handed", "_items", "_unasked")

    def __init__(self) -> None:
        self._unasked: set[str] = set()
        self._items: dict[int, Posted] = {}
        self._handed: dict[str, int] = {}
        """By run, the number of the last item that it was handed."""

    def begin(self, run: str) -> None:
        """A life of a run of this worker begins: what was posted before has to be asked for."""
        self.end(run)
        self._unasked.add(run)

    def end(self, run: str) -> None:
        """It is no longer this worker's."""
        self._unasked.discard(run)
        self._handed.pop(run, None)
        self._items = {number: item for number, item in self._items.items() if item.run != run}

    def has(self, run: str) -> bool:
        """Whether an item waits for `run`, as far as it was asked."""
        return any(item.run == run for item in self._items.values())

    def unasked(self) -> list[str]:
        """The runs that have begun, and whose earlier items were not asked for yet."""
        return list(self._unasked)

    def complete(self, run: str, items: Sequence[Posted]) -> None:
        """These are all items of a run that has begun; an item that came meanwhile is among them, or comes by :meth:`add`."""
        self.add(items)
        self._unasked.discard(run)

    def add(self, items: Iterable[Posted]) -> None:
        """These came for runs of this worker."""
        self._items.update((item.id, item) for item in items)

    def handed_out(self) -> list[Posted]:
        """What was not handed out in the present lives of the runs, in the order in which it was posted."""
        items, self._items = self._items, {}
        found = [item for _, item in sorted(items.items()) if item.id > self._handed.get(item.run, 0)]
        for item in found:
            self._handed[item.run] = item.id
        return found
