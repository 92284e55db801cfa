"""What an author does not write of a declaration is the default of its place; and how often a node's effects may happen."""

from __future__ import annotations

import pickle
import time
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, Backoff, Graph, NodeTimedOut, Redelivery, Run, RunFailed, Strategy, Supervision
from runtime import ActorRestarting, open_runtime
from tests.runtime.graphs.stage import Ask, Done, graph_of

BACKOFF = Backoff(first_s=7.0, jitter=0)


async def work(ask: Ask) -> Done:
    return Done()


def redelivery_of(*, predict: bool, **options: Any) -> Redelivery:
    graph = Graph("g", input=Ask, output=Done)
    (graph.predict if predict else graph.node)(**options)(work)
    return graph.nodes["work"].options.redelivery


# --- what is not written is inherited ------------------------------------------------------------------------------------


def test_b4_a_backoff_alone_leaves_the_attempts_of_the_node():
    given = Redelivery(backoff=BACKOFF)

    assert redelivery_of(predict=True, redelivery=given) == Redelivery(max_attempts=3, backoff=BACKOFF)
    assert redelivery_of(predict=False, redelivery=given) == Redelivery(max_attempts=1, backoff=BACKOFF)


def test_b4_what_is_written_counts_even_if_it_is_the_default_of_the_class():
    assert redelivery_of(predict=True, redelivery=Redelivery(max_attempts=1)).max_attempts == 1
    assert redelivery_of(predict=True, redelivery=Redelivery(1)).max_attempts == 1
    assert redelivery_of(predict=True, redelivery=Redelivery()).max_attempts == 3


def test_b4_a_condition_alone_leaves_attempts_and_backoff():
    given = redelivery_of(predict=True, redelivery=Redelivery(retry_on=OSError))

    assert given == Redelivery(max_attempts=3, retry_on=OSError)


def test_b4_what_was_written_is_known_after_a_journey_too():
    given = pickle.loads(pickle.dumps(Redelivery(backoff=BACKOFF)))

    assert redelivery_of(predict=True, redelivery=given).max_attempts == 3


def test_b4_a_redelivery_by_itself_is_what_it_was():
    given = Redelivery(backoff=BACKOFF)

    assert (given.max_attempts, given) == (1, Redelivery(max_attempts=1, backoff=BACKOFF))
    assert hash(given) == hash(Redelivery(max_attempts=1, backoff=BACKOFF))
    assert repr(Redelivery(max_attempts=2)).startswith("Redelivery(max_attempts=2, backoff=Backoff(")
    assert attrs.evolve(given, max_attempts=2) == Redelivery(max_attempts=2, backoff=BACKOFF)


async def test_b4_an_actor_of_a_graph_is_restarted_without_a_budget_unless_one_is_written(virtual_clock):
    """The brother: a strategy or a backoff alone must not bring in the three restarts of an ordinary supervisor."""
    happened: list[Any] = []
    graph = Graph("g", input=Ask, output=Done, supervision=Supervision(strategy=Strategy.ONE_FOR_ONE))

    class Clerk(Actor):
        async def receive(self, message: Ask) -> Done:
            raise ConnectionError("down")

    graph.add(Clerk)
    async with open_runtime(seed=1, instruments=[happened.append]) as runtime:
        deployment = await runtime.deploy(graph)
        for _ in range(10):
            with pytest.raises(RunFailed):
                await runtime.run(graph, Ask())

        assert deployment.is_running
    assert max(event.delay_s for event in happened if isinstance(event, ActorRestarting)) == 1.0  # capped as by default


# --- how often a node's effects happen -----------------------------------------------------------------------------------


@pytest.mark.not_explored("a thread takes real time")
async def test_b12_the_effect_of_a_plain_function_that_is_too_slow_happens_once():
    effects = []

    def pays(ask: Ask) -> Done:
        effects.append(ask)
        time.sleep(0.05)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(pays, timeout_s=0.01), Ask())

    (leaf,) = caught.value.exceptions
    assert len(effects) == 1
    assert isinstance(leaf.__cause__, NodeTimedOut)
    assert str(leaf.__cause__).startswith(
        "node 'pays' did not finish within timeout_s=0.01; it could not be stopped and finished after that, and its result is "
        "discarded.\n  Fix: give it more time, take its late result with late='take', or find what it waits for: "
    )


@pytest.mark.not_explored("a thread takes real time")
@pytest.mark.parametrize("limit", ["timeout_s", "idle_timeout_s"])
async def test_b12_a_late_result_is_taken_where_the_author_says_so(limit):
    options: dict[str, Any] = {limit: 0.01}

    def pays(ask: Ask) -> Done:
        time.sleep(0.05)
        return Done("paid")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(pays, late="take", **options), Ask()) == Done("paid")


async def test_b12_what_was_stopped_in_time_has_no_result_to_take(virtual_clock):
    async def pays(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done("paid")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(pays, timeout_s=0.5, late="take"), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf.__cause__, NodeTimedOut)
    assert "discarded" not in str(leaf.__cause__)
    assert trio.current_time() == 0.5


@pytest.mark.not_explored("a thread takes real time")
async def test_b12_the_error_of_a_late_attempt_is_its_error():
    def pays(ask: Ask) -> Done:
        time.sleep(0.05)
        raise ConnectionError("down")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(pays, timeout_s=0.01, late="take"), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf.__cause__, ConnectionError)


def test_b12_what_becomes_of_a_late_result_is_one_of_two_words():
    with pytest.raises(Exception, match=r"NodeOptions\(late='keep'\): expected 'discard' or 'take'"):
        graph_of(work, late="keep")


@pytest.mark.parametrize(("options", "attempts"), [({}, 1), ({"redelivery": Redelivery(max_attempts=3)}, 3)])
async def test_b12_a_node_is_tried_once_unless_its_author_says_otherwise(options, attempts, virtual_clock):
    tried = []

    async def fails(ask: Ask, run: Run) -> Done:
        tried.append(run.attempt)
        raise ConnectionError("down")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(fails, **options), Ask())

    assert tried == list(range(1, attempts + 1))
