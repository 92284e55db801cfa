"""Draws the states of a cell, and lists the moves, from the table that the runtime moves by."""

import html
import itertools
from pathlib import Path

from runtime.core.lifecycle import TRANSITIONS, Move, State

PLACES = {
    State.NEW: (80, 190),
    State.STARTING: (270, 50),
    State.RUNNING: (610, 50),
    State.BACKING_OFF: (440, 170),
    State.STOPPING: (800, 190),
    State.STOPPED: (440, 330),
}
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 880, 380, 110, 40


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
    across, along = -(y2 - y1) / length, (x2 - x1) / length
    shift = 13
    x1, y1, x2, y2 = x1 + across * shift, y1 + along * shift, x2 + across * shift, y2 + along * shift
    (x1, y1), (x2, y2) = _edge(x1, y1, x2, y2), _edge(x2, y2, x1, y1)
    return (
        f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#555" marker-end="url(#tip)"/>'
        f'<text x="{x1 + (x2 - x1) * 0.4:.0f}" y="{y1 + (y2 - y1) * 0.4 + 4:.0f}" text-anchor="middle" fill="#333" '
        f'stroke="white" stroke-width="5" paint-order="stroke" font-size="12">{html.escape(label)}</text>'
    )


def _edge(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """Where the line from the middle of a box leaves the box."""
    dx, dy = to_x - x, to_y - y
    scale = min(BOX_WIDTH / 2 / abs(dx) if dx else 9.0, (BOX_HEIGHT / 2 + 3) / abs(dy) if dy else 9.0, 1.0)
    return x + dx * scale, y + dy * scale


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
