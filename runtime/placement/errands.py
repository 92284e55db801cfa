"""What code on a host asks of its runtime, done here: to send, to start actors, to run graphs. In the name of who asks."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final, final

import attrs

from actors.actor import ActorContext, ActorRef
from actors.errors import InternalError, UsageError
from actors.graphs.graph import Graph
from runtime.core.cell import current_cell
from runtime.graphs.records.run_record import RunStatus
from runtime.placement.actor_codes import ActorCode
from runtime.placement.addresses import OwnerAddresses
from runtime.placement.call_payloads import packed
from runtime.placement.graph_codes import GraphCode, code_of
from runtime.placement.known_codes import KnownCodes, module_level
from runtime.placement.portable_errors import failure_data
from runtime.placement.portable_options import options_of

NOTHING: Final = b""
MAX_HANDLES: Final = 1000
"""Runs that one actor on a host has started and whose results it may still ask for; the oldest that are over are forgotten."""
_OVER: Final = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


@final
@attrs.define(eq=False)
class RuntimeKnowledge:
    """What the runtime knows of names that hosts use. One per runtime."""

    addresses: OwnerAddresses
    runtime: Any
    """A function that gives it: it is made later than its places."""
    codes: KnownCodes = attrs.field(factory=KnownCodes)
    graphs: weakref.WeakValueDictionary[str, Graph] = attrs.field(factory=weakref.WeakValueDictionary[str, Graph])
    """Those that were deployed, by name; of several the last."""


@final
@attrs.define(eq=False)
class Errands:
    """Those of one incarnation of a placed actor, or of one attempt of a placed node."""

    known: RuntimeKnowledge
    code: ActorCode
    """By which its messages are read."""
    context: ActorContext | None = None
    """Of the actor that stands for it here; None for a node."""
    _handles: dict[str, Any] = attrs.field(factory=dict[str, Any])

    def read(self, data: bytes) -> Any:
        """A value that comes from the host."""
        return self.code.read(data, self.known.addresses)

    def written(self, value: object, what: str) -> bytes:
        """A value for the host."""
        return self.code.written(value, what, self.known.addresses)

    def ref(self, address: str) -> ActorRef[Any]:
        """The actor that the host means."""
        return self.known.addresses.ref_at(address)

    def tell_nowait(self, head: Mapping[str, Any], data: bytes) -> None:
        """Put a message of its into a mailbox."""
        cell = current_cell.get()
        self.known.addresses.tell_nowait(head["to"], self.read(data), None if cell is None else cell.address)

    async def do(self, head: Mapping[str, Any], data: bytes) -> bytes:
        """Do what it asks.

        Raises:
            Exception: what the runtime raises, for who asks.
        """
        match head["op"]:
            case "ask":
                answer = await self.ref(head["to"]).ask(self.read(data), detach=head["detach"])
                return NOTHING if answer is None else self.written(answer, f"what {head['to']!r} answered")
            case "tell":
                await self.ref(head["to"]).tell(self.read(data))
                return NOTHING
            case "ended":
                end = await self.ref(head["to"]).ended()
                return packed({"reason": end.reason.value}, NOTHING if end.error is None else failure_data(end.error))
            case "spawn":
                return await self._spawn(head, data)
            case "stop actor":
                await self.known.runtime().stop(self.ref(head["to"]))
                return NOTHING
            case "run":
                graph, code = self._graph(head)
                output = await self.known.runtime().run(graph, code.read(data, self.known.addresses), **head["options"])
                return code.written(output, self.known.addresses)
            case "start run":
                return await self._start_run(head, data)
            case "result":
                handle = self._handle(head["run"])
                return code_of(handle[0]).written(await handle[1].result(), self.known.addresses)
            case "cancel run":
                await self._handle(head["run"])[1].cancel()
                return NOTHING
            case other:
                raise InternalError(f"a host asks for {other!r}, which this release does not know")

    # --- actors -----------------------------------------------------------------------------------------------------------

    async def _spawn(self, head: Mapping[str, Any], data: bytes) -> bytes:
        code = self.known.codes.named(head["factory"])
        args = code.all_read(data, self.known.addresses)
        options = options_of(head["options"])
        if options.get("place") is None:
            raise InternalError("a host wants an actor without a place, which is its own to start")
        by = self.context if head["child"] and self.context is not None else self.known.runtime()
        ref = await by.spawn(code.factory, *args, name=head["name"], **options)
        return packed({"address": self.known.addresses.address_of(ref)})

    # --- runs -------------------------------------------------------------------------------------------------------------

    def _graph(self, head: Mapping[str, Any]) -> tuple[Graph, GraphCode]:
        """The graph that a host wants to be run: one that is deployed, or stands in a module that was imported."""
        name, home = head["graph"], head["home"]
        found = self.known.graphs.get(name)
        if found is None and home:
            found = _graph_at(home, name)
        if found is None:
            raise UsageError(
                f"a host runs graph {name!r}, and this runtime has deployed none of that name.\n"
                "  Fix: open_runtime(graphs=[…]) with it; or give it a name at the top level of a module that both import."
            )
        code = code_of(found)
        if code.digest != head["digest"]:
            raise UsageError(
                f"a host runs graph {name!r}, and the graph of that name that this runtime has is another one.\n"
                "  Fix: install the same version of your code where the runtime and its hosts run; name each graph differently."
            )
        return found, code

    async def _start_run(self, head: Mapping[str, Any], data: bytes) -> bytes:
        graph, code = self._graph(head)
        handle = await self.known.runtime().start(graph, code.read(data, self.known.addresses), **head["options"])
        while len(self._handles) >= MAX_HANDLES and self._forget_one():
            pass
        self._handles[handle.id] = graph, handle
        return packed({"run": handle.id})

    def _forget_one(self) -> bool:
        over = next((name for name, (_, handle) in self._handles.items() if handle.status in _OVER), None)
        if over is not None:
            del self._handles[over]
        return over is not None

    def _handle(self, run_id: str) -> Any:
        found = self._handles.get(run_id)
        if found is None:
            raise UsageError(
                f"the result of run {run_id!r} is not kept for this actor: it has started {MAX_HANDLES:,} others since.\n"
                "  Fix: await handle.result() sooner; or keep runs in a store, and look them up there."
            )
        return found


def _graph_at(home: str, name: str) -> Graph | None:
    """The graph of that name that a module has."""
    standing: Any = module_level(home)
    is_graph = type(standing) is Graph and standing.name == name
    return standing if is_graph else None
