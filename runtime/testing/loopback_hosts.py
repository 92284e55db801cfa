"""Hosts in the same event loop: a place for tests in virtual time, whose hosts can be lost, frozen and slowed down.

All but the process is real: the hello, the frames, the codec, signs of life, and what follows from their absence.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator, Iterable
from types import FunctionType
from typing import Final, final, get_origin

import attrs
import trio
import trio.testing

from actors.errors import Problem, UsageError
from actors.graphs.node import NodeSpec
from actors.graphs.placing import naming_problems
from actors.portable import portable_name
from actors.supervision import ChildSpec
from runtime.placement.actor_codes import imported_factory
from runtime.placement.host.finding import imported_node
from runtime.placement.host.serving import work
from runtime.placement.places import Gone, Invitation

_END_S: Final = 5.0
"""How long a host may take to end when its stream does."""


@final
class LoopbackHosts:
    """A place whose hosts live in the event loop of the test. The same one may serve several runtimes, one after the other.

    Args:
        hosts: how many there are: ``host-1``, ``host-2`` and so on.
        by_name: whether hosts import the code of nodes by its name, as in another process. False: nodes may be defined inside
            functions, and what is defined there is found.
        seed: decides the delays, and the losses.
        delay_s: how long each piece of a stream is on its way, at most; the actual time is drawn for each.
        losses: the part of the pieces of a stream with which the host is lost instead.
        window, start_timeout_s, dead_after_s, stuck_after_s, cancel_grace_s: see ``Place``.
    """

    def __init__(
        self,
        hosts: int = 1,
        *,
        by_name: bool = False,
        seed: int = 0,
        delay_s: float = 0.0,
        losses: float = 0.0,
        window: int = 64,
        start_timeout_s: float = 60.0,
        dead_after_s: float = 10.0,
        stuck_after_s: float = 60.0,
        cancel_grace_s: float = 5.0,
    ) -> None:
        self.hosts = hosts
        self.window = window
        self.start_timeout_s = start_timeout_s
        self.dead_after_s = dead_after_s
        self.stuck_after_s = stuck_after_s
        self.cancel_grace_s = cancel_grace_s
        self.delay_s = delay_s
        self.losses = losses
        self.started: list[str] = []
        """The names of the hosts, in the order of their starts."""
        self._by_name = by_name
        self._rng = random.Random(seed)
        self._specs: dict[tuple[str, str], NodeSpec] = {}
        self._factories: dict[str, object] = {}
        self._live: dict[str, _LoopbackHost] = {}
        self._held_back: set[str] = set()
        self._may_start = trio.Event()

    def problems(self, spec: NodeSpec | ChildSpec, /) -> Iterable[Problem]:
        """See ``Place.problems``."""
        if self._by_name:
            return naming_problems(spec)
        if isinstance(spec, ChildSpec):
            factory = get_origin(spec.factory) or spec.factory
            if isinstance(factory, type | FunctionType):
                self._factories[portable_name(factory)] = factory
                return ()
            return naming_problems(spec)
        self._specs[spec.location, spec.name] = spec
        return ()

    @contextlib.asynccontextmanager
    async def start(self, host_id: str, invitation: Invitation, /) -> AsyncGenerator[_LoopbackHost]:
        """See ``Place.start``."""
        if host_id in self._held_back:
            invitation.pending("a place to start", "none: it is held back")
        while host_id in self._held_back:
            await self._may_start.wait()
        self.started.append(host_id)
        near, far = trio.testing.memory_stream_pair()
        host = self._live[host_id] = _LoopbackHost(_Wire(near, self, host_id), _Wire(far, self, host_id), invitation.dead_after_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._be, host, invitation)
            try:
                yield host
            finally:
                if self._live.get(host_id) is host:
                    del self._live[host_id]
                await host.end()
                nursery.cancel_scope.cancel()

    async def _be(self, host: _LoopbackHost, invitation: Invitation) -> None:
        with host.scope:
            await work(host.far, invitation, self._find, self._find_actor, {"host": invitation.host})
        await host.hang_up("its process ended")

    def _find(self, name: str, graph: str, node: str) -> NodeSpec:
        if self._by_name:
            return imported_node(name, node)
        return next(spec for (_, each), spec in reversed(self._specs.items()) if each == node)

    def _find_actor(self, name: str) -> object:
        return imported_factory(name) if self._by_name else self._factories[name]

    # --- faults -----------------------------------------------------------------------------------------------------------

    def kill(self, host: str) -> None:
        """End a host, as ``kill -9`` ends a process: what it worked on is cancelled, and nothing of that is heard.

        Raises:
            UsageError: no such host is up.
        """
        self._one(host).kill()

    def freeze(self, host: str) -> None:
        """Let nothing more through to a host, nor from it, as when its machine is cut off; both sides stay as they are."""
        self._one(host).freeze()

    def stop(self, host: str) -> None:
        """Let nothing of what a host says through, as when its process is stopped or its loop is held by one of its functions."""
        self._one(host).far.is_silent = True

    def hold_back(self, host: str) -> None:
        """Let no next start of a host succeed, until :meth:`let_start`."""
        self._held_back.add(host)

    def let_start(self) -> None:
        """Let all hosts start again."""
        self._held_back.clear()
        self._may_start.set()
        self._may_start = trio.Event()

    def _one(self, host: str) -> _LoopbackHost:
        found = self._live.get(host)
        if found is None:
            raise UsageError(f"no host {host!r} is up: {', '.join(self._live) or 'none'}.\n  Fix: await the start of the place.")
        return found

    def passes(self, host: str) -> float:
        """How long a piece of a stream is on its way now; the host may be lost with it."""
        if self.losses and self._rng.random() < self.losses and host in self._live:
            self.kill(host)
        return self._rng.uniform(0, self.delay_s) if self.delay_s else 0.0


@final
@attrs.define(eq=False)
class _LoopbackHost:
    """See ``StartedHost``."""

    stream: _Wire
    far: _Wire
    _dead_after_s: float
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _frozen: trio.Event = attrs.field(factory=trio.Event)
    _gone: trio.Event = attrs.field(factory=trio.Event)
    _how: str = "its process ended"

    def kill(self) -> None:
        """End it."""
        self._how = "its process was killed"
        self.far.cut()
        self.scope.cancel()
        self._gone.set()

    def freeze(self) -> None:
        """Let nothing through."""
        self.stream.is_silent = self.far.is_silent = True
        self._frozen.set()

    async def gone(self) -> Gone:
        """Wait for its end, of which no one hears whose machine is cut off."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_frozen, scope)
                await self._gone.wait()
                if not self._frozen.is_set():
                    scope.cancel()
                await trio.sleep_forever()
        if self._frozen.is_set():
            return Gone(f"nothing was heard of its machine for {self._dead_after_s:g} s", self._dead_after_s)
        return Gone(self._how)

    async def _until_frozen(self, scope: trio.CancelScope) -> None:
        await self._frozen.wait()
        await trio.sleep(self._dead_after_s)
        scope.cancel()

    async def hang_up(self, how: str) -> None:
        """It has ended."""
        if not self._gone.is_set():
            self._how = how
        self._gone.set()
        with trio.CancelScope(shield=True):
            await self.far.aclose()

    async def end(self) -> None:
        """End it by the end of its stream, or else by force."""
        with trio.CancelScope(shield=True):
            await self.stream.aclose()
            with trio.move_on_after(_END_S):
                await self._gone.wait()
        self.scope.cancel()


@final
class _Wire(trio.abc.Stream):
    """One end of a stream that may be slow, frozen or cut."""

    def __init__(self, stream: trio.abc.Stream, faults: LoopbackHosts, host: str) -> None:
        self._stream: trio.abc.Stream = stream
        self._faults = faults
        self._host = host
        self.is_silent = False
        self._is_cut = False

    def cut(self) -> None:
        """Send nothing more."""
        self._is_cut = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        delay_s = self._faults.passes(self._host)
        if delay_s:
            await trio.sleep(delay_s)
        if self._is_cut or self.is_silent:
            await trio.lowlevel.checkpoint()
            return
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        if self.is_silent:  # then its end does not get through either
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.aclose()
