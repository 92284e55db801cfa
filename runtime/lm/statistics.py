"""One look at a language model of a runtime: what it may do, and what it is doing."""

from __future__ import annotations

import math
from typing import final

import attrs

from runtime.lm.limits.account import AccountStatistics
from runtime.lm.limits.budget import Budget


@final
@attrs.frozen
class ModelStatistics:
    """One look at a language model of a runtime."""

    model: str
    """As it was asked for; of one that is no ``LMClient``, the name of its class."""
    names: tuple[str, ...] = ()
    """Those in ``open_runtime(lms=…)``; ``"default"`` is the runtime's default. Empty for one that only a node has."""
    is_client: bool = True
    """Whether it is an ``LMClient``; of others nothing more is known."""
    is_open: bool = False
    max_connections: int = 0
    """The most requests on their way."""
    in_flight: int = 0
    """Requests that hold one of these places."""
    waiting: int = 0
    """Calls that wait for a place."""
    rpm: float = math.inf
    """Requests that the provider account may get in a minute."""
    tpm: float = math.inf
    """Tokens in a minute."""
    requests_used: float = 0.0
    """How much of `rpm` is used now; 0 without a limit."""
    tokens_used: float = 0.0
    """How much of `tpm` is used now."""
    account: AccountStatistics | None = None
    """What its provider bears; None before the first call."""
    budget: Budget | None = None
    """What the client may spend; None where only the runtime limits it."""
    fallbacks: tuple[str, ...] = ()
    """The models that answer when this one cannot."""
