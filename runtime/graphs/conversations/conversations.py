"""Conversations: an actor per key gives turns, so the messages of one person have one order.

The actor is started by the first message and stops when nothing was said for a while. It does not run anything: who sends
runs its message, in its own task, with its own deadline and budget, once it has the turn. In a runtime with a store a message is
accepted there before it waits, and what an earlier process has accepted goes on first; see ``runtime.graphs.stored_talks``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any, Generic, cast, final

import trio

from actors.argument_checks import check_count, rejected
from actors.errors import ConversationBusy, RunCancelled, UnderstudyError, UsageError
from actors.graphs.conversations import Policy, TooLong, Turn
from actors.graphs.graph import Graph
from actors.graphs.options import check_timeout
from actors.store_errors import StoreError
from actors.typevars import In, Out
from actors.words import repr_of, said
from runtime.core.events import DEFAULT_BUFFER, EventStream
from runtime.core.foreign_errors import failure_in
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.conversations.compacting import Compact, Compactor
from runtime.graphs.conversations.open_talks import Name, OpenTalks
from runtime.graphs.conversations.talks import Talk
from runtime.graphs.engine import Engine
from runtime.graphs.records.run_events import AnyRunEvent
from runtime.graphs.records.run_record import RunStatus
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.stored_talks import Accepted, read_talk, talk_id

_speaking: ContextVar[frozenset[Any]] = ContextVar("understudy_speaking", default=frozenset())
"""The conversations whose turn the caller has, directly or as a node of the run."""


@final
class Conversations:
    """All conversations of one runtime."""

    def __init__(
        self, root: SupervisorCell, engine: Engine, charging: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        """`charging` charges the runs that begin in its block to the runtime's budget."""
        self.open = OpenTalks(root, engine, charging, self._go_on)
        """What is known of those that someone speaks in, or spoke in lately."""

    def of(
        self,
        graph: Graph[In, Out],
        key: str,
        policy: Policy,
        keep: int,
        compact: Compact | Graph[TooLong, Any] | None,
        idle_s: float,
    ) -> Conversation[In, Out]:
        """The conversation over `graph` that `key` names; see ``Runtime.conversation``."""
        if not isinstance(cast("object", graph), Graph) or not isinstance(cast("object", key), str) or not key:
            raise UsageError(
                f"conversation({repr_of(graph)}, key={repr_of(key)}): expected a graph and a key.\n"
                "  Fix: runtime.conversation(graph, key='user-7')."
            )
        if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise rejected("conversation", "policy", policy, "a member of Policy, such as Policy.ENQUEUE")
        check_count("conversation", "keep", keep)
        check_timeout("conversation", "idle_s", idle_s)
        return Conversation(self.open, graph, key, policy, keep, Compactor(self.open.engine, compact), idle_s)

    async def _go_on(self, name: Name, talk: Talk, accepted: Accepted, idle_s: float) -> None:
        """Run what an earlier process has accepted, under the policy that lets everything have its turn."""
        compactor = Compactor(self.open.engine, None)
        one = Conversation[Any, Any](self.open, name[0], name[1], Policy.ENQUEUE, accepted.keep, compactor, idle_s)
        await one.go_on(talk, accepted.number, accepted.message)


