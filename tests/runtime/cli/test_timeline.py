"""The drawing, character by character, and the numbers under it."""

from __future__ import annotations

import pytest

from runtime.cli.terminal import Style, plain
from runtime.cli.timeline import Measured, Span, Timeline, draw, join, tick_step
from runtime.testing import RequestRecord

TIMELINE = Timeline(
    (
        Span("time", 0.0, 0.01, 0.73, 0.74),
        Span("other", 0.0, 0.75, 1.87, 1.9),
        Span("unseen", 1.9, None, None, 3.0),
    ),
    3.0,
)


def request(model: str, arrived_s: float, ended_s: float | None) -> RequestRecord:
    return RequestRecord(1, "/v1/chat/completions", model, False, arrived_s, {}, {}, ended_s=ended_s)


def test_a_node_is_thin_before_its_request_arrives_and_thick_while_it_is_at_the_server() -> None:
    lines = draw(TIMELINE, scale_s=3.2, style=Style(unicode=True))

    assert [line.rstrip() for line in lines] == [
        "         0 s         1           2            3    start arrive  reply    end",
        "  time   ├━━━━━━━━┤                                0.000  0.010  0.730  0.740",
        "  other  ├────────━━━━━━━━━━━━━━┤                  0.000  0.750  1.870  1.900",
        "  unseen                        ├─────────────┤    1.900      -      -  3.000",
    ]


def test_without_unicode_the_drawing_is_ascii() -> None:
    lines = draw(TIMELINE, scale_s=3.2, style=Style(unicode=False))

    assert lines[2] == "  other  |--------==============|                  0.000  0.750  1.870  1.900"
    assert all(line.isascii() and len(line) <= 80 for line in lines)


def test_colours_change_no_character() -> None:
    coloured = draw(TIMELINE, scale_s=3.2, style=Style(colour=True, unicode=True))

    assert coloured != draw(TIMELINE, scale_s=3.2, style=Style(unicode=True))
    assert [plain(line) for line in coloured] == draw(TIMELINE, scale_s=3.2, style=Style(unicode=True))


def test_a_run_longer_than_the_scale_stretches_it() -> None:
    lines = draw(Timeline((Span("slow", 0.0, 0.0, 9.0, 10.0),), 10.0), scale_s=3.2, style=Style())

    assert lines[0].startswith("         0 s     2       4      6       8   ")
    assert lines[1].startswith("  slow   |===================================---|")


@pytest.mark.parametrize(
    ("scale_s", "step"), [(3.2, 1.0), (0.32, 0.1), (10.0, 2.0), (12.0, 5.0), (1.0, 0.2), (60.0, 20.0), (0.001, 0.0002)]
)
def test_ticks_are_round(scale_s: float, step: float) -> None:
    assert tick_step(scale_s) == step


def test_overlap_is_counted_at_the_server() -> None:
    one_by_one = Timeline((Span("a", 0, 0, 1, 2), Span("b", 0, 1, 2, 2), Span("c", 0, 2, 3, 3)), 3)
    together = Timeline((Span("a", 0, 0, 1, 1), Span("b", 0, 0.5, 1.5, 2), Span("c", 0, 0.9, 2, 2)), 2)

    assert (one_by_one.most_in_flight, one_by_one.ratio) == (1, 3.0)
    assert (together.most_in_flight, together.longest_call_s) == (3, 1.1)


def test_a_measurement_and_the_servers_records_are_joined_by_the_models_name() -> None:
    measured = Measured(100.0, 103.0, {"time": (100.0, 101.0), "other": (100.5, 103.0), "lost": (101.0, 102.0)}, "x")

    timeline = join(measured, [request("other", 101.0, 102.5), request("time", 100.25, 100.75), request("lost", 101.0, None)])

    assert timeline == Timeline(
        (Span("time", 0.0, 0.25, 0.75, 1.0), Span("other", 0.5, 1.0, 2.5, 3.0), Span("lost", 1.0, None, None, 2.0)), 3.0
    )
