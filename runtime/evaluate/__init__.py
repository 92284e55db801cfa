"""Evaluate graphs on rows of data, and compare two of them with an error rate that holds."""

from runtime.evaluate.comparing import Comparison, compare, compared
from runtime.evaluate.dataset import BadRow, Dataset, Example
from runtime.evaluate.evaluating import Progress, evaluate
from runtime.evaluate.results import Evaluation, RowResult, TimedStep
from runtime.evaluate.scoring import Metric, Score, exact

__all__ = [
    "BadRow",
    "Comparison",
    "Dataset",
    "Evaluation",
    "Example",
    "Metric",
    "Progress",
    "RowResult",
    "Score",
    "TimedStep",
    "compare",
    "compared",
    "evaluate",
    "exact",
]
