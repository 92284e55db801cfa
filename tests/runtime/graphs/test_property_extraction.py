"""The example of the front page: three language-model calls in flight together, with and without a server."""

import importlib.util
from pathlib import Path
from typing import Any

import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from runtime import open_runtime
from runtime.core.events import ActorCrashed, ActorRestarting
from runtime.lm import LMClient, Retry
from runtime.lm.providers.translation import warm_up
from runtime.testing import Answer, Failure, ModelScript, ScriptedLM, open_loopback
from tests.runtime.graphs.stage import living

EXAMPLE = Path(__file__).parents[3] / "docs/examples/property_extraction.py"
found = importlib.util.spec_from_file_location("property_extraction", EXAMPLE)
assert found is not None
assert found.loader is not None
trio.run(warm_up)  # for the same reason
example = importlib.util.module_from_spec(found)
found.loader.exec_module(example)

TIME, OTHER, VECTOR = 0.726, 1.125, 1.153  # seconds, as the log of the study has them
INTENT = example.Intent("ideas since last week about trio", "Idea", "2025-12-12")
CYPHER = example.Cypher(
    example.BY_MEANING, example.QueryParameters("Idea", "trio", since={"created_at": "2025-12-05"}, equal={"status": "new"})
)
ANSWERS: dict[str, dict[str, Any]] = {
    "time properties": {"filters": {"created_at": "2025-12-05"}},
    "other properties": {"filters": {"status": "new"}},
    "search by meaning": {"reasoning": "About trio.", "query": "trio"},
}
LATENCY_S = {"time properties": TIME, "other properties": OTHER, "search by meaning": VECTOR}


def scripted() -> ScriptedLM:
    return ScriptedLM({key: Answer(answer, latency_s=LATENCY_S[key]) for key, answer in ANSWERS.items()})


def provider_models(**scripts: ModelScript) -> dict[str, ModelScript]:
    """One model per extractor, since each has its own latency."""
    models = {
        "extract": ModelScript(lambda request: next(a for key, a in ANSWERS.items() if key in request.text), latency_s=TIME),
        "large": ModelScript(ANSWERS["search by meaning"], latency_s=VECTOR),
    }
    return {**models, **scripts}


async def test_the_run_takes_exactly_as_long_as_its_longest_call(virtual_clock):
    lm = scripted()
    async with open_runtime(lm=lm, lms={"large": lm}) as runtime:
        started = trio.current_time()
        cypher = await runtime.run(example.graph, INTENT)

        assert cypher == CYPHER
        assert trio.current_time() - started == VECTOR
        assert lm.max_in_flight == 3


async def test_what_a_model_answers_never_becomes_a_part_of_the_querys_text(virtual_clock):
    hostile = "') RETURN 1 UNION MATCH (n) DETACH DELETE n //"
    answers: dict[Any, Any] = dict(ANSWERS)
    answers["time properties"] = {"filters": {hostile: hostile}}
    answers["search by meaning"] = {"reasoning": "", "query": hostile}
    lm = ScriptedLM(answers)
    async with open_runtime(lm=lm, lms={"large": lm}) as runtime:
        cypher = await runtime.run(example.graph, example.Intent(hostile, hostile, "2025-12-12"))

    assert cypher.text == example.BY_MEANING
    assert cypher.parameters == example.QueryParameters(hostile, hostile, since={hostile: hostile}, equal={"status": "new"})


async def test_a_second_run_takes_as_long_and_gives_the_same(virtual_clock):
    lm = scripted()
    async with open_runtime(lm=lm, lms={"large": lm}) as runtime:
        first = await runtime.run(example.graph, INTENT)
        began = trio.current_time()
        second = await runtime.run(example.graph, INTENT)

        assert (first, second) == (CYPHER, CYPHER)
        assert trio.current_time() == began + VECTOR


async def test_the_merge_starts_once_when_the_last_of_the_three_has_arrived(virtual_clock):
    lm = scripted()
    async with open_runtime(lm=lm, lms={"large": lm}) as runtime:
        handle = await runtime.start(example.graph, INTENT)
        await handle.result()

    (merge,) = [step for step in handle.trace if step.node == "merge"]
    assert [step.started_at_s for step in handle.trace] == [0.0, 0.0, 0.0, VECTOR]
    assert [step.ended_at_s for step in handle.trace] == [TIME, OTHER, VECTOR, VECTOR]
    assert merge.path == "property-extraction/merge/0"
    assert handle.spend.calls == 3


@pytest.fixture
async def served():
    async with open_loopback(provider_models()) as server:
        small = LMClient("openai/extract", api_key="key", api_base=server.api_base)
        large = LMClient("openai/large", api_key="key", api_base=server.api_base)
        async with open_runtime(lm=small, lms={"large": large}) as runtime:
            yield server, runtime


async def test_over_real_sockets_three_requests_are_in_flight_and_virtual_time_is_exact(served, virtual_clock):
    server, runtime = served

    started = trio.current_time()
    cypher = await runtime.run(example.graph, INTENT)

    assert cypher == CYPHER
    assert trio.current_time() - started == VECTOR
    assert server.max_in_flight == 3
    assert [request.arrived_s - started for request in server.requests] == [0.0, 0.0, 0.0]


async def test_cancelling_the_run_cancels_all_three_requests_at_the_server_and_the_next_run_works(served, virtual_clock):
    server, runtime = served
    await runtime.run(example.graph, INTENT)
    server.clear()
    alive = living()

    with trio.move_on_after(0.5) as limit:
        await runtime.run(example.graph, INTENT)
    await server.wait_idle()

    assert limit.cancelled_caught
    assert [request.cancelled_by_client for request in server.requests] == [True, True, True]
    assert living() <= alive  # fewer by those that served the connections
    assert await runtime.run(example.graph, INTENT) == CYPHER


async def test_a_failed_first_request_restarts_one_extractor_while_the_others_finish(virtual_clock):
    """One HTTP attempt: what the client does not try again, the supervisor does."""
    happened: list[Any] = []
    once = Retry(max_attempts=1)
    models = provider_models(large=ModelScript(ANSWERS["search by meaning"], latency_s=VECTOR, failures=[Failure.status(500)]))
    async with open_loopback(models) as server:
        small = LMClient("openai/extract", api_key="key", api_base=server.api_base, retry=once)
        large = LMClient("openai/large", api_key="key", api_base=server.api_base, retry=once)
        async with open_runtime(lm=small, lms={"large": large}, seed=1, instruments=[happened.append]) as runtime:
            handle = await runtime.start(example.graph, INTENT)
            cypher = await handle.result()

    (crash,) = [event for event in happened if isinstance(event, ActorCrashed)]
    (restart,) = [event for event in happened if isinstance(event, ActorRestarting)]
    again = next(step for step in handle.trace if step.node == "vector_query")
    others = [(step.ended_at_s or 0.0) - handle.trace[0].delivered_at_s for step in handle.trace[:2]]
    assert cypher == CYPHER
    assert (crash.address, type(crash.error).__name__) == ("property-extraction/vector_query", "LMUnavailable")
    assert restart.delay_s == 0.0
    assert (again.attempt, again.status) == (2, "done")
    assert others == [TIME, TIME]
