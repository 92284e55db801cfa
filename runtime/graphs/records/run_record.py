"""What a run shows: where it is, its steps, and what it has used of language models."""

from __future__ import annotations

import enum
from typing import final

import attrs


@final
class RunStatus(enum.StrEnum):
    """Where a run is; equal to its plain word."""

    RUNNING = "running"
    WAITING = "waiting"
    """For a person or a signal; of a stored run also: no worker has it in memory, and it waits for one."""
    PARKED = "parked"
    """Of a stored run: it waits for a decision; see ``RunParked``."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@final
class StepStatus(enum.StrEnum):
    """Where one message is at one node; equal to its plain word."""

    QUEUED = "queued"
    """It waits in the node's mailbox."""
    RUNNING = "running"
    """The node works on it."""
    ASKED = "asked"
    """A person was asked, and has not answered."""
    RETRYING = "retrying"
    """An attempt has failed, and it will be delivered again."""
    FALLING_BACK = "falling back"
    """It has had all its attempts, and the node's fallback works on it."""
    DONE = "done"
    FAILED = "failed"
    """The node gave up on it."""
    CANCELLED = "cancelled"
    """No one wants its result any more."""


@final
@attrs.define(eq=False)
class Step:
    """One message at one node, or one call of a tool there, in ``RunHandle.trace``."""

    node: str
    path: str
    delivered_at_s: float
    """When it was put into the node's mailbox; the runtime's clock, in seconds."""
    started_at_s: float | None = None
    """When its last attempt began; None while it waits."""
    ended_at_s: float | None = None
    attempt: int = 0
    """How many times it was begun."""
    status: StepStatus = StepStatus.QUEUED
    """``"queued"``, ``"running"``, ``"retrying"``, ``"falling back"``, ``"done"``, ``"failed"`` or ``"cancelled"``."""
    tool: str | None = None
    """For a call of a tool: the tool. `node` is then the node whose language model called it."""
    put_off: tuple[float, float] | None = attrs.field(default=None, repr=False, init=False)
    """Since when it waits for another attempt, and for how long at least; None while it waits for its first."""

    @property
    def waits_since_s(self) -> float:
        """Since when it has waited for its latest attempt; the runtime's clock, in seconds."""
        return self.delivered_at_s if self.put_off is None else self.put_off[0]

    @property
    def backoff_s(self) -> float:
        """How long its latest attempt was held back after the failure before it; in seconds, 0 for the first attempt."""
        return 0.0 if self.put_off is None else self.put_off[1]

    def wait_again(self, status: StepStatus, now_s: float) -> None:
        """An attempt has failed, and another is to come."""
        self.status, self.put_off = status, (now_s, 0.0)

    def hold_back(self, delay_s: float) -> None:
        """The next attempt comes no sooner than `delay_s` seconds after the failure."""
        self.put_off = (self.waits_since_s, delay_s)


@final
@attrs.frozen
class Spend:
    """What a run has used of language models so far, without an answer too: in calls cut short and streams left early."""

    calls: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of the calls whose model has a known price."""
    estimated_tokens: int = 0
    """Those of the tokens that were counted by the length of prompts and pieces, because no provider reported what was used."""
    uncertain_calls: int = 0
    """Calls that were in flight when a process of the run ended: what they cost is not known, and is in none of the figures."""

    def plus(self, other: Spend) -> Spend:
        """Both together."""
        return Spend(
            self.calls + other.calls,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.estimated_tokens + other.estimated_tokens,
            self.uncertain_calls + other.uncertain_calls,
        )
