"""The main program of a host process: work over the inherited socket, and end with the guardian."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

import trio

from actors.graphs.node import NodeSpec
from runtime.placement.actor_codes import imported_factory
from runtime.placement.host.finding import imported_node
from runtime.placement.host.serving import work
from runtime.placement.places import Invitation

ORPHANED: Final = 4
"""The exit code of a host whose guardian has ended."""


def main(told: Mapping[str, Any]) -> None:
    """Be the host that `told` describes, until the link ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runtime decides about its end
    threading.Thread(target=_end_with_guardian, daemon=True).start()
    invitation = Invitation(told["place"], told["host"], told["incarnation"], bytes.fromhex(told["secret"]), told["dead_after_s"])
    trio.run(_serve, told["link"], invitation)


async def _serve(link: int, invitation: Invitation) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=link)))
    async with stream:
        await work(stream, invitation, _find, imported_factory, {"pid": os.getpid(), "host": invitation.host})


def _find(name: str, graph: str, node: str) -> NodeSpec:
    return imported_node(name, node)


def _end_with_guardian() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock the end of the interpreter would wait for
    os._exit(ORPHANED)
