"""The names by which data says of which class a message is, and the classes that it may name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, final

from runtime.messages.fields import message_kind
from runtime.messages.kinds import JsonForm, declared, field_types
from runtime.messages.modules import is_of_a_program, name_of
from runtime.messages.upcasts import called_before


@final
class Types:
    """The message types that data may name: some declared ones, those of their fields, and the loaded subclasses of both."""

    def __init__(self, kinds: Iterable[type]) -> None:
        self.declared: tuple[type, ...] = tuple(dict.fromkeys(kinds))
        self._reachable: dict[type, None] = {}
        for kind in self.declared:
            self._reach(kind)
        self._by_tag: dict[str, type] = {}
        self._quoted: dict[bytes, type] = {}
        self._tags: dict[type, str] = {}
        for kind in self._reachable:
            self._add(kind)

    @property
    def reachable(self) -> tuple[type, ...]:
        """The declared types and those of their fields, however deep."""
        return tuple(self._reachable)

    def _reach(self, annotation: Any) -> None:
        todo: list[Any] = [annotation]
        while todo:
            kind = declared(todo.pop())
            if kind.kind is JsonForm.MESSAGE:
                if kind.type in self._reachable:
                    todo += kind.parts
                    continue
                self._reachable[kind.type] = None
                todo += field_types(kind).values()
            if kind.kind not in (JsonForm.LITERAL, JsonForm.ENUM, JsonForm.SCALAR, JsonForm.FOREIGN):
                todo += [part for part in kind.parts if part is not Ellipsis]

    def _add(self, kind: type) -> None:
        tag = tag_of(kind)
        self._by_tag.setdefault(tag, kind)
        self._quoted.setdefault(json.dumps(tag).encode("ascii"), kind)
        self._tags[kind] = tag

    def tag_of(self, kind: type) -> str | None:
        """What data calls `kind`; None if it may not name it."""
        known = self._tags.get(kind)
        if known is None and any(base in self._reachable for base in kind.__mro__):
            self._add(kind)
            known = self._tags[kind]
        return known if known is not None and self._by_tag[known] is kind else None

    def find(self, tag: object) -> type | None:
        """The class that data calls `tag`."""
        if type(tag) is not str:
            return None
        known = self._by_tag.get(tag)
        if known is None and ":" in tag:
            for kind in self._subclasses():
                if tag_of(kind) == tag:
                    self._add(kind)
                    return kind
            renamed = called_before(tag)
            if renamed is not None and self.tag_of(renamed) is not None:
                return renamed
            if is_of_a_program(tag):
                meant = [kind for kind in self._reachable if kind.__qualname__ == tag.partition(":")[2]]
                return meant[0] if len(meant) == 1 else None
        return known

    def find_bytes(self, quoted: bytes) -> type | None:
        """The class of a tag in quotes, as JSON has it."""
        known = self._quoted.get(quoted)
        if known is not None:  # as it is written; another way to write it is read
            return known
        try:
            return self.find(json.loads(quoted))
        except ValueError:
            return None

    def _subclasses(self) -> Iterator[type]:
        todo, seen = list(self._reachable), set[type]()
        while todo:
            found: list[type] = type.__subclasses__(todo.pop())
            for kind in found:
                if kind not in seen:
                    seen.add(kind)
                    todo.append(kind)
                    if message_kind(kind) is not None:
                        yield kind


def tag_of(kind: type) -> str:
    """``module:Class``."""
    return name_of(kind)
