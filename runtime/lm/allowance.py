"""How many HTTP requests one call may make, over all of its models. Pure counting: nothing here waits or sends."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.define(eq=False)
class Allowance:
    """What ``Retry.max_attempts`` allows one call: the number of requests it may make, whatever fails and whoever answers."""

    max_requests: int
    made: int = 0
    """Requests that have gone out, or are about to."""

    @property
    def left(self) -> int:
        """Requests that may still be made."""
        return self.max_requests - self.made

    def share(self, most: int, models_after: int) -> Share:
        """What the next model may use: at most its own `most`, and one request is kept for each of the `models_after` it.

        The model has one request in any case, while there is one left.
        """
        return Share(self, min(most, self.left, max(1, self.left - models_after)))


@final
@attrs.define(eq=False)
class Share:
    """One model's part of a call's allowance."""

    allowance: Allowance
    max_requests: int
    made: int = 0

    @property
    def is_used_up(self) -> bool:
        """Whether the model may make no further request."""
        return self.made >= self.max_requests

    def take(self) -> bool:
        """Count one more request, before it goes out, if it may go out."""
        if self.is_used_up:
            return False
        self.made += 1
        self.allowance.made += 1
        return True

    def give_back(self) -> None:
        """The request last taken has not gone out."""
        self.made -= 1
        self.allowance.made -= 1
