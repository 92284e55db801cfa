"""One request to a model on its way: authorised if it must be, over the transport or, where only LiteLLM can, in a thread."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar, final

import attrs
import trio

from actors.errors import UsageError
from runtime.lm.http.http_messages import HttpReply, HttpStream
from runtime.lm.http.tape import Tape
from runtime.lm.http.transport import HttpTransport, whole_reply
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import is_warm

Answer = TypeVar("Answer")
READ_ON_THE_LOOP_BYTES = 500_000
"""Longer replies are read in a thread: LiteLLM and we parse them three times, some ten milliseconds for each megabyte."""


async def send(
    exchange: ModelExchange,
    transport: HttpTransport,
    may_resend: Callable[[], bool],
    on_sent: Callable[[], None],
    tape: Tape | None = None,
) -> HttpReply:
    """The whole reply to one attempt at `exchange`. Raises what ``HttpTransport.send`` raises, and LMAuthFailed."""
    if tape is not None:
        async with stream(exchange, transport, may_resend, on_sent, tape) as http:
            return await whole_reply(http)
    if exchange.threaded is not None:
        on_sent()
        return await exchange.threaded.reply()
    request = exchange.request
    if exchange.sign_in is not None:
        request = await exchange.sign_in.authorised(request, transport)
    return await transport.send(request, may_resend=may_resend, on_sent=on_sent)


def stream(
    exchange: ModelExchange,
    transport: HttpTransport,
    may_resend: Callable[[], bool],
    on_sent: Callable[[], None],
    tape: Tape | None = None,
) -> AbstractAsyncContextManager[HttpStream]:
    """The reply to one attempt at `exchange` as it comes; that of a thread comes whole. Raises what :func:`send` raises.

    With a `tape` it is a recorded one, or it is recorded: a request that it answers doesn't sign in, and counts as sent.
    """
    if tape is not None:
        if exchange.threaded is not None:
            raise UsageError(
                f"{exchange.request.place}: LiteLLM makes the calls of this provider itself, so they can't be recorded.\n"
                "  Fix: leave record= out for this model, or ask it through a gateway that speaks OpenAI's protocol."
            )
        on_sent()
        live = functools.partial(stream, exchange, transport, may_resend, on_sent)
        return tape.stream(exchange.request, live, functools.partial(_secrets_of, exchange))
    if exchange.threaded is None and exchange.sign_in is None:
        return transport.stream(exchange.request, may_resend=may_resend, on_sent=on_sent)
    return _prepared(exchange, transport, may_resend, on_sent)


def _secrets_of(exchange: ModelExchange) -> Sequence[str]:
    return () if exchange.sign_in is None else exchange.sign_in.authority.secrets


@final
@attrs.frozen
class Reading(Generic[Answer]):
    """How replies of one kind are read."""

    read: Callable[[ModelExchange, HttpReply], Answer]
    read_plainly: Callable[[ModelExchange, HttpReply], Answer | None] | None = None
    """The same without LiteLLM; it gives None for a reply that needs it."""

    async def of(self, exchange: ModelExchange, reply: HttpReply) -> Answer:
        """What is in `reply`. In a thread where the event loop would wait: for a long reply, or for LiteLLM's import."""
        if len(reply.body) <= READ_ON_THE_LOOP_BYTES:
            if is_warm():
                return self.read(exchange, reply)
            plain = None if self.read_plainly is None else self.read_plainly(exchange, reply)
            if plain is not None:
                return plain
        return await trio.to_thread.run_sync(self.read, exchange, reply)


@asynccontextmanager
async def _prepared(
    exchange: ModelExchange, transport: HttpTransport, may_resend: Callable[[], bool], on_sent: Callable[[], None]
) -> AsyncGenerator[HttpStream, None]:
    if exchange.threaded is not None:
        on_sent()
        reply = await exchange.threaded.reply()
        yield HttpStream(reply.status, reply.headers, _once(reply.body))
    elif exchange.sign_in is not None:
        request = await exchange.sign_in.authorised(exchange.request, transport)
        async with transport.stream(request, may_resend=may_resend, on_sent=on_sent) as http:
            yield http


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
