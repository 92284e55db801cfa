"""Conversations: one order for the messages of one key, and what nodes see of earlier turns."""

from __future__ import annotations

from typing import Annotated

import attrs
import pytest
import trio

from actors import Graph, Policy, Recall, RunCancelled, TooLong, Turn
from actors.errors import ConversationBusy, DeclarationError, LMUnavailable, RunFailed, UsageError
from runtime import Conversation, RunFinished, Runtime, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, explore, tool_answer

pytestmark = pytest.mark.usefixtures("autojump_clock")


@attrs.frozen
class Said:
    text: str
    takes_s: float = 1.0


@attrs.frozen
class Answer:
    text: str
    earlier: int


def talking(log: list[str] | None = None) -> Graph[Said, Answer]:
    graph = Graph("talks", input=Said, output=Answer)

    @graph.node
    async def answer(said: Said, turns: Annotated[list[Turn], Recall(conversation=True)]) -> Answer:
        if log is not None:
            log.append(f"{said.text} begins")
        await trio.sleep(said.takes_s)
        if said.text == "fail":
            raise LookupError("no such word")
        if log is not None:
            log.append(f"{said.text} ends")
        return Answer(said.text.upper(), len(turns))

    return graph


async def test_a_message_sees_the_turns_before_it():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7")

        assert await talk.send(Said("a")) == Answer("A", 0)
        assert await talk.send(Said("b")) == Answer("B", 1)

        assert talk.history == (Turn(Said("a"), Answer("A", 0)), Turn(Said("b"), Answer("B", 1)))


async def test_messages_of_one_key_have_one_order_and_keys_do_not_wait_for_one_another():
    log: list[str] = []
    graph = talking(log)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for key, text in (("one", "a"), ("one", "b"), ("other", "c")):
            nursery.start_soon(runtime.conversation(graph, key=key).send, Said(text))
            await trio.sleep(0.1)

    assert log == ["a begins", "c begins", "a ends", "b begins", "c ends", "b ends"]


@explore(runs=60)
async def test_two_messages_at_once_keep_their_order():
    log: list[str] = []
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(log), key="user-7", idle_s=1.0)
        for _ in range(2):  # the second time the actor may just be stopping
            log.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk.send, Said("a"))
                nursery.start_soon(talk.send, Said("b"))
            first, second = log[0][0], log[2][0]
            assert log == [f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"]
            await trio.sleep(1.0)


async def test_a_busy_conversation_can_reject():
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(talking(), key="user-7", policy=Policy.REJECT)
        nursery.start_soon(talk.send, Said("a"))
        await trio.sleep(0.1)

        with pytest.raises(ConversationBusy, match="Fix:"):
            await talk.send(Said("b"))
        await trio.sleep(1)
        assert await talk.send(Said("c")) == Answer("C", 1)


async def test_a_later_message_can_interrupt_and_what_was_said_is_kept():
    log: list[str] = []
    errors: list[type] = []

    async def send(talk: Conversation[Said, Answer], text: str) -> None:
        try:
            await talk.send(Said(text))
        except RunCancelled as error:
            errors.append(type(error))

    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(log), key="user-7", policy=Policy.INTERRUPT)
        async with trio.open_nursery() as nursery:
            for text in "abc":
                nursery.start_soon(send, talk, text)
                await trio.sleep(0.1)

    assert log == ["a begins", "b begins", "c begins", "c ends"]
    assert errors == [RunCancelled, RunCancelled]
    assert [(turn.message.text, turn.output, turn.error) for turn in talk.history] == [
        ("a", None, "cancelled"),
        ("b", None, "cancelled"),
        ("c", Answer("C", 2), None),
    ]


