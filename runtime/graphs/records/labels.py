"""What a caller notes of a run: labels, which its events carry, for lists, filters and traces."""

from __future__ import annotations

import contextlib
import contextvars
import re
from collections.abc import Mapping
from typing import Any, Final, cast, final

from actors.errors import UsageError
from actors.words import repr_of

MAX_LABELS: Final = 16
"""How many labels a run may have."""
MAX_LABEL: Final = 200
"""Characters of a name or a value."""

RESERVED: Final = "understudy."
"""Names that begin so belong to anyone who serves graphs, and say whose a run is. They do not count, and no one is shown them."""

_labels: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("labels")
_NONE: Final[Mapping[str, str]] = {}
_UNCHANGED: Final = contextlib.nullcontext()
"""Most runs have none, and making a context manager costs more than a call."""


def labels_here() -> Mapping[str, str]:
    """Those of a run that is made now."""
    return _labels.get(_NONE)


def labelled(labels: Mapping[str, str] | None) -> contextlib.AbstractContextManager[None]:
    """Runs that are made in the block have `labels`; with None, those of the run whose node makes them, if one does.

    Raises:
        UsageError: they aren't short texts by short names, or too many.
    """
    return _UNCHANGED if labels is None else _Labelled(_checked(labels))


@final
class _Labelled:  # no contextmanager: one costs more than all the rest of a label
    __slots__ = ("_labels", "_token")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels

    def __enter__(self) -> None:
        self._token = _labels.set(self._labels)

    def __exit__(self, *_: object) -> None:
        _labels.reset(self._token)


def text_of(labels: Mapping[str, str]) -> str | None:
    """Labels as a store lists them: a line ``name:value`` for each; None if there are none."""
    return "\n".join(f"{escaped(name, ':')}:{escaped(value)}" for name, value in labels.items()) or None


def labels_in(text: str | None) -> dict[str, str]:
    """The labels that :func:`text_of` has made `text` of; a line of another form is a name."""
    parts = [line.partition(":") for line in (text or "").split("\n") if line]
    return {_unescaped(name): _unescaped(value) for name, _, value in parts}


def public(labels: Mapping[str, str]) -> Mapping[str, str]:
    """`labels` without the reserved ones."""
    if not any(name.startswith(RESERVED) for name in labels):
        return labels
    return {name: value for name, value in labels.items() if not name.startswith(RESERVED)}


def escaped(text: str, besides: str = "") -> str:
    """`text` on one line, as :func:`text_of` writes it; what is printable stays as it is, except for `besides`."""
    if text.isprintable() and "\\" not in text and not any(each in text for each in besides):
        return text
    return "".join(f"\\{ord(c):06x}" if c in f"\\{besides}" or not c.isprintable() else c for c in text)


def _are_plain(labels: dict[object, object]) -> bool:
    """Whether nothing can be wrong with them, which is soon told of most."""
    if len(labels) > MAX_LABELS:
        return False
    for name, value in labels.items():
        if type(name) is not str or type(value) is not str or not name or len(name) > MAX_LABEL or len(value) > MAX_LABEL:
            return False
    return True


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-9a-f]{6})", lambda found: chr(int(found[1], 16)), text)


def _checked(labels: Any) -> Mapping[str, str]:
    told: object = labels
    if type(told) is dict and _are_plain(cast("dict[object, object]", told)):
        return dict(cast("dict[str, str]", told))
    given = dict(cast("Mapping[object, object]", told)) if isinstance(told, Mapping) else None
    counted = [name for name in given or () if not (isinstance(name, str) and name.startswith(RESERVED))]
    if given is not None and len(counted) <= MAX_LABELS and "" not in given:
        parts = [part for item in given.items() for part in item if isinstance(part, str) and len(part) <= MAX_LABEL]
        if len(parts) == 2 * len(given):
            return dict(zip(parts[::2], parts[1::2], strict=True))
    raise UsageError(
        f"labels={repr_of(labels)}: expected at most {MAX_LABELS} texts by name, of at most {MAX_LABEL} "
        "characters.\n  Fix: labels={'customer': '7'}, and the rest into the input."
    )
