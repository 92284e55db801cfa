"""Answers of language models as a journal has them: found again by what was asked, and with what they cost. Pure."""

from __future__ import annotations

import base64
import functools
import inspect
import json
import sys
import types
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2s
from typing import Any, Final, final

import attrs

from actors.lm import Completion, Embeddings, Usage
from runtime.graphs.records.run_record import Spend
from runtime.journal.records import MAX_RECORD_BYTES, Record, RecordKind

_SPEND: Final = b'{"spend":'
"""What the data of each answer begins with, so it need not be read whole to know what was spent."""
_TUPLES: Final = ("tool_calls", "thinking", "citations")
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ASCII: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Both are made once: there is an answer for each call."""


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    """The default of each field of a class, by name."""
    return {field.name: field.default for field in attrs.fields(kind)}


# --- what was asked -------------------------------------------------------------------------------------------------------


def digest_of_request(operation: str, model: str, what: object, options: Mapping[str, Any]) -> str | None:
    """Thirty-two characters that stand for a request, the same in every process; None for one that has no text.

    Functions, classes and objects among the options count by their names, signatures and fields.
    """
    try:
        text = json.dumps([operation, model, what, options], sort_keys=True, default=_plain)
    except (TypeError, ValueError, RecursionError):  # a ring, or names of several types: what no provider can be sent
        return None
    return blake2s(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(asked: object) -> Any:
    """What stands for an object that JSON does not have."""
    value: Any = asked
    if isinstance(asked, Mapping):
        return dict(value)
    if isinstance(asked, set | frozenset):
        return sorted(json.dumps(item, sort_keys=True, default=_plain) for item in value)
    if isinstance(asked, bytes | bytearray):
        return blake2s(asked).hexdigest()
    if isinstance(asked, functools.partial):
        return [_plain(value.func), list(value.args), value.keywords]
    if isinstance(asked, type):
        schema = getattr(value, "model_json_schema", None)
        return [_name(value), value.__doc__, _attempted(schema) if callable(schema) else None]
    if isinstance(asked, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        return [_name(value), value.__doc__, _attempted(lambda: str(inspect.signature(value)))]
    fields: Any = getattr(value, "__dict__", None)
    kind: Any = type(asked)
    if fields is None and attrs.has(kind):
        fields = {field.name: getattr(value, field.name, None) for field in attrs.fields(kind)}
    return [_name(kind), fields]


def _name(what: Any) -> str:
    return f"{getattr(what, '__module__', '')}:{getattr(what, '__qualname__', '')}"


def _attempted(call: Any) -> Any:
    try:
        return call()
    except Exception:  # noqa: BLE001 - anybody's code; its name will do
        return None


# --- what was answered ----------------------------------------------------------------------------------------------------


def encode_answer(answer: Completion | Embeddings, spend: Spend) -> bytes | None:
    """`answer` as it is stored; None if it has no JSON that gives it back, or more of it than a record may have.

    The provider's own reply is left out if only that makes it too large, or cannot be stored.
    """
    data = _kept(answer, answer, spend)
    if data is None and isinstance(answer, Completion) and answer.raw is not None:
        data = _kept(attrs.evolve(answer, raw=None), answer, spend)
    return data


def _kept(shortened: Completion | Embeddings, answer: Completion | Embeddings, spend: Spend) -> bytes | None:
    data = _encoded(shortened, spend)
    return data if data is not None and len(data) <= MAX_RECORD_BYTES and decode_answer(data) == answer else None


def _encoded(answer: Completion | Embeddings, spend: Spend) -> bytes | None:
    told = _fields(answer)
    if isinstance(answer, Embeddings):
        told["vectors"] = [_packed(vector) for vector in answer.vectors]
    name = "completion" if isinstance(answer, Completion) else "embeddings"
    try:
        return encode_spend(spend, {name: told})
    except (TypeError, ValueError, RecursionError):
        return None


def _fields(value: Any) -> dict[str, Any]:
    """What a value holds besides its defaults, by name."""
    told: dict[str, Any] = {}
    for name, default in _defaults(value.__class__).items():
        held = getattr(value, name)
        if held is default:
            continue
        if type(held) is Usage:
            told[name] = _fields(held)
        elif name == "tool_calls" and held:
            told[name] = [_fields(call) for call in held]
        elif not (type(held) is type(default) and held == default):
            told[name] = held
    return told


def decode_answer(data: bytes) -> Completion | Embeddings:
    """The answer that :func:`encode_answer` made `data` of. Fields that are no more are passed over."""
    told: dict[str, Any] = json.loads(data)
    kind: Any = Completion if "completion" in told else Embeddings
    names = _defaults(kind)
    known = {name: held for name, held in (told.get("completion") or told["embeddings"]).items() if name in names}
    usage = _defaults(Usage)
    known["usage"] = Usage(**{name: held for name, held in known.get("usage", {}).items() if name in usage})
    for name in _TUPLES:
        if name in known:
            known[name] = tuple(known[name])
    if kind is Embeddings:
        known["vectors"] = tuple(map(_unpacked, known["vectors"]))
    answer: Completion | Embeddings = kind(**known)
    return answer


def _packed(vector: Sequence[float]) -> list[str]:
    """The numbers as bytes, which are a third of their digits; four for each if no more are needed."""
    short, whole = array("f", vector), array("d", vector)
    numbers, kind = (short, "f") if short.tolist() == whole.tolist() else (whole, "d")
    if sys.byteorder == "big":
        numbers.byteswap()
    return [kind, base64.b64encode(numbers.tobytes()).decode("ascii")]


def _unpacked(packed: Sequence[str]) -> tuple[float, ...]:
    kind, text = packed
    numbers: array[float] = array("f" if kind == "f" else "d")
    numbers.frombytes(base64.b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers.tolist())


# --- what it cost ---------------------------------------------------------------------------------------------------------


def encode_spend(spend: Spend, more: Mapping[str, Any] | None = None) -> bytes:
    """What a call used, and `more`, as JSON.

    Raises:
        ValueError: `more` has no JSON. TypeError: neither.
    """
    used = {name: held for name in _defaults(Spend) if (held := getattr(spend, name))}
    told = {"spend": used, **(more or {})}
    try:
        return _COMPACT(told).encode("utf-8")
    except UnicodeEncodeError:  # half of a pair of surrogates
        return _ASCII(told).encode("ascii")


@final
class Costs:
    """What the calls of a run have used, record by record."""

    def __init__(self) -> None:
        self._spend = Spend()
        self._open: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Count one more record of the run, in order."""
        if record.kind is RecordKind.CALLED:
            self._open[record.path] += 1
        elif record.kind in (RecordKind.ANSWER, RecordKind.UNANSWERED):
            self._open[record.path] -= 1
            self._spend = self._spend.plus(_spend_in(record.data))

    @property
    def spend(self) -> Spend:
        """All together; a call whose end is not recorded is an uncertain one."""
        return attrs.evolve(self._spend, uncertain_calls=sum(count for count in self._open.values() if count > 0))


def spend_of(records: Iterable[Record]) -> Spend:
    """What the calls of a run had used by the last of its `records`."""
    costs = Costs()
    for record in records:
        costs.add(record)
    return costs.spend


def _spend_in(data: bytes | None) -> Spend:
    if data is None or not data.startswith(_SPEND):
        return Spend()
    told: dict[str, Any] = json.loads(data[len(_SPEND) : data.index(b"}") + 1])  # it holds numbers only
    names = _defaults(Spend)
    return Spend(**{name: held for name, held in told.items() if name in names})
