"""However a model's answer is broken, reading it holds the event loop for a moment only and ends as an unreadable reply."""

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import dspy
import httpx
import pytest
import trio
from dspy.utils.exceptions import AdapterParseError

from actors.errors import LMReplyUnreadable
from actors.lm import ChatMessage, Completion, ToolCall
from runtime.lm.backends.typed import DSPyBackend
from runtime.lm.dspy.bridge import fill, run_dspy, run_signature
from runtime.lm.dspy.choosing import choose
from runtime.lm.dspy.formats import value_of
from runtime.lm.dspy.repair import IN_A_THREAD, ON_THE_LOOP, TooHard, limited, read
from runtime.lm.dspy.trio_lm import trio_lm
from runtime.lm.limits.retry import Retry
from tests.effort import LongestStep, counted_calls
from tests.runtime.lm.faking import HELLO, faking

HELD_CALLS = 1_000_000
"""Calls that one step of a task may make: those of about a tenth of a second. Quadratic repair made hundreds of millions."""
SIZES = (2_000, 16_000, 400_000)
SHAPES: dict[str, Callable[[int], str]] = {
    "badly quoted list": lambda size: "[" + "'a 'b' c', " * (size // 11),
    "quotes": lambda size: '"' * size,
    "quoted items": lambda size: '["' * (size // 2),
    "items without commas": lambda size: '["a" "b" ' * (size // 9),
    "braces": lambda size: "{" * size,
    "brackets": lambda size: "[" * size,
    "deep and closed": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "deep objects": lambda size: '{"a":' * (size // 5),
    "prose": lambda size: "I would rather say it in words. " * (size // 32),
    "numbers": lambda size: "[" + "1," * (size // 2),
    "one number": lambda size: "1" * size,
    "comments": lambda size: "[" + "// x\n" * (size // 5),
    "tuples": lambda size: "[ " + "(a " * (size // 3),
    "signs": lambda size: "-" * size + "1",
    "headers": lambda size: "[[ ## tags ## ]]\n" * (size // 17),
    "tags": lambda size: "<tags>" * (size // 6),
    "spaces": lambda size: " " * size + "[",
}


@attrs.frozen
class Tags:
    tags: list[str]


@attrs.frozen
class Other:
    name: str


@attrs.frozen
class Source:
    text: str

    def __call__(self) -> Tags | Other: ...  # type: ignore[empty-body]


class Saying:
    """A language model that gives the answers in turn, and the last one for ever."""

    model = "fake/hostile"

    def __init__(self, *answers: str | Completion) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return Completion(answer, self.model) if isinstance(answer, str) else answer


@contextmanager
def holding_the_loop_briefly() -> Iterator[None]:
    with counted_calls() as calls:
        longest = LongestStep(calls)
        trio.lowlevel.add_instrument(longest)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(longest)
    assert longest.most <= HELD_CALLS


async def warm() -> None:
    """What the first fill imports and makes is not what is measured."""
    await fill(Saying("[[ ## tags ## ]]\n[]"), instruction="", inputs={"source": Source("x")}, output=Tags)


def in_sections(text: str) -> str:
    return f"[[ ## tags ## ]]\n{text}\n\n[[ ## completed ## ]]"


async def by_chat(text: str) -> None:
    await fill(Saying(in_sections(text)), instruction="", inputs={"source": Source("x")}, output=Tags)


async def by_json(text: str) -> None:
    with dspy.context(adapter=dspy.JSONAdapter()):
        await fill(Saying(text), instruction="", inputs={"source": Source("x")}, output=Tags)


async def by_xml(text: str) -> None:
    with dspy.context(adapter=dspy.XMLAdapter()):
        await fill(Saying(f"<tags>{text}</tags>"), instruction="", inputs={"source": Source("x")}, output=Tags)


async def by_a_signature(text: str) -> None:
    signature: Any = "question -> tags: list[str], size: int"
    await run_signature(Saying(in_sections(text) + f"\n[[ ## size ## ]]\n{text}"), signature, {"question": "?"}, parse_attempts=2)


async def by_two_steps(text: str) -> None:
    with dspy.context(adapter=dspy.TwoStepAdapter(trio_lm(Saying(in_sections(text))))):
        await fill(Saying("The tags are…"), instruction="", inputs={"source": Source("x")}, output=Tags)


async def by_a_stream(text: str) -> None:
    told: list[str] = []
    await fill(
        Saying(in_sections(text)),
        instruction="",
        inputs={"source": Source("x")},
        output=Tags,
        on_field=lambda field, piece, answer: told.append(piece),
    )


async def by_make(text: str) -> None:
    await DSPyBackend(Saying(in_sections(text))).make(Source("x"), Tags)


async def by_decide(text: str) -> None:
    await DSPyBackend(Saying(f"[[ ## choice ## ]]\n{text}")).decide(Source("x"))


async def by_choose_type(text: str) -> None:
    await DSPyBackend(Saying(f"[[ ## choice ## ]]\n{text}")).choose_type([Tags, Other], Source("x"))


async def by_fill(text: str) -> None:
    await DSPyBackend(Saying(in_sections(text))).fill(Tags, {}, "Fill it.")


ROADS: list[Callable[[str], Awaitable[None]]] = [
    by_chat,
    by_json,
    by_xml,
    by_a_signature,
    by_two_steps,
    by_a_stream,
    by_make,
    by_decide,
    by_choose_type,
    by_fill,
]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("road", ROADS[:3], ids=lambda road: road.__name__)
async def test_a10_no_shape_and_size_of_answer_holds_the_loop(road: Callable[[str], Awaitable[None]], monkeypatch: Any):
    monkeypatch.setattr("runtime.lm.dspy.careful.IN_A_THREAD", 30_000)  # the thread's own bound has a test of its own
    await warm()
    with contextlib.suppress(LMReplyUnreadable):
        await road("warm")
    for shape in SHAPES.values():
        for size in SIZES:
            with holding_the_loop_briefly(), contextlib.suppress(LMReplyUnreadable):
                await road(shape(size))


@pytest.mark.parametrize(
    "road",
    [
        road if road in (by_chat, by_json, by_a_stream) else pytest.param(road, marks=pytest.mark.chaos)
        for road in ROADS
        if road is not by_xml
    ],
    ids=lambda road: road.__name__,
)
async def test_a10_on_every_road_a_bad_answer_is_a_reply_that_cannot_be_read(
    road: Callable[[str], Awaitable[None]], monkeypatch: Any
):
    monkeypatch.setattr("runtime.lm.dspy.careful.IN_A_THREAD", 30_000)
    await warm()
    with contextlib.suppress(LMReplyUnreadable):
        await road("warm")
    for shape in ("badly quoted list", "braces", "deep and closed"):
        with holding_the_loop_briefly(), pytest.raises(LMReplyUnreadable):
            await road(SHAPES[shape](16_000))


@pytest.mark.parametrize("shape", ["deep and closed", "deep objects", "braces"])
async def test_a10_the_second_answer_is_asked_for(shape: str):
    lm = Saying(in_sections(SHAPES[shape](4_000)), in_sections('["a"]'))

    made = await fill(lm, instruction="", inputs={"source": Source("x")}, output=Tags, parse_attempts=2)

    assert (made, lm.calls) == (Tags(["a"]), 2)


@pytest.mark.parametrize("shape", ["badly quoted list", "braces", "deep and closed"])
async def test_a10_the_arguments_of_a_tool_are_read_within_the_same_bounds(shape: str, monkeypatch: Any):
    monkeypatch.setattr("runtime.lm.dspy.careful.IN_A_THREAD", 30_000)

    def weather(city: str) -> str:
        return city

    class Native(Saying):
        supports_function_calling = True

    call = ToolCall("1", "weather", '{"city": ' + SHAPES[shape](16_000))
    lm = Native(Completion("", "m", "tool_calls", tool_calls=(call,)))

    class Asking(dspy.Signature):  # type: ignore[misc]
        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        with holding_the_loop_briefly(), pytest.raises(LMReplyUnreadable):
            await run_signature(lm, Asking, {"question": "?", "tools": [dspy.Tool(weather)]}, parse_attempts=2)
    assert lm.calls == 2


async def test_a10_two_steps_give_what_the_second_one_says():
    second = Saying(in_sections('["a", "b"]'))
    with dspy.context(adapter=dspy.TwoStepAdapter(trio_lm(second))):
        made = await fill(Saying("a and b"), instruction="", inputs={"source": Source("x")}, output=Tags)

    assert (made, second.calls) == (Tags(["a", "b"]), 1)


@pytest.mark.chaos
async def test_a10_a_second_step_that_cannot_be_read_is_asked_for_again():
    first, second = Saying("a and b"), Saying(in_sections(SHAPES["braces"](16_000)), in_sections('["a"]'))
    with dspy.context(adapter=dspy.TwoStepAdapter(trio_lm(second))):
        made = await fill(first, instruction="", inputs={"source": Source("x")}, output=Tags, parse_attempts=2)

    assert (made, first.calls, second.calls) == (Tags(["a"]), 2, 2)


@pytest.mark.parametrize("shape", ["badly quoted list", "braces", "deep and closed"])
async def test_a10_two_steps_in_a_thread_read_within_bounds_too(shape: str, monkeypatch: Any):
    monkeypatch.setattr("runtime.lm.dspy.careful.IN_A_THREAD", 30_000)
    second = Saying(in_sections(SHAPES[shape](16_000)))

    def ask() -> Any:
        return dspy.Predict("question -> tags: list[str]")(question="?")

    with dspy.context(adapter=dspy.TwoStepAdapter(trio_lm(second))), pytest.raises(AdapterParseError):
        await run_dspy(Saying("a and b"), ask)
    assert second.calls == 1


async def test_a10_a_long_answer_that_is_well_formed_is_read_in_a_thread():
    tags = [f"tag {at}" for at in range(20_000)]
    await warm()

    with holding_the_loop_briefly():
        made = await fill(Saying(in_sections(json.dumps(tags))), instruction="", inputs={"source": Source("x")}, output=Tags)

    assert made == Tags(tags)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    ['{"id": "' + "x" * 3_000_000 + '"}', "[" * 1_000_000, '{"choices":' + '{"a":' * 200_000],
    ids=["long", "deep", "deep and long"],
)
async def test_a10_a_long_reply_is_read_in_a_thread_and_a_deep_one_ends_as_any_other(body: str):
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/json"}, content=body.encode())

    async with faking(handle, {"retry": Retry(max_attempts=1)}) as (lm,):
        with contextlib.suppress(LMReplyUnreadable):
            await lm.chat(HELLO)  # what the first call makes is not what is measured
        with holding_the_loop_briefly(), pytest.raises(LMReplyUnreadable):
            await lm.chat(HELLO)


async def test_a10_few_answers_are_read_in_threads_at_once(monkeypatch: Any):
    monkeypatch.setattr("runtime.lm.dspy.careful.IN_A_THREAD", 30_000)
    await warm()
    failures: list[Exception] = []

    async def one() -> None:
        try:
            await by_chat(SHAPES["braces"](4_000))
        except LMReplyUnreadable as error:
            failures.append(error)

    with holding_the_loop_briefly():
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one)

    assert len(failures) == 6


async def test_a10_a_long_answer_that_can_be_repaired_is():
    tags = [f"tag {at}" for at in range(2_000)]
    text = json.dumps(tags)[:-1] + ",]"  # a comma too many
    made = await fill(Saying(in_sections(text)), instruction="", inputs={"source": Source("x")}, output=Tags)

    assert made == Tags(tags)


async def test_a10_what_the_model_is_shown_again_is_of_bounded_length():
    asked: list[int] = []

    class Listening(Saying):
        async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
            asked.append(sum(len(str(message["content"])) for message in messages))
            return await super().chat(messages, **options)

    lm = Listening(in_sections(SHAPES["prose"](400_000)), in_sections("[]"))
    await fill(lm, instruction="", inputs={"source": Source("x")}, output=Tags)

    assert asked[1] - asked[0] < 12_000


def test_a10_a_thread_gives_up_too():
    with limited(IN_A_THREAD, is_last=True), pytest.raises(TooHard) as caught:
        read(SHAPES["badly quoted list"](400_000))

    assert not caught.value.is_for_now


def test_a10_all_fields_of_one_answer_share_their_bounds():
    with limited(ON_THE_LOOP, is_last=False) as effort:
        read("[1, 2,]")
        spent = ON_THE_LOOP - effort.left
        read("[1, 2,]")

    assert spent > 0
    assert ON_THE_LOOP - effort.left == 2 * spent


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("```json\n[1, 2,]\n```", list[int], [1, 2]),
        ("{'a': 1}", dict[str, int], {"a": 1}),
        ("True", bool, True),
        ("'quoted'", str, "'quoted'"),
        ("12", int, 12),
    ],
)
def test_a10_what_dspy_repairs_is_repaired_as_before(text: str, annotation: Any, value: Any):
    assert value_of(text, annotation) == value


async def test_a10_the_names_of_a_choice_are_still_found():
    chosen = await choose(
        Saying('[[ ## choice ## ]]\n"Tags"'), instruction="", inputs={"source": Source("x")}, among=[Tags, Other]
    )

    assert chosen is Tags
