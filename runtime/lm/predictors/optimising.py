"""DSPy's optimisers over a language model of ours: in a worker thread, whose calls come back onto trio.

Every request of an optimiser goes through the client: its limits, its retries, its budget, the caller's cancel scope. What comes
out is a :class:`Trained`, plain values that are saved as JSON.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.argument_checks import check_count, rejected
from actors.errors import UsageError
from runtime.lm.dspy.bridge import as_mapping, bridged, in_thread
from runtime.lm.dspy.dspy_calls import ChatLM
from runtime.lm.dspy.import_dspy import library, warm_up
from runtime.lm.dspy.plans import SignaturePlan
from runtime.lm.dspy.trained import Trained
from runtime.lm.dspy.trio_lm import trio_lm
from runtime.lm.dspy.unreadable import Care
from runtime.messages import schemas
from runtime.messages.problems import MessageInvalid

Metric = Callable[..., Any]
"""``metric(example, prediction, trace=None)`` gives a number, higher for better, or a bool; for GEPA it may give a
``dspy.Prediction(score=…, feedback=…)``."""

MIN_EXAMPLES = 10
"""Fewer examples than this train nothing."""
MAX_BOOTSTRAPPED_DEMOS = 4
MAX_LABELED_DEMOS = 8
MAX_ROUNDS = 1

OPTIMIZERS = ("bootstrap", "mipro", "gepa")
EFFORTS = ("light", "medium", "heavy")


@final
@attrs.frozen
class Optimizer:
    """Which optimiser is used, and how much it may try."""

    name: str = "bootstrap"
    """``"bootstrap"``: ``BootstrapFewShot`` with 4 demonstrations out of runs, 8 of the training set, 1 round; ``"mipro"``:
    ``MIPROv2``, which needs the extra ``understudy[optimizers]``; ``"gepa"``: ``GEPA``."""
    effort: str = "light"
    """DSPy's preset for MIPROv2 and GEPA: ``"light"``, ``"medium"`` or ``"heavy"``."""
    trials: int | None = None
    """Instead of `effort`: the trials and candidates of MIPROv2, the calls of the metric of GEPA."""
    concurrency: int = 8
    """How many examples MIPROv2 and GEPA work on at the same time; 1 works in one thread, in order."""
    seed: int = 0
    """Decides the random choices of MIPROv2 and GEPA."""

    def __attrs_post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise rejected(self, "name", self.name, f"one of {', '.join(OPTIMIZERS)}")
        if self.effort not in EFFORTS:
            raise rejected(self, "effort", self.effort, f"one of {', '.join(EFFORTS)}")
        check_count(self, "concurrency", self.concurrency)
        check_count(self, "trials", self.trials, optional=True)


async def optimise(
    lm: ChatLM,
    module: Any,
    trainset: Sequence[Any],
    metric: Metric,
    *,
    optimizer: Optimizer | None = None,
    plan: SignaturePlan | None = None,
) -> Trained | None:
    """What `optimizer` makes of `module`, which is not changed; None when `trainset` has fewer than 10 examples.

    Args:
        lm: what answers, also for the optimiser's own prompts.
        module: a ``dspy.Module``.
        trainset: ``dspy.Example`` objects.
        metric: see :data:`Metric`.
        optimizer: None: ``Optimizer()``.
        plan: of the signature that the module was made for; answers that do not fit its output type count as unreadable.

    Raises:
        UsageError: a library that the optimiser needs is not installed.
        LMError: `lm` failed in a way that the optimiser does not continue after.
    """
    chosen = optimizer if optimizer is not None else Optimizer()
    if len(trainset) < MIN_EXAMPLES:
        return None
    await warm_up()
    _check_installed(chosen)
    bridge = trio_lm(lm)
    care = Care(1, subject=type(module).__name__, plan=plan)
    student = module.deepcopy()
    counted = _adapted(metric)
    examples = list(trainset)

    def compiled() -> Trained:
        return Trained.of(_compile(chosen, bridge, student, examples, counted))

    with bridged(bridge, care, trace=[]):
        trained: Trained = await in_thread(bridge, compiled)
    return trained


