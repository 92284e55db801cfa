"""Finding the metric that a command line names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from actors.graphs.graph import Graph
from runtime.cli.loading import load_beside
from runtime.cli.wrong_usage import WrongUsage
from runtime.evaluate.scoring import Metric, cost, exact, latency, steps

OWN: Mapping[str, object] = {exact.__name__: exact, **{each.name: each for each in (cost, latency, steps)}}


def load_metric(target: str | None) -> object:
    """A function, a graph or a ``Metric``, spelt as for ``load_graph``, or one of ours by its name; ``exact``, if none is named.

    Raises:
        WrongUsage: there is none.
    """
    if target is None or target in OWN:
        return OWN[target or exact.__name__]
    found = load_beside(target)
    if isinstance(found, Metric | Graph) or callable(found):
        return cast("Any", found)
    path, _, name = target.rpartition(":")
    raise WrongUsage(f"{path!r} has no metric {name!r}: expected a function (example, output, trace), a Metric or a graph")
