"""Every program runs three times: as it is, with mailboxes of one message, and with its busiest actor struck five times."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

from actors import Backoff, MailboxSpec, Supervision
from runtime import open_runtime
from tests.savina.stage import Fate, Stage

VARIANTS = {
    "plain": (MailboxSpec(), ()),
    "capacity 1": (MailboxSpec(capacity=1), ()),
    "killed": (MailboxSpec(), (2, 5, 6, 20, 41)),
}
NEVER_GIVE_UP = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0))
"""The next life begins at once: nothing here sleeps."""


@pytest.fixture(params=VARIANTS)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    mailbox, strikes = VARIANTS[request.param]
    async with open_runtime(seed=1, supervision=NEVER_GIVE_UP) as runtime:
        stage = Stage(runtime, mailbox, Fate(strikes))
        yield stage
        assert list(runtime.dead_letters) == []
        assert stage.fate.left == 0, "the actor that was to be killed survived"


def not_killed(reason: str) -> pytest.MarkDecorator:
    """Only the first two variants: `reason` says why a crash has no meaning here."""
    assert reason
    return pytest.mark.parametrize("stage", ["plain", "capacity 1"], indirect=True)
