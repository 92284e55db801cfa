"""The main program of a host process: work over the inherited socket, or one that it dials, and end with the guardian."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, cast

import trio

from actors.graphs.node import NodeSpec
from runtime.placement.actor_codes import imported_factory
from runtime.placement.host.dialling import PATIENCE_S, DialTicket, check_certificate, first_words, tls_context
from runtime.placement.host.finding import imported_node
from runtime.placement.host.serving import work
from runtime.placement.places import Invitation

ORPHANED: Final = 4
"""The exit code of a host whose guardian has ended."""
_PR_SET_PDEATHSIG: Final = 1


def main(told: Mapping[str, Any]) -> None:
    """Be the host that `told` describes, until the link ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runtime decides about its end
    _die_with_parent(told["guardian"])
    threading.Thread(target=_end_with_guardian, daemon=True).start()
    invitation = Invitation(
        told["place"],
        told["host"],
        told["incarnation"],
        bytes.fromhex(told["secret"]),
        told["dead_after_s"],
        told.get("watchdog_s"),
    )
    trio.run(_serve, told, invitation)


async def _serve(told: Mapping[str, Any], invitation: Invitation) -> None:
    link: int | None = told["link"]
    if link is None:
        stream: trio.abc.Stream = await dialled_stream(told["dial"])
    else:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=link)))
    async with closed_forcefully(stream):
        await work(stream, invitation, _find, imported_factory, {"pid": os.getpid(), "host": invitation.host})


def _find(name: str, graph: str, node: str) -> NodeSpec:
    return imported_node(name, node)


async def dialled_stream(ticket: DialTicket) -> trio.abc.Stream:
    """A stream to the runtime, over which the first words were said.

    Raises:
        OSError: no one answers there. trio.TooSlowError: not in time. StrangerAnswered: it is somebody else.
    """
    with trio.fail_after(PATIENCE_S):
        reached: trio.abc.Stream = await trio.open_tcp_stream(ticket["address"], ticket["port"])
        try:
            stream = reached
            if ticket["fingerprint"]:
                secured = trio.SSLStream(reached, tls_context(), https_compatible=True)
                await secured.do_handshake()
                check_certificate(cast("bytes | None", secured.getpeercert(binary_form=True)), ticket)
                stream = secured
            await stream.send_all(first_words(ticket))
        except BaseException:
            await trio.aclose_forcefully(reached)
            raise
    return stream


@contextlib.asynccontextmanager
async def closed_forcefully(stream: trio.abc.Stream) -> AsyncGenerator[None]:
    """Close a stream at the end, without a word: under TLS that word would wait for a runtime that may be cut off."""
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)


def _die_with_parent(guardian: int) -> None:
    """Let Linux kill this process when its guardian ends, even by SIGKILL, and even while C code holds the interpreter."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:  # it ended before that
        os._exit(ORPHANED)


def _end_with_guardian() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock the end of the interpreter would wait for
    os._exit(ORPHANED)
