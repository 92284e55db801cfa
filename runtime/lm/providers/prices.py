"""What one model's tokens cost, by LiteLLM's table."""

from __future__ import annotations

from typing import Any, final

from runtime.lm.providers.known import SERVERS_OF_ONES_OWN
from runtime.lm.providers.library import load
from runtime.lm.providers.routes import Route


@final
class Prices:
    """The prices of one model."""

    def __init__(self) -> None:
        self._is_priced = True

    def of_reply(self, route: Route, parsed: Any, kind: str) -> float | None:
        """What LiteLLM's reply `parsed` cost, in US dollars; None for a model without a price.

        Args:
            route: where the model lives.
            parsed: LiteLLM's object for the reply.
            kind: the operation, by LiteLLM's name: ``"completion"`` or ``"embedding"``.
        """
        if not self._is_priced or route.provider in SERVERS_OF_ONES_OWN:
            return None
        try:
            return float(load().completion_cost(parsed, model=route.model, custom_llm_provider=route.provider, call_type=kind))
        except Exception:  # noqa: BLE001 - LiteLLM raises bare Exception for a model that its table does not price
            self._is_priced = False
            return None

    def of_tokens(self, route: Route, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost, in US dollars; 0 for a model without a price."""
        if route.provider in SERVERS_OF_ONES_OWN:
            return 0.0
        try:
            prompt_usd, completion_usd = load().cost_per_token(
                model=route.model,
                custom_llm_provider=route.provider,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        except Exception:  # noqa: BLE001 - LiteLLM raises bare Exception for a model that its table does not price
            return 0.0
        return float(prompt_usd) + float(completion_usd)
