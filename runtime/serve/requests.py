"""What a request says: its body, its preferences, and the run that it asks for."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast, final

import attrs

from actors.graphs.graph import Graph
from runtime.graphs.records.labels import MAX_LABEL, MAX_LABELS, RESERVED
from runtime.lm.limits.budget import Budget
from runtime.messages.json_text import parse
from runtime.messages.problems import FieldProblem, MessageInvalid
from runtime.messages.reader import read
from runtime.serve.incoming import incoming_of
from runtime.serve.limits import Limits
from runtime.serve.live import Order
from runtime.serve.problem_documents import HttpProblem, invalid_input
from runtime.serve.web import Request

MOST: Final = 10**15
"""What every bound of a run is below."""
MOST_SEQ: Final = 2**53
"""The largest number that a query or a header may have."""
RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_START_FIELDS: Final = ("input", "type", "run_id", "labels", "max_steps", "timeout_s", "budget")


@final
@attrs.frozen
class Preferences:
    """The header ``Prefer`` (RFC 7240), as far as it is known here."""

    wait_s: float | None = None
    cancels_on_disconnect: bool = False

    @property
    def applied(self) -> str:
        """For ``Preference-Applied``; empty for none."""
        wait = [] if self.wait_s is None else [f"wait={self.wait_s:.15g}"]
        return ", ".join([*wait, *(["cancel-on-disconnect"] if self.cancels_on_disconnect else [])])


_NO_PREFERENCES: Final = Preferences()


def preferences_of(request: Request, limits: Limits) -> Preferences:
    """What the client would like; what is not understood is passed over, as the RFC has it."""
    given = [value for name, value in request.scope["headers"] if name == b"prefer"]
    return _preferences(b",".join(given), limits.wait_s) if given else _NO_PREFERENCES


@functools.lru_cache(100)
def _preferences(given: bytes, most_s: float) -> Preferences:
    wait_s, cancels = None, False
    for part in given.decode("latin-1").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "wait" and value.isascii() and value.isdigit() and wait_s is None:
            wait_s = min(float(value[:9]), most_s)
        cancels = cancels or name == "cancel-on-disconnect"
    return Preferences(wait_s, cancels)


def accepts(request: Request, kind: str) -> bool:
    """Whether the client asks for the media type `kind` by name."""
    headers = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept"]
    return any(part.partition(";")[0].strip().lower() == kind for header in headers for part in header.split(","))


async def json_body(request: Request, limits: Limits) -> tuple[Any, bytes]:
    """The JSON of the body, and its bytes.

    Raises:
        Problem: it is none, or not said to be some.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpProblem("not-json")
    body = await incoming_of(request).body()
    try:
        return parse(body, max_bytes=limits.body_bytes, max_depth=limits.json_depth), body
    except MessageInvalid as error:
        raise HttpProblem("malformed-json", errors=error.problems) from error


def order_of(value: Any, graph: Graph, limits: Limits) -> Order:
    """The run that the body of a start asks for.

    Raises:
        Problem: it does not fit; every place that is wrong is named.
    """
    if not isinstance(value, dict):
        raise HttpProblem("input-invalid", errors=[FieldProblem((), "expected an object with the field 'input'")])
    given = cast("dict[str, Any]", value)
    if len(given) == 1 and "input" in given:  # as most are
        return Order(graph, message_of(graph, given["input"], None, limits))
    problems = [
        FieldProblem((name,), f"no field of a start; its fields: {', '.join(_START_FIELDS)}")
        for name in given
        if name not in _START_FIELDS
    ]
    if "input" not in given:
        problems.append(FieldProblem(("input",), "missing"))
    run_id = given.get("run_id")
    if run_id is not None and not (isinstance(run_id, str) and RUN_ID.fullmatch(run_id)):
        problems.append(FieldProblem(("run_id",), "expected 1 to 64 letters, digits, '-' and '_'"))
    max_steps = _bound(given, "max_steps", problems, whole=True)
    timeout_s = _bound(given, "timeout_s", problems)
    labels = _labels(given.get("labels"), problems)
    budget = _budget(given.get("budget"), problems)
    kind = given.get("type")
    if problems:
        raise HttpProblem("input-invalid", errors=problems)
    message = message_of(graph, given["input"], kind, limits)
    return Order(graph, message, run_id, labels, max_steps, timeout_s, budget)


