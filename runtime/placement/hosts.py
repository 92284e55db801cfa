"""The hosts of one place, as the runtime sees them: each is a supervised actor, and the loss of its link is its crash."""

from __future__ import annotations

import contextlib
import hmac
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.actor import Actor
from actors.errors import UsageError
from actors.graphs.node import NodeSpec
from actors.graphs.placing import handler_of
from actors.placement_errors import HostLost, HostRefused, PlaceUnavailable, RemoteError
from actors.portable import portable_name
from actors.words import listed, repr_of, said
from runtime.core.events import LoopBlocked
from runtime.core.host_events import HostLost as HostLostEvent
from runtime.core.host_events import HostPending, HostStarted
from runtime.core.services import Services
from runtime.placement.actor_codes import ActorCode
from runtime.placement.call_payloads import PROTOCOL, differing, likeness, packed, unpacked
from runtime.placement.link import BEATS_IN, Link
from runtime.placement.placed_lives import PlacedLives
from runtime.placement.places import Invitation, OpenedPlace, Place, SharedPlace, StartedHost, StartsHosts
from runtime.placement.protocol import Peer

OPENER: Final = "engine"
"""The name of what opens a place whose hosts share something, beside its hosts."""


@final
@attrs.define(eq=False)
class Host:
    """One host that takes work."""

    place: str
    name: str
    incarnation: int
    link: Link
    out: int = 0
    """How many pieces of work were given to it and have not ended."""
    held: int = 0
    """How many actors live on it."""
    visits: dict[Any, Any] = attrs.field(factory=dict[Any, Any])
    """Runs whose dependencies it keeps; see ``placed_nodes``."""
    numbers: Iterator[int] = attrs.field(factory=itertools.count)
    """For names of what it keeps."""
    lives: PlacedLives = attrs.field(factory=PlacedLives)
    """The actors that live on it."""
    codes: set[str] = attrs.field(factory=set[str])
    """The names of the actors' code that it has in the same form as this process."""

    @property
    def is_up(self) -> bool:
        """Whether it takes calls."""
        return self.link.lost is None


