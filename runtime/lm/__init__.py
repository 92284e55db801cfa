"""Language models on trio: the client, its retry policy, its errors, and DSPy's language model over it.

Importing this loads neither dspy nor litellm: ``TrioLM`` is made when it is first asked for.

Begin at ``client.py`` (a call) and ``requester.py`` (its requests until one is answered). What bounds a call is in ``limits``,
what providers are sent in ``providers``, connections are in ``http``, DSPy is in ``dspy``.
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
from actors.errors import LMTruncated as LMTruncated
from actors.errors import LMUnavailable as LMUnavailable
from actors.lm import LM as LM
from actors.lm import Completion as Completion
from actors.lm import Embedder as Embedder
from actors.lm import Embeddings as Embeddings
from actors.lm import Usage as Usage
from runtime.lm.backends.claude_cli import ClaudeCLIBackend as ClaudeCLIBackend
from runtime.lm.backends.pydantic_ai import PydanticAIBackend as PydanticAIBackend
from runtime.lm.backends.typed import DSPyBackend as DSPyBackend
from runtime.lm.backends.typed import OptimizedLM as OptimizedLM
from runtime.lm.client import LMClient as LMClient
from runtime.lm.dspy import trio_lm as _trio_lm
from runtime.lm.dspy.bridge import run_dspy as run_dspy
from runtime.lm.dspy.bridge import run_signature as run_signature
from runtime.lm.dspy.dspy_calls import BridgeMisused as BridgeMisused
from runtime.lm.dspy.dspy_engine import AsyncTrioEngine as AsyncTrioEngine
from runtime.lm.dspy.dspy_engine import TrioEngine as TrioEngine
from runtime.lm.dspy.embedder import trio_embedder as trio_embedder
from runtime.lm.dspy.streamify import PredictionStream as PredictionStream
from runtime.lm.dspy.streamify import open_prediction_stream as open_prediction_stream
from runtime.lm.dspy.trio_lm import trio_lm as trio_lm
from runtime.lm.dspy.trio_tools import trio_tool as trio_tool
from runtime.lm.limits.budget import Budget as Budget
from runtime.lm.limits.budget import spending as spending
from runtime.lm.limits.cache import MemoryCache as MemoryCache
from runtime.lm.limits.cache import SqliteCache as SqliteCache
from runtime.lm.limits.retry import Retry as Retry
from runtime.lm.predictors.compiling import CompiledPredictor as CompiledPredictor
from runtime.lm.predictors.loaded_predictors import PredictorCounts as PredictorCounts
from runtime.lm.predictors.loaded_predictors import PredictorStatistics as PredictorStatistics
from runtime.lm.predictors.optimising import Optimizer as Optimizer
from runtime.lm.predictors.training import read_rows as read_rows
from runtime.lm.predictors.transitions import node_transition_metric as node_transition_metric
from runtime.lm.predictors.transitions import optimize_node as optimize_node
from runtime.lm.predictors.transitions import trace_to_examples as trace_to_examples
from runtime.lm.statistics import ModelStatistics as ModelStatistics
from runtime.lm.warming import load_libraries as load_libraries


def __getattr__(name: str) -> Any:
    """``TrioLM``, a subclass of ``dspy.BaseLM``: its base class takes a second to import."""
    if name == "TrioLM":
        return _trio_lm.trio_lm_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
