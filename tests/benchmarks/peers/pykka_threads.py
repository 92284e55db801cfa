"""Pykka: a thread and a queue per actor."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

import pykka

from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer


class Pong(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> int:
        return 1


def ask(size: int) -> float:
    pong = Pong.start()
    begin = perf_counter()
    for _ in range(size):
        pong.ask(1)
    took_s = perf_counter() - begin
    pykka.ActorRegistry.stop_all()
    return took_s


class Counter(pykka.ThreadingActor):
    def __init__(self, size: int, done: threading.Event) -> None:
        super().__init__()
        self.size, self.done, self.total = size, done, 0

    def on_receive(self, message: Any) -> None:
        self.total += message
        if self.total == self.size:
            self.done.set()


def one_way(size: int) -> float:
    done = threading.Event()
    counter = Counter.start(size, done)
    begin = perf_counter()
    for _ in range(size):
        counter.tell(1)
    done.wait()
    took_s = perf_counter() - begin
    pykka.ActorRegistry.stop_all()
    return took_s


class Join:
    def __init__(self, left: int) -> None:
        self.left, self.done, self.lock = left, threading.Event(), threading.Lock()

    def one_is_through(self) -> None:
        with self.lock:
            self.left -= 1
            if not self.left:
                self.done.set()


class Worker(pykka.ThreadingActor):
    def __init__(self, join: Join) -> None:
        super().__init__()
        self.join, self.received = join, 0

    def on_receive(self, message: Any) -> None:
        self.received += message
        if self.received == FORK_JOIN_MESSAGES:
            self.join.one_is_through()


def fork_join(size: int) -> float:
    join = Join(size // FORK_JOIN_MESSAGES)
    workers = [Worker.start(join) for _ in range(join.left)]
    begin = perf_counter()
    for _ in range(FORK_JOIN_MESSAGES):
        for worker in workers:
            worker.tell(1)
    join.done.wait()
    took_s = perf_counter() - begin
    pykka.ActorRegistry.stop_all()
    return took_s


class Node(pykka.ThreadingActor):
    def __init__(self, nodes: list[pykka.ActorRef[Any]], following: int, done: threading.Event) -> None:
        super().__init__()
        self.nodes, self.following, self.done = nodes, following, done

    def on_receive(self, message: Any) -> None:
        if message:
            self.nodes[self.following].tell(message - 1)
        else:
            self.done.set()


def ring(size: int) -> float:
    nodes, done = list[pykka.ActorRef[Any]](), threading.Event()
    for index in range(RING_SIZE):
        nodes.append(Node.start(nodes, (index + 1) % RING_SIZE, done))
    begin = perf_counter()
    nodes[0].tell(size)
    done.wait()
    took_s = perf_counter() - begin
    pykka.ActorRegistry.stop_all()
    return took_s


def spawn(size: int) -> float:
    begin = perf_counter()
    for _ in range(size):
        Pong.start()
    took_s = perf_counter() - begin
    pykka.ActorRegistry.stop_all()
    return took_s


def memory(size: int) -> float:
    before = resident_bytes()
    for _ in range(size):
        Pong.start()
    grown = resident_bytes() - before
    pykka.ActorRegistry.stop_all()
    return grown


PEER = Peer(
    "Pykka",
    {"ask": ask, "one-way": one_way, "fork-join": fork_join, "ring": ring, "spawn": spawn, "memory": memory},
    share=0.1,
    max_idle=2_000,
)