@final
class Conversation(Generic[In, Out]):
    """The messages of one key, in one order. Made by ``Runtime.conversation``; cheap, and any number may stand for one key."""

    def __init__(
        self,
        owner: OpenTalks,
        graph: Graph[In, Out],
        key: str,
        policy: Policy,
        keep: int,
        compactor: Compactor,
        idle_s: float,
    ) -> None:
        self._owner = owner
        self._graph = graph
        self._key = key
        self._policy = policy
        self._keep = keep
        self._compactor = compactor
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
    def _name(self) -> Name:
        return (self._graph, self.key)

    @property
    def history(self) -> tuple[Turn, ...]:
        """What was said so far, oldest first; at most as many turns as are kept.

        In a runtime with a store: what is in memory, which is nothing while no one speaks; :meth:`load` reads it.
        """
        talk = self._owner.known(self._name)
        return () if talk is None else talk.turns

    async def load(self) -> tuple[Turn, ...]:
        """What was said so far, read from the store if it isn't in memory; oldest first.

        Raises:
            RunUndecodable: a turn cannot be read as its type any more. StoreError: the store failed.
        """
        keeping, talk = self._owner.engine.keeping, self._owner.known(self._name)
        if keeping is None or (talk is not None and talk.stored is not None):
            await trio.lowlevel.checkpoint()
            return self.history
        stored = await keeping.store.run(talk_id(self._graph.name, self.key))
        if stored is None:
            return ()
        deployment = await self._owner.engine.deployment_of(self._graph)
        return (await read_talk(keeping.store, stored.id, deployment.codec, stored.last_seq, self._keep)).turns

    @property
    def is_busy(self) -> bool:
        """Whether a message is worked on, or waits."""
        talk = self._owner.known(self._name)
        return talk is not None and talk.waiting > 0

    async def send(self, message: In) -> Out:
        """Run the graph on `message` when it is its turn, and return the output. Cancelled, its run is cancelled.

        With a store, the message is durable before it waits for its turn, and what came of it before this returns.

        Raises:
            ConversationBusy: another message is worked on, and the policy is ``REJECT``; or another worker has the conversation.
            RunCancelled: a later message has interrupted it.
            RunFailed: see ``Runtime.run``, as for all else.
            NotStorable: the runtime has a store, and `message` cannot be stored.
        """
        merged = await self._merged(message)
        if merged is not None:
            output: Out = await merged.result()
            return output
        talk = await self._owner.opened(self._name, self._keep, self._idle_s)
        async with self._turn(talk, message) as turn:
            made: Out = await self._run(turn, message)
        return made

    async def go_on(self, talk: Talk, number: int, message: In) -> None:
        """Run what an earlier process has accepted, and no one here waits for; it stands in line already."""
        with contextlib.suppress(UnderstudyError):
            async with self._turn(talk, message, number) as turn:
                await self._run(turn, message)

    async def _run(self, turn: _TurnTaken, message: In) -> Out:
        with self._owner.charging():
            turn.output = await self._owner.engine.run(self._graph, message, math.inf, turn.run_id, begun=turn.begun)
        made: Out = turn.output
        return made

    def stream(
        self, message: In, *, buffer: int = DEFAULT_BUFFER
    ) -> contextlib.AbstractAsyncContextManager[EventStream[AnyRunEvent[Out | None]]]:
        """Run the graph on `message` when it is its turn, as its events: see ``Runtime.stream``. The turn ends with the block."""
        return self._streamed(message, buffer)

    @contextlib.asynccontextmanager
    async def _streamed(self, message: In, buffer: int) -> AsyncGenerator[EventStream[Any]]:
        talk = await self._owner.opened(self._name, self._keep, self._idle_s)
        async with self._turn(talk, message) as turn, contextlib.AsyncExitStack() as stack:
            with self._owner.charging():  # its start alone: the caller's block is not part of the run
                run = self._owner.engine.stream(self._graph, message, math.inf, buffer, turn.run_id, begun=turn.begun)
                events = await stack.enter_async_context(run)
            yield events

    async def forget(self) -> None:
        """Forget what was said, once no one speaks; with a store, also what is stored of it, its runs included.

        Raises:
            StoreError: the store failed; the same call can be made again.
        """
        talk = await self._owner.opened(self._name, self._keep, self._idle_s)
        self._reject_own_turn()
        number = talk.join()
        try:
            async with self._held(talk, number):
                await self._owner.erase(self._name, talk)
        finally:
            talk.leave(number)
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
    async def _turn(self, talk: Talk, message: In, number: int | None = None) -> AsyncGenerator[_TurnTaken]:
        """Hold the turn; yields what notes the run that is made of it. Afterwards the history has it.

        With a `number`, the message was accepted before, and stands in line.
        """
        self._reject_own_turn()
        if number is None:
            self._make_way(talk)
        mine, is_new = talk.interruptions, number is None
        number = talk.join() if number is None else number
        has_begun = False
        try:
            if is_new and talk.stored is not None:
                await talk.stored.accept(number, message, self._keep).wait()
            async with self._held(talk, number):
                has_begun = True
                if talk.interruptions > mine:
                    await self._note(talk, number, Turn(message, error="interrupted before it began"))
                    raise RunCancelled(f"a later message of the conversation {self.key!r} came before this one began.")
                turn = _TurnTaken(talk, number)
                error: BaseException | None = None
                try:
                    yield turn
                except BaseException as raised:
                    error = raised
                    raise
                finally:
                    talk.run = None
                    ended = turn.ended(message, error)
                    if ended is not None:
                        await self._note(talk, number, ended)
                    elif not turn.goes_on and talk.stored is not None:
                        talk.stored.withdraw(number)
        finally:
            if talk.stored is not None and not has_begun:
                talk.stored.withdraw(number)
            talk.leave(number)

    def _make_way(self, talk: Talk) -> None:
        """Do what the policy says about messages that are worked on, or wait."""
        if self.policy is Policy.REJECT and talk.waiting:
            raise ConversationBusy(
                f"the conversation {self.key!r} works on another message, and its policy is REJECT.\n"
                "  Fix: wait for that one, or let messages wait: policy=Policy.ENQUEUE."
            )
        if self.policy is Policy.INTERRUPT:
            talk.interruptions += 1
            if talk.run is not None:
                talk.run.cancel(f"a later message of the conversation {self.key!r} has interrupted it")

    def _reject_own_turn(self) -> None:
        if self._name in _speaking.get():
            raise UsageError(
                f"the conversation {self.key!r} is waited for by a part of its own run: its turn would never come.\n"
                "  Fix: return what it is to go on with; or speak to another key."
            )

    @contextlib.asynccontextmanager
    async def _held(self, talk: Talk, number: int) -> AsyncGenerator[None]:
        released = trio.Event()
        try:
            await talk.wait_first(number)
            await self._owner.take(self._name, talk, self._idle_s, released)
            token = _speaking.set(_speaking.get() | {self._name})
            try:
                yield
            finally:
                _speaking.reset(token)
        finally:
            released.set()

    async def _note(self, talk: Talk, number: int, turn: Turn) -> None:
        """Put what came of a message into the history, and make room there."""
        talk.turns = (*talk.turns, turn)
        try:
            if talk.stored is not None:
                await talk.stored.note(number, [turn])
            if len(talk.turns) > self._keep:
                with self._owner.charging():
                    fewer = await self._compactor.fewer(talk.turns, self._keep)
                if fewer is not None:
                    talk.turns = fewer
                    if talk.stored is not None:
                        await talk.stored.note(number, fewer, is_all=True)
        finally:
            talk.turns = talk.turns[-self._keep :]