async def test_an_agent_takes_a_merged_message_between_two_rounds():
    @attrs.frozen
    class Reply:
        text: str

    async def look(at: str) -> str:
        """Look around."""
        await trio.sleep(2)
        return "a tree"

    graph = Graph("talks", input=Said, output=Reply)

    @graph.predict(tools=[look])
    async def answer(said: Said) -> Reply:
        """Answer."""
        raise NotImplementedError

    lm = ScriptedLM([tool_answer("look", at="x"), {"text": "both"}, {"text": "alone"}])
    answers: list[Reply] = []

    async def send(text: str) -> None:
        answers.append(await runtime.conversation(graph, key="user-7", policy=Policy.MERGE).send(Said(text)))

    async with open_runtime(lm=lm) as runtime:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "a")
            await trio.sleep(1)
            nursery.start_soon(send, "b")
        await send("c")

    assert answers == [Reply("both"), Reply("both"), Reply("alone")]
    assert [message["role"] for message in lm.calls[1].messages] == ["system", "user", "assistant", "tool", "user"]
    assert '"b"' in lm.calls[1].messages[-1]["content"]


async def test_a_merged_message_that_no_agent_takes_waits_for_its_turn():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7", policy=Policy.MERGE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.send, Said("a"))
            await trio.sleep(0.1)
            nursery.start_soon(talk.send, Said("b"))

        assert [turn.output for turn in talk.history] == [Answer("A", 0), Answer("B", 1)]


async def test_a_cancelled_message_ends_its_run_and_gives_the_turn_on():
    log: list[str] = []
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(log), key="user-7")
        with trio.move_on_after(0.5):
            await talk.send(Said("a"))

        assert await talk.send(Said("b")) == Answer("B", 1)
        assert not talk.is_busy
    assert log == ["a begins", "b begins", "b ends"]


async def test_one_that_is_cancelled_while_it_waits_is_not_said():
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        talk = runtime.conversation(talking(), key="user-7")
        nursery.start_soon(talk.send, Said("a"))
        await trio.sleep(0.1)
        with trio.move_on_after(0.1):
            await talk.send(Said("b"))

        assert await talk.send(Said("c")) == Answer("C", 1)


async def test_a_failed_message_is_a_turn_with_the_reason():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7")

        with pytest.raises(RunFailed):
            await talk.send(Said("fail"))

        (turn,) = talk.history
        assert turn.output is None
        assert turn.error is not None
        assert turn.error.startswith("RunFailed")


async def test_events_of_a_message_are_streamed_in_its_turn():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7")
        async with talk.stream(Said("a")) as events:
            ended = [event async for event in events if isinstance(event, RunFinished)]

        assert [event.output for event in ended] == [Answer("A", 0)]
        assert talk.history == (Turn(Said("a"), Answer("A", 0)),)


async def test_the_oldest_turns_are_forgotten_or_made_fewer():
    async def shorter(turns: list[Turn]) -> list[Turn]:
        return [Turn("summary", len(turns)), turns[-1]]

    graph = talking()
    async with open_runtime() as runtime:
        kept = runtime.conversation(graph, key="one", keep=2)
        compacted = runtime.conversation(graph, key="other", keep=2, compact=shorter)
        for text in "abc":
            await kept.send(Said(text))
            await compacted.send(Said(text))

        assert [turn.message.text for turn in kept.history] == ["b", "c"]
        assert compacted.history == (Turn("summary", 3), Turn(Said("c"), Answer("C", 2)))


@attrs.frozen
class Summary:
    text: str


def summing_up() -> Graph[TooLong, Summary]:
    """What makes a conversation shorter by a language model that is shown it."""
    graph = Graph("summing-up", input=TooLong, output=Summary)

    @graph.predict
    async def sum_up(much: TooLong, turns: Annotated[list[Turn], Recall(conversation=True)]) -> Summary:
        """Sum up what was said."""
        raise NotImplementedError

    return graph


@pytest.mark.parametrize("store", [False, True], ids=["memory", "stored"])
async def test_a_graph_sums_the_older_half_up(store: bool):
    lm = ScriptedLM([{"text": "a, b and c"}, {"text": "all before f"}])
    async with open_runtime(lm=lm, store=MemoryStore() if store else None) as runtime:
        talk = runtime.conversation(talking(), key="user-7", keep=3, compact=summing_up())
        for text in "abcdef":
            await talk.send(Said(text))

        assert [turn.message for turn in await talk.load()] == ["all before f", Said("f")]
    assert len(lm.calls) == 2  # not one for each message
    asked = lm.calls[1].messages[-1]["content"]
    assert "a, b and c" in asked
    assert '"e"' in asked
    assert '"f"' not in asked


