"""The fields of declarations: which of them the author wrote, and what to write instead of one that does not exist."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import attrs

from actors.errors import DeclarationError

T = TypeVar("T")

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("retry", "retries", "max_retries", "max_attempts"), "redelivery=Redelivery(max_attempts=…)"),
    **dict.fromkeys(("capacity", "queue_size", "maxsize", "overflow"), "mailbox=MailboxSpec(…)"),
}
"""What actors and nodes alike call the options that other libraries have under these names."""
OF_AN_ACTOR: Final[Mapping[str, str]] = {
    **ELSEWHERE,
    **dict.fromkeys(
        ("supervision", "strategy", "max_restarts", "backoff", "on_error"),
        "runtime.supervise([ChildSpec(…)], Supervision(…)); it belongs to the supervisor",
    ),
    **dict.fromkeys(("timeout", "timeout_s"), "with trio.fail_after(…) around ask(), or idle_timeout_s=…"),
    **dict.fromkeys(("size", "workers", "instances", "concurrency"), "spawn(Pool(ChildSpec(…), 4))"),
}
"""The same, of a single actor."""


def nearest(option: str, known: Collection[str], elsewhere: Mapping[str, str] = ELSEWHERE) -> str:
    """The sentence that tells what to write instead of `option`."""
    if option in elsewhere:
        return f"write {elsewhere[option]}."
    near = difflib.get_close_matches(option, known, n=1)
    return f"write {near[0]!r}." if near else f"leave {option!r} out."


def explains_its_fields(
    example: Callable[[tuple[object, ...]], str], elsewhere: Mapping[str, str] = ELSEWHERE
) -> Callable[[type[T]], type[T]]:
    """Have an attrs class raise ``DeclarationError`` for keywords that it has not, and for fields that are missing.

    `example` makes, of the arguments that were given by position, the line to write when one is missing.
    """

    def explained(kind: type[T]) -> type[T]:
        fields: Any = attrs.fields(kind)  # type: ignore[arg-type]  # an attrs class, of which T need not be known
        names = [field.name for field in fields if field.init]
        required = [field.name for field in fields if field.init and field.default is attrs.NOTHING]
        make: Any = kind.__init__

        @functools.wraps(make)
        def explain(self: Any, *args: Any, **given: Any) -> None:
            try:
                make(self, *args, **given)
            except TypeError:
                for option in given:
                    if option not in names:
                        raise DeclarationError(
                            f"{kind.__name__}({option}=…): it has no field {option!r}. It has: {', '.join(names)}.\n"
                            f"  Fix: {nearest(option, names, elsewhere)}"
                        ) from None
                for index, name in enumerate(required):
                    if name not in given and index >= len(args):
                        raise DeclarationError(f"{kind.__name__}(…): {name!r} is missing.\n  Fix: {example(args)}") from None
                raise

        setattr(kind, "__init__", explain)  # noqa: B010 - type checkers are to see the one that attrs has made
        return kind

    return explained


def unwritten() -> Any:
    """The field ``_written`` that a class decorated with :func:`remembers_what_is_written` needs."""
    return attrs.field(init=False, default=frozenset[str](), eq=False, repr=False)


def remembers_what_is_written(kind: type[T]) -> type[T]:
    """Have instances of the attrs class `kind` remember the fields that they were made with.

    ``attrs.evolve`` writes them all, since it makes the copy with every field.
    """
    names = _fields(kind)
    make: Any = kind.__init__

    @functools.wraps(make)
    def remember(self: Any, *args: Any, **given: Any) -> None:
        make(self, *args, **given)
        object.__setattr__(self, "_written", frozenset([*names[: len(args)], *given]))

    setattr(kind, "__init__", remember)  # noqa: B010 - type checkers are to see the one that attrs has made
    return kind


def inheriting(own: T, base: T) -> T:
    """`own` where its author wrote something, and `base` for all the rest; both of one class that remembers."""
    written: frozenset[str] = getattr(own, "_written")  # noqa: B009 - only this module knows of it
    return type(own)(**{name: getattr(own if name in written else base, name) for name in _fields(type(own))})


def _fields(kind: Any) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.init]
