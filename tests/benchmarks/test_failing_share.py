"""The benchmark of failing requests, in virtual time: what failures cost then is what they make others wait for."""

from __future__ import annotations

import pytest

from tests.benchmarks.failing_share import GRAPHS, SHARES, WORK_S, measured, report


@pytest.mark.not_explored("some thousand requests")
async def test_good_requests_take_what_their_work_takes_whatever_share_fails(virtual_clock) -> None:
    results = await measured(200)

    assert {name: {share: round(took, 6) for share, took in by.items()} for name, by in results.items()} == {
        name: dict.fromkeys(SHARES, WORK_S) for name in GRAPHS
    }


def test_the_target_has_its_line() -> None:
    assert report({"node": {0: 0.01, 10: 0.012, 50: 0.021}}) == [
        "node: p99 of good requests, 0 % failing: 10.00 ms, 10 % failing: 12.00 ms, 50 % failing: 21.00 ms",
        "  target: p99 2.10 × without failures, at most 2: MISSED",
    ]
