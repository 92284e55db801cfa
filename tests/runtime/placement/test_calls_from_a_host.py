"""Wrong calls of the runtime are rejected where they are made, on a host as at home, and the actor that made them goes on."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from actors import Actor, ActorFailed, ActorRef, DeclarationError, Graph, GraphInvalid, MessageTooLarge, NotPortable, UsageError
from runtime import open_runtime
from runtime.placement import Here
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.runtime.placement.test_from_a_host import Echo, Number, numbers


@attrs.frozen
class Unknown:
    """Not known to the module of the caller by its name: see below."""


_unknown = [Unknown]
del Unknown


class Maker:
    """Makes actors, and cannot be imported by a name."""

    def __call__(self) -> Echo:
        return Echo()


async def given() -> None:
    """A coroutine, where it is not awaited."""


CALLS: dict[str, Any] = {
    "graph": lambda runtime, me: runtime.run("numbers", Number(1)),
    "started graph": lambda runtime, me: runtime.start(None, Number(1)),
    "message": lambda runtime, me: runtime.run(numbers, "one"),
    "labels": lambda runtime, me: runtime.run(numbers, Number(1), labels=[("by", "me")]),
    "labels by number": lambda runtime, me: runtime.run(numbers, Number(1), labels={1: "me"}),
    "labels of a start": lambda runtime, me: runtime.start(numbers, Number(1), labels="by me"),
    "too many labels": lambda runtime, me: runtime.run(numbers, Number(1), labels={str(n): "" for n in range(17)}),
    "run_id": lambda runtime, me: runtime.run(numbers, Number(1), run_id=[7]),
    "run_id with a slash": lambda runtime, me: runtime.start(numbers, Number(1), "a/b"),
    "max_steps": lambda runtime, me: runtime.run(numbers, Number(1), max_steps="many"),
    "kind": lambda runtime, me: runtime.subscribe("Number", me),
    "kind of a topic": lambda runtime, me: runtime.subscribe("Number", me, topic="news"),
    "unsubscribed kind": lambda runtime, me: runtime.unsubscribe(3, me),
    "ref": lambda runtime, me: runtime.subscribe(Number, "leader"),
    "ref that was not awaited": lambda runtime, me: runtime.subscribe(Number, given()),
    "stopped ref": lambda runtime, me: runtime.stop("leader"),
    "spawned option": lambda runtime, me: runtime.spawn(Echo, place="cpu", retries=2),
    "spawned restart": lambda runtime, me: runtime.spawn(Echo, place="cpu", restart="permanent"),
    "spawned mailbox": lambda runtime, me: runtime.spawn(Echo, place="cpu", mailbox=10),
    "spawned shutdown": lambda runtime, me: runtime.spawn(Echo, place="cpu", shutdown_s=[5]),
    "spawned name": lambda runtime, me: runtime.spawn(Echo, name=7, place="cpu"),
    "spawned place": lambda runtime, me: runtime.spawn(Echo, place=7),
    "spawned instance": lambda runtime, me: runtime.spawn(Echo(), place="cpu"),
    "spawned arguments": lambda runtime, me: runtime.spawn(Echo, 1, 2, 3, place="cpu"),
}
ONLY_THERE: dict[str, tuple[Any, type[Exception], str]] = {
    "deadline": (lambda runtime, me: runtime.start(numbers, Number(1), deadline_s="soon"), UsageError, "deadline_s='soon': "),
    "budget": (lambda runtime, me: runtime.run(numbers, Number(1), budget=object()), UsageError, "budget= was used on a host"),
    "topic": (lambda runtime, me: runtime.publish(Number(1), topic=(1,)), UsageError, "topic=(1,) was used on a host"),
    "topic of a subscription": (lambda runtime, me: runtime.subscribe(Number, me, topic=(1,)), UsageError, "topic=(1,)"),
    "published": (lambda runtime, me: runtime.publish(object()), NotPortable, "what is published cannot go"),
    "not awaited": (lambda runtime, me: runtime.publish(given()), UsageError, "a coroutine that was not awaited"),
    "too large": (lambda runtime, me: runtime.publish("x" * 2**21, everywhere=True), MessageTooLarge, "may have 1,048,576"),
    "unknown kind": (lambda runtime, me: runtime.subscribe(_unknown[0], me), NotPortable, "none of the types that actors"),
    "name": (lambda runtime, me: runtime.whereis(7), UsageError, "whereis(7) on a host: expected the address of an actor."),
    "no name": (lambda runtime, me: runtime.spawn(Maker(), place="cpu"), NotPortable, "has no name"),
    "graph with problems": (
        lambda runtime, me: runtime.run(Graph("g", input=Number, output=Number), Number(1)),
        GraphInvalid,
        "'g'",
    ),
}


class Caller(Actor[str]):
    """Makes a call of its runtime, and tells what that has raised; the second answer tells that it goes on."""

    async def receive(self, message: str) -> list[str]:
        call = CALLS[message] if message in CALLS else ONLY_THERE[message][0]
        try:
            made = call(self.context.runtime, self.context.ref)
            if hasattr(made, "__await__"):
                await made
        except Exception as error:  # noqa: BLE001 - any: the test looks at it
            return [type(error).__name__, str(error), str(self.context.incarnation)]
        return ["nothing", "", str(self.context.incarnation)]


async def raised(caller: ActorRef[Any], call: str) -> tuple[str, str]:
    name, words, incarnation = await caller.ask(call)
    assert incarnation == "1"
    return name, words


@pytest.mark.filterwarnings("ignore:coroutine 'given' was never awaited")
async def test_what_is_wrong_with_a_call_is_said_on_a_host_in_the_words_of_home(autojump_clock):
    places: dict[str, Any] = {"home": Here(), "cpu": LoopbackHosts(1, by_name=True)}
    async with open_runtime(places=places) as runtime:
        home, away = [await runtime.spawn(Caller, name=place, place=place) for place in places]
        for call in CALLS:
            said_there = await raised(away, call)

            assert said_there[0] in (UsageError.__name__, DeclarationError.__name__), (call, said_there)
            assert "\n  Fix: " in said_there[1]
            if "ref" not in call:
                assert said_there == await raised(home, call), call
        assert await away.ask("graph") == await home.ask("graph")


@pytest.mark.filterwarnings("ignore:coroutine 'given' was never awaited")
@pytest.mark.parametrize("call", ONLY_THERE)
async def test_what_a_host_cannot_ask_for_is_said_there(call, autojump_clock):
    _, kind, words = ONLY_THERE[call]
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        away = await runtime.spawn(Caller, name="caller", place="cpu")

        name, said = await raised(away, call)

        assert name == kind.__name__
        assert words in said
        await raised(away, "graph")


class Parent(Actor[str]):
    async def receive(self, message: str) -> None:
        child = await self.context.spawn(Echo, name="child")
        if message == "stop":
            await self.context.runtime.stop(child)
        else:
            getattr(self.context.runtime, message)(Number, child)


@pytest.mark.parametrize("call", ["stop", "subscribe", "unsubscribe"])
async def test_an_actor_that_only_its_host_knows_is_none_of_the_runtimes(call, autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        parent = await runtime.spawn(Parent, name="parent", place="cpu")
        with pytest.raises(ActorFailed) as failure:
            await parent.ask(call)
    assert isinstance(failure.value.__cause__, UsageError)
    words = f"{call}() of the runtime on a host: 'parent/child' lives within an actor on this host, and is known only here."
    assert str(failure.value.__cause__).startswith(words)
