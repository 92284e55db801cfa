"""The options of ``spawn`` on their way from a host to its runtime, as plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from actors.mailbox import MailboxSpec, Overflow
from actors.placement_errors import NotPortable
from actors.restarts import Backoff, Redelivery, RestartType


def options_told(options: Mapping[str, object]) -> dict[str, Any]:
    """`options`, those of ``SpawnOptions``, as JSON; one that is None is left out. What is wrong with them is said by ``spawn``.

    Raises:
        NotPortable: a ``retry_on``, which is code.
    """
    return {name: _told(value) for name, value in options.items() if value is not None}


def _told(value: object) -> Any:
    if isinstance(value, Redelivery):
        if value.retry_on is not None:
            raise NotPortable(
                f"spawn(redelivery=Redelivery(retry_on={value.retry_on!r})) cannot go from a host to its runtime: it is code.\n"
                "  Fix: leave retry_on out; or let an actor that isn't placed spawn it, and send its ref."
            )
        return {"redelivery": [value.max_attempts, list(attrs.astuple(value.backoff))]}
    if isinstance(value, MailboxSpec):
        return {"mailbox": [value.capacity, value.overflow.value]}
    if isinstance(value, RestartType):
        return {"restart": value.value}
    if isinstance(value, str | int | float):
        return value
    raise NotPortable(
        f"an option of spawn() is a {type(value).__name__}, which cannot go from a host to its runtime.\n"
        "  Fix: the options of ActorContext.spawn, with values of the types that are declared there."
    )


def options_of(told: Mapping[str, object]) -> dict[str, Any]:
    """What :func:`options_told` made `told` of."""
    return {name: _read(value) for name, value in told.items()}


def _read(value: object) -> object:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = cast("dict[str, Any]", value).items()
    return _READ[kind](content)


def _redelivery(content: list[Any]) -> Redelivery:
    attempts, backoff = content
    return Redelivery(attempts, Backoff(*backoff))


def _mailbox(content: list[Any]) -> MailboxSpec:
    capacity, overflow = content
    return MailboxSpec(capacity, Overflow(overflow))


_READ: Final[Mapping[str, Callable[[Any], object]]] = {
    "redelivery": _redelivery,
    "mailbox": _mailbox,
    "restart": RestartType,
}
