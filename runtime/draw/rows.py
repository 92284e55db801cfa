"""Which row of a graph's picture each box stands in. Pure.

A box stands below everything that sends to it, loops aside; what a node depends on stands right above the first that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from actors.graphs.mermaid import functions_of, needs_of
from actors.graphs.plan import Plan


def rows_of(plan: Plan) -> Mapping[str | None, int]:
    """Box → its row; None is the graph's input, "" its output, and functions go by their keys.

    The odd rows between are for the names on lines.
    """
    functions = functions_of(plan)
    before: dict[str, set[str]] = {name: set() for name in (*plan.nodes, *functions)}
    pairs = [(edge.source, edge.target) for edge in plan.edges if edge.source is not None and edge.target is not None]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]
    for source, target in sorted(pairs, key=plan.returning.__contains__):
        # An edge on which a loop goes back may still lead down, if nothing leads from its end to its beginning.
        if (source, target) not in plan.returning or target not in _ancestors(source, before):
            before[target].add(source)
    users = _users(needs_of(plan), before)
    rows: dict[str | None, int] = {None: 0}
    order = list(TopologicalSorter(before).static_order())
    for name in order:
        rows[name] = 2 + max((rows[source] for source in before[name]), default=-2 if name in functions else 0)
        if name not in functions:
            rows[name] = max(rows[name], 2)
    for name in reversed(order):
        if users[name] and (name in functions or plan.nodes[name].is_on_demand):
            rows[name] = min(rows[user] for user in users[name]) - 2
    rows[""] = 2 + max(rows.values())
    return rows


def _users(needs: Iterable[tuple[str, str]], before: dict[str, set[str]]) -> dict[str, set[str]]:
    """Node → those that depend on it, which are put below it; a graph with problems may have some that depend on each other."""
    users: dict[str, set[str]] = {name: set() for name in before}
    for name, user in needs:
        if user not in _ancestors(name, before):
            before[user].add(name)
            users[name].add(user)
    return users


def _ancestors(name: str, before: Mapping[str, set[str]]) -> set[str]:
    seen, waiting = {name}, [name]
    while waiting:
        new = before[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen
