"""An instrument that writes the events of runs to a file, as they come."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, final

import attrs

from actors.errors import UsageError
from runtime.core.events import Event
from runtime.graphs.records.run_events import RunEvent, RunFinished
from runtime.traces.event_json import Content, Encoder, Redact


class _Clock(Protocol):
    """What it needs of a runtime."""

    def wall_time(self, at_s: float) -> datetime:
        """See ``Runtime.wall_time``."""
        ...


@final
@attrs.define(eq=False)
class _Progress:
    since_s: float
    next_seq: int = 0


@final
class EventFile:
    """Writes what runs do to a file of JSON Lines: ``open_runtime(instruments=[EventFile("run.jsonl")])``.

    Each event is one line, in the same form in which a service sends it, and is handed to the operating system when it happens:
    what has happened is there when the program is killed. ``understudy trace run.jsonl`` shows it. The file holds what messages,
    prompts and answers do, and what errors say. When the disk is full, the file ends there, which is logged, and runs go on.

    Args:
        path: the file; what it held is replaced.
        content: ``"none"`` leaves out what messages, prompts and answers hold.
        redact: gets the JSON of each such content, and returns what is written of it.

    Raises:
        OSError: the file cannot be written.
    """

    kinds: tuple[type[Event], ...] = (RunEvent,)
    """The classes of events that it is called with."""

    def __init__(self, path: str | Path, *, content: Content = "full", redact: Redact | None = None) -> None:
        self._content: Content = content
        self._redact = redact
        self._encoder: Encoder | None = None
        self._runs: dict[str, _Progress] = {}
        self._path = path
        # Without a buffer: what a full disk has not taken would be written once more by close(), and fail the program there.
        self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - closed by close()

    def opened(self, runtime: _Clock) -> None:
        """Write the events of `runtime` from now on."""
        self._encoder = Encoder(runtime.wall_time, self._content, self._redact)

    def __call__(self, event: Event) -> None:
        """Write one event of a run; others belong to none, and are left out.

        Raises:
            UsageError: it is the instrument of no runtime.
        """
        if not isinstance(event, RunEvent):
            return
        if self._encoder is None:
            raise UsageError(
                "EventFile was called with an event before a runtime was opened with it, whose clock its times need.\n"
                "  Fix: open_runtime(instruments=[EventFile(…)]), rather than runtime.observe(EventFile(…))."
            )
        progress = self._runs.get(event.run_id)
        if progress is None:
            progress = self._runs[event.run_id] = _Progress(event.at_s)
        line = memoryview(self._encoder.encode(event, progress.next_seq, progress.since_s, inside=True) + b"\n")
        while line:  # a disk that is nearly full takes a part
            line = line[self._file.write(line) :]
        progress.next_seq += 1
        if isinstance(event, RunFinished):
            del self._runs[event.run_id]

    def __repr__(self) -> str:
        return f"EventFile({str(self._path)!r})"

    def close(self) -> None:
        """Close the file. Twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
