"""What was asked for one tenant is in no list that another can read, and in none that grows for ever."""

from __future__ import annotations

from typing import Any

import attrs
import dspy
from dspy.clients.base_lm import GLOBAL_HISTORY

from actors import Graph
from actors.lm import LM
from runtime import open_runtime
from runtime.lm import run_dspy, run_signature, trio_lm
from runtime.testing import ScriptedLM


@attrs.frozen
class In:
    text: str


@attrs.frozen
class Out:
    text: str


graph = Graph("history", input=In, output=Out)
shared = dspy.Predict("text -> answer")


@graph.predict
async def filled(message: In) -> Out:  # type: ignore[empty-body]
    """Repeat it."""
    ...


asking = Graph("asking", input=In, output=Out)


@asking.node
async def asked(message: In, lm: LM) -> Out:
    return Out((await lm.predict(shared, text=message.text)).answer)


async def test_c21_runs_leave_nothing_in_dspys_history() -> None:
    GLOBAL_HISTORY.clear()
    lm = ScriptedLM(lambda call: {"text": "ok", "answer": "ok"})

    async with open_runtime(lm=lm) as runtime:
        for number in range(3):
            await runtime.run(graph, In(f"secret {number}"))
            await runtime.run(asking, In(f"secret {number}"))
        await run_signature(runtime.lm, shared, {"text": "secret"})

    assert GLOBAL_HISTORY == []
    assert shared.history == []


async def test_c21_code_of_dspys_reads_its_own_history_and_no_other() -> None:
    GLOBAL_HISTORY.clear()
    seen: list[int] = []

    def work() -> None:
        dspy.Predict("text -> answer")(text="a")
        seen.append(len(dspy.settings.lm.history))

    for _ in range(2):
        await run_dspy(ScriptedLM([{"answer": "ok"}]), work)

    assert seen == [1, 1]
    assert GLOBAL_HISTORY == []


async def test_c21_code_that_takes_the_language_model_itself_has_dspys_history() -> None:
    GLOBAL_HISTORY.clear()
    bridge: Any = trio_lm(ScriptedLM([{"answer": "ok"}]))

    with dspy.context(lm=bridge):
        await dspy.Predict("text -> answer").acall(text="a")

    assert len(bridge.history) == len(GLOBAL_HISTORY) == 1
    GLOBAL_HISTORY.clear()
