"""Predictors are optimised by a metric of evaluation, and evaluated by the same runner before and after."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors import Graph
from actors.errors import DeclarationError
from actors.lm import ChatMessage
from runtime import open_runtime
from runtime.evaluate import Compilation, Metric, Score, compile_graph
from runtime.lm.limits.budget import Budget
from runtime.lm.predictors.files import read_folder
from runtime.lm.predictors.optimising import Optimizer
from runtime.testing import ModelScript, ScriptedLM, field_answer
from runtime.testing.network import VirtualNetwork
from tests.runtime.lm.predicting import Label, Question, Refusal, knowing, labelling, routing, rows


def learning(messages: Sequence[ChatMessage]) -> Any:
    """Right where it is shown how, and where it is asked about one of the first four; else wrong."""
    prompt = str(messages[-1]["content"])
    is_shown = len(messages) > 2 or any(f"text {at}\n" in prompt for at in range(4))
    return knowing(messages) if is_shown else {"name": "no idea"}


async def compiled(folder: Path, lm: ScriptedLM, graph: Graph[Any, Any], given: Any = None, **options: Any) -> Compilation:
    async with open_runtime(lm=lm) as runtime:
        return await compile_graph(runtime, graph, rows() if given is None else given, folder, **options)


async def test_what_was_learned_is_evaluated_and_stands_in_the_file(tmp_path: Path, virtual_clock: Any) -> None:
    lm = ScriptedLM(learning)

    done = await compiled(tmp_path, lm, labelling())

    found = done.evaluations["label"]
    assert (found.verdict, found.rows, found.difference) == ("better", 12, 8 / 12)
    [[node], strange] = read_folder(tmp_path)
    assert not strange
    assert node.evaluation is not None
    assert (node.evaluation.before, node.evaluation.after) == (4 / 12, 1.0)
    assert (node.evaluation.verdict, node.evaluation.metric, node.evaluation.data) == ("better", "exact", "training set")
    assert found.candidate is not None
    assert [row.id for row in found.candidate.results] == [str(at) for at in range(1, 13)]
    assert len(lm.calls) == 4 + 12 + 12


async def test_the_metric_is_one_of_evaluation_for_the_optimiser_too(tmp_path: Path, virtual_clock: Any) -> None:
    seen: list[tuple[Any, ...]] = []

    async def close(example: Any, output: Label, trace: Any) -> Score:
        seen.append((example.text, example.name, example.expected, type(output), len(trace)))
        return Score(0.5 if output.name == example.name else 0.0, "half")

    done = await compiled(tmp_path, ScriptedLM(knowing), labelling(), metric=close)

    assert seen[:4] == [(f"text {at}", f"label {at}", Label(f"label {at}"), Label, 0) for at in range(4)]
    assert {trace for *_, trace in seen[4:]} == {1}
    assert len(seen) == 4 + 12 + 12
    assert done.evaluations["label"].metric == "close"


async def test_a_graph_can_be_the_metric(tmp_path: Path, virtual_clock: Any) -> None:
    @attrs.frozen
    class Told:
        expected: Label
        output: Label

    judge: Graph[Told, Score] = Graph("judge", input=Told, output=Score)

    @judge.node
    async def look(told: Told) -> Score:
        return Score(told.output == told.expected, "as expected")

    done = await compiled(tmp_path, ScriptedLM(learning), labelling(), metric=judge)

    assert done.evaluations["label"].verdict == "better"
    assert done.predictors[0].demos == 8


async def test_what_is_no_score_is_named_and_not_counted_as_wrong(tmp_path: Path, virtual_clock: Any) -> None:
    with pytest.raises(DeclarationError, match="metric 'silent' gave None"):
        await compiled(tmp_path, ScriptedLM(knowing), labelling(), metric=Metric("silent", lambda *_: None))  # type: ignore[arg-type]


async def test_a_choice_between_types_and_nothing_is_evaluated_as_a_whole(tmp_path: Path, virtual_clock: Any) -> None:
    def answer(messages: Sequence[ChatMessage]) -> Any:
        prompt = str(messages[-1]["content"])
        kind = "Refusal" if "bad" in prompt else "None" if "empty" in prompt else "Label"
        if "`[[ ## choice ## ]]`" in prompt:
            return {"choice": kind}
        return {"reason": "no"} if kind == "Refusal" else {"name": "l"}

    given: list[dict[str, Any]] = [
        {"input": {"text": f"text {at}"}, "output": {"name": "l"}, "type": "Label"} for at in range(10)
    ]
    given += [
        {"input": {"text": "bad"}, "output": {"reason": "no"}, "type": "Refusal"},
        {"input": {"text": "empty"}, "output": None},
    ]

    done = await compiled(tmp_path, ScriptedLM(answer), routing(), given)

    found = done.evaluations["route"]
    assert found.candidate is not None
    assert (found.candidate.mean(), len(found.candidate.results)) == (1.0, 12)


async def test_a_node_of_several_messages_is_evaluated_alone(tmp_path: Path, virtual_clock: Any) -> None:
    graph: Graph[Question, Label] = Graph("joining", input=Question, output=Label)

    @graph.node
    async def rejected(question: Question) -> Refusal:
        raise AssertionError("only the predict node is run")

    @graph.predict
    async def label(question: Question, refusal: Refusal) -> Label:
        """Name it."""
        ...

    given = [
        {"inputs": {"question": {"text": f"text {at}"}, "refusal": {"reason": "r"}}, "output": {"name": f"label {at}"}}
        for at in range(10)
    ]

    done = await compiled(tmp_path, ScriptedLM(knowing), graph, given, test_rows=given[:3])

    assert (done.data, done.evaluations["label"].rows) == ("test set", 3)
    assert done.evaluations["label"].candidate is not None
    assert '"reason": "r"' in done.evaluations["label"].candidate.results[0].input


async def test_two_rows_of_one_id_are_named(tmp_path: Path, virtual_clock: Any) -> None:
    with pytest.raises(DeclarationError, match="rows 1 and 2 of the training set have the same id 'x'"):
        await compiled(tmp_path, ScriptedLM([]), labelling(), rows(12, id="x"))


async def test_a_spent_budget_leaves_the_file_without_an_evaluation(tmp_path: Path, virtual_clock: Any) -> None:
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ModelScript(field_answer(name="x"))}, unused="ok")
    async with network.client("openai/gpt-4o-mini") as lm, open_runtime(lm=lm) as runtime:
        whole = Budget(max_tokens=1_000_000)
        await compile_graph(runtime, labelling(), rows(), tmp_path, budget=whole)
        less = Budget(max_tokens=0.7 * whole.tokens)
        done = await compile_graph(runtime, labelling(), rows(), tmp_path, budget=less, at_once=1)

    assert done.predictors[0].is_optimized
    assert not done.evaluations
    assert "evaluation" not in json.loads((tmp_path / "labels/label.json").read_text())


@pytest.mark.slow
async def test_gepa_is_told_the_reasons(tmp_path: Path, virtual_clock: Any) -> None:
    lm = ScriptedLM(knowing)

    def right(example: Any, output: Label, trace: Any) -> Score:
        return Score(output.name == "never", f"it should be {example.name}, of course")

    await compiled(tmp_path, lm, labelling(), metric=right, optimizer=Optimizer("gepa", trials=15), evaluates=False)

    assert any("of course" in call.text for call in lm.calls)
