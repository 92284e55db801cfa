"""Calls of tools that may run once only and were cut short: the journal tells that they have begun, and not how they ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, final

import attrs

from runtime.graphs.records.journaling import FRAME_END
from runtime.journal.records import Record, RecordKind
from runtime.lm.tools.rounds import ToolRequest
from runtime.lm.tools.tool_schemas import digest_of, result_text

_BEGIN: Final = re.compile(
    r"(?P<step>.*)#(?P<attempt>[^#:]*):(?P<name>(?P<tool>.+) (?P<index>\d+) [0-9a-f]{16}) begun:1", re.DOTALL
)


def name_of(request: ToolRequest) -> str:
    """The name under which the result of a call is kept: a further attempt that asks for the same gets the same."""
    return f"{request.tool.name} {request.index} {digest_of(request.arguments)}"


def begin_of(name: str) -> str:
    """The name under which it is kept that the call of `name` has begun."""
    return f"{name} begun"


def path_of(step: str, index: int) -> str:
    """The path of a call, by that of its node's step."""
    return f"{step}/tool/{index}"


@final
@attrs.frozen(eq=False)
class CutCall:
    """One such call."""

    step: str
    """The place of its node's step in the journal, with the frames before it."""
    attempt: str
    name: str
    tool: str
    path: str
    may_go_on: bool
    """Whether its attempt is over: the next one may ask for something else, so no one need decide before it does."""

    def decided(self, value: Any) -> tuple[RecordKind, str, str | None]:
        """What to write down of a decision: a kind, a path, and what is kept, if anything."""
        if value == "repeat":
            return RecordKind.REPEATED, f"{self.step}#{self.attempt}:{begin_of(self.name)}:1", None
        return RecordKind.ONCE, f"{self.step}#{self.attempt}:{self.name}:1", kept_text(result_text(value))


def kept_text(text: str, *, is_error: bool = False) -> str:
    """How what a call gave is kept."""
    return json.dumps([is_error, text])


def cut_calls(records: Iterable[Record]) -> list[CutCall]:
    """The calls that `records`, in their order, tell of."""
    found: dict[str, CutCall] = {}
    for record in records:
        if record.kind is RecordKind.FAILED:
            step = record.path.rpartition("#")[0]
            for place, call in found.items():
                if call.step == step:
                    found[place] = attrs.evolve(call, may_go_on=True)
        elif record.kind is RecordKind.REPEATED:
            found.pop(record.path, None)
        elif record.kind is RecordKind.ONCE:
            begin = _BEGIN.fullmatch(record.path)
            if begin is None:
                _end(found, record.path)
                continue
            step = begin["step"]
            path = path_of(step.rpartition(FRAME_END)[2], int(begin["index"]))
            found[record.path] = CutCall(step, begin["attempt"], begin["name"], begin["tool"], path, may_go_on=False)
    return list(found.values())


def _end(found: dict[str, CutCall], path: str) -> None:
    """The call whose result has `path`, if it is one, has ended; it may have begun in another attempt."""
    step, _, rest = path.rpartition("#")
    name = rest.partition(":")[2].removesuffix(":1")
    for place, call in list(found.items()):
        if call.step == step and call.name == name:
            del found[place]
