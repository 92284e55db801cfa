"""Fault plans: what goes wrong, where and when, written down beforehand and counted.

A plan is values; :meth:`FaultPlan.install` puts it between mailboxes and handlers, so real supervisors, redeliveries and timeouts
answer to it. Messages to one address are counted over its incarnations.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any, final

import attrs
import trio

from actors.argument_checks import is_count, is_number
from actors.errors import LMUnavailable
from actors.lm import LM, ChatMessage, Completion, LMStream
from runtime.app import Runtime
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import current_cell
from runtime.core.declared_answers import may_be_none
from runtime.lm.dspy.bridge import run_signature
from runtime.lm.limits.abilities import PassesAbilities
from runtime.lm.limits.cache import AnswerCache
from runtime.testing.schedules.simulation import Simulation
from runtime.testing.schedules.taps import Handler, tap

KINDS = ("crash", "drop", "duplicate", "delay", "block")
"""What can happen to a message."""
STORE_KINDS = ("read", "write")
"""What can fail at a store; ``Fault.message`` counts those."""


class InjectedFault(Exception):
    """What an actor raises where a plan orders it. An ordinary failure: worth another attempt."""


@final
@attrs.frozen
class Fault:
    """One fault. Strikes once."""

    kind: str
    address: str
    message: int = attrs.field(validator=is_count(least=1))
    """Which message of that actor, counted from 1."""
    checkpoint: int | None = None
    """For a crash: at which checkpoint of the handling, counted from 1; None: before the handler begins."""
    delay_s: float = attrs.field(default=0.0, validator=is_number(least=0, finite=True))
    """For a delay."""
    error: Exception | None = None
    """For a read or a write of a store: what it raises; None: :class:`InjectedFault`."""

    def __str__(self) -> str:
        if self.kind in STORE_KINDS:
            return f"fail {self.kind} {self.message} of {self.address!r}"
        at = f" at checkpoint {self.checkpoint}" if self.checkpoint is not None else ""
        by = f" by {self.delay_s:g} s" if self.kind == "delay" else ""
        return f"{self.kind} {self.address!r} on message {self.message}{at}{by}"


@final
class FaultPlan:
    """The faults of one test."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults = list(faults)
        self._outages: list[tuple[float, float]] = []
        self._counts: Counter[str] = Counter()
        self.struck: list[Fault] = []
        """Those that came about, in order."""

    @classmethod
    def drawn(
        cls,
        sim: Simulation,
        addresses: Sequence[str] = (),
        *,
        faults: int = 1,
        messages: int = 5,
        stores: Sequence[str] = (),
        outage_s: float = 0.0,
    ) -> FaultPlan:
        """At most `faults` faults, chosen by the simulation.

        They strike the first `messages` messages of `addresses`, and the first `messages` reads and writes of `stores` (see
        :meth:`cache`). With `outage_s`, the model of :meth:`lm` may be out for a stretch of the first `outage_s` seconds.
        They are recorded and replayed with the schedule, and left out one by one when a failure is simplified.
        """
        places = [(kind, address) for address in addresses for kind in KINDS]
        places += [(kind, store) for store in stores for kind in STORE_KINDS]
        places += [("outage", "")] if outage_s else []
        plan = cls()
        for _ in range(faults):
            place, message = sim.choose(1 + len(places)), sim.choose(messages)
            if not place:
                continue
            kind, where = places[place - 1]
            if kind == "outage":
                begin = outage_s * message / messages
                plan.outage(begin, begin + (outage_s - begin) * (1 + sim.choose(4)) / 4)
            else:
                plan._faults.append(Fault(kind, where, message + 1, delay_s=1.0))
        return plan

    @property
    def pending(self) -> list[Fault]:
        """Those that have not come about."""
        return list(self._faults)

    def crash(self, address: str, *, on_message: int = 1, at_checkpoint: int | None = None) -> FaultPlan:
        """Let the actor raise :class:`InjectedFault` on its k-th message, when it arrives or at its n-th checkpoint."""
        return self._add(Fault("crash", address, on_message, at_checkpoint))

    def drop(self, address: str, *, on_message: int = 1) -> FaultPlan:
        """Let the actor lose its k-th message: it is answered with None and not handled."""
        return self._add(Fault("drop", address, on_message))

    def duplicate(self, address: str, *, on_message: int = 1) -> FaultPlan:
        """Let the actor handle its k-th message twice in a row."""
        return self._add(Fault("duplicate", address, on_message))

    def delay(self, address: str, delay_s: float, *, on_message: int = 1) -> FaultPlan:
        """Let the actor begin its k-th message later."""
        return self._add(Fault("delay", address, on_message, delay_s=delay_s))

    def block(self, address: str, *, on_message: int = 1) -> FaultPlan:
        """Let the actor hang on its k-th message until it is cancelled."""
        return self._add(Fault("block", address, on_message))

    def outage(self, from_s: float, until_s: float) -> FaultPlan:
        """Let every call to a model of :meth:`lm` that begins in this stretch of trio's clock fail with ``LMUnavailable``."""
        self._outages.append((from_s, until_s))
        return self

    def fail_read(self, store: str = "cache", *, on_read: int = 1, error: Exception | None = None) -> FaultPlan:
        """Let the k-th read of a store of :meth:`cache` raise `error`, or :class:`InjectedFault`."""
        return self._add(Fault("read", store, on_read, error=error))

    def fail_write(self, store: str = "cache", *, on_write: int = 1, error: Exception | None = None) -> FaultPlan:
        """Let the k-th write to a store of :meth:`cache` raise `error`, or :class:`InjectedFault`, and keep nothing."""
        return self._add(Fault("write", store, on_write, error=error))

    def install(self, runtime: Runtime) -> FaultPlan:
        """Put the plan into `runtime`, before the actors that it concerns are spawned."""
        tap(runtime, self._tap)
        return self

    def lm(self, lm: LM) -> LM:
        """`lm`, which fails during the plan's outages."""
        return _FailingLM(lm, self._outages)

    def cache(self, cache: AnswerCache, name: str = "cache") -> AnswerCache:
        """`cache`, which fails where the plan says so of the store `name`. For ``LMClient(cache=…)``."""
        return _FailingCache(cache, functools.partial(self._touch, name))

    def _touch(self, store: str, kind: str) -> None:
        self._counts[f"{kind} {store}"] += 1
        fault = self._due(store, self._counts[f"{kind} {store}"], kind)
        if fault is not None:
            raise fault.error if fault.error is not None else InjectedFault(f"planned: {fault}")

    def assert_struck(self) -> None:
        """Assert that every fault came about: one that did not tests nothing."""
        if self._faults:
            raise AssertionError(f"these faults never came about: {'; '.join(map(str, self._faults))}.")

    def _add(self, fault: Fault) -> FaultPlan:
        self._faults.append(fault)
        return self

    def _tap(self, address: str, handler: Handler) -> Handler:
        async def handle(message: Any) -> Any:
            self._counts[address] += 1
            fault = self._due(address, self._counts[address], *KINDS)
            return await (handler(message) if fault is None else _struck(fault, handler, message))

        return handle

    def _due(self, address: str, number: int, *kinds: str) -> Fault | None:
        """The fault that strikes now, crossed out."""
        for fault in self._faults:
            if (fault.address, fault.message) == (address, number) and fault.kind in kinds:
                self._faults.remove(fault)
                self.struck.append(fault)
                return fault
        return None


