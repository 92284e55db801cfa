"""Several runtimes with one store: names that one of them has at a time, and what is published in all of them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, MessageTooLarge, NameLost, NotPortable, StoreDamaged, StoreError, StoreUnavailable, UsageError
from runtime import open_runtime
from runtime.graphs.everywhere import MAX_WAITING, OTHERS
from runtime.journal.meeting import NameHolder
from runtime.journal.memory import MemoryStore
from runtime.journal.sqlite import SqliteStore

LEASE_S = 15


@attrs.frozen
class Price:
    product: str
    euros: int


@attrs.frozen
class Sale(Price):
    percent: int = 10


@attrs.frozen
class Unknown:
    what: object


class Listener(Actor[Any]):
    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    async def receive(self, message: Any) -> None:
        self.heard.append(message)


# --- names ----------------------------------------------------------------------------------------------------------------


async def test_one_runtime_has_a_name_at_a_time_and_the_next_gets_it_when_it_is_let_go(autojump_clock):
    store, log = MemoryStore(), []

    async def work(number: int, runtime: Any) -> None:
        async with runtime.register("index") as held:
            log.append((number, held.name, held.fence, trio.current_time()))
            await trio.sleep(10)

    async with open_runtime(store=store, worker="a") as one, open_runtime(store=store.beside(), worker="b") as two:
        assert await one.registered("index") is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, 1, one)
            await trio.sleep(0.5)
            nursery.start_soon(work, 2, two)
            nursery.start_soon(work, 3, one)
            await trio.sleep(1)
            assert str(await two.registered("index")).startswith("a-")
        assert await one.registered("index") is None

    assert sorted(each[2] for each in log) == [1, 2, 3]
    starts = sorted(each[3] for each in log)
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(starts))


async def test_a_name_of_a_process_that_died_is_another_ones_after_the_lease(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)
    async with open_runtime(store=store.beside()) as other:

        async def die() -> None:
            async with open_runtime(store=store) as runtime, runtime.register("index") as held:
                store.crash()
                async with other.register("index") as taken:
                    assert taken.fence == held.fence + 1
                await trio.sleep_forever()

        with pytest.raises(NameLost, match="no longer has the name 'index'") as lost:
            await die()
    assert lost.value.name == "index"


async def test_a_runtime_that_is_cut_off_leaves_its_block_before_another_has_the_name(autojump_clock):
    store, times = MemoryStore(lease_s=LEASE_S), {}

    async def hold() -> None:
        async with open_runtime(store=store) as runtime, runtime.register("index"):
            store.cut_off()
            try:
                await trio.sleep_forever()
            finally:
                times["left"] = trio.current_time()

    async def lose() -> None:
        with pytest.raises(NameLost):
            await hold()

    async with open_runtime(store=store.beside()) as other, trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        await trio.sleep(1)
        async with other.register("index"):
            times["taken"] = trio.current_time()
    assert times["left"] <= times["taken"]
    assert LEASE_S <= times["taken"] <= LEASE_S + 2


async def test_what_the_block_raises_passes_and_lets_the_name_go(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        with pytest.raises(KeyError, match="mine"):
            async with runtime.register("index"):
                raise KeyError("mine")
        assert await runtime.registered("index") is None
        with trio.move_on_after(3) as scope:
            async with runtime.register("index"):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await runtime.registered("index") is None


async def test_who_waits_for_a_name_waits_out_the_stores_absence_and_can_be_cancelled(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        async with other.register("index"):
            with trio.move_on_after(5) as scope:
                async with runtime.register("index"):
                    raise AssertionError("another has it")
            assert scope.cancelled_caught
        store.cut_off()
        async with trio.open_nursery() as nursery:

            async def heal() -> None:
                await trio.sleep(5)
                store.heal()

            nursery.start_soon(heal)
            async with runtime.register("index") as held:
                assert (held.fence, trio.current_time() >= 10) == (2, True)
        store.cut_off()
        with pytest.raises(StoreUnavailable):
            await runtime.registered("index")
        store.heal()


async def test_without_a_store_names_hold_within_the_runtime(autojump_clock):
    async with open_runtime() as runtime:
        async with runtime.register("index") as first:
            assert await runtime.registered("index") is not None
            with pytest.raises(UsageError, match="this task has that name already"):
                async with runtime.register("index"):
                    pass
        async with runtime.register("index") as second:
            assert (first.fence, second.fence) == (1, 2)
        assert await runtime.registered("index") is None


async def test_fences_grow_over_restarts_of_a_program_with_a_file(tmp_path):
    fences = []
    for _ in range(3):
        async with open_runtime(store=SqliteStore(tmp_path / "runs.db")) as runtime, runtime.register("index") as held:
            assert await runtime.registered("index") is not None
            fences.append(held.fence)
    assert fences == [1, 2, 3]


async def test_names_without_a_store_leave_nothing_behind(autojump_clock):
    async with open_runtime() as runtime:
        for number in range(100):
            async with runtime.register(f"order {number}") as held:
                assert held.fence == number + 1
        assert runtime._engine.names._queues == {}


class Mine(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Mine("mine"), ValueError("mine")])
async def test_what_a_block_raises_that_has_lost_its_name_passes_with_a_note(error, autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)

    async def hold(runtime: Any) -> None:
        async with runtime.register("index"):
            store.cut_off()
            try:
                await trio.sleep_forever()
            finally:
                raise error

    async with open_runtime(store=store) as runtime:
        with pytest.raises(type(error)) as caught:
            await hold(runtime)
        assert caught.value is error
        (note,) = error.__notes__
        assert "no longer has the name 'index'" in note
        store.heal()


async def test_of_several_errors_in_a_block_that_has_lost_its_name_none_is_swallowed(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)

    async def fail(error: BaseException) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def hold(runtime: Any) -> None:
        async with runtime.register("index"), trio.open_nursery() as nursery:
            nursery.start_soon(fail, KeyError("one"))
            nursery.start_soon(fail, KeyboardInterrupt())
            nursery.start_soon(trio.sleep_forever)
            store.cut_off()

    async with open_runtime(store=store) as runtime:
        with pytest.raises(BaseExceptionGroup) as caught:
            await hold(runtime)
        assert sorted(type(each).__name__ for each in caught.value.exceptions) == ["KeyError", "KeyboardInterrupt"]
        assert "no longer has the name" in caught.value.__notes__[0]
        store.heal()


async def test_who_is_cancelled_while_the_name_is_lost_is_cancelled(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)
    async with open_runtime(store=store) as runtime:
        with trio.CancelScope() as scope:
            async with runtime.register("index"):
                store.cut_off()
                try:
                    await trio.sleep_forever()
                finally:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        store.heal()


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_a_block_raises_that_is_cancelled_is_not_replaced(is_lost, autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)

    async def hold(runtime: Any, scope: trio.CancelScope) -> None:
        async with runtime.register("index"):
            if is_lost:
                store.cut_off()
            else:
                scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                scope.cancel()
                raise KeyError("mine")

    async with open_runtime(store=store) as runtime:
        with trio.CancelScope() as scope:
            with pytest.raises(KeyError, match="mine"):
                await hold(runtime, scope)
        store.heal()


async def test_a_block_that_blocked_the_loop_until_the_name_was_lost_is_told(autojump_clock):
    store = MemoryStore(lease_s=LEASE_S)

    async def hold(runtime: Any) -> None:
        async with runtime.register("index"):
            store.cut_off()
            autojump_clock.jump(2 * LEASE_S)

    async with open_runtime(store=store) as runtime:
        with pytest.raises(NameLost):
            await hold(runtime)
        store.heal()


@pytest.mark.parametrize("with_store", [False, True])
async def test_a_task_that_would_wait_for_who_waits_for_it_is_told(with_store, autojump_clock):
    got: list[int] = []

    async def child(runtime: Any) -> None:
        async with runtime.register("index") as held:
            got.append(held.fence)

    async def grandchild(runtime: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, runtime)

    async with open_runtime(store=MemoryStore() if with_store else None) as runtime:
        for function in (child, grandchild):
            with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match="started in the block"), flatten_subgroups=True):
                async with runtime.register("index"), trio.open_nursery() as inner:
                    inner.start_soon(function, runtime)
        got.clear()
        async with trio.open_nursery() as around:  # waits until the block around it has ended, as any other task
            async with runtime.register("index") as held, trio.open_nursery():
                around.start_soon(child, runtime)
                around.start_soon(grandchild, runtime)
                await trio.sleep(3)
                assert got == []
        assert [each - held.fence for each in got] == [1, 2]


async def test_a_name_that_could_not_be_let_go_is_free_once_the_store_is_back(autojump_clock):
    """And not only when the process ends."""
    store = MemoryStore(lease_s=LEASE_S)
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        async with runtime.register("index"):
            store.cut_off()
        await trio.sleep(3)
        assert await other.registered("index") is not None
        store.heal()
        with trio.fail_after(3):
            async with other.register("index"):
                pass
        async with runtime.register("index") as held:
            assert await other.registered("index") is not None
            await trio.sleep(5)
            assert held.fence == (await store.hold("index")).fence - 1, "nothing gave it up meanwhile"


async def test_who_is_cancelled_while_the_store_gives_the_name_does_not_keep_it(autojump_clock, monkeypatch):
    store = MemoryStore(lease_s=LEASE_S)
    hold = store.hold

    async def answered_late(name: str) -> NameHolder:
        held = await hold(name)
        await trio.sleep(3)
        return held

    monkeypatch.setattr(store, "hold", answered_late)
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        with trio.move_on_after(1) as scope:
            async with runtime.register("index"):
                raise AssertionError("it was cancelled before")
        assert scope.cancelled_caught
        assert trio.current_time() < 2
        assert await other.registered("index") is not None
        await trio.sleep(5)
        assert await other.registered("index") is None


async def test_a_name_that_the_store_gave_before_the_lease_ended_is_not_had_when_that_is_heard_later(autojump_clock, monkeypatch):
    store = MemoryStore(lease_s=LEASE_S)
    hold = store.hold
    times: dict[str, float] = {}

    async def cut_off_after_it(name: str) -> NameHolder:
        held = await hold(name)
        store.cut_off()
        await trio.sleep(3 * LEASE_S)
        store.heal()
        return held

    monkeypatch.setattr(store, "hold", cut_off_after_it)

    async def take(runtime: Any) -> None:
        async with runtime.register("index"):
            raise AssertionError("another has it")

    async def take_over(runtime: Any) -> None:
        async with runtime.register("index"):
            times["taken"] = trio.current_time()
            await trio.sleep(10 * LEASE_S)

    async with open_runtime(store=store.beside()) as other, trio.open_nursery() as nursery:
        async with open_runtime(store=store) as runtime:
            nursery.start_soon(take_over, other)
            with pytest.raises(StoreError):
                await take(runtime)
        assert times["taken"] < trio.current_time()


@pytest.mark.explore(runs=1, max_steps=1_000_000)
async def test_who_waits_for_thousands_of_names_leaves_the_store_time_for_other_things(autojump_clock, monkeypatch):
    store = MemoryStore()
    one, asked = store.beside(), 0
    hold = one.hold

    async def counted(name: str) -> NameHolder:
        nonlocal asked
        asked += 1
        return await hold(name)

    monkeypatch.setattr(one, "hold", counted)
    count = 300
    got: set[str] = set()

    async def work(runtime: Any, name: str) -> None:
        async with runtime.register(name):
            got.add(name)
            await trio.sleep_forever()

    async with open_runtime(store=one) as runtime, open_runtime(store=store) as other, trio.open_nursery() as nursery:
        async with trio.open_nursery() as holders:
            for number in range(count):
                holders.start_soon(work, other, f"name {number}")
            await trio.sleep(1)
            assert len(got) == count
            for number in range(count):
                nursery.start_soon(work, runtime, f"name {number}")
            await trio.sleep(30)
            assert asked <= 12 * count  # and not 31
            holders.cancel_scope.cancel()
        got.clear()
        await trio.sleep(10)
        assert len(got) == count
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["", "x" * 201, 3, "a\0b"])
async def test_what_cannot_be_a_name_is_said(name, autojump_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="expected a text of 1 to 200 characters"):
            async with runtime.register(name):
                pass
        with pytest.raises(UsageError, match="expected a text"):
            await runtime.registered(name)


# --- what is published everywhere -------------------------------------------------------------------------------------------


async def test_what_is_published_everywhere_reaches_who_subscribed_in_any_runtime_once(autojump_clock):
    store = MemoryStore()
    here: list[Any] = []
    there: list[Any] = []
    other: list[Any] = []
    async with open_runtime(store=store) as one, open_runtime(store=store.beside()) as two, open_runtime() as three:
        for runtime, heard in ((one, here), (two, there), (three, other)):
            listener = await runtime.spawn(Listener, heard)
            runtime.subscribe(Price, listener)
            runtime.subscribe(str, listener, topic="notes")
        one.publish(Price("pen", 0))
        assert one.publish(Price("tea", 3), everywhere=True) == 1
        assert one.publish(Sale("cup", 5, 20), everywhere=True) == 1
        one.publish("hello", topic="notes", everywhere=True)
        one.publish("unheard", everywhere=True)
        one.publish(Unknown("?"), everywhere=True)
        await trio.sleep(1)

    assert here == [Price("pen", 0), Price("tea", 3), Sale("cup", 5, 20), "hello"]
    assert there == [Price("tea", 3), Sale("cup", 5, 20), "hello"]
    assert other == []


async def test_what_was_published_at_the_end_of_a_runtime_is_told_too(autojump_clock):
    store = MemoryStore()
    heard: list[Any] = []
    async with open_runtime(store=store.beside()) as other:
        other.subscribe(Price, await other.spawn(Listener, heard))
        async with open_runtime(store=store) as runtime:
            runtime.publish(Price("last", 1), everywhere=True)
        await trio.sleep(1)
    assert heard == [Price("last", 1)]


async def test_the_store_is_told_twenty_times_a_second_at_most(autojump_clock, monkeypatch):
    store = MemoryStore()
    told: list[float] = []
    heard: list[Any] = []
    announce = store.announce

    async def counted(news: bytes) -> None:
        told.append(trio.current_time())
        await announce(news)

    monkeypatch.setattr(store, "announce", counted)
    async with open_runtime(store=store) as one, open_runtime(store=store.beside()) as two:
        two.subscribe(Price, await two.spawn(Listener, heard))
        for number in range(100):
            one.publish(Price("tea", number), everywhere=True)
            await trio.sleep(0.01)
        await trio.sleep(1)
    assert [each.euros for each in heard] == list(range(100))
    assert len(told) <= 21
    assert all(later - earlier >= 0.05 - 1e-9 for earlier, later in itertools.pairwise(told))


async def test_what_the_store_cannot_take_is_a_dead_letter_and_not_tried_again(autojump_clock):
    store = MemoryStore()
    heard: list[Any] = []
    async with open_runtime(store=store) as one, open_runtime(store=store.beside()) as two:
        two.subscribe(Price, await two.spawn(Listener, heard))
        store.cut_off()
        one.publish(Price("lost", 1), everywhere=True)
        await trio.sleep(1)
        store.heal()
        one.publish(Price("told", 2), everywhere=True)
        await trio.sleep(1)
        (letter,) = one.dead_letters
        assert (letter.recipient, letter.message) == (OTHERS, Price("lost", 1))

        for number in range(MAX_WAITING + 3):
            one.publish(Price("many", number), everywhere=True)
        assert one.dead_letters.total == 4
    assert heard == [Price("told", 2)]


async def test_what_cannot_go_to_another_process_is_said_to_who_publishes_it(autojump_clock):
    async with open_runtime() as runtime:
        for message, topic in ((object(), None), (Unknown(object()), None), (Price("tea", 3), ("a", 1))):
            with pytest.raises(NotPortable, match="cannot go to another process"):
                runtime.publish(message, topic=topic, everywhere=True)
        with pytest.raises(MessageTooLarge):
            runtime.publish("x" * 2_000_000, everywhere=True)


async def test_news_that_cannot_be_read_here_is_a_dead_letter(autojump_clock):
    store = MemoryStore()
    heard: list[Any] = []
    async with open_runtime(store=store) as one, open_runtime(store=store.beside()) as two:
        two.subscribe(Price, await two.spawn(Listener, heard))
        await store.announce(f'[["{__name__}:Price",null,"{{\\"wrong\\":1}}"],["no.module:Thing",null,"1"]]'.encode())
        one.publish(Price("tea", 3), everywhere=True)
        await trio.sleep(1)
        assert [letter.recipient for letter in two.dead_letters] == [f"{__name__}:Price"]
    assert heard == [Price("tea", 3)]


PEN = json.dumps([f"{__name__}:Price", None, json.dumps({f"{__name__}:Price": {"product": "pen", "euros": 1}})])


@pytest.mark.parametrize(
    "news",
    [
        b"",
        b"\xff\xfe",
        b"no json",
        b"3",
        b'{"a": 1}',
        b"[" * 100_000,
        b"[" + b"9" * 10_000 + b"]",
        b"[3]",
        b"[[]]",
        b'[["", null]]',
        b'[[3, null, "1"]]',
        b'[["", [], "1"]]',
        b'[["", {}, "1"]]',
        b'[["", null, 3]]',
        b'[["", null, "\\ud800"]]',
        b'[["", null, "no json"]]',
        b'[["", null, "' + b"[" * 100_000 + b'"]]',
    ],
)
async def test_news_of_any_form_that_cannot_be_read_is_a_dead_letter_with_the_reason(news, autojump_clock):
    """And takes no other with it, nor the runtime."""
    store = MemoryStore()
    heard: list[Any] = []
    async with open_runtime(store=store), open_runtime(store=store.beside()) as two:
        two.subscribe(Price, await two.spawn(Listener, heard))
        await store.announce(news)
        if news[:2] == b"[[" and news[-2:] == b"]]":
            await store.announce(news[:-1] + b"," + PEN.encode() + b"]")
        await store.announce(f"[{PEN}]".encode())
        await trio.sleep(1)
        assert {letter.recipient for letter in two.dead_letters} == {OTHERS}
        assert all(letter.error for letter in two.dead_letters)
        assert heard[-1] == Price("pen", 1)
        assert len(heard) == len(list(two.dead_letters))


async def test_news_that_the_store_cannot_open_is_a_dead_letter_and_the_rest_is_heard(autojump_clock, monkeypatch):
    store = MemoryStore()
    heard: list[Any] = []
    other = store.beside()
    announced = other.announced

    async def damaged() -> list[Any]:
        return [StoreDamaged("sealed with another key"), *await announced()]

    monkeypatch.setattr(other, "announced", damaged)
    async with open_runtime(store=store), open_runtime(store=other) as two:
        two.subscribe(Price, await two.spawn(Listener, heard))
        await store.announce(f"[{PEN}]".encode())
        await trio.sleep(1)
        (letter,) = two.dead_letters
        assert (letter.recipient, letter.message) == (OTHERS, None)
        assert "sealed with another key" in str(letter.error)
    assert heard == [Price("pen", 1)]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("topic", [10**5000, -(10**5000), (10**5000,), Unprintable()], ids=range(4))
async def test_a_topic_that_cannot_be_printed_cannot_go_to_another_process(topic, autojump_clock):
    async with open_runtime() as runtime:
        with pytest.raises(NotPortable, match="the topic cannot go to another process") as caught:
            runtime.publish("hello", topic=topic, everywhere=True)
        assert "Fix: use a text or a number" in str(caught.value)