def _compile(optimizer: Optimizer, bridge: Any, student: Any, trainset: list[Any], metric: Metric) -> Any:
    dspy = library()
    if optimizer.name == "bootstrap":
        maker = dspy.BootstrapFewShot(
            metric=metric,
            max_bootstrapped_demos=MAX_BOOTSTRAPPED_DEMOS,
            max_labeled_demos=MAX_LABELED_DEMOS,
            max_rounds=MAX_ROUNDS,
        )
        return maker.compile(student, trainset=trainset)
    if optimizer.name == "mipro":
        return _mipro(dspy, optimizer, bridge, student, trainset, metric)
    return dspy.GEPA(
        metric=_with_feedback(dspy, metric),
        auto=optimizer.effort if optimizer.trials is None else None,
        max_metric_calls=optimizer.trials,
        reflection_lm=bridge,
        num_threads=optimizer.concurrency,
        seed=optimizer.seed,
    ).compile(student, trainset=trainset)


def _mipro(dspy: Any, optimizer: Optimizer, bridge: Any, student: Any, trainset: list[Any], metric: Metric) -> Any:
    maker = dspy.MIPROv2(
        metric=metric,
        prompt_model=bridge,
        task_model=bridge,
        auto=optimizer.effort if optimizer.trials is None else None,
        num_candidates=optimizer.trials,
        num_threads=optimizer.concurrency,
        seed=optimizer.seed,
    )
    if optimizer.trials is None:
        return maker.compile(student, trainset=trainset)
    return maker.compile(student, trainset=trainset, num_trials=optimizer.trials, minibatch=False)


def _check_installed(optimizer: Optimizer) -> None:
    needed = {"mipro": "optuna", "gepa": "gepa"}.get(optimizer.name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        raise UsageError(
            f"the optimiser {optimizer.name!r} needs {needed}, which is not installed.\n"
            "  Fix: pip install 'understudy[optimizers]'."
        )


# --- metrics --------------------------------------------------------------------------------------------------------


def exact_match(plan: SignaturePlan) -> Metric:
    """The metric of a signature: 1.0 when the prediction makes the very message that the example does, else 0.0.

    A prediction without the fields, or with fields that make no message, is worth nothing.
    """

    def score(example: Any, prediction: Any, trace: object = None) -> float:
        try:
            expected = plan.build(plan.values(dict(example.items())))
            got = plan.build(plan.values(as_mapping(prediction, exact_match)))
        except MessageInvalid:
            return 0.0
        return float(expected == got)

    return score


def _adapted(metric: Metric) -> Metric:
    """`metric` as DSPy calls it, given as many arguments as it takes, and the score as a float where it is one."""
    parameters = inspect.signature(metric).parameters.values()
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    count = sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)

    def score(example: Any, prediction: Any, *more: Any, **named: Any) -> Any:
        given = (example, prediction, *(more or tuple(named.values())))
        result = metric(*(given if takes_any else given[:count]))
        return float(result) if isinstance(result, bool) else result

    return score


def _with_feedback(dspy: Any, metric: Metric) -> Metric:
    """`metric` with the words that GEPA learns from, for one that gives a number only."""

    def score(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        result = metric(gold, pred, trace, pred_name, pred_trace)
        if not isinstance(result, int | float):
            return result
        wanted: Mapping[str, Any] = gold.labels()
        lines = [
            f"{name}: expected {schemas.shorten(value)}, got {schemas.shorten(getattr(pred, name, None))}"
            for name, value in wanted.items()
        ]
        return dspy.Prediction(score=float(result), feedback="\n".join([f"Scored {float(result):g}.", *lines]))

    return score
