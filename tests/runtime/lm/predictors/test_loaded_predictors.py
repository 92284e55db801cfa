"""Trained predictors from the training set to the node that uses them, over scripted models."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import DeclarationError
from runtime import open_runtime
from runtime.lm.predictors.compiling import CompiledPredictor, compile_graph
from runtime.lm.predictors.loaded_predictors import PredictorCounts
from runtime.testing import ScriptedLM
from tests.runtime.lm.predicting import Label, Question, Refusal, knowing, labelling, routing, rows


async def compiled(folder: Path, graph: Graph | None = None, examples: list[Any] | None = None) -> list[CompiledPredictor]:
    lm = ScriptedLM(knowing)
    return await compile_graph(graph or labelling(), examples or rows(), folder, lm_for=lambda spec: lm)


def edited(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


async def test_a_compiled_predictor_is_used_by_the_node_and_counted(tmp_path: Path):
    report = await compiled(tmp_path)
    lm = ScriptedLM(knowing)

    async with open_runtime(lm=lm, predictors=tmp_path) as runtime:
        assert await runtime.run(labelling(), Question("text 99")) == Label("label 99")
        counts = runtime.predictor_statistics()

    assert report == [CompiledPredictor("label", "Label", 12, is_optimized=True, demos=8)]
    assert counts.nodes == {"labels/label": PredictorCounts(optimized=1, naive=0)}
    assert (counts.optimized, counts.naive, counts.unknown_files) == (1, 0, ())
    assert len(lm.calls[0].messages) == 1 + 2 * 8 + 1


async def test_without_a_folder_every_pick_is_naive_and_counted():
    async with open_runtime(lm=ScriptedLM(knowing)) as runtime:
        await runtime.run(labelling(), Question("text 1"))
        await runtime.run(labelling("other"), Question("text 1"))

        assert runtime.predictor_statistics().nodes == {
            "labels/label": PredictorCounts(naive=1),
            "other/label": PredictorCounts(naive=1),
        }


async def test_a_pick_is_counted_once_however_many_answers_it_takes(tmp_path: Path):
    lm = ScriptedLM(["no idea", {"name": "x"}])

    async with open_runtime(lm=lm) as runtime:
        await runtime.run(labelling(), Question("text 1"))

        assert runtime.predictor_statistics().nodes["labels/label"] == PredictorCounts(naive=1)


async def test_the_choice_and_each_type_have_predictors_of_their_own(tmp_path: Path):
    examples = [*rows(11, type="Label"), *({"input": {"text": f"{at}"}, "output": None} for at in range(3))]

    def answer(messages: Any) -> Any:
        prompt = str(messages[-1]["content"])
        return {"choice": "Label" if "\ntext " in prompt else "None"} if "`[[ ## choice ## ]]`" in prompt else knowing(messages)

    report = await compile_graph(routing(), examples, tmp_path, lm_for=lambda spec: ScriptedLM(answer))
    lm = ScriptedLM(answer)
    async with open_runtime(lm=lm, predictors=tmp_path) as runtime:
        assert await runtime.run(routing(), Question("text 5")) == Label("label 5")
        counts = runtime.predictor_statistics()

    assert [(each.purpose, each.examples, each.is_optimized) for each in report] == [
        ("Label", 11, True),
        ("Refusal", 0, False),
        ("choice", 14, True),
    ]
    assert [len(call.messages) > 2 for call in lm.calls] == [True, True]
    assert counts.nodes == {"routing/route": PredictorCounts(optimized=1)}


async def test_a_type_without_a_predictor_is_filled_naively(tmp_path: Path):
    await compile_graph(routing(), rows(10, type="Label"), tmp_path, lm_for=lambda spec: ScriptedLM(_labels))

    async with open_runtime(lm=ScriptedLM([{"choice": "Refusal"}, {"reason": "no"}]), predictors=tmp_path) as runtime:
        assert await runtime.run(routing(), Question("?")) == Refusal("no")
        assert runtime.predictor_statistics().nodes == {"routing/route": PredictorCounts(naive=1)}


def _labels(messages: Any) -> Any:
    return {"choice": "Label"} if "`[[ ## choice ## ]]`" in str(messages[-1]["content"]) else knowing(messages)


async def test_a_chain_of_thought_keeps_what_its_step_has_learnt(tmp_path: Path):
    graph = labelling(module="ChainOfThought")
    await compiled(tmp_path, graph)

    async with open_runtime(lm=ScriptedLM(knowing), predictors=tmp_path) as runtime:
        assert await runtime.run(graph, Question("text 7")) == Label("label 7")

    (predictor,) = json.loads((tmp_path / "labels" / "label.json").read_text())["predictors"]
    assert list(predictor["steps"]) == ["predict"]
    assert predictor["steps"]["predict"]["demos"][0]["reasoning"] == "by the number"


async def test_a_missing_file_is_no_problem(tmp_path: Path):
    async with open_runtime(lm=ScriptedLM(knowing), predictors=str(tmp_path)) as runtime:
        assert await runtime.run(labelling(), Question("text 1")) == Label("label 1")


async def test_files_that_are_no_nodes_are_named(tmp_path: Path):
    await compiled(tmp_path)
    (tmp_path / "labels" / "label.json").rename(tmp_path / "labels" / "gone.json")
    edited(tmp_path / "labels" / "gone.json", lambda content: content.update(node="gone"))
    (tmp_path / "notes.txt").write_text("mine")

    async with open_runtime(lm=ScriptedLM(knowing), predictors=tmp_path) as runtime:
        with pytest.warns(RuntimeWarning, match=r"no predict node of graph 'labels' has a name that fits .*gone\.json; not used"):
            await runtime.run(labelling(), Question("text 1"))

        unknown = runtime.predictor_statistics().unknown_files
    assert unknown == (str(tmp_path / "labels" / "gone.json"), str(tmp_path / "notes.txt"))


@attrs.frozen
class Longer:
    text: str
    title: str


def with_another_input(graph: Graph) -> Graph:
    other = Graph(graph.name, input=Longer, output=Label)

    @other.predict
    async def label(question: Longer) -> Label:
        """Name the label of the text."""
        ...

    return other


@pytest.mark.parametrize(
    ("graph", "changed"),
    [
        (labelling(instruction="Other words."), "instruction was 'Name the label of the text.' and is 'Other words.'"),
        (labelling(module="ChainOfThought"), "module was 'Predict' and is 'ChainOfThought'"),
        (
            with_another_input(labelling()),
            "input 'question' was 'Question(text: str)' and is 'Longer(text: str, title: str)'",
        ),
    ],
)
async def test_a_predictor_of_another_signature_is_refused_with_the_node_and_the_change(
    graph: Graph, changed: str, tmp_path: Path
):
    await compiled(tmp_path)

    async with open_runtime(lm=ScriptedLM([]), predictors=tmp_path) as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.deploy(graph)

    (location,) = [spec.location for spec in graph.plan().nodes.values()]
    assert str(caught.value) == (
        "the predictors of graph 'labels' do not fit its nodes.\n"
        f"  node 'label' ({location}), {tmp_path}/labels/label.json: Label: {changed}\n"
        "  Fix: compile them again with `understudy compile`, or delete the files."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda demo: demo.update(name=3), "step 'self', demonstration 0, 'name': got 3, expected str"),
        (lambda demo: demo.update(text=["a"]), "step 'self', demonstration 0, 'text': got ['a'], expected str"),
        (
            lambda demo: demo.update(system="Obey."),
            "step 'self', demonstration 0, 'system': no such field; the step has text, name",
        ),
        (lambda demo: demo.update(augmented="yes"), "'augmented': got 'yes', expected true or false"),
    ],
)
async def test_a_demonstration_has_the_declared_fields_and_types_only(change: Callable[[Any], None], words: str, tmp_path: Path):
    await compiled(tmp_path)
    edited(tmp_path / "labels" / "label.json", lambda content: change(content["predictors"][0]["steps"]["self"]["demos"][0]))

    async with open_runtime(lm=ScriptedLM([]), predictors=tmp_path) as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.deploy(labelling())

    assert words in str(caught.value)


async def test_steps_of_another_module_are_refused(tmp_path: Path):
    await compiled(tmp_path)

    def rename(content: Any) -> None:
        steps = content["predictors"][0]["steps"]
        steps["other"] = steps.pop("self")

    edited(tmp_path / "labels" / "label.json", rename)
    async with open_runtime(lm=ScriptedLM([]), predictors=tmp_path) as runtime:
        with pytest.raises(DeclarationError, match=r"trained were the steps \['other'\]; Predict has \['self'\]\."):
            await runtime.deploy(labelling())


async def test_a_union_of_inputs_has_a_predictor_for_each(tmp_path: Path):
    graph = Graph("labels", input=Question | Longer, output=Label)

    @graph.predict
    async def label(question: Question | Longer) -> Label:
        """Name the label of the text."""
        ...

    await compiled(tmp_path, graph)
    async with open_runtime(lm=ScriptedLM(knowing), predictors=tmp_path) as runtime:
        await runtime.run(graph, Question("text 1"))
        await runtime.run(graph, Longer("text 2", "title"))

        assert runtime.predictor_statistics().nodes == {"labels/label": PredictorCounts(optimized=1, naive=1)}


async def test_runs_at_once_share_a_stored_predictor(tmp_path: Path):
    await compiled(tmp_path)
    answers: list[Label] = []

    async with open_runtime(lm=ScriptedLM(knowing), predictors=tmp_path) as runtime:
        graph = labelling()

        async def one(number: int) -> None:
            answers.append(await runtime.run(graph, Question(f"text {number}")))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)

        assert runtime.predictor_statistics().nodes == {"labels/label": PredictorCounts(optimized=20)}
    assert sorted(answer.name for answer in answers) == sorted(f"label {number}" for number in range(20))


classes = Graph("classes", input=Question, output=Label)


@classes.node
async def begin(question: Question) -> Draft:
    return Draft(question.text)


@classes.predict
@attrs.frozen
class Draft:
    """Name the label of the text, or drop it."""

    text: str

    async def __call__(self) -> Label | None: ...


async def test_a_class_node_has_predictors_for_its_choice_and_its_type(tmp_path: Path):
    report = await compile_graph(classes, rows(10, node="Draft"), tmp_path, lm_for=lambda spec: ScriptedLM(_labels))
    lm = ScriptedLM(_labels)

    async with open_runtime(lm=lm, predictors=tmp_path) as runtime:
        assert await runtime.run(classes, Question("text 5")) == Label("label 5")
        counts = runtime.predictor_statistics().nodes

    assert [(each.node, each.purpose, each.is_optimized) for each in report] == [
        ("Draft", "Label", True),
        ("Draft", "choice", True),
    ]
    assert counts == {"classes/Draft": PredictorCounts(optimized=1)}
    assert [len(call.messages) for call in lm.calls] == [18, 18]
