"""One incarnation of a placed actor, as the runtime sees it: what is said to it, what it asks, and the loss of its host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, final

import attrs

from actors.actor import ActorContext, Failure, Reply, Terminated
from actors.errors import InternalError, UnderstudyError
from actors.placement_errors import HostLost
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import current_cell, off_duty
from runtime.core.envelope import Wrapper
from runtime.placement.call_payloads import packed, unpacked, with_head
from runtime.placement.errands import Errands
from runtime.placement.link import Link
from runtime.placement.lm_calls import answer_lm
from runtime.placement.portable_errors import Tickets, failure_data, failure_of
from runtime.placement.visits import Visit

NOTHING: Final = b""


@final
class Ticked(Wrapper):
    """A message that a placed actor sends to itself when it is time: made over there, and kept here until then."""

    __slots__ = ("_code", "data", "key")

    def __init__(self, life: Life, key: int, data: bytes) -> None:
        self._code = life
        self.key = key
        """Which of its timers it is, as its host counts them."""
        self.data = data

    @property
    def content(self) -> object:
        """What its author sent."""
        return self._code.read(self.data)


def _no_one_hears(told: Mapping[str, Any]) -> None: ...


@final
class PlacedLives:
    """The placed actors that live on one host now, by the numbers under which it knows them; and the visits of runs there."""

    def __init__(self) -> None:
        self.by_number: dict[int, Life] = {}
        self.visits: dict[str, Visit] = {}
        self.blocked: Callable[[Mapping[str, Any]], None] = _no_one_hears
        """Told who has held the event loop of their host."""

    async def serve(self, number: int, body: bytes) -> bytes:
        """Do what one of them asks beside its handler, or what a dependency asks beside the calls of nodes."""
        head, data = unpacked(body)
        if "visit" in head:
            return await self._visit(head["visit"]).answer(head, data)
        life = self.by_number.get(head["actor"])
        if life is None:
            raise InternalError(f"a host asks in the name of actor {head['actor']}, which does not live there")
        current_cell.set(life.cell)
        off_duty.set(not head["duty"])
        return await life.answer(number, head, data)

    def hear(self, body: bytes) -> None:
        """Take what one of them tells."""
        head, data = unpacked(body)
        if "visit" in head:
            self._visit(head["visit"]).hear(head, data)
            return
        life = self.by_number.get(head.get("actor", -1))
        if life is not None:
            life.hear(head, data)
        elif head["op"] == "blocked":
            self.blocked(head)

    def _visit(self, name: str) -> Visit:
        visit = self.visits.get(name)
        if visit is None:
            raise InternalError(f"a host speaks for {name!r}, whose run is over")
        return visit

    def lost(self, error: HostLost) -> None:
        """Their host is gone."""
        for life in list(self.by_number.values()):
            life.crash(error)


@final
@attrs.define(eq=False)
class Life:
    """One incarnation of a placed actor."""

    number: int
    cell: ActorCell
    link: Link
    context: ActorContext
    _errands: Errands
    _lives: PlacedLives
    _tickets: Tickets = attrs.field(factory=Tickets)
    _replies: dict[int, Reply[Any]] = attrs.field(factory=dict[int, Reply[Any]])
    _is_over: bool = False
    _asks: bytes = b""
    """The head of nearly all that is said to it, as JSON."""
    _tells: bytes = b""

    def __attrs_post_init__(self) -> None:
        self._asks = b'{"op":"message","actor":%d,"asked":true}' % self.number
        self._tells = b'{"op":"message","actor":%d,"asked":false}' % self.number

    def read(self, data: bytes) -> Any:
        """A value that comes from the host."""
        return self._errands.read(data)

    def written(self, value: object, what: str) -> bytes:
        """A value for the host."""
        return self._errands.written(value, what)

    # --- what is said to it -----------------------------------------------------------------------------------------------

    async def begin(self, told: dict[str, Any], data: bytes) -> None:
        """Start it on its host; return once its lifespan was entered there.

        Raises:
            HostLost: the host is gone. And what its factory or its lifespan raised.
        """
        self._lives.by_number[self.number] = self
        try:
            await self._call(packed({"op": "start", "actor": self.number, **told}, data))
        except BaseException:
            self._forget()
            raise

    def told(self, message: Any, *, is_asked: bool, left_s: float) -> bytes:
        """`message` for :meth:`handle`; its sender waits for `left_s` seconds more.

        Raises:
            NotPortable: it cannot go there. MessageTooLarge: it has too many bytes.
        """
        head: dict[str, Any] = {"op": "message", "actor": self.number, "asked": is_asked}
        if left_s != math.inf:
            head["left_s"] = left_s  # not a time: clocks of machines are never compared
        if type(message) is Ticked:
            return packed({**head, "timer": message.key}, message.data)
        if type(message) is Terminated:
            data = NOTHING if message.error is None else failure_data(message.error)
            return packed({**head, "ended": [message.ref.address, message.reason.value]}, data)
        data = self.written(message, f"a message to {self.cell.address!r}")
        if left_s != math.inf:
            return packed(head, data)
        return with_head(self._asks if is_asked else self._tells, data)

    async def handle(self, body: bytes) -> Any:
        """Have it handle a message; what it answers, perhaps a ``Failure``.

        Raises:
            HostLost: the host is gone. And what the handler raised.
        """
        answer = await self._call(body)
        if not answer:
            return None
        told, data = unpacked(answer)
        return Failure(failure_of(data, self.link.name)) if "failure" in told else self.read(data)

    async def end(self, *, kill: bool, error: Exception | None) -> None:
        """End it there, with `error` for its lifespan if it has failed; return when it has ended, with all that it began."""
        try:
            head = {"op": "stop", "actor": self.number, "kill": kill, "failed": error is not None}
            await self._call(packed(head, NOTHING if error is None else failure_data(error)))
        except HostLost:
            pass
        finally:
            self._forget()

    def _forget(self) -> None:
        self._is_over = True
        self._lives.by_number.pop(self.number, None)

    async def _call(self, body: bytes) -> bytes:
        try:
            return await self.link.call(body, is_free=True, answer=self._answer_current)
        except Exception as error:
            original = self._tickets.original(error)
            if original is not None:
                raise original from original.__cause__  # what this side has raised itself, as it was
            raise

    # --- what it asks -----------------------------------------------------------------------------------------------------

    async def _answer_current(self, number: int, body: bytes) -> bytes:
        head, data = unpacked(body)
        try:
            return await self.answer(number, head, data)
        except Exception as error:
            self._tickets.keep(error)
            raise

    async def answer(self, number: int, head: dict[str, Any], data: bytes) -> bytes:
        """Do what it asks under `number`: in the task of its handler, or in another one."""
        if head["op"] == "lm":
            runtime = self._runtime
            lm = runtime.lm if head["model"] is None else runtime.lms[head["model"]]
            return await answer_lm(lm, head, data, partial(self.link.note, about=number))
        return await self._errands.do(head, data)

    # --- what it tells ----------------------------------------------------------------------------------------------------

    def hear(self, head: dict[str, Any], data: bytes) -> None:
        """Take what it tells; what is wrong with that is its failure."""
        token = current_cell.set(self.cell)
        try:
            self._hear(head, data)
        except UnderstudyError as error:
            self.crash(error)
        finally:
            current_cell.reset(token)

    def _hear(self, head: dict[str, Any], data: bytes) -> None:
        context = self.context
        match head["op"]:
            case "tell":
                self._errands.tell_nowait(head, data)
            case "timer":
                schedule: Callable[..., None] = context.schedule_every if head["every"] else context.schedule_once
                schedule(head["s"], Ticked(self, head["key"], data), head["key"])
            case "cancel":
                context.cancel(head["key"])
            case "heartbeat":
                context.heartbeat()
            case "watch":
                context.watch(self._errands.ref(head["to"]))
            case "unwatch":
                context.unwatch(self._errands.ref(head["to"]))
            case "finish":
                context.stop()
            case "stop":
                context.stop(self._errands.ref(head["to"]))
            case "fail":
                context.fail(failure_of(data, self.link.name))
            case "unhandled":
                envelope = self.cell.hand.envelope
                context.unhandled(envelope.message if envelope is not None else None)
            case "later":
                self._replies[head["key"]] = context.reply_later()
            case "reply":
                self._replies.pop(head["key"]).send(self.read(data))
            case "decline":
                self._replies.pop(head["key"]).fail(failure_of(data, self.link.name))
            case "publish":
                self._runtime.publish(self.read(data), topic=head["topic"], everywhere=head["everywhere"])
            case "subscribe" | "unsubscribe":
                kind = self._errands.code.type_named(head["kind"])
                getattr(self._runtime, head["op"])(kind, self._errands.ref(head["to"]), topic=head["topic"])
            case "over":
                self._end_of_it(head, data)
            case other:
                raise InternalError(f"a host tells {other!r}, which this release does not know")

    @property
    def _runtime(self) -> Any:
        return self.cell.services.facade

    def _end_of_it(self, head: dict[str, Any], data: bytes) -> None:
        """It has ended over there, although no one here wanted that."""
        if head["failed"]:
            self.crash(failure_of(data, self.link.name))
        else:
            self.context.stop()

    def crash(self, error: BaseException) -> None:
        """It has failed although its handler did not raise."""
        if not self._is_over:
            self._is_over = True
            self.cell.crash(error)
