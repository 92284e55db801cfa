"""A run's trace for a terminal: one row for each node, its failures, and what it used of language models. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from runtime.cli.terminal import Style, one_line
from runtime.cli.timeline import BAR_COLUMNS, axis
from runtime.traces.steps import Attempt, Call, Trace

NAME_COLUMNS: Final = 16
MOST_ROWS: Final = 60
MOST_ERRORS: Final = 20
ERROR_LINES: Final = 4
"""Of one error; more of it is cut."""
_MARKS: Final[dict[str, tuple[str, str]]] = {
    "waits": ("·", "."),
    "works": ("█", "#"),
    "runs": ("▒", ">"),
    "cancelled": ("░", "-"),
    "failed": ("✗", "x"),
}
"""What is drawn where a node waits, works, and so on: in Unicode, and in ASCII."""
_ORDER: Final = ("", "waits", "cancelled", "runs", "works", "failed")
"""What covers what, where several attempts of a node are at the same time."""


def draw_trace(trace: Trace, style: Style) -> Iterator[str]:
    """The lines, none longer than 80 columns. Names and errors are made safe to print."""
    yield f"run {one_line(trace.run)} of {one_line(trace.graph)}: {_ended(trace)}"
    if trace.missed:
        yield f"  {trace.missed} events are not there any more, so steps are missing"
    if not trace.attempts:
        yield "  no node has begun"
        return
    scale_s = max(trace.duration_us, 1) / 1e6
    yield style.dim(f"{'':{NAME_COLUMNS + 2}}{axis(scale_s)} {'steps':>6} {'longest':>9}")
    rows = list(trace.nodes.items())
    for node, attempts in rows[:MOST_ROWS]:
        yield _row(trace, node, attempts, style)
    if len(rows) > MOST_ROWS:
        yield style.dim(f"  … and {len(rows) - MOST_ROWS} more nodes: -o FILE.html shows them all")
    yield style.dim("  " + "  ".join(f"{_mark(kind, style)} {kind}" for kind in _MARKS))
    yield from _calls(trace)
    yield from _errors(trace, style)


def _ended(trace: Trace) -> str:
    took = seconds_text(trace.duration_us)
    return f"{trace.status} after {took}" if trace.is_over else f"{trace.status}, {took} so far"


def seconds_text(us: int) -> str:
    """A duration for people: "850 µs", "12.3 ms", "1.204 s"."""
    if us < 1_000:
        return f"{us} µs"
    return f"{us / 1e3:.1f} ms" if us < 1_000_000 else f"{us / 1e6:.3f} s"


def _row(trace: Trace, node: str, attempts: Sequence[Attempt], style: Style) -> str:
    cells = [""] * BAR_COLUMNS
    for attempt in attempts:
        end_us = trace.end_of(attempt)
        _fill(cells, trace, attempt.delivered_us, attempt.began_us, "waits")
        kind = {"running": "runs", "cancelled": "cancelled"}.get(attempt.status, "works")
        _fill(cells, trace, attempt.began_us, end_us, kind)
        if attempt.status in ("retrying", "fell back", "failed"):
            _fill(cells, trace, max(attempt.began_us, end_us - 1), end_us, "failed")
    bar = "".join(_painted(kind, style) for kind in cells)
    longest = seconds_text(max(trace.end_of(attempt) - attempt.began_us for attempt in attempts))
    name = one_line(node)
    name = name if len(name) <= NAME_COLUMNS else f"{name[: NAME_COLUMNS - 1]}{'…' if style.unicode else '~'}"
    return f"  {name:{NAME_COLUMNS}}{bar} {len(attempts):6} {longest:>9}"


def _fill(cells: list[str], trace: Trace, begin_us: int, end_us: int, kind: str) -> None:
    """Draw it, at least one cell wide unless it takes no time."""
    if end_us <= begin_us and kind == "waits":
        return
    span_us = max(trace.duration_us, 1)
    first = min(BAR_COLUMNS - 1, BAR_COLUMNS * (begin_us - trace.began_us) // span_us)
    last = min(BAR_COLUMNS, max(first + 1, -(-BAR_COLUMNS * (end_us - trace.began_us) // span_us)))
    for place in range(max(0, first), last):
        if _ORDER.index(kind) > _ORDER.index(cells[place]):
            cells[place] = kind


def _mark(kind: str, style: Style) -> str:
    return _MARKS[kind][0 if style.unicode else 1]


def _painted(kind: str, style: Style) -> str:
    if not kind:
        return " "
    mark = _mark(kind, style)
    paint = {"waits": style.dim, "works": style.good, "failed": style.bad, "runs": style.accent}.get(kind)
    return mark if paint is None else paint(mark)


def _calls(trace: Trace) -> Iterator[str]:
    models: dict[str, list[Call]] = {}
    for attempt in trace.attempts:
        for call in attempt.calls:
            models.setdefault(call.model, []).append(call)
    for model, calls in models.items():
        prompt, completion = sum(call.prompt_tokens for call in calls), sum(call.completion_tokens for call in calls)
        failed = sum(call.error is not None for call in calls)
        told = f", {failed} failed" if failed else ""
        yield f"  {one_line(model)}: {_many(len(calls), 'call')}{told}, {prompt} + {completion} tokens, ${_cost(calls):.6f}"


def _cost(calls: Sequence[Call]) -> float:
    return sum(call.cost_usd for call in calls)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _errors(trace: Trace, style: Style) -> Iterator[str]:
    failed = [attempt for attempt in trace.attempts if attempt.error is not None]
    for attempt in failed[:MOST_ERRORS]:
        why: Any = (attempt.error or {}).get("message") or ""
        text = one_line(f"{attempt.path}, attempt {attempt.attempt}, {attempt.status}: {attempt.error_type}: {why}")
        yield from map(style.bad, _wrapped(text, style))
    if len(failed) > MOST_ERRORS:
        yield style.dim(f"  … and {len(failed) - MOST_ERRORS} more failed attempts")


def _wrapped(text: str, style: Style) -> list[str]:
    more = " …" if style.unicode else " ..."
    return textwrap.wrap(
        text,
        style.columns - 1,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        max_lines=ERROR_LINES,
        placeholder=more,
    )
