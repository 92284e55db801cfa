"""What the benchmark of places has done on hosts, where these can import it; and an echo without anything of ours around it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import attrs
import trio

from actors import Actor, Gather, Graph, Request

ECHO: Final = """
import socket, sys, trio

async def main():
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=int(sys.argv[1]))))
    size, left = int(sys.argv[2]), b""
    while data := await stream.receive_some(262144):
        left += data
        if len(left) >= size:
            whole = len(left) // size * size
            await stream.send_all(left[:whole])
            left = left[whole:]

trio.run(main)
"""
"""Sends messages of a fixed size back."""


@asynccontextmanager
async def raw_stream(size: int) -> AsyncGenerator[trio.SocketStream]:
    """A stream to a process that sends back each `size` bytes."""
    near, far = socket.socketpair()
    with far:
        command = [sys.executable, "-c", ECHO, str(far.fileno()), str(size)]
        child = subprocess.Popen(command, pass_fds=[far.fileno()])  # noqa: ASYNC220 - before anything is measured
    async with trio.SocketStream(trio.socket.from_stdlib_socket(near)) as stream:
        yield stream
    await trio.to_thread.run_sync(child.wait)


@attrs.frozen
class Ping(Request[int]):
    number: int


class Echo(Actor[Ping]):
    async def receive(self, message: Ping) -> int:
        return message.number


class Napper(Actor[float]):
    async def receive(self, message: float) -> None:
        await trio.sleep(message)


class Keyed(Actor[Ping]):
    def __init__(self, key: int) -> None:
        self.key = key

    async def receive(self, message: Ping) -> int:
        return message.number


@attrs.frozen
class Pile:
    items: int
    busy_s: float = 0.0
    nap_s: float = 0.0


@attrs.frozen
class Piece:
    number: int
    busy_s: float
    nap_s: float


@attrs.frozen
class Done:
    number: int


@attrs.frozen
class AllDone:
    count: int


def piles(place: str | None, concurrency: int) -> Graph[Pile, AllDone]:
    """A fan-out over `place`; its working node takes its time in computing, or in waiting."""
    graph = Graph("piles", input=Pile, output=AllDone)

    @graph.node
    async def split(pile: Pile) -> list[Piece]:
        return [Piece(number, pile.busy_s, pile.nap_s) for number in range(pile.items)]

    graph.node(place=place, concurrency=concurrency)(piece_work)

    @graph.node
    async def count(done: Annotated[list[Done], Gather()]) -> AllDone:
        return AllDone(len(done))

    return graph


async def piece_work(piece: Piece) -> Done:
    """Compute for so long, or wait."""
    if piece.busy_s:
        until = time.process_time() + piece.busy_s  # its own CPU: another process may have the core meanwhile
        while time.process_time() < until:
            pass
    if piece.nap_s:
        await trio.sleep(piece.nap_s)
    return Done(piece.number)
