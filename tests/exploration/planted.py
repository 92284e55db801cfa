"""Ten concurrency bugs of programs built on actors, each with its fixed form: ``await bug(sim, fixed=False)``.

Each is small enough to read, passes when every task runs in turn or when chance is kind, and asserts what its author believed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import trio

from actors import Actor, Backoff, MailboxSpec, Redelivery, Request, Supervision
from runtime.testing import ScriptedLM, Simulation


class Planted(Protocol):
    __name__: str

    def __call__(self, sim: Simulation, *, fixed: bool) -> Awaitable[Any]: ...


# --- lost update ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Balance(Request[int]):
    pass


@attrs.frozen
class SetBalance:
    euros: int


@attrs.frozen
class Deposit:
    euros: int


class Account(Actor):
    def __init__(self) -> None:
        self.euros = 0

    async def receive(self, message: Balance | SetBalance | Deposit) -> int | None:
        match message:
            case Balance():
                return self.euros
            case SetBalance(euros):
                self.euros = euros
            case Deposit(euros):
                self.euros += euros
        return None


async def lost_update(sim: Simulation, *, fixed: bool) -> None:
    async with sim.open_runtime() as runtime:
        account = await runtime.spawn(Account, name="account")

        async def teller(patience: int) -> None:
            for _ in range(patience):
                await trio.lowlevel.checkpoint()
            if fixed:
                await account.tell(Deposit(10))
            else:
                euros = await account.ask(Balance())
                await account.tell(SetBalance(euros + 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(teller, 0, name="early teller")
            nursery.start_soon(teller, 6, name="late teller")

        assert await account.ask(Balance()) == 20


# --- lock order -------------------------------------------------------------------------------------------------------


async def lock_order(sim: Simulation, *, fixed: bool) -> None:
    stock, till = trio.Lock(), trio.Lock()

    async def sell() -> None:
        async with stock, till:
            await trio.lowlevel.checkpoint()

    async def refund() -> None:
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        first, second = (stock, till) if fixed else (till, stock)
        async with first, second:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sell)
        nursery.start_soon(refund)


# --- stale reply ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Typed:
    text: str


@attrs.frozen
class Shown(Request[str]):
    pass


@attrs.frozen
class Hits:
    text: str


@attrs.frozen
class Search:
    text: str
    asker: Any


class Searcher(Actor):
    async def receive(self, message: Search) -> None:
        await message.asker.tell(Hits(message.text))


class SearchField(Actor):
    """Shows hits as they come; the author believed that they come in the order of the searches."""

    def __init__(self, searchers: list[Any], fixed: bool) -> None:
        self.searchers = searchers
        self.fixed = fixed
        self.latest = self.shown = ""

    async def receive(self, message: Typed | Hits | Shown) -> str | None:
        match message:
            case Typed(text):
                self.latest = text
                await self.searchers[len(text) % 2].tell(Search(text, self.context.ref))
            case Hits(text):
                if not self.fixed or text == self.latest:
                    self.shown = text
            case Shown():
                return self.shown
        return None


async def stale_reply(sim: Simulation, *, fixed: bool) -> None:
    async with sim.open_runtime() as runtime:
        searchers = [await runtime.spawn(Searcher, name=f"searcher-{index}") for index in range(2)]
        field = await runtime.spawn(SearchField, searchers, fixed, name="field")

        await field.tell(Typed("tri"))
        await field.tell(Typed("trio"))
        await trio.testing.wait_all_tasks_blocked()

        assert await field.ask(Shown()) == "trio"


# --- lost wake-up -----------------------------------------------------------------------------------------------------


class Bell:
    """A hand-made condition: the author believed that nothing happens between the look and the wait."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.items: list[int] = []
        self.rung = trio.Event()

    def put(self, item: int) -> None:
        self.items.append(item)
        self.rung.set()
        self.rung = trio.Event()

    async def get(self) -> int:
        if not self.items:
            if not self.fixed:
                await trio.lowlevel.checkpoint()
            await self.rung.wait()
        return self.items.pop()


