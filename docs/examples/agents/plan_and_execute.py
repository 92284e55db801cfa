"""Plan and execute: one model plans, an agent works off step by step, and what comes of each goes into the next."""

from typing import Annotated

import attrs
import trio

from actors import Graph, Recall
from runtime import open_runtime


@attrs.frozen
class Goal:
    text: str


@attrs.frozen
class Plan:
    steps: list[str]


@attrs.frozen
class Work:
    step: str
    left: list[str]
    done: list[str]


@attrs.frozen
class StepResult:
    text: str


@attrs.frozen
class Report:
    results: list[str]


async def search(query: str) -> str:
    """Search the web."""
    return {"winner": "Jannik Sinner", "home town": "Sexten"}.get(query, "nothing")


graph = Graph("plan-and-execute", input=Goal, output=Report)


@graph.predict(lm="large")
async def plan(goal: Goal) -> Plan:
    """Plan the steps to the goal, each a separate task, in their order."""
    ...


@graph.node
async def begin(plan: Plan) -> Work | Report:
    return Work(plan.steps[0], plan.steps[1:], []) if plan.steps else Report([])


@graph.predict(tools=[search])
async def execute(work: Work) -> StepResult:
    """Do the step, given what has been done before."""
    ...


@graph.node
async def go_on(result: StepResult, work: Annotated[Work, Recall()]) -> Work | Report:
    done = [*work.done, result.text]
    return Work(work.left[0], work.left[1:], done) if work.left else Report(done)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini", lms={"large": "openai/gpt-4o"}) as runtime:
        print(await runtime.run(graph, Goal("Where does the winner of the open come from?"), max_steps=30))


if __name__ == "__main__":
    trio.run(main)
