"""In what order the messages of one branch of a fan-out, or of the run itself, are made and come. Pure.

For each node, and for each level of fan-outs that it works on, it is found out how its work follows one another in one branch:

- ``ONE``: it works at most once.
- ``ROUNDS``: it works again and again, each time after the last time has ended: a loop that one message goes round.
- ``ORDERED``: it is started in an order that no clock decides; the works may overlap, and so may end in another.
- anything else is a token. Two with the same token follow the same order, one for one, but that order is the clock's.

What a node sends to a join is passed on in the order in which its works were *started* (``runtime.graphs.reducer.state``); what
it sends to any other node starts that immediately, so in the order in which they *ended*.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import final

import attrs

from actors.graphs.annotations import Many
from actors.graphs.components import returning_edges, strong_components
from actors.graphs.edges import Receiver, overlap
from actors.graphs.nesting import Level
from actors.graphs.plan import Plan

ONE, ROUNDS, ORDERED = "one", "rounds", "ordered"
Order = object
"""One of these three, or a token."""

SETTLED = (ONE, ROUNDS, ORDERED)


Pair = tuple[str | None, str, str]
"""A node, or the graph's input, and two nodes that it is connected to by conditions."""

MOST_WORK = 200_000
"""Steps back that are taken in one branch to find where ways part: what is not known by then counts as racing."""


@final
@attrs.frozen(eq=False)
class SentValues:
    """Messages of one type on their way to one parameter, within one branch of a fan-out, or within the run."""

    source: str | None
    """Who makes them; None: what the branch, or the run, begins with."""
    type: type
    target: Receiver
    is_conditional: bool = False
    is_gathered: bool = False
    """They are the lists of what the fan-out `source` gave, when it has ended."""


