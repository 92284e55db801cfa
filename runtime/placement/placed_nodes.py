"""A placed node: its messages, attempts and instances are the runtime's, and its function is called on a host of its place."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.errors import InternalError, UnderstudyError
from actors.graphs.dependencies import Dependency, Supply
from actors.graphs.node import NodeSpec
from actors.graphs.placing import handler_of
from actors.lm import LM
from actors.placement_errors import HostLost
from runtime.core.cell import Cell, current_cell
from runtime.graphs.nodes.injected import NodeRun
from runtime.graphs.runs.dependencies import RunDependencies
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.placement.call_payloads import NodeCodec, packed, unpacked
from runtime.placement.errands import Errands, RuntimeKnowledge
from runtime.placement.hosts import Host, HostedPlace
from runtime.placement.link import Link
from runtime.placement.lm_calls import answer_lm
from runtime.placement.portable_errors import Tickets
from runtime.placement.visits import Visit

LEAVE_S: Final = 4.0
"""How long a host may take to leave the context managers of a run; less than a run waits for its own."""

Take = Callable[[Any], Awaitable[None]]
"""Takes an item of a stream."""


@final
class PlacedNode:
    """Calls the function of one node on the hosts of its place."""

    def __init__(self, graph: str, spec: NodeSpec, place: HostedPlace, known: RuntimeKnowledge) -> None:
        self._graph = graph
        self._spec = spec
        self._place = place
        self._known = known
        self._handler = handler_of(spec)
        self._codec = NodeCodec(spec, known.addresses)
        self._plain_head = packed(self._named_head())
        """Of a call in which nothing is told but the messages: of most nodes."""
        self._is_plain = not spec.needs and not spec.injected
        self._wants_input = any(each.inputs for need in spec.needs.values() for each in need.all())

    async def call(self, message: ActiveDelivery, pulse: Pulse, arguments: Mapping[str, Any], lm: LM | None) -> Any:
        """See ``Elsewhere``.

        Raises:
            HostLost: the host was lost meanwhile. PlaceUnavailable: there is none. NotPortable: the messages cannot travel.
            MessageTooLarge: they are too large. And what the function raised.
        """
        return self._codec.read_made(await self._called(message, pulse, arguments, lm, None))

    async def stream(
        self, message: ActiveDelivery, pulse: Pulse, arguments: Mapping[str, Any], lm: LM | None, take: Take
    ) -> None:
        """See ``Elsewhere``; raises what :meth:`call` does, and what `take` does."""
        await self._called(message, pulse, arguments, lm, take)

    async def _called(
        self, message: ActiveDelivery, pulse: Pulse, arguments: Mapping[str, Any], lm: LM | None, take: Take | None
    ) -> bytes:
        dependencies = message.run.dependencies if self._spec.needs else None
        more = [dependencies.input] if dependencies is not None and self._wants_input else []
        data = self._codec.arguments(arguments, more)
        head = None if self._is_plain and lm is None else self._head(message, lm)
        host = await self._place.least_busy()
        host.out += 1
        try:
            if dependencies is not None and head is not None:
                whose = self._graph, self._spec.name, self._handler
                visit = await _visit_of(host, dependencies, self._known, *whose, message.delivery.path)
                head["visit"] = visit.name
            attempt = _Attempt(message, pulse, self._codec, take, host.link, lm, self._known, self._handler)
            try:
                body = self._plain_head + data if head is None else packed(head, data)
                made = await host.link.call(body, answer=attempt.answer, hear=attempt.hear)
            except Exception as error:
                original = attempt.tickets.original(error)
                if original is not None:
                    raise original from original.__cause__  # what this side has raised itself, as it was
                raise
            if attempt.wrong is not None:
                raise attempt.wrong
            return made
        finally:
            host.out -= 1

    def _named_head(self) -> dict[str, Any]:
        return {"op": "node", "graph": self._graph, "node": self._spec.name}

    def _head(self, message: ActiveDelivery, lm: LM | None) -> dict[str, Any]:
        run, step = message.run, message.step
        return {
            **self._named_head(),
            **({} if lm is None else {"lm": lm.model}),
            "run": {
                "id": run.id,
                "graph": run.state.plan.name,
                "node": step.node,
                "path": step.path,
                "attempt": step.attempt,
                "is_resumed": run.is_resumed,
                "wall_time": run.wall_time().isoformat(),
                "steps_left": None if run.steps_left == float("inf") else run.steps_left,
            },
        }


@final
@attrs.define(eq=False)
class _Attempt:
    """What a host may ask and tell while it works on one attempt."""

    message: ActiveDelivery
    pulse: Pulse
    codec: NodeCodec
    take: Take | None
    link: Link
    lm: LM | None
    known: RuntimeKnowledge
    handler: Any
    """What is called there."""
    cell: Cell | None = attrs.field(factory=current_cell.get)
    """The instance of the node, in whose name it speaks to actors."""
    tickets: Tickets = attrs.field(factory=Tickets)
    _run: NodeRun | None = None
    _errands: Errands | None = None
    wrong: UnderstudyError | None = None
    """What was wrong with something that it has told, which is its failure."""

    @property
    def run(self) -> NodeRun:
        """The ``Run`` that the node would get here."""
        if self._run is None:
            self._run = NodeRun.of(self.message, self.pulse, self.message.delivery.path)
        return self._run

    @property
    def errands(self) -> Errands:
        """What it asks of actors. Few nodes do, so the types of its module are looked up when it does."""
        if self._errands is None:
            self._errands = Errands(self.known, self.known.codes.of(self.handler))
        return self._errands

    def hear(self, body: bytes) -> None:
        """Take what the node reports, and tells actors."""
        head, data = unpacked(body)
        if head["op"] == "heartbeat":
            self.pulse.beat()
        elif head["op"] == "report":
            self.run.report(head["text"], done=head["done"], of=head["of"])
        elif head["op"] == "tell":
            token = current_cell.set(self.cell)
            try:
                self.errands.tell_nowait(head, data)
            except UnderstudyError as error:
                self.wrong = self.wrong or error
            finally:
                current_cell.reset(token)
        else:
            self.wrong = self.wrong or InternalError(f"a node tells {head['op']!r}, which this release does not know")

    async def answer(self, number: int, body: bytes) -> bytes:
        """Do what the node asks under `number`."""
        head, data = unpacked(body)
        try:
            return await self._answer(number, head, data)
        except Exception as error:
            self.tickets.keep(error)
            raise

    async def _answer(self, number: int, head: Mapping[str, Any], data: bytes) -> bytes:
        match head["op"]:
            case "lm":
                if self.lm is None:
                    raise InternalError("a call of a model came of a node that has none")
                return await answer_lm(self.lm, head, data, partial(self.link.note, about=number))
            case "item":
                if self.take is None:
                    raise InternalError("an item came of a node that is no stream")
                await self.take(self.codec.read_made(data))
            case "sleep":
                await self.run.sleep(head["seconds"])
            case "once":
                made = await self.run.once(head["name"], self._once, number)
                return self.codec.any_value(made, f"what run.once({head['name']!r}, …) returned")
            case _:
                return await self.errands.do(head, data)
        return b""

    async def _once(self, number: int) -> Any:
        """Have the host call what it wants to be called once."""
        return self.codec.read_any(await self.link.call(b"", about=number))


async def _visit_of(
    host: Host, dependencies: RunDependencies, known: RuntimeKnowledge, graph: str, node: str, handler: Any, path: str
) -> Visit:
    """Have the run keep its dependencies on `host` until it is over."""
    owner = dependencies.owner
    found: tuple[Visit, Dependency] | None = host.visits.get(owner)
    if found is None:
        visit = Visit(f"visit-{next(host.numbers)}", known)
        stay: Callable[[], Any] = partial(_staying, host, owner, visit)
        dependency = Dependency(_named(stay), stay, Supply.CONTEXT, {}, {}, f"place {host.place!r}")
        found = host.visits[owner] = visit, dependency
    found[0].welcome(graph, node, handler)
    await owner.resolve({"": found[1]}, node=node, path=path)
    return found[0]


def _named(stay: Callable[[], Any]) -> Callable[[], Any]:
    """Something with a name, under which the run keeps the visit."""

    def dependencies_there() -> Any:
        return stay()

    return dependencies_there


@contextlib.asynccontextmanager
async def _staying(host: Host, owner: RunDependencies, visit: Visit) -> AsyncGenerator[None]:
    """One stay; what fails there when the dependencies are left fails here. They may speak until they have been left."""
    host.lives.visits[visit.name] = visit
    try:
        yield
    finally:
        host.visits.pop(owner, None)
        try:
            if host.is_up:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_S) as limit:
                    with contextlib.suppress(HostLost):
                        await host.link.call(packed({"op": "leave", "visit": visit.name}))
                if limit.cancelled_caught:
                    raise TimeoutError(f"{host.link.name} has not left what the run depends on there within {LEAVE_S:g} s")
        finally:
            del host.lives.visits[visit.name]
    if visit.wrong is not None:
        raise visit.wrong
