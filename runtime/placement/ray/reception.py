"""Where hosts on other machines and their guardians dial in: one address of the runtime's, for as long as a place needs it.

A caller has ten seconds for the handshake and the first words, which have a fixed length; nothing else is read of a
stranger. Each invitation is good for one connection. There are never more than a few strangers: the one that has waited longest
goes first.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import secrets
from collections.abc import AsyncGenerator, Generator
from typing import Final, final

import attrs
import trio

from actors.errors import UsageError
from actors.groups import failure_besides
from runtime.placement.host.dialling import FIRST, MARK, PATIENCE_S, DialTicket
from runtime.placement.ray.certificates import OwnCertificate

MAX_STRANGERS: Final = 64
"""How many connections may be open that have not said yet who they are."""


@final
@attrs.define(eq=False)
class ExpectedCaller:
    """A connection that somebody waits for."""

    ticket: DialTicket = attrs.field(repr=False)
    _stream: trio.abc.Stream | None = attrs.field(default=None, init=False)
    _came: trio.Event = attrs.field(factory=trio.Event, init=False)
    released: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when the task that waited for it needs it no more."""

    async def arrival(self) -> None:
        """Wait for it."""
        await self._came.wait()

    def take(self) -> trio.abc.Stream | None:
        """It, if it has come."""
        stream, self._stream = self._stream, None
        return stream

    def arrive(self, stream: trio.abc.Stream) -> None:
        """It is there."""
        self._stream = stream
        self._came.set()


@final
class Reception:
    """Takes connections at one address, while :meth:`run` runs."""

    def __init__(self, listener: trio.SocketListener, address: str, certificate: OwnCertificate | None) -> None:
        """`address` is what others are told; without a certificate nothing is encrypted."""
        self.address = address
        self.port = int(listener.socket.getsockname()[1])
        self._listener = listener
        self._certificate = certificate
        self._numbers = itertools.count(1)
        self._awaited: dict[int, ExpectedCaller] = {}
        self._strangers: dict[trio.CancelScope, None] = {}

    @property
    def strangers(self) -> int:
        """How many connections have not said yet who they are."""
        return len(self._strangers)

    @contextlib.contextmanager
    def expect(self) -> Generator[ExpectedCaller]:
        """Let one more connection in, by a ticket that is good for that one, as long as the block lasts."""
        number = next(self._numbers)
        fingerprint = "" if self._certificate is None else self._certificate.fingerprint
        awaited = self._awaited[number] = ExpectedCaller(
            DialTicket(address=self.address, port=self.port, fingerprint=fingerprint, number=number, secret=secrets.token_hex(32))
        )
        try:
            yield awaited
        finally:
            self._awaited.pop(number, None)
            awaited.released.set()

    async def run(self) -> None:
        """Take connections until it is cancelled."""
        await trio.serve_listeners(self._receive, [self._listener])

    async def _receive(self, stream: trio.SocketStream) -> None:
        """One connection. Any error that a stranger makes a library raise ends that connection, and nothing else."""
        awaited: ExpectedCaller | None = None
        taken: trio.abc.Stream = stream
        try:
            with trio.move_on_after(PATIENCE_S) as scope:
                if len(self._strangers) >= MAX_STRANGERS:
                    next(iter(self._strangers)).cancel()
                self._strangers[scope] = None
                try:
                    if self._certificate is not None:
                        secured = trio.SSLStream(stream, self._certificate.context, server_side=True, https_compatible=True)
                        await secured.do_handshake()
                        taken = secured
                    awaited = self._known(await _first_words(taken))
                finally:
                    del self._strangers[scope]
        except BaseException as error:
            if failure_besides(error, trio.Cancelled) is None:
                raise
        finally:
            if awaited is None:
                await trio.aclose_forcefully(stream)
        if awaited is not None:
            awaited.arrive(taken)
            await awaited.released.wait()  # what serves the listener closes the stream when this returns

    def _known(self, words: bytes) -> ExpectedCaller | None:
        """Who it is; whether its number or its secret is wrong takes the same time."""
        mark, number, secret = FIRST.unpack(words)
        awaited = self._awaited.get(number)
        expected = secrets.token_bytes(32) if awaited is None else bytes.fromhex(awaited.ticket["secret"])
        if not hmac.compare_digest(secret, expected) or mark != MARK:
            return None
        self._awaited.pop(number, None)
        return awaited


async def _first_words(stream: trio.abc.Stream) -> bytes:
    words = b""
    while len(words) < FIRST.size:
        more = await stream.receive_some(FIRST.size - len(words))
        if not more:
            raise trio.BrokenResourceError("it hung up")
        words += bytes(more)
    return words


@contextlib.asynccontextmanager
async def opened_reception(host: str, port: int, address: str, certificate: OwnCertificate | None) -> AsyncGenerator[Reception]:
    """Listen on `host` and `port` (0: any that is free), of which others are told as `address`; until the block is left.

    Raises:
        UsageError: this machine cannot listen there.
    """
    try:
        listener, *others = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise UsageError(
            f"this process cannot listen on {host}:{port} for its hosts: {error}.\n"
            "  Fix: listen='ADDRESS' or listen='ADDRESS:PORT' with an address of this machine, and a port that is free."
        ) from error
    for other in others:  # a name may stand for several addresses, each of which would get a port of its own
        other.socket.close()
    with listener.socket:
        async with trio.open_nursery() as nursery:
            reception = Reception(listener, address, certificate)
            nursery.start_soon(reception.run)
            yield reception
            nursery.cancel_scope.cancel()
