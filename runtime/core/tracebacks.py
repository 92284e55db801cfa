"""Tracebacks as the author of an actor or a node reads them: where their own code raised, without the machinery around it.

An error travels from the author's code through the loop of its actor, trio and outcome to the asker. Those frames are the
same for every error, and hide the few lines that differ. They are dropped where the error leaves the machinery; what the
author called, the libraries that they use included, always stays. ``understudy run --traceback`` shows what is left.
"""

from __future__ import annotations

import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar, cast, final

import attrs

from actors.errors import InternalError, UnderstudyError
from actors.groups import leaves_of
from actors.words import words_of

E = TypeVar("E", bound=BaseException)

_MACHINERY: Final = frozenset({"actors", "contextlib", "outcome", "runtime", "trio"})
"""The packages whose frames stand between two of the author's and tell nothing."""
_MOST: Final = 3
"""How many places the message of an error names, when a group of errors is its cause."""


def _folder(path: str | None) -> set[str]:
    return set() if path is None else {f"{path}/", f"{Path(path).resolve()}/"}


_PYTHON: Final = tuple(_folder(sysconfig.get_path("stdlib")) | _folder(sysconfig.get_path("platstdlib")))
_INSTALLED: Final = ("/site-packages/", "/dist-packages/")


@final
@attrs.frozen
class CodeLine:
    """A line of code that was being executed."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def places_of(error: BaseException) -> list[CodeLine]:
    """Where the author's code was when it raised `error`: one place for each error of a group, without repetitions.

    The innermost line that is neither ours, Python's, nor of an installed package. If there is none (the program itself may be
    installed), the outermost that is neither ours nor Python's: the handler or the node. Empty for an error that was never
    raised in such code. An error of ours that has no such line is judged by its cause.
    """
    found: dict[CodeLine, None] = {}
    for leaf in leaves_of(error):
        for each in _and_causes(leaf):
            place = _place_in(each.__traceback__)
            if place is not None:
                found[place] = None
                break
    return list(found)


def raised_at(error: BaseException) -> str:
    """The places of `error` as further lines of a message, each beginning with a line break; "" when there are none.

    Without those that its own words name: an ``ActorFailed`` out of an ask has told where that actor raised.
    """
    told = words_of(error) if isinstance(error, UnderstudyError) else ""
    places = [place for place in places_of(error) if f"\n  at {place}" not in told]
    more = f"\n  and at {len(places) - _MOST} other places" if len(places) > _MOST else ""
    return "".join(f"\n  at {place}" for place in places[:_MOST]) + more


def trim(error: E) -> E:
    """Drop the frames of the machinery from the traceback of `error`, of the errors in it and of the causes of our own errors.

    Not dropped: what code of the author's called last, unless the error is one that we raise on purpose and so explains
    itself; and all of a traceback in which there is no other code, which may be a bug of ours.
    """
    for part in _parts(error):
        for each in _and_causes(part):
            # Past a __setattr__ of its class, which may raise.
            BaseException.with_traceback(each, _trimmed(each.__traceback__, explains_itself=_explains_itself(each)))
    return error


def without_frames(error: E) -> E:
    """`error`, which we raise in the caller's task, without the frames between: the caller's line comes first."""
    return error if isinstance(error, InternalError) else error.with_traceback(None)


def _explains_itself(error: BaseException) -> bool:
    return isinstance(error, UnderstudyError) and not isinstance(error, InternalError)


def _parts(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _parts(inner)


def _and_causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and what it was made from as long as that is known to have been ours to wrap."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ if isinstance(at, UnderstudyError) else None


def _frames(trace: types.TracebackType | None) -> Iterable[types.TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_machinery(step: types.TracebackType) -> bool:
    name: object = step.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] in _MACHINERY


def _is_python(file: str) -> bool:
    return file.startswith(("<frozen ", "<attrs generated ")) or (
        file.startswith(_PYTHON) and not any(folder in file for folder in _INSTALLED)
    )


def _place_in(trace: types.TracebackType | None) -> CodeLine | None:
    others = [each for each in _frames(trace) if not _is_machinery(each) and not _is_python(_file(each))]
    if not others:
        return None
    written = [each for each in others if not _file(each).startswith("<") and not any(map(_file(each).__contains__, _INSTALLED))]
    step = written[-1] if written else others[0]
    return CodeLine(_file(step), step.tb_lineno, step.tb_frame.f_code.co_name)


def _file(step: types.TracebackType) -> str:
    return step.tb_frame.f_code.co_filename


def _trimmed(trace: types.TracebackType | None, *, explains_itself: bool) -> types.TracebackType | None:
    steps = list(_frames(trace))
    machinery = [_is_machinery(each) for each in steps]
    if all(machinery) or not any(machinery):
        return trace
    last = len(machinery) - 1 - machinery[::-1].index(False)
    kept: types.TracebackType | None = None
    for index in reversed(range(len(steps))):
        if not machinery[index] or (index > last and not explains_itself):
            step = steps[index]
            kept = types.TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return kept
