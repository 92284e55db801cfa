"""Power cuts: a file system that keeps apart what was written and what was synced, and loses what was not.

The store's own writer runs on apsw here, whose virtual file systems can be written in Python; its statements are the same.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw
import attrs
import pytest
import trio

from runtime.journal import SqliteStore, sqlite_writer
from runtime.journal.records import Record, RecordKind
from runtime.journal.sqlite_file import FileNames, bring_up_to_date
from runtime.journal.sqlite_rows import Sealing
from runtime.journal.sqlite_runs import create
from runtime.journal.sqlite_syncs import LogFile
from runtime.testing.stores.samples import journal, new_run

MODES: Final = ("nothing", "prefix", "any")
"""Of the writes that were not synced, which are on the platter: none, the first few, any of them."""


@attrs.define(eq=False)
class Platter:
    """One file: what is safe, and what was written since."""

    safe: bytearray = attrs.field(factory=bytearray)
    since: list[tuple[int, bytes | None]] = attrs.field(factory=list[tuple[int, bytes | None]])
    """Offset and data; without data a truncation to that size."""

    def sync(self, count: int | None = None) -> None:
        """All that was written, or the first so many, is safe."""
        synced = self.since[:count]
        for offset, written in synced:
            _apply(self.safe, offset, written)
        del self.since[: len(synced)]

    def after_cut(self, mode: str, chance: random.Random) -> bytes:
        left, kept = bytearray(self.safe), self.since
        if mode == "nothing":
            kept = []
        elif mode == "prefix":
            kept = kept[: chance.randrange(len(kept) + 1)]
        else:
            kept = [change for change in kept if chance.random() < 0.5]
        for offset, written in kept:
            _apply(left, offset, written)
        return bytes(left)


def _apply(data: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del data[offset:]
        return
    data.extend(b"\0" * (offset + len(written) - len(data)))
    data[offset : offset + len(written)] = written


class Disk(apsw.VFS):  # type: ignore[misc, unused-ignore]
    """Files as SQLite sees them, and beside them what of each would survive a cut."""

    def __init__(self, cut_at: int, cut: Callable[[], None]) -> None:
        self.platters: dict[str, Platter] = {}
        self._left = cut_at
        self._cut = cut
        super().__init__("power", "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return DiskFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self.platters.pop(name, None)
        super().xDelete(name, sync)

    def sync(self, name: str) -> None:
        """The store syncs the log itself, beside SQLite."""
        platter = self.platters[name]
        written = len(platter.since)  # what is written meanwhile isn't covered
        self.step()
        platter.sync(written)

    def step(self) -> None:
        """Before each operation on a file; at one of them the power is cut."""
        self._left -= 1
        if self._left == 0:
            self._cut()


class DiskFile(apsw.VFSFile):  # type: ignore[misc, unused-ignore]
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._platter = disk.platters.setdefault(name.filename() if hasattr(name, "filename") else str(name), Platter())

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.step()
        self._platter.since.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._platter.since.append((size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.step()
        super().xSync(flags)
        self._platter.sync()


async def cut_once(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, seed: int) -> tuple[int, int]:
    """Write records in two runs, cut the power at some operation, and look; returns how many were acknowledged and lost."""
    chance = random.Random(seed)
    appended: list[Record] = []
    acknowledged: list[tuple[Record, bool]] = []
    at_cut: list[int] = []
    path, left = folder / "runs.db", folder / "left"
    left.mkdir()

    def cut() -> None:
        at_cut.append(len(acknowledged))
        for name, platter in disk.platters.items():
            left.joinpath(Path(name).name).write_bytes(platter.after_cut(mode, chance))

    disk = Disk(chance.randrange(60, 900), cut)
    db: Any = apsw.Connection(str(path), vfs="power")
    for pragma in ("journal_mode=wal", "wal_autocheckpoint=0", "synchronous=full"):
        db.execute(f"pragma {pragma}")
    bring_up_to_date(db, path)
    first = {name: Record.of(name, 1, RecordKind.STARTED, "", 1.0, b"{}") for name in "ab"}
    for name, row in first.items():
        create(new_run(name), [row], "w", 1, Sealing(), db)
    async with trio.open_nursery() as nursery:
        log = LogFile(path)
        monkeypatch.setattr(LogFile, "sync", lambda _: disk.sync(f"{path}-wal"))
        writer = sqlite_writer.SqliteWriter(db, path, FileNames(path), log, "w", "paid", Sealing(), nursery)
        last = dict.fromkeys("ab", 1)
        while not at_cut and len(acknowledged) < 400:
            name = chance.choice("ab")
            last[name] += 1
            row = Record.of(name, last[name], RecordKind.FINISHED, "g/n", 1.0, b'"%s"' % (b"x" * chance.randrange(600)))
            sync = chance.random() < 0.15
            written = trio.Event()

            def done(error: object, row: Record, sync: bool, written: trio.Event) -> None:
                assert error is None, error
                acknowledged.append((row, sync))
                written.set()

            appended.append(row)
            writer.append([row], sync, partial(done, row=row, sync=sync, written=written), None, None, lambda: 1)
            if chance.random() < 0.7:
                await written.wait()
        await writer.close(lambda db: None)
    if not at_cut:
        cut()

    place_of = {id(row): place for place, row in enumerate(appended)}
    told = sorted(acknowledged[: at_cut[0]], key=lambda each: place_of[id(each[0])])  # as they are in the log
    check = sqlite3.connect(left / "runs.db")
    assert check.execute("pragma integrity_check").fetchall() == [("ok",)]
    check.close()
    reader = SqliteStore(left / "runs.db")
    found = {name: await journal(reader, name) for name in "ab"}
    await reader.close()
    for rows in found.values():
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        assert all(row.is_intact for row in rows)
    here = {(row.run, row.seq) for rows in found.values() for row in rows}
    is_here = [(row.run, row.seq) in here for row, _ in told]
    lost = is_here.index(False) if False in is_here else len(told)
    assert not any(is_here[lost:]), "what is lost is a suffix"
    assert not any(sync for _, sync in told[lost:]), "what was synced, and all before it, is there"
    return len(told), len(told) - lost


@pytest.mark.parametrize("mode", MODES)
async def test_a_power_cut_loses_only_the_last_plain_records(tmp_path, monkeypatch, mode):
    """Nothing that was synced, nothing before it, nothing out of order, and the file is whole."""
    await cut_often(tmp_path, monkeypatch, mode, trials=8)


@pytest.mark.chaos
@pytest.mark.parametrize("mode", MODES)
async def test_many_power_cuts_lose_only_the_last_plain_records(tmp_path, monkeypatch, mode):
    await cut_often(tmp_path, monkeypatch, mode, trials=40)


async def cut_often(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, trials: int) -> None:
    monkeypatch.setattr(sqlite_writer, "LOG_PAGES", 100)
    told = lost = 0
    for seed in range(trials):
        place = folder / str(seed)
        place.mkdir()
        counts = await cut_once(place, monkeypatch, mode, seed)
        told, lost = told + counts[0], lost + counts[1]

    assert told > trials * 20
    assert lost > 0, "the disk has kept everything: it is no test of power cuts"
