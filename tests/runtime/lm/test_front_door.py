import subprocess
import sys

import pytest

import runtime.lm


def test_importing_the_layer_loads_no_heavy_library():
    code = "import sys, runtime.lm; print(sorted({'dspy', 'litellm', 'openai', 'pydantic', 'httpx'} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"


def test_trio_lm_is_there_when_it_is_asked_for():
    assert runtime.lm.TrioLM.__name__ == "TrioLM"


def test_any_other_name_is_missing_as_usual():
    with pytest.raises(AttributeError, match=r"^module 'runtime\.lm' has no attribute 'Nonsense'$"):
        _ = runtime.lm.Nonsense
