"""An instrument or a `keep` that raises is called no more, is named once, and costs nobody anything."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest
import trio

import runtime.core.events as events_module
from actors import ActorFailed, Backoff, Graph, Supervision
from actors.errors import DeclarationError
from runtime import ActorStarted, Event, InstrumentFailed, open_runtime
from runtime.core.instruments import Instrument
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


class Unwilling(Instrument):
    """Fails when it is asked for what takes one class of events: before there is an event, in the middle of a step."""

    def __init__(self, kind: str, method: str) -> None:
        self.asked = 0
        self._kind = kind
        self._method = method

    def _answer(self, kind: type[Any], method: str) -> None:
        if kind.__name__ == self._kind and method == self._method:
            self.asked += 1
            raise LookupError("the instrument broke")

    def method_for(self, kind):
        self._answer(kind, "method_for")
        return lambda event: None

    def unmade_method_for(self, kind):
        self._answer(kind, "unmade_method_for")


@pytest.mark.parametrize(
    ("kind", "method"),
    [*((kind, "method_for") for kind in EVENTS), ("NodeStarted", "unmade_method_for"), ("NodeFinished", "unmade_method_for")],
)
async def test_f4_nor_does_one_that_raises_when_it_is_asked_what_takes_an_event(kind, method, autojump_clock):
    unwilling = Unwilling(kind, method)
    others: Any = Told()
    others.kinds = [InstrumentFailed]
    events_seen: list[str] = []

    with trio.fail_after(60):
        async with open_runtime(instruments=[unwilling, others], supervision=AGAIN) as runtime:
            await go_through_everything(runtime)
            with runtime.observe(lambda event: events_seen.append(type(event).__name__)):
                await go_through_everything(runtime)

    assert unwilling.asked == 1
    assert "NodeFinished" in events_seen
    [failure] = others.failures
    assert (failure.event, type(failure.error)) == (kind, LookupError)


async def test_f4_an_instrument_whose_attributes_cannot_be_had_is_named_all_the_same(autojump_clock):
    class Closed:
        def __call__(self, event):
            raise LookupError

        def __getattr__(self, name):
            if name in ("kinds", "opened"):
                raise AttributeError(name)
            raise ZeroDivisionError(name)

    told = Told()
    async with open_runtime(instruments=[Closed(), told]):
        pass

    [failure] = told.failures
    assert "Closed" in failure.instrument


async def test_f4_a_filter_of_the_hosts_loggers_that_raises_stops_no_actor(autojump_clock):
    def unfit(record):
        raise ZeroDivisionError("the filter broke")

    logger = logging.getLogger("understudy.events")
    logger.addFilter(unfit)
    told = Told()
    try:
        async with open_runtime(instruments=[raising_at("RunStarted", []), told], supervision=AGAIN) as runtime:
            await go_through_everything(runtime)
    finally:
        logger.removeFilter(unfit)

    assert [failure.event for failure in told.failures] == ["RunStarted"]


@pytest.mark.parametrize("kinds", [["NodeStarted"], LookupError, 3])
async def test_f4_an_instrument_that_cannot_be_called_so_is_refused_when_the_runtime_opens(kinds):
    told: Any = Told()
    told.kinds = kinds
    unfit: Any = 3
    for instrument, words in ((told, "isn't a class of events"), (unfit, "cannot be called")):
        with pytest.raises(DeclarationError, match=words):
            async with open_runtime(instruments=[instrument]):
                pass


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
