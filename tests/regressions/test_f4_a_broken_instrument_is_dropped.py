"""An instrument or a `keep` that raises is called no more, is named once, and costs nobody anything."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest
import trio

import runtime.core.events as events_module
from actors import ActorFailed, Backoff, Graph, Supervision
from runtime import ActorStarted, Event, InstrumentFailed, open_runtime
from tests.runtime.cast import Echo

AGAIN = Supervision(backoff=Backoff(first_s=0.1, jitter=0))
EVENTS = [
    "ActorStarted",
    "ActorCrashed",
    "ActorRestarting",
    "ActorEnded",
    "MessageDeadLettered",
    "RunStarted",
    "NodeStarted",
    "NodeFinished",
    "RunFinished",
]


@attrs.frozen
class In:
    v: int


class Told:
    """Notes what it is told."""

    def __init__(self):
        self.events: list[Event] = []

    def __call__(self, event):
        self.events.append(event)

    @property
    def failures(self):
        return [event for event in self.events if isinstance(event, InstrumentFailed)]


def raising_at(kind, calls) -> Any:
    def broken(event):
        calls.append(type(event).__name__)
        if type(event).__name__ == kind:
            raise LookupError("the instrument broke")
        return True

    return broken


async def go_through_everything(runtime):
    small = Graph("small", input=In, output=Out)

    @small.node
    async def node(given: In) -> Out:
        return Out(given.v)

    ref = await runtime.spawn(Echo, name="a")
    with pytest.raises(ActorFailed):
        await ref.ask(ValueError("boom"))
    assert await ref.ask("again") == "again"
    assert await runtime.run(small, In(1)) == Out(1)
    await runtime.stop(ref)
    assert runtime.whereis("a") is None


@attrs.frozen
class Out:
    v: int


@pytest.mark.parametrize("kind", EVENTS)
async def test_f4_an_instrument_that_raises_is_named_once_and_called_no_more(kind, autojump_clock, caplog):
    calls: list[str] = []
    before, after = Told(), Told()

    with trio.fail_after(60):
        async with open_runtime(instruments=[before, raising_at(kind, calls), after], supervision=AGAIN) as runtime:
            await go_through_everything(runtime)

    assert calls[-1] == kind
    assert calls.count(kind) == 1
    for told in (before, after):
        [failure] = told.failures
        assert (failure.event, type(failure.error)) == (kind, LookupError)
        assert failure.instrument.startswith("raising_at.<locals>.broken (")
    [record] = [record for record in caplog.records if record.name == "understudy.events"]
    assert record.levelno == logging.ERROR
    assert f"was called with {kind} and raised LookupError: the instrument broke\n" in record.getMessage()


@pytest.mark.parametrize("kind", EVENTS)
async def test_f4_a_subscription_whose_keep_raises_ends_with_the_reason(kind, autojump_clock):
    calls: list[str] = []
    told = Told()

    with trio.fail_after(60):
        async with (
            open_runtime(instruments=[told], supervision=AGAIN) as runtime,
            runtime.events(raising_at(kind, calls)) as events,
        ):
            await go_through_everything(runtime)
            seen = [event async for event in events]

    assert calls.count(kind) == 1
    assert seen[-1:] == told.failures
    assert len(told.failures) == 1


async def test_f4_an_instrument_that_fails_on_the_failure_of_another_is_dropped_too(autojump_clock):
    def one(event):
        raise LookupError

    def two(event):
        if isinstance(event, InstrumentFailed):
            raise ZeroDivisionError

    told = Told()
    async with open_runtime(instruments=[one, two, told]) as runtime:
        await runtime.spawn(Echo)

    assert [type(failure.error) for failure in told.failures] == [LookupError, ZeroDivisionError]


async def test_f4_an_instrument_without_a_name_or_a_text_is_named_all_the_same(autojump_clock):
    class Nameless:
        def __call__(self, event):
            raise LookupError

        def __repr__(self):
            raise ZeroDivisionError

    told = Told()
    async with open_runtime(instruments=[Nameless(), told]):
        pass

    [failure] = told.failures
    assert failure.instrument == "(no text: its __repr__ raised ZeroDivisionError: )"


async def test_f4_actors_go_on_whatever_the_runtime_itself_gets_wrong_at_the_end_of_one(autojump_clock, monkeypatch):
    """A parent hears of its child's exit even if telling others of it fails: else all would wait for ever, and hide the error."""

    def broken(self, event):
        if not isinstance(event, ActorStarted):
            raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(events_module.EventBus, "publish", broken)
    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - it comes out of the end of the block
        async with open_runtime(instruments=[Told()], supervision=AGAIN) as runtime:
            ref = await runtime.spawn(Echo)
            await ref.tell(ValueError("boom"))
            await trio.sleep_forever()

    assert "a bug of ours" in str(caught.value.exceptions) or caught.group_contains(ZeroDivisionError)
