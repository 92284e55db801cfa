"""What happens when something fails, row by row: by which tests it is held, and the rows that have none elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors import Actor, ActorFailed, ActorStopped, Backoff, Graph, MessageTooLarge, PlaceUnavailable, Redelivery, Terminated
from runtime import ActorRestarting, ActorUnresponsive, open_runtime
from runtime.placement import Gone, HostStarted, actor_codes
from runtime.placement import HostLost as HostLostEvent
from runtime.testing.loopback_hosts import LoopbackHosts

HERE = Path(__file__).parent
RAY = HERE.parents[1] / "placement_ray" / "test_ray_hosts.py"
ROWS = {
    "handler raises on the host": {"test_failure_table": ["test_a_handler_that_raises_costs_its_actor_and_no_host"]},
    "host process dies": {
        "test_losses_of_placed_actors": [
            "test_the_message_that_was_there_is_in_doubt_and_the_others_are_handled_elsewhere_in_order",
            "test_five_placed_actors_on_a_lost_host_spend_one_restart",
        ],
        "test_processes": ["test_a_host_that_is_killed_costs_one_restart_and_its_calls_are_made_elsewhere"],
        "test_placed_actors_in_processes": ["test_a_thousand_asks_over_a_host_that_is_killed"],
    },
    "whole machine dies at once": {
        "test_dialled_hosts": ["test_whoever_is_killed_the_run_ends_and_nothing_is_left"],
        "test_partitions": ["test_a_host_that_is_cut_off_has_ended_before_the_runtime_gives_it_up"],
        "test_ray_hosts": ["test_what_no_node_has_room_for_waits_and_starts_when_one_has"],
    },
    "raylet alone dies": {"test_ray_hosts": ["test_a_raylet_that_dies_costs_its_host"]},
    "machine frozen, partition": {
        "test_partitions": [
            "test_a_host_that_is_cut_off_has_ended_before_the_runtime_gives_it_up",
            "test_without_redelivery_the_ask_of_a_host_that_is_cut_off_ends_once_with_its_loss",
        ],
        "test_ray_hosts": ["test_what_is_frozen_is_lost_and_does_not_come_back"],
    },
    "host stopped, or a handler blocks its loop": {
        "test_failure_table": ["test_an_actor_on_a_host_that_is_stopped_is_unresponsive_and_then_lost"],
        "test_losses_of_placed_actors": ["test_a_silent_host_ends_the_ask_when_it_is_given_up"],
        "test_processes": [
            "test_a_stopped_host_is_killed_and_lost_when_its_loop_has_been_silent_for_long_enough",
            "test_work_that_nothing_can_stop_ends_with_its_host_and_others_are_served_elsewhere",
        ],
        "test_placed_actors_in_processes": ["test_hosts_whose_handlers_are_always_busy_are_not_lost"],
        "test_blocked_hosts": [
            "test_an_actor_that_holds_the_loop_of_its_host_is_named",
            "test_in_a_process_the_stack_tells_the_line",
        ],
        "test_link": ["test_a_loop_that_was_held_reads_what_came_before_it_gives_the_other_side_up"],
    },
    "Ray head dies": {
        "test_failure_table": ["test_a_head_that_is_away_for_five_minutes_ends_no_service_which_heals_without_a_restart"],
        "test_ray_hosts": ["test_a_head_that_dies_ends_no_runtime_and_hosts_come_back_with_it"],
        "test_launcher": ["test_nodes_that_cannot_be_looked_at_are_looked_at_again"],
    },
    "launcher dies": {
        "test_dialled_hosts": ["test_whoever_is_killed_the_run_ends_and_nothing_is_left"],
        "test_ray_hosts": ["test_a_launcher_that_is_killed_takes_its_hosts_and_both_come_back"],
    },
    "owner dies": {
        "test_processes": ["test_a_runtime_that_is_killed_leaves_no_host_behind_even_one_whose_loop_is_held"],
        "test_dialled_hosts": ["test_a_runtime_that_is_killed_leaves_nothing"],
        "test_ray_hosts": ["test_a_runtime_that_is_killed_leaves_no_host"],
    },
    "no node can hold the host": {
        "test_losses_of_placed_actors": [
            "test_while_a_place_has_no_host_messages_wait_within_their_deadline",
            "test_no_host_in_time_is_a_failed_start_and_spends_the_budget",
        ],
        "test_dialled_hosts": ["test_what_no_node_has_room_for_is_told_immediately"],
    },
    "other code on the host": {"test_placed_nodes": ["test_hosts_with_other_code_are_rejected_by_the_names_that_differ"]},
    "message cannot be coded or is too large": {
        "test_placed_actors": ["test_what_cannot_travel_fails_its_sender_and_not_the_actor"],
        "test_placed_nodes": ["test_a_value_that_cannot_travel_fails_its_sender_and_costs_no_host"],
        "test_failure_table": ["test_a_message_that_is_too_large_fails_its_sender_and_not_the_actor"],
    },
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_tests(row):
    for file, names in ROWS[row].items():
        text = (RAY if file == RAY.stem else HERE / f"{file}.py").read_text()
        assert [name for name in names if not re.search(rf"^(async )?def {name}\b", text, re.MULTILINE)] == []


class Worker(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        if message == "raise":
            raise ValueError("wrong")
        await trio.sleep(1.0)
        return message


class Watcher(Actor[Any]):
    seen: list[Any]

    async def receive(self, message: Any) -> Any:
        if isinstance(message, Terminated):
            self.seen.append(message)
        elif message != "seen":
            self.seen = []
            self.context.watch(message)
        return list(self.seen)


@attrs.frozen
class Request:
    number: int | str


class Taker(Actor[Any]):
    """Takes messages and requests."""

    async def receive(self, message: Request | str | list[str]) -> Any:
        return ["x" * 2000] if message == "large" else message


async def test_a_handler_that_raises_costs_its_actor_and_no_host(autojump_clock):
    events: list[Any] = []
    async with open_runtime(places={"cpu": LoopbackHosts(2)}, instruments=[events.append]) as runtime:
        ref = await runtime.spawn(Worker, name="w", place="cpu")
        watcher = await runtime.spawn(Watcher)
        await watcher.ask(ref)
        answers: list[Any] = []

        async def ask(message: str) -> None:
            try:
                answers.append(await ref.ask(message))
            except ActorFailed as error:
                answers.append(error.__cause__)

        async with trio.open_nursery() as nursery:
            for message in ("raise", "one", "two"):
                nursery.start_soon(ask, message)
                await trio.testing.wait_all_tasks_blocked()
        assert isinstance(answers[0], ValueError)
        assert answers[1:] == ["one", "two"]  # they stayed in the mailbox
        assert await watcher.ask("seen") == []
    assert [event.address for event in events if isinstance(event, ActorRestarting)] == ["w"]
    assert not [event for event in events if isinstance(event, HostLostEvent)]


async def test_an_actor_on_a_host_that_is_stopped_is_unresponsive_and_then_lost(autojump_clock):
    events: list[Any] = []
    place = LoopbackHosts(2, stuck_after_s=60.0)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        ref = await runtime.spawn(Worker, name="w", place="cpu", shutdown_s=5.0)
        watcher = await runtime.spawn(Watcher)
        await watcher.ask(ref)
        at = trio.current_time()
        async with trio.open_nursery() as nursery:
            ends: list[type] = []

            async def ask() -> None:
                try:
                    await ref.ask("one")
                except (ActorFailed, ActorStopped) as error:
                    ends.append(type(error))

            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            place.stop(runtime.inspect(ref)["host"])

            await runtime.stop(ref)

        assert len(ends) == 2
        assert [each.ref for each in await watcher.ask("seen")] == [ref]
    told = [event for event in events if isinstance(event, ActorUnresponsive | HostLostEvent)]
    assert [type(event) for event in told] in ([ActorUnresponsive, HostLostEvent], [HostLostEvent])
    assert trio.current_time() - at <= 60.0 + 2.0


@pytest.mark.parametrize("large", ["x" * 2000, ["x" * 2000], Request("x" * 2000)], ids=["text", "list", "message"])
async def test_a_message_that_is_too_large_fails_its_sender_and_not_the_actor(large, autojump_clock, monkeypatch):
    monkeypatch.setattr(actor_codes, "MAX_VALUE_BYTES", 1000)
    async with open_runtime(places={"cpu": LoopbackHosts(1)}) as runtime:
        ref = await runtime.spawn(Taker, name="t", place="cpu")
        with pytest.raises(MessageTooLarge):
            await ref.ask(large)
        with pytest.raises(ActorFailed) as failure:
            await ref.ask("large")
        assert isinstance(failure.value.__cause__, MessageTooLarge)
        assert await ref.ask("small") == "small"
        assert ref.statistics().restarts == 0


# --- Ray's head -------------------------------------------------------------------------------------------------------------


class Head:
    """What all hosts of a place need, and what ends them when it has been away for a minute: as the head of a cluster."""

    def __init__(self) -> None:
        self.is_there = True
        self.changed = trio.Event()

    def turn(self, *, on: bool) -> None:
        self.is_there = on
        self.changed.set()
        self.changed = trio.Event()

    async def gone_for_a_minute(self) -> None:
        while True:
            while self.is_there:
                await self.changed.wait()
            with trio.move_on_after(60.0):
                while not self.is_there:
                    await self.changed.wait()
            if not self.is_there:
                return


@attrs.frozen
class Clustered:
    """`LoopbackHosts` below a head: a place whose hosts share something."""

    like: LoopbackHosts
    head: Head
    hosts = property(lambda self: self.like.hosts)
    window = property(lambda self: self.like.window)
    start_timeout_s = property(lambda self: self.like.start_timeout_s)
    dead_after_s = property(lambda self: self.like.dead_after_s)
    stuck_after_s = property(lambda self: self.like.stuck_after_s)
    cancel_grace_s = property(lambda self: self.like.cancel_grace_s)
    problems = property(lambda self: self.like.problems)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenedHead]:
        if not self.head.is_there:
            await trio.sleep(5.0)  # it is looked for
            raise PlaceUnavailable("the cluster cannot be joined: nothing answers.\n  Fix: none.")
        yield OpenedHead(self.like, self.head)


@attrs.frozen
class OpenedHead:
    like: LoopbackHosts
    head: Head

    async def gone(self) -> Gone:
        await self.head.gone_for_a_minute()
        for host in list(self.like._live):
            self.like.kill(host)
        return Gone("its launcher ended with exit code 1")

    @asynccontextmanager
    async def start(self, host_id: str, invitation: Any, /) -> AsyncGenerator[Any]:
        while not self.head.is_there:
            await self.head.changed.wait()
        async with self.like.start(host_id, invitation) as started:
            yield started


@attrs.frozen
class Answer:
    number: int


service = Graph("service", input=Request, output=Answer)


@service.node(place="gpu", redelivery=Redelivery(max_attempts=3, backoff=Backoff(first_s=0.1)))
async def serve(request: Request) -> Answer:
    await trio.sleep(0.05)
    return Answer(int(request.number))


@pytest.mark.parametrize("away_s", [30.0, 300.0])
async def test_a_head_that_is_away_for_five_minutes_ends_no_service_which_heals_without_a_restart(away_s, autojump_clock):
    """Hosts work on for a minute; then requests wait for hosts within their deadlines, and are served when the head is back."""
    head, events = Head(), list[Any]()
    place: Any = Clustered(LoopbackHosts(2, by_name=True, start_timeout_s=300.0), head)
    served: list[float] = []
    failed: list[float] = []
    async with open_runtime(places={"gpu": place}, instruments=[events.append]) as runtime:
        chats = await runtime.spawn(Worker, name="chat", place="gpu", redelivery=Redelivery(max_attempts=5))

        async def request(number: int) -> None:
            with trio.move_on_after(2.0) as scope:
                assert await runtime.run(service, Request(number)) == Answer(number)
                assert number % 5 or await chats.ask(number) == number
            (failed if scope.cancelled_caught else served).append(trio.current_time())

        await request(0)
        gone_at = trio.current_time()
        head.turn(on=False)
        async with trio.open_nursery() as nursery:

            async def come_back() -> None:
                await trio.sleep(away_s)
                head.turn(on=True)

            nursery.start_soon(come_back)
            for number in range(int(away_s) + 120):
                nursery.start_soon(request, number)
                await trio.sleep(1.0)
        back_at = gone_at + away_s

        assert not [at for at in failed if at < gone_at + 60.0]
        assert not [at for at in failed if at > back_at + 40.0]
        assert [at for at in served if at > back_at + 40.0]
        assert {each.address for each in runtime.tree().children} >= {"chat", "service", "places"}
    started = [event for event in events if isinstance(event, HostStarted)]
    if away_s > 60.0:
        assert failed
        assert len(started) == 4
    else:
        assert not failed
        assert len(started) == 2
