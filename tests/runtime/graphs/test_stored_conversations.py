"""Conversations over a store: what was said and what was accepted outlive the process, in order; what is forgotten is gone."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import Graph, NotStorable, Policy, RunCancelled, RunLost, Turn
from actors.errors import ConversationBusy, RunFailed
from runtime import Conversation, open_runtime
from runtime.graphs.conversations.conversations import Conversations
from runtime.journal import SqliteStore
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, explore, tool_answer
from tests.runtime.graphs.test_conversations import Answer, Said, talking

pytestmark = pytest.mark.usefixtures("autojump_clock")


def texts(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.message.text for turn in turns]


async def say(talk: Conversation[Any, Any], message: Any) -> None:
    """Send it, and be gone if the process is."""
    with contextlib.suppress(RunLost):
        await talk.send(message)


async def sent(talk: Conversation[Said, Answer], *words: str) -> None:
    for word in words:
        await talk.send(Said(word))


async def test_what_was_said_is_there_after_a_restart():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime:
        await sent(runtime.conversation(graph, key="user-7"), "a", "b")
    async with open_runtime(store=(store := store.beside())) as runtime:
        talk = runtime.conversation(graph, key="user-7")
        assert talk.history == ()
        turns = await talk.load()
        assert turns == (Turn(Said("a"), Answer("A", 0)), Turn(Said("b"), Answer("B", 1)))
        assert await talk.send(Said("c")) == Answer("C", 2)
        assert texts(talk.history) == ["a", "b", "c"]
        assert await runtime.conversation(graph, key="another").load() == ()
        runs = {stored.id: str(stored.status) for stored in (await runtime.stored(label="conversation:user-7")).items}
        assert list(runs.values()) == ["running"]


async def test_a_crash_keeps_the_order_of_what_was_accepted():
    store, log = MemoryStore(), list[str]()
    graph = talking(log)
    async with open_runtime(store=store) as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(graph, key="user-7")
        for word in "abc":
            nursery.start_soon(say, talk, Said(word, takes_s=10))
            await trio.sleep(1)
        store.crash()
        nursery.cancel_scope.cancel()
    log.clear()

    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(2)
        talk = runtime.conversation(graph, key="user-7")
        assert await talk.send(Said("d")) == Answer("D", 3)  # behind those that nobody here waits for
        assert [(turn.message.text, turn.output) for turn in talk.history] == [
            (word, Answer(word.upper(), at)) for at, word in enumerate("abcd")
        ]
    assert log == [f"{word} {what}" for word in "abcd" for what in ("begins", "ends")]


@pytest.mark.parametrize("is_opened", [False, True], ids=["taken up", "opened"])
async def test_what_was_accepted_goes_on_whether_anybody_speaks_or_not(is_opened: bool):
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(graph, key="user-7")
        nursery.start_soon(say, talk, Said("a", takes_s=10))
        await trio.sleep(1)
        nursery.start_soon(say, talk, Said("b"))
        await trio.sleep(1)
        store.crash()
        nursery.cancel_scope.cancel()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        talk = runtime.conversation(graph, key="user-7")
        if is_opened:
            await talk.send(Said("c"))
        await trio.sleep(75)
        assert texts(await talk.load()) == ["a", "b", *(["c"] if is_opened else [])]
        [stored] = (await runtime.stored(label="conversation:user-7")).items
        assert (str(stored.status), stored.owner) == ("waiting", None)  # it was put away


async def test_what_its_sender_no_longer_wants_is_not_said_in_another_life():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(graph, key="user-7")
        nursery.start_soon(say, talk, Said("a", takes_s=10))
        await trio.sleep(1)
        with trio.move_on_after(1):
            await talk.send(Said("b"))
        store.crash()
        nursery.cancel_scope.cancel()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(20)
        assert texts(await runtime.conversation(graph, key="user-7").load()) == ["a"]


async def test_a_cancelled_message_is_a_turn_and_its_run_does_not_go_on():
    store, log = MemoryStore(), list[str]()
    graph = talking(log)
    async with open_runtime(store=store) as runtime:
        talk = runtime.conversation(graph, key="user-7")
        with trio.move_on_after(1):
            await talk.send(Said("a", takes_s=10))
        with pytest.raises(RunFailed):
            await talk.send(Said("fail"))
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(20)
        turns = await runtime.conversation(graph, key="user-7").load()
    assert [(turn.message.text, turn.output, (turn.error or "")[:9]) for turn in turns] == [
        ("a", None, "cancelled"),
        ("fail", None, "RunFailed"),
    ]
    assert log == ["a begins", "fail begins"]


async def test_a_quiet_conversation_leaves_memory_and_goes_on():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime:
        talk = runtime.conversation(graph, key="user-7", idle_s=10)
        await talk.send(Said("a"))
        await trio.sleep(30)
        assert talk.history == ()
        assert "talks-" not in str(runtime.tree())
        owner: Conversations = runtime._conversations
        assert owner.open.known((graph, "user-7")) is None
        assert await talk.send(Said("b")) == Answer("B", 1)


async def test_an_erased_conversation_leaves_nothing_in_the_store():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime:
        talk, other = runtime.conversation(graph, key="user-7"), runtime.conversation(graph, key="other")
        await sent(talk, "a", "b")
        await sent(other, "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, talk, Said("c", takes_s=5))
            await trio.sleep(1)
            nursery.start_soon(talk.forget)
            await trio.sleep(1)
            nursery.start_soon(say, talk, Said("d"))  # accepted before the others are erased
        assert texts(talk.history) == ["d"]
        assert talk.history[0].output == Answer("D", 0)
        await talk.forget()
        assert await talk.load() == ()
        assert {stored.label for stored in (await runtime.stored()).items} == {"conversation:other", None}
        assert len((await runtime.stored()).items) == 2
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        assert await runtime.conversation(graph, key="user-7").send(Said("e")) == Answer("E", 0)


async def test_what_was_made_fewer_stays_so():
    store, graph = MemoryStore(), talking()

    async def shorter(turns: list[Turn]) -> list[Turn]:
        return [Turn("summary", len(turns)), turns[-1]]

    words = [str(number) for number in range(9)]
    async with open_runtime(store=store) as runtime:
        await sent(runtime.conversation(graph, key="kept", keep=2), *words)
        await sent(runtime.conversation(graph, key="made fewer", keep=2, compact=shorter), *words)
    async with open_runtime(store=store.beside()) as runtime:
        assert texts(await runtime.conversation(graph, key="kept", keep=2).load()) == ["7", "8"]
        turns = await runtime.conversation(graph, key="made fewer", keep=2, compact=shorter).load()
        assert turns == (Turn("summary", 3), Turn(Said("8"), Answer("8", 2)))


async def test_of_a_long_conversation_only_the_end_is_read():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as runtime:
        await sent(runtime.conversation(graph, key="user-7", keep=3), *map(str, range(60)))
    reads: list[int] = []
    later = store.beside()
    read = later.read

    def counted(run: str, after: int = 0) -> Any:
        reads.append(after)
        return read(run, after)

    later.read = counted  # type: ignore[method-assign]
    async with open_runtime(store=later) as runtime:
        assert texts(await runtime.conversation(graph, key="user-7", keep=3).load()) == ["57", "58", "59"]
    assert reads == [45]  # of 121


async def test_two_workers_do_not_have_one_conversation():
    store, graph = MemoryStore(), talking()
    async with open_runtime(store=store) as one, open_runtime(store=store.beside()) as two:
        await sent(one.conversation(graph, key="user-7", idle_s=5), "a")
        with pytest.raises(ConversationBusy, match="is another worker's until"):
            await two.conversation(graph, key="user-7").send(Said("b"))
        await trio.sleep(10)
        assert await two.conversation(graph, key="user-7").send(Said("b")) == Answer("B", 1)


async def test_a_message_that_cannot_be_stored_is_rejected():
    async with open_runtime(store=MemoryStore()) as runtime:
        talk = runtime.conversation(talking(), key="user-7")
        with pytest.raises(NotStorable):
            await talk.send(Said("a", takes_s=float("nan")))
        assert await talk.send(Said("b")) == Answer("B", 0)


async def test_a_merged_message_is_told_again_after_a_crash():
    @attrs.frozen
    class Reply:
        text: str

    graph = Graph("talks", input=Said, output=Reply)

    async def look(at: str) -> str:
        """Look around."""
        await trio.sleep(2)
        return "a tree"

    @graph.predict(tools=[look])
    async def answer(said: Said) -> Reply:
        """Answer."""
        raise NotImplementedError

    store = MemoryStore()
    lm = ScriptedLM([tool_answer("look", at="x"), tool_answer("look", at="y"), {"text": "both"}])
    async with open_runtime(lm=lm, store=store) as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(graph, key="user-7", policy=Policy.MERGE)
        nursery.start_soon(say, talk, Said("a"))
        await trio.sleep(1)
        nursery.start_soon(say, talk, Said("b"))
        await trio.sleep(2)  # it was taken, and the second call of the tool is under way
        store.crash()
        nursery.cancel_scope.cancel()
    async with open_runtime(lm=lm, store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(20)
        assert texts(await runtime.conversation(graph, key="user-7").load()) == ["a"]
    assert len(lm.calls) == 3
    assert lm.calls[2].messages[: len(lm.calls[1].messages)] == lm.calls[1].messages
    assert '"b"' in lm.calls[1].messages[-1]["content"]


async def test_a_later_message_interrupts_a_stored_run_for_good():
    store, log, errors = MemoryStore(), list[str](), list[type]()
    graph = talking(log)

    async def send(talk: Conversation[Said, Answer], text: str) -> None:
        try:
            await talk.send(Said(text))
        except RunCancelled as error:
            errors.append(type(error))

    async with open_runtime(store=store) as runtime:
        talk = runtime.conversation(graph, key="user-7", policy=Policy.INTERRUPT)
        async with trio.open_nursery() as nursery:
            for text in "abc":
                nursery.start_soon(send, talk, text)
                await trio.sleep(0.1)
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        await trio.sleep(20)
        turns = await runtime.conversation(graph, key="user-7").load()
    assert errors == [RunCancelled, RunCancelled]
    assert log == ["a begins", "b begins", "c begins", "c ends"]
    assert [(turn.message.text, turn.output) for turn in turns] == [("a", None), ("b", None), ("c", Answer("C", 2))]


@explore(runs=8, timer_races=0)
async def test_two_messages_at_once_keep_their_order_over_a_crash_under_every_schedule():
    store, log = MemoryStore(), list[str]()
    graph = talking(log)
    async with open_runtime(store=store, seed=0) as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(graph, key="user-7")
        nursery.start_soon(say, talk, Said("a", takes_s=3))
        nursery.start_soon(say, talk, Said("b", takes_s=3))
        await trio.sleep(1)
        store.crash()
        nursery.cancel_scope.cancel()
    first = log[0][0]
    second = {"a": "b", "b": "a"}[first]
    async with open_runtime(store=store.beside(), graphs=[graph], seed=0) as runtime:
        await trio.sleep(20)
        assert texts(await runtime.conversation(graph, key="user-7").load()) == [first, second]
    assert log == [f"{first} begins", f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"]


async def test_a_conversation_is_kept_in_a_file(tmp_path):
    graph = talking()
    for at, word in enumerate("ab"):
        async with open_runtime(store=SqliteStore(tmp_path / "runs.db")) as runtime:
            assert await runtime.conversation(graph, key="user-7\n…").send(Said(word)) == Answer(word.upper(), at)
