"""Objects in text: an error's message, a value's ``repr``, names in a list.

Exceptions and messages are foreign code. Their ``__str__`` and ``__repr__`` may raise, recurse, or return a gigabyte, and
they are called while an actor ends or a run fails, where a second error would leave a caller waiting forever. So this project
puts foreign objects into text only through this module; ``tests/regressions/test_a2_foreign_objects_in_text.py`` and
``test_exception_matrix.py`` beside it break otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

INTERRUPTS: Final = (KeyboardInterrupt, GeneratorExit)
"""What must never be survived, wherever it comes up; all else is a failure of the code that raised it."""
MAX_WORDS: Final = 4_000
"""How many characters of an error's own text another error repeats."""
MAX_SHOWN: Final = 400
"""How many characters of a value an error shows."""
_LARGE: Final = 1_000
"""How many items a container may have for its ``repr`` to be made whole before it is cut."""


def kind_of(value: object) -> str:
    """The name of the class of `value`."""
    return type.__dict__["__name__"].__get__(type(value))  # type: ignore[no-any-return]  # a metaclass may override the attribute


def words_of(error: BaseException, limit: int = MAX_WORDS) -> str:
    """``str(error)``, at most about `limit` characters of it. Never raises."""
    return cut(_made("__str__", lambda: str(error)), limit)


def said(error: BaseException, limit: int = MAX_WORDS) -> str:
    """``KeyError: 'name'``: the class of `error` and its words. Never raises."""
    return f"{kind_of(error)}: {words_of(error, limit)}"


def repr_of(value: object, limit: int = MAX_SHOWN) -> str:
    """``repr(value)``, at most about `limit` characters of it. Never raises."""
    plain = type(value)
    if plain in (str, bytes, bytearray) and len(value) > 4 * limit:  # type: ignore[arg-type]
        return cut(repr(value[: 2 * limit]), limit)  # type: ignore[index]
    if plain in (list, tuple, dict, set, frozenset) and len(value) > _LARGE:  # type: ignore[arg-type]
        return f"a {plain.__name__} of {len(value)} items"  # type: ignore[arg-type]
    return cut(_made("__repr__", lambda: repr(value)), limit) or f"a {kind_of(value)}"


def cut(text: str, limit: int) -> str:
    """`text`, the middle of it left out if it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    head = 2 * limit // 3
    return f"{text[:head]} … ({len(text) - limit} characters left out) … {text[head - limit :]}"


def attribute_of(error: BaseException, name: str, default: object = None) -> object:
    """``error.name``, or `default` when there is none or it cannot be had. Never raises."""
    try:
        return getattr(error, name, default)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - its own __getattr__, which raised something else than AttributeError
        return default


def add_note(error: BaseException, note: str) -> None:
    """Note something down on `error`, once, if its class lets anything be set. Never raises."""
    try:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - it is frozen, or has its own kind of notes; the error itself counts for more
        return


def _made(method: str, make: Callable[[], str]) -> str:
    try:
        return "".join([make()])  # of a subclass of str, too, its plain characters
    except INTERRUPTS:
        raise
    except BaseException as broken:  # noqa: BLE001 - also SystemExit: reporting an error must not become the next error
        try:
            why = f"{kind_of(broken)}: {broken}"
        except BaseException:  # noqa: BLE001 - the same again
            why = kind_of(broken)
        return f"(no text: its {method} raised {cut(why, MAX_SHOWN)})"


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``: a number and the noun of which there are so many."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def with_article(noun: str) -> str:
    """``a Reply``, ``an Intent``: by the first letter, which is right for the names of most classes."""
    return f"{'an' if noun[:1] in tuple('AEIOUaeiou') else 'a'} {noun}"


def listed(names: Iterable[object], last: str = "and") -> str:
    """``'a', 'b' and 'c'``."""
    shown = [repr(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}" if shown else "nothing"


def type_names(kinds: Iterable[type], joint: str = " | ") -> str:
    """``A | B``."""
    return joint.join(kind.__name__ for kind in kinds)
