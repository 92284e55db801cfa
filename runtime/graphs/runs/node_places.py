"""The places of one run: instances of its nodes, as its messages find room among those that wait for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final, Protocol, TypeAlias, final

from actors.errors import AskCycle, MailboxFull
from actors.graphs.plan import Plan
from actors.restarts import Backoff
from runtime.core.duty import on_duty
from runtime.core.envelope import Envelope
from runtime.core.waits import Waiter, waiting
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.runs.turns import Turns


class NodePlace(Waiter, Protocol):
    """Where the messages of one node go: instances of it, or a person."""

    @property
    def mailbox(self) -> Any:
        """Where they wait."""
        ...

    @property
    def beyond(self) -> Any:
        """Where those go that must not wait behind others."""
        ...

    def hold_back(self, envelope: Envelope, backoff: Backoff, failures: int) -> None:
        """Deliver a message after the delay that follows its failure number `failures`."""
        ...


Place: TypeAlias = NodePlace | Turns
"""What a message of a run can hold while others wait for the like of it."""

_NONE: Final[frozenset[Place]] = frozenset()


@final
class Places:
    """Where the messages of a run go: by their order and the capacity of mailboxes, or past both where waiting has no end."""

    __slots__ = ("_plan", "_pools", "lent", "spared")

    def __init__(self, pools: Mapping[str, NodePlace], plan: Plan) -> None:
        self._pools = pools
        self._plan = plan
        self.lent = _NONE
        """Places that are held by those who wait for this run: what it does itself does not count there."""
        self.spared = _NONE
        """While it starts: places held by who starts it, whose mailboxes must not make that wait."""

    def pool(self, node: str) -> NodePlace:
        """The instances of `node`."""
        return self._pools[node]

    def pool_of(self, envelope: Envelope) -> NodePlace:
        """The instances that a message is for."""
        return self._pools[envelope.message.delivery.node]

    def may_skip(self, place: Place) -> bool:
        """Whether the run need not wait for `place`, because it is held by who waits for the run, or starts it."""
        return place in self.lent or place in self.spared

    def is_behind(self, envelope: Envelope) -> bool:
        """Whether a message waits for one of its node's instances, or for room among those that do."""
        pool = self.pool_of(envelope)
        return envelope.holder is pool.mailbox or (envelope.holder is None and pool not in self.lent)

    def lend(self, places: Iterable[Place], envelopes: Iterable[Envelope]) -> None:
        """Let the run use `places` besides their holders, those of its `envelopes` that wait there already among them."""
        self.lent = self.lent.union(places)
        for envelope in list(envelopes):
            pool = self.pool_of(envelope)
            if pool in self.lent and pool.mailbox.pull(envelope):
                pool.beyond.put_beyond(envelope)

    # --- room -------------------------------------------------------------------------------------------------------------

    def found_room(self, envelope: Envelope, deliverer: str | None) -> bool:
        """Put a message into its node's mailbox, unless the instance of `deliverer` that does so is to wait for room there."""
        delivery: Delivery = envelope.message.delivery
        pool = self._pools[delivery.node]
        if self.lent and self._found_place(envelope, pool):
            return True
        if pool.mailbox.has_room:  # nearly always; what follows only tells how it is where there is none
            pool.mailbox.put_nowait(envelope)
        elif (
            (self.spared and pool in self.spared)
            or delivery.back_edge
            or not (deliverer is None or self._plan.leads_forward(deliverer, delivery.node))
        ):
            pool.mailbox.put_beyond(envelope)
        elif pool.mailbox.makes_wait:
            return False
        else:
            try:
                pool.mailbox.put_nowait(envelope)
            except MailboxFull as error:  # rejected: the sender is not at fault, and must not do its work again
                envelope.give_up(error)
        return True

    def room(self, node: str) -> Any:
        """The mailbox of `node`, if a message finds room there as any other does; None if there is more to be looked at."""
        mailbox = self._pools[node].mailbox
        return mailbox if mailbox.has_room and not self.lent else None

    async def wait_for_room(self, envelopes: Sequence[Envelope], deliverer: str | None, look_around: Callable[[], None]) -> None:
        """Deliver in order, waiting where there is no room. Cancelled, the rest is queued past the capacity.

        `look_around` is called before a wait that isn't a handler's: others may wait for it all the same.
        """
        queue = deque(envelopes)
        try:
            while queue:
                envelope = queue[0]
                if not envelope.withdrawn and not self.found_room(envelope, deliverer):
                    await self._put(envelope, look_around)
                queue.popleft()
        finally:
            # The deliverer was cancelled: by a timeout, or because only its own result is no longer wanted. What it has already
            # made is part of the run; a second attempt would not make it again.
            for envelope in queue:
                if not envelope.withdrawn:
                    self.pool_of(envelope).mailbox.put_beyond(envelope)

    async def _put(self, envelope: Envelope, look_around: Callable[[], None]) -> None:
        """Wait for room; a handler that does so waits for the instances which would make it."""
        pool, cell = self.pool_of(envelope), on_duty()
        try:
            if cell is None:
                look_around()
            with nullcontext() if cell is None else waiting(cell, cell.asking, pool):
                if not self._found_place(envelope, pool):
                    await pool.mailbox.put(envelope)
        except AskCycle:  # there will be room only when this handler has ended
            pool.mailbox.put_beyond(envelope)

    def _found_place(self, envelope: Envelope, pool: NodePlace) -> bool:
        """Put a message beyond those that wait for `pool`, if the run may use it besides its holders."""
        if pool not in self.lent:
            return False
        pool.beyond.put_beyond(envelope)
        return True

    def put_again(self, envelope: Envelope) -> None:
        """Put a message back that had found room once, for its node's fallback."""
        pool = self.pool_of(envelope)
        (pool.beyond if pool in self.lent else pool.mailbox).put_beyond(envelope)
