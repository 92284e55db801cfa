"""The bar of ``understudy evaluate``: how far it is, what the estimate is, how sure that is, what it has cost, and what is left.

It needs rich, which the extra ``watch`` installs; ``evaluate.py`` has lines instead where there is no terminal or no rich.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Final, TextIO, final

from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from runtime.cli.live_view import Above, console_on
from runtime.cli.terminal import Style
from runtime.evaluate import progress

MOST: Final = 100
"""Columns: a bar across a wide window is hard to read."""
BAR: Final = 24


@final
class EvaluationBar:
    """Shows on `stream`, a terminal, what it is told."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        self._stream = stream
        self._console = console_on(stream, style)
        self._progress = Progress(
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=BAR)),
            _Words(),
            console=self._console,
            auto_refresh=False,  # drawn by the program's own task, not by a thread
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=False,
        )
        self._task = self._progress.add_task("", total=None, words="evaluating")

    @property
    def is_live(self) -> bool:
        """Yes."""
        return True

    def step(self, text: str) -> None:
        """Nothing: the next drawing shows it."""

    def tell(self, now: progress.Progress) -> None:
        """What the next drawing shows."""
        self._progress.update(self._task, completed=now.done, total=now.of, words=str(now))

    def update(self, text: str) -> None:
        """Draw it again, in the size that the window has now."""
        self._progress.refresh()

    def clear(self) -> None:
        """Nothing: it is gone when :meth:`showing` ends."""

    @contextmanager
    def showing(self) -> Generator[None]:
        """Draw the bar; what is printed meanwhile appears above it, line by line and without control sequences."""
        above = Above(self._console, self._stream)
        self._progress.start()
        self._console.show_cursor(True)
        try:
            with redirect_stdout(above), redirect_stderr(above):
                yield
        finally:
            above.close()
            self._progress.stop()


@final
class _Words(ProgressColumn):
    """The words beside the bar, which end where the window does."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))

    def render(self, task: Task) -> Text:
        """As they were told."""
        return Text(str(task.fields["words"]), no_wrap=True, overflow="crop")
