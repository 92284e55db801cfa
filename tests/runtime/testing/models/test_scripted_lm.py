from __future__ import annotations

import re
from collections.abc import Sequence

import attrs
import pytest
import trio
import trio.testing

from actors import Graph
from actors.errors import DeclarationError, LMUnavailable, UsageError
from actors.lm import LM, ChatMessage, Completion, TextDelta, Usage
from runtime import open_runtime
from runtime.testing import Answer, ScriptedLM, UnscriptedCall

SYSTEM = {"role": "system", "content": "Extract the time."}


def saying(text: str) -> list[ChatMessage]:
    return [SYSTEM, {"role": "user", "content": text}]


def test_it_is_a_language_model() -> None:
    assert isinstance(ScriptedLM([]), LM)


async def test_a_list_is_answered_in_order() -> None:
    lm = ScriptedLM(["one", Completion("two", "other"), {"three": 3}], model="fake", usage=Usage(1, 2))

    texts = [await lm.chat(saying("hi"), temperature=0.5) for _ in range(3)]

    assert texts[:2] == [Completion("one", "fake", usage=Usage(1, 2)), Completion("two", "other")]
    assert texts[2].text == "[[ ## three ## ]]\n3\n\n[[ ## completed ## ]]"
    first = lm.calls[0]
    assert (first.number, first.options, first.text) == (1, {"temperature": 0.5}, "Extract the time.\nhi")


async def test_concurrent_calls_are_told_apart_by_key(virtual_clock: trio.testing.MockClock) -> None:
    lm = ScriptedLM(
        {"red": "stop", re.compile("gr[e]+n").search: Answer("go", latency_s=1.153), "": ["what?"]},
        latency_s={"red": 0.726, "": 1.125},
    )

    async with trio.open_nursery() as nursery:
        for text in ("blue", "green", "red"):
            nursery.start_soon(lm.chat, saying(text))

    seen = {call.text.split()[-1]: (call.completion and call.completion.text, call.ended_s) for call in lm.calls}
    assert seen == {"red": ("stop", 0.726), "green": ("go", 1.153), "blue": ("what?", 1.125)}
    assert (lm.max_in_flight, lm.in_flight, trio.current_time()) == (3, 0, 1.153)


async def test_a_function_answers_from_the_messages() -> None:
    def echo(messages: Sequence[ChatMessage]) -> str:
        return str(messages[-1]["content"]).upper()

    completion = await ScriptedLM(echo).chat(saying("hi"))

    assert completion.text == "HI"


async def test_an_exception_is_raised_after_its_latency(virtual_clock: trio.testing.MockClock) -> None:
    error = LMUnavailable("down")
    lm = ScriptedLM([error, "up"], latency_s=2.0)

    with pytest.raises(LMUnavailable, match=r"^down$") as caught:
        await lm.chat(saying("hi"))

    assert caught.value is error
    assert [(call.error, call.ended_s) for call in lm.calls] == [(error, 2.0)]
    assert (await lm.chat(saying("hi"))).text == "up"


async def test_a_cancelled_call_is_recorded(virtual_clock: trio.testing.MockClock) -> None:
    lm = ScriptedLM(["late"], latency_s=60.0)

    with trio.move_on_after(0.5):
        await lm.chat(saying("hi"))

    assert [(call.cancelled, call.completion, call.ended_s) for call in lm.calls] == [(True, None, 0.5)]
    assert lm.in_flight == 0


async def test_a_call_beyond_the_list_is_not_expected() -> None:
    lm = ScriptedLM(["one"], unforeseen="ok")
    await lm.chat(saying("hi"))

    message = re.escape(
        "Call 2 to ScriptedLM('scripted') was not expected: all 1 answer(s) have been given.\n"
        "  Prompt: 'Extract the time.\\nhi again'\n"
        "  Fix: script one more answer, or find out who calls once too often."
    )
    with pytest.raises(UnscriptedCall, match=f"^{message}$"):
        await lm.chat(saying("hi again"))


