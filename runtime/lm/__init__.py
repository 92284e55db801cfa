"""Language models on trio: the client, its retry policy, its errors, and DSPy's language model over it.

Importing this loads neither dspy nor litellm: ``TrioLM`` is made when it is first asked for.
"""

from __future__ import annotations

from typing import Any

from actors.errors import LMAuthFailed as LMAuthFailed
from actors.errors import LMBadRequest as LMBadRequest
from actors.errors import LMBudgetExhausted as LMBudgetExhausted
from actors.errors import LMContextTooLong as LMContextTooLong
from actors.errors import LMError as LMError
from actors.errors import LMRateLimited as LMRateLimited
from actors.errors import LMRefused as LMRefused
from actors.errors import LMReplyUnreadable as LMReplyUnreadable
from actors.errors import LMTimeout as LMTimeout
from actors.errors import LMUnavailable as LMUnavailable
from actors.lm import LM as LM
from actors.lm import Completion as Completion
from actors.lm import Usage as Usage
from runtime.lm import dspy_bridge
from runtime.lm.backends import DSPyBackend as DSPyBackend
from runtime.lm.backends import OptimizedLM as OptimizedLM
from runtime.lm.budget import Budget as Budget
from runtime.lm.budget import spending as spending
from runtime.lm.cache import MemoryCache as MemoryCache
from runtime.lm.cache import SqliteCache as SqliteCache
from runtime.lm.claude_cli import ClaudeCLIBackend as ClaudeCLIBackend
from runtime.lm.client import LMClient as LMClient
from runtime.lm.retry import Retry as Retry


def __getattr__(name: str) -> Any:
    """``TrioLM``, a subclass of ``dspy.BaseLM``: its base class takes a second to import."""
    if name == "TrioLM":
        return dspy_bridge.TrioLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
