"""Several instances of one actor on one mailbox: started as needed, restarted one by one, seen as one address."""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Sequence
from typing import final

from actors.actor import Terminated
from actors.restarts import Backoff
from actors.supervision import ChildSpec, spec_like
from runtime.core.actor_cell import ActorCell
from runtime.core.envelope import Envelope
from runtime.core.mailbox import Mailbox, MailboxStatistics
from runtime.core.stash import Redeliveries
from runtime.core.supervisor import SupervisorCell
from runtime.core.waits import Waiter


@final
class InstancePool:
    """Up to `size` instances under one supervisor. The mailbox is the pool's, so no instance's end closes it.

    Another instance starts when a message waits, none is idle and none is about to look; instances stay until their supervisor
    stops. One that ended permanently (restart type ``TEMPORARY``, or ``TRANSIENT`` and finished) is replaced when it is needed.

    Messages for which an instance waits that can only go on after them are put :attr:`beyond` the others: instances of their
    own, made from `spare` and ended after one message, work on them.
    """

    def __init__(
        self,
        supervisor: SupervisorCell,
        spec: ChildSpec,
        size: float,
        context: contextvars.Context,
        spare: ChildSpec | None = None,
    ) -> None:
        """A pool without instances; they will run in copies of `context`."""
        self.address = f"{supervisor.address}/{spec.id}"
        self._supervisor = supervisor
        self._spec = spec
        self._size = size
        self._context = context
        self._instances: dict[str, ActorCell] = {}
        """By name; those that are not gone."""
        self._vacant: deque[str] = deque()
        """Names of instances that are gone, to be used again."""
        self._number = 0
        self._spare = spare
        self._beyond: InstancePool | None = None
        self._held_back: Redeliveries | None = None
        self.mailbox = Mailbox(self.address, spec.mailbox, supervisor.services.dead_letters)
        """Where messages for any of the instances go."""

    @property
    def beyond(self) -> Mailbox:
        """Where the messages go that must not wait for any of the instances; no sender waits for room there."""
        if self._beyond is None:
            assert self._spare is not None, "a pool whose instances wait for others of them knows how to make more"
            self._beyond = InstancePool(self._supervisor, self._spare, math.inf, self._context)
            self._beyond.mailbox.on_unattended = self._beyond._grow
        return self._beyond.mailbox

    # --- Waiter -----------------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How a ring shows it."""
        return f"an instance of {self.address}"

    @property
    def needs_all(self) -> bool:
        """One instance that is free is enough."""
        return False

    def awaits(self) -> Sequence[Waiter]:
        """The instances, if each of them waits for something and there may be no more of them."""
        instances = list(self._instances.values())
        if len(instances) < self._size or not all(cell.asking for cell in instances):
            return ()
        return instances

    def make_way(self) -> bool:
        """It is for the run whose message waits to have it handled beyond the others."""
        return False

    def hold_back(self, envelope: Envelope, backoff: Backoff, failures: int) -> None:
        """Put a message into the mailbox after the delay that follows its failure number `failures`, of an earlier process."""
        services = self._supervisor.services
        if self._held_back is None:
            self._held_back = Redeliveries(services, self.mailbox)
        self._held_back.put(envelope, backoff.delay_s(failures - 1, services.rng))

    # --- instances --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the first instance; return once it has started or failed to."""
        self.attend()
        self.mailbox.call()
        for cell in list(self._instances.values()):
            await cell.wait_started()

    def attend(self) -> None:
        """Start an instance when the first message waits, and not before."""
        self.mailbox.on_unattended = self._grow

    def _grow(self) -> bool:
        """Start another instance, if there may be one more. Called often while all are busy, so it looks at none of them."""
        if not self._supervisor.is_serving:
            return False
        name = self._vacated_name()
        if name is None:
            if len(self._instances) >= self._size:
                return False
            name = self._free_name()
        self._instances[name] = self._launch(name)
        return True

    def _vacated_name(self) -> str | None:
        """The name of an instance that is gone, and that neither was started again by hand nor has left its name to another."""
        while self._vacant:
            name = self._vacant.popleft()
            cell = self._supervisor.children.cells.get(name)
            if cell is None:
                return name
            if isinstance(cell, ActorCell) and cell.mailbox is self.mailbox:
                if cell.is_gone:
                    return name
                self._instances[name] = cell
                cell.on_end(self._replace)
        return None

    def _free_name(self) -> str:
        while True:
            self._number += 1
            name = self._spec.id if self._number == 1 else f"{self._spec.id}#{self._number}"
            if name not in self._supervisor.children.cells:
                return name

    def _launch(self, name: str) -> ActorCell:
        spec = spec_like(self._spec, name, self._spec.factory, self._spec.args)
        cell = self._context.run(self._supervisor.adopt_worker, name, spec, self.mailbox)
        cell.on_end(self._replace)
        return cell

    def _replace(self, ended: Terminated) -> None:
        """An instance has ended permanently: there may be no other to take what waits."""
        name = ended.ref.address.rpartition("/")[2]
        del self._instances[name]
        self._vacant.append(name)
        if len(self.mailbox):
            self.mailbox.call()

    def close(self) -> None:
        """Turn away all that waits and all that will come; for when the supervisor has ended."""
        self.mailbox.on_unattended = None
        for envelope in self._held_back.drain() if self._held_back is not None else ():
            self.mailbox.bury(envelope)
        self.mailbox.close()
        if self._beyond is not None:
            self._beyond.close()

    def statistics(self) -> MailboxStatistics:
        """One look at the shared mailbox."""
        return self.mailbox.statistics()

    @property
    def instances(self) -> int:
        """How many instances were started and are not gone."""
        return len(self._instances)
