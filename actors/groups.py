"""Exception groups seen as what is in them: a group counts as what its leaves are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from actors.words import INTERRUPTS, kind_of


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors in `error` that aren't groups, in order; `error` itself when it isn't a group."""
    if _is_group(error):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


def is_fatal(error: BaseException) -> bool:
    """Whether `error`, which isn't a group, must never be survived: ``KeyboardInterrupt`` and ``GeneratorExit``.

    Everything else is the failure of the code that raised it, also what does not derive from ``Exception``: libraries have their
    own errors there (``asyncio.CancelledError``), and argparse raises ``SystemExit`` for a wrong argument.
    """
    return isinstance(error, INTERRUPTS)


def without(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """`error` with every leaf of `kind` left out; None when nothing remains."""
    if not _is_group(error):
        return None if isinstance(error, kind) else error
    left = [leaf for leaf in leaves_of(error) if not isinstance(leaf, kind)]
    if len(left) == sum(1 for _ in leaves_of(error)):
        return error
    try:
        return error.split(kind)[1]
    except Exception:  # noqa: BLE001 - its own derive() fails
        return BaseExceptionGroup(kind_of(error), left) if left else None


def failure_besides(error: BaseException, cancelled: type[BaseException]) -> BaseException | None:
    """What has failed, of `error` as it was caught: itself without the leaves of class `cancelled`, the event loop's own.

    None when it is nothing but that, or must not be survived: then the code that caught it raises it again.
    """
    if isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
        return error  # nearly always
    if any(map(is_fatal, leaves_of(error))):
        return None
    return without(error, cancelled)


def bare(error: BaseException) -> BaseException:
    """A copy of `error` with its type, arguments and attributes, but without traceback, cause and context.

    For keeping: a traceback holds the frames that the error passed through, and with them the values those worked on.
    """
    try:
        copy = type(error).__new__(type(error), *_arguments_of(error))
        for kind in type(error).__mro__:
            for slot in kind.__dict__.get("__slots__", ()):
                if not slot.startswith("__") and hasattr(error, slot):
                    object.__setattr__(copy, slot, getattr(error, slot))
        copy.__dict__.update(error.__dict__)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - a class that cannot be copied so is kept as it is
        return error
    return copy


def _arguments_of(error: BaseException) -> tuple[object, ...]:
    if _is_group(error):
        return (error.message, [bare(inner) for inner in error.exceptions])
    return error.args


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)
