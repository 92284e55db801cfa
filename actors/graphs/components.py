"""Cycles of a directed graph: strongly connected components, and the edges along which a cycle starts again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Links = Mapping[str, Sequence[str]]


def strong_components(links: Links) -> list[tuple[str, ...]]:
    """The strongly connected components, each before those that lead to it (reverse topological order).

    Every node must be a key of `links`. Iterative, so long chains do not meet the recursion limit.

    Source: R. Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1(2), 1972.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    waiting: set[str] = set()
    found: list[tuple[str, ...]] = []
    for root in links:
        if root in order:
            continue
        work = [(root, iter(links[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        waiting.add(root)
        while work:
            node, rest = work[-1]
            child = next((name for name in rest if name not in order or name in waiting), None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    found.append(_cut(stack, waiting, node))
            elif child in order:
                low[node] = min(low[node], order[child])
            else:
                order[child] = low[child] = len(order)
                stack.append(child)
                waiting.add(child)
                work.append((child, iter(links[child])))
    return found


def _cut(stack: list[str], waiting: set[str], root: str) -> tuple[str, ...]:
    component: list[str] = []
    while not component or component[-1] != root:
        component.append(stack.pop())
    waiting.difference_update(component)
    return tuple(reversed(component))


def returning_edges(links: Links, entries: Iterable[str]) -> frozenset[tuple[str, str]]:
    """The edges on which a loop goes back: those from inside a loop to a node where it is entered.

    Every cycle that can be reached from `entries` has at least one. Nested loops are found in turn: without its returning
    edges an outer loop falls apart into its inner ones.

    Source: B. Steensgaard, "Sequentializing program dependence graphs for irreducible programs", MSR-TR-93-14.
    """
    returning: set[tuple[str, str]] = set()
    links = {node: list(dict.fromkeys(targets)) for node, targets in links.items()}
    outside = set(entries)
    while True:
        home = {node: index for index, group in enumerate(strong_components(links)) for node in group}
        inside = [(a, b) for a, targets in links.items() for b in targets if home[a] == home[b]]
        if not inside:
            return frozenset(returning)
        entered = outside | {b for a, targets in links.items() for b in targets if home[a] != home[b]}
        cut = {(a, b) for a, b in inside if b in entered} or set(inside[:1])
        returning |= cut
        links = {node: [b for b in targets if (node, b) not in cut] for node, targets in links.items()}
