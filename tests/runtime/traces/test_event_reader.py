"""Files of events, and files that are none: the error names the line, the cause and how to fix it."""

from __future__ import annotations

import copy
import json
import random
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from actors.errors import UsageError
from runtime.cli.blame_drawing import draw_blame
from runtime.cli.terminal import Style
from runtime.cli.trace_drawing import draw_trace
from runtime.traces import blame_of, trace_of
from runtime.traces.chrome import chrome_trace
from runtime.traces.event_reader import of_run, read_events
from runtime.traces.trace_svg import draw_trace as draw_svg
from tests.runtime.traces.random_runs import random_run


def line(seq: int, event: str = "run.started", run: str = "r", **more: Any) -> str:
    return json.dumps({"v": 1, "seq": seq, "event": event, "elapsed_s": 0.5 * seq, "run": run, **more})


STEP: dict[str, Any] = {"node": "ask", "path": "g/ask/0", "attempt": 1}


def test_events_are_read_in_their_order_and_empty_lines_count_for_nothing() -> None:
    text = f"{line(0)}\n\n{line(1, 'node.started', **STEP)}\r\n{line(2, 'run.finished')}\n"

    assert [event["seq"] for event in read_events(text, "x")] == [0, 1, 2]


def test_events_of_kinds_that_are_not_known_are_no_mistake() -> None:
    assert len(read_events(line(0) + "\n" + line(1, "moon.risen", phase=3), "x")) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "x is empty: it holds no events"),
        ("\n\n", "x is empty: it holds no events"),
        (line(0)[:40], "x, line 1 cannot be read: it isn't JSON"),
        (line(0)[:40] + "\n" + line(1) + "\n", "x, line 1 cannot be read: it isn't JSON"),
        ('{"traceEvents": []}\n', "x, line 1 isn't an event: it isn't an object with an 'event'"),
        ("[1]\n", "x, line 1 isn't an event"),
        ("import os\n", "x, line 1 cannot be read: it isn't JSON"),
        ("[" * 100_000, "x, line 1 cannot be read: it is nested too deeply"),
        (line(0).replace('"v": 1', '"v": 2'), "x, line 1 was written by a newer version: its form is 2"),
        (
            line(0) + "\n" + line(1, "node.started", node="a", path=3, attempt=1),
            "x, line 2 is no node.started of ours: 'path' is 3",
        ),
        (line(0, elapsed_s="soon"), "x, line 1 is no run.started of ours: 'elapsed_s' is \"soon\""),
        ('{"v": 1, "seq": 0, "event": "actor.started", "elapsed_s": 0.1}', "x holds no events of a run"),
    ],
)
def test_what_is_no_file_of_events_is_told_with_its_line_its_cause_and_the_fix(text: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_events(text, "x")

    assert str(raised.value).startswith(told)
    assert "\n  Fix: " in str(raised.value)


@pytest.mark.parametrize("end", [1, 7, 40])
def test_a_last_line_that_ends_in_the_middle_is_left_out_and_that_is_told(end: int) -> None:
    told: list[str] = []
    text = f"{line(0)}\n{line(1)}\n{line(2)[:end]}"

    assert [event["seq"] for event in read_events(text, "x", told.append)] == [0, 1]
    assert [event["seq"] for event in read_events(text, "x")] == [0, 1]
    [words] = told
    assert words.startswith("x, line 3 ends in the middle and is left out")
    assert [event["seq"] for event in read_events(f"{line(0)}\n{line(1)}", "x", told.append)] == [0, 1]
    assert len(told) == 1


WRONG: tuple[Any, ...] = (None, "x", -1, 10**400, float("nan"), float("inf"), -1e300, True, 1.5, [], [1], [[]], {}, {"type": 1})


def test_no_field_of_the_wrong_type_and_no_order_of_events_breaks_what_is_made_of_them() -> None:
    """Each field of each event of random runs is something else once, at random; each run's events come in another order."""
    rng = random.Random(7)
    runs = [trio.run(partial(random_run, seed), clock=trio.testing.MockClock(autojump_threshold=0)).events for seed in (4, 11)]
    read = 0
    for _ in range(400):
        events = copy.deepcopy(list(rng.choice(runs)))
        if rng.random() < 0.2:
            rng.shuffle(events)
        else:
            place: Any = rng.choice(events)
            while isinstance(place[name := rng.choice(list(place))], dict) and place[name] and rng.random() < 0.7:
                place = place[name]
            if isinstance(place[name], list) and place[name] and isinstance(place[name][0], dict):
                place, name = place[name][0], rng.choice(list(place[name][0]))
            place[name] = rng.choice(WRONG)
        try:
            trace = trace_of(of_run(read_events("\n".join(map(json.dumps, events)), "x"), None, "x"))
        except UsageError:
            continue
        read += 1
        for draw in (draw_trace, lambda trace, style: draw_blame(blame_of(trace), style)):
            assert all(isinstance(text, str) for text in draw(trace, Style()))
        assert draw_svg(trace).startswith("<svg ")
        assert chrome_trace(trace)
    assert read > 100


def test_of_several_runs_one_is_chosen() -> None:
    events = read_events("\n".join([line(0, run="a"), line(0, run="b"), line(1, "run.finished", run="a")]), "x")

    assert [event["seq"] for event in of_run(events, "a", "x")] == [0, 1]
    with pytest.raises(UsageError, match=r"x holds events of 2 runs: a, b\.\n  Fix: choose one with --run a"):
        of_run(events, None, "x")
    with pytest.raises(UsageError, match=r"x has no run 'c'\.\n  Fix: choose one of those it has: a, b"):
        of_run(events, "c", "x")
