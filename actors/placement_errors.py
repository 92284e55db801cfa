"""Errors of what runs in other processes: hosts, the places that they belong to, and what travels there.

::

    UnderstudyError
    ├── HostLost                    the process that worked for this one is gone, or silent
    ├── OwnerLost                   the owner of a store that had a key is gone
    ├── HostRefused                 a host has other code than this process
    ├── PlaceUnavailable            no host of a place is ready in time
    ├── NotPortable                 a value or a class cannot go to another process
    ├── MessageTooLarge             a message has more bytes than may travel
    └── RemoteError                 code on a host raised an error of a class that is known only there
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.errors import UnderstudyError


class HostLost(UnderstudyError):
    """A host ended, fell silent, or was killed, and took with it what it worked on; whether that had effects isn't known.

    ``how`` tells in words what was seen, ``silent_s`` for how many seconds nothing had been heard. ``incarnation`` is the host's:
    errors that agree in place and incarnation are of one loss. ``was_sent`` is False if nothing of the work had left for the
    host, so it had no effect there.
    """

    retryable: bool | None = True
    was_sent: bool = True

    def __init__(
        self, message: str, *, place: str = "", host: str = "", how: str = "", silent_s: float = 0.0, incarnation: int = 0
    ) -> None:
        super().__init__(message)
        self.place = place
        self.host = host
        self.how = how
        self.silent_s = silent_s
        self.incarnation = incarnation


class OwnerLost(UnderstudyError):
    """The owner of a store that had the actor of a key was lost, and with it a message; whether that was handled isn't known.

    ``owner`` is its worker, as the store knows it.
    """

    retryable: bool | None = True

    def __init__(self, message: str, *, owner: str = "") -> None:
        super().__init__(message)
        self.owner = owner


class HostRefused(UnderstudyError):
    """A host was started and is not used: it runs other code than this process. ``differing`` names the nodes and types."""

    retryable: bool | None = False

    def __init__(self, message: str, *, place: str = "", host: str = "", differing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.place = place
        self.host = host
        self.differing: tuple[str, ...] = tuple(differing)


class PlaceUnavailable(UnderstudyError):
    """A place has had no host for its ``start_timeout_s``; opposite: :class:`HostLost`, of one that worked."""

    retryable: bool | None = True

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class NotPortable(UnderstudyError):
    """A value cannot go to another process: it isn't of a declared type, or no JSON gives it back. Nothing was sent."""

    retryable: bool | None = False

    def __init__(self, message: str, *, type: str = "", field: str | None = None) -> None:  # noqa: A002 - as NotStorable has it
        super().__init__(message)
        self.type = type
        self.field = field


class MessageTooLarge(UnderstudyError):
    """A message has more bytes than may travel to another process. Nothing was sent."""

    retryable: bool | None = False

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class RemoteError(UnderstudyError):
    """Code on a host raised an error whose class this process does not look up by a name that comes from outside.

    ``kind`` is the class as ``module:Class``, ``kinds`` those that it derives from too, ``text`` what it said, ``trace`` its
    traceback as text. ``retryable`` was decided on the host, as for any error of that class.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        kinds: Sequence[str] = (),
        text: str = "",
        trace: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.kinds: tuple[str, ...] = tuple(kinds)
        self.text = text
        self.trace = trace
        self.retryable = retryable
