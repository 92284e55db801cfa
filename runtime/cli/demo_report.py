"""The demo's findings, laid out for a terminal of 80 columns. Pure: lists of lines."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from runtime.cli import study
from runtime.cli.demo_trio import FAILING, Happening
from runtime.cli.terminal import Style, one_line
from runtime.cli.timeline import Timeline, draw

VARIANTS: Final[Mapping[str, str]] = {
    "a": "one after another (synchronous DSPy)",
    "b": "async functions that call synchronous DSPy (the mistake)",
    "c": "threads with synchronous DSPy",
    "d": "asyncio with DSPy's acall",
    "e": "understudy: supervised actors on trio",
}
TARGET_RATIO: Final = 1.05


def introduction(style: Style, scale: float) -> list[str]:
    """What is about to be shown."""
    latencies = ", ".join(f"{each.latency_s * scale:.4g}" for each in study.EXTRACTORS)
    what = (
        "A question becomes a Cypher query: three language-model calls find its time filters, its other filters and what to "
        f"search by meaning; then they are merged. A provider on this machine answers after {latencies} s."
    )
    why = (
        "A study found such calls running one after another, 4.3 s in all, and blamed synchronous clients in threads. "
        "Here are five ways to make the same calls, as they look from the provider."
    )
    return [style.bold("Three language-model calls, five ways"), "", *_wrapped(what, style), "", *_wrapped(why, style)]


def cold_start(style: Style, seconds: Mapping[str, float]) -> list[str]:
    """What the first calls cost, apart from everything else."""
    shown = " · ".join(f"{name} {time_s:.2f} s" for name, time_s in seconds.items())
    return [*_wrapped(f"Cold start, not counted below: {shown}", style)]


def legend(style: Style) -> list[str]:
    """What the characters of a drawing mean."""
    opening, thin, thick, closing = "├─━┤" if style.unicode else "|-=|"
    parts = f"{opening} node starts   {thick} its request is at the server   {thin} it is not   {closing} node ends"
    return [style.dim(f"  {parts}")]


def variant(key: str, timeline: Timeline, *, scale_s: float, style: Style) -> list[str]:
    """One way to make the calls: its drawing and what it comes to."""
    return [style.bold(f"({key}) {VARIANTS[key]}"), *draw(timeline, scale_s=scale_s, style=style), _sum(timeline, style)]


def _sum(timeline: Timeline, style: Style) -> str:
    requests = "request" if timeline.most_in_flight == 1 else "requests"
    dot, times = ("·", "×") if style.unicode else ("-", "x")
    ratio = f"{timeline.ratio:.2f} {times} the longest call"
    paint = style.good if timeline.ratio <= TARGET_RATIO else style.bad
    return (
        f"  {timeline.most_in_flight} {requests} in flight at most {dot} "
        f"makespan {timeline.makespan_s:.3f} s {dot} {paint(ratio)}"
    )


def same_output(output: str, style: Style) -> list[str]:
    """That every way gave the same query, and which."""
    return [style.bold("All made the same query"), *_wrapped(one_line(output), style)]


def conclusion(runs: Mapping[str, Timeline]) -> str:
    """What the measurements say; they could be otherwise on a machine that is busy."""
    if runs["c"].most_in_flight >= study.OVERLAPPING and runs["b"].most_in_flight == 1:
        return (
            "Synchronous clients in threads do not serialise; synchronous calls in async functions do. The staircase in the "
            "study's log is when the responses came, not when the requests went out."
        )
    return "On this machine the measurements do not distinguish the variants; run the demo again when it is idle."


def concluded(runs: Mapping[str, Timeline], style: Style) -> list[str]:
    """The same, laid out."""
    return [style.bold("What follows"), *_wrapped(conclusion(runs), style)]


def failure(happenings: Sequence[Happening], undisturbed_s: float, style: Style) -> list[str]:
    """What happened when a call failed; `undisturbed_s` is how long the same run takes without."""
    lines = [style.bold(f"A failure: the provider answers the first call of '{FAILING}' with a 500")]
    for each in happenings:
        who = f"{each.who:<11}"
        what = _fitting(one_line(each.what), style)
        lines.append(f"  {style.dim(f'{each.at_s:7.3f} s')}  {who}{style.bad(what) if each.is_failure else what}")
    took_s = max((each.at_s for each in happenings), default=0.0)
    return [*lines, *_wrapped(f"The run took {took_s:.3f} s; undisturbed, as (e), it took {undisturbed_s:.3f} s.", style)]


def _wrapped(text: str, style: Style, indent: int = 2) -> list[str]:
    margin = " " * indent
    shown = _fitting(text, style)
    return textwrap.wrap(shown, max(style.columns, 40), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _fitting(text: str, style: Style) -> str:
    """`text` in ASCII where the terminal has no more."""
    return text if style.unicode else text.replace("·", "-").replace("×", "x").replace("…", "...")
