"""Conversations in memory: an actor per key gives turns, so the messages of one person have one order.

The actor is started by the first message and stops when nothing was said for a while; only what was said is kept then. It does
not run anything: who sends a message runs it, in its own task, with its own deadline and budget, once it has the turn.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Generic, cast, final

import attrs
import trio

from actors.actor import Actor, ActorRef, Reply, Request
from actors.checks import check_count, refuse
from actors.errors import ActorStopped, ConversationBusy, RunCancelled, UsageError
from actors.graphs.conversations import Policy, Turn
from actors.graphs.graph import Graph
from actors.graphs.options import check_timeout
from actors.restarts import RestartType
from actors.supervision import ChildSpec, supervisor_spec
from actors.typevars import In, Out
from actors.words import repr_of, said
from runtime.core.actor_cell import ActorCell
from runtime.core.events import DEFAULT_BUFFER, EventStream
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.engine import Engine
from runtime.graphs.events import AnyRunEvent
from runtime.graphs.record import RunStatus
from runtime.graphs.run import ActiveRun

KEEP: Final = 50
"""Turns that are kept unless the caller says otherwise."""
IDLE_S: Final = 60.0
"""Seconds after the last message until the actor of a conversation stops."""

Compact = Callable[[list[Turn]], Awaitable[list[Turn]]]
"""Makes fewer turns of many."""

_speaking: ContextVar[frozenset[Any]] = ContextVar("understudy_speaking", default=frozenset())
"""The conversations whose turn the caller has, directly or as a node of the run."""


@final
@attrs.frozen(eq=False)
class _Take(Request[None]):
    """Asks for the turn; answered when it has come. It is held until `released` is set."""

    released: trio.Event


@final
@attrs.frozen
class _Quiet:
    """Nothing has been said for a while."""


@final
class TurnKeeper(Actor):
    """Gives the turns of one conversation in the order in which they are asked for."""

    def __init__(self, idle_s: float, is_wanted: Callable[[], bool]) -> None:
        self._idle_s = idle_s
        self._is_wanted = is_wanted

    async def receive(self, message: _Take | _Quiet) -> None:
        """Give the turn and wait until it is given back; or stop."""
        if isinstance(message, _Take):
            reply: Reply[None] = self.context.reply_later()
            if reply.wanted:
                reply.send(None)
                await message.released.wait()
        elif not self._is_wanted():
            self.context.stop()
            return
        self.context.schedule_once(self._idle_s, _Quiet(), key="quiet")


@final
@attrs.define(eq=False)
class _Talk:
    """What is known of one conversation."""

    turns: tuple[Turn, ...] = ()
    ref: ActorRef[Any] | None = None
    run: ActiveRun | None = None
    """The run that has the turn."""
    waiting: int = 0
    """Messages that wait for the turn, or have it."""
    interruptions: int = 0
    merged: int = 0
    """Messages that were said into runs."""


@final
class Conversations:
    """All conversations of one runtime."""

    def __init__(
        self, root: SupervisorCell, engine: Engine, charging: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        """`charging` charges the runs that begin in its block to the runtime's budget."""
        self._root = root
        self.engine = engine
        self.charging = charging
        self._talks: dict[tuple[Graph, str], _Talk] = {}
        self._supervisor: SupervisorCell | None = None
        self._starting = trio.Lock()
        self._numbers = itertools.count(1)

    def of(
        self, graph: Graph[In, Out], key: str, policy: Policy, keep: int, compact: Compact | None, idle_s: float
    ) -> Conversation[In, Out]:
        """The conversation over `graph` that `key` names; see ``Runtime.conversation``."""
        if not isinstance(cast("object", graph), Graph) or not isinstance(cast("object", key), str) or not key:
            raise UsageError(
                f"conversation({repr_of(graph)}, key={repr_of(key)}): expected a graph and a key.\n"
                "  Fix: runtime.conversation(graph, key='user-7')."
            )
        if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("conversation", "policy", policy, "a member of Policy, such as Policy.ENQUEUE")
        check_count("conversation", "keep", keep)
        check_timeout("conversation", "idle_s", idle_s)
        return Conversation(self, graph, key, policy, keep, compact, idle_s)

    def known(self, name: tuple[Graph, str]) -> _Talk | None:
        """What is known of a conversation; None when nothing was said in it."""
        return self._talks.get(name)

    def talk(self, name: tuple[Graph, str]) -> _Talk:
        """What is known of a conversation that is about to go on."""
        return self._talks.setdefault(name, _Talk())

    def forget(self, name: tuple[Graph, str]) -> None:
        """Forget one, unless somebody speaks in it."""
        talk = self._talks.get(name)
        if talk is not None and not talk.waiting and not talk.turns:
            del self._talks[name]

    async def take(self, name: tuple[Graph, str], talk: _Talk, idle_s: float, released: trio.Event) -> None:
        """Wait for the turn."""
        while True:
            ref = talk.ref if talk.ref is not None else await self._start(name, talk, idle_s)
            try:
                return await ref.ask(_Take(released))
            except ActorStopped:  # it has just become quiet
                if talk.ref is ref:  # another may have started the next one
                    talk.ref = None

    async def _start(self, name: tuple[Graph, str], talk: _Talk, idle_s: float) -> ActorRef[Any]:
        async with self._starting:
            if talk.ref is not None:
                return talk.ref
            if self._supervisor is None or not self._supervisor.is_serving:
                free = "conversations"
                free = self._root.free_name(free) if free in self._root.children.cells else free
                started = await self._root.start_child(supervisor_spec(free, ()))
                assert isinstance(started, SupervisorCell), "a SupervisorSpec makes a supervisor"
                self._supervisor = started
            made = (idle_s, lambda: talk.waiting > 0)
            child = ChildSpec(f"{name[0].name}-{next(self._numbers)}", TurnKeeper, made, restart=RestartType.TEMPORARY)
            cell = await self._supervisor.start_child(child)
            assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
            talk.ref = cell.ref
            return cell.ref


