"""What a node's parameters can ask for besides messages: the handle of the run, and how a list is gathered."""

from __future__ import annotations

from typing import Any, Protocol, final

import attrs

from actors.checks import refuse


class Run(Protocol):
    """The run that a node works in: annotate a parameter with ``Run`` and it is injected.

    It belongs to one attempt at one message. The runtime makes it; in a unit test any object with these attributes will do.
    """

    @property
    def id(self) -> str:
        """The run's id, unique within its runtime."""
        ...

    @property
    def graph(self) -> str:
        """The graph's name."""
        ...

    @property
    def node(self) -> str:
        """The node's name."""
        ...

    @property
    def path(self) -> str:
        """Which message this is, by its way through the graph (``"graph/split/0/3/score/0"``); the same at every attempt."""
        ...

    @property
    def attempt(self) -> int:
        """Which delivery of the message this is, counted from 1."""
        ...


def _is_first(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise refuse(owner, attribute.name, value, "None or a whole number >= 1")


@final
@attrs.frozen
class Gather:
    """How a ``list[A]`` parameter gathers a fan-out: ``Annotated[list[A], Gather(first=2)]``.

    With `first` None (also without the marker) it waits until every branch has ended and gives the items in item order. With
    `first` = k it gives the first k items that arrive, in item order, and cancels the rest of the fan-out; when fewer than k
    come, it gives those once every branch has ended.
    """

    first: int | None = attrs.field(default=None, validator=_is_first)
