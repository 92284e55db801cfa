"""What a language model can do beside plain text, as DSPy asks for it before it makes a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

NAMES = ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params")
"""DSPy's names of the four."""


@attrs.frozen
class Abilities:
    """What one model can do; nothing but text, where nothing is known."""

    supports_function_calling: bool = False
    """It takes ``tools``."""
    supports_reasoning: bool = False
    """It can be asked to think before it answers."""
    supports_response_schema: bool = False
    """It can be held to a JSON schema."""
    supported_params: frozenset[str] = frozenset()
    """OpenAI's names of the options that it takes."""

    @classmethod
    def of(cls, lm: Any) -> Abilities:
        """Those of `lm`, as far as it says them."""
        flags = {name: bool(getattr(lm, name, False)) for name in NAMES[:-1]}
        return cls(**flags, supported_params=frozenset(getattr(lm, "supported_params", ())))

    @classmethod
    def shared(cls, models: Iterable[Abilities]) -> Abilities:
        """What all of the `models`, at least one, can do: any of them may have to answer."""
        known = list(models)
        params = known[0].supported_params
        for each in known[1:]:
            params &= each.supported_params
        return cls(
            supports_function_calling=all(each.supports_function_calling for each in known),
            supports_reasoning=all(each.supports_reasoning for each in known),
            supports_response_schema=all(each.supports_response_schema for each in known),
            supported_params=params,
        )


class PassesAbilities:
    """For a language model in front of another, ``_lm``: it can do what that one can."""

    _lm: Any

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model takes ``tools``."""
        return bool(getattr(self._lm, "supports_function_calling", False))

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model can be asked to think before it answers."""
        return bool(getattr(self._lm, "supports_reasoning", False))

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model can be held to a JSON schema."""
        return bool(getattr(self._lm, "supports_response_schema", False))

    @property
    def supported_params(self) -> frozenset[str]:
        """OpenAI's names of the options that the model takes."""
        return frozenset(getattr(self._lm, "supported_params", ()))

    async def warm_up(self) -> None:
        """Import what the model's first call needs."""
        await warmed_up(self._lm)


async def warmed_up(lm: Any) -> None:
    """Import what the first call of `lm` needs, if it needs anything; no checkpoint otherwise."""
    warm_up = getattr(lm, "warm_up", None)
    if warm_up is not None:
        await warm_up()
