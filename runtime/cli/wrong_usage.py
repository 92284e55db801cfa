"""What a user has asked for and cannot have, as one line and exit code 2."""

from __future__ import annotations

from typing import final

from runtime.cli.terminal import one_line


@final
class WrongUsage(Exception):
    """The command line, or a file or value it names, is wrong. The message is one line, safe to print."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
