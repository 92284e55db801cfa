"""Where a run's time and money went, as a table for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from runtime.cli.terminal import Style, one_line
from runtime.cli.trace_drawing import seconds_text
from runtime.traces.blame import Blame, Cause, Share

MOST_ROWS: Final = 30
NAME_COLUMNS: Final = 23


def draw_blame(blame: Blame, style: Style) -> Iterator[str]:
    """The lines, none longer than 80 columns: what each node's part comes to by cause, then the causes together."""
    yield style.bold("blame: what the run had to wait for, and what it paid for")
    yield style.dim(f"  {'node':{NAME_COLUMNS}} {'cause':13}{'time':>10}{'':>6}{'tokens':>14}{'cost':>11}")
    for share in blame.shares[:MOST_ROWS]:
        yield _row(share.node or "(between nodes)", share, blame, style)
    if len(blame.shares) > MOST_ROWS:
        yield style.dim(f"  … and {len(blame.shares) - MOST_ROWS} smaller parts")
    causes = blame.by_cause()
    yield style.dim("  all nodes")
    for share in causes:
        yield _row("", share, blame, style)
    yield _row("the whole run", _whole(causes), blame, style)


def _whole(shares: Sequence[Share]) -> Share:
    return Share(
        "",
        Cause.WORK,
        sum(share.time_us for share in shares),
        sum(share.requests for share in shares),
        sum(share.prompt_tokens for share in shares),
        sum(share.completion_tokens for share in shares),
        sum(share.cost_usd for share in shares),
    )


def _row(name: str, share: Share, blame: Blame, style: Style) -> str:
    name = one_line(name)
    name = name if len(name) <= NAME_COLUMNS else f"{name[: NAME_COLUMNS - 1]}{'…' if style.unicode else '~'}"
    cause = "" if name == "the whole run" else str(share.cause)
    time = seconds_text(share.time_us) if share.time_us else ""
    part = f"{100 * share.time_us / blame.duration_us:.0f} %" if share.time_us and blame.duration_us else ""
    tokens = f"{share.prompt_tokens} + {share.completion_tokens}" if share.prompt_tokens or share.completion_tokens else ""
    cost = f"${share.cost_usd:.6f}" if share.cost_usd else ""
    line = f"  {name:{NAME_COLUMNS}} {cause:13}{time:>10}{part:>6}{tokens:>14}{cost:>11}".rstrip()
    return line if share.cause in (Cause.WORK, Cause.PERSON, Cause.RUNTIME) else style.bad(line)