def message_of(graph: Graph, value: Any, kind: Any, limits: Limits) -> Any:
    """The graph's input that `value` is; `kind` names its type where it could be of several.

    Raises:
        Problem: it does not fit.
    """
    types = {each.__name__: each for each in graph.plan().input_types}
    if kind is not None and (not isinstance(kind, str) or kind not in types):
        raise HttpProblem("input-invalid", errors=[FieldProblem(("type",), f"expected one of: {', '.join(types)}")])
    tried = [types[kind]] if kind is not None else list(types.values())
    made: list[Any] = []
    wrong: list[MessageInvalid] = []
    for each in tried:
        try:
            made.append(read(each, value, at=("input",), max_depth=limits.json_depth, is_parsed=True))
        except MessageInvalid as error:
            wrong.append(error)
    if len(made) == 1:
        return made[0]
    if made:
        raise HttpProblem(
            "input-invalid", errors=[FieldProblem(("type",), f"expected one of: {', '.join(types)}; it fits several")]
        )
    if len(wrong) == 1:
        raise invalid_input(wrong[0])
    raise HttpProblem(
        "input-invalid", errors=[FieldProblem(("input",), f"it fits none of: {', '.join(types)}; 'type' names one")]
    )


def _bound(given: Mapping[str, Any], name: str, problems: list[FieldProblem], *, whole: bool = False) -> float:
    value = given.get(name)
    if value is None:
        return math.inf
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value < MOST and (not whole or value == int(value)):  # 3.0 is a whole number in JSON Schema, too
        return cast("float", int(value) if whole else value)
    problems.append(FieldProblem((name,), f"expected a {'whole ' if whole else ''}number > 0"))
    return math.inf


def _labels(value: Any, problems: list[FieldProblem]) -> dict[str, str]:
    if value is None:
        return {}
    what = FieldProblem(("labels",), f"expected at most {MAX_LABELS} texts by name, of at most {MAX_LABEL} characters")
    if not isinstance(value, dict):
        problems.append(what)
        return {}
    labels = cast("dict[str, Any]", value)
    parts = [part for item in labels.items() for part in item]
    if len(labels) > MAX_LABELS or "" in labels or not all(isinstance(part, str) and len(part) <= MAX_LABEL for part in parts):
        problems.append(what)
    elif reserved := [name for name in labels if name.startswith(RESERVED)]:
        problems.append(FieldProblem(("labels", reserved[0]), f"names that begin with {RESERVED!r} are the service's own"))
    return labels


def _budget(value: Any, problems: list[FieldProblem]) -> Budget | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value or set(cast("dict[str, Any]", value)) - {"usd", "tokens"}:
        problems.append(FieldProblem(("budget",), "expected an object with 'usd', 'tokens' or both"))
        return None
    found: list[FieldProblem] = []
    bounds = cast("dict[str, Any]", value)
    usd, tokens = _bound(bounds, "usd", found), _bound(bounds, "tokens", found, whole=True)
    problems.extend(attrs.evolve(each, path=("budget", *each.path)) for each in found)
    return None if found else Budget(max_cost_usd=usd, max_tokens=tokens)


def idempotency_of(request: Request, graph: str, body: bytes) -> tuple[str, str] | None:
    """The key with which the request may be sent again, and what it asks for, as a digest.

    Raises:
        Problem: the key is none.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise HttpProblem("bad-request", "Idempotency-Key: expected 1 to 255 printable characters.")
    return key, hashlib.sha256(graph.encode() + b"\0" + body).hexdigest()


def whole_number(text: str | None, name: str, default: int, most: int = MOST_SEQ) -> int:
    """A number of the query or of a header.

    Raises:
        Problem: it is none.
    """
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > most:
        raise HttpProblem("bad-request", f"{name}: expected a whole number up to {most}.")
    return int(text)