async def _struck(fault: Fault, handler: Handler, message: Any) -> Any:
    match fault.kind:
        case "drop":
            cell = current_cell.get()
            if isinstance(cell, ActorCell) and not may_be_none(message):
                cell.hand.reply_later().send(None)  # returned by the handler it would count as not handled
            return None
        case "block":
            await trio.sleep_forever()
        case "delay":
            await trio.sleep(fault.delay_s)
        case "duplicate":
            await handler(message)
        case _:
            if fault.checkpoint is None:
                raise InjectedFault(f"planned: {fault}")
            with trio.CancelScope() as scope:
                return await at_checkpoint(handler(message), fault.checkpoint, scope.cancel)
            raise InjectedFault(f"planned: {fault}")
    return await handler(message)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@types.coroutine
def at_checkpoint(work: Awaitable[Any], number: int, act: Callable[[], object]) -> Generator[Any, Any, Any]:
    """Await `work`, and call `act` when its `number`-th checkpoint (from 1) is reached, before the task gives way there."""
    steps = work.__await__()
    step: Callable[[], Any] = functools.partial(next, steps)
    reached = 0
    while True:
        try:
            trap = step()
        except StopIteration as end:
            return end.value
        reached += 1
        if reached == number:
            act()
        try:
            step = functools.partial(steps.send, (yield trap))
        except BaseException as error:  # noqa: BLE001 - handed on to the work, whose generator this one stands for
            step = functools.partial(steps.throw, error)


async def cancel_at_every_checkpoint(
    make: Callable[[], Coroutine[Any, Any, Any]], after: Callable[[int], Awaitable[Any]] | None = None
) -> int:
    """Run ``make()`` again and again, cancelled at its first checkpoint, then at its second, and so on until it ends on its own.

    Returns: how many checkpoints it has.

    Args:
        make: begins the work again.
        after: awaited after each cancellation, with the number of the checkpoint: the place to assert that all is well.
    """
    number = 0
    while True:
        number += 1
        reached = False

        def cancel(scope: trio.CancelScope) -> None:
            nonlocal reached
            reached = True
            scope.cancel()

        with trio.CancelScope() as scope:
            await at_checkpoint(make(), number, lambda scope=scope: cancel(scope))  # type: ignore[misc]
        if not reached:
            return number - 1
        if after is not None:
            await after(number)


@final
class _FailingCache:
    def __init__(self, cache: AnswerCache, touch: Callable[[str], None]) -> None:
        self.keeps_sampled = cache.keeps_sampled
        self._cache = cache
        self._touch = touch

    def get(self, key: str) -> Completion | None:
        self._touch("read")
        return self._cache.get(key)

    def put(self, key: str, completion: Completion) -> None:
        self._touch("write")
        self._cache.put(key, completion)


@final
class _FailingLM(PassesAbilities):
    _lm: LM

    def __init__(self, lm: LM, outages: Sequence[tuple[float, float]]) -> None:
        self._lm = lm
        self._outages = outages

    @property
    def model(self) -> str:
        return self._lm.model

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        await self._answers()
        return await self._lm.chat(messages, **options)

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[LMStream]:
        await self._answers()
        async with self._lm.stream(messages, **options) as stream:
            yield stream

    async def _answers(self) -> None:
        now_s = trio.current_time()
        if any(start <= now_s < end for start, end in self._outages):
            await trio.lowlevel.checkpoint()
            raise LMUnavailable(f"planned: {self._lm.model} is out at {now_s:g} s.")

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        return await run_signature(self, signature, inputs)
