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

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Doubled(dict[str, Any]):
    """An object in which a name is given twice: the last value of each, and the names, until somebody reads it."""

    doubled: tuple[str, ...] = ()


def parse(text: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The JSON value that `text` is.

    Raises:
        MessageInvalid: it is no JSON, or has what :func:`flaws` names.
    """
    if len(text) > max_bytes or (isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) > max_bytes):
        raise _unread(f"the text has more than {max_bytes:,} bytes")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(decoded, object_pairs_hook=_object)
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
        raise invalid("This is no JSON that can be read", found)
    return value


def flaws(value: object, *, max_depth: int = MAX_DEPTH) -> list[FieldProblem]:
    """What JSON, or strict JSON, does not have at any depth of `value`; empty when nothing is wrong.

    A name given twice, NaN and the infinities, half of a surrogate pair, too many levels, and objects of Python's.
    """
    found: list[FieldProblem] = []
    # Level by level and not by recursion: what comes from outside must not reach the interpreter's own bound.
    level: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    depth = 0
    while level and len(found) < MAX_PROBLEMS:
        below: list[tuple[tuple[str | int, ...], object]] = []
        for path, each in level:
            kind = type(each)
            if kind is str:
                if _SURROGATE.search(cast("str", each)):
                    found.append(FieldProblem(path, "half of a surrogate pair, which is no character"))
            elif kind is float:
                if not math.isfinite(cast("float", each)):
                    found.append(FieldProblem(path, "expected a finite number"))
            elif kind is list:
                below.extend(((*path, index), item) for index, item in enumerate(cast("list[object]", each)))
            elif kind is dict or kind is _Doubled:
                for name, item in cast("dict[object, object]", each).items():
                    if type(name) is not str:
                        found.append(FieldProblem(path, f"the name of a field is a text, not a {kind_of(name)}"))
                    elif _SURROGATE.search(name):
                        found.append(FieldProblem(path, f"half of a surrogate pair in the name {name!a}"))
                    else:
                        below.append(((*path, name), item))
                if isinstance(each, _Doubled):
                    found.extend(FieldProblem((*path, name), "given twice") for name in each.doubled)
            elif each is not None and kind is not bool and kind is not int:
                found.append(FieldProblem(path, f"a {kind_of(each)} is no JSON value"))
        depth += 1
        if depth > max_depth and any(type(each) in (list, dict, _Doubled) for _, each in level):
            found.append(FieldProblem((), f"it is nested more than {max_depth} deep"))
            break
        level = below
    return found[:MAX_PROBLEMS]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    doubled = _Doubled(made)
    seen: set[str] = set()
    doubled.doubled = tuple(dict.fromkeys(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return doubled


def _unread(reason: str) -> Exception:
    return invalid("This is no JSON that can be read", [FieldProblem((), reason)])
