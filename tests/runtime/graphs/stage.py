"""Messages, graphs and small tools that tests of running graphs share."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors import Backoff, Graph, NodeFailed, Redelivery, RunFailed, Supervision

EXACT = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=1.0, cap_s=1.0, jitter=0))
"""A crashed instance is back after exactly one second."""
TWICE = Redelivery(max_attempts=2, backoff=Backoff(first_s=3.0, jitter=0))
"""A failed message is delivered again after exactly three seconds, once."""


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class Part:
    n: int = 0


@attrs.frozen
class Other:
    n: int = 0


@attrs.frozen
class Done:
    n: Any = 0


def graph_of(*functions: Callable[..., Any], supervision: Supervision | None = EXACT, **options: Any) -> Graph:
    """A graph from ``Ask`` to ``Done``, whose nodes all have the same options."""
    graph = Graph("g", input=Ask, output=Done, supervision=supervision)
    for function in functions:
        graph.node(**options)(function)
    return graph


def leaves(failure: RunFailed) -> list[NodeFailed]:
    """What went wrong in a run."""
    found = [leaf for leaf in failure.exceptions if isinstance(leaf, NodeFailed)]
    assert len(found) == len(failure.exceptions)
    return found


def living() -> int:
    """Tasks that exist."""
    return trio.lowlevel.current_statistics().tasks_living
