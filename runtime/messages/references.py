"""Refs to actors within messages: they travel as addresses, between two processes that both know what an address stands for.

Nothing else does: a ref in a store, or in JSON for the world outside, names no one.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, Final, Protocol, TypeGuard, cast, final, get_origin

from actors.actor import ActorRef

TAG: Final = "actors:ActorRef"
"""What says that a text in JSON is the address of an actor."""


class Addresses(Protocol):
    """What addresses stand for on this side."""

    def address_of(self, ref: ActorRef[Any], /) -> str:
        """The address under which the other side finds the actor.

        Raises:
            ValueError: it finds none.
        """
        ...

    def ref_at(self, address: str, /) -> ActorRef[Any]:
        """The ref to the actor of that address."""
        ...


_ADDRESSES: ContextVar[Addresses | None] = ContextVar("understudy_addresses", default=None)


@final
class with_addresses:  # a class, since a generator for each message would cost more than what it holds
    """What is written and read in the block may hold refs."""

    __slots__ = ("_addresses", "_token")

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._token: Token[Addresses | None] | None = None

    def __enter__(self) -> None:
        self._token = _ADDRESSES.set(self._addresses)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _ADDRESSES.reset(self._token)


def is_ref_type(annotation: object) -> bool:
    """Whether `annotation` is ``ActorRef`` or ``ActorRef[…]``."""
    return (get_origin(annotation) or annotation) is ActorRef


def is_ref(value: object) -> TypeGuard[ActorRef[Any]]:
    """Whether `value` is a ref to an actor."""
    return issubclass(type(value), ActorRef)


def write_ref(ref: ActorRef[Any]) -> dict[str, str]:
    """A ref as JSON.

    Raises:
        ValueError: it means nothing on the other side.
    """
    addresses = _ADDRESSES.get()
    if addresses is None:
        raise ValueError("a ref to an actor means nothing outside of its runtime")
    return {TAG: addresses.address_of(ref)}


def address_in(value: object) -> str | None:
    """The address, if `value` is what :func:`write_ref` makes, and refs may be read now."""
    if type(value) is not dict or _ADDRESSES.get() is None:
        return None
    written = cast("dict[str, object]", value)
    found = written.get(TAG) if len(written) == 1 else None
    return found if type(found) is str else None


def read_ref(value: object) -> ActorRef[Any]:
    """The ref that :func:`write_ref` made `value` of.

    Raises:
        ValueError: it is none.
    """
    addresses, address = _ADDRESSES.get(), address_in(value)
    if addresses is None or address is None:
        raise ValueError("expected a ref to an actor")
    return addresses.ref_at(address)
