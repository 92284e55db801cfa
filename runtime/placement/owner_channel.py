"""What the routers of one name say to one another over their store, at most once: heads of plain JSON, and values as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, final

import trio

from actors.actor import ActorRef
from actors.placement_errors import MessageTooLarge
from runtime.core.dead_letters import DeadReason
from runtime.graphs.everywhere import MAX_BYTES, Dropped
from runtime.graphs.fellow_owners import FellowOwners
from runtime.placement.actor_codes import ActorCode

AGAIN_S: Final = 1.0
"""After which what the store did not take is said again."""
ALL: Final = "*"
"""To whom what every owner is to hear is said."""


class _NoRefs:
    """A ref means nothing to another owner."""

    def address_of(self, ref: ActorRef[Any], /) -> str:
        """See ``Addresses``."""
        raise ValueError(f"{ref.address!r} is an actor of this process, and other owners of the store cannot reach it")

    def ref_at(self, address: str, /) -> ActorRef[Any]:
        """See ``Addresses``."""
        raise ValueError("no refs travel between owners")


@final
class OwnerChannel:
    """One end of it, for one incarnation of a router."""

    def __init__(self, fellows: FellowOwners, address: str, factory: Any) -> None:
        """`address` is the router's in all owners; `factory` makes its actors, so all know the types of messages and answers."""
        self._fellows = fellows
        self._address = address
        self._name = f"sharded {address}"
        self._code = ActorCode(factory)
        self._refs = _NoRefs()
        self._hear: Callable[[str, dict[str, Any]], None] | None = None
        self._start: Callable[..., object] | None = None

    def open(self, hear: Callable[[str, dict[str, Any]], None], start_soon: Callable[..., object]) -> None:
        """Call `hear` with who says something to this owner, and what; `start_soon` runs tasks while the router lives."""
        self._hear, self._start = hear, start_soon
        self._fellows.listen(self._name, self._take)

    def close(self) -> None:
        """Hear nothing more; words can still be said."""
        self._start = None
        self._fellows.listen(self._name, None)

    def say(self, owner: str, told: Mapping[str, object], dropped: Dropped | None = None) -> None:
        """Tell `owner` something; what the store does not take is said again, unless `dropped` is to be called then."""
        words = json.dumps({"to": owner, "from": self._fellows.me, **told})
        self._fellows.say(self._name, words, dropped or partial(self._unheard, words))

    def _unheard(self, words: str, reason: DeadReason, error: Exception | None) -> None:
        if self._start is not None and self._fellows.left_s > 0:
            self._start(self._say_again, words)

    async def _say_again(self, words: str) -> None:
        await trio.sleep(AGAIN_S)
        self._fellows.say(self._name, words, partial(self._unheard, words))

    def _take(self, words: str) -> None:
        told: dict[str, Any] = json.loads(words)
        if told["to"] in (self._fellows.me, ALL) and self._hear is not None:
            self._hear(told["from"], told)

    # --- values -----------------------------------------------------------------------------------------------------------

    def written(self, value: object, what: str) -> str:
        """`value` as text; `what` begins the error's text.

        Raises:
            NotPortable: it cannot travel. MessageTooLarge: it has too many bytes.
        """
        data = self._code.written(value, f"{what} {self._address!r}", self._refs)
        if len(data) > MAX_BYTES:
            raise MessageTooLarge(
                f"{what} {self._address!r} has {len(data):,} bytes, and goes to another owner of the store; it may have "
                f"{MAX_BYTES:,}.\n  Fix: keep it elsewhere, in a file or a blob store, and let the message say where.",
                size=len(data),
                limit=MAX_BYTES,
            )
        return data.decode()

    def read(self, data: str) -> Any:
        """The value that :meth:`written` made `data` of, in another owner.

        Raises:
            NotPortable: it is of no type that this side knows.
        """
        return self._code.read(data.encode(), self._refs)
