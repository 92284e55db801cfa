"""What is said where an extra is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_tokens_without_their_library_name_the_line_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "runtime.serve.jwt", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)

    with pytest.raises(ImportError, match=r"Fix: pip install 'understudy\[jwt\]'"):
        importlib.import_module("runtime.serve.jwt")
