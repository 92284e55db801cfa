"""The language model of a run that is run again: it has a name, by which the record knows what was asked, and no answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, final

from actors.lm import ChatMessage, Completion, Embeddings, LMStream
from runtime.graphs.records.rehearsing import CaseDiverged
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import run_signature
from runtime.lm.limits.abilities import Abilities, PassesAbilities

_CALLS_TOOLS = Abilities(supports_function_calling=True)
"""What a model in a test can do that has no provider, such as a ``ScriptedLM``."""


@final
class AbsentLM(PassesAbilities):
    """Satisfies ``actors.LM``. It can do what a client of that model can, since prompts depend on that."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._lm: Any = LMClient(model, api_key="never-sent") if "/" in model else _CALLS_TOOLS

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """See ``actors.LM.predict``."""
        return await run_signature(self, signature, inputs)

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Fail."""
        raise self._absent()

    def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AbstractAsyncContextManager[LMStream]:
        """Fail."""
        raise self._absent()

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """Fail."""
        raise self._absent()

    def _absent(self) -> CaseDiverged:
        return CaseDiverged(
            f"{self._model}: a run that is run again asks no language model, and this call isn't a node's.\n"
            "  Fix: call models through the LM that a node gets."
        )
