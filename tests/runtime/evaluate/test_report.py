"""What a person and a build server are shown of an evaluation."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import attrs
import pytest
from trio.testing import MockClock

from runtime import open_runtime
from runtime.evaluate import BadRow, Evaluation, RowResult, evaluate, exact
from runtime.evaluate.comparing import compared
from runtime.evaluate.report import to_html, to_junit, to_text
from runtime.graphs.records.run_record import Spend
from tests.runtime.evaluate.grading import adding, rows

HOSTILE = "<script>alert(1)</script>\x00\u202e"


@pytest.fixture
async def done(autojump_clock: MockClock) -> Evaluation:
    graph = adding(wrong=frozenset({3}), fails=frozenset({5}))
    given = [{**row, "slice": "odd" if row["left"] % 2 else "even"} for row in rows(8)]
    async with open_runtime() as runtime:
        return await evaluate(runtime, graph, given, exact)


async def test_a_terminal_is_shown_a_table(done: Evaluation, autojump_clock: MockClock) -> None:
    text = to_text(attrs.evolve(done, bad=(BadRow("rows.jsonl, line 9", "left: missing"),), stopped="the budget is spent"))

    assert text.splitlines() == [
        "adding: 8 rows, 8 runs, 1 failed",
        "  exact  0.750 ± 0.164",
        "         1.000  even (4)",
        "         0.500  odd (4)",
        "  latency  median 3 s, 95 % within 7 s",
        "  spent    $0.0000, 0 tokens in 0 calls",
        "  left out rows.jsonl, line 9: left: missing",
        "  stopped  the budget is spent",
    ]


async def test_the_page_needs_nothing_else_and_holds_no_markup_of_a_model(done: Evaluation, autojump_clock: MockClock) -> None:
    row = attrs.evolve(done.results[0], id=HOSTILE, input=HOSTILE, output=HOSTILE, error=HOSTILE, slice=HOSTILE)
    row = attrs.evolve(row, reasons={HOSTILE: HOSTILE}, spend=Spend(calls=1, cost_usd=0.1), scores={"exact": -1})
    hostile = attrs.evolve(done, graph=HOSTILE, results=(row, *done.results[1:]), bad=(BadRow(HOSTILE, HOSTILE),))

    page = to_html(hostile, compared(done, done))

    assert "<script" not in page
    assert "http://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "default-src 'none'" in page
    assert "\x00" not in page
    assert page.count("<svg") == 3 + len(hostile.worst())
    assert "exact: undecided" in page


async def test_the_page_names_a_slice_as_a_whole_and_shows_which_rows_failed(done: Evaluation, autojump_clock: MockClock) -> None:
    long = "deliveries of heavy goods"
    slow = attrs.evolve(done, results=tuple(attrs.evolve(row, slice=long, scores={"exact": 0.0}) for row in done.results))

    page = to_html(slow)

    assert f"…<title>{long}</title>" in page
    assert [row.id for row in slow.worst(2)] == ["r5", "r7"], "of equal scores, what failed, then the slowest"
    assert page.count(">failed</span>") == 1


async def test_a_build_server_counts_failures_and_errors(done: Evaluation, autojump_clock: MockClock) -> None:
    hostile = attrs.evolve(done, results=(*done.results, attrs.evolve(done.results[5], id=HOSTILE, error=HOSTILE)))

    suite = ET.fromstring(to_junit(hostile))

    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("9", "1", "2")
    [failed] = [case for case in suite if case.find("failure") is not None]
    assert failed.get("name") == "r3"
    reason = failed.find("failure")
    assert reason is not None
    assert reason.get("message") == "exact 0, less than 0.5"
    assert [case.get("time") for case in suite][:3] == ["0.000", "1.000", "2.000"]


def test_what_strangers_wrote_moves_no_cursor_and_fakes_no_line() -> None:
    """A slice is a text of the data set, and an error may quote what a model has said."""
    evil = "a\x1b[2Jb\u202e\nsums: 9 rows"
    row = RowResult("1", 0, "0", {"m": 0.0}, {"m": f"the metric raised {evil}"}, slice=evil, spend=Spend(calls=1))
    done = Evaluation(evil, ("m",), (row,), (BadRow("rows.jsonl, line 3", evil),))

    lines = to_text(done).splitlines()

    assert len(lines) == 7, lines
    assert all(line.isprintable() for line in lines)
    assert lines[2] == "     0.000  a\\u001b[2Jb\\u202e sums: 9 rows (1)"
    assert lines[4].strip() == "spent    $0.0000, 0 tokens in 1 call"


def test_points_are_small_where_they_are_many() -> None:
    rows_ = [RowResult(f"{at}", 0, "0", {"m": 0.5}, spend=Spend(cost_usd=0.1)) for at in range(501)]

    assert 'r="4"' in to_html(Evaluation("few", ("m",), tuple(rows_[:500])))
    assert 'r="1.5"' in to_html(Evaluation("many", ("m",), tuple(rows_)))