@final
class HostedPlace:
    """A place whose hosts are other processes: which there are, what they have been told, and which is next."""

    def __init__(self, name: str, engine: Place | SharedPlace, services: Services, number: Callable[[], int]) -> None:
        """`number` gives the incarnations of hosts, which grow over all places of the runtime."""
        self.name = name
        self.engine = engine
        self.host_names = [f"host-{number}" for number in range(1, engine.hosts + 1)]
        """The names of its hosts, those that are not up too."""
        self._events = services.events
        self._watchdog_s = services.watchdog_s
        self._number = number
        self._hosts: dict[str, Host] = {}
        self._nodes: dict[tuple[str, str], NodeSpec] = {}
        self._changed = trio.Event()
        self._opened: OpenedPlace | None = None

    @property
    def up(self) -> list[Host]:
        """The hosts that take work, in the order of their names, so equal ones are chosen alike in every run."""
        hosts = self._hosts
        return [hosts[name] for name in self.host_names if name in hosts and hosts[name].is_up]

    async def least_busy(self) -> Host:
        """The host that has the least to do, of equal ones that which holds the fewest actors; wait while there is none.

        Who gives it work counts that in ``out``. Not a checkpoint while there is one.

        Raises:
            PlaceUnavailable: there was none for ``start_timeout_s``.
        """
        best: Host | None = None
        for name in self.host_names:  # written out: this is done for every item
            host = self._hosts.get(name)
            if host is not None and host.is_up and (best is None or (host.out, host.held) < (best.out, best.held)):
                best = host
        return best if best is not None else min(await self._some(), key=lambda each: (each.out, each.held))

    @contextlib.asynccontextmanager
    async def house(self, code: ActorCode) -> AsyncGenerator[Host]:
        """The host that holds the fewest actors, of equal ones that which has the least to do; wait while there is none.

        It counts as holding one more while the block lasts.

        Raises:
            PlaceUnavailable: there was none for ``start_timeout_s``. HostRefused: it has other code. HostLost: it is gone.
        """
        host = min(await self._some(), key=lambda each: (each.held, each.out))
        host.held += 1
        try:
            if code.name not in host.codes:
                await self._compare(host, code)
            yield host
        finally:
            host.held -= 1

    async def _some(self) -> list[Host]:
        """The hosts that are up, at least one."""
        if not self.up:
            with trio.move_on_after(self.engine.start_timeout_s):
                while not self.up:
                    await self._changed.wait()
        up = self.up
        if not up:
            raise PlaceUnavailable(
                f"place {self.name!r} has had no host for start_timeout_s={self.engine.start_timeout_s:g}.\n"
                f"  Fix: see the events of 'places/{self.name}' for why its hosts do not start.",
                place=self.name,
            )
        return up

    async def _compare(self, host: Host, code: ActorCode) -> None:
        """Have a host look at the code of actors that are to live there."""
        try:
            answer, _ = unpacked(await host.link.call(packed({"op": "know", "code": code.name}), is_free=True))
        except HostLost:
            raise
        except Exception as error:
            raise self._rejected(host, f"it cannot find what makes the actors: {said(error)}", (code.name,)) from error
        wrong = differing(code.likeness(), answer["likeness"])
        if wrong:
            raise self._rejected(host, f"it has other code for {listed(wrong)}", wrong)
        host.codes.add(code.name)

    async def declare(self, graph: str, specs: list[NodeSpec]) -> None:
        """Nodes that will be called: each host that is up compares them with what it has, and later ones do at their start.

        Raises:
            HostRefused: one has other code.
        """
        new = {(graph, spec.name): spec for spec in specs}
        before = {key: self._nodes.get(key) for key in new}
        self._nodes.update(new)
        refusals: list[HostRefused] = []

        async def ask(host: Host) -> None:
            try:
                await self._acquaint(host, new)
            except HostRefused as error:
                refusals.append(error)

        try:
            async with trio.open_nursery() as nursery:
                for host in self.up:
                    nursery.start_soon(ask, host)
            if refusals:
                raise refusals[0]
        except BaseException:  # cancelled, too: what is not deployed must keep no host from starting again
            for key, spec in before.items():
                if spec is None:
                    self._nodes.pop(key, None)
                else:
                    self._nodes[key] = spec
            raise

    async def _acquaint(self, host: Host, nodes: Mapping[tuple[str, str], NodeSpec]) -> None:
        """Have a host look at `nodes`.

        Raises:
            HostRefused: it has other code, or cannot import it.
        """
        if not nodes:
            return
        told = [{"graph": graph, "node": node, "name": portable_name(handler_of(spec))} for (graph, node), spec in nodes.items()]
        try:
            answer, _ = unpacked(await host.link.call(packed({"op": "prepare", "nodes": told})))
        except HostLost:
            return  # the next one is asked at its start
        except Exception as error:
            words = error.text if isinstance(error, RemoteError) else said(error).partition("\n")[0]
            raise self._rejected(host, f"it cannot import the nodes of this place: {words}", ()) from error
        ours = {name: digest for spec in nodes.values() for name, digest in likeness(spec).items()}
        other = differing(ours, answer["likeness"])
        if other:
            raise self._rejected(host, f"it has other code for {listed(other)}", other)

    def _rejected(self, host: Host, why: str, names: tuple[str, ...] | list[str]) -> HostRefused:
        return HostRefused(
            f"host {host.name!r} of place {self.name!r} is not used: {why}.\n"
            "  Fix: install the same version of your code where the runtime and its hosts run.",
            place=self.name,
            host=host.name,
            differing=names,
        )

    # --- what its actors do -----------------------------------------------------------------------------------------------

    def invite(self, host: str) -> Invitation:
        """An invitation for the next start of `host`."""
        number, secret, pending = self._number(), secrets.token_bytes(32), partial(self._tell_pending, host)
        return Invitation(self.name, host, number, secret, self.engine.dead_after_s, self._watchdog_s, pending)

    def _tell_pending(self, host: str, needs: str, has: str) -> None:
        if self._events.wants(HostPending):
            self._events.publish(HostPending(place=self.name, host=host, needs=needs, has=has))

    def _tell_blocked(self, host: str, told: Mapping[str, Any]) -> None:
        """Code of a host has held its event loop; of a node, that has no address, the host's stands for it."""
        if self._events.wants(LoopBlocked):
            address = told["address"] or f"places/{self.name}/{host}"
            self._events.publish(LoopBlocked(address=address, task=told["task"], held_s=told["held_s"], stack=told["stack"]))

    @contextlib.contextmanager
    def opening(self, opened: OpenedPlace) -> Generator[None]:
        """Let what was opened start the hosts of this place while the block lasts."""
        self._opened = opened
        self._ring()
        try:
            yield
        finally:
            self._opened = None

    async def starter(self) -> StartsHosts:
        """What starts its hosts; wait while that is not open.

        Raises:
            PlaceUnavailable: it was not for ``start_timeout_s``.
        """
        if not isinstance(self.engine, SharedPlace):
            return self.engine
        with trio.move_on_after(self.engine.start_timeout_s):
            while self._opened is None:
                await self._changed.wait()
        if self._opened is None:
            raise PlaceUnavailable(
                f"place {self.name!r} has not been open for start_timeout_s={self.engine.start_timeout_s:g}.\n"
                f"  Fix: see the events of 'places/{self.name}/{OPENER}' for why.",
                place=self.name,
            )
        return self._opened

    def link_to(self, started: StartedHost, invitation: Invitation, lives: PlacedLives) -> Link:
        """The link to a host that was started, over which `lives` speak."""
        where = f"host {invitation.host!r} of place {self.name!r}"

        def lose(how: str, silent_s: float) -> HostLost:
            return HostLost(
                f"{where} is lost: {how}.\n"
                "  Fix: nothing, if it happens seldom: it is started again, and redelivery=Redelivery(…) makes further attempts.",
                place=self.name,
                host=invitation.host,
                how=how,
                silent_s=silent_s,
                incarnation=invitation.incarnation,
            )

        peer = Peer(trio.current_time(), window=self.engine.window)
        link = Link(started.stream, peer, where, lose)
        peer.greet(invitation.incarnation)
        link.cancel_grace_s = self.engine.cancel_grace_s
        grace_s = self.engine.cancel_grace_s

        def overstayed() -> None:
            started.kill()
            link.end(lose(f"what was cancelled there had not ended {grace_s:g} s later, so it was killed", 0.0))

        link.overstayed = overstayed
        link.hear, link.on_loss = lives.hear, lives.lost
        lives.blocked = partial(self._tell_blocked, invitation.host)
        return link

    async def carry(self, link: Link, invitation: Invitation, lives: PlacedLives) -> None:
        """Carry the link of a host until it is lost, which is an error and an event."""
        limit_s = self.engine.stuck_after_s
        try:
            await link.run(lives.serve, beat_s=min(1.0, limit_s / BEATS_IN), silent_after_s=limit_s)
        except HostLost as error:
            if link.greeted.is_set() and self._events.wants(HostLostEvent):
                self._events.publish(
                    HostLostEvent(
                        place=self.name,
                        host=invitation.host,
                        incarnation=invitation.incarnation,
                        how=error.how,
                        silent_s=error.silent_s,
                    )
                )
            raise

    async def welcome(self, link: Link, invitation: Invitation, lives: PlacedLives) -> Host:
        """Wait for the hello of a host, and let it take work.

        Raises:
            PlaceUnavailable: it said nothing in time. HostRefused: it is another process, or has other code.
        """
        with trio.move_on_after(self.engine.start_timeout_s):
            await link.greeted.wait()
        greeting = link.greeting
        if greeting is None:
            raise PlaceUnavailable(
                f"{link.name} has not said hello within start_timeout_s={self.engine.start_timeout_s:g}.\n"
                "  Fix: give it more time; or look for what it does when it imports your modules.",
                place=self.name,
            )
        head, secret = unpacked(greeting.body)
        host = Host(self.name, invitation.host, invitation.incarnation, link, lives=lives)
        if not hmac.compare_digest(secret, invitation.secret) or greeting.incarnation != invitation.incarnation:
            raise self._rejected(host, "it does not know the secret of its invitation", ())
        if head.get("protocol") != PROTOCOL:
            raise self._rejected(host, f"it speaks protocol {head.get('protocol')}, and this process {PROTOCOL}", ())
        known: dict[tuple[str, str], NodeSpec] = {}
        while new := {key: spec for key, spec in self._nodes.items() if known.get(key) is not spec}:
            known.update(new)  # others may be declared while it looks at these, and ask only the hosts that are up
            await self._acquaint(host, new)
        self._hosts[host.name] = host
        self._ring()
        if self._events.wants(HostStarted):
            self._events.publish(HostStarted(place=self.name, host=host.name, incarnation=host.incarnation))
        return host

    def forget(self, host: Host) -> None:
        """A host takes no more work."""
        if self._hosts.get(host.name) is host:
            del self._hosts[host.name]

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@final
class HostActor(Actor):
    """One host. The next incarnation is the next process, so restarts, backoff and budget are those of any actor."""

    def __init__(self, place: HostedPlace, name: str) -> None:
        self._place = place
        self._name = name
        self._host: Host | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Start the process, wait for its hello, and end it."""
        place = self._place
        invitation = place.invite(self._name)
        ended: BaseException | None = None
        starter = await place.starter()
        async with starter.start(self._name, invitation) as started:
            lives = PlacedLives()
            link = place.link_to(started, invitation, lives)
            self.context.nursery.start_soon(place.carry, link, invitation, lives)
            self.context.nursery.start_soon(self._watch, started, link)
            try:
                self._host = host = await place.welcome(link, invitation, lives)
                try:
                    yield
                finally:
                    place.forget(host)
            except BaseException as error:  # noqa: BLE001 - raised below: a nursery of the engine's would make a group of it
                link.is_closing = True
                started.kill()  # it may be well, and cut off: it must have ended before the next one starts
                ended = error
            link.is_closing = True
        if ended is not None:
            raise ended

    @staticmethod
    async def _watch(started: StartedHost, link: Link) -> None:
        """Its engine may know of its end before the link does."""
        gone = await started.gone()
        link.end(link.lose(gone.how, gone.silent_s))

    def describe(self) -> Mapping[str, Any]:
        """What it works on now."""
        host = self._host
        if host is None:
            return {}
        return {"place": host.place, "host": host.name, "incarnation": host.incarnation, "out": host.out, "held": host.held}

    async def receive(self, message: object) -> None:
        """Reject it."""
        raise UsageError(f"a host takes no messages. Got: {repr_of(message)}.\n  Fix: send it to an actor.")
