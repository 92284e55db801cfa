"""How many HTTP requests one call may make, over all of its models. Pure counting: nothing here waits or sends."""

from __future__ import annotations

from typing import final

import attrs

MAX_EXCUSED = 10
"""How many of one model's requests in one call may count for nothing: nothing repeats forever."""


@final
@attrs.define(eq=False)
class Allowance:
    """What ``Retry.max_attempts`` allows one call: the number of requests it may make, for any failure and any model.

    A request that was turned away as one too many of several concurrent ones, which the account's limit should have held back, is
    made and does not count.
    """

    max_requests: int
    made: int = 0
    """Requests that have gone out, or are about to."""
    excused: int = 0
    """Those of them that do not count."""

    @property
    def left(self) -> int:
        """Requests that may still be made."""
        return self.max_requests - self.made + self.excused

    def share(self, most: int, models_after: int) -> ModelShare:
        """What the next model may use: at most its own `most`, and one request is kept for each of the `models_after` it.

        The model has one request in any case, while there is one left.
        """
        return ModelShare(self, min(most, self.left, max(1, self.left - models_after)), models_after)


@final
@attrs.define(eq=False)
class ModelShare:
    """One model's part of a call's allowance."""

    allowance: Allowance
    max_requests: int
    models_after: int = 0
    """How many models may be asked after this one."""
    made: int = 0
    excused: int = 0
    is_handed_on: bool = False
    """Whether the next model was asked only because this one's pause is long: it may be waited out when that fails, too."""

    @property
    def counted(self) -> int:
        """Requests made that count."""
        return self.made - self.excused

    @property
    def is_used_up(self) -> bool:
        """Whether the model may make no further request."""
        return self.counted >= self.max_requests

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

    def excuse(self) -> None:
        """A request does not count, unless too many have not. It does count in a call that may make only one."""
        if self.allowance.max_requests > 1 and self.excused < MAX_EXCUSED:
            self.excused += 1
            self.allowance.excused += 1
