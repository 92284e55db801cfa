"""The launcher of one place, as the runtime sees it: a child process that is told which hosts to start and to end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast, final

import attrs
import trio

from actors.errors import UsageError
from actors.placement_errors import PlaceUnavailable
from runtime.core.services import Doorbell
from runtime.placement.guardian_line import own_path
from runtime.placement.host.dialling import DialTicket
from runtime.placement.places import Gone

COMMAND: Final = (sys.executable, "-P", str(Path(__file__).parent / "launcher.py"))
"""What is run."""
END_S: Final = 6.0
"""How long a launcher may take to end when nothing more is said to it; it takes less on its own."""
LAST_WORDS_S: Final = 1.0
"""How long what it has said is read after its end."""
_READ_BYTES: Final = 64 * 1024


@final
@attrs.define(eq=False)
class HostOrder:
    """The order to start one host."""

    _pending: Callable[[str, str], None]
    """Told what it needs and what there is, while no machine can hold it."""
    number: int = attrs.field(default=0, init=False)
    """0 before it is given."""
    _room: tuple[str, str] | None = attrs.field(default=None, init=False)
    gone: Gone | None = attrs.field(default=None, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    def wait(self, needs: str, has: str) -> None:
        """No machine can hold it now."""
        self._room = needs, has
        self._pending(needs, has)

    def room(self) -> str:
        """Whether it has waited for room, in words that end a sentence."""
        return "" if self._room is None else "; it needs {}, and free there was: {}".format(*self._room)

    def end(self, gone: Gone) -> None:
        """Its engine says that it is gone."""
        if self.gone is None:
            self.gone = gone
            self._ended.set()

    async def ended(self) -> Gone:
        """Wait until its engine says that it is gone, or is gone itself."""
        await self._ended.wait()
        assert self.gone is not None, "it is set before"
        return self.gone


@final
class Launching:
    """One launcher, while it runs."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.address = ""
        """The address by which the nodes of its cluster know this machine, once it has joined."""
        self._joined = trio.Event()
        self._failure: Exception | None = None
        self._ended: Gone | None = None
        self._over = trio.Event()
        self._all_read = trio.Event()
        self._orders: dict[int, HostOrder] = {}
        self._numbers: Iterator[int] = itertools.count(1)
        self._outbox: deque[bytes] = deque()
        self._bell = Doorbell()

    async def join(self, settings: Mapping[str, Any], start_timeout_s: float) -> None:
        """Have it join the cluster of `settings`, while :meth:`carry` runs.

        Raises:
            UsageError: the cluster is not used. PlaceUnavailable: it cannot be reached, or not in time.
        """
        self._say({**settings, "path": own_path()})
        with trio.move_on_after(start_timeout_s) as scope:
            await self._joined.wait()
        if scope.cancelled_caught:
            self._failure = _unreachable(f"it has not answered within start_timeout_s={start_timeout_s:g}", settings)
        if self._failure is not None:
            raise self._failure
        if self._ended is not None:
            raise _unreachable(self._ended.how, settings)

    def start(self, order: HostOrder, ticket: DialTicket) -> None:
        """Have a host's guardian started, which dials by `ticket`."""
        order.number = next(self._numbers)
        if self._ended is not None:
            order.end(self._ended)
            return
        self._orders[order.number] = order
        self._say({"op": "start", "id": order.number, "ticket": ticket})

    def end(self, order: HostOrder) -> None:
        """Have its guardian ended, and the host with it, no matter what they do; an order that was never given has ended."""
        if order.number in self._orders:
            self._say({"op": "end", "id": order.number})
        elif order.gone is None:
            order.end(Gone("it was not started"))

    async def gone(self) -> Gone:
        """Wait until it has ended."""
        await self._over.wait()
        assert self._ended is not None, "it is set before"
        return self._ended

    def _say(self, words: Mapping[str, Any]) -> None:
        self._outbox.append(json.dumps(words).encode() + b"\n")
        self._bell.ring()

    async def carry(self) -> None:
        """Pass on what is said, in both directions, until it has ended; then all that was ordered has, too.

        Cancelled, it is to be ended: no one waits any longer for what was ordered of it.
        """
        ended = Gone("its launcher was ended")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read)
                code = await self.process.wait()  # not the end of its output, which a process that it has started may hold, too
                with trio.move_on_after(LAST_WORDS_S):
                    await self._all_read.wait()
                nursery.cancel_scope.cancel()
            ended = Gone(f"its launcher ended with exit code {code}")
        finally:
            self._ended = ended
            self._over.set()
            self._joined.set()
            for order in list(self._orders.values()):
                order.end(ended)
            self._orders.clear()

    async def _write(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None, "it is piped"
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._bell.wait()
                while self._outbox:
                    await pipe.send_all(self._outbox.popleft())

    async def _read(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None, "it is piped"
        left = b""
        while True:
            try:
                data = await pipe.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                self._all_read.set()
                return
            *lines, left = (left + bytes(data)).split(b"\n")
            for line in lines:
                self._take(cast("dict[str, Any]", json.loads(line)))

    def _take(self, words: Mapping[str, Any]) -> None:
        order = self._orders.get(words.get("id", 0))
        match words["said"]:
            case "joined":
                self.address = words["address"]
                self._joined.set()
            case "unfit":
                self._failure = UsageError(str(words["why"]))
                self._joined.set()
            case "failed":
                self._failure = PlaceUnavailable(
                    f"the cluster cannot be joined: {words['why']}.\n"
                    "  Fix: see whether it runs, whether its address is right, and whether this machine is one of its nodes."
                )
                self._joined.set()
            case "pending" if order is not None:
                order.wait(words["needs"], words["has"])
            case "gone" if order is not None:
                del self._orders[order.number]
                order.end(Gone(words["how"]))
            case _:
                pass  # of a host that was given up, or good news


def _unreachable(how: str, settings: Mapping[str, Any]) -> PlaceUnavailable:
    return PlaceUnavailable(
        f"the cluster at {settings['address']} cannot be joined: {how}.\n"
        "  Fix: see whether it runs, whether this machine is one of its nodes, and what its launcher has written."
    )


@contextlib.asynccontextmanager
async def launched(command: Sequence[str], environment: Mapping[str, str | None]) -> AsyncGenerator[Launching]:
    """Run a launcher until the block is left. A variable of its environment that is None is not set there."""
    all_of_it = {**os.environ, **environment}
    process = await trio.lowlevel.open_process(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in all_of_it.items() if value is not None},
        start_new_session=True,  # a Ctrl-C in the terminal is the runtime's
    )
    try:
        yield Launching(process)
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None, "it is piped"
            await process.stdin.aclose()
            with trio.move_on_after(END_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            assert process.stdout is not None, "it is piped"
            await process.stdout.aclose()
