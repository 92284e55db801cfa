"""The contract with DSPy: the names and parameters that the bridge relies on, and loud words where they are not there."""

import importlib.metadata
import subprocess
import sys

import pytest

from actors.errors import UsageError
from runtime.lm.dspy.import_dspy import HOOKS, SERIES, check_release, library, missing_hooks


def test_the_installed_release_is_of_a_series_that_has_been_tried():
    installed = importlib.metadata.version("dspy")

    assert ".".join(installed.split(".")[:2]) in SERIES


@pytest.mark.parametrize("hook", HOOKS)
def test_dspy_3_4_has_the_hook(hook: str):
    assert missing_hooks({hook: HOOKS[hook]}) == []


def test_what_is_missing_is_named_with_its_parameter():
    hooks = {"dspy:Predict.gone": (), "dspy:Adapter.parse": ("signature", "gone"), "dspy.gone:Thing": ()}

    assert missing_hooks(hooks) == ["dspy.Predict.gone", "dspy.Adapter.parse(gone)", "dspy.gone.Thing"]


def test_a_release_of_another_series_is_refused_even_if_nothing_is_missing():
    with pytest.raises(UsageError) as caught:
        check_release("3.5.0", [])

    assert str(caught.value) == (
        "dspy 3.5.0 is not one that understudy works with (tried: 3.4).\n  Fix: pip install 'dspy>=3.4,<3.5'."
    )


def test_a_release_that_lacks_a_hook_is_refused_with_the_name():
    with pytest.raises(UsageError) as caught:
        check_release("3.4.9", ["dspy.BaseLM.acall(prompt)"])

    assert str(caught.value) == (
        "dspy 3.4.9 is not one that understudy works with (tried: 3.4); it lacks dspy.BaseLM.acall(prompt).\n"
        "  Fix: pip install 'dspy>=3.4,<3.5'."
    )


@pytest.mark.slow
def test_a_new_dspy_fails_at_its_first_use_and_not_in_the_middle_of_a_call():
    program = """
import dspy, trio
dspy.__version__ = "3.5.0"
from runtime.lm.dspy.bridge import run_signature
try:
    trio.run(run_signature, None, "question -> answer", {"question": "?"})
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout == "UsageError dspy 3.5.0 is not one that understudy works with (tried: 3.4).\n"


def test_the_library_is_loaded_once():
    assert library() is library()
