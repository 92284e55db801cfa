"""The actors that live on a host: each is a landed cell here, whose mailbox has one message at most."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.actor import ActorContext, Failure, StopReason, Terminated
from actors.argument_checks import COROUTINE
from actors.errors import InternalError, UsageError
from actors.mailbox import MailboxSpec
from actors.placement_errors import MessageTooLarge, NotPortable
from actors.restarts import RestartType
from actors.supervision import ChildSpec, Directive
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.duty import on_duty
from runtime.core.envelope import Envelope, Wrapper
from runtime.core.foreign_errors import failure_in
from runtime.core.incarnation import Exit, Start
from runtime.core.mailbox import message_kind
from runtime.core.refs import not_awaited
from runtime.core.services import Services
from runtime.placement.actor_codes import ActorCode
from runtime.placement.call_payloads import LENGTH_BYTES, packed, unpacked
from runtime.placement.host.hosted_context import HostedContext
from runtime.placement.host.remote_refs import HostAddresses, RemoteRef, speaking
from runtime.placement.host.runtime_face import HostedRuntime
from runtime.placement.link import Hear, Link
from runtime.placement.portable_errors import failure_data, failure_of
from runtime.placement.protocol import End

FindActor = Callable[[str], Any]
"""What makes actors, by the name of its code."""
_MESSAGE: Final = b'{"op":"message",'
"""How the head begins of what is said to an actor."""
RunBeside = Callable[..., None]
"""Runs an async function in the nursery of the host."""


@final
class Stage:
    """The placed actors of one host."""

    def __init__(self, link: Link, find: FindActor, fence: int, run_beside: RunBeside) -> None:
        self.link = link
        self.fence = fence
        self.run_beside = run_beside
        self.addresses = HostAddresses()
        self.services = Services(random.Random(), around_receive=self._around, placed=_not_from_here)
        self.services.facade = HostedRuntime()
        self._find = find
        self._codes: dict[str, ActorCode] = {}
        self._residents: dict[int, LocalResident] = {}
        self._by_address: dict[str, LocalResident] = {}
        self._keeps_time = False

    def know(self, name: str) -> bytes:
        """Find the code of actors; how alike it is to the runtime's, it decides."""
        code = self._codes[name] = ActorCode(self._find(name))
        return packed({"likeness": code.likeness()})

    async def serve(self, number: int, head: Mapping[str, Any], data: bytes) -> bytes:
        """Do what the runtime wants of an actor."""
        if head["op"] == "start":
            await self._start(number, head, data)
            return b""
        resident = self._resident(head["actor"])
        try:
            await resident.stop(number, head, data)
        finally:
            self._forget(resident)
        return b""

    def take(self, number: int, body: bytes) -> Callable[[], None] | None:
        """Put a message into the mailbox of its actor, whose handler settles the call; see ``Link.take``."""
        if not body.startswith(_MESSAGE, LENGTH_BYTES):
            return None
        head, data = unpacked(body)
        return self._resident(head["actor"]).message(number, head, data)

    def _resident(self, number: int) -> LocalResident:
        resident = self._residents.get(number)
        if resident is None:
            raise InternalError(f"no actor {number} lives here")
        return resident

    async def _start(self, number: int, head: Mapping[str, Any], data: bytes) -> None:
        if not self._keeps_time:
            self._keeps_time = True
            self.run_beside(self.services.timekeeper.run)
        resident = LocalResident(self, self._codes[head["code"]], head)
        self._residents[resident.number] = self._by_address[resident.address] = resident
        try:
            await resident.start(number, data)
        except BaseException:
            self._forget(resident)
            raise

    def _forget(self, resident: LocalResident) -> None:
        self._residents.pop(resident.number, None)
        if self._by_address.get(resident.address) is resident:
            del self._by_address[resident.address]

    async def close(self) -> None:
        """End all of them, now."""
        with trio.CancelScope(shield=True):
            for resident in list(self._residents.values()):
                await resident.kill()

    def _around(self, address: str, handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        resident = self._by_address.get(address)
        return handler if resident is None else partial(resident.handle, handler)


def _not_from_here(spec: ChildSpec) -> ChildSpec:
    raise UsageError(
        f"{spec.id!r} has place={spec.place!r}, and who spawns it lives within a placed actor, where its children live with it.\n"
        "  Fix: leave place out; or await self.context.runtime.spawn(…, place=…), which starts it beside the others."
    )


@final
@attrs.define(eq=False)
class SentByRuntime(Wrapper):
    """A message of the runtime, and what becomes of it here; a ``Slot``, too."""

    message: Any
    number: int
    """That of the call which brought it."""
    is_asked: bool
    timer: int | None
    ended: Callable[[SentByRuntime], None]
    """Called when nothing here holds the message any more."""
    deadline: float = math.inf
    value: Any = None
    failure: BaseException | None = None
    is_answered: bool = False
    """Whether the handler has come to its end."""
    is_taken: bool = False
    """See ``hosted_context.HostedMessage``."""
    is_withdrawn: bool = False
    is_over: bool = False

    @property
    def content(self) -> object:
        """What its author sent."""
        return self.message

    def succeed(self, value: Any) -> None:
        """See ``Slot``: what the handler has returned is kept already."""

    def fail(self, error: Exception) -> None:
        """See ``Slot``."""
        self.failure = self.failure or error

    def released(self) -> None:
        """See ``Slot``."""
        if not self.is_over:
            self.is_over = True
            self.ended(self)


@final
class LocalResident:
    """One placed actor on its host: ``Overseer`` of its cell, ``Resident`` for its context."""

    def __init__(self, stage: Stage, code: ActorCode, head: Mapping[str, Any]) -> None:
        self.number: int = head["actor"]
        self.address: str = head["address"]
        self.incarnation: int = head["incarnation"]
        self.parent: str | None = head["parent"]
        self.fence: int = head["fence"] or stage.fence
        self.models: dict[str | None, str] = dict(head["models"])
        self.current_message: SentByRuntime | None = None
        self._stage = stage
        self._code = code
        self._shutdown_s = math.inf if head["shutdown_s"] is None else head["shutdown_s"]
        self._cell: ActorCell | None = None
        self._context: HostedContext | None = None
        self._exit: Exit | None = None
        self._exited = trio.Event()
        self._failure: BaseException | None = None
        """With which its last message has failed, until the runtime has decided what follows."""
        self._decided = trio.Event()
        self._call = 0
        """The call of the runtime that its task works on."""
        self._is_wanted = True

    @property
    def cell(self) -> ActorCell:
        """Its cell here."""
        assert self._cell is not None, "it was started"
        return self._cell

    # --- what the runtime wants -------------------------------------------------------------------------------------------

    async def start(self, number: int, data: bytes) -> None:
        """Make it, and enter its lifespan.

        Raises:
            Exception: its factory or its lifespan raised.
        """
        token = speaking.set(self)
        try:
            args = self._code.all_read(data, self._stage.addresses)
            spec = ChildSpec(
                self.address.rpartition("/")[2],
                self._code.factory,
                tuple(args),
                restart=RestartType.TEMPORARY,
                shutdown_s=self._shutdown_s,
                mailbox=MailboxSpec(capacity=math.inf),
            )
            self._cell = cell = ActorCell(self._stage.services, self.address, self, spec, self._make_context)
        finally:
            speaking.reset(token)
        start = Start(adopts=True)
        self._call = number
        try:
            cell.launch(self._stage.run_beside, start)
            await start.wait(partial(cell.request_stop, kill=True))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._exited.wait()
            raise
        finally:
            self._call = 0

    def _make_context(self, cell: ActorCell) -> HostedContext:
        self._context = HostedContext(self, cell)
        return self._context

    def message(self, number: int, head: Mapping[str, Any], data: bytes) -> Callable[[], None]:
        """Have it handle a message, whose outcome settles the call; returns what withdraws it. No task waits for it here."""
        self._failure = None
        self._decided.set()
        now_s = trio.current_time()
        sent = SentByRuntime(self._content(head, data), number, head["asked"], head.get("timer"), self._message_ended)
        if "left_s" in head:
            sent.deadline = now_s + head["left_s"]
        envelope = Envelope(sent, None, sent, now_s, sent.deadline)
        self.cell.mailbox.put_nowait(envelope)
        return partial(self._withdraw, sent, envelope)

    def _withdraw(self, sent: SentByRuntime, envelope: Envelope) -> None:
        """The runtime no longer waits for it."""
        sent.is_withdrawn = True
        if self._call == sent.number:
            self._call = 0  # what it still says is no part of that call, which is over there
        if sent.is_over:
            self._stage.link.settle(sent.number, End.ENDED)
        else:
            envelope.withdraw()

    def _message_ended(self, sent: SentByRuntime) -> None:
        """Nothing here holds a message any more."""
        link, number = self._stage.link, sent.number
        if sent.is_withdrawn:
            link.settle(number, End.ENDED)
        elif not sent.is_answered and trio.current_time() >= sent.deadline:
            return  # the runtime has the same deadline, and is about to say so
        elif sent.failure is not None:
            link.settle(number, End.ERROR, failure_data(failure_in(sent.failure) or sent.failure))
        elif sent.is_taken or sent.value is None:
            link.settle(number, End.VALUE)
        else:
            try:
                body = self._answer(sent.value)
            except Exception as error:  # noqa: BLE001 - the runtime is told
                link.settle(number, End.ERROR, failure_data(error))
            else:
                link.settle(number, End.VALUE, body)

    def _content(self, head: Mapping[str, Any], data: bytes) -> Any:
        if "ended" in head:
            address, reason = head["ended"]
            return Terminated(RemoteRef(address), StopReason(reason), failure_of(data, "the runtime") if data else None)
        return self.read(data)

    def _answer(self, value: Any) -> bytes:
        if type(value) is Failure:
            return packed({"failure": True}, failure_data(value.error))
        try:
            return packed({}, self.written(value, f"what {self.address!r} answers"))
        except (NotPortable, MessageTooLarge) as error:
            return packed({"failure": True}, failure_data(error))

    async def stop(self, number: int, head: Mapping[str, Any], data: bytes) -> None:
        """End it.

        Raises:
            Exception: its clean-up failed.
        """
        self._is_wanted = False
        told = self._failure
        if told is None and head["failed"]:
            told = failure_of(data, "the runtime")
        self._call = number
        try:
            if told is not None and head["failed"]:
                self.cell.crash(told)
            else:
                self.cell.request_stop(kill=head["kill"])
            await self._exited.wait()
        except trio.Cancelled:
            self._call = 0
            await self.kill()
            raise
        finally:
            self._call = 0
        ended = None if self._exit is None else self._exit.error
        if ended is not None and ended is not told:
            raise ended

    async def kill(self) -> None:
        """End it now; wait for its clean-up."""
        self._is_wanted = False
        with trio.CancelScope(shield=True):
            if self._cell is not None and not self._exited.is_set():
                self._cell.request_stop(kill=True)
                await self._exited.wait()

    # --- its handler ------------------------------------------------------------------------------------------------------

    async def handle(self, receive: Callable[[Any], Awaitable[Any]], message: Any) -> Any:
        """What its handler does with a message: of the runtime, or of what lives here with it."""
        if type(message) is not SentByRuntime:
            if self._failure is not None:
                await self._decided.wait()
            return await receive(message)
        if message.timer is not None and self._context is not None and not self._context.timer_came(message.timer):
            message.is_answered = True
            return None
        self.current_message, self._call = message, message.number
        try:
            value = await receive(message.message)
            if type(value) is COROUTINE:
                value = Failure(not_awaited(value, f"answer of {self.address!r} to {message_kind(message)}"))
            message.value = value
            message.is_answered = True
        except BaseException as error:
            failure = failure_in(error)
            if failure is None:
                raise
            self._failure = message.failure = failure
            message.is_answered = True
            self._decided = trio.Event()
        finally:
            self.current_message = None
            self._call = 0
        return None

    # --- Speaker ----------------------------------------------------------------------------------------------------------

    @property
    def spawner(self) -> ActorContext | None:
        """See ``Speaker.spawner``."""
        return self._context

    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """See ``Speaker.ask``: as part of the call that its task works on, or beside it."""
        about, duty = self._duty()
        body = packed({**head, "actor": self.number, "duty": duty}, data)
        return await self._stage.link.call(body, about=about, is_free=True, hear=hear)

    def _duty(self) -> tuple[int, bool]:
        cell = on_duty()
        if cell is None:
            return 0, False
        if cell is self._cell:
            return self._call, True
        return 0, self._waits_for(cell)

    def _waits_for(self, child: Cell) -> bool:
        """Whether its handler waits for one of those that live here with it."""
        todo: list[Any] = list(self.cell.asking)
        seen: set[int] = set()
        while todo:
            each = todo.pop()
            if each is child:
                return True
            if id(each) not in seen:
                seen.add(id(each))
                todo += each.awaits()
        return False

    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """See ``Speaker.tell``."""
        self._stage.link.note(packed({**head, "actor": self.number}, data))

    def written(self, value: object, what: str) -> bytes:
        """See ``Speaker.written``."""
        return self._code.written(value, what, self._stage.addresses)

    def read(self, data: bytes) -> Any:
        """See ``Speaker.read``."""
        return self._code.read(data, self._stage.addresses)

    def check_type(self, name: str) -> None:
        """See ``Speaker.check_type``."""
        self._code.type_named(name)

    # --- Overseer ---------------------------------------------------------------------------------------------------------

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002 - the word of the field
        """It has ended here: if no one wanted that, the runtime is told."""
        start = cell.take_start()
        cell.end(StopReason.FAILED if exit.error is not None else StopReason.STOPPED, exit.error)
        self._exit = exit
        self._exited.set()
        if start is not None:
            start.fail(exit.error or UsageError(f"{self.address!r} was stopped while it started.\n  Fix: none."))
        elif self._is_wanted:
            data = b"" if exit.error is None else failure_data(exit.error)
            self.tell({"op": "over", "failed": exit.error is not None}, data)

    def child_ended(self, cell: Cell) -> None:
        """Nothing to forget."""

    def directive(self, error: BaseException) -> Directive:
        """What fails besides its handler ends it."""
        return Directive.ESCALATE

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in the nursery of the host."""
        self._stage.run_beside(function, *args)
