"""What becomes of a run when a node fails: restarts, deliveries, reports; and what must not notice any of it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import LM, Backoff, Graph, LMUnavailable, MailboxSpec, NoOutput, Overflow, Redelivery, Run, RunFailed
from actors.errors import DeclarationError, LMError, MailboxFull, NodeTimedOut, StepsExceeded, UsageError
from runtime import ActorCrashed, ActorRestarting, open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of, leaves


class Flaky(OSError):
    """A failure of the weather: worth another attempt."""


def failing(times: int, error: Exception | None = None):
    """A node that fails so many times, and the (time, attempt) of each."""
    seen: list[tuple[float, int]] = []

    async def work(ask: Ask, run: Run) -> Done:
        seen.append((trio.current_time(), run.attempt))
        if len(seen) <= times:
            raise error or Flaky("rain")
        return Done(run.attempt)

    return work, seen


async def test_a_failed_message_is_delivered_again_when_its_own_backoff_is_over(virtual_clock):
    work, seen = failing(1)
    graph = graph_of(work, redelivery=TWICE)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(2)

    assert seen == [(0.0, 1), (3.0, 2)]


async def test_a_message_waits_out_its_own_backoff_and_no_other_when_there_is_one_instance(virtual_clock):
    work, seen = failing(2)
    quick = Redelivery(max_attempts=3, backoff=Backoff(first_s=0.25, jitter=0))
    graph = graph_of(work, redelivery=quick, concurrency=1)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(3)

    assert seen == [(0.0, 1), (0.25, 2), (0.75, 3)]


async def test_out_of_attempts_the_run_fails_and_says_where_with_what_and_why(virtual_clock):
    work, seen = failing(9)
    graph = graph_of(work, redelivery=TWICE)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match=r"^run 'g-1' of 'g' failed at 'work'$") as caught:
            await runtime.run(graph, Ask(7))

    (leaf,) = leaves(caught.value)
    text, _, place = str(leaf).partition("\n  at ")
    assert text == "node 'work' gave up after attempt 2: Flaky: rain"
    assert place.startswith(f"{__file__}:")
    assert (leaf.run_id, leaf.node, leaf.path, leaf.attempt, leaf.input) == ("g-1", "work", "g/work/0", 2, Ask(7))
    assert isinstance(leaf.__cause__, Flaky)
    assert [(step.path, step.status, step.ended_at_s) for step in leaf.trace] == [("g/work/0", "failed", 3.0)]
    assert seen == [(0.0, 1), (3.0, 2)]


@pytest.mark.parametrize("error", [ValueError("bug"), LMError("no", spent=True), DeclarationError("no")])
async def test_what_would_fail_again_is_not_tried_again(error: Exception, virtual_clock):
    work, seen = failing(1, error)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())

    assert caught.value.exceptions[0].__cause__ is error
    assert len(seen) == 1


async def test_failures_of_one_instant_are_all_reported(virtual_clock):
    signal = trio.Event()

    async def one(ask: Ask) -> Done:
        await signal.wait()
        raise ValueError("one")

    async def two(ask: Ask) -> Done:
        await signal.wait()
        raise KeyError("two")

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(one, two), Ask())
        await trio.sleep(1)
        signal.set()
        with pytest.raises(RunFailed) as caught:
            await handle.result()

    assert str(caught.value) == "run 'g-1' of 'g' failed at 'one', 'two' (2 sub-exceptions)"
    assert [(leaf.node, type(leaf.__cause__)) for leaf in leaves(caught.value)] == [("one", ValueError), ("two", KeyError)]


async def test_a_failure_in_the_clean_up_of_a_cancelled_sibling_is_reported_too(virtual_clock):
    async def one(ask: Ask) -> Done:
        await trio.sleep(1)
        raise ValueError("one")

    async def two(ask: Ask) -> Done:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("two")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(one, two), Ask())

    assert [leaf.node for leaf in leaves(caught.value)] == ["one", "two"]


async def test_a_group_that_a_node_raises_is_the_cause_as_it_is(virtual_clock):
    async def work(ask: Ask) -> Done:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("inside")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())

    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, ExceptionGroup)
    assert [str(leaf) for leaf in cause.exceptions] == ["inside"]


async def test_a_failing_run_takes_nothing_from_another_not_even_time(virtual_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(1)
        if ask.n:
            raise Flaky("rain")
        await trio.sleep(1)
        return Done(trio.current_time())

    graph = graph_of(work, redelivery=TWICE)
    done: list[Any] = []

    async def other(runtime: Any, at_s: float) -> None:
        await trio.sleep_until(at_s)
        done.append((at_s, await runtime.run(graph, Ask(0))))

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for at_s in (0.0, 0.5, 1.0, 1.5, 4.0):
            nursery.start_soon(other, runtime, at_s)
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(1))

    assert sorted(done) == [(at_s, Done(at_s + 2)) for at_s in (0.0, 0.5, 1.0, 1.5, 4.0)]


async def test_a_call_that_its_client_has_given_up_on_does_not_crash_the_node(virtual_clock):
    lm = ScriptedLM([LMUnavailable("down", spent=True, attempt=3), "up"])

    async def work(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat([{"role": "user", "content": "?"}])).text)

    happened: list[Any] = []
    graph = graph_of(work)
    async with open_runtime(lm=lm, instruments=[happened.append]) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())
        again = await runtime.run(graph, Ask())

    assert str(caught.value.exceptions[0]).splitlines()[0] == "node 'work' gave up after attempt 1: LMUnavailable: down"
    assert again == Done("up")
    assert not [event for event in happened if isinstance(event, ActorCrashed | ActorRestarting)]


async def test_a_group_of_such_calls_does_not_either(virtual_clock):
    lm = ScriptedLM([LMUnavailable("down", spent=True)] * 2)

    async def work(ask: Ask, lm: LM) -> Done:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lm.chat, [{"role": "user", "content": "?"}])
            nursery.start_soon(lm.chat, [{"role": "user", "content": "?"}])
        return Done()

    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(work), Ask())
        statistics = runtime.statistics().actors["g/work"]

    assert (statistics.incarnation, statistics.failed) == (1, 0)


async def test_a_call_that_failed_once_without_its_client_trying_again_is_the_supervisors_to_fix(virtual_clock):
    lm = ScriptedLM([LMUnavailable("down"), "up"])

    async def work(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat([{"role": "user", "content": "?"}])).text)

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(graph_of(work, redelivery=TWICE), Ask()) == Done("up")
        assert trio.current_time() == 3.0
        assert runtime.statistics().actors["g/work"].restarts == 1


async def test_a_message_that_its_mailbox_refuses_fails_the_run_and_not_its_sender(virtual_clock):
    async def spread(ask: Ask) -> list[Part]:
        return [Part(0), Part(1), Part(2)]

    async def work(part: Part) -> Done | None:
        await trio.sleep(1)
        return None

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(spread)
    graph.node(concurrency=1, mailbox=MailboxSpec(capacity=1, overflow=Overflow.REJECT))(work)
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())
        sender = runtime.statistics().actors["g/spread"]

    (leaf,) = leaves(caught.value)
    assert (leaf.node, leaf.input, type(leaf.__cause__)) == ("work", Part(1), MailboxFull)
    assert str(leaf.__cause__).startswith("'g/work' rejected a Part message from 'run g-1': 1 of 1 messages wait")
    assert (sender.incarnation, sender.failed) == (1, 0)


async def test_a_dead_letter_of_a_run_is_the_message_itself(virtual_clock):
    work, _ = failing(1, ValueError("bug"))

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(work), Ask(5))
        (letter,) = runtime.dead_letters

    assert (letter.recipient, letter.message, letter.sender) == ("g/work", Ask(5), "run g-1")


async def test_a_wrong_return_type_is_the_nodes_failure(virtual_clock):
    async def work(ask: Ask) -> Done:
        return Part()  # type: ignore[return-value]

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())

    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, DeclarationError)
    assert re.fullmatch(
        r"node 'work' \(.*test_run_failures\.py:\d+\) returned a Part; it declares Done\.\n"
        r"  Fix: return what it declares, or add Part to its return annotation\.",
        str(cause),
    )


async def test_a_node_that_calls_asyncio_is_told_what_to_call_instead(virtual_clock):
    async def work(ask: Ask) -> Done:
        await asyncio.sleep(1)
        return Done(1)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, redelivery=Redelivery(max_attempts=1)), Ask())

    assert str(leaves(caught.value)[0]) == (
        "node 'work' gave up after attempt 1: RuntimeError: no running event loop\n"
        f"  at {__file__}:{work.__code__.co_firstlineno + 1} in work\n"
        "  Cause: the node calls asyncio, and nodes run on trio.\n"
        "  Fix: use trio's counterpart; or make the node a plain def, which runs in a thread, with asyncio.run() in it."
    )


async def test_a_wrong_input_is_refused_before_anything_begins(virtual_clock):
    work, seen = failing(0)
    graph = graph_of(work)

    async with open_runtime() as runtime:
        await runtime.deploy(graph)
        async with runtime.events(lambda event: hasattr(event, "run_id")) as events:
            with pytest.raises(DeclarationError) as caught:
                await runtime.run(graph, "hello")
            happened = events.take_nowait()

    assert str(caught.value) == "graph 'g' takes Ask as its input. Got: a str.\n  Fix: run(graph, Ask(…))."
    assert (seen, happened) == ([], None)


async def test_a_run_without_output_says_what_never_came(virtual_clock):
    async def left(ask: Ask) -> Part:
        return Part()

    async def right(ask: Ask) -> Other | None:
        return None

    async def join(part: Part, other: Other) -> Done:
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(left, right, join), Ask())
        with pytest.raises(NoOutput) as caught:
            await handle.result()

    assert str(caught.value) == (
        "graph 'g' came to rest after 2 steps, and nothing had made its output Done.\n"
        "  'join' was left waiting: it had part: Part; never came: other: Other.\n"
        "  Fix: let the missing ones be made on every way, or make them optional: parameter: Type | None."
    )
    assert (caught.value.run_id, handle.status) == ("g-1", "failed")


async def test_a_run_that_makes_too_many_steps_ends(virtual_clock):
    async def again(ask: Ask) -> Ask | Done:
        return Ask(ask.n + 1)

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(again), Ask(), max_steps=10)
        with pytest.raises(StepsExceeded) as caught:
            await handle.result()

    assert str(caught.value) == (
        "run 'g-1' of 'g' made more than 10 steps.\n"
        "  Cause: most likely a cycle that returns neither None nor the output.\n"
        "  Fix: let the cycle end, or give more with max_steps=…."
    )
    assert [step.status for step in handle.trace] == ["done"] * 10 + ["cancelled"]


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "5", True])
async def test_a_limit_of_steps_that_is_none_is_refused(wrong: Any, virtual_clock):
    work, _ = failing(0)

    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"^max_steps=.*: expected a number >= 1\.\n  Fix: leave it out for no limit\.$"):
            await runtime.run(graph_of(work), Ask(), max_steps=wrong)


async def test_a_timeout_is_reported_only_once_the_node_has_really_stopped(virtual_clock):
    stopped: list[float] = []

    async def work(ask: Ask) -> Done:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            stopped.append(trio.current_time())

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, timeout_s=5, redelivery=Redelivery()), Ask())

        assert trio.current_time() == 7.0
    assert stopped == [7.0]
    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, NodeTimedOut)
    assert re.match(r"^node 'work' did not finish within timeout_s=5\.\n  Fix: give it more time, or find", str(cause))


async def test_a_node_cannot_swallow_its_timeout(virtual_clock):
    async def work(ask: Ask) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(6)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, timeout_s=5, redelivery=Redelivery()), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_a_timed_out_attempt_is_made_again(virtual_clock):
    async def work(ask: Ask, run: Run) -> Done:
        await trio.sleep(10 if run.attempt == 1 else 4)
        return Done(trio.current_time())

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(work, timeout_s=5, redelivery=TWICE), Ask()) == Done(5 + 3 + 4)


async def test_the_nodes_own_time_limit_is_its_own(virtual_clock):
    async def work(ask: Ask) -> Done:
        with trio.fail_after(1):
            await trio.sleep(3)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, timeout_s=5, redelivery=Redelivery()), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, trio.TooSlowError)


async def test_a_generator_that_times_out_while_it_waits_for_room_loses_no_item(virtual_clock):
    async def spread(ask: Ask) -> AsyncIterator[Part]:
        for n in range(4):
            yield Part(n)

    async def work(part: Part) -> Other:
        await trio.sleep(2)
        return Other(part.n)

    async def collect(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    again = Redelivery(max_attempts=5, backoff=Backoff(first_s=1, factor=1, jitter=0))
    graph.node(timeout_s=1, repeatable=True, redelivery=again)(spread)
    graph.node(concurrency=1, mailbox=MailboxSpec(capacity=1))(work)
    graph.node(collect)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done([0, 1, 2, 3])


async def test_a_graph_run_by_a_node_of_another_is_not_tried_again_on_top_of_its_own_attempts(virtual_clock):
    inner, seen = failing(99)
    inside = graph_of(inner, redelivery=TWICE)

    async def outer(ask: Ask) -> Done:
        done: Done = await runtime.run(inside, ask)
        return done

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(outer, redelivery=TWICE), Ask())

    assert len(seen) == 2
    assert isinstance(caught.value.exceptions[0].__cause__, RunFailed)


async def test_a_retry_rule_that_raises_means_no_retry_and_is_noted_on_the_error(virtual_clock):
    def rule(error: BaseException) -> bool:
        raise KeyError("rule")

    work, seen = failing(1)
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, redelivery=Redelivery(max_attempts=3, retry_on=rule)), Ask())

    cause = caught.value.exceptions[0].__cause__
    assert (len(seen), type(cause)) == (1, Flaky)
    assert getattr(cause, "__notes__", None) == ["Not delivered again: its retry_on raised KeyError: 'rule'"]


@pytest.mark.parametrize(("overflow", "lost"), [(Overflow.DROP_OLDEST, Part(0)), (Overflow.DROP_NEWEST, Part(1))])
async def test_a_message_that_its_mailbox_drops_fails_the_run(overflow, lost, virtual_clock):
    async def spread(ask: Ask) -> list[Part]:
        return [Part(0), Part(1), Part(2)]

    async def work(part: Part) -> Done | None:
        await trio.sleep(1)
        return None

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(spread)
    graph.node(concurrency=1, mailbox=MailboxSpec(capacity=1, overflow=overflow))(work)
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

    (leaf,) = leaves(caught.value)
    assert (leaf.input, type(leaf.__cause__)) == (lost, MailboxFull)


@pytest.mark.parametrize("bare", [True, False])
async def test_a_second_attempt_gathers_a_fresh_list_whatever_the_first_did_to_its_own(bare, virtual_clock):
    seen: list[list[Part]] = []

    async def spread(ask: Ask) -> list[Part]:
        return [Part(0), Part(1)]

    async def collect(parts: list[Part]) -> Done:
        seen.append(list(parts))
        parts.clear()
        if len(seen) == 1:
            raise Flaky("rain")
        return Done(len(seen))

    async def collect_in_a_run(parts: list[Part], run: Run) -> Done:
        return await collect(parts)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(spread, collect if bare else collect_in_a_run, redelivery=TWICE), Ask()) == Done(2)

    assert seen == [[Part(0), Part(1)]] * 2


async def test_a_fallback_gathers_a_fresh_list_too(virtual_clock):
    async def spread(ask: Ask) -> list[Part]:
        return [Part(0), Part(1)]

    async def count(parts: list[Part]) -> Done:
        return Done(len(parts))

    async def collect(parts: list[Part]) -> Done:
        parts.clear()
        raise Flaky("rain")

    graph = graph_of(spread)
    graph.node(redelivery=TWICE, fallback=count)(collect)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(2)
