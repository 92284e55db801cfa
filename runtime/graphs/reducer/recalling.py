"""Which earlier message a node recalls: the latest of its type on the way to the messages that it takes. Pure.

Every delivery carries, for each type that some node of the graph recalls, the latest message before it. That is as much as the
number of those types, however long the run. No clock has a part in it: later is what has more nodes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from actors.graphs.dependencies import Recalled
from runtime.graphs.reducer.branches import NO_MEMORY, Memory, Rank, Value


def before(values: Iterable[Value], kinds: tuple[type, ...]) -> Memory:
    """What was made on the way to `values`, themselves not included."""
    if not kinds:
        return NO_MEMORY
    found: dict[type, tuple[Rank, object]] = {}
    for value in values:
        for kind, entry in value.memory.items():
            _keep(found, kind, entry)
    return MappingProxyType(found)


def including(memory: Memory, values: Iterable[Value], kinds: tuple[type, ...], order: Mapping[str, int]) -> Memory:
    """`memory` and the messages of `values`: what everything made from them remembers."""
    if not kinds:
        return NO_MEMORY
    found = dict(memory)
    for value in values:
        for one in value.parts or (value,):
            for kind in kinds:
                if isinstance(one.message, kind):
                    _keep(found, kind, ((one.depth, order.get(one.source or "", -1)), one.message))
    return MappingProxyType(found)


def recall(memory: Memory, wanted: Iterable[Recalled]) -> Mapping[str, Any]:
    """Parameter → what it recalls; a parameter for which there is nothing is left out, or None if that is allowed."""
    found: dict[str, Any] = {}
    for entry in wanted:
        known = [memory[kind] for kind in entry.types if kind in memory]
        if known:
            found[entry.name] = max(known, key=lambda pair: pair[0])[1]
        elif entry.optional:
            found[entry.name] = None
    return found


def _keep(found: dict[type, tuple[Rank, object]], kind: type, entry: tuple[Rank, object]) -> None:
    if kind not in found or entry[0] >= found[kind][0]:  # of equals the later in order: of parameters, of items
        found[kind] = entry
