"""What the engine knows of nodes whose functions run in other processes: that there is something which calls them there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, final

from actors.errors import UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import NodeSpec
from actors.graphs.plan import Plan
from actors.lm import LM
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery


class Elsewhere(Protocol):
    """Calls the function of one node in another process."""

    async def call(self, message: ActiveDelivery, pulse: Pulse, arguments: Mapping[str, Any], lm: LM | None) -> Any:
        """What the function returns, given the messages that it gets and its model; the rest of its parameters it gets there."""
        ...

    async def stream(
        self,
        message: ActiveDelivery,
        pulse: Pulse,
        arguments: Mapping[str, Any],
        lm: LM | None,
        take: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Call `take` with each item that the function yields; the next one is asked for when that has returned."""
        ...


class Placing(Protocol):
    """The places of a runtime."""

    async def deploy(self, graph: Graph, plan: Plan) -> Mapping[str, Elsewhere]:
        """Start the places that the nodes of `plan` need; those that run elsewhere, by name.

        Raises:
            UsageError: a node has a place that there isn't. GraphInvalid: a node cannot run at its place. HostRefused: hosts have
                other code.
        """
        ...


@final
class Nowhere:
    """The places of a runtime that has none."""

    async def deploy(self, graph: Graph, plan: Plan) -> Mapping[str, Elsewhere]:
        """See :class:`Placing`. Not a checkpoint."""
        placed = [spec for spec in plan.nodes.values() if spec.options.place is not None]
        if placed:
            raise unknown_places(graph.name, placed, ())
        return {}


def unknown_places(graph: str, specs: Iterable[NodeSpec], known: Iterable[str]) -> UsageError:
    """The error for nodes whose place the runtime does not have."""
    specs = list(specs)
    lines = "".join(f"\n  node {spec.name!r} ({spec.location}): place={spec.options.place!r}" for spec in specs)
    has = f"its places are {', '.join(map(repr, known))}" if list(known) else "it was opened without places"
    example = ", ".join(f"{name!r}: Here()" for name in dict.fromkeys(spec.options.place for spec in specs))
    return UsageError(
        f"graph {graph!r} names places that this runtime does not have; {has}:{lines}\n"
        f"  Fix: open_runtime(places={{{example}}}), where Here() of runtime.placement runs them in this process."
    )