async def test_a_call_that_fits_no_key_is_not_expected() -> None:
    lm = ScriptedLM({"red": "stop", "green": "go"}, unused="ok", unforeseen="ok")

    message = re.escape(
        "Call 1 to ScriptedLM('scripted') was not expected: none of its keys occurs in the prompt.\n"
        "  Keys: 'red', 'green'. Prompt: 'Extract the time.\\nblue'\n"
        "  Fix: add a key for it, or '' as the last key, which fits every prompt."
    )
    with pytest.raises(UnscriptedCall, match=f"^{message}$"):
        await lm.chat(saying("blue"))


def test_a_bare_text_is_no_script() -> None:
    message = re.escape("ScriptedLM(answers='yes'): expected a list, a mapping or a function of answers.")

    with pytest.raises(DeclarationError, match=f"^{message}"):
        ScriptedLM("yes")


@pytest.mark.slow
async def test_predict_parses_fields_by_their_dspy_signature() -> None:
    """DSPy itself formats the prompt and reads the answer; its first import takes seconds."""
    lm = ScriptedLM({"the field `[[ ## filters ## ]]`": {"filters": ["after 2024"]}, "[[ ## query ## ]]": {"query": None}})

    filters = await lm.predict("intent -> filters: list[str]", intent="ideas from 2025")
    query = await lm.predict("intent -> query: str | None", intent="ideas")

    assert (filters.filters, query.query) == (["after 2024"], None)
    assert "ideas from 2025" in lm.calls[0].text


async def test_unused_answers_fail_with_a_diff_of_what_was_asked() -> None:
    lm = ScriptedLM({"noon": "12", "place": ["here", "there"], "": "else"}, model="fake", unused="ok")
    await lm.chat(saying("noon?"))
    await lm.chat(saying("what place?"))

    with pytest.raises(AssertionError) as caught:
        lm.assert_used_up()

    assert str(caught.value) == (
        "ScriptedLM('fake') has answers that were never asked for; unused (-) and asked (+):\n"
        "  - 'place', answer 2: 'there'\n"
        "  - '': 'else'\n"
        "  + 1: 'Extract the time.\\nnoon?'\n"
        "  + 2: 'Extract the time.\\nwhat place?'"
    )


async def test_a_script_that_was_asked_for_in_full_is_used_up() -> None:
    lm = ScriptedLM(["one", "two"])
    await lm.chat(saying("a"))
    await lm.chat(saying("b"))

    lm.assert_used_up()


async def test_a_streamed_answer_comes_word_by_word(virtual_clock: trio.testing.MockClock) -> None:
    lm = ScriptedLM(["noon or so"], latency_s=1, interval_s=0.5)
    times: list[tuple[str, float]] = []

    async with lm.stream(saying("when?")) as stream:
        async for delta in stream:
            assert isinstance(delta, TextDelta)
            times.append((delta.text, trio.current_time()))

    assert times == [("noon", 1.0), (" or", 1.5), (" so", 2.0)]
    assert stream.completion.text == "noon or so"
    assert (lm.calls[0].started_s, lm.calls[0].ended_s, lm.in_flight) == (0.0, 2.0, 0)


async def test_a_stream_that_is_left_early_has_no_completion() -> None:
    lm = ScriptedLM(["noon or so"])

    async with lm.stream(saying("when?")) as stream:
        await stream.__anext__()
        with pytest.raises(UsageError, match=r"^the answer is still on its way\."):
            _ = stream.completion


@attrs.frozen
class Wish:
    text: str


@attrs.frozen
class Query:
    query: str | None
    reasoning: str


async def test_the_word_null_fills_a_field_of_a_predict_node_with_none(virtual_clock: trio.testing.MockClock) -> None:
    graph = Graph("searches", input=Wish, output=Query)

    @graph.predict
    async def search(wish: Wish) -> Query:  # type: ignore[empty-body]  # the model fills it
        """Say what to search for."""
        ...

    async with open_runtime(lm=ScriptedLM([{"query": "null", "reasoning": "Nothing to find."}])) as runtime:
        assert await runtime.run(graph, Wish("hello")) == Query(None, "Nothing to find.")
