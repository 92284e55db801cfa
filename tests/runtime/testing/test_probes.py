from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from runtime import open_runtime
from runtime.testing import TestProbe, Unordered


@attrs.frozen
class Note:
    text: str


A, B, C, D = map(Note, "abcd")


async def told(probe: TestProbe, *notes: Note) -> None:
    for note in notes:
        await probe.ref.tell(note)


@pytest.mark.parametrize(
    "pattern",
    [
        [A, B, C],
        [{A, B, C}],
        [Unordered(C, [A, B])],
        [Note, B, lambda note: note.text > "b"],
        [Unordered(Note, A, B)],
        [[A, {B, C}]],
        [Unordered([Note, B], Note)],
        [Unordered([Note, C], A)],
        [Unordered([Note, B, C])],
        [Unordered(*[Note] * 3)],
    ],
)
async def test_a_pattern_that_fits(pattern: list[object], virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        probe = await TestProbe.spawn(runtime)
        await told(probe, A, B, C)

        assert await probe.expect(*pattern) == [A, B, C]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ([{C, A}, C], "expected Note(text='c'), got Note(text='b')"),
        ([Unordered([Note, A], C)], "expected Note(text='a') or Note(text='c'), got Note(text='b')"),
        ([Unordered([Note, B], A)], "expected Note(text='a') or Note(text='b'), got Note(text='c')"),
        ([Unordered(*[Note] * 30)], "expected any Note, got nothing"),
    ],
)
async def test_a_pattern_that_does_not(pattern: list[object], said: str, virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        probe = await TestProbe.spawn(runtime)
        await told(probe, A, B, C)

        with pytest.raises(AssertionError) as caught:
            await probe.expect(*pattern)

    assert str(caught.value).startswith(f"'probe' {said}.")


async def test_another_message_is_reported_with_what_was_expected(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        probe = await TestProbe.spawn(runtime, "ears")
        await told(probe, A, D)

        with pytest.raises(AssertionError) as caught:
            await probe.expect(A, {B, C})

    assert str(caught.value) == (
        "'ears' expected Note(text='b') or Note(text='c'), got Note(text='d').\nCame before:\n  Note(text='a')"
    )


async def test_a_missing_message_is_reported_after_its_time(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        probe = await TestProbe.spawn(runtime, "ears")

        with pytest.raises(AssertionError, match=r"^'ears' expected any Note, got nothing\.\nCame before: nothing$"):
            await probe.expect(Note)

        assert trio.current_time() == 3.0


async def test_nothing_is_certain_at_once(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        probe = await TestProbe.spawn(runtime, "ears")

        await probe.expect_nothing()
        await told(probe, A)
        with pytest.raises(AssertionError, match=r"^'ears' expected nothing and got Note\(text='a'\)\.$"):
            await probe.expect_nothing()

        assert trio.current_time() == 0.0


async def test_a_probe_answers_what_it_is_asked(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        fixed = await TestProbe.spawn(runtime, "fixed", answer=7)
        echo = await TestProbe.spawn(runtime, "echo", answer=lambda note: note.text)

        assert await fixed.ref.ask(A) == 7
        assert await echo.ref.ask(A) == "a"
        assert await echo.receive() == A
