"""What a person may answer when a language model wants to call a tool that has ``approve=``: the values that both sides see."""

from __future__ import annotations

from typing import Any, final

import attrs


@final
@attrs.frozen
class Approved:
    """The call may be made as it is. To change it, answer with other arguments instead."""


@final
@attrs.frozen
class Refused:
    """The call is not made; the model reads why, and goes on."""

    reason: str = ""


@final
@attrs.frozen
class Arguments:
    """The arguments of a tool of which only a schema is known, such as a ``dspy.Tool``."""

    values: dict[str, Any]
