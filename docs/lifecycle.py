"""Draws the states of a cell, and lists the moves, from the table that the runtime moves by."""

import html
import itertools
from pathlib import Path

from runtime.core.lifecycle import TRANSITIONS, Move, State

PLACES = {
    State.NEW: (80, 210),
    State.STARTING: (240, 50),
    State.RUNNING: (640, 50),
    State.BACKING_OFF: (440, 185),
    State.STOPPING: (810, 150),
    State.STOPPED: (470, 370),
}
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 880, 420, 110, 40
SHIFT, LABEL = 11, 0.38  # pixels beside the straight line; the part of an arrow at which its name stands


def svg() -> str:
    """The picture. Every state of the table has a place, or this fails."""
    pairs: dict[tuple[State, State], list[str]] = {}
    for (before, move), after in TRANSITIONS.items():
        if before is not after:
            pairs.setdefault((before, after), []).append(move.value)
    arrows = "".join(_arrow(before, after, ", ".join(moves)) for (before, after), moves in pairs.items())
    boxes = "".join(_box(state) for state in State)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{arrows}{boxes}</svg>\n'
    )


def _box(state: State) -> str:
    x, y = PLACES[state]
    return (
        f'<rect x="{x - BOX_WIDTH / 2}" y="{y - BOX_HEIGHT / 2}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" '
        f'fill="#eef3f8" stroke="#34597a"/><text x="{x}" y="{y + 5}" text-anchor="middle">{html.escape(state.value)}</text>'
    )


def _arrow(before: State, after: State, label: str) -> str:
    (x1, y1), (x2, y2) = PLACES[before], PLACES[after]
    length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1)
    # A little to the right of the straight line, so a pair of opposite arrows does not lie on each other.
    right, down = -(y2 - y1) / length * SHIFT, (x2 - x1) / length * SHIFT
    begin = _edge(PLACES[before], (x1 + right, y1 + down), (x2 + right, y2 + down))
    end = _edge(PLACES[after], (x2 + right, y2 + down), (x1 + right, y1 + down))
    x, y = (a + (b - a) * LABEL for a, b in zip(begin, end, strict=True))
    line = f'x1="{begin[0]:.0f}" y1="{begin[1]:.0f}" x2="{end[0]:.0f}" y2="{end[1]:.0f}"'
    return (
        f'<line {line} stroke="#555" marker-end="url(#tip)"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" fill="#333" '
        f'stroke="white" stroke-width="5" paint-order="stroke" font-size="12">{html.escape(label)}</text>'
    )


def _edge(box: tuple[float, float], inside: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a place inside of the box around `box` to another leaves that box."""
    steps = [1.0]
    for middle, half, at, to in zip(box, (BOX_WIDTH / 2, BOX_HEIGHT / 2), inside, other, strict=True):
        if to != at:
            steps.append((middle + (half if to > at else -half) - at) / (to - at))
    return inside[0] + (other[0] - inside[0]) * min(steps), inside[1] + (other[1] - inside[1]) * min(steps)


def table() -> str:
    """The moves as a Markdown table: a row for each state, a column for each move."""
    head = [f"| | {' | '.join(move.value for move in Move)} |", f"|---|{'---|' * len(Move)}"]
    cells = ((state, [TRANSITIONS.get((state, move)) for move in Move]) for state in State)
    rows = [f"| **{state.value}** | {' | '.join(after.value if after else '' for after in line)} |" for state, line in cells]
    return "\n".join(itertools.chain(head, rows)) + "\n"


def write(folder: Path) -> None:
    """Write both into `folder`, which each build makes."""
    folder.mkdir(exist_ok=True)
    (folder / "lifecycle.svg").write_text(svg())
    (folder / "lifecycle.md").write_text(table())