@final
class Conversation(Generic[In, Out]):
    """The messages of one key, in one order. Made by ``Runtime.conversation``; cheap, and any number may stand for one key."""

    def __init__(
        self,
        owner: Conversations,
        graph: Graph[In, Out],
        key: str,
        policy: Policy,
        keep: int,
        compact: Compact | None,
        idle_s: float,
    ) -> None:
        self._owner = owner
        self._graph = graph
        self._key = key
        self._policy = policy
        self._keep = keep
        self._compact = compact
        self._idle_s = idle_s

    def __repr__(self) -> str:
        return f"<Conversation {self.key!r} over {self._graph.name!r}: {len(self.history)} turns>"

    @property
    def key(self) -> str:
        """Whose conversation it is."""
        return self._key

    @property
    def policy(self) -> Policy:
        """What becomes of a message that comes while an earlier one is worked on."""
        return self._policy

    @property
    def _name(self) -> tuple[Graph, str]:
        return (self._graph, self.key)

    @property
    def history(self) -> tuple[Turn, ...]:
        """What was said so far, oldest first; at most as many turns as are kept."""
        talk = self._owner.known(self._name)
        return () if talk is None else talk.turns

    @property
    def is_busy(self) -> bool:
        """Whether a message is worked on, or waits."""
        talk = self._owner.known(self._name)
        return talk is not None and talk.waiting > 0

    async def send(self, message: In) -> Out:
        """Run the graph on `message` when it is its turn, and return the output. Cancelled, its run is cancelled.

        Raises:
            ConversationBusy: another message is worked on, and the policy is ``REJECT``.
            RunCancelled: a later message has interrupted it.
            RunFailed: see ``Runtime.run``, as for all else.
        """
        merged = await self._merged(message)
        if merged is not None:
            output: Out = await merged.result()
            return output
        async with self._turn(message) as begun:
            with self._owner.charging():
                made: Out = await self._owner.engine.run(self._graph, message, math.inf, begun=begun)
        return made

    def stream(
        self, message: In, *, buffer: int = DEFAULT_BUFFER
    ) -> contextlib.AbstractAsyncContextManager[EventStream[AnyRunEvent[Out | None]]]:
        """Run the graph on `message` when it is its turn, as its events: see ``Runtime.stream``. The turn ends with the block."""
        return self._streamed(message, buffer)

    @contextlib.asynccontextmanager
    async def _streamed(self, message: In, buffer: int) -> AsyncGenerator[EventStream[Any]]:
        async with self._turn(message) as begun, contextlib.AsyncExitStack() as stack:
            with self._owner.charging():  # its start alone: the caller's block is not part of the run
                run = self._owner.engine.stream(self._graph, message, math.inf, buffer, begun=begun)
                events = await stack.enter_async_context(run)
            yield events

    async def forget(self) -> None:
        """Forget what was said, once no one speaks."""
        talk = self._owner.talk(self._name)
        async with self._held(talk):
            talk.turns = ()
        self._owner.forget(self._name)

    # --- turns ----------------------------------------------------------------------------------------------------------

    async def _merged(self, message: In) -> ActiveRun | None:
        """The run in progress that has taken `message`; None when there is none, or none has."""
        talk = self._owner.known(self._name)
        if self.policy is not Policy.MERGE or talk is None or talk.run is None:
            return None
        run = talk.run
        talk.merged += 1
        note = run.say(f"merged {talk.merged}", message)
        try:
            await run.over.wait()
        finally:
            if run.inbox is not None:
                run.inbox.withdraw(note.key)
        return run if note.taken_by is not None else None

    @contextlib.asynccontextmanager
    async def _turn(self, message: In) -> AsyncGenerator[Callable[[ActiveRun], None]]:
        """Hold the turn; yields what notes the run that is made of it. Afterwards the history has it."""
        talk = self._owner.talk(self._name)
        if self.policy is Policy.REJECT and talk.waiting:
            raise ConversationBusy(
                f"the conversation {self.key!r} works on another message, and its policy is REJECT.\n"
                "  Fix: wait for that one, or let messages wait: policy=Policy.ENQUEUE."
            )
        if self.policy is Policy.INTERRUPT:
            talk.interruptions += 1
            if talk.run is not None:
                talk.run.cancel(f"a later message of the conversation {self.key!r} has interrupted it")
        mine = talk.interruptions
        runs: list[ActiveRun] = []

        def begun(run: ActiveRun) -> None:
            runs.append(run)
            talk.run = run
            run.turns_before = talk.turns

        async with self._held(talk):
            if talk.interruptions > mine:
                talk.turns = (*talk.turns, Turn(message, error="interrupted before it began"))[-self._keep :]
                raise RunCancelled(f"a later message of the conversation {self.key!r} came before this one began.")
            try:
                yield begun
            finally:
                talk.run = None
                if runs:
                    await self._note(talk, message, runs[0])

    @contextlib.asynccontextmanager
    async def _held(self, talk: _Talk) -> AsyncGenerator[None]:
        name = self._name
        if name in _speaking.get():
            raise UsageError(
                f"the conversation {self.key!r} is waited for by a part of its own run: its turn would never come.\n"
                "  Fix: return what it is to go on with; or speak to another key."
            )
        released = trio.Event()
        talk.waiting += 1
        try:
            await self._owner.take(name, talk, self._idle_s, released)
            token = _speaking.set(_speaking.get() | {name})
            try:
                yield
            finally:
                _speaking.reset(token)
        finally:
            released.set()
            talk.waiting -= 1

    async def _note(self, talk: _Talk, message: In, run: ActiveRun) -> None:
        """Put what came of `message` into the history, and make room there."""
        is_whole = run.status is RunStatus.SUCCEEDED
        words = (
            None if is_whole else "cancelled" if run.status is RunStatus.CANCELLED else said(run.error or RunCancelled(""), 500)
        )
        talk.turns = (*talk.turns, Turn(message, run.output if is_whole else None, words, run.id))
        try:
            if len(talk.turns) > self._keep and self._compact is not None:
                talk.turns = tuple(await self._compact(list(talk.turns)))
        finally:
            talk.turns = talk.turns[-self._keep :]
