"""What one model's tokens cost, by LiteLLM's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from runtime.lm.providers.import_litellm import load
from runtime.lm.providers.known import SERVERS_OF_ONES_OWN
from runtime.lm.providers.model_routes import ModelRoute
from runtime.lm.providers.plain import PlainAnswer
from runtime.lm.providers.plain_calls import PlainModel


@final
class Prices:
    """The prices of one model. `plain` gives the model where LiteLLM is not needed for all of them."""

    def __init__(self, plain: Callable[[], PlainModel | None]) -> None:
        self._plain = plain
        self._is_priced = True

    def of_reply(self, route: ModelRoute, parsed: Any, kind: str) -> float | None:
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
            # Or for a usage that it cannot read: one odd reply must not make all later ones cost nothing.
            # test_one_usage_that_has_no_price_does_not_make_the_next_answers_cost_nothing breaks otherwise.
            self._is_priced = self._of_tokens(route, 1, 1) is not None
            return None

    def of_plain(self, route: ModelRoute, plain: PlainAnswer) -> float | None:
        """What a reply of nothing but a text cost; see :meth:`of_reply`."""
        if not self._is_priced or route.provider in SERVERS_OF_ONES_OWN:
            return None
        own = self._plain()
        if own is not None and own.knows_cost(plain):
            return own.cost_usd(plain)
        litellm = load()
        model = plain.model if route.provider == "openai" else f"{route.provider}/{plain.model}"
        parsed = litellm.ModelResponse(model=model, usage=litellm.Usage(**plain.usage))
        if plain.service_tier is not None:
            parsed.service_tier = plain.service_tier
        return self.of_reply(route, parsed, "completion")

    def of_tokens(self, route: ModelRoute, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost, in US dollars; 0 for a model without a price."""
        return self._of_tokens(route, prompt_tokens, completion_tokens) or 0.0

    def _of_tokens(self, route: ModelRoute, prompt_tokens: int, completion_tokens: int) -> float | None:
        if route.provider in SERVERS_OF_ONES_OWN:
            return None
        own = self._plain()
        if own is not None:
            return own.prices.of_tokens(prompt_tokens, completion_tokens) if own.prices is not None else None
        try:
            prompt_usd, completion_usd = load().cost_per_token(
                model=route.model,
                custom_llm_provider=route.provider,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        except Exception:  # noqa: BLE001 - LiteLLM raises bare Exception for a model that its table does not price
            return None
        return float(prompt_usd) + float(completion_usd)
