"""Requests that must be authorised again: by a token that expires, or by a signature that holds for minutes.

What has to wait for it (a token's renewal, a role's credentials) runs in a worker thread, once for all callers at the same time,
and its own HTTP requests go over the client's transport, in the caller's cancel scope.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, final

import trio

from runtime.lm.http.http_messages import HttpReply, HttpRequest
from runtime.lm.http.transport import HttpTransport

Post = Callable[[HttpRequest], HttpReply]
"""Sends one request from the worker thread and waits for the whole reply. A cancelled caller ends the wait."""


class Authority(Protocol):
    """What one provider's requests are authorised by. Knows its secrets, and shows none of them."""

    @property
    def secrets(self) -> Sequence[str]:
        """Texts that no message may contain."""
        ...

    @property
    def account(self) -> str:
        """What tells one account from another; may be a secret."""
        ...

    def renew(self, post: Post) -> float:
        """Get what requests are authorised with, in a worker thread. Returns for how many seconds it may be used.

        Raises:
            LMError: there is none.
        """
        ...

    def authorised(self, request: HttpRequest) -> HttpRequest:
        """`request` with its authorisation. Quick; called after :meth:`renew`."""
        ...


@final
class SignIn:
    """One client's access to a provider that signs in."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self._fresh_until = -math.inf
        self._turn = trio.Lock()

    async def authorised(self, request: HttpRequest, transport: HttpTransport) -> HttpRequest:
        """`request` with its authorisation, renewed if need be: the wait is the caller's, and so is its deadline."""
        if trio.current_time() >= self._fresh_until:
            async with self._turn:
                if trio.current_time() >= self._fresh_until:  # another call may have renewed it meanwhile
                    await self._renew(transport)
        return self.authority.authorised(request)

    async def _renew(self, transport: HttpTransport) -> None:
        def post(request: HttpRequest) -> HttpReply:
            return trio.from_thread.run(transport.send, request)

        usable_s = await trio.to_thread.run_sync(self.authority.renew, post)
        self._fresh_until = trio.current_time() + usable_s
