"""The places of one runtime: which there are, what may run there, and the supervisors above their hosts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, final

import attrs
import trio

from actors.actor import ActorRef
from actors.argument_checks import is_place_name
from actors.errors import ActorStartFailed, DeclarationError, GraphInvalid, Problem, UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.placing import placing_problems
from actors.graphs.plan import Plan
from actors.placement_errors import HostRefused, MessageTooLarge, NotPortable, PlaceUnavailable
from actors.restarts import Backoff
from actors.supervision import ChildSpec, Exhausted, Supervision, supervisor_spec
from actors.words import repr_of
from runtime.core.services import Services, unknown_place
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.nodes.away import Elsewhere, Nowhere, Placing, unknown_places
from runtime.placement.addresses import OwnerAddresses
from runtime.placement.errands import RuntimeKnowledge
from runtime.placement.hosts import OPENER, HostActor, HostedPlace
from runtime.placement.openers import OpenerActor
from runtime.placement.placed_actors import Away, Residence
from runtime.placement.placed_nodes import PlacedNode
from runtime.placement.places import Here, Place, SharedPlace
from runtime.placement.sharded import Sharded

SUPERVISION: Final = Supervision(max_restarts=3, within_s=5.0, backoff=Backoff(), exhausted=Exhausted.PARK)
"""Of the hosts of a place: they are tried again for ever, since a machine may be away for minutes."""


@final
class Placement:
    """See ``Placing``."""

    def __init__(self, places: Mapping[str, Place | SharedPlace | Here], services: Services, root: SupervisorCell) -> None:
        """The places that ``open_runtime`` was given; none of their hosts is started.

        Raises:
            DeclarationError: one isn't a place, or its name cannot be one.
        """
        self._places: Mapping[str, Place | SharedPlace | Here] = _checked(places)
        self._services = services
        services.placed = self.placed
        self._root = root
        numbers = itertools.count(1)
        self._hosted = {
            name: HostedPlace(name, place, services, lambda: next(numbers))
            for name, place in self._places.items()
            if not isinstance(place, Here)
        }
        self._supervisors: dict[str, SupervisorCell] = {}
        self._starting = {name: trio.Lock() for name in self._hosted}
        """One for each: a place that waits for room keeps no other from starting."""
        self._opening = trio.Lock()
        self._known = RuntimeKnowledge(OwnerAddresses(services), lambda: services.facade)

    async def deploy(self, graph: Graph, plan: Plan) -> Mapping[str, Elsewhere]:
        """See ``Placing``."""
        self._known.graphs[graph.name] = graph
        placed = [spec for spec in plan.nodes.values() if spec.options.place is not None]
        if not placed:
            return {}
        unknown = [spec for spec in placed if spec.options.place not in self._places]
        if unknown:
            raise unknown_places(graph.name, unknown, self._places)
        away = [spec for spec in placed if spec.options.place in self._hosted]
        problems = [problem for spec in away for problem in self._problems(spec)]
        away = [spec for spec in away if spec.kind is not Kind.ACTOR]  # the actor itself is placed, where it is started
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise GraphInvalid(f"graph {graph.name!r} cannot run where its nodes are placed:\n{listed}", problems=problems)
        found: dict[str, Elsewhere] = {}
        for name, place in self._hosted.items():
            specs = [spec for spec in away if spec.options.place == name]
            if specs:
                found.update({spec.name: PlacedNode(graph.name, spec, place, self._known) for spec in specs})
                await self.start(name)
                await place.declare(graph.name, specs)
        return found

    def placed(self, spec: ChildSpec) -> ChildSpec:
        """What is started for a child that has a place.

        Raises:
            UsageError: there is no such place. NotPortable: it cannot live in another process; all that keeps it from that.
        """
        place = self._places.get(str(spec.place))
        if place is None:
            raise unknown_place(spec, self._places)
        if isinstance(place, Here):
            return spec
        if isinstance(spec.factory, Sharded):  # who routes stays here
            return attrs.evolve(spec, factory=attrs.evolve(spec.factory, place=spec.place), place=None)
        hosted = self._hosted[str(spec.place)]
        problems = [str(problem) for problem in hosted.engine.problems(spec)]
        code = self._known.codes.of(spec.factory) if not problems else self._known.codes.known(spec.factory)
        data = b""
        try:
            data = b"" if code is None else code.all_written(spec.args, self._known.addresses, f"{spec.id!r}")
        except (NotPortable, MessageTooLarge) as error:
            problems += str(error).splitlines()
        if code is None or problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise NotPortable(f"{spec.id!r} has place={spec.place!r}, and cannot live in another process:\n{listed}")
        residence = Residence(hosted, functools.partial(self.start, hosted.name), code, data, self._known)
        return attrs.evolve(spec, factory=functools.partial(Away, residence), args=())

    def _problems(self, spec: NodeSpec) -> Iterator[Problem]:
        place = self._hosted[str(spec.options.place)]
        yield from placing_problems(spec)
        if spec.kind is Kind.ACTOR and not isinstance(spec.embedded, ActorRef):
            for problem in place.engine.problems(ChildSpec(spec.name, spec.embedded, place=spec.options.place)):
                yield attrs.evolve(problem, location=spec.location)
        elif spec.kind is not Kind.ACTOR:
            yield from place.engine.problems(spec)

    async def start(self, name: str) -> None:
        """Start the hosts of a place, all together, unless they have been.

        Raises:
            HostRefused: one has other code. PlaceUnavailable: one did not start in time, or the runtime is being closed.
            UsageError: none can start here.
        """
        async with self._starting[name]:
            if name in self._supervisors:
                return
            place = self._hosted[name]
            supervisor = await self._supervisor(name)
            failed: list[HostRefused | PlaceUnavailable | UsageError] = []

            async def start_one(spec: ChildSpec) -> None:
                try:
                    await self._start_host(supervisor, place, spec)
                except (HostRefused, PlaceUnavailable, UsageError) as error:
                    failed.append(error)

            try:
                if isinstance(place.engine, SharedPlace):
                    await self._start_host(supervisor, place, ChildSpec(OPENER, OpenerActor, (place, place.engine)))
                async with trio.open_nursery() as nursery:
                    for host in place.host_names:
                        nursery.start_soon(start_one, ChildSpec(host, HostActor, (place, host)))
                if failed:
                    raise failed[0]
            except BaseException:  # cancelled in the middle, too: the next who needs it starts it from the beginning
                with trio.CancelScope(shield=True):
                    await self._above().terminate(supervisor, discard=True)
                raise
            self._supervisors[name] = supervisor

    async def _start_host(self, supervisor: SupervisorCell, place: HostedPlace, spec: ChildSpec) -> None:
        """Start one child for the first time, and again if that fails, as long as a start may take altogether."""
        limit_s, attempt = place.engine.start_timeout_s, 0
        until = trio.current_time() + limit_s
        while supervisor.is_serving:
            try:
                await supervisor.start_child(spec)
            except ActorStartFailed as error:
                if isinstance(error.__cause__, HostRefused | PlaceUnavailable | UsageError):
                    raise error.__cause__ from None
                if supervisor.stopping:
                    break
                delay_s = SUPERVISION.backoff.delay_s(attempt, self._services.rng)
                if trio.current_time() + delay_s > until:
                    raise PlaceUnavailable(
                        f"{spec.id!r} of place {place.name!r} has not started within start_timeout_s={limit_s:g}.\n"
                        "  Fix: see the cause above.",
                        place=place.name,
                    ) from error
                attempt += 1
                with trio.move_on_after(delay_s):
                    await supervisor.wait_exited()
            else:
                return
        raise closed(place.name)

    async def _supervisor(self, name: str) -> SupervisorCell:
        async with self._opening:
            if "" not in self._supervisors:
                own = self._root.free_name("places") if "places" in self._root.children.cells else "places"
                above = await self._root.start_child(supervisor_spec(own, (), SUPERVISION))
                self._root.children.put_first(own)  # it ends last: what lives on its hosts may have been started before it
                self._supervisors[""] = cast("SupervisorCell", above)
        if not self._above().is_serving:
            raise closed(name)
        return cast("SupervisorCell", await self._above().start_child(supervisor_spec(name, (), self._supervision(name))))

    def _supervision(self, name: str) -> Supervision:
        """Of the hosts of a place. What they share and all of them may be lost together, which is no reason to wait for long."""
        engine = self._hosted[name].engine
        if not isinstance(engine, SharedPlace):
            return SUPERVISION
        return attrs.evolve(SUPERVISION, max_restarts=SUPERVISION.max_restarts + 1 + engine.hosts)

    def _above(self) -> SupervisorCell:
        return self._supervisors[""]


def placement_of(places: Mapping[str, Place | SharedPlace | Here] | None, services: Services, root: SupervisorCell) -> Placing:
    """The places of a runtime that was opened with `places`.

    Raises:
        DeclarationError: one isn't a place, or its name cannot be one.
    """
    return Nowhere() if places is None else Placement(places, services, root)


def closed(place: str) -> PlaceUnavailable:
    """The error for a start of hosts that comes about no more."""
    return PlaceUnavailable(
        f"place {place!r} starts no hosts: what supervises them is ending, since the runtime is being closed.\n"
        "  Fix: await what needs the place before the end of `async with open_runtime()`.",
        place=place,
    )


def _checked(places: Any) -> Mapping[str, Place | SharedPlace | Here]:
    if not isinstance(places, Mapping):
        raise DeclarationError(
            f"open_runtime(places={repr_of(places)}): expected a mapping from names to places.\n"
            "  Fix: places={'cpu': Processes(4)}, for example."
        )
    for name, place in cast("Mapping[object, object]", places).items():
        if not is_place_name(name):
            raise DeclarationError(
                f"open_runtime(places=…): {repr_of(name)} cannot name a place.\n"
                "  Fix: use a short text without '/', such as 'cpu'."
            )
        if not isinstance(place, Place | SharedPlace | Here):
            made = f"{place.__name__}()" if isinstance(place, type) else "Here() or Processes(4)"
            raise DeclarationError(
                f"open_runtime(places={{{name!r}: {repr_of(place)}}}): expected a place.\n  Fix: {name!r}: {made}, for example."
            )
    return dict(cast("Mapping[str, Place | SharedPlace | Here]", places))
