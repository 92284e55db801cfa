"""What the runtime promises of graphs, under every schedule: results that do not depend on timing, retries, nothing left over."""

from __future__ import annotations

import attrs
import trio

from actors import Backoff, Graph, Redelivery
from runtime import RunFailed
from runtime.testing import FaultPlan, Simulation, explore, no_orphans


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Part:
    number: int


@attrs.frozen
class Length:
    number: int


@attrs.frozen
class Upper:
    text: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("study", input=Question, output=Answer)
RETRY = Redelivery(max_attempts=3, backoff=Backoff(first_s=1.0, jitter=0.5))


@graph.node
async def split(question: Question) -> list[Part]:
    return [Part(number) for number in range(3)]


@graph.node(redelivery=RETRY)
async def measure(part: Part) -> Length:
    await trio.sleep(0.1 * (3 - part.number))
    return Length(part.number)


@graph.node(redelivery=RETRY)
async def shout(question: Question) -> Upper:
    await trio.lowlevel.checkpoint()
    return Upper(question.text.upper())


@graph.node
async def join(lengths: list[Length], upper: Upper) -> Answer:
    return Answer(f"{upper.text} {[length.number for length in lengths]}")


@explore(runs=100)
async def test_the_output_does_not_depend_on_the_schedule(sim: Simulation) -> None:
    async with sim.open_runtime() as runtime:
        answers: list[Answer] = []

        async def run(text: str) -> None:
            answers.append(await runtime.run(graph, Question(text)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "one")
            nursery.start_soon(run, "two")

    assert {answer.text for answer in answers} == {"ONE [0, 1, 2]", "TWO [0, 1, 2]"}


@explore(runs=100)
async def test_a_crash_at_any_node_is_made_good_by_redelivery(sim: Simulation) -> None:
    async with sim.open_runtime() as runtime:
        FaultPlan().crash(f"study/{['measure', 'shout'][sim.choose(2)]}", on_message=1 + sim.choose(2)).install(runtime)

        answer = await runtime.run(graph, Question("one"))

    assert answer == Answer("ONE [0, 1, 2]")


@explore(runs=100)
async def test_a_cancelled_run_leaves_no_task_and_the_next_one_works(sim: Simulation) -> None:
    with no_orphans():
        async with sim.open_runtime() as runtime:
            handle = await runtime.start(graph, Question("one"))
            for _ in range(sim.choose(8)):
                await trio.lowlevel.checkpoint()
            await handle.cancel()

            assert await runtime.run(graph, Question("two")) == Answer("TWO [0, 1, 2]")


@explore(runs=50)
async def test_a_node_that_fails_for_good_fails_its_run_alone(sim: Simulation) -> None:
    failing = Graph("failing", input=Question, output=Answer)

    @failing.node(redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1.0)))
    async def answer(question: Question) -> Answer:
        await trio.lowlevel.checkpoint()
        if question.text == "bad":
            raise RuntimeError("bad question")
        return Answer(question.text)

    async with sim.open_runtime() as runtime:
        ends: dict[str, str] = {}

        async def run(text: str) -> None:
            try:
                ends[text] = (await runtime.run(failing, Question(text))).text
            except RunFailed as error:
                ends[text] = str(error.exceptions[0].__cause__)

        async with trio.open_nursery() as nursery:
            for text in ("good", "bad", "fine"):
                nursery.start_soon(run, text)

    assert ends == {"good": "good", "bad": "bad question", "fine": "fine"}
