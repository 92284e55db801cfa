"""What follows what: examples out of traces of typed nodes, a metric for them, and predictors trained to choose the next type.

For systems in which a node is a type (``DSPyBackend``). The predictors of graphs are compiled by
``runtime.lm.predictors.compiling``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from actors.errors import DeclarationError
from runtime.lm.backends.typed import successors
from runtime.lm.dspy.bridge import module_for, plan_of
from runtime.lm.dspy.choosing import NOTHING, choice_of
from runtime.lm.dspy.dspy_calls import ChatLM
from runtime.lm.dspy.import_dspy import library, warm_up
from runtime.lm.predictors.optimising import Metric, Optimizer, optimise
from runtime.messages import schemas
from runtime.messages.fields import fields_of


def trace_to_examples(trace: Sequence[object]) -> list[Any]:
    """One ``dspy.Example`` for each step of `trace` to the next; empty for fewer than two.

    Its inputs are the fields of the instance and ``node_type``, the name of its type; its label is ``next_node_type``.
    """
    made: list[Any] = []
    for source, following in itertools.pairwise(trace):
        fields = {field.name: schemas.dump(getattr(source, field.attribute)) for field in fields_of(type(source))}
        inputs = {**fields, "node_type": type(source).__name__}
        made.append(library().Example(**inputs, next_node_type=type(following).__name__).with_inputs(*inputs))
    return made


def node_transition_metric(example: Any, prediction: Any, trace: object = None) -> float | bool:
    """1.0 when `prediction` names the type that came next, exactly except for case and white space around it; else 0.0.

    It is read from ``next_node_type``, ``choice`` or ``output``, whichever the prediction has; one without any of them, or with
    an empty one, is worth nothing. With `trace`, while demonstrations are gathered, the same as a bool.
    """
    wanted = _word(getattr(example, "next_node_type", None))
    found = next((word for name in ("next_node_type", "choice", "output") if (word := _word(_read(prediction, name)))), "")
    is_right = found != "" and found == wanted
    return is_right if trace is not None else float(is_right)


def _read(prediction: Any, name: str) -> object:
    return prediction.get(name) if isinstance(prediction, dict) else getattr(prediction, name, None)  # pyright: ignore


def _word(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


async def optimize_node(
    lm: ChatLM, node: type, trainset: Sequence[Any], metric: Metric | None = None, *, optimizer: Optimizer | None = None
) -> Any:
    """A ``dspy.Predict`` that chooses what follows an instance of `node`, for ``OptimizedLM(choices={node: …})``.

    Args:
        lm: what answers while it is trained.
        node: the type; what its ``__call__`` returns is what there is to choose from.
        trainset: examples of :func:`trace_to_examples`; those of other types are left out. With fewer than 10 examples the
            predictor is returned as it is.
        metric: None: :func:`node_transition_metric`.
        optimizer: None: ``Optimizer()``: 4 demonstrations out of runs, 8 of the training set, 1 round.

    Raises:
        DeclarationError: there is nothing to choose from.
        LMError: `lm` failed.
    """
    await warm_up()
    candidates, may_end = successors(node)
    if len(candidates) + may_end < 2:
        raise DeclarationError(
            f"{node.__name__} leaves nothing to choose: its __call__ returns {len(candidates)} type(s).\n"
            "  Fix: optimise nodes with several return types."
        )
    told, output = choice_of("", candidates, may_be_none=may_end)
    plan = plan_of({"context": node}, output, told)
    predictor = module_for("Predict", plan.signature)
    examples = [_example(plan.inputs, each) for each in trainset if getattr(each, "node_type", None) == node.__name__]
    trained = await optimise(
        lm, predictor, examples, metric if metric is not None else node_transition_metric, optimizer=optimizer, plan=plan
    )
    return predictor if trained is None else trained.given_to(predictor, library().Example)


def _example(inputs: Any, example: Any) -> Any:
    """`example` under the names of the signature, with its label as the signature's output."""
    shown = {wire: example[attribute] for wire, (_, attribute) in inputs.items()}
    following = example.next_node_type
    answer = NOTHING if following is None else following
    return library().Example(**shown, choice=answer, next_node_type=answer).with_inputs(*shown)
