"""Instruments that have a method for each class of events: the bus calls that, without a look at the class of each event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any


class Instrument(ABC):
    """Base of instruments whose calls are counted in the costs of a step. Any other callable is an instrument, too."""

    @abstractmethod
    def method_for(self, kind: type[Any]) -> Callable[[Any], object]:
        """What is called with the events of exactly the class `kind`. Asked again whenever the listeners have changed."""

    def __call__(self, event: Any) -> None:
        """Take one event, as its method does."""
        kind: type[Any] = type(event)
        self.method_for(kind)(event)
