"""JSON text, strictly: no duplicate names, no NaN, no half characters, and bounds on its length and depth."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, cast

from actors.words import kind_of
from runtime.messages.problems import MAX_PROBLEMS, FieldProblem, invalid

MAX_BYTES: Final = 4 * 1024 * 1024
"""How long a text may be, in UTF-8."""
MAX_DEPTH: Final = 64
"""How many lists and objects may stand in one another."""
MAX_CONTAINERS: Final = 1_000_000
"""How many lists and objects a value may have; one that Python made can hold the same list many times."""

Path = tuple[str | int, ...]

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Doubled(dict[str, Any]):
    """An object in which a name is given twice: the last value of each, and the names, until somebody reads it."""

    doubled: tuple[str, ...] = ()


def parse(text: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The JSON value that `text` is.

    Raises:
        MessageInvalid: it isn't JSON, or has what :func:`flaws` names.
    """
    if len(text) > max_bytes or (isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) > max_bytes):
        raise _unread(f"the text has more than {max_bytes:,} bytes")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        if decoded.startswith("\ufeff"):
            raise _unread("it begins with a byte order mark, which JSON does not have")
        value = _decode(decoded)
    except UnicodeDecodeError as error:
        raise _unread(f"the text is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise _unread(str(error)) from error
    except ValueError as error:  # Python bounds the digits of an int that it reads
        raise _unread("a number has too many digits") from error
    except RecursionError as error:
        raise _unread("it is nested too deeply") from error
    found = flaws(value, max_depth=max_depth)
    if found:
        raise invalid("This is not JSON that can be read", found)
    return value


def flaws(value: object, *, max_depth: int = MAX_DEPTH) -> list[FieldProblem]:
    """What JSON, or strict JSON, does not have at any depth of `value`; empty when nothing is wrong.

    A name given twice, NaN and the infinities, half of a surrogate pair, too many levels, and objects of Python's.
    """
    found: list[FieldProblem] = []
    # Level by level and not by recursion: what comes from outside must not reach the interpreter's own bound.
    level: list[tuple[Path, Any]] = [((), [value])]  # the value in a list, whose positions are left out of every path
    depth, count = -1, 0
    while level and len(found) < MAX_PROBLEMS:
        below: list[tuple[Path, Any]] = []
        for path, container in level:
            if count + len(below) > MAX_CONTAINERS:
                break
            is_object = isinstance(container, dict)
            for name, item in cast("Any", container.items() if is_object else enumerate(container)):
                if is_object and (type(name) is not str or _SURROGATE.search(name)):
                    found.append(FieldProblem(path, f"{name!a} isn't a name: half of a surrogate pair, or not a text"))
                    continue
                if type(item) in _CONTAINERS:
                    below.append(((*path, name) if depth >= 0 else path, item))
                elif (reason := _flaw(item)) is not None:
                    found.append(FieldProblem((*path, name) if depth >= 0 else path, reason))
            if isinstance(container, _Doubled):
                found.extend(FieldProblem((*path, name), "given twice") for name in container.doubled)
        depth += 1
        if depth >= max_depth and below:
            found.append(FieldProblem((), f"it is nested more than {max_depth} deep"))
            break
        count += len(below)
        if count > MAX_CONTAINERS:
            found.append(FieldProblem((), f"it has more than {MAX_CONTAINERS:,} lists and objects"))
            break
        level = below
    return found[:MAX_PROBLEMS]


_CONTAINERS: Final = (dict, list, _Doubled)


def _flaw(item: Any) -> str | None:
    """What is wrong with a value that is neither a list nor an object."""
    if type(item) is str:
        return "half of a surrogate pair, which isn't a character" if _SURROGATE.search(item) else None
    if type(item) is float:
        return None if math.isfinite(item) else "expected a finite number"
    return None if item is None or type(item) in (bool, int) else f"expected JSON, got Python's {kind_of(item)}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    doubled = _Doubled(made)
    seen: set[str] = set()
    doubled.doubled = tuple(dict.fromkeys(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return doubled


def _unread(reason: str) -> Exception:
    return invalid("This is not JSON that can be read", [FieldProblem((), reason)])


_decode: Final = json.JSONDecoder(object_pairs_hook=_object).decode
