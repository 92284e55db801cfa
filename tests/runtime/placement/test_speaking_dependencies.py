"""What a node depends on sends to actors while it is entered, between the calls of nodes, and while it is left: as at home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Actor, ActorFailed, ActorRef, Dep, Gather, Graph, RunFailed, UsageError
from runtime import open_runtime
from runtime.placement import Here
from runtime.placement.host.remote_refs import speaking
from runtime.testing.loopback_hosts import LoopbackHosts

log: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    log.clear()


@attrs.frozen
class Order:
    to: ActorRef[Any]
    nap_s: float = 0.0


@attrs.frozen
class Item:
    nap_s: float


@attrs.frozen
class Note:
    """Of a type that only this module knows."""

    text: str


@attrs.frozen
class Bill:
    answers: tuple[str, ...]


class Listener(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        await trio.sleep(0.1)
        log.append(message)
        if message == Note("wrong"):
            raise ValueError("wrong")
        return f"heard {message.text}"


async def meter(order: Order) -> AsyncIterator[list[str]]:
    answers: list[str] = [await order.to.ask(Note("entered"))]
    stop = trio.Event()

    async def count() -> None:
        while not stop.is_set():
            await order.to.tell(Note("tick"))
            with trio.move_on_after(1.0):
                await stop.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        yield answers
        stop.set()
    assert await order.to.ask(Note("left")) == "heard left"
    order.to.tell_nowait(Note("last"))


graph = Graph("orders", input=Order, output=Bill)


@graph.node(place="cpu")
async def charge(order: Order, meter: Annotated[list[str], Dep(meter)]) -> Item:
    return Item(order.nap_s)


@graph.node
async def wait(item: Item) -> Note:
    await trio.sleep(item.nap_s)  # no call of the host is out
    return Note("bill")


@graph.node(place="cpu")
async def bill(note: Note, meter: Annotated[list[str], Dep(meter)]) -> Bill:
    return Bill(tuple(meter))


HOSTS = [pytest.param(Here(), id="here"), pytest.param(LoopbackHosts(1, by_name=True), id="hosts")]


@pytest.mark.parametrize("round_", range(5))
@pytest.mark.parametrize("place", HOSTS)
async def test_a_dependency_sends_for_as_long_as_it_lives(place, round_, virtual_clock):
    async with open_runtime(places={"cpu": place}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")

        assert await runtime.run(graph, Order(listener, 3.5)) == Bill(("heard entered",))
        assert [each.text for each in log[:5]] == ["entered", "tick", "tick", "tick", "tick"]
        assert log[-1] == Note("left")  # before the run was over
        await listener.ask(Note("done"))
        assert log[-2:] == [Note("last"), Note("done")]


failing = Graph("failing", input=Order, output=Bill)


async def careless(order: Order) -> AsyncIterator[str]:
    yield "careless"
    await order.to.ask(Note("wrong"))


@failing.node(place="cpu")
async def take(order: Order, what: Annotated[str, Dep(careless)]) -> Bill:
    return Bill((what,))


@pytest.mark.parametrize("place", HOSTS)
async def test_what_an_ask_raises_while_a_dependency_is_left_is_the_failure_of_its_run(place, virtual_clock):
    async with open_runtime(places={"cpu": place}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        with pytest.raises(RunFailed) as failure:
            await runtime.run(failing, Order(listener))
    text = "".join(map(str, chain(failure.value)))
    assert "context manager" in text
    assert "wrong" in text
    assert any(isinstance(each, ActorFailed) for each in chain(failure.value))


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
    return found


several = Graph("several", input=Order, output=Bill)


@attrs.frozen
class Part:
    number: int
    nap_s: float


@several.node
async def split(order: Order) -> AsyncIterator[Part]:
    for number in range(4):
        yield Part(number, order.nap_s)


@several.node(place="cpu", concurrency=4)
async def work(part: Part, meter: Annotated[list[str], Dep(meter)]) -> Item:
    await trio.sleep(part.nap_s)
    return Item(part.number)


@several.node
async def collect(items: Annotated[list[Item], Gather()]) -> Bill:
    return Bill(tuple(f"{each.nap_s:g}" for each in items))


@pytest.mark.parametrize("way", ["end", "cancel", "kill"])
async def test_each_host_has_one_and_nothing_of_it_is_left(way, virtual_clock):
    place = LoopbackHosts(2, by_name=True)
    async with open_runtime(places={"cpu": place}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        handle = await runtime.start(several, Order(listener, 5.0))
        await trio.sleep(2.0)
        if way == "cancel":
            await handle.cancel()
        elif way == "kill":
            place.kill("host-1")
            with pytest.raises(RunFailed):
                await handle.result()
        else:
            assert await handle.result() == Bill(("0", "1", "2", "3"))
        await listener.ask(Note("done"))
        texts = [each.text for each in log]
        assert texts.count("entered") == 2
        assert texts.count("last") == (1 if way == "kill" else 2)
        log.clear()
        await trio.sleep(10)
        assert log == []  # no one ticks any more


slow = Graph("slow", input=Order, output=Bill)


async def stubborn(order: Order) -> AsyncIterator[str]:
    try:
        yield "stubborn"
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(order.nap_s)


@slow.node(place="cpu")
async def hold(order: Order, what: Annotated[str, Dep(stubborn)]) -> Bill:
    return Bill((what,))


@pytest.mark.parametrize("place", HOSTS)
async def test_a_dependency_that_is_not_left_in_time_fails_its_run(place, virtual_clock):
    async with open_runtime(places={"cpu": place}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        assert await runtime.run(slow, Order(listener, 3.0)) == Bill(("stubborn",))
        with pytest.raises(RunFailed) as failure:
            await runtime.run(slow, Order(listener, 20.0))
    assert "left" in "".join(map(str, chain(failure.value)))


# --- when no one is left ----------------------------------------------------------------------------------------------------

kept: list[Any] = []
forgetful = Graph("forgetful", input=Order, output=Bill)


async def keeper(order: Order) -> AsyncIterator[None]:
    kept.append((speaking.get(), order.to))
    yield


@forgetful.node(place="cpu")
async def keep(order: Order, _: Annotated[None, Dep(keeper)]) -> Bill:
    kept.append((speaking.get(), order.to))
    return Bill(())


async def test_who_sends_when_all_is_over_is_told_so(virtual_clock):
    kept.clear()
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        await runtime.run(forgetful, Order(listener))
        for speaker, ref in kept:
            token = speaking.set(speaker)
            try:
                with pytest.raises(UsageError, match=r"code of node 'keep' sends from a host after .* has ended"):
                    await ref.ask(Note("late"))
                with pytest.raises(UsageError, match=r"sends from a host after .* has ended"):
                    ref.tell_nowait(Note("late"))
            finally:
                speaking.reset(token)
    assert len(kept) == 2
    assert log == []


early = Graph("early", input=Order, output=Bill)


@early.node(place="cpu")
async def answer(order: Order) -> Bill:
    kept.append((speaking.get(), order.to))
    return Bill(())


async def test_who_sends_after_its_call_is_told_so(virtual_clock):
    kept.clear()
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        await runtime.run(early, Order(listener))
        ((speaker, ref),) = kept
        token = speaking.set(speaker)
        with pytest.raises(
            UsageError, match="'answer' sends from a host after the call that it was part of has ended"
        ) as failure:
            await ref.ask(Note("late"))
        speaking.reset(token)
    assert "Fix: send before the function returns, or in a context manager that the node depends on" in str(failure.value)
