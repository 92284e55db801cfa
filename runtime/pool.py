"""Several instances of one actor on one mailbox: started as needed, restarted one by one, seen as one address."""

from __future__ import annotations

import contextvars
from collections import deque
from typing import final

import attrs

from actors.actor import Terminated
from actors.supervision import ChildSpec
from runtime.actor_cell import ActorCell
from runtime.mailbox import Mailbox, MailboxStatistics
from runtime.supervisor import SupervisorCell


@final
class InstancePool:
    """Up to `size` instances under one supervisor. The mailbox is the pool's, so that no instance's end closes it.

    Another instance starts when a message waits, none is idle and none is about to look; instances stay until their supervisor
    stops. One that ended for good (restart type ``TEMPORARY``, or ``TRANSIENT`` and finished) is replaced when it is needed.
    """

    def __init__(self, supervisor: SupervisorCell, spec: ChildSpec, size: int, context: contextvars.Context) -> None:
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
        self.mailbox = Mailbox(self.address, spec.mailbox, supervisor.kernel.dead_letters)
        """Where messages for any of the instances go."""

    async def start(self) -> None:
        """Start the first instance; return once it has started or failed to."""
        self.mailbox.on_unattended = self._grow
        self.mailbox.call()
        for cell in list(self._instances.values()):
            await cell.wait_started()

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
            cell = self._supervisor.children.get(name)
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
            if name not in self._supervisor.children:
                return name

    def _launch(self, name: str) -> ActorCell:
        spec = attrs.evolve(self._spec, id=name)
        cell = self._context.run(self._supervisor.adopt_worker, name, spec, self.mailbox)
        cell.on_end(self._replace)
        return cell

    def _replace(self, ended: Terminated) -> None:
        """An instance has ended for good: nobody else may be there to take what waits."""
        name = ended.ref.address.rpartition("/")[2]
        del self._instances[name]
        self._vacant.append(name)
        if len(self.mailbox):
            self.mailbox.call()

    def close(self) -> None:
        """Turn away all that waits and all that will come; for when the supervisor has ended."""
        self.mailbox.on_unattended = None
        self.mailbox.close()

    def statistics(self) -> MailboxStatistics:
        """One look at the shared mailbox."""
        return self.mailbox.statistics()

    @property
    def instances(self) -> int:
        """How many instances were started and are not gone."""
        return len(self._instances)
