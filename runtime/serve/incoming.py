"""What is heard of the client of a request: its body, within the limits, and that it has gone."""

from __future__ import annotations

from typing import Any, final

import trio

from runtime.embed.disconnects import Message, Receive, Scope
from runtime.serve.limits import Limits
from runtime.serve.problem_documents import HttpProblem
from runtime.traces.kept_run import RunRecord


@final
class ClientLeft(Exception):
    """No client waits for the response any more."""


@final
class Incoming:
    """The messages of one request, none of which is longer, or comes later, than the limits allow.

    A handler that waits for a run waits here, for its client's departure at the same time: that takes no task beside its own.
    """

    __slots__ = ("_deadline_s", "_declared", "_is_whole", "_limits", "_receive", "_total")

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        self._declared = int(declared[:20]) if declared.isdigit() else None
        """How long the body is said to be; None if that is not said."""
        self._receive = receive
        self._limits = limits
        self._deadline_s = trio.current_time() + limits.body_s
        self._total = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """The next message, as ASGI's ``receive``.

        Raises:
            Problem: the body is too long, or too slow.
        """
        if self._is_whole:
            return await self._receive()  # the departure of the client, which may come late
        self._check_declared()
        with trio.CancelScope(deadline=self._deadline_s) as limit:
            return self._noted(await self._receive())
        assert limit.cancelled_caught, "it returns or raises otherwise"
        raise self._too_slow()

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: it is too long, or too slow. ClientLeft: the rest will not come.
        """
        self._check_declared()
        parts: list[bytes] = []
        with trio.CancelScope(deadline=self._deadline_s) as limit:
            while (
                not self._is_whole and self._total != self._declared
            ):  # the rest of what is declared is a message without content
                message = self._noted(await self._receive())
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
        if limit.cancelled_caught:
            raise self._too_slow()
        self._is_whole = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def until_over(self, record: RunRecord, limit_s: float) -> None:
        """Return when the run is over, or `limit_s` seconds later.

        Raises:
            ClientLeft: no one waits for it.
        """
        if record.is_over:
            return
        scope = trio.CancelScope(deadline=trio.current_time() + limit_s)
        waits = record.ended_by_its_end = [] if record.ended_by_its_end is None else record.ended_by_its_end
        waits.append(scope)
        try:
            with scope:
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                raise ClientLeft
        finally:
            waits.remove(scope)

    def _check_declared(self) -> None:
        if self._declared is not None and self._declared > self._limits.body_bytes:
            raise self._too_large()

    def _noted(self, message: Message) -> Message:
        self._total += len(message.get("body", b""))
        if self._total > self._limits.body_bytes:
            raise self._too_large()
        self._is_whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> HttpProblem:
        return HttpProblem("body-too-large", f"The body has more than {self._limits.body_bytes:,} bytes.")

    def _too_slow(self) -> HttpProblem:
        return HttpProblem("body-too-slow", f"The body did not come within {self._limits.body_s:g} s.")


def incoming_of(request: Any) -> Incoming:
    """That of a request which the service has let in."""
    found: Incoming = request.scope[INCOMING]
    return found


INCOMING = "understudy.incoming"
"""Where it stands in the scope."""
