"""What may stand between a model's calls and the transport: a recorder of what passes, which can also answer in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runtime.lm.http.http_messages import HttpRequest, HttpStream

Live = Callable[[], AbstractAsyncContextManager[HttpStream]]
"""Sends the request over the network, when it is entered."""


Secrets = Callable[[], Sequence[str]]
"""What authorises a request beside what stands in it, as far as it is known by then: a signature's key, a token of a session."""


class Tape(Protocol):
    """Keeps requests with their replies, and gives the kept replies."""

    @property
    def may_send(self) -> bool:
        """Whether any request may still go out, which takes a real key."""
        ...

    def stream(self, request: HttpRequest, live: Live, secrets: Secrets) -> AbstractAsyncContextManager[HttpStream]:
        """The reply to `request` as it comes: a kept one, or that of `live`, which is kept then, without any of `secrets`."""
        ...
