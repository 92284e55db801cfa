"""What the suites of other graph frameworks check of retries, limits of time and handlers of errors, by their row."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import LM, Backoff, DeclarationError, Graph, LMUnavailable, NodeFailed, NodeTimedOut, Redelivery, Run, RunFailed
from runtime import ActorCrashed, LoopBlocked, open_runtime
from runtime.core.watchdog import Watchdog
from runtime.graphs.records.run_events import NodeFellBack, NodeFinished, NodeGaveUp, NodeRetrying, NodeStarted
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of, leaves

ONCE = Redelivery(max_attempts=1)
SOON = Backoff(first_s=3.0, jitter=0)


class Down(ConnectionError):
    """A kind of connection error."""


def failing_once(error: Exception) -> Any:
    """A node that fails its first attempt with `error`."""

    async def work(ask: Ask, run: Run) -> Done:
        if run.attempt == 1:
            raise error
        return Done(run.attempt)

    return work


CHOICES: list[tuple[Any, Exception, bool]] = [
    (ConnectionError, ConnectionError("c"), True),
    (ConnectionError, Down("d"), True),
    (ConnectionError, OSError("o"), False),
    ((KeyError, Down), Down("d"), True),
    ((KeyError, Down), ConnectionError("c"), False),
    ((), Down("d"), False),
    (ValueError, ValueError("a bug, but ours to choose"), True),
    (lambda error: "again" in str(error), RuntimeError("again"), True),
    (lambda error: "again" in str(error), RuntimeError("never"), False),
    (None, ConnectionError("c"), True),
    (None, RuntimeError("r"), True),
    (None, LMUnavailable("503"), True),
    (None, LMUnavailable("503, and the client has tried again", spent=True), False),
    (None, ValueError("v"), False),
    (None, TypeError("t"), False),
    (None, AttributeError("a"), False),
]


@pytest.mark.parametrize(("retry_on", "error", "again"), CHOICES)
async def test_l37_what_is_tried_again_is_a_type_several_or_a_predicate(retry_on, error, again, virtual_clock):
    policy = Redelivery(max_attempts=2, backoff=SOON, retry_on=retry_on)
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(failing_once(error), redelivery=policy), Ask())
        if again:
            assert await handle.result() == Done(2)
        else:
            with pytest.raises(RunFailed) as caught:
                await handle.result()
            assert leaves(caught.value)[0].__cause__ is error
        assert trio.current_time() == (3 if again else 0)


@pytest.mark.parametrize("wrong", ["ConnectionError", 5, (ConnectionError, 5), [ConnectionError], int])
def test_l37_a_choice_of_another_kind_is_refused(wrong):
    with pytest.raises(DeclarationError, match="expected an exception type, a tuple of them, or a predicate of one error"):
        Redelivery(retry_on=wrong)


async def test_l38_one_predicate_holds_several_policies_and_the_first_that_fits_wins(virtual_clock):
    """There is one policy per node; what others write as a list of policies is a function here."""

    def policies(error: BaseException) -> bool:
        if isinstance(error, Down):
            return False
        return isinstance(error, ConnectionError)

    policy = Redelivery(max_attempts=2, backoff=SOON, retry_on=policies)
    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(failing_once(ConnectionError()), redelivery=policy), Ask()) == Done(2)
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(failing_once(Down()), redelivery=policy), Ask())


async def retried_after(seed: int, jitter: float) -> float:
    """Seconds from a failure to the next attempt."""
    policy = Redelivery(max_attempts=2, backoff=Backoff(first_s=4.0, jitter=jitter))
    begin_s = trio.current_time()
    async with open_runtime(seed=seed) as runtime:
        assert await runtime.run(graph_of(failing_once(Down()), redelivery=policy), Ask()) == Done(2)
    return trio.current_time() - begin_s


async def test_l39_jitter_lengthens_a_delay_within_its_bounds_and_by_the_seed(virtual_clock):
    delays = [await retried_after(seed, 0.25) for seed in range(30)]

    assert all(4 <= delay <= 5 for delay in delays)
    assert max(delays) - min(delays) > 0.5
    assert [await retried_after(7, 0), await retried_after(8, 0)] == [4, 4]
    assert await retried_after(3, 0.25) == pytest.approx(delays[3])


async def test_l40_out_of_attempts_the_cause_is_the_original_error(virtual_clock):
    raised: list[Exception] = []

    async def work(ask: Ask) -> Done:
        raised.append(Down(f"number {len(raised) + 1}"))
        raise raised[-1]

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, redelivery=TWICE), Ask())

    (leaf,) = leaves(caught.value)
    text, _, place = str(leaf).partition("\n  at ")
    assert (text, leaf.__cause__) == ("node 'work' gave up after attempt 2: Down: number 2", raised[1])
    assert place.endswith(" in work")
    assert len(raised) == 2


async def test_l42_the_limit_of_an_attempt_is_not_extended_by_heartbeats(virtual_clock):
    async def lively(ask: Ask, run: Run) -> Done:
        while True:
            await trio.sleep(1)
            run.heartbeat()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(lively, timeout_s=5, redelivery=ONCE), Ask())
        assert trio.current_time() == 5

    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def beats(ask: Ask, run: Run) -> AsyncIterator[Part]:
    for _ in range(3):
        await trio.sleep(4)
        run.heartbeat()
    yield Part()


async def yields(ask: Ask) -> AsyncIterator[Part]:
    for n in range(3):
        await trio.sleep(4)
        yield Part(n)


async def chats(ask: Ask, lm: LM) -> AsyncIterator[Part]:
    for _ in range(3):
        await lm.chat([{"role": "user", "content": "?"}])
    yield Part()


async def streams(ask: Ask, lm: LM) -> AsyncIterator[Part]:
    async with lm.stream([{"role": "user", "content": "?"}]) as pieces:
        yield Part(len([piece async for piece in pieces]))


async def only_sleeps(ask: Ask) -> AsyncIterator[Part]:
    for _ in range(3):
        await trio.sleep(4)
    yield Part()


async def ends(parts: list[Part]) -> Done:
    return Done()


@pytest.mark.parametrize("node", [beats, yields, chats, streams])
async def test_l43_a_heartbeat_an_item_an_answer_and_a_piece_of_one_begin_the_idle_time_anew(node, virtual_clock):
    lm = ScriptedLM(lambda messages: "one two three", latency_s=4, interval_s=4)
    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(graph_of(node, ends, idle_timeout_s=5, redelivery=ONCE), Ask()) == Done()
        assert trio.current_time() == 12


async def test_l43_waiting_alone_is_no_sign_of_life_and_a_heartbeat_after_the_attempt_has_no_effect(virtual_clock):
    kept: list[Run] = []

    async def keeps(ask: Ask, run: Run) -> Done:
        kept.append(run)
        return Done()

    async with open_runtime() as runtime:
        await runtime.run(graph_of(keeps, idle_timeout_s=5), Ask())
        silent = await runtime.start(graph_of(only_sleeps, ends, idle_timeout_s=5, redelivery=ONCE), Ask())
        await trio.sleep(3)
        kept[0].heartbeat()
        with pytest.raises(RunFailed, match="failed at 'only_sleeps'"):
            await silent.result()
        assert trio.current_time() == 5


@pytest.mark.not_explored("its thread waits for the test; the clock of an explored one waits for the thread")
async def test_l48_a_plain_function_is_waited_for_and_its_timeout_raised_when_it_has_ended(autojump_clock):
    """A thread cannot be ended, so its limit is not refused: it decides what becomes of the result."""
    go, ended = threading.Event(), threading.Event()

    def work(ask: Ask) -> Done:
        assert go.wait(10)
        ended.set()
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(work, timeout_s=1, redelivery=ONCE), Ask())
        await trio.sleep(2)
        assert handle.status == "running"
        go.set()
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        assert ended.is_set()

    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_l51_a_node_that_holds_the_loop_is_reported_by_name(virtual_clock):
    """No timeout can end code that never waits; the watchdog says which node it was, and for how long."""
    now_s = 0.0
    blocked: list[LoopBlocked] = []

    async def blocks(ask: Ask) -> Done:
        nonlocal now_s
        now_s += 2  # stands for time.sleep(2)
        return Done()

    def listen(event: Any) -> None:
        if isinstance(event, LoopBlocked):
            blocked.append(event)

    async with open_runtime(instruments=[listen]) as runtime:
        with Watchdog(runtime._services, 0.25, now=lambda: now_s):  # pyright: ignore[reportPrivateUsage]
            await runtime.run(graph_of(blocks, timeout_s=1), Ask())

    assert [(event.address, event.held_s) for event in blocked] == [("g/blocks", 2)]


async def fails(ask: Ask) -> Done:
    raise Down("down")


async def test_l52_a_handler_is_called_after_the_last_attempt_only_with_the_error_and_the_node(virtual_clock):
    called: list[tuple[str, str, int]] = []

    async def instead(ask: Ask, error: Exception, run: Run) -> Done:
        called.append((str(error), run.node, run.attempt))
        return Done("handled")

    async with open_runtime() as runtime:
        async with runtime.stream(graph_of(fails, redelivery=TWICE, fallback=instead), Ask()) as events:
            seen = [type(event) async for event in events]

    assert called == [("down", "fails", 2)]
    node_events = (NodeStarted, NodeRetrying, NodeFellBack, NodeFinished)
    assert [kind for kind in seen if kind in node_events] == [
        NodeStarted,
        NodeRetrying,
        NodeStarted,
        NodeFellBack,
        NodeStarted,
        NodeFinished,
    ]


async def test_l52_a_handler_goes_another_way_by_what_it_returns(virtual_clock):
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)

    def instead(ask: Ask) -> Other:
        return Other(ask.n)

    @graph.node(redelivery=ONCE, fallback=instead)
    async def first(ask: Ask) -> Part | Other:
        raise Down("down")

    @graph.node
    async def usual(part: Part) -> Done:
        return Done("usual")

    @graph.node
    async def detour(other: Other) -> Done:
        return Done(("detour", other.n))

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(4)) == Done(("detour", 4))


async def test_l52_the_failure_of_a_handler_fails_the_run_once_and_is_no_crash(virtual_clock):
    called: list[float] = []
    crashed: list[str] = []

    async def worse(ask: Ask, error: Exception) -> Done:
        called.append(trio.current_time())
        raise Down("worse")

    def listen(event: Any) -> None:
        if isinstance(event, ActorCrashed):
            crashed.append(str(event.error))

    async with open_runtime(instruments=[listen]) as runtime:
        async with runtime.stream(graph_of(fails, redelivery=TWICE, fallback=worse), Ask()) as events:
            gave_up = [event async for event in events if isinstance(event, NodeGaveUp)]

    assert [(event.node, str(event.error)) for event in gave_up] == [("fails", "worse")]
    assert (called, crashed) == ([3], ["down", "down"])


async def test_l52_several_nodes_have_handlers_of_their_own_and_one_without_fails_the_run(virtual_clock):
    async def for_first(ask: Ask) -> Part:
        return Part(1)

    async def for_second(part: Part) -> Other:
        return Other(10 * part.n)

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)

    @graph.node(redelivery=ONCE, fallback=for_first)
    async def first(ask: Ask) -> Part:
        raise Down("first")

    @graph.node(redelivery=ONCE, fallback=for_second)
    async def second(part: Part) -> Other:
        raise Down("second")

    @graph.node(redelivery=ONCE)
    async def third(other: Other) -> Done:
        raise Down(f"third, {other.n}")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

    assert [str(leaf).splitlines()[0] for leaf in leaves(caught.value)] == [
        "node 'third' gave up after attempt 1: Down: third, 10"
    ]


async def test_l52_a_handler_of_a_graph_within_handles_what_failed_in_it(virtual_clock):
    inner = Graph("inner", input=Ask, output=Part, supervision=EXACT)

    @inner.node(redelivery=ONCE)
    async def work(ask: Ask) -> Part:
        raise Down("deep down")

    told: list[BaseException] = []

    async def instead(message: Ask, error: Exception) -> Part:
        told.append(error)
        return Part(message.n + 1)

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.add(inner, fallback=instead)

    @graph.node
    async def end(part: Part) -> Done:
        return Done(part.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(1)) == Done(2)

    (error,) = told
    assert isinstance(error, NodeFailed | RunFailed)
    assert "work" in str(error)


def test_l52_a_handler_is_no_node_so_its_name_may_be_that_of_one():
    async def end(ask: Ask) -> Part:
        return Part()

    graph = Graph("g", input=Ask, output=Done)
    graph.node(name="first", fallback=end)(begin_part)
    graph.node(name="end")(end_part)

    assert graph.check() == []
    assert list(graph.nodes) == ["first", "end"]


async def begin_part(ask: Ask) -> Part:
    return Part()


async def end_part(part: Part) -> Done:
    return Done()
