"""Finding the metric that a command line names."""

from __future__ import annotations

from typing import Any, cast

from actors.graphs.graph import Graph
from runtime.cli.loading import load_beside
from runtime.cli.wrong_usage import WrongUsage
from runtime.evaluate.scoring import Metric, exact


def load_metric(target: str | None) -> object:
    """A function, a graph or a ``Metric``, spelt as for ``load_graph``; ``exact``, by that name or by none.

    Raises:
        WrongUsage: there is none.
    """
    if target is None or target == exact.__name__:
        return exact
    found = load_beside(target)
    if isinstance(found, Metric | Graph) or callable(found):
        return cast("Any", found)
    path, _, name = target.rpartition(":")
    raise WrongUsage(f"{path!r} has no metric {name!r}: expected a function (example, output, trace), a Metric or a graph")
