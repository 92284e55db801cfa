"""What a message is when it waits in a join or a gather: where it came from, and what remembers what. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from actors.graphs.edges import Receiver
from actors.graphs.plan import Plan
from runtime.graphs.reducer.branches import Branch, Delivery, Fork, Value
from runtime.graphs.reducer.recalling import before
from runtime.graphs.reducer.routing import Destination

_LONGEST_WAY = 48  # characters; longer ones are digested: a path must not grow with the number of rounds of a loop


def sent(delivery: Delivery | None, branch: Branch, to: Destination, message: object) -> Value:
    """What `delivery` (None: the run's start) has made, on its way to `to`; `branch` is where it arrives."""
    if delivery is None:
        return Value(message, None, 0, "", back=False)
    iteration, way = delivery.iteration + to.rounds, way_along(delivery, branch, to)
    return Value(message, delivery.node, iteration, way, to.back, depth=delivery.depth, memory=delivery.memory)


def way_along(delivery: Delivery, branch: Branch, to: Destination) -> str:
    """The nodes by which it comes, where several concurrent ways meet."""
    way = delivery.way if delivery.branch is branch else ""  # a branch begins its own ways
    return _way_from(delivery, way) if to.merges else way


def _way_from(delivery: Delivery, way: str) -> str:
    way = f"{way}.{delivery.node}" if way else delivery.node
    return way if len(way) <= _LONGEST_WAY else hashlib.blake2s(way.encode(), digest_size=8).hexdigest()


def gathered(plan: Plan, fork: Fork, receiver: Receiver, collected: Sequence[tuple[int, Value]]) -> Value:
    """The list of what came to `receiver` from the branches of `fork`, in item order."""
    order = plan.order
    collected = sorted(collected, key=lambda pair: (pair[0], pair[1].iteration, order[pair[1].source or ""], pair[1].way))
    delivery = fork.delivery
    makers = {e.source for e in plan.edges if e.target == receiver.node and e.parameter == receiver.parameter}
    back = any(plan.is_back(maker, receiver.node) for maker in makers)
    iteration = max([delivery.iteration, *(value.iteration for _, value in collected)])
    parts = tuple(value for _, value in collected)
    trunk = Value(None, delivery.node, 0, "", back=False, depth=delivery.depth, memory=delivery.memory)
    return Value(
        [part.message for part in parts],
        delivery.node,
        iteration,
        _way_from(delivery, delivery.way) if receiver.node in plan.merges else delivery.way,
        back,
        depth=max(part.depth for part in (trunk, *parts)),
        memory=before((trunk, *parts), plan.recalled),
        parts=parts if plan.recalled else (),
    )
