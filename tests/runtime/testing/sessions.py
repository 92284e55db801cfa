"""Pytest sessions inside tests: what a user who has the plugin sees."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from tests.warm import SESSIONS, warm

PLUGIN: Final = ("-p", "runtime.testing.plugin", "-o", "trio_mode=true", "-p", "no:cacheprovider", "-q")
"""The configuration that the pages ask for, as options."""


def session(folder: Path, source: str, *options: str) -> str:
    """What pytest prints about a file of tests; async ones are pytest-trio's."""
    (folder / "test_user.py").write_text(textwrap.dedent(source))
    return warm(*SESSIONS).pytest(folder, *PLUGIN, *options).stdout
