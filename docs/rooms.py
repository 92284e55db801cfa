"""Draws the rooms of the source tree and their arrows, and lists the floors inside, from the law in `tests/test_layers.py`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.test_layers import ARROWS, FLOORS

BOX_WIDTH, BOX_HEIGHT, GAP, FLOOR = 190, 34, 24, 84


def floors(rooms: Mapping[str, list[str]] = ARROWS) -> list[list[str]]:
    """The rooms by floor, the lowest first: a room stands one above the highest that it imports."""
    height: dict[str, int] = {}

    def of(room: str) -> int:
        if room not in height:
            height[room] = max((of(below) + 1 for below in rooms[room]), default=0)
        return height[room]

    return [[room for room in rooms if of(room) == level] for level in range(max(map(of, rooms)) + 1)]


def reduced(rooms: Mapping[str, list[str]] = ARROWS) -> list[tuple[str, str]]:
    """The arrows that no path of other arrows implies; the rest would only cover the picture."""

    def reaches(room: str, target: str) -> bool:
        return any(below == target or reaches(below, target) for below in rooms[room])

    return [(a, b) for a, below in rooms.items() for b in below if not any(c != b and reaches(c, b) for c in below)]


def svg() -> str:
    """The picture: arrows go down only."""
    levels = floors()
    width = max(map(len, levels)) * (BOX_WIDTH + GAP) + GAP
    height = len(levels) * FLOOR
    places: dict[str, tuple[float, float]] = {}
    for level, rooms in enumerate(levels):
        left = (width - len(rooms) * (BOX_WIDTH + GAP) + GAP) / 2
        for index, room in enumerate(rooms):
            places[room] = (left + index * (BOX_WIDTH + GAP) + BOX_WIDTH / 2, height - level * FLOOR - FLOOR / 2)
    arrows = "".join(_arrow(*places[a], *places[b]) for a, b in reduced())
    boxes = "".join(_box(room, *place) for room, place in places.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="white"/>{arrows}{boxes}</svg>\n'
    )


def _box(room: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x - BOX_WIDTH / 2}" y="{y - BOX_HEIGHT / 2}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" '
        f'fill="#eef3f8" stroke="#34597a"/><text x="{x}" y="{y + 5}" text-anchor="middle">{room}</text>'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    y1, y2 = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2 - 2
    middle = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + middle:.0f} {x2:.0f} {y2 - middle:.0f} {x2:.0f} {y2:.0f}" '
        'fill="none" stroke="#8a97a3" marker-end="url(#tip)"/>'
    )


def table() -> str:
    """The arrows as a Markdown table, the highest room first, with the folders inside a room from the ground up."""

    def named(names: Iterable[str]) -> str:
        return ", ".join(f"`{name}`" for name in names) or "nothing"

    rows = [
        f"| `{room}` | {named(below)} | {' < '.join(named(floor.split(', ')) for floor in FLOORS.get(room, ()))} |"
        for room, below in reversed(ARROWS.items())
    ]
    return "\n".join(["| room | may import, with what that may import | folders inside |", "|---|---|---|", *rows]) + "\n"


def write(folder: Path) -> None:
    """Write both into `folder`, which each build makes."""
    folder.mkdir(exist_ok=True)
    (folder / "rooms.svg").write_text(svg())
    (folder / "rooms.md").write_text(table())
