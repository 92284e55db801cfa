"""The message that an actor has in hand: what becomes of it on every way out, and of what was set aside or promised an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import trio

from actors.actor import Failure
from actors.backoff import Redelivery
from actors.errors import ActorFailed, AskCycle, MailboxFull, Unhandled, UsageError
from actors.requests import may_be_none
from actors.supervision import ChildSpec
from actors.unawaited import COROUTINE
from actors.words import said
from runtime.core.cell import Exit, ExitKind, Overseer
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope, OneShot
from runtime.core.events import MessageRedelivering
from runtime.core.frames import raised_at, trim
from runtime.core.kernel import Kernel
from runtime.core.mailbox import Mailbox, message_kind
from runtime.core.redeliveries import Redeliveries
from runtime.core.refs import Ask, MailedCell, not_awaited
from runtime.core.stash import Deferred, LocalReply, Stash


class HoldingCell(MailedCell, ABC):
    """A cell whose incarnations take messages in hand, one at a time."""

    __slots__ = (
        "_current",
        "_deferred",
        "_failed",
        "_handled",
        "_owns_mailbox",
        "_redeliveries",
        "_stash",
        "redelivery",
    )

    def __init__(self, kernel: Kernel, address: str, parent: Overseer, spec: ChildSpec, shared: Mailbox | None) -> None:
        super().__init__(kernel, address, parent, restart=spec.restart, shutdown_s=spec.shutdown_s, significant=spec.significant)
        self.redelivery: Redelivery = spec.redelivery
        self.mailbox = shared if shared is not None else Mailbox(address, spec.mailbox, kernel.dead_letters)
        self._owns_mailbox = shared is None
        self._current: Envelope | None = None
        # Most actors never need these three; an idle one weighs a tenth less without.
        self._stash: Stash | None = None
        self._deferred: Deferred | None = None
        self._redeliveries: Redeliveries | None = None
        self._handled: int = 0
        self._failed: int = 0

    @property
    def is_blameless(self) -> bool:
        """See ``Cell.is_blameless``: whoever shares a mailbox with others holds no state of its own."""
        return not self._owns_mailbox and self._current is not None

    @abstractmethod
    def let_go(self, envelope: Envelope) -> None:
        """The sender of the message in hand no longer wants it handled."""

    # --- it was handled ---------------------------------------------------------------------------------------------------

    def _conclude(self, envelope: Envelope, value: Any) -> None:
        """The handler has returned `value`."""
        if type(value) is COROUTINE:
            value = Failure(not_awaited(value, f"answer of {self.address!r} to {message_kind(envelope.message)}"))
        if envelope.holder is self:
            envelope.holder = None
            self._handled += 1
            if envelope.slot is None:
                if type(value) is Failure:
                    self._refuse(envelope, value.error)
            elif value is None and not may_be_none(envelope.message):
                self._file_unhandled(
                    envelope, f"{self.address!r} answered {message_kind(envelope.message)} with None, which is no answer to it."
                )
            else:
                self._reply(envelope, value)
        elif envelope.holder is None or (envelope.holder is not self._stash and envelope.holder is not self.mailbox):
            self._handled += 1  # its reply was promised, or sent already

    def _reply(self, envelope: Envelope, value: Any) -> None:
        slot = envelope.slot
        if type(value) is Failure:
            self._refuse(envelope, value.error)
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
            late = Envelope(value, self.address, None, trio.current_time())
            self.kernel.dead_letters.add(envelope.sender or "(asker)", DeadReason.LATE_REPLY, late)

    def _refuse(self, envelope: Envelope, error: Exception) -> None:
        """Answer with `error`; where nobody waits for an answer, it is a dead letter."""
        slot = envelope.slot
        if slot is None or (isinstance(slot, OneShot) and slot.abandoned):
            self.kernel.dead_letters.add(self.address, DeadReason.FAILED, envelope, error)
        envelope.give_up(self._failure(envelope, error))

    def _file_unhandled(self, envelope: Envelope, what: str) -> None:
        error = Unhandled(
            f"{what}\n  Fix: let receive() have a case for it that returns an answer, or send it to an actor that has one.",
            address=self.address,
        )
        self.kernel.dead_letters.add(self.address, DeadReason.UNHANDLED, envelope, error)
        envelope.give_up(error)

    # --- it was not -------------------------------------------------------------------------------------------------------

    def _settle(self, exit: Exit, *, revives: bool) -> None:  # noqa: A002
        envelope, self._current = self._current, None
        if envelope is not None and envelope.holder is not self.mailbox:
            self._set_aside(envelope)
            self._settle_current(envelope, exit, revives=revives)
        for promised in self._deferred.drain() if self._deferred is not None else ():
            if exit.error is None or exit.kind is ExitKind.FATAL:
                promised.give_up(self.mailbox.farewell(promised, begun=True))
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
        elif (revives or not self._owns_mailbox) and self.redelivery.wants(exit.error, envelope.attempt):
            self._failed += 1
            self._redeliver(envelope, exit.error)
        else:
            self._give_up(envelope, exit.error)

    def _settle_unless_redelivered(self, error: BaseException) -> None:
        envelope = self._current
        if envelope is not None and not envelope.withdrawn and not self.redelivery.wants(error, envelope.attempt):
            self._current = None
            self._set_aside(envelope)
            self._give_up(envelope, error)

    def _set_aside(self, envelope: Envelope) -> None:
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
        self._failed += 1
        self.kernel.dead_letters.add(self.address, DeadReason.FAILED, envelope, error)
        envelope.give_up(self._failure(envelope, error))

    def _failure(self, envelope: Envelope, error: BaseException) -> ActorFailed:
        tries = f" (attempt {envelope.attempt} of {self.redelivery.max_attempts})" if envelope.attempt > 1 else ""
        failure = ActorFailed(
            f"{self.address!r} failed while it handled {message_kind(envelope.message)}{tries}: {said(error)}{raised_at(error)}",
            address=self.address,
        )
        failure.__cause__ = trim(error)
        return failure

    def _redeliver(self, envelope: Envelope, error: BaseException) -> None:
        delay_s = self.redelivery.backoff.delay_s(envelope.attempt - 1, self.kernel.rng)
        envelope.attempt += 1
        if self.kernel.events.listening:
            self.kernel.events.publish(
                MessageRedelivering(
                    address=self.address,
                    incarnation=self.incarnation,
                    attempt=envelope.attempt,
                    delay_s=delay_s,
                    error=error,
                )
            )
        if self._redeliveries is None:
            self._redeliveries = Redeliveries(self.kernel, self.mailbox)
        self._redeliveries.put(envelope, delay_s)

    def _close(self) -> None:
        if not self._owns_mailbox:
            return  # what waits for another attempt goes on waiting, and then comes to the others
        for envelope in self._redeliveries.drain() if self._redeliveries is not None else ():
            self.mailbox.bury(envelope)
        self.mailbox.close()

    # --- what its handler asks for ----------------------------------------------------------------------------------------

    @property
    def in_hand(self) -> Envelope | None:
        """The message that is being handled."""
        return self._current

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for the answer to the message in hand."""
        return self._current is not None and self._current.slot is not None

    @property
    def load(self) -> int:
        """Messages that wait or are in hand."""
        return len(self.mailbox) + (self._current is not None)

    def stash(self) -> None:
        """Set the message in hand aside."""
        envelope = self._in_hand("stash()")
        if self._stash is None:
            self._stash = Stash(self.address, self.mailbox.capacity)
        self._stash.put(envelope)

    def unstash_all(self) -> None:
        """Put back what was set aside."""
        if self._stash is not None:
            self._stash.empty_into(self.mailbox)

    def reply_later(self) -> LocalReply:
        """Promise an answer to the message in hand."""
        envelope = self._in_hand("reply_later()")
        if isinstance(envelope.slot, Ask):
            envelope.slot.forget_edge()
        if self._deferred is None:
            self._deferred = Deferred(self._reply, self._refuse, self._file_late)
        return self._deferred.put(envelope)

    def fail(self, error: Exception) -> None:
        """Answer the message in hand with `error`."""
        failure = Failure(error)  # refuses what is no Exception
        envelope = self._in_hand("fail()")
        self._refuse(envelope, failure.error)
        envelope.slot = None

    def unhandled(self, message: object) -> None:
        """The actor does not know the message in hand."""
        envelope = self._in_hand("unhandled()")
        self._file_unhandled(envelope, f"{self.address!r} does not handle {message_kind(message)}.")
        envelope.slot = None

    async def forward(self, target: HoldingCell) -> None:
        """Hand the message in hand over to `target`, with its sender, its asker and its deadline; wait for room there."""
        envelope = self._in_hand("forward()")
        if isinstance(envelope.slot, Ask):
            try:
                envelope.slot.hand_over(target)
            except AskCycle as error:
                self.kernel.dead_letters.add(target.address, DeadReason.FAILED, envelope, error)
                envelope.give_up(error)
                return
        envelope.holder = None
        try:
            await target.mailbox.put(envelope)
        except MailboxFull as error:
            self.kernel.dead_letters.add(target.address, DeadReason.OVERFLOW, envelope, error)
            envelope.give_up(error)
        except trio.Cancelled:
            envelope.holder = self
            raise

    def _in_hand(self, call: str) -> Envelope:
        envelope = self._current
        if envelope is None or envelope.holder is not self:
            raise UsageError(
                f"{self.address!r} called {call}, and has no message in hand that is not stashed or promised a reply already.\n"
                f"  Fix: call {call} once, in the handler of the message."
            )
        return envelope