@final
class _TurnTaken:
    """The turn of one message, and the run that is made of it."""

    def __init__(self, talk: Talk, number: int) -> None:
        self._talk = talk
        self._run: ActiveRun | None = None
        self.run_id = None if talk.stored is None else talk.stored.run_id(number)
        self.output: Any = None

    def begun(self, run: ActiveRun) -> None:
        """The run is about to begin."""
        self._run = self._talk.run = run
        run.turns_before = self._talk.turns

    @property
    def goes_on(self) -> bool:
        """Whether the run was handed back to the store, and so goes on in another life."""
        return self._run is not None and self._run.is_handed_back

    def ended(self, message: Any, error: BaseException | None) -> Turn | None:
        """What came of it; None if nothing did, or if the run goes on in another life."""
        run = self._run
        if error is None and self.output is not None:
            return Turn(message, self.output, None, self.run_id or ("" if run is None else run.id))
        if run is None:  # it did not begin here: it was over already, or no one wants it any more
            failure = None if error is None else failure_in(error)
            if failure is None or isinstance(failure, StoreError) or self.run_id is None:
                return None
            return Turn(message, None, said(failure, 500), self.run_id)
        if run.is_handed_back:
            return None
        if run.status is RunStatus.SUCCEEDED:
            return Turn(message, run.output, None, run.id)
        is_cancelled = run.status is RunStatus.CANCELLED
        return Turn(message, None, "cancelled" if is_cancelled else said(run.error or RunCancelled(""), 500), run.id)
