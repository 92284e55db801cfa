"""In whose name the function of a placed node speaks to actors: that of the call which it works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from actors.graphs.node import NodeSpec
from actors.graphs.placing import handler_of
from runtime.messages.references import Addresses
from runtime.placement.actor_codes import ActorCode
from runtime.placement.call_payloads import packed
from runtime.placement.link import Hear, Link

_NO_MODELS: Final[Mapping[str | None, str]] = {}


@final
class NodeSpeaker:
    """See ``Speaker``."""

    def __init__(self, spec: NodeSpec, number: int, link: Link, addresses: Addresses) -> None:
        """`number` is that of the call."""
        self.cell = None
        self.spawner = None
        self.models = _NO_MODELS  # they are its parameters
        self._spec = spec
        self._number = number
        self._link = link
        self._addresses = addresses
        self._code: ActorCode | None = None

    @property
    def address(self) -> str:
        """Its name, to which nothing is sent."""
        return self._spec.name

    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """See ``Speaker.ask``."""
        return await self._link.call(packed(head, data), about=self._number, hear=hear)

    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """See ``Speaker.tell``."""
        self._link.note(packed(head, data), about=self._number)

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
