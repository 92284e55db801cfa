"""Where the time and the money of runs went: each cause alone, and that all parts add up, over random graphs with faults."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import LM, Backoff, Gather, Graph, LMError, Redelivery, TextDelta, Usage
from runtime import open_runtime
from runtime.lm import Retry
from runtime.testing import Answer as Scripted
from runtime.testing import Failure, ModelScript, ScriptedLM, field_answer
from runtime.testing.network import VirtualNetwork
from runtime.traces.blame import Blame, Cause, blame_of
from runtime.traces.steps import Trace, trace_of
from tests.runtime.traces.cast import Answer, Half, Question, traced
from tests.runtime.traces.random_runs import SAID, random_run

S = 1_000_000
ONE = Question(1)
STEADY = Backoff(first_s=0.5, factor=1.0, jitter=0.0)


def times(blame: Blame) -> dict[tuple[str, str], float]:
    """Seconds of the critical path, by node and cause."""
    return {(share.node, str(share.cause)): share.time_us / S for share in blame.shares if share.time_us}


def tokens(blame: Blame) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (share.node, str(share.cause)): (share.prompt_tokens, share.completion_tokens)
        for share in blame.shares
        if share.prompt_tokens or share.completion_tokens
    }


def adds_up(trace: Trace, blame: Blame) -> None:
    """The parts are the whole, exactly."""
    assert sum(share.time_us for share in blame.shares) == blame.duration_us == trace.duration_us
    ends = [trace.began_us, *(piece.ended_us for piece in blame.path)]
    assert [piece.began_us for piece in blame.path] == ends[:-1]
    assert ends[-1] == trace.ended_us
    if trace.spend:
        for name in ("requests", "prompt_tokens", "completion_tokens"):
            assert sum(getattr(share, name) for share in blame.shares) == trace.spend[name], name
        assert sum(share.cost_usd for share in blame.shares) == pytest.approx(trace.spend["cost_usd"], abs=1e-9)


def asking(**options: Any) -> Graph[Question, Answer]:
    graph = Graph("asking", input=Question, output=Answer)

    @graph.node(**options)
    async def ask(question: Question, lm: LM) -> Answer:
        await trio.sleep(1)
        return Answer((await lm.chat(SAID)).text)

    return graph


async def blamed(lm: Any, graph: Graph[Any, Any], message: Any = ONE) -> tuple[Trace, Blame]:
    async with open_runtime(lm=lm, seed=1) as runtime:
        trace = await traced(runtime, graph, message)
    blame = blame_of(trace)
    adds_up(trace, blame)
    return trace, blame


async def test_waiting_in_the_mailbox_is_told_apart_from_work(autojump_clock: Any) -> None:
    @attrs.frozen
    class Whole:
        answers: Sequence[Answer]

    graph = Graph("line", input=Question, output=Whole)

    @graph.node
    async def split(question: Question) -> list[Half]:
        await trio.sleep(1)
        return [Half(n) for n in range(question.n)]

    @graph.node(concurrency=1)
    async def work(half: Half) -> Answer:
        await trio.sleep(2)
        return Answer(str(half.n))

    @graph.node
    async def gather(answers: Annotated[list[Answer], Gather()]) -> Whole:
        return Whole(answers)

    _, blame = await blamed(None, graph, Question(3))

    assert times(blame) == {("split", "work"): 1, ("work", "work"): 2, ("work", "waiting"): 4}
    assert [str(piece.cause) for piece in blame.path] == ["work", "waiting", "work"]


async def test_failed_attempts_and_the_pauses_after_them_are_retry_and_backoff(autojump_clock: Any) -> None:
    graph = Graph("again", input=Question, output=Answer)
    left = [OSError(), OSError()]

    @graph.node(redelivery=Redelivery(max_attempts=3, backoff=STEADY))
    async def ask(question: Question, lm: LM) -> Answer:
        said = await lm.chat(SAID)
        if left:
            raise left.pop()
        return Answer(said.text)

    lm = ScriptedLM([Scripted("a b", latency_s=1, usage=Usage(3, 2))] * 3)
    _, blame = await blamed(lm, graph)

    assert times(blame) == {("ask", "retry"): 2, ("ask", "backoff"): 1, ("ask", "work"): 1}
    assert tokens(blame) == {("ask", "retry"): (6, 4), ("ask", "work"): (3, 2)}


async def test_a_graph_as_a_node_is_blamed_by_its_own_nodes(autojump_clock: Any) -> None:
    inner = Graph("inner", input=Half, output=Answer)
    outer = Graph("outer", input=Question, output=Answer)

    @inner.node
    async def last(half: Half) -> Answer:
        await trio.sleep(3)
        return Answer(str(half.n))

    @outer.node
    async def first(question: Question) -> Half:
        await trio.sleep(1)
        return Half(1)

    outer.add(inner)
    _, blame = await blamed(None, outer)

    assert times(blame) == {("first", "work"): 1, ("last", "work"): 3}


async def test_only_what_the_end_had_to_wait_for_is_on_the_path(autojump_clock: Any) -> None:
    @attrs.frozen
    class Left:
        n: int

    @attrs.frozen
    class Right:
        n: int

    graph = Graph("join", input=Question, output=Answer)

    @graph.node
    async def quick(question: Question) -> Left:
        await trio.sleep(1)
        return Left(1)

    @graph.node
    async def slow(question: Question) -> Right:
        await trio.sleep(5)
        return Right(1)

    @graph.node
    async def join(left: Left, right: Right) -> Answer:
        await trio.sleep(1)
        return Answer("")

    _, blame = await blamed(None, graph)

    assert times(blame) == {("slow", "work"): 5, ("join", "work"): 1}


async def test_a_stream_of_items_lets_the_next_node_begin_before_it_ends(autojump_clock: Any) -> None:
    graph = Graph("stream", input=Question, output=Answer)

    @graph.node
    async def make(question: Question) -> AsyncIterator[Half]:
        for n in range(3):
            await trio.sleep(1)
            yield Half(n)

    @graph.node
    async def take(half: Half) -> Answer | None:
        await trio.sleep(10)
        return Answer("") if half.n == 0 else None

    _, blame = await blamed(None, graph)

    assert times(blame) == {("make", "work"): 1, ("take", "work"): 10}


# --- calls, over HTTP in virtual time ------------------------------------------------------------------------------------


async def blamed_over_http(script: ModelScript, graph: Graph[Any, Any], **options: Any) -> tuple[Trace, Blame]:
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": script})
    async with network.client("openai/gpt-4o-mini", **options) as lm:
        return await blamed(lm, graph)


def answered(text: str, latency_s: float = 1.0, **more: Any) -> Scripted:
    return Scripted(text, latency_s=latency_s, usage=Usage(7, 3), **more)


async def test_requests_that_fail_and_the_pauses_between_them_are_the_calls_retry_and_backoff(virtual_clock: Any) -> None:
    failures = [Failure.status(503, after_s=2), Failure.status(503, after_s=2)]
    trace, blame = await blamed_over_http(
        ModelScript(answered("yes"), failures=failures), asking(), retry=Retry(3, backoff=STEADY)
    )

    assert times(blame) == {("ask", "work"): 2, ("ask", "retry"): 4, ("ask", "backoff"): 1}
    assert tokens(blame) == {("ask", "work"): (7, 3)}
    assert {share.cause: share.requests for share in blame.shares if share.requests} == {Cause.WORK: 1, Cause.RETRY: 2}
    assert trace.spend["requests"] == 3


async def test_an_answer_that_cannot_be_read_is_a_parse_failure_and_the_next_one_is_work(virtual_clock: Any) -> None:
    graph = Graph("reading", input=Question, output=Answer)

    @graph.predict(parse_attempts=2)
    async def fill(question: Question) -> Answer:
        """Fill it in."""
        ...

    _, blame = await blamed_over_http(ModelScript([answered("gibberish", 4), answered(field_answer(text="yes"))]), graph)

    assert times(blame) == {("fill", "parse failure"): 4, ("fill", "work"): 1}
    assert tokens(blame) == {("fill", "parse failure"): (7, 3), ("fill", "work"): (7, 3)}


async def test_the_last_answer_that_could_not_be_read_is_one_too(virtual_clock: Any) -> None:
    graph = Graph("reading", input=Question, output=Answer)

    @graph.predict(parse_attempts=1, redelivery=Redelivery(max_attempts=1))
    async def fill(question: Question) -> Answer:
        """Fill it in."""
        ...

    trace, blame = await blamed_over_http(ModelScript(answered("gibberish", 4)), graph)

    assert trace.status == "failed"
    assert times(blame) == {("fill", "parse failure"): 4}
    assert tokens(blame) == {("fill", "parse failure"): (7, 3)}


async def test_an_answer_that_stops_in_the_middle_is_a_truncation(virtual_clock: Any) -> None:
    graph = Graph("cutting", input=Question, output=Answer)

    @graph.predict(parse_attempts=2, truncated="widen")
    async def fill(question: Question) -> Answer:
        """Fill it in."""
        ...

    _, blame = await blamed_over_http(
        ModelScript([answered("[[ ## te", 4, finish_reason="length"), answered(field_answer(text="yes"))]), graph
    )

    assert times(blame) == {("fill", "truncation"): 4, ("fill", "work"): 1}
    assert tokens(blame) == {("fill", "truncation"): (7, 3), ("fill", "work"): (7, 3)}


async def test_a_request_that_lost_against_a_second_one_is_the_hedges(virtual_clock: Any) -> None:
    trace, blame = await blamed_over_http(ModelScript([answered("slow", 60), answered("quick", 1)]), asking(), hedge=3.0)

    assert times(blame) == {("ask", "work"): 2, ("ask", "hedge"): 3}
    used = tokens(blame)
    assert used[("ask", "work")] == (7, 3)
    assert used[("ask", "hedge")][0] == trace.spend["estimated_tokens"] > 0


async def test_a_call_that_waits_for_a_connection_waits_for_a_limit(virtual_clock: Any) -> None:
    graph = Graph("two", input=Question, output=Answer)

    @graph.node
    async def split(question: Question) -> list[Half]:
        return [Half(0), Half(1)]

    @graph.node
    async def ask(half: Half, lm: LM) -> Answer | None:
        await trio.sleep(half.n)
        said = await lm.chat(SAID)
        return Answer(said.text) if half.n else None

    _, blame = await blamed_over_http(ModelScript(answered("yes", 5)), graph, max_connections=1)

    assert times(blame) == {("ask", "work"): 6, ("ask", "limit"): 4}


async def test_a_stream_that_breaks_off_is_paid_for(virtual_clock: Any) -> None:
    graph = Graph("streaming", input=Question, output=Answer)

    @graph.node
    async def read(question: Question, lm: LM) -> Answer:
        with contextlib.suppress(LMError):
            async with lm.stream(SAID) as stream:
                async for _ in stream:
                    pass
        async with lm.stream(SAID) as stream:
            return Answer("".join([delta.text async for delta in stream if isinstance(delta, TextDelta)]))

    script = ModelScript(answered("one two three four"), failures=[Failure.disconnect_mid_body()])
    trace, blame = await blamed_over_http(script, graph, retry=Retry(1))

    assert trace.status == "succeeded"
    assert tokens(blame)[("read", "work")] == (7, 3)
    assert sum(tokens(blame)[("read", "retry")]) == trace.spend["estimated_tokens"] > 0


async def test_a_persons_time_is_the_persons(autojump_clock: Any) -> None:
    graph = Graph("human", input=Question, output=Answer)

    @graph.human
    async def approve(question: Question) -> Answer:
        """May it be sent?"""
        ...

    async with open_runtime() as runtime, trio.open_nursery() as nursery:

        async def answer() -> None:
            await trio.sleep(90)
            [question] = await runtime.questions()
            await runtime.answer(question.id, Answer("yes"))

        nursery.start_soon(answer)
        trace = await traced(runtime, graph, Question(1))
    blame = blame_of(trace)

    adds_up(trace, blame)
    assert times(blame) == {("approve", "person"): 90}


def test_a_run_that_has_not_begun_and_one_without_attempts_have_no_shares() -> None:
    assert list(blame_of(Trace()).shares) == []
    begun = {"v": 1, "run": "r", "event": "run.started", "seq": 0, "elapsed_s": 0.0, "graph": "g"}
    blame = blame_of(trace_of([begun, {**begun, "event": "run.finished", "seq": 1, "elapsed_s": 2.5, "status": "cancelled"}]))
    assert times(blame) == {("", "runtime"): 2.5}


# --- random graphs with faults -------------------------------------------------------------------------------------------


async def test_over_random_graphs_with_faults_the_parts_are_the_run_and_the_bill(virtual_clock: Any) -> None:
    seen: Counter[str] = Counter()
    for seed in range(50):
        run = await random_run(seed)
        trace = trace_of(run.events)
        blame = blame_of(trace)

        adds_up(trace, blame)
        paid = sum(share.prompt_tokens + share.completion_tokens for share in blame.shares)
        assert paid == run.billed_tokens + trace.spend["estimated_tokens"]
        seen.update(str(share.cause) for share in blame.shares)

    assert seen.keys() >= {"work", "backoff", "retry", "limit"}  # the rarer ones have their own tests
    assert "runtime" not in seen  # no time passes between two steps, in virtual time
