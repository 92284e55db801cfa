"""Placed actors in real processes that are killed or busy. What they promise is tested in virtual time, in the files beside."""

from __future__ import annotations

import os

import pytest

from runtime.placement import HostLost, HostStarted
from tests.runtime.placement.soak import busy_handlers, is_kept, thousand_asks

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems")]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_thousand_asks_over_a_host_that_is_killed(attempts, tmp_path):
    """The long form is in ``soak.py``: a hundred times, at random instants."""
    ends = await thousand_asks(attempts, tmp_path / "handled", 0.25)

    assert is_kept(attempts, ends), ends


async def test_hosts_whose_handlers_are_always_busy_are_not_lost():
    """The short form of an hour: in Python, in threads, asleep in the loop, and in C that lets no other thread run."""
    handled, events = await busy_handlers(30.0)

    assert handled > 0
    assert not [event for event in events if isinstance(event, HostLost)]
    assert len([event for event in events if isinstance(event, HostStarted)]) == 2
