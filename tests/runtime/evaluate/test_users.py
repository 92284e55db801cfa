"""Simulated users talk with a graph until they have what they want."""

from __future__ import annotations

from typing import Annotated

import attrs
import pytest
import trio

from actors import DeclarationError, Graph, Recall, RunFailed, Turn
from runtime import open_runtime
from runtime.evaluate import Exchange, Persona, converse
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM


@attrs.frozen
class Said:
    text: str


@attrs.frozen
class Reply:
    text: str


def shop() -> Graph[Said, Reply]:
    """Tells where a parcel is once it knows the number, which it hears in one turn and needs in the next."""
    graph: Graph[Said, Reply] = Graph("shop", input=Said, output=Reply)

    @graph.node
    async def answer(said: Said, turns: Annotated[list[Turn], Recall(conversation=True)]) -> Reply:
        if said.text == "crash":
            raise ValueError("no")
        heard = " ".join([*(turn.message.text for turn in turns), said.text])
        return Reply("It comes on Friday." if "7" in heard else "Which number?")

    return graph


def user(*turns: tuple[bool, str]) -> ScriptedLM:
    return ScriptedLM([{"has_reached_goal": done, "next_message": text} for done, text in turns])


IMPATIENT = Persona("an impatient customer", "to know when parcel 7 comes")


async def test_a_user_talks_until_the_goal_is_reached_and_leaves_nothing_behind(autojump_clock):
    lm = user((False, "Where is it?"), (False, "7."), (True, ""))
    async with open_runtime(lm=lm) as runtime:
        found = await converse(runtime, shop(), IMPATIENT, key="ada")

        assert found.exchanges == (Exchange("Where is it?", "Which number?"), Exchange("7.", "It comes on Friday."))
        assert (found.ended, found.reached_goal) == ("goal", True)
        assert found.outputs[-1] == Reply("It comes on Friday.")
        assert runtime.conversation(shop(), key="ada").history == ()
        assert "me: 7.\nthem: It comes on Friday." in lm.calls[-1].text


async def test_the_turns_and_the_rule_end_it(autojump_clock):
    same = Persona("a calm one", "anything", opening="Hm?", stop=lambda talk: talk[-1] in talk[:-1])
    async with open_runtime(lm=user((False, "Hm?"), (False, "Hm?"), (False, "Hm?"))) as runtime:
        short = await converse(runtime, shop(), attrs.evolve(IMPATIENT, max_turns=2))
        bored = await converse(runtime, shop(), same)

    assert (short.ended, len(short.exchanges)) == ("turns", 2)
    assert (bored.ended, str(bored).count("user: ")) == ("stop", 2)


async def test_a_conversation_that_is_cancelled_leaves_nothing_behind(autojump_clock):
    lm = ScriptedLM([{"has_reached_goal": False, "next_message": "Where is it?"}] * 2, latency_s=10)
    store = MemoryStore()
    async with open_runtime(lm=lm, store=store) as runtime:
        with trio.move_on_after(15):  # the first exchange is over, and the user thinks
            await converse(runtime, shop(), IMPATIENT, key="ada")

        assert not [name for name in str(runtime.tree()).split() if "SimulatedUser" in name]
        assert runtime.conversation(shop(), key="ada").history == ()
        assert (await runtime.stored()).items == ()


async def test_a_run_that_fails_is_the_callers_and_the_user_is_stopped(autojump_clock):
    async with open_runtime(lm=user((False, "crash"))) as runtime:
        with pytest.raises(RunFailed):
            await converse(runtime, shop(), IMPATIENT)
        assert not [name for name in str(runtime.tree()).split() if "SimulatedUser" in name]


async def test_an_input_of_more_than_a_text_needs_says(autojump_clock):
    pair = attrs.make_class("Pair", ["one", "two"], frozen=True)
    pair.__annotations__ = {"one": str, "two": str}
    graph = Graph("pair", input=Said | Reply, output=Reply)
    async with open_runtime(lm=user()) as runtime:
        with pytest.raises(DeclarationError, match=r"Fix: says=lambda text"):
            await converse(runtime, graph, IMPATIENT)
