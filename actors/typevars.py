"""Type variables with a default: what stands for them where a class is written bare, so ``Actor`` alone is ``Actor[Any]``.

``typing.TypeVar`` takes one from Python 3.13 on. Type checkers know ``typing_extensions`` whether it is installed or not; what
runs needs no default.
"""

import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVar
else:

    def TypeVar(name: str, *, default: object, **options: Any) -> typing.TypeVar:
        """As ``typing.TypeVar``, without the default."""
        return typing.TypeVar(name, **options)


M = TypeVar("M", contravariant=True, default=Any)
"""The messages that an actor takes."""
In = TypeVar("In", contravariant=True, default=Any)
"""The input of a graph."""
Out = TypeVar("Out", covariant=True, default=Any)
"""The output of a graph, of a run, of a task."""
