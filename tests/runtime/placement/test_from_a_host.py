"""What code on a host does with its runtime: it starts actors at places, runs graphs, sends to refs that it was given."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorRef,
    ActorStartFailed,
    Graph,
    GraphInvalid,
    MailboxSpec,
    NodeFailed,
    NotPortable,
    Overflow,
    Redelivery,
    RestartType,
    RunFailed,
    UsageError,
)
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.placement import Here
from runtime.placement.errands import MAX_HANDLES
from runtime.placement.known_codes import KnownCodes
from runtime.testing.loopback_hosts import LoopbackHosts

log: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    log.clear()


@attrs.frozen
class Number:
    n: int


@attrs.frozen
class Square:
    n: int
    by: str = ""
    fence: int = 0


@attrs.frozen
class Told:
    """A message with a ref in it."""

    n: int
    to: ActorRef[Any]


numbers = Graph("numbers", input=Number, output=Square)
"""Not placed: what a placed actor runs is the runtime's work."""


@numbers.node
async def square(number: Number) -> Square:
    if number.n < 0:
        raise ValueError(f"{number.n} is below zero")
    try:
        await trio.sleep(number.n)
    finally:
        log.append(("square", number.n, trio.current_time()))
    return Square(number.n**2)


class Echo(Actor[Any]):
    def __init__(self, greeting: str = "", other: ActorRef[Any] | None = None) -> None:
        if greeting == "wrong":
            raise ValueError("wrong")
        self.greeting = greeting
        self.other = other

    async def receive(self, message: Any) -> Any:
        if message == "other":
            assert self.other is not None
            return await self.other.ask("you?")
        if message == "where":
            return self.context.parent.address if self.context.parent else None
        return f"{self.greeting}{message}"


def makes_no_actor(path: str) -> None:
    log.append(path)


class Leader(Actor[Any]):
    """Does on its host what it is told, with its runtime."""

    handle: Any = None

    async def receive(self, message: Any) -> Any:
        runtime, context = self.context.runtime, self.context
        match message:
            case ["spawn", name]:
                options: Any = {
                    "restart": RestartType.TRANSIENT,
                    "mailbox": MailboxSpec(3, Overflow.REJECT),
                    "redelivery": Redelivery(max_attempts=2),
                    "shutdown_s": 1.5,
                }
                self.ref = await runtime.spawn(Echo, "hello ", context.ref, name=name, place="cpu", **options)
                return await self.ref.ask("you")
            case "child there":
                self.ref = await context.spawn(Echo, "child ", name="child", place="cpu")
                return [self.ref.address, await self.ref.ask("here"), await self.ref.ask("where")]
            case "child here":
                child = await runtime.spawn(Echo, "near ", name="near")
                return [child.address, await child.ask("one")]
            case "child's ref":
                return await runtime.spawn(Echo, name="nearer")
            case "wrong child":
                await runtime.spawn(Echo, "wrong", place="cpu")
            case "chosen errors":
                await runtime.spawn(Echo, place="cpu", redelivery=Redelivery(retry_on=KeyError))
            case "no place":
                await runtime.spawn(Echo, place="moon")
            case "stop":
                await runtime.stop(self.ref)
            case Number():
                return await runtime.run(numbers, message, run_id=None, labels={"by": "leader"})
            case ["start", n]:
                self.handle = await runtime.start(numbers, Number(n), "mine")
                return self.handle.id
            case "result":
                return await self.handle.result()
            case "cancel":
                await self.handle.cancel()
            case "trace":
                return self.handle.trace
            case "many":
                first = await runtime.start(numbers, Number(0))
                for _ in range(MAX_HANDLES):
                    handle = await runtime.start(numbers, Number(0))
                    await handle.result()
                await first.result()
            case "budget":
                await runtime.run(numbers, Number(1), budget=object())
            case "undeployed":
                return await runtime.run(Graph("numbers", input=Number, output=Number), Number(1))
            case "tell all":
                runtime.publish(Number(7), everywhere=True)
            case "you?":
                return "not me"
            case _:
                return message


