from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def log() -> list[Any]:
    """What the actors of ``tests.runtime.cast`` note, as (time, text)."""
    return []
