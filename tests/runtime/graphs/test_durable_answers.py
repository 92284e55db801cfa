"""What a durable run has bought of language models is bought once: the next life of the run is answered from its journal."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import attrs
import dspy
import pytest
import trio

from actors import LM, Backoff, Dep, Graph, LMUnavailable, Redelivery, Run, Usage
from actors.lm import Completion, Embeddings, TextDelta
from actors.store_errors import RunCrashes
from runtime import LMAsked, LMCalled, LMCallStarted, LMDelta, Spend, open_runtime
from runtime.graphs.records.recorded_answers import decode_answer, encode_answer, spend_of
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.journal.store import Store
from runtime.lm.limits.budget import Budget
from runtime.testing import ScriptedLM, cancel_at_every_checkpoint
from runtime.testing.stores.crashes import crash_everywhere
from runtime.testing.stores.troubled import SlowStore
from tests.runtime.graphs.lives import Lives
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of


@attrs.frozen
class Style:
    name: str = ""


USED = Usage(prompt_tokens=10, completion_tokens=5, cost_usd=0.25)


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answers_of(*texts: str, **options: Any) -> ScriptedLM:
    return ScriptedLM(list(texts), usage=USED, **options)


async def test_an_answer_that_is_recorded_is_not_asked_for_again(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        one = await lm.chat(asking("one"))
        if not run.is_resumed:
            await lives.die()
        two = await lm.chat(asking("two"), temperature=0.5)
        return Done([one.text, two.text, one.usage.prompt_tokens])

    lm = answers_of("1", "2")
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done(["1", "2", 10])

    assert [call.text for call in lm.calls] == ["one", "two"]
    assert lives.spend == Spend(2, 2, 20, 10, 0.5)
    assert await lives.kinds() == ["started", "called", "answer", "resumed", "called", "answer", "finished", "over"]
    first, second = (event for event in lives.events if isinstance(event, LMCalled))
    assert (first.requests, first.prompt_tokens, first.cost_usd, first.from_cache) == (0, 0, 0.0, True)
    assert (second.requests, second.prompt_tokens, second.cost_usd, second.from_cache) == (1, 10, 0.25, False)
    assert len([event for event in lives.events if isinstance(event, LMCallStarted)]) == 2


async def test_an_answer_is_durable_before_its_node_sees_it(autojump_clock):
    seen: list[list[str]] = []

    async def work(ask: Ask, lm: LM) -> Done:
        await lm.chat(asking("one"))
        seen.append(await lives.kinds())
        return Done(1)

    lives = Lives(graph_of(work), answers_of("1"))
    await lives.last()

    assert seen == [["started", "called", "answer"]]


async def test_a_call_in_flight_when_the_process_ends_is_made_again_and_counted(autojump_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(die_soon)
            answer = await lm.chat(asking("one"))
            nursery.cancel_scope.cancel()
        return Done(answer.text)

    async def die_soon() -> None:
        await trio.sleep(1)
        if len(lm.calls) == 1:
            await lives.die()

    lm = ScriptedLM(lambda _: "1", usage=USED, latency_s=2)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done("1")

    assert len(lm.calls) == 2
    assert lives.spend == Spend(1, 1, 10, 5, 0.25, uncertain_calls=1)
    assert spend_of(await lives.records()) == lives.spend


async def test_a_model_is_asked_when_it_is_written_that_it_is_going_to_be(autojump_clock):
    """Else a process that ends in between has paid for a call of which nothing tells."""
    stored: list[int] = []
    memory = MemoryStore()

    def answer(_: object) -> str:
        stored.append(int(memory.statistics()["records"]))
        return "1"

    async def work(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat(asking("one"))).text)

    async with open_runtime(store=SlowStore(memory, 5), lm=ScriptedLM(answer)) as runtime:
        handle = await runtime.start(graph_of(work), Ask(1), run_id="it")
        assert await handle.result() == Done("1")

    kinds = [record.kind.value async for record in memory.read("it")]
    assert kinds[: stored[0]] == ["started", "called"]


async def test_calls_that_end_with_their_run_are_certain(autojump_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat(asking("one"))).text)

    lm = ScriptedLM(lambda _: "1", usage=USED, latency_s=2)
    graph, store = graph_of(work), MemoryStore()
    async with open_runtime(store=store, lm=lm) as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(1)
    lives = Lives(graph, lm, store.beside())

    assert await lives.last() == Done("1")
    assert lives.spend == Spend(1, 1, 10, 5, 0.25)
    assert "unanswered" in await lives.kinds()


async def test_concurrent_calls_of_a_node_never_swap_their_answers(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        found: dict[int, str] = {}

        async def one(n: int) -> None:
            await trio.sleep((n * 7 if run.is_resumed else n * 3) % 10 / 10)
            found[n] = (await lm.chat(asking(f"question {n}"))).text
            if len(found) == 6 and not run.is_resumed:
                await lives.die()

        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(one, n)
        return Done([found[n] for n in range(10)])

    lm = ScriptedLM(lambda messages: f"to {messages[-1]['content']}", usage=USED, latency_s=0.05)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done([f"to question {n}" for n in range(10)])
    asked = [call.text for call in lm.calls]
    records = await lives.records()
    answers = [record for record in records if record.kind is RecordKind.ANSWER]
    assert len(answers) == 10
    assert len(asked) == 10 + lives.spend.uncertain_calls
    assert lives.spend.calls == 10


async def test_the_same_request_made_twice_has_two_answers(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        found = [(await lm.chat(asking("again"))).text for _ in range(2)]
        if not run.is_resumed:
            await lives.die()
        found.append((await lm.chat(asking("again"))).text)
        return Done(found)

    lives = Lives(graph_of(work), answers_of("1", "2", "3"))

    await lives.one_that_is_killed()
    assert await lives.last() == Done(["1", "2", "3"])


async def test_another_model_another_prompt_and_other_options_are_other_requests(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        if not run.is_resumed:
            await lm.chat(asking("a"), temperature=0, tools=[{"type": "function", "function": {"name": "f"}}])
            await lives.die()
        other = (await lm.chat(asking("a"), temperature=1)).text
        more = (await lm.chat(asking("b"), temperature=0)).text
        tools: Any = [{"function": {"name": "f"}, "type": "function"}]
        return Done([other, more, (await lm.chat(asking("a"), tools=tools, temperature=0)).text])

    lives = Lives(graph_of(work), answers_of("1", "2", "3"))

    await lives.one_that_is_killed()
    assert await lives.last() == Done(["2", "3", "1"])


async def test_an_attempt_after_an_error_asks_anew(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        text = (await lm.chat(asking("one"))).text
        if run.attempt == 1:
            raise OSError("the first time")
        if not run.is_resumed:
            await lives.die()
        return Done([text, run.attempt])

    lm = answers_of("1", "2")
    lives = Lives(graph_of(work, redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1))), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done(["2", 2])
    assert len(lm.calls) == 2


async def test_a_fallback_has_answers_of_its_own(autojump_clock):
    async def instead(ask: Ask, lm: LM, run: Run) -> Done:
        text = (await lm.chat(asking("one"))).text
        if not run.is_resumed:
            await lives.die()
        return Done(text)

    graph = graph_of()

    @graph.node(fallback=instead)
    async def work(ask: Ask, lm: LM) -> Done:
        await lm.chat(asking("one"))
        raise OSError("always")

    lm = answers_of("1", "2")
    lives = Lives(graph, lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done("2")
    assert len(lm.calls) == 2


async def test_a_failed_call_is_asked_again_and_what_it_cost_is_kept(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        try:
            await lm.chat(asking("one"))
        except LMUnavailable:
            if not run.is_resumed:
                await lives.die()
        return Done((await lm.chat(asking("two"))).text)

    lm = ScriptedLM([LMUnavailable("away", attempt=3), "1", "2"], usage=USED)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done("2")
    assert lives.spend == Spend(2, 5, 20, 10, 0.5)


async def test_a_stream_is_recorded_when_it_is_whole_and_comes_again_in_pieces(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        async with lm.stream(asking("one")) as stream:
            pieces = [delta.text async for delta in stream if isinstance(delta, TextDelta)]
        if not run.is_resumed:
            await lives.die()
        return Done(["".join(pieces), stream.completion.text])

    lm = answers_of("a long answer", interval_s=0.1)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert "answer" in await lives.kinds()
    assert await lives.last() == Done(["a long answer", "a long answer"])
    assert len(lm.calls) == 1
    assert lives.spend.calls == 1
    assert any(isinstance(event, LMDelta) for event in lives.events)
    [called] = [event for event in lives.events if isinstance(event, LMCalled)]
    assert called.requests == 0


async def test_a_stream_that_was_left_early_is_begun_anew(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        async with lm.stream(asking("one")) as stream:
            await anext(stream)
        if not run.is_resumed:
            await lives.die()
        return Done(1)

    lm = ScriptedLM(lambda _: "one two three", usage=USED, interval_s=0.1)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    await lives.last()
    assert len(lm.calls) == 2
    assert (await lives.kinds()).count("unanswered") == 2
    assert lives.spend.uncertain_calls == 0


async def test_a_chat_that_was_recorded_answers_a_stream_of_the_same_request(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        if not run.is_resumed:
            await lm.chat(asking("one"))
            await lives.die()
        async with lm.stream(asking("one")) as stream:
            async for _ in stream:
                pass
        return Done(stream.completion.text)

    lives = Lives(graph_of(work), answers_of("1"))

    await lives.one_that_is_killed()
    assert await lives.last() == Done("1")


class Vectors:
    """Makes embeddings, and chats about nothing."""

    model = "vectors"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        raise NotImplementedError

    async def chat(self, messages: Any, /, **options: Any) -> Any:
        raise NotImplementedError

    def stream(self, messages: Any, /, **options: Any) -> Any:
        raise NotImplementedError

    async def embed(self, texts: Any, /, **options: Any) -> Embeddings:
        await trio.lowlevel.checkpoint()
        self.asked.append(list(texts))
        return Embeddings(tuple((0.1, float(len(text))) for text in texts), self.model, Usage(3, cost_usd=0.5), 2)


async def test_embeddings_are_recorded_to_the_last_digit(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        made = await lm.embed(["a", "bb"], dimensions=2)  # type: ignore[attr-defined]
        if not run.is_resumed:
            await lives.die()
        return Done([list(vector) for vector in made.vectors])

    lm = Vectors()
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done([[0.1, 1.0], [0.1, 2.0]])
    assert lm.asked == [["a", "bb"]]
    assert lives.spend == Spend(1, 2, 3, 0, 0.5)


async def test_predict_and_predict_nodes_are_answered_from_the_journal(autojump_clock):
    graph = graph_of()

    @graph.predict
    async def guess(ask: Ask) -> Part:
        """Guess a number."""
        raise NotImplementedError

    @graph.node
    async def work(part: Part, lm: LM, run: Run) -> Done:
        made = await lm.predict("question -> answer: int", question=str(part.n))
        if not run.is_resumed:
            await lives.die()
        return Done([part.n, made.answer])

    lm = ScriptedLM([{"n": 7}, {"answer": 12}], usage=USED)
    lives = Lives(graph, lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done([7, 12])
    assert len(lm.calls) == 2
    assert lives.spend.calls == 2


async def test_a_module_of_dspys_in_worker_threads_is_answered_from_the_journal(autojump_clock):
    class Both(dspy.Module):  # type: ignore[misc]  # mypy does not follow dspy
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer: int")

        def forward(self, question: str) -> Any:
            first = self.ask(question=question)
            return dspy.Prediction(answer=first.answer + self.ask(question=f"{question} and more").answer)

    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        made = await lm.predict(Both, question="how many")
        if not run.is_resumed:
            await lives.die()
        return Done(made.answer)

    lm = ScriptedLM([{"answer": 3}, {"answer": 4}], usage=USED)
    lives = Lives(graph_of(work), lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done(7)
    assert len(lm.calls) == 2


async def test_nested_runs_and_dependencies_find_their_answers_again(autojump_clock):
    inner = Graph("inner", input=Part, output=Other)

    @inner.node
    async def deep(part: Part, lm: LM) -> Other:
        return Other(int((await lm.chat(asking(f"deep {part.n}"))).text))

    graph = graph_of()

    @graph.node
    async def style(ask: Ask, lm: LM) -> Style:
        return Style((await lm.chat(asking("style"))).text)

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(1), Part(2)]

    graph.add(inner)

    @graph.node
    async def gather(others: list[Other], chosen: Annotated[Style, Dep(style)], lm: LM, run: Run) -> Done:
        if not run.is_resumed:
            await lives.die()
        return Done([[other.n for other in others], chosen.name, (await lm.chat(asking("last"))).text])

    lm = ScriptedLM({"deep 1": "10", "deep 2": "20", "style": "plain", "last": "end"}, usage=USED)
    lives = Lives(graph, lm)

    await lives.one_that_is_killed()
    assert await lives.last() == Done([[10, 20], "plain", "end"])
    assert sorted(call.text for call in lm.calls) == ["deep 1", "deep 2", "last", "style"]
    assert lives.spend.calls == 4


async def test_a_replayed_answer_takes_nothing_of_a_budget(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        text = (await lm.chat(asking("one"))).text
        if not run.is_resumed:
            await lives.die()
        return Done(text)

    lives = Lives(graph_of(work), answers_of("1"))
    await lives.one_that_is_killed()

    budget = Budget(max_tokens=1)
    async with open_runtime(store=lives.store, lm=lives.lm, budget=budget) as runtime:
        handle = await runtime.start(lives.graph, Ask(1), run_id="it", budget=budget)
        assert await handle.result() == Done("1")
    assert handle.spend.calls == 1


async def test_a_prompt_is_shown_when_a_model_is_asked_and_not_again(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        await lm.chat(asking("one"))
        if not run.is_resumed:
            await lives.die()
        return Done(1)

    lives = Lives(graph_of(work), answers_of("1"))
    await lives.one_that_is_killed()
    events: list[Any] = []
    async with open_runtime(store=lives.store, lm=lives.lm, show_prompts=True, instruments=[events.append]) as runtime:
        await (await runtime.start(lives.graph, Ask(1), run_id="it")).result()
    assert not [event for event in events if isinstance(event, LMAsked)]


async def test_an_answer_that_has_no_json_is_given_and_not_kept(autojump_clock, caplog):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        made = await lm.chat(asking("one"))
        if not run.is_resumed:
            await lives.die()
        return Done(made.text)

    lm = ScriptedLM(lambda _: Completion("1", "scripted", usage=USED, citations=(object(),)))
    lives = Lives(graph_of(work), lm)
    await lives.one_that_is_killed()

    assert await lives.last() == Done("1")
    assert len(lm.calls) == 2
    assert lives.spend == Spend(2, 2, 20, 10, 0.5)  # paid twice, and both are counted
    assert "is not kept" in caplog.text


async def test_a_run_that_asks_and_dies_again_and_again_is_parked(autojump_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lm.chat, asking("one"))
            await trio.sleep(1)
            await lives.die()
        return Done(1)

    lm = ScriptedLM(lambda _: "1", latency_s=10)
    lives = Lives(graph_of(work), lm)
    for _ in range(3):
        await lives.one_that_is_killed()

    with pytest.raises(RunCrashes):
        await lives.last()
    assert len(lm.calls) == 3


async def test_a_run_that_is_not_durable_writes_nothing(autojump_clock):
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        await run.sleep(1)
        return Done([(await lm.chat(asking("one"))).text, await run.once("add", lambda a: a + 1, ask.n)])

    store = MemoryStore()
    async with open_runtime(store=store, lm=answers_of("1")) as runtime:
        handle = await runtime.start(graph_of(work), Ask(1), durable=False)
        assert await handle.result() == Done(["1", 2])
    assert store.statistics()["records"] == 0


FULL = Completion(
    "text \ud83d and ü",
    "openai/m",
    "tool_calls",
    Usage(1, 2, None, 3, 4, True),
    ({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}},),
    "reasons",
    3,
    False,
    ({"type": "thinking", "signature": "s"},),
    {"content": [{"logprob": -0.5}]},
    ("a", {"url": "b"}),
    {"data": "…"},
    "id-1",
    {"model": "m", "choices": []},
)


def test_every_field_of_a_completion_comes_back():
    data = encode_answer(FULL, Spend(1, 3, 1, 2, 0.5))
    assert data is not None
    read = decode_answer(data)

    assert read == FULL
    assert isinstance(read, Completion)
    assert (read.id, read.raw) == (FULL.id, FULL.raw)


def test_a_reply_that_is_too_large_is_left_out_of_its_answer():
    large = attrs.evolve(FULL, raw={"text": "x" * 5_000_000})
    data = encode_answer(large, Spend())
    assert data is not None
    assert len(data) < 2_000
    assert decode_answer(data) == large
    assert encode_answer(attrs.evolve(FULL, text="x" * 5_000_000), Spend()) is None


def test_embeddings_take_four_bytes_a_number_where_these_say_it_all():
    short = Embeddings(tuple(tuple(n / 8 for n in range(1_000)) for _ in range(10)), "m", Usage(3))
    data = encode_answer(short, Spend())
    assert data is not None
    assert decode_answer(data) == short
    assert len(data) < 10 * 1_000 * 5.5
    odd = Embeddings(((0.1, float("inf"), 1e300),), "m")
    data = encode_answer(odd, Spend())
    assert data is not None
    assert decode_answer(data) == odd


@pytest.mark.explore(runs=1, timer_races=0)
async def test_a_crash_at_any_record_pays_no_recorded_answer_again(autojump_clock):
    inner = Graph("inner", input=Part, output=Other)

    @inner.node
    async def deep(part: Part, lm: LM, run: Run) -> Other:
        made = await lm.chat(asking(f"deep {part.n}"))
        return Other(await run.once("measure", len, made.text) + part.n)

    graph = graph_of()

    @graph.node
    async def split(ask: Ask, lm: LM, run: Run) -> list[Part]:
        texts: dict[int, str] = {}

        async def one(n: int) -> None:
            texts[n] = (await lm.chat(asking(f"part {n}"))).text

        async with trio.open_nursery() as nursery:
            for n in range(2):
                nursery.start_soon(one, n)
        await run.sleep(10)
        return [Part(int(texts[n])) for n in range(2)]

    graph.add(inner)

    @graph.node(redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1)))
    async def gather(others: list[Other], lm: LM, run: Run) -> Done:
        async with lm.stream(asking("last")) as stream:
            async for _ in stream:
                pass
        if run.attempt == 1:
            raise OSError("the first time")
        return Done([*(other.n for other in others), stream.completion.text])

    lm = ScriptedLM(
        lambda messages: {"part 0": "5", "part 1": "7"}.get(messages[-1]["content"], "text"), usage=USED, latency_s=0.5
    )

    async def run(store: Store) -> Any:
        async with open_runtime(store=store, lm=lm) as runtime:
            handle = await runtime.start(graph, Ask(1), run_id="it")
            made = await handle.result()
        told = [record async for record in store.read("it")]
        bought = Counter(record.path for record in told if record.kind in (RecordKind.ANSWER, RecordKind.ONCE, RecordKind.SLEPT))
        assert set(bought.values()) == {1}
        assert len(bought) == 6 + 2 + 1
        spend = spend_of(told)
        assert (spend.calls, spend.requests, spend.prompt_tokens) == (6, 6, 60)
        return made

    crashes = await crash_everywhere(run)

    assert crashes.output == Done([9, 11, "text"])
    assert crashes.points == 2 * 24


@pytest.mark.explore(runs=1, timer_races=0)
async def test_a_cancellation_at_any_checkpoint_loses_no_answer_that_came(autojump_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        one = (await lm.chat(asking("one"))).text
        async with lm.stream(asking("two")) as stream:
            async for _ in stream:
                pass
        return Done([one, stream.completion.text])

    graph = graph_of(work)

    async def run_it() -> None:
        lm = ScriptedLM(lambda _: "an answer", usage=USED, latency_s=0.5, interval_s=0.1)
        store = MemoryStore()
        try:
            async with open_runtime(store=store, lm=lm) as runtime:
                await runtime.run(graph, Ask(1), run_id="it")
        finally:
            with trio.CancelScope(shield=True):
                told = [record async for record in store.beside().read("it")]
            kinds = Counter(record.kind for record in told)
            assert kinds[RecordKind.CALLED] == kinds[RecordKind.ANSWER] + kinds[RecordKind.UNANSWERED]
            assert spend_of(told).uncertain_calls == 0
            if len(lm.calls) == 2:  # the chat had its answer
                assert kinds[RecordKind.ANSWER] >= 1

    assert await cancel_at_every_checkpoint(run_it) > 10