@pytest.mark.parametrize("place", [Here(), LoopbackHosts(2, by_name=True)], ids=["here", "hosts"])
async def test_a_placed_actor_starts_others_at_places_beside_it_and_below_it(place, autojump_clock):
    async with open_runtime(places={"cpu": place}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")

        assert await leader.ask(["spawn", "echo"]) == "hello you"
        echo: Any = runtime.whereis("echo")
        assert echo.statistics().mailbox.capacity == 3
        assert await echo.ask("other") == "not me"
        await leader.ask("stop")
        assert runtime.whereis("echo") is None

        assert await leader.ask("child there") == ["leader/child", "child here", "leader"]
        child: Any = runtime.whereis("leader/child")
        assert await child.ask("!") == "child !"
        await runtime.stop(leader)
        assert (await child.ended()).reason == "stopped"


async def test_the_others_live_on_the_host_that_holds_the_fewest_and_outlive_the_one_that_asked(autojump_clock):
    hosts = LoopbackHosts(2, by_name=True)
    async with open_runtime(places={"cpu": hosts}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        await leader.ask(["spawn", "echo"])
        echo: Any = runtime.whereis("echo")
        assert runtime.inspect(leader)["host"] != runtime.inspect(echo)["host"]

        hosts.kill(runtime.inspect(leader)["host"])
        assert await echo.ask("there") == "hello there"
        assert await leader.ask("up") == "up"


async def test_without_a_place_it_is_a_child_on_the_same_host_that_only_its_parent_can_name(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2, by_name=True)}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")

        assert await leader.ask("child here") == ["leader/near", "near one"]
        assert runtime.whereis("leader/near") is None
        await leader.ask("up")
        with pytest.raises(ActorFailed) as failure:
            await leader.ask("child's ref")
        assert isinstance(failure.value.__cause__, NotPortable)
        assert "lives within an actor on a host" in str(failure.value.__cause__)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ("wrong child", ActorStartFailed, "wrong"),
        ("chosen errors", NotPortable, "retry_on"),
        ("no place", UsageError, "place='moon'"),
        ("budget", UsageError, "budget= was used on a host"),
        ("undeployed", GraphInvalid, "numbers"),
        ("trace", UsageError, "trace of the handle"),
    ],
)
async def test_what_is_wrong_is_told_to_who_asks(message, kind, words, autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        if message == "trace":
            await leader.ask(["start", 1])
        with pytest.raises(ActorFailed) as failure:
            await leader.ask(message)
        runtime.cancel_runs("the test is over")
    assert isinstance(failure.value.__cause__, kind)
    assert words in str(failure.value.__cause__)


async def test_a_placed_actor_runs_a_graph_of_the_runtime_and_its_failures_are_those_of_the_run(autojump_clock):
    labels: list[Any] = []
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        with runtime.observe(lambda event: labels.append(getattr(event, "labels", None))):
            assert await leader.ask(Number(3)) == Square(9)
        assert {"by": "leader"} in [dict(each) for each in labels if each]

        with pytest.raises(ActorFailed) as failure:
            await leader.ask(Number(-1))
    cause: Any = failure.value.__cause__
    assert isinstance(cause, RunFailed)
    assert [type(leaf) for leaf in cause.exceptions] == [NodeFailed]
    assert getattr(cause.exceptions[0], "node", None) == "square"
    assert str(cause.exceptions[0].__cause__) == "-1 is below zero"


async def test_a_run_ends_with_the_ask_that_is_cancelled_and_with_the_host_that_is_lost(autojump_clock):
    hosts = LoopbackHosts(1, by_name=True)
    async with open_runtime(places={"cpu": hosts}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        with trio.move_on_after(5):
            await leader.ask(Number(1000))
        assert await leader.ask("free again") == "free again"
        assert log == [("square", 1000, trio.current_time())]
        assert not runtime.runs()

        async with trio.open_nursery() as nursery:

            async def lose() -> None:
                await trio.sleep(5)
                hosts.kill("host-1")

            nursery.start_soon(lose)
            with pytest.raises(ActorFailed, match="is lost"):
                await leader.ask(Number(2000))
        assert log[1:] == [("square", 2000, trio.current_time())]
        assert not runtime.runs()


async def test_a_run_that_was_started_goes_on_without_the_host_and_its_result_is_asked_for(autojump_clock):
    hosts = LoopbackHosts(1, by_name=True)
    async with open_runtime(places={"cpu": hosts}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        assert await leader.ask(["start", 3]) == "mine"
        assert await leader.ask("result") == Square(9)
        assert await leader.ask("result") == Square(9)

        await leader.ask(["start", 50])
        await leader.ask("cancel")
        assert log[-1][1] == 50
        with pytest.raises(ActorFailed):
            await leader.ask("result")
        await leader.ask(["start", 60])
        hosts.kill("host-1")
        assert await runtime.runs()["mine"].result() == Square(3600)


async def test_a_placed_actor_publishes_in_all_runtimes_of_the_store(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store, places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        async with open_runtime(store=store.beside()) as other:
            other.subscribe(Number, await other.spawn(Listener))
            leader = await runtime.spawn(Leader, name="leader", place="cpu")
            await leader.ask("tell all")
            await trio.sleep(1)
    assert log == [Number(7)]


@pytest.mark.chaos
async def test_the_results_of_so_many_runs_are_kept_and_no_more(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        leader = await runtime.spawn(Leader, name="leader", place="cpu")
        with pytest.raises(ActorFailed, match="is not kept for this actor"):
            await leader.ask("many")


def test_a_name_from_a_host_starts_nothing_that_was_not_declared_to_be_an_actor():
    for name in ("shutil:rmtree", "no.such.module:Thing", f"{__name__}:makes_no_actor", f"{__name__}:Number", "os:system"):
        with pytest.raises(NotPortable, match="isn't a class of actors"):
            KnownCodes().named(name)
    assert KnownCodes().named(f"{__name__}:Echo").factory is Echo


# --- nodes ----------------------------------------------------------------------------------------------------------------

refs = Graph("refs", input=Told, output=Square)


@refs.node(place="cpu")
async def use(told: Told) -> Square:
    await told.to.tell("before")
    told.to.tell_nowait("soon")
    answer = await told.to.ask(str(told.n))
    return Square(told.n, answer)


plain = Graph("plain", input=Told, output=Square)


@plain.node(place="cpu")
def use_in_a_thread(told: Told) -> Square:
    told.to.tell_nowait("from a thread")
    return Square(told.n, told.to.address)


class Listener(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        log.append(message)
        return f"heard {message}"


@pytest.mark.parametrize("place", [Here(), LoopbackHosts(2, by_name=True)], ids=["here", "hosts"])
async def test_a_placed_node_sends_to_the_refs_in_its_messages(place, autojump_clock):
    async with open_runtime(places={"cpu": place}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")

        assert await runtime.run(refs, Told(1, listener)) == Square(1, "heard 1")
        assert log == ["before", "soon", "1"]


async def test_a_placed_node_sends_from_a_worker_thread_of_its_host(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        assert await runtime.run(plain, Told(2, listener)) == Square(2, "listener")
        await listener.ask("last")
    assert log == ["from a thread", "last"]


async def test_a_ref_to_an_actor_that_has_ended_is_answered_so_on_a_host_too(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        listener = await runtime.spawn(Listener, name="listener")
        await runtime.stop(listener)
        with pytest.raises(RunFailed) as failure:
            await runtime.run(refs, Told(1, listener))
    assert "'listener'" in str(failure.value.exceptions[0].__cause__)


# --- actors that are nodes ------------------------------------------------------------------------------------------------


class Squarer(Actor[Number]):
    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Number) -> Square:
        self.count += 1
        return Square(message.n**2, f"number {self.count}", self.context.fence)


def placed_actor(what: Any) -> Graph[Number, Square]:
    graph = Graph("squares", input=Number, output=Square)
    graph.add(what, takes=Number, returns=Square, place="cpu", redelivery=Redelivery(max_attempts=3))
    return graph


async def test_an_actor_that_is_a_node_lives_on_a_host_and_moves_when_that_is_lost(autojump_clock):
    hosts = LoopbackHosts(1, by_name=True)
    graph = placed_actor(Squarer)
    async with open_runtime(places={"cpu": hosts}) as runtime:
        assert await runtime.run(graph, Number(3)) == Square(9, "number 1", 1)
        assert await runtime.run(graph, Number(3)) == Square(9, "number 2", 1)
        hosts.kill("host-1")
        assert await runtime.run(graph, Number(3)) == Square(9, "number 1", 2)
    async with open_runtime(places={"cpu": Here()}) as runtime:
        assert await runtime.run(graph, Number(3)) == Square(9, "number 1", 0)


async def test_an_actor_that_is_a_node_and_cannot_be_placed_is_reported_at_the_deployment(autojump_clock):
    class Inner(Actor[Number]):
        async def receive(self, message: Number) -> Square:
            return Square(message.n)

    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}) as runtime:
        with pytest.raises(GraphInvalid, match="is defined within"):
            await runtime.deploy(placed_actor(Inner))
        ref = await runtime.spawn(Squarer, name="squarer")
        with pytest.raises(GraphInvalid, match="an actor that was spawned elsewhere"):
            await runtime.deploy(placed_actor(ref))
