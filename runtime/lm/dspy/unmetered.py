"""What in DSPy asks a server on its own, past our clients: under a budget, which could not see it, it is rejected.

``dspy.Embedder("openai/…")`` calls LiteLLM, and ``dspy.ColBERTv2`` its server. Neither has a place to put a client of ours in, so
their calls are looked at, once DSPy has been bridged for the first time; without a budget they are as they were.
"""

from __future__ import annotations

import functools
from typing import Any

from runtime.lm.dspy.dspy_calls import misused
from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library
from runtime.lm.limits.budget import budgets_with


@functools.cache
def reject_outside_calls() -> None:
    """Let calls past the client fail where a budget is in force. Once for the process."""
    dspy = library()
    dspy.Embedder.__call__ = _refusing(dspy.Embedder.__call__)
    dspy.Embedder.acall = _refusing(dspy.Embedder.acall)
    dspy.ColBERTv2.__call__ = _refusing(dspy.ColBERTv2.__call__)


def _refusing(method: Any) -> Any:
    @functools.wraps(method)
    def looked_at(self: Any, *args: Any, **options: Any) -> Any:
        server = getattr(self, "url", None) or getattr(self, "model", None)
        if isinstance(server, str) and _is_budgeted():
            raise misused(
                f"dspy.{type(self).__name__}({server!r}) asks its server on its own: "
                "the budget that is in force cannot count it.\n"
                "  Fix: for embeddings use trio_embedder(lm); else retrieve before the work that has the budget."
            )
        return method(self, *args, **options)

    return looked_at


def _is_budgeted() -> bool:
    """Whether a budget is in force, here or in the run for which this thread of DSPy's works."""
    crossing = getattr(library().settings.lm, "crossing", None)
    return bool(budgets_with()) or (isinstance(crossing, Crossing) and crossing.is_budgeted)
