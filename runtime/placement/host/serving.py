"""Works on what a runtime calls a host for: it finds nodes, calls their functions, and keeps what runs depend on here."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.errors import InternalError
from actors.graphs.annotations import Many
from actors.graphs.dependencies import Injected
from actors.graphs.node import NodeSpec
from actors.placement_errors import HostLost
from runtime.core.events import LoopBlocked
from runtime.core.watchdog import watching
from runtime.graphs.nodes.delivery import bound, called, taken
from runtime.graphs.nodes.generator import hand_out
from runtime.graphs.reducer.wording import check_made
from runtime.graphs.runs.dependencies import Contexts, RunDependencies
from runtime.placement.call_payloads import PROTOCOL, NodeCodec, likeness, packed, unpacked
from runtime.placement.host.hosted_lm import HostedLM
from runtime.placement.host.hosted_run import HostedRun
from runtime.placement.host.node_speaker import CallSpeaker, VisitSpeaker
from runtime.placement.host.remote_refs import Speaker, speaking
from runtime.placement.host.stage import FindActor, Stage
from runtime.placement.link import BEATS_IN, FENCE_AT, Hear, Link
from runtime.placement.places import Invitation
from runtime.placement.protocol import Peer

MAX_STACK: Final = 20_000
"""Characters of a stack that are told: its end, where the code was."""

Find = Callable[[str, str, str], NodeSpec]
"""A node, by the name of its code, its graph and its own name."""


@final
@attrs.frozen(eq=False)
class _Node:
    spec: NodeSpec
    codec: NodeCodec


@final
class _Visit:
    """What one run depends on, on this host: each value is computed once here, and left when the run is over."""

    def __init__(self, name: str, contexts: Contexts) -> None:
        self.id = name
        self.dependencies = RunDependencies(self, None, contexts, _no_node)
        self.is_over = False
        """Whether they have been left."""
        self._closed = trio.Event()
        self._failures: list[Exception] = []

    async def leave(self) -> None:
        """Leave the context managers.

        Raises:
            ContextFailed: one failed, then or before.
        """
        try:
            if not self.dependencies.close():
                await self._closed.wait()
        finally:
            self.is_over = True
        if self._failures:
            raise self._failures[0]

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """Told to the run when it ends."""
        self._failures.append(error)

    def context_cancelled(self, node: str, path: str, error: Exception) -> None:
        """The host ends, and with it the link, which tells enough."""

    def contexts_closed(self) -> None:
        """The last one has been left."""
        self._closed.set()


async def _no_node(name: str, _: RunDependencies) -> Any:
    raise InternalError(f"a host cannot run the node {name!r} for another")


@final
class Worker:
    """What one host does for its runtime."""

    def __init__(self, link: Link, find: Find, fence: int, contexts: Contexts, stage: Stage) -> None:
        """Work over `link`; `fence` is the incarnation of the host, `stage` where its actors live."""
        self._link = link
        self._find = find
        self._fence = fence
        self._contexts = contexts
        self._stage = stage
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._visits: dict[str, _Visit] = {}

    async def serve(self, number: int, body: bytes) -> bytes:
        """Do what the call `number` of the runtime wants."""
        head, data = unpacked(body)
        match head["op"]:
            case "node":
                return await self._node(number, head, data)
            case "prepare":
                await trio.lowlevel.checkpoint()
                return packed({"likeness": self._prepare(head["nodes"])})
            case "leave":
                visit = self._visits.pop(head["visit"], None)
                if visit is not None:
                    await visit.leave()
                return b""
            case "start" | "stop":
                return await self._stage.serve(number, head, data)
            case "know":
                await trio.lowlevel.checkpoint()
                return self._stage.know(head["code"])
            case other:
                raise InternalError(f"the runtime wants {other!r}, which this release does not know")

    def tell_blocked(self, event: LoopBlocked) -> None:
        """Code here has held the event loop: the runtime publishes that."""
        told = {"address": event.address, "task": event.task, "held_s": event.held_s, "stack": event.stack[-MAX_STACK:]}
        self._link.note(packed({"op": "blocked", **told}))

    def _prepare(self, nodes: list[dict[str, str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in nodes:
            spec = self._find(each["name"], each["graph"], each["node"])
            self._nodes[each["graph"], each["node"]] = _Node(spec, NodeCodec(spec, self._stage.addresses))
            found.update(likeness(spec))
        return found

    async def _node(self, number: int, head: Mapping[str, Any], data: bytes) -> bytes:
        node = self._nodes.get((head["graph"], head["node"]))
        if node is None:
            raise InternalError(f"node {head['node']!r} of graph {head['graph']!r} was not prepared here")
        spec = node.spec
        messages, more = node.codec.read_arguments(data)
        visit = self._visit(head["visit"], more[0] if more else None) if spec.needs else None
        arguments = dict(taken(spec, messages))
        if visit is not None:
            own = VisitSpeaker(spec, head["graph"], visit, self._link, self._stage.addresses)
            with _speaking(own):
                arguments.update(await visit.dependencies.resolve(spec.needs, node=spec.name, path=head["run"]["path"]))
        speaker = CallSpeaker(spec, number, self._link, self._stage.addresses)
        try:
            with _speaking(speaker):
                return await self._called(node, arguments, number, head)
        finally:
            speaker.is_over = True

    async def _called(self, node: _Node, arguments: dict[str, Any], number: int, head: Mapping[str, Any]) -> bytes:
        spec = node.spec
        ask = partial(self._link.call, about=number)
        if spec.injected:
            run = HostedRun.of(head["run"], self._fence, node.codec, ask, partial(self._link.note, about=number))
            arguments.update({name: self._lm(head, ask) if kind is Injected.LM else run for name, kind in spec.injected.items()})
        call = bound(spec, arguments)
        if spec.fan_out is Many.STREAM:
            indices = itertools.count()

            async def send_on(item: Any) -> None:
                check_made(spec, item, next(indices))
                await ask(packed({"op": "item"}, node.codec.made(item)))

            await hand_out(call(), send_on)
            return b""
        made = await called(spec.kind, call)
        check_made(spec, made)  # said here, where the value is, before it turns out that it cannot travel
        return node.codec.made(made)

    @staticmethod
    def _lm(head: Mapping[str, Any], ask: Callable[..., Awaitable[bytes]]) -> HostedLM:
        """The model of the node: its calls go to the runtime, about the call that is worked on."""

        def asked(what: str, data: bytes = b"", *, hear: Hear | None = None) -> Awaitable[bytes]:
            return ask(packed({"op": "lm", "what": what}, data), hear=hear)

        return HostedLM(head["lm"], asked)

    def _visit(self, name: str, message: object) -> _Visit:
        visit = self._visits.get(name)
        if visit is None:
            visit = self._visits[name] = _Visit(name, self._contexts)
        if message is not None:  # only what needs it brings it along
            visit.dependencies.input = message
        return visit


@contextlib.contextmanager
def _speaking(speaker: Speaker) -> Generator[None]:
    token = speaking.set(speaker)
    try:
        yield
    finally:
        speaking.reset(token)


async def work(
    stream: trio.abc.Stream, invitation: Invitation, find: Find, find_actor: FindActor, facts: Mapping[str, Any]
) -> None:
    """Be a host over `stream` until it ends, or nothing is heard over it; returns then, with nothing left alive.

    `facts` are what the host says of itself in its hello.
    """
    contexts = Contexts()
    link = Link(stream, Peer(trio.current_time()), "the runtime", _lost)
    link.peer.greet(invitation.incarnation, packed({"protocol": PROTOCOL, **facts}, invitation.secret))
    limit_s = FENCE_AT * invitation.dead_after_s
    async with trio.open_nursery() as nursery:
        contexts.nursery = nursery
        stage = Stage(link, find_actor, invitation.incarnation, nursery.start_soon)
        link.take = stage.take
        worker = Worker(link, find, invitation.incarnation, contexts, stage)
        stage.services.events.add_sink(worker.tell_blocked, (LoopBlocked,))
        try:
            with contextlib.suppress(HostLost), watching(stage.services, invitation.watchdog_s):
                await link.run(worker.serve, beat_s=min(1.0, limit_s / BEATS_IN), silent_after_s=limit_s)
        finally:
            await stage.close()
        nursery.cancel_scope.cancel()


def _lost(how: str, silent_s: float) -> HostLost:
    return HostLost(f"the runtime is gone: {how}.", how=how, silent_s=silent_s)
