"""The code of placed actors, as the runtime knows it: by what makes them, and by name for those that a host wants started."""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, cast, final

from actors.factories import actor_class
from actors.placement_errors import NotPortable
from actors.words import repr_of
from runtime.placement.actor_codes import ActorCode


@final
class KnownCodes:
    """Each kind of actor once."""

    def __init__(self) -> None:
        self._by_factory: dict[object, ActorCode] = {}

    def known(self, factory: object) -> ActorCode | None:
        """That of `factory`, if it was made."""
        return self._by_factory.get(factory) if _has_hash(factory) else None

    def of(self, factory: Any) -> ActorCode:
        """That of `factory`.

        Raises:
            NotPortable: it has no hash, as an object of a class with ``__eq__``; so it is neither a class nor a function.
        """
        if not _has_hash(factory):
            raise NotPortable(
                f"{repr_of(factory)} makes actors, and another process cannot import it: it is neither a class nor a function.\n"
                "  Fix: pass the class, or a function at the top level of a module; what it needs besides, as arguments."
            )
        code = self._by_factory.get(factory)
        if code is None:
            code = self._by_factory[factory] = ActorCode(factory)
        return code

    def named(self, name: str) -> ActorCode:
        """That of the class or function ``module:name``, of which a host speaks.

        Nothing is imported for it, and a function must be declared to make actors: a name from a host is no reason to call
        what bears it.

        Raises:
            NotPortable: no module that this process has imported holds such a thing.
        """
        for factory, code in self._by_factory.items():  # those that are defined within functions, in tests
            if code.name == name and _makes_actors(factory):
                return code
        found = module_level(name)
        if found is None or not _makes_actors(found):
            raise NotPortable(
                f"a host wants {name} started, and where the runtime runs that isn't a class of actors in a module which was "
                "imported, nor a function declared to return one.\n"
                "  Fix: import its module where open_runtime() is called; of a function, declare what it returns: -> Worker."
            )
        return self.of(found)


def module_level(name: str) -> object | None:
    """What ``module:name`` stands for in the modules that were imported already."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return cast("object", found)


def _has_hash(factory: object) -> bool:
    try:
        hash(factory)
    except TypeError:
        return False
    return True


def _makes_actors(thing: object) -> bool:
    if actor_class(thing) is not None:
        return True
    if not isinstance(thing, types.FunctionType):
        return False
    try:
        returned = typing.get_type_hints(thing).get("return")
    except Exception:  # noqa: BLE001 - a name that only a type checker sees
        return False
    return actor_class(typing.get_origin(returned) or returned) is not None
