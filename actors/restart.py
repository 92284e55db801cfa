"""When a child that ended is started again; the vocabulary is Erlang/OTP's."""

from __future__ import annotations

import enum
from typing import final


@final
class RestartType(enum.Enum):
    """Which ends of a child call for another incarnation."""

    PERMANENT = "permanent"
    """Every end, a normal one too."""
    TRANSIENT = "transient"
    """Only a failure."""
    TEMPORARY = "temporary"
    """None; the supervisor forgets the child when it ends."""
