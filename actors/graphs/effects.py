"""Whether doing a thing twice is as good as doing it once."""

from __future__ import annotations

import enum
from typing import final


@final
class Effect(enum.Enum):
    """What may be done again after a crash, when no one knows how far it came."""

    REPEAT = "repeat"
    """Doing it twice does no harm: it reads, or it writes the same again."""
    ONCE = "once"
    """It must not be done twice: it sends a mail, or moves money."""
