"""Exception groups seen as what is in them: a group is judged by its leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors in `error` that are no groups, in order; `error` itself when it is none."""
    if _is_group(error):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


def without(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """`error` with every leaf of `kind` left out; None when nothing remains."""
    if _is_group(error):
        return error.split(kind)[1]
    return None if isinstance(error, kind) else error


def bare(error: BaseException) -> BaseException:
    """A copy of `error` with its type, arguments and attributes, but without traceback, cause and context.

    For keeping: a traceback holds the frames that the error passed through, and with them whatever those worked on.
    """
    try:
        copy = type(error).__new__(type(error), *_arguments_of(error))
        for kind in type(error).__mro__:
            for slot in kind.__dict__.get("__slots__", ()):
                if not slot.startswith("__") and hasattr(error, slot):
                    object.__setattr__(copy, slot, getattr(error, slot))
    except Exception:  # noqa: BLE001 - a class that cannot be copied so is kept as it is
        return error
    copy.__dict__.update(error.__dict__)
    return copy


def _arguments_of(error: BaseException) -> tuple[object, ...]:
    if _is_group(error):
        return (error.message, [bare(inner) for inner in error.exceptions])
    return error.args


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)