async def test_a_summary_that_fails_is_logged_and_the_oldest_are_forgotten(caplog: pytest.LogCaptureFixture):
    async with open_runtime(lm=ScriptedLM({"": LMUnavailable("down")})) as runtime:
        talk = runtime.conversation(talking(), key="user-7", keep=2, compact=summing_up())
        for text in "abc":
            assert (await talk.send(Said(text))).text == text.upper()

        assert [turn.message.text for turn in talk.history] == ["b", "c"]
    assert "its oldest turns are forgotten: NodeFailed: " in caplog.text


async def test_what_is_forgotten_is_not_seen():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7")
        await talk.send(Said("a"))

        await talk.forget()

        assert talk.history == ()
        assert await talk.send(Said("b")) == Answer("B", 0)


def keepers(runtime: Runtime) -> int:
    return str(runtime.tree()).count("talks-")


async def test_the_actor_of_a_quiet_conversation_stops_and_starts_again():
    async with open_runtime() as runtime:
        talk = runtime.conversation(talking(), key="user-7", idle_s=10)
        await talk.send(Said("a"))
        started = keepers(runtime)

        await trio.sleep(11)

        assert (started, keepers(runtime)) == (1, 0)
        assert await talk.send(Said("b")) == Answer("B", 1)


async def test_a_run_that_waits_for_its_own_conversation_is_refused():
    graph = Graph("talks", input=Said, output=Answer)

    @graph.node
    async def answer(said: Said) -> Answer:
        return await runtime.conversation(graph, key="user-7").send(said)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.conversation(graph, key="user-7").send(Said("a"))

    assert isinstance(caught.value.exceptions[0].__cause__, UsageError)


async def test_a_language_model_is_shown_the_turns():
    @attrs.frozen
    class Reply:
        text: str

    graph = Graph("talks", input=Said, output=Reply)

    @graph.predict
    async def answer(said: Said, turns: Annotated[list[Turn], Recall(conversation=True)]) -> Reply:
        """Answer."""
        raise NotImplementedError

    lm = ScriptedLM([{"text": "one"}, {"text": "two"}])
    async with open_runtime(lm=lm) as runtime:
        talk = runtime.conversation(graph, key="user-7")
        await talk.send(Said("first words"))
        await talk.send(Said("second words"))

    assert "first words" in lm.calls[1].messages[-1]["content"]


async def test_outside_of_a_conversation_there_are_no_turns():
    async with open_runtime() as runtime:
        assert await runtime.run(talking(), Said("a")) == Answer("A", 0)


async def test_wrong_arguments_are_named():
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="expected a graph and a key"):
            runtime.conversation(talking(), key="")
        with pytest.raises(DeclarationError, match="keep"):
            runtime.conversation(talking(), key="a", keep=0)
        with pytest.raises(DeclarationError, match="or a graph that takes TooLong; this one takes Said"):
            runtime.conversation(talking(), key="a", compact=talking())  # type: ignore[arg-type]
        with pytest.raises(DeclarationError, match=r"compact=7\): expected an async function of a list"):
            runtime.conversation(talking(), key="a", compact=7)  # type: ignore[arg-type]
        with pytest.raises(DeclarationError, match="policy"):
            runtime.conversation(talking(), key="a", policy="enqueue")  # type: ignore[arg-type]


def test_turns_are_a_list_of_turns():
    graph = Graph("talks", input=Said, output=Answer)

    @graph.node
    async def answer(said: Said, turns: Annotated[list[str], Recall(conversation=True)]) -> Answer:
        return Answer("", len(turns))

    assert [problem.code for problem in graph.check()] == ["recall-type"]
