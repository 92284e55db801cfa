"""Errors are values that travel: each survives pickling, and its docstring says whose move it is."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from typing import Any

import pytest

from actors import errors, message_errors, placement_errors, store_errors
from actors.errors import (
    ActorFailed,
    AskCycle,
    GraphInvalid,
    LMRateLimited,
    NodeFailed,
    Problem,
    RunFailed,
    UnderstudyError,
    UsageError,
)
from actors.message_errors import FieldProblem, MessageInvalid

CLASSES: list[type[UnderstudyError]] = [
    found
    for module in (errors, message_errors, placement_errors, store_errors)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if found.__module__ == module.__name__ and issubclass(found, UnderstudyError) and not issubclass(found, RunFailed)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_takes_its_message_alone_and_survives_pickle(kind):
    error = kind("what happened")
    error.note_of_a_caller = 3

    found = pickle.loads(pickle.dumps(error))

    assert (type(found), str(found), found.args) == (kind, "what happened", ("what happened",))
    assert vars(found) == vars(error)
    assert vars(copy.copy(error)) == vars(error)


@pytest.mark.parametrize(
    "error",
    [
        AskCycle("m", cycle=["a", "b", "a"]),
        ActorFailed("m", address="a"),
        NodeFailed("m", run_id="r", node="n", path="g/n", attempt=3, input=[1], trace=(1, 2)),
        LMRateLimited("m", model="x", attempt=2, status=429, spent=True, retry_after_s=1.5),
        MessageInvalid("m", problems=[FieldProblem(("a", 0), "text")]),
        GraphInvalid("m", problems=[Problem("unreachable-node", "n", "text", "fix", "f.py:3")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_attributes_of_an_error_survive_pickle(error):
    found = pickle.loads(pickle.dumps(error))

    assert vars(found) == vars(error)
    assert str(found) == "m"


def test_a_failed_run_is_a_group_that_survives_pickle_and_splits_into_its_own_kind():
    group = RunFailed("run failed", [NodeFailed("a", run_id="r1"), NodeFailed("b", run_id="r1")])

    found = pickle.loads(pickle.dumps(group))
    part: Any = group.subgroup(lambda leaf: str(leaf) == "b")

    assert (found.run_id, [str(leaf) for leaf in found.exceptions]) == ("r1", ["a", "b"])
    assert (type(part), part.run_id, len(part.exceptions)) == (RunFailed, "r1", 1)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_drawing_and_says_what_it_means(kind):
    assert kind.__name__ in (sys.modules[kind.__module__].__doc__ or "")
    assert kind.__doc__


def test_a_problem_says_where_what_and_how_to_fix_it():
    problem = Problem("dead-end", "merge", "nobody takes what it makes", "connect it", "g.py:7")

    assert str(problem) == "node 'merge' (g.py:7): nobody takes what it makes\n    Fix: connect it [dead-end]"
    assert str(Problem("c", None, "text", "fix")) == "text\n    Fix: fix [c]"


def test_a_usage_error_is_a_runtime_error_that_no_retry_fixes():
    assert issubclass(UsageError, RuntimeError)
    assert UsageError("m").retryable is False
