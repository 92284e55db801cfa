"""In whose name the function of a placed node speaks to actors: that of its call; and what it depends on: that of its run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Protocol, final

from actors.errors import UsageError
from actors.graphs.node import NodeSpec
from actors.graphs.placing import handler_of
from runtime.messages.references import Addresses
from runtime.placement.actor_codes import ActorCode
from runtime.placement.call_payloads import packed
from runtime.placement.link import Hear, Link

_NO_MODELS: Final[Mapping[str | None, str]] = {}


class Stay(Protocol):
    """The visit of a run: see ``serving``."""

    @property
    def id(self) -> str:
        """By which the runtime knows it."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether its dependencies have been left."""
        ...


class _NodeSpeaker(ABC):
    """What the two have in common."""

    def __init__(self, spec: NodeSpec, link: Link, addresses: Addresses) -> None:
        self.cell = None
        self.spawner = None
        self.models = _NO_MODELS  # they are its parameters
        self._spec = spec
        self._link = link
        self._addresses = addresses
        self._code: ActorCode | None = None

    @property
    def address(self) -> str:
        """Its name, to which nothing is sent."""
        return self._spec.name

    @abstractmethod
    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """See ``Speaker.ask``."""

    @abstractmethod
    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """See ``Speaker.tell``."""

    def written(self, value: object, what: str) -> bytes:
        """See ``Speaker.written``."""
        return self._types.written(value, what, self._addresses)

    def read(self, data: bytes) -> Any:
        """See ``Speaker.read``."""
        return self._types.read(data, self._addresses)

    def check_type(self, name: str) -> None:
        """See ``Speaker.check_type``."""
        self._types.type_named(name)

    @property
    def _types(self) -> ActorCode:
        """The types that its module knows, looked up when it speaks, which few nodes do."""
        if self._code is None:
            self._code = ActorCode(handler_of(self._spec))
        return self._code

    def _late(self, what: str) -> UsageError:
        return UsageError(
            f"code of node {self._spec.name!r} sends from a host after {what} has ended, so it is sent for no one.\n"
            "  Fix: send before the function returns, or in a context manager that the node depends on, before that is left."
        )


@final
class CallSpeaker(_NodeSpeaker):
    """The function of a node: see ``Speaker``."""

    def __init__(self, spec: NodeSpec, number: int, link: Link, addresses: Addresses) -> None:
        """`number` is that of the call."""
        super().__init__(spec, link, addresses)
        self._number = number
        self.is_over = False
        """Whether the call has ended: the runtime hears nothing more about it."""

    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """See ``Speaker.ask``."""
        self._check()
        return await self._link.call(packed(head, data), about=self._number, hear=hear)

    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """See ``Speaker.tell``."""
        self._check()
        self._link.note(packed(head, data), about=self._number)

    def _check(self) -> None:
        if self.is_over:
            raise self._late("the call that it was part of")


@final
class VisitSpeaker(_NodeSpeaker):
    """What a node depends on: see ``Speaker``. It may live longer than the call for which it was made."""

    def __init__(self, spec: NodeSpec, graph: str, visit: Stay, link: Link, addresses: Addresses) -> None:
        super().__init__(spec, link, addresses)
        self._by = f"{graph}/{spec.name}"
        self._visit = visit

    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """See ``Speaker.ask``."""
        return await self._link.call(packed(self._told(head), data), is_free=True, hear=hear)

    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """See ``Speaker.tell``."""
        self._link.note(packed(self._told(head), data))

    def _told(self, head: dict[str, Any]) -> dict[str, Any]:
        if self._visit.is_over:
            raise self._late("its run")
        return {**head, "visit": self._visit.id, "by": self._by}
