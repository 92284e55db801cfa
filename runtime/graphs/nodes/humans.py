"""Where the messages of a node wait that a person fills: a place without a mailbox and without instances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

from actors.errors import RecallError
from actors.graphs.node import NodeSpec
from actors.restarts import Backoff
from actors.words import type_names
from runtime.core.envelope import Envelope
from runtime.core.mailbox import MailboxStatistics
from runtime.core.pool import InstancePool
from runtime.core.waits import Waiter
from runtime.graphs.nodes.asking import overdue
from runtime.graphs.nodes.delivery import taken
from runtime.graphs.records.questions import Asking, Desk
from runtime.graphs.records.run_events import NodeStarted
from runtime.graphs.records.run_record import StepStatus
from runtime.graphs.records.stored_answers import PersonAnswer
from runtime.graphs.runs.run import ActiveDelivery
from runtime.journal.records import RecordKind


@final
class HumanPlace:
    """The messages of one node that wait for a person's answer. It is its own mailbox, and has room for all.

    Nothing runs while a question is open. When there is no answer in time, the node's fallback works on the message in an
    instance of :attr:`fallbacks`, which is started then.
    """

    makes_wait = False
    has_room = False
    """It isn't a queue: there is always more to do than to put a message into it."""

    def __init__(self, address: str, spec: NodeSpec, desk: Desk, fallbacks: InstancePool) -> None:
        """A place where nothing waits; its questions go to `desk`."""
        self.address = address
        self.fallbacks = fallbacks
        self._spec = spec
        self._desk = desk
        self._asked: dict[Envelope, Asking | None] = {}

    @property
    def mailbox(self) -> HumanPlace:
        """Where messages go: here."""
        return self

    @property
    def beyond(self) -> HumanPlace:
        """Where messages go that must not wait for others: also here, since none does."""
        return self

    # --- Waiter -----------------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How a ring shows it."""
        return f"the person that {self.address} asks"

    @property
    def needs_all(self) -> bool:
        """One answer is enough."""
        return False

    def awaits(self) -> Sequence[Waiter]:
        """Nothing in this program: a person can always answer."""
        return ()

    def make_way(self) -> bool:
        """There is nothing to be had besides."""
        return False

    # --- messages ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Be ready to start instances for the fallback. Not a checkpoint."""
        self.fallbacks.attend()

    def close(self) -> None:
        """Turn away what comes; for when the graph has ended."""
        self.fallbacks.close()

    def statistics(self) -> MailboxStatistics:
        """One look at what waits for the fallback."""
        return self.fallbacks.statistics()

    @property
    def instances(self) -> int:
        """How many instances there are: of the fallback alone."""
        return self.fallbacks.instances

    async def put(self, envelope: Envelope) -> None:
        """Ask a person. Never waits."""
        self.put_beyond(envelope)

    def put_nowait(self, envelope: Envelope) -> None:
        """Ask a person."""
        self.put_beyond(envelope)

    def put_beyond(self, envelope: Envelope) -> None:
        """Ask a person; a message that had no answer in time goes to the fallback."""
        active: ActiveDelivery = envelope.message
        if active.error is not None:
            self.fallbacks.mailbox.put_beyond(envelope)
            return
        envelope.holder = self
        self._asked[envelope] = None
        run, step, spec = active.run, active.step, self._spec
        step.attempt, step.started_at_s = 1, run.now()
        past = run.past.get(step.path)
        if past is None or not past.asked:
            active.tell(NodeStarted)
        try:
            if past is not None and past.is_overdue:
                raise overdue(spec.name, spec.options.timeout_s, run.id)
            asking = self._desk.ask(
                run,
                step.path,
                node=spec.name,
                path=step.path,
                attempt=1,
                text=spec.instruction,
                asks=self._shown(active),
                answers=spec.outputs,
                may_be_none=spec.may_end,
                timeout_s=spec.options.timeout_s,
                to=None if spec.human is None else spec.human.to,
                settle=partial(self._settled, envelope),
                when_open=partial(_is_asked, active),
                inputs=b"" if run.journal is None else run.journal.inputs_of(active.delivery),
            )
        except Exception as error:  # noqa: BLE001 - a fold of its author's, or a message that cannot be stored
            self._fail(envelope, error)
            return
        if envelope in self._asked:  # or it has its answer already
            self._asked[envelope] = asking

    def hold_back(self, envelope: Envelope, backoff: Backoff, failures: int) -> None:
        """Ask a person now: the delay is between attempts, and a question is none."""
        del backoff, failures
        self.put_beyond(envelope)

    def withdrawn(self, envelope: Envelope) -> None:
        """No one wants the answer any more (see ``Envelope.withdraw``)."""
        envelope.holder = None
        asking = self._asked.pop(envelope, None)
        if asking is not None:
            self._desk.withdraw(asking)
        if envelope.slot is not None:
            envelope.slot.released()

    def pull(self, envelope: Envelope) -> bool:
        """No message here waits behind others."""
        del envelope
        return False

    def _settled(self, envelope: Envelope, answer: PersonAnswer) -> None:
        active: ActiveDelivery = envelope.message
        if not answer.is_late:
            active.run.answered(active, answer, partial(self._done, envelope), partial(self._fail, envelope))
            return
        journal = active.run.journal
        if journal is not None:
            journal.append(RecordKind.ANSWERED, active.step.path, answer.record, answered=answer.question)
        self._fail(envelope, overdue(self._spec.name, self._spec.options.timeout_s, active.run.id))

    def _done(self, envelope: Envelope) -> None:
        self._asked.pop(envelope, None)
        envelope.holder = None

    def _fail(self, envelope: Envelope, error: Exception) -> None:
        self._asked.pop(envelope, None)
        envelope.give_up(error)

    def _shown(self, active: ActiveDelivery) -> Any:
        """What the person is asked about: the message, or for several parameters all of them by name."""
        spec, delivery = self._spec, active.delivery
        shown: dict[str, Any] = {**taken(spec, delivery.arguments), **delivery.recalled}
        for entry in spec.recalls:
            if entry.name not in shown:
                kinds = type_names(entry.types)
                raise RecallError(
                    f"node {spec.name!r} ({spec.location}) recalls {kinds} in {entry.name!r}, and none was made on the way to "
                    f"{delivery.path}.\n  Fix: write Annotated[{kinds} | None, Recall()], and show None.",
                    run_id=active.run.id,
                    node=spec.name,
                    parameter=entry.name,
                )
        return next(iter(shown.values())) if len(shown) == 1 else shown


def _is_asked(active: ActiveDelivery) -> None:
    active.step.status = StepStatus.ASKED
