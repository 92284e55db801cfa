"""Thespian on its ``simpleSystemBase``: all actors in the calling thread, each message handled within the call that sent it."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import attrs
from thespian.actors import Actor, ActorSystem

from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer


def in_system(body: Callable[[Any], float]) -> float:
    system = ActorSystem("simpleSystemBase")
    try:
        return body(system)
    finally:
        system.shutdown()


class Pong(Actor):
    def receiveMessage(self, message: Any, sender: Any) -> None:
        self.send(sender, 1)


def ask(size: int) -> float:
    def body(system: Any) -> float:
        pong = system.createActor(Pong)
        begin = perf_counter()
        for _ in range(size):
            system.ask(pong, 0)
        return perf_counter() - begin

    return in_system(body)


class Counter(Actor):
    total = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if message == "total":
            self.send(sender, self.total)
        elif isinstance(message, int):
            self.total += message


def one_way(size: int) -> float:
    def body(system: Any) -> float:
        counter = system.createActor(Counter)
        begin = perf_counter()
        for _ in range(size):
            system.tell(counter, 1)
        total = system.ask(counter, "total")
        took_s = perf_counter() - begin
        assert total == size
        return took_s

    return in_system(body)


def fork_join(size: int) -> float:
    def body(system: Any) -> float:
        workers = [system.createActor(Counter) for _ in range(size // FORK_JOIN_MESSAGES)]
        begin = perf_counter()
        for _ in range(FORK_JOIN_MESSAGES):
            for worker in workers:
                system.tell(worker, 1)
        took_s = perf_counter() - begin
        assert system.ask(workers[-1], "total") == FORK_JOIN_MESSAGES
        return took_s

    return in_system(body)


@attrs.frozen
class Link:
    following: Any


@attrs.frozen
class Token:
    left: int
    asker: Any = None


class Node(Actor):
    following: Any = None

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, Link):
            self.following = message.following
        elif isinstance(message, Token):
            asker = message.asker or sender
            if message.left:
                self.send(self.following, Token(message.left - 1, asker))
            else:
                self.send(asker, "done")


def ring(size: int) -> float:
    def body(system: Any) -> float:
        nodes = [system.createActor(Node) for _ in range(RING_SIZE)]
        for index, node in enumerate(nodes):
            system.tell(node, Link(nodes[(index + 1) % RING_SIZE]))
        begin = perf_counter()
        answer = system.ask(nodes[0], Token(size))
        took_s = perf_counter() - begin
        assert answer == "done"
        return took_s

    return in_system(body)


def spawn(size: int) -> float:
    def body(system: Any) -> float:
        begin = perf_counter()
        for _ in range(size):
            system.createActor(Pong)
        return perf_counter() - begin

    return in_system(body)


def memory(size: int) -> float:
    def body(system: Any) -> float:
        before = resident_bytes()
        actors = [system.createActor(Pong) for _ in range(size)]
        grown = resident_bytes() - before
        assert len(actors) == size
        return grown

    return in_system(body)


PEER = Peer(
    "Thespian",
    {"ask": ask, "one-way": one_way, "fork-join": fork_join, "ring": ring, "spawn": spawn, "memory": memory},
    share=0.2,
)
