"""Random graphs whose nodes do the same with the same messages, for tests of what a graph's check promises."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from tests.runtime.graphs.driving import Choose, begin

MOST_STEPS = 120


@attrs.frozen
class In:
    v: str = "in"


@attrs.frozen
class A:
    v: str


@attrs.frozen
class A1(A):
    """A kind of A."""


@attrs.frozen
class B:
    v: str


@attrs.frozen
class B1(B):
    """A kind of B."""


@attrs.frozen
class C:
    v: str


@attrs.frozen
class D:
    v: str


@attrs.frozen
class Never:
    """The output, which nothing makes: so that every node does all its work."""


KINDS: tuple[type, ...] = (A, A1, B, B1, C, D)
SHARED: dict[str, Any] = {kind.__name__: kind for kind in (In, *KINDS)}
RUNNABLE = {
    *("output-not-made", "type-not-taken", "type-not-made", "join-cannot-complete", "input-not-taken", "endless-loop"),
    *("unreachable-node", "connect-without-type", "connect-unknown-parameter"),
}
"""Problems of a graph that runs all the same."""


class Unending(Exception):
    """The run takes more than ``MOST_STEPS`` steps."""


Told = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Is awaited by each node before it works: with its name and its arguments."""


async def nobody(name: str, arguments: dict[str, Any]) -> None:
    """For graphs whose nodes do not wait."""


def random_graph(seed: int, told: Told = nobody) -> Graph:
    """A graph of up to nine nodes: union makers, subclasses, optional parameters, fan-outs, gathers, loops, connections."""
    rng = random.Random(seed)
    graph = Graph(f"random-{seed}", input=In, output=Never)
    has_loops, has_fan_outs = rng.random() < 0.3, rng.random() < 0.5
    count = rng.randint(3, 9)
    for index in range(count):
        graph.node(_node(rng, index, told, has_loops=has_loops, has_fan_outs=has_fan_outs))
    for _ in range(rng.choice([0, 0, 0, 1, 2, 3])):
        _connect(rng, graph, count)
    return graph


def complete(graph: Graph) -> Graph:
    """The same with an output that is declared, and never made, and with a node that takes what no other does."""

    @graph.node
    async def never(p: In) -> Never | None:
        return None if p.v else Never()

    @graph.node
    async def sink(p: A | B | C | D) -> None:
        del p

    return graph


def _node(rng: random.Random, index: int, told: Told, *, has_loops: bool, has_fan_outs: bool) -> Any:
    kinds = KINDS if has_loops else KINDS[: max(2, min(len(KINDS), index + 1))]
    takes: dict[str, str] = {}
    free = [In, *kinds]
    for at in range(rng.choice([1, 1, 2, 2, 2, 3])):
        if not free:
            break
        taken = In if In in free and rng.random() < (0.7 if index < 2 else 0.2) else rng.choice(free)
        kind = taken.__name__
        if rng.random() < 0.95:  # else one message may fit both
            free = [other for other in free if not issubclass(other, taken) and not issubclass(taken, other)]
        if free and rng.random() < 0.1:
            more = rng.choice(free)
            kind = f"{kind} | {more.__name__}"
            free = [other for other in free if not issubclass(other, more) and not issubclass(more, other)]
        if has_fan_outs and rng.random() < 0.2 and "In" not in kind:
            kind = f"list[{kind}]"
        elif rng.random() < 0.2:
            kind = f"{kind} | None"
        takes[f"p{at}"] = kind
    later = KINDS if has_loops else KINDS[min(index // 2, len(KINDS) - 2) :]
    makes = rng.sample(later, rng.choice([1, 1, 1, 2, 2]))
    is_list = has_fan_outs and rng.random() < 0.3
    may_end = rng.random() < 0.25
    kept = [kind for made in makes for kind in (made, *made.__subclasses__())]

    def choose(arguments: dict[str, Any]) -> Any:
        mark = f"{zlib.crc32(repr((index, sorted(arguments.items()))).encode()):x}"
        own = random.Random(mark)
        if is_list:
            return [own.choice(kept)(f"{mark}.{at}") for at in range(own.randint(0, 3))]
        return None if may_end and own.random() < 0.4 else own.choice(kept)(mark)

    async def work(arguments: dict[str, Any]) -> Any:
        await told(f"n{index}", arguments)
        return choose(arguments)

    scope: dict[str, Any] = {**SHARED, "work": work}
    exec(f"async def n{index}({', '.join(takes)}): return await work(dict({', '.join(f'{p}={p}' for p in takes)}))", scope)
    made = " | ".join(kind.__name__ for kind in makes)
    scope[f"n{index}"].__annotations__ = {
        **takes,
        "return": f"list[{made}]" if is_list else f"{made} | None" if may_end else made,
    }
    return scope[f"n{index}"]


def _connect(rng: random.Random, graph: Graph, count: int) -> None:
    source, target = (f"n{rng.randrange(count)}" for _ in range(2))
    parameter = rng.choice([None, "p0", "p1"])
    divisor = rng.choice([None, None, 2, 3])

    def is_for_target(message: Any) -> bool:
        return divisor is not None and zlib.crc32(message.v.encode()) % divisor == 0

    is_for_target.__name__ = f"every {divisor}"
    when = None if divisor is None else is_for_target
    graph.connect(source, target, parameter=parameter, when=when)


def is_accepted(graph: Graph) -> bool:
    """Whether nothing but what does no harm here is wrong with it; conditions that are to be alternatives are left out."""
    if not {problem.code for problem in graph.check()} <= RUNNABLE:
        return False
    graph._plan = graph.sketch()
    return not graph._plan.alternatives


def given(graph: Graph, choose: Choose) -> Counter[str]:
    """How often each node was given what, in a run in which `choose` says which task ends next.

    Raises:
        Unending: see there.
    """
    driven = begin(graph, In())
    while driven.waiting:
        if driven.state.steps > MOST_STEPS:
            raise Unending
        driven.step(choose(list(driven.waiting)))
    return Counter(
        f"{each.node}({', '.join(f'{name}={value!r}' for name, value in sorted(each.arguments.items()))})"
        for each in driven.deliveries.values()
    )


def written(graph: Graph) -> str:
    """The graph in a few lines, for the report of a failure."""
    lines = [
        f"  {name}({', '.join(f'{p}: {k}' for p, k in each.function.__annotations__.items() if p != 'return')})"
        f" -> {each.function.__annotations__['return']}"
        for name, each in graph.nodes.items()
    ]
    lines += [
        f"  connect({each.source}, {each.target}, parameter={each.parameter}, when={getattr(each.when, '__name__', None)})"
        for each in graph._connections
    ]
    return "\n".join([graph.name, *lines])


def differs(seed: int, orders: int = 4) -> str | None:
    """What depends on timing in the random graph of `seed`, though it is accepted; None: nothing. '' if it was not tried."""
    graph = random_graph(seed)
    try:
        if not is_accepted(graph):
            return ""
        choices: list[Choose] = [lambda paths: paths[0], lambda paths: paths[-1]]
        choices += [random.Random(order).choice for order in range(orders)]
        first, *others = (given(graph, choose) for choose in choices)
        for other in others:
            if other != first:
                return f"{written(graph)}\n  only here: {sorted(first - other)}\n  only there: {sorted(other - first)}"
    except (Unending, DeclarationError):
        return ""
    return None
