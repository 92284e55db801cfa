"""The current message of an actor: what becomes of it on every way out, and of what was set aside or promised an answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from actors.actor import Failure
from actors.argument_checks import COROUTINE
from actors.errors import ActorFailed, AskCycle, MailboxFull, Unhandled, UsageError
from actors.restarts import Redelivery
from actors.words import said
from runtime.core.cell import Cell
from runtime.core.dead_letters import DeadReason
from runtime.core.declared_answers import may_be_none
from runtime.core.envelope import Envelope, Holder, OneShot
from runtime.core.events import MessageRedelivering
from runtime.core.incarnation import Exit, ExitKind
from runtime.core.mailbox import Mailbox, message_kind
from runtime.core.refs import Ask, not_awaited
from runtime.core.stash import Deferred, LocalReply, Redeliveries, Stash
from runtime.core.tracebacks import raised_at, trim


@final
class Hand:
    """The one message that an actor handles, and those beside its mailbox: stashed, promised an answer, or to be handled again.

    Invariant: the holder of the current message is this object until the handler has returned, or has stashed the message,
    promised its answer or forwarded it. So who holds the message afterwards tells what the handler did with it.
    """

    __slots__ = (
        "_deferred",
        "_redeliveries",
        "_redelivery",
        "_stash",
        "cell",
        "envelope",
        "failed",
        "handled",
        "mailbox",
        "owns_mailbox",
        "work",
    )

    def __init__(self, cell: Cell, mailbox: Mailbox, redelivery: Redelivery, *, owns_mailbox: bool) -> None:
        self.cell = cell
        self.mailbox = mailbox
        self.owns_mailbox = owns_mailbox
        """Whether no other actor takes messages from the mailbox, so it closes with this one."""
        self.envelope: Envelope | None = None
        """The current message; set by the loop that handles messages."""
        self.work: trio.CancelScope | None = None
        """The scope in which messages are handled, and which ends the handling of one that is withdrawn."""
        self.handled = self.failed = 0
        self._redelivery = redelivery
        # Most actors never need these three; an idle one weighs a tenth less without.
        self._stash: Stash | None = None
        self._deferred: Deferred | None = None
        self._redeliveries: Redeliveries | None = None

    # --- while it is handled ----------------------------------------------------------------------------------------------

    async def answer(self, receive: Callable[[Any], Awaitable[Any]], envelope: Envelope) -> Any:
        """Handle a message whose sender waits, within its deadline."""
        work = self.work
        if envelope.deadline == math.inf or work is None:
            return await receive(envelope.message)
        work.deadline = envelope.deadline
        try:
            return await receive(envelope.message)
        finally:
            work.deadline = math.inf

    def has_used_up_scope(self) -> bool:
        """Whether ``work`` was cancelled, though a handler did not let that pass: the next message needs another.

        To be asked after a message that was withdrawn or had a deadline: nothing else cancels the scope, and to ask it costs a
        look at the clock.
        """
        return self.work is None or self.work.cancel_called

    def withdrawn(self, envelope: Envelope) -> None:
        """The sender of the current message no longer wants it handled (see ``Envelope.withdraw``)."""
        if envelope is self.envelope:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the handling of the current message, or the wait for one."""
        if self.work is not None:
            self.work.cancel()

    def release(self) -> None:
        """The handling was cancelled, because the message was withdrawn or its deadline has passed."""
        envelope, self.envelope = self.envelope, None
        if envelope is None or envelope.holder is not self:
            return
        envelope.holder = None
        if envelope.withdrawn:
            self._let_out(envelope)
        else:  # its deadline has passed, yet its sender may wait on: it had moved its own deadline since
            late = ActorFailed(
                f"{self.cell.address!r} did not answer {message_kind(envelope.message)} by the deadline it was sent with.\n"
                "  Fix: ask under a later deadline.",
                address=self.cell.address,
            )
            envelope.give_up(late)

    # --- it was handled ---------------------------------------------------------------------------------------------------

    def conclude(self, envelope: Envelope, value: Any) -> None:
        """The handler has returned `value`."""
        if type(value) is COROUTINE:
            value = Failure(not_awaited(value, f"answer of {self.cell.address!r} to {message_kind(envelope.message)}"))
        if envelope.holder is self:
            envelope.holder = None
            self.handled += 1
            if envelope.slot is None:
                if type(value) is Failure:
                    self._reject(envelope, value.error)
            elif value is None and not may_be_none(envelope.message):
                self._file_unhandled(
                    envelope,
                    f"{self.cell.address!r} answered {message_kind(envelope.message)} with None, which isn't an answer to it.",
                )
            else:
                self._reply(envelope, value)
        elif envelope.holder is None or (envelope.holder is not self._stash and envelope.holder is not self.mailbox):
            self.handled += 1  # its reply was promised, or sent already

    def _reply(self, envelope: Envelope, value: Any) -> None:
        slot = envelope.slot
        if type(value) is Failure:
            self._reject(envelope, value.error)
            return
        if slot is None:
            return
        if isinstance(slot, OneShot) and slot.abandoned:
            self._file_late(envelope, value)
        else:
            slot.succeed(value)
        slot.released()

    def _file_late(self, envelope: Envelope, value: Any) -> None:
        if value is not None:
            late = Envelope(value, self.cell.address, None, trio.current_time())
            self.cell.services.dead_letters.add(envelope.sender or "(asker)", DeadReason.LATE_REPLY, late)

    def _reject(self, envelope: Envelope, error: Exception) -> None:
        """Answer with `error`; if no task waits for the answer, it is a dead letter."""
        slot = envelope.slot
        if slot is None or (isinstance(slot, OneShot) and slot.abandoned):
            self.cell.services.dead_letters.add(self.cell.address, DeadReason.FAILED, envelope, error)
        envelope.give_up(self._failure(envelope, error))

    def _file_unhandled(self, envelope: Envelope, what: str) -> None:
        error = Unhandled(
            f"{what}\n  Fix: let receive() have a case for it that returns an answer, or send it to an actor that has one.",
            address=self.cell.address,
        )
        self.cell.services.dead_letters.add(self.cell.address, DeadReason.UNHANDLED, envelope, error)
        envelope.give_up(error)

    # --- it was not -------------------------------------------------------------------------------------------------------

    def settle(self, exit: Exit, *, revives: bool) -> None:  # noqa: A002
        """Decide about the current message and the promised answers, after the supervisor has decided about the cell.

        `revives`: whether another incarnation follows, which may be given the message again.
        """
        envelope, self.envelope = self.envelope, None
        if envelope is not None and envelope.holder is not self.mailbox:
            self._take_back(envelope)
            self._settle_current(envelope, exit, revives=revives)
        for promised in self._deferred.drain() if self._deferred is not None else ():
            if exit.error is None or exit.kind is ExitKind.FATAL:
                promised.give_up(self.mailbox.stopped_error(promised, begun=True))
            else:
                promised.give_up(self._failure(promised, exit.error))

    def _settle_current(self, envelope: Envelope, exit: Exit, *, revives: bool) -> None:  # noqa: A002
        envelope.holder = None
        if exit.error is None or exit.kind is ExitKind.FATAL:
            if envelope.withdrawn:
                self._let_out(envelope)
            else:
                self.mailbox.bury(envelope, begun=True)
            return
        envelope.last_error = exit.error
        if envelope.withdrawn:
            self._let_out(envelope)
        elif (revives or not self.owns_mailbox) and self._redelivery.wants(exit.error, envelope.attempt):
            self.failed += 1
            self._redeliver(envelope, exit.error)
        else:
            self._give_up(envelope, exit.error)

    def settle_unless_redelivered(self, error: BaseException) -> None:
        """Fail the current message with `error` now, if no other attempt can follow: its asker need not wait any longer."""
        envelope = self.envelope
        if envelope is not None and not envelope.withdrawn and not self._redelivery.wants(error, envelope.attempt):
            self.envelope = None
            self._take_back(envelope)
            self._give_up(envelope, error)

    def _take_back(self, envelope: Envelope) -> None:
        """Take a failed message back from wherever its handler had put it."""
        if self._stash is not None:
            self._stash.take(envelope)
        if self._deferred is not None:
            self._deferred.take(envelope)

    @staticmethod
    def _let_out(envelope: Envelope) -> None:
        if envelope.slot is not None:
            envelope.slot.released()

    def _give_up(self, envelope: Envelope, error: BaseException) -> None:
        self.failed += 1
        self.cell.services.dead_letters.add(self.cell.address, DeadReason.FAILED, envelope, error)
        envelope.give_up(self._failure(envelope, error))

    def _failure(self, envelope: Envelope, error: BaseException) -> ActorFailed:
        tries = f" (attempt {envelope.attempt} of {self._redelivery.max_attempts})" if envelope.attempt > 1 else ""
        what = f"{message_kind(envelope.message)}{tries}"
        failure = ActorFailed(
            f"{self.cell.address!r} failed while it handled {what}: {said(error)}{raised_at(error)}",
            address=self.cell.address,
        )
        failure.__cause__ = trim(error)
        return failure

    def _redeliver(self, envelope: Envelope, error: BaseException) -> None:
        delay_s = self._redelivery.backoff.delay_s(envelope.attempt - 1, self.cell.services.rng)
        envelope.attempt += 1
        if self.cell.services.events.wants(MessageRedelivering):
            self.cell.services.events.publish(
                MessageRedelivering(
                    address=self.cell.address,
                    incarnation=self.cell.incarnation,
                    attempt=envelope.attempt,
                    delay_s=delay_s,
                    error=error,
                )
            )
        if self._redeliveries is None:
            self._redeliveries = Redeliveries(self.cell.services, self.mailbox)
        self._redeliveries.put(envelope, delay_s)

    def resume_after(self, error: BaseException, envelope: Envelope) -> None:
        """The incarnation goes on in spite of `error`, and without the message that met it."""
        self._take_back(envelope)
        self._give_up(envelope, error)

    def put_back(self) -> None:
        """The incarnation has ended: what it had set aside goes back. ``settle`` decides about the current message."""
        self.work = None
        if self._stash is not None:
            if self.envelope is not None:
                self._stash.take(self.envelope)
            self._stash.empty_into(self.mailbox)

    def close(self) -> None:
        """The actor is gone permanently: turn away what waits."""
        if not self.owns_mailbox:
            return  # what waits for another attempt goes on waiting, and then comes to the others
        for envelope in self._redeliveries.drain() if self._redeliveries is not None else ():
            self.mailbox.bury(envelope)
        self.mailbox.close()

    # --- what its handler asks for ----------------------------------------------------------------------------------------

    @property
    def is_asked(self) -> bool:
        """Whether a task waits for the answer to the current message."""
        return self.envelope is not None and self.envelope.slot is not None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits, is handled, is set aside, is owed an answer, or is to be handled again."""
        return not (
            self.load
            or self._stash
            or (self._deferred and self._deferred.owes)
            or (self._redeliveries and len(self._redeliveries))
        )

    @property
    def left_s(self) -> float:
        """Seconds that the asker of the current message goes on waiting; ``math.inf`` without a deadline."""
        envelope = self.envelope
        return math.inf if envelope is None or envelope.deadline == math.inf else envelope.deadline - trio.current_time()

    @property
    def load(self) -> int:
        """Messages that wait or are being handled."""
        return len(self.mailbox) + (self.envelope is not None)

    def stash(self) -> None:
        """Set the current message aside."""
        envelope = self._current("stash()")
        if self._stash is None:
            self._stash = Stash(self.cell.address, self.mailbox.capacity)
        self._stash.put(envelope)

    def unstash_all(self) -> None:
        """Put back what was set aside."""
        if self._stash is not None:
            self._stash.empty_into(self.mailbox)

    def reply_later(self) -> LocalReply:
        """Promise an answer to the current message."""
        envelope = self._current("reply_later()")
        if isinstance(envelope.slot, Ask):
            envelope.slot.forget_edge()
        if self._deferred is None:
            self._deferred = Deferred(self._reply, self._reject, self._file_late)
        return self._deferred.put(envelope)

    def fail(self, error: Exception) -> None:
        """Answer the current message with `error`."""
        failure = Failure(error)  # raises for what isn't an Exception
        envelope = self._current("fail()")
        self._reject(envelope, failure.error)
        envelope.slot = None

    def unhandled(self, message: object) -> None:
        """The actor does not know the current message."""
        envelope = self._current("unhandled()")
        self._file_unhandled(envelope, f"{self.cell.address!r} does not handle {message_kind(message)}.")
        envelope.slot = None

    def reject(self, error: Exception) -> None:
        """Turn away the current message, which no one has handled: its asker gets `error` itself."""
        envelope = self._current("reject()")
        self.cell.services.dead_letters.add(self.cell.address, DeadReason.FAILED, envelope, error)
        envelope.give_up(error)
        envelope.slot = None

    async def forward(self, target: Hand) -> None:
        """Forward the current message to `target`, with its sender, its asker and its deadline; wait for room there."""
        envelope = self._current("forward()")
        if isinstance(envelope.slot, Ask):
            try:
                envelope.slot.hand_over(target.cell)
            except AskCycle as error:
                self.cell.services.dead_letters.add(target.cell.address, DeadReason.FAILED, envelope, error)
                envelope.give_up(error)
                return
        envelope.holder = None
        try:
            await target.mailbox.put(envelope)
        except MailboxFull as error:
            self.cell.services.dead_letters.add(target.cell.address, DeadReason.OVERFLOW, envelope, error)
            envelope.give_up(error)
        except trio.Cancelled:
            envelope.holder = self
            raise

    def give_to(self, holder: Holder) -> Envelope:
        """Give the current message to `holder`, which sees to its outcome from now on; its asker waits on."""
        envelope = self._current("give_to()")
        envelope.holder = holder
        return envelope

    def _current(self, call: str) -> Envelope:
        envelope = self.envelope
        if envelope is None or envelope.holder is not self:
            raise UsageError(
                f"{self.cell.address!r} called {call}, and has no current message that is not stashed or promised a reply "
                f"already.\n  Fix: call {call} once, in the handler of the message."
            )
        return envelope
