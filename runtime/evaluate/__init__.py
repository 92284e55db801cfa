"""Evaluate graphs on rows of data, and compare two of them with an error rate that holds.

Begin at ``evaluating.py`` (one graph on all rows) and ``comparing.py`` (two of them); rows are in ``dataset.py``, judges in
``scoring.py``, the statistics in ``sequential.py``, simulated users in ``users.py``, pages in ``report.py``.
"""

from runtime.evaluate.comparing import Comparison, compare, compared
from runtime.evaluate.compiled_nodes import Compilation, compile_graph
from runtime.evaluate.dataset import BadRow, Dataset, Example
from runtime.evaluate.evaluating import evaluate
from runtime.evaluate.progress import Progress
from runtime.evaluate.results import Evaluation, RowResult, TimedStep
from runtime.evaluate.scoring import Metric, Score, cost, exact, latency, steps
from runtime.evaluate.users import Dialogue, Exchange, Persona, SimulatedUser, converse

__all__ = [
    "BadRow",
    "Comparison",
    "Compilation",
    "Dataset",
    "Dialogue",
    "Evaluation",
    "Example",
    "Exchange",
    "Metric",
    "Persona",
    "Progress",
    "RowResult",
    "Score",
    "SimulatedUser",
    "TimedStep",
    "compare",
    "compared",
    "compile_graph",
    "converse",
    "cost",
    "evaluate",
    "exact",
    "latency",
    "steps",
]
