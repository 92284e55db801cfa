"""Running a run again: what stands in for the world outside of it, such as recorded answers at their recorded times.

A rehearsal is asked wherever a durable run would buy something or has ended a step. ``runtime.testing`` has one that serves a
record, ``supposing`` one that has a part of a run done by something else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from actors.errors import UsageError
from actors.graphs.node import NodeSpec
from actors.lm import LM, Completion, Embeddings


class CaseDiverged(UsageError):
    """A run that is run again asks for something that its record does not hold."""


class Known(Protocol):
    """A call of a language model whose end is known before it begins."""

    @property
    def place(self) -> str:
        """Where it stands in the journal."""
        ...

    async def come(self) -> Completion | Embeddings:
        """Wait as long as the answer took, and return it. One that was cut short never comes.

        Raises:
            Exception: what the call failed with.
        """
        ...


class Rehearsal(Protocol):
    """What stands in for the world outside. A place is a path with the frames before it, as records have it."""

    def call(self, place: str, digest: str) -> Known | None:
        """The call with `digest` of the attempt at `place` (``task#attempt``); None: the model is to be asked.

        Raises:
            CaseDiverged: nothing is known of it, and no model is there.
        """
        ...

    async def once(self, place: str) -> bytes | None:
        """What ``run.once``, or a tool, has given there (``task#attempt:name:n``); None: it is to be called. Raises its error.

        Raises:
            CaseDiverged: nothing is known of it, and nothing may be called.
        """
        ...

    async def attempt(self, place: str, number: int, spec: NodeSpec, perform: Callable[[], Awaitable[Any]]) -> Any:
        """Make an attempt at the message of `place`: return what it makes, or raise what it fails with, when it is its turn."""
        ...

    async def emitted(self, place: str, index: int) -> None:
        """Return when it is the turn of item `index` of the generator at `place`."""
        ...

    def lm(self, place: str, spec: NodeSpec) -> LM | None:
        """The language model for the message of `place`; None: the node's."""
        ...

    def instruction(self, place: str, spec: NodeSpec) -> str:
        """What a predict node is told to do with the message of `place`."""
        ...


REHEARSAL: Final[ContextVar[Rehearsal | None]] = ContextVar("understudy_rehearsal", default=None)
"""That of the durable runs that are started in this context."""
