"""What is left of very many durable runs, counted."""

from __future__ import annotations

import pytest
import trio

from tests.runtime.journal.many import main


@pytest.mark.chaos
def test_a_hundred_thousand_runs_leave_memory_and_the_file_as_they_were_after_the_first_part():
    first, *_, last = trio.run(main, 100_000)

    assert last[1] <= 1.02 * first[1], "objects"
    assert last[2] <= 1.1 * first[2], "pages"
