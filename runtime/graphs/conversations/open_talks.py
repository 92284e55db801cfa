"""The conversations of a runtime that someone speaks in: what is known of each, who has its turn, and what a store has of it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from actors.actor import ActorRef
from actors.errors import ActorStopped, UnderstudyError
from actors.graphs.graph import Graph
from actors.restarts import RestartType
from actors.supervision import ChildSpec, supervisor_spec
from runtime.core.actor_cell import ActorCell
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.conversations.talks import Take, Talk, TurnKeeper
from runtime.graphs.deployment import Deployment
from runtime.graphs.engine import Engine
from runtime.graphs.stored_talks import Accepted, StoredTalk, key_of
from runtime.journal.store import StoredRun

_LOG = logging.getLogger("understudy.runs")
KEEP: Final = 50
"""Turns that are kept unless the caller says otherwise."""
IDLE_S: Final = 60.0
"""Seconds after the last message until the actor of a conversation stops."""
_RETRY_S: Final = 0.05
"""How soon a conversation is looked at again that another part of this process opens or closes."""

Name = tuple[Graph[Any, Any], str]
"""A graph and a key."""


@final
class OpenTalks:
    """By graph and key. One is here from the first message until no one speaks any more and a store, if any, has all of it."""

    def __init__(
        self,
        root: SupervisorCell,
        engine: Engine,
        charging: Callable[[], contextlib.AbstractContextManager[None]],
        run_accepted: Callable[[Name, Talk, Accepted, float], Awaitable[None]],
    ) -> None:
        """`run_accepted` runs a message that an earlier process has accepted, once it has the turn; it stands in line already."""
        self._root = root
        self.engine = engine
        self.charging = charging
        self._run_accepted = run_accepted
        self._talks: dict[Name, Talk] = {}
        self._supervisor: SupervisorCell | None = None
        self._starting = trio.Lock()
        self._numbers = itertools.count(1)
        engine.take_talk = self._taken_up

    def known(self, name: Name) -> Talk | None:
        """What is known of a conversation; None when nothing was said in it."""
        return self._talks.get(name)

    async def opened(self, name: Name, keep: int, idle_s: float) -> Talk:
        """What is known of a conversation that is about to go on. A checkpoint only if it has to be read from a store."""
        talk = self._talks.setdefault(name, Talk())
        if self.engine.keeping is None or (talk.stored is not None and not talk.stored.is_lost):
            return talk
        deployment = await self.engine.deployment_of(name[0])
        while True:
            talk = self._talks.setdefault(name, Talk())  # it may have been closed, and put away, meanwhile
            talk.opening = talk.opening or trio.Lock()
            async with talk.opening:
                if self._talks.get(name) is not talk:
                    continue
                if talk.stored is not None and not talk.stored.is_lost:
                    return talk
                stored = await StoredTalk.opened(self.engine.keeping, deployment, name[1], keep)
                if stored is not None:
                    self._go_on(name, talk, stored, idle_s)
                    return talk
            await trio.sleep(_RETRY_S)

    async def _taken_up(self, deployment: Deployment[Any, Any], stored: StoredRun) -> None:
        """A conversation was this worker's before, or another's who is gone: what it has accepted goes on."""
        keeping = self.engine.keeping
        assert keeping is not None, "it was in a store"
        name = (deployment.graph, key_of(stored))
        talk = self._talks.setdefault(name, Talk())
        try:
            found = await StoredTalk.opened(keeping, deployment, name[1], KEEP, stored)
        except UnderstudyError as error:
            _LOG.warning("conversation %r cannot go on: %s", name[1], error)
            return
        assert found is not None, "it is this worker's"
        self._go_on(name, talk, found, IDLE_S)
        if not talk.waiting:
            await self._close(name)

    def _go_on(self, name: Name, talk: Talk, stored: StoredTalk, idle_s: float) -> None:
        """A conversation is open: what was accepted and has no turn stands first in line."""
        keeping = self.engine.keeping
        assert keeping is not None, "it was in a store"
        assert keeping.nursery is not None, "the store is open"
        talk.stored, talk.turns, talk.last = stored, stored.turns, max(talk.last, stored.last)
        for accepted in list(stored.pending.values()):
            talk.join(accepted.number)
            keeping.nursery.start_soon(self._run_accepted, name, talk, accepted, idle_s)

    def quiet(self, name: Name) -> None:
        """The actor of a conversation stops: what a store keeps is put away."""
        talk = self._talks.get(name)
        if talk is None:
            return
        talk.ref = None
        keeping = self.engine.keeping
        if talk.stored is not None and keeping is not None and keeping.nursery is not None:
            keeping.nursery.start_soon(self._close, name)

    async def _close(self, name: Name) -> None:
        talk = self._talks.get(name)
        if talk is None:
            return
        talk.opening = talk.opening or trio.Lock()
        async with talk.opening:
            if talk.waiting or talk.stored is None:
                return
            self._talks.pop(name, None)  # who comes now opens it again, and waits for the store
            await talk.stored.close()

    async def erase(self, name: Name, talk: Talk) -> None:
        """Forget what was said; the caller has the turn."""
        talk.turns = ()
        if talk.stored is None:
            return
        talk.opening = talk.opening or trio.Lock()
        async with talk.opening:
            waiting = list(talk.stored.pending.values())
            erased, talk.stored = talk.stored, None
            await erased.erase()
            if not waiting:
                return
            keeping = self.engine.keeping
            assert keeping is not None, "it was in a store"
            deployment = await self.engine.deployment_of(name[0])
            talk.stored = await StoredTalk.opened(keeping, deployment, name[1], waiting[0].keep)
            for accepted in waiting if talk.stored is not None else ():
                assert talk.stored is not None, "it was just created"
                talk.stored.accept(accepted.number, accepted.message, accepted.keep)

    def forget(self, name: Name) -> None:
        """Forget that there was one, unless somebody speaks in it."""
        talk = self._talks.get(name)
        if talk is not None and not talk.waiting and not talk.turns and talk.stored is None:
            del self._talks[name]

    async def take(self, name: Name, talk: Talk, idle_s: float, released: trio.Event) -> None:
        """Wait for the turn."""
        while True:
            ref = talk.ref if talk.ref is not None else await self._start(name, talk, idle_s)
            try:
                return await ref.ask(Take(released))
            except ActorStopped:  # it has just become quiet
                if talk.ref is ref:  # another may have started the next one
                    talk.ref = None

    async def _start(self, name: Name, talk: Talk, idle_s: float) -> ActorRef[Any]:
        async with self._starting:
            if talk.ref is not None:
                return talk.ref
            if self._supervisor is None or not self._supervisor.is_serving:
                free = "conversations"
                free = self._root.free_name(free) if free in self._root.children.cells else free
                started = await self._root.start_child(supervisor_spec(free, ()))
                assert isinstance(started, SupervisorCell), "a SupervisorSpec makes a supervisor"
                self._supervisor = started
            made = (idle_s, lambda: talk.waiting > 0, functools.partial(self.quiet, name))
            child = ChildSpec(f"{name[0].name}-{next(self._numbers)}", TurnKeeper, made, restart=RestartType.TEMPORARY)
            cell = await self._supervisor.start_child(child)
            assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
            talk.ref = cell.ref
            return cell.ref