async def lost_wakeup(sim: Simulation, *, fixed: bool) -> None:
    bell = Bell(fixed)

    async def consume() -> None:
        if fixed or not bell.items:
            assert await bell.get() == 1

    async def produce() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        bell.put(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        nursery.start_soon(produce)


# --- send during restart ----------------------------------------------------------------------------------------------


@attrs.frozen
class Subscribe(Request[None]):
    name: str


@attrs.frozen
class Subscribers(Request[int]):
    pass


@attrs.frozen
class Poison:
    pass


class Hub(Actor):
    """Keeps its subscribers; the author forgot that a restart begins with a new instance."""

    def __init__(self, kept: list[str] | None) -> None:
        self.names = kept if kept is not None else []

    async def receive(self, message: Subscribe | Subscribers | Poison) -> int | None:
        match message:
            case Subscribe(name):
                self.names.append(name)
            case Subscribers():
                return len(self.names)
            case Poison():
                raise RuntimeError("poisoned")
        return None


async def send_during_restart(sim: Simulation, *, fixed: bool) -> None:
    async with sim.open_runtime(supervision=Supervision(backoff=Backoff(first_s=0.1, jitter=0))) as runtime:
        kept: list[str] = []
        hub = await runtime.spawn(Hub, kept if fixed else None, name="hub", redelivery=Redelivery(max_attempts=1))

        async def poison() -> None:
            await hub.tell(Poison())

        async def subscribe() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            await hub.ask(Subscribe("listener"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poison)
            nursery.start_soon(subscribe)

        assert await hub.ask(Subscribers()) == 1


# --- join fired twice -------------------------------------------------------------------------------------------------


class Join:
    """Fires when both sides are there; the author believed that each side sees only its own arrival."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.arrived: set[str] = set()
        self.fired = 0

    async def arrive(self, side: str) -> None:
        self.arrived.add(side)
        if not self.fixed:
            await trio.lowlevel.checkpoint()  # "let others in"
        if len(self.arrived) == 2:
            self.fired += 1


async def join_fired_twice(sim: Simulation, *, fixed: bool) -> None:
    join = Join(fixed)

    async def branch(side: str, work: int) -> None:
        for _ in range(work):
            await trio.lowlevel.checkpoint()
        await join.arrive(side)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(branch, "left", 1, name="left")
        nursery.start_soon(branch, "right", 4, name="right")

    assert join.fired == 1


# --- cancel versus completion -----------------------------------------------------------------------------------------


async def cancel_versus_completion(sim: Simulation, *, fixed: bool) -> None:
    """``cancel_called`` says that somebody wanted it cancelled, not that it was."""
    delivered = refunded = False
    scope = trio.CancelScope()

    async def deliver() -> None:
        nonlocal delivered, refunded
        with scope:
            await trio.lowlevel.checkpoint()
            delivered = True
            await trio.lowlevel.cancel_shielded_checkpoint()  # hands the parcel over
        if scope.cancelled_caught if fixed else scope.cancel_called:
            refunded = True

    async def customer() -> None:
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        nursery.start_soon(customer)

    assert delivered != refunded


# --- permit leak ------------------------------------------------------------------------------------------------------


async def permit_leak(sim: Simulation, *, fixed: bool) -> None:
    permits = trio.Semaphore(1)
    scope = trio.CancelScope()

    async def impatient() -> None:
        with scope:
            if fixed:
                async with permits:
                    await trio.lowlevel.checkpoint()
            else:
                await permits.acquire()
                await trio.lowlevel.checkpoint()  # cancelled here, the permit is gone
                try:
                    await trio.lowlevel.checkpoint()
                finally:
                    permits.release()

    async def canceller() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        nursery.start_soon(canceller)
    async with permits:
        pass


# --- mailbox cycle ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Receipt:
    number: int


class Kitchen(Actor):
    def __init__(self) -> None:
        self.waiter: Any = None

    async def receive(self, message: Any) -> None:
        if isinstance(message, Order):
            await self.waiter.tell(Receipt(message.number))
        else:
            self.waiter = message


class Waiter(Actor):
    """Passes orders on and takes receipts; the author believed that a mailbox of two is enough for either."""

    def __init__(self, kitchen: Any) -> None:
        self.kitchen = kitchen

    async def receive(self, message: Order | Receipt) -> None:
        if isinstance(message, Order):
            await self.kitchen.tell(message)


async def mailbox_cycle(sim: Simulation, *, fixed: bool) -> None:
    async with sim.open_runtime() as runtime:
        small = MailboxSpec(capacity=2)
        kitchen = await runtime.spawn(Kitchen, name="kitchen", mailbox=small)
        waiter = await runtime.spawn(Waiter, kitchen, name="waiter", mailbox=MailboxSpec(capacity=64) if fixed else small)
        await kitchen.tell(waiter)

        async def guest(number: int) -> None:
            for order in range(3):
                await waiter.tell(Order(10 * number + order))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(guest, number, name=f"guest-{number}")


# --- double spend of a budget -----------------------------------------------------------------------------------------


async def double_spend(sim: Simulation, *, fixed: bool) -> None:
    """Two calls for one unit of budget; the author believed that a call that began has paid."""
    lm = ScriptedLM(lambda messages: "done", latency_s=sim.rng.uniform(0.1, 1.5))
    budget, spent = 1, 0

    async def call(start_s: float) -> None:
        nonlocal budget, spent
        await trio.sleep(start_s)
        if budget < 1:
            return
        if fixed:
            budget -= 1
        await lm.chat([{"role": "user", "content": "go"}])
        spent += 1
        if not fixed:
            budget -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, 0, name="first")
        nursery.start_soon(call, 1.4, name="second")

    assert spent == 1


PLANTED: tuple[Planted, ...] = (
    lost_update,
    lock_order,
    stale_reply,
    lost_wakeup,
    send_during_restart,
    join_fired_twice,
    cancel_versus_completion,
    permit_leak,
    mailbox_cycle,
    double_spend,
)

Program = Callable[[Simulation], Awaitable[Any]]