@final
class DeclaredBranch:
    """One branch of a fan-out, or the run itself: what is made in it, and in what order."""

    def __init__(
        self, plan: Plan, level: Level, sent: Sequence[SentValues], allowed: frozenset[Pair] | None, assumed: set[Pair]
    ) -> None:
        self._plan = plan
        self._level = level
        self._allowed = allowed
        self._assumed = assumed
        self.into: dict[Receiver, list[SentValues]] = {}
        for each in sent:
            self.into.setdefault(each.target, []).append(each)
        nodes = [name for name in plan.nodes if level in plan.nesting.levels[name]]
        links: dict[str, dict[str, None]] = {name: {} for name in nodes}
        for each in sent:
            if each.source in links and each.target.node in links:
                links[each.source][each.target.node] = None
        plain = {name: list(targets) for name, targets in links.items()}
        entries = [each.target.node for each in sent if each.source is None and each.target.node in links]
        self._returning = returning_edges(plain, entries)
        components = strong_components(plain)
        self._home = {name: index for index, group in enumerate(components) for name in group}
        self._rank: dict[str | None, int] = {None: -1}
        self._order: dict[str, Order] = {}
        self._once: set[str] = set()
        """Nodes that work at most once in each round of the loop that they lie on."""
        self._narrow: dict[str, list[Receiver]] = {}
        """Node → the parameters without which it does not work, and for which there is at most one value."""
        self._back: dict[int, list[SentValues]] = {}
        """Loop → what is sent to where it is entered."""
        self._rounds: set[Order] = set()
        """The tokens of what begins the rounds of loops: no clock decides their order."""
        self._memo: dict[tuple[str | None, str | None] | None, dict[tuple[SentValues, SentValues], bool]] = {}
        self._work = 0
        for group in reversed(components):
            self._settle(self._in_order(group, plain), plain)

    # --- one round after the other ----------------------------------------------------------------------------------------

    def _in_order(self, group: Sequence[str], links: Mapping[str, Sequence[str]]) -> list[str]:
        """The nodes of a loop, each behind those that lead to it in one round."""
        if len(group) == 1:
            return list(group)
        before: dict[str, set[str]] = {name: set() for name in group}
        for source in group:
            for target in links[source]:
                if target in before and (source, target) not in self._returning:
                    before[target].add(source)
        return list(TopologicalSorter(before).static_order())

    def _settle(self, group: Sequence[str], links: Mapping[str, Sequence[str]]) -> None:
        for name in group:
            self._rank[name] = len(self._rank)
        for name in group:
            self._count(name)
        home = self._home[group[0]]
        is_loop = len(group) > 1 or group[0] in links[group[0]]
        if is_loop:
            self._back[home] = [each for name in group for each in self._starting(name)]
        goes_round = is_loop and self._is_one_message(group, self._back[home])
        for name in group:
            if name in self._once and (goes_round or not is_loop):
                self._order[name] = ROUNDS if is_loop else ONE
                if is_loop and not self._plan.nodes[name].is_join:
                    self._rounds |= {self._arrival(receiver) for receiver in self._receivers(name)}
            elif is_loop:
                self._order[name] = ("own", name)
        for name in group:
            if name not in self._order:
                self._order[name] = self._order_of(name)

    def _receivers(self, name: str) -> list[Receiver]:
        every = (Receiver(name, entry.name) for entry in self._plan.nodes[name].inputs)
        return [receiver for receiver in every if receiver in self.into]

    def _starting(self, name: str) -> list[SentValues]:
        """What goes back to start a node again; of a join one parameter is enough, since without it it does not start."""
        choices = [
            [each for each in self.into[receiver] if self._comes_round(each)]
            for receiver in (self._narrow[name] or self._receivers(name))
        ]
        return min(choices, key=lambda sent: len({each.source for each in sent})) if choices else []

    def _forward(self, receiver: Receiver) -> list[SentValues]:
        return [each for each in self.into[receiver] if not self._comes_round(each)]

    def _comes_round(self, each: SentValues) -> bool:
        return each.source is not None and (each.source, each.target.node) in self._returning

    def _count(self, name: str) -> None:
        """Find out whether the node works at most once in a round, and why."""
        spec = self._plan.nodes[name]
        own = [entry for entry in spec.inputs if Receiver(name, entry.name) in self.into]
        single = [entry for entry in own if self._is_single(Receiver(name, entry.name))]
        needed = [entry for entry in single if not entry.optional or not spec.is_join]
        here = frozenset([self._level])
        self._narrow[name] = [
            receiver
            for receiver in (Receiver(name, entry.name) for entry in needed)
            if self._plan.nesting.arriving[receiver] == here  # else what lies further out does as well, and is not used up
        ]
        if self._narrow[name] or (len(single) == len(spec.inputs) and all(entry.optional for entry in spec.inputs)):
            self._once.add(name)

    def _is_single(self, receiver: Receiver) -> bool:
        """Whether at most one value comes in a round."""
        forward = self._forward(receiver)
        for each in forward:
            within = each.source is not None and self._home.get(each.source) == self._home.get(receiver.node)
            if each.source not in self._once if within else self._order_along(each) != ONE:
                return False
        return bool(forward) and not any(self._may_both(a, b) for a, b in _pairs(forward))

    def _is_one_message(self, group: Sequence[str], back: Sequence[SentValues]) -> bool:
        """Whether a loop is entered once, and one message at a time goes round it."""
        if any(each.source not in self._once for each in back):
            return False
        if any(self._may_both(a, b) for a, b in _pairs(back)):
            return False
        entered = [name for name in group if self._is_entered(name)]
        return all(
            any(
                not any(a.source != b.source and self._may_both(a, b) for a in self._forward(one) for b in self._forward(two))
                for one in self._narrow[first]
                for two in self._narrow[second]
            )
            for first, second in itertools.combinations(entered, 2)
        )

    def _is_entered(self, name: str) -> bool:
        spec, home = self._plan.nodes[name], self._home[name]
        return all(
            any(
                each.source is None or self._home.get(each.source) != home
                for each in self.into.get(Receiver(name, entry.name), ())
            )
            for entry in spec.inputs
            if Receiver(name, entry.name) in self.into and not (entry.optional and spec.is_join)
        )

    # --- orders -----------------------------------------------------------------------------------------------------------

    def _order_along(self, each: SentValues) -> Order:
        """In what order the messages of `each` are made."""
        if each.source is None:
            return ONE
        order = self._order[each.source]
        if order == ROUNDS and self._home.get(each.source) != self._home.get(each.target.node):
            back = self._back[self._home[each.source]]
            if not any(self._may_both(each, other) for other in back):
                return ONE  # it leaves the loop in place of another round
        return order

    def _order_of(self, name: str) -> Order:
        """In what order a node is started that is started more than once, and lies on no loop."""
        spec = self._plan.nodes[name]
        if not spec.is_join:
            return self._order_of_starts(name)
        streams = [self.stream(receiver) for receiver in self._receivers(name)]
        if all(stream in SETTLED for stream in streams):
            return ORDERED
        return streams[0] if len(set(streams)) == 1 else ("own", name)

    def _order_of_starts(self, name: str) -> Order:
        receivers = self._receivers(name)
        if not receivers:
            return ("own", name)
        sent = self.into[receivers[0]]
        orders = {self._order_along(each) for each in sent}
        if len({each.source for each in sent}) == 1 and orders <= {ONE, ROUNDS}:
            return ORDERED
        if orders == {ONE} and not any(self._are_side_by_side(a, b) for a, b in _pairs(sent)):
            return ORDERED
        arrival = self._arrival(receivers[0])
        return ORDERED if arrival in self._rounds else arrival

    def _arrival(self, receiver: Receiver) -> Order:
        """The token of the order in which messages come: that of all other places where each of them goes as well."""
        sent = self.into[receiver]
        if any(each.is_conditional for each in sent) or (any(each.is_gathered for each in sent) and self._is_cut_short(receiver)):
            return ("own", receiver)
        return frozenset((each.source, each.type) for each in sent)

    def _is_cut_short(self, receiver: Receiver) -> bool:
        gathers = [entry.gather for entry in self._plan.nodes[receiver.node].inputs if entry.name == receiver.parameter]
        return any(gather is not None and gather.first is not None for gather in gathers)

    def stream(self, receiver: Receiver) -> Order:
        """In what order the values of a parameter of a join come."""
        sent = self.into.get(receiver, [])
        sources = {each.source for each in sent}
        orders = {self._order_along(each) for each in sent}
        if len(sources) == 1:
            if orders <= {ONE}:
                return ONE
            if orders <= {*SETTLED}:
                return ("own", receiver) if ORDERED in orders and self._is_cut_short(receiver) else ORDERED
            (source,) = sources
            is_sure = len(orders) == 1 and self._must_make(source, sent) and not self._is_cut_short(receiver)
            return next(iter(orders)) if is_sure else ("own", receiver)
        arrival = self._arrival(receiver)
        if arrival in self._rounds:
            return ORDERED
        home = self._home.get(receiver.node)
        inside = [each for each in sent if each.source is not None and self._home.get(each.source) == home]
        if any(self._order_along(each) not in ((ONE, ROUNDS) if each in inside else (ONE,)) for each in sent):
            return ("own", receiver)
        outside = [each for each in sent if each not in inside]
        back = [each for each in inside if self._comes_round(each)]
        is_settled = (
            not any(self._are_side_by_side(a, b) for a, b in _pairs([*outside, *(e for e in inside if e not in back)]))
            and not any(self._are_side_by_side(a, b) for a, b in _pairs(back))
            and not (back and any(self._may_both(a, b) for a, b in _pairs(outside)))
            and not any(self._are_side_by_side(a, b) for a in outside for b in back)  # else the loop is entered elsewhere too
            and (len(back) in (0, len(inside)) or set(back) <= set(self._starting(receiver.node)))
        )
        return ORDERED if is_settled else arrival

    def _must_make(self, source: str | None, sent: Sequence[SentValues]) -> bool:
        """Whether a node makes exactly one message of those in `sent` each time that it works."""
        spec = self._plan.nodes[source or ""]
        if all(each.is_gathered for each in sent):
            return True
        gives_up = spec.fallback is not None and spec.fallback.is_default and spec.fallback.may_end
        entry = next(entry for entry in self._plan.nodes[sent[0].target.node].inputs if entry.name == sent[0].target.parameter)
        return (
            spec.fan_out is Many.ONE
            and not spec.may_end
            and not gives_up
            and all(issubclass(kind, entry.types) for kind in spec.outputs)
            and not any(issubclass(excluded, kind) for kind in spec.outputs for excluded in entry.excluded)
            and {each.type for each in sent} == set(spec.outputs)
            and not any(each.is_conditional for each in sent)
        )

    def racing(self, receiver: Receiver) -> list[str | None]:
        """Who makes what comes in the clock's order. Behind nodes that only pass on what several bring: those several."""
        seen: set[Receiver] = set()
        while True:
            seen.add(receiver)
            names = list(dict.fromkeys(each.source for each in self.into.get(receiver, ())))
            if len(names) != 1 or names[0] is None:
                return [*(name for name in names if name is not None), *(name for name in names if name is None)]
            above = self._receivers(names[0])
            if len(above) != 1 or above[0] in seen or self._plan.nodes[names[0]].is_join:
                return names
            if all(self._order_along(each) in SETTLED for each in self.into[above[0]]) and len(self.into[above[0]]) == 1:
                return names
            receiver = above[0]

    # --- what may happen in one round ---------------------------------------------------------------------------------------

    def _may_both(self, a: SentValues, b: SentValues) -> bool:
        """Whether messages of both may be made."""
        return self._may(a, b, None)

    def _are_side_by_side(self, a: SentValues, b: SentValues) -> bool:
        """The same, neither of them on the way to the other."""
        return self._may(a, b, (a.source, b.source))

    def _may(self, a: SentValues, b: SentValues, apart: tuple[str | None, str | None] | None) -> bool:
        """Follow both back to where their ways part: together if one message goes to both.

        A node that joins works only if all that it needs has come; so it is enough that one of these cannot have. What is not
        followed to its end, in a very large graph, counts as together.
        """
        memo = self._memo.setdefault(apart, {})
        stack = [(a, b)]
        while stack:
            self._work += 1
            if self._work > MOST_WORK:
                return True
            pair = stack[-1]
            known = memo.get(pair)
            if known is None:
                known = self._parts(pair, apart)
            if known is None:
                known = self._weigh(pair, memo, stack)
            if known is not None:
                memo[pair] = known
                stack.pop()
        return memo[a, b]

    def _parts(self, pair: tuple[SentValues, SentValues], apart: tuple[str | None, str | None] | None) -> bool | None:
        a, b = pair
        if apart is not None and (b.source == apart[0] or a.source == apart[1]):
            return False  # one leads to the other
        if a.source != b.source:
            return None
        if not overlap(a.type, b.type):
            return False
        if a.is_conditional and b.is_conditional and a.target.node != b.target.node:
            one, two = sorted((a.target.node, b.target.node))
            if self._allowed is None or (a.source, one, two) in self._allowed:
                self._assumed.add((a.source, one, two))
                return False
        return True

    def _weigh(
        self,
        pair: tuple[SentValues, SentValues],
        memo: Mapping[tuple[SentValues, SentValues], bool],
        stack: list[tuple[SentValues, SentValues]],
    ) -> bool | None:
        """Go on with whichever is made later; None when more must be known first, which is then put on the stack."""
        a, b = pair
        is_first = self._rank.get(a.source, -1) > self._rank.get(b.source, -1)
        later = a.source if is_first else b.source
        for receiver in self._narrow.get(later or "", ()):
            unknown: tuple[SentValues, SentValues] | None = None
            for each in self.into[receiver]:
                if self._comes_round(each):
                    continue
                before = (each, b) if is_first else (a, each)
                known = memo.get(before)
                if known:
                    unknown = None
                    break
                if known is None:
                    unknown = unknown or before
            else:
                if unknown is None:
                    return False
            if unknown is not None:
                stack.append(unknown)
                return None
        return True


def _pairs(sent: Sequence[SentValues]) -> Iterator[tuple[SentValues, SentValues]]:
    """Those of different sources."""
    return ((a, b) for a, b in itertools.combinations(sent, 2) if a.source != b.source)
