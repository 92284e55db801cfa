"""Several instances of one actor on one mailbox: started as needed, restarted one by one, seen as one address."""

from __future__ import annotations

from typing import final

import attrs

from actors.supervision import ChildSpec
from runtime.actor_cell import ActorCell
from runtime.envelope import Envelope
from runtime.mailbox import Mailbox, MailboxStatistics
from runtime.supervisor import SupervisorCell


@final
class InstancePool:
    """Up to `size` instances under one supervisor. The mailbox is the pool's, so that no instance's end closes it.

    Another instance starts when a message arrives and none is idle; instances stay until their supervisor stops. One that
    ended for good (restart type ``TEMPORARY``, or ``TRANSIENT`` and finished) is replaced when it is needed.
    """

    def __init__(self, supervisor: SupervisorCell, spec: ChildSpec, size: int) -> None:
        self.address = f"{supervisor.address}/{spec.id}"
        self._supervisor = supervisor
        self._spec = spec
        self._size = size
        self._instances: list[ActorCell] = []
        self._mailbox = Mailbox(self.address, spec.mailbox, supervisor.kernel.dead_letters)

    async def start(self) -> None:
        """Start the first instance; return once it has started or failed to."""
        self._mailbox.on_unattended = self._grow
        self._grow()
        for cell in self._instances:
            await cell.wait_started()

    def _grow(self) -> None:
        if not self._supervisor.is_serving:
            return
        for index, cell in enumerate(self._instances):
            if cell.is_gone:
                self._instances[index] = self._launch(index)
                return
        if len(self._instances) < self._size:
            self._instances.append(self._launch(len(self._instances)))

    def _launch(self, index: int) -> ActorCell:
        name = self._spec.id if index == 0 else f"{self._spec.id}#{index + 1}"
        return self._supervisor.adopt_worker(name, attrs.evolve(self._spec, id=name), self._mailbox)

    async def put(self, envelope: Envelope) -> None:
        """Queue a message, waiting for room under ``BLOCK``."""
        await self._mailbox.put(envelope)

    def put_beyond(self, envelope: Envelope) -> None:
        """Queue a message whatever the capacity."""
        self._mailbox.put_beyond(envelope)

    def close(self) -> None:
        """Turn away all that waits and all that will come; for when the supervisor has ended."""
        self._mailbox.on_unattended = None
        self._mailbox.close()

    def statistics(self) -> MailboxStatistics:
        """One look at the shared mailbox."""
        return self._mailbox.statistics()

    @property
    def instances(self) -> int:
        """How many instances were started and are not gone."""
        return sum(not cell.is_gone for cell in self._instances)
