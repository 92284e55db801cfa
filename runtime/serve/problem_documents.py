"""What a request is answered with when it cannot be served: problem documents (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from actors.errors import (
    LMBudgetExhausted,
    LMError,
    LMRateLimited,
    LMTimeout,
    LMUnavailable,
    NodeFailed,
    RunCancelled,
    RunFailed,
    RuntimeDraining,
    UnderstudyError,
)
from actors.groups import leaves_of
from actors.store_errors import RunExists, StoreError
from actors.words import kind_of
from runtime.messages.problems import FieldProblem, MessageInvalid
from runtime.traces.event_json import error_told

URN: Final = "urn:understudy:problem:"
KINDS: Final[Mapping[str, tuple[int, str, str]]] = {
    "malformed-json": (
        400,
        "The body is not JSON that can be read",
        "send one JSON value in UTF-8, without NaN and doubled names.",
    ),
    "bad-request": (400, "The request cannot be understood", "correct what the detail names; /openapi.json has every parameter."),
    "unknown-host": (400, "The service isn't reached under this name", "use the name under which the service was announced."),
    "unauthenticated": (
        401,
        "No valid key or token was given",
        "send the header 'Authorization: Bearer KEY', once, with a valid key.",
    ),
    "forbidden": (403, "The caller may not do this", "use a key that has the scope for it; the service's operator gives them."),
    "no-such-graph": (404, "There is no graph of this name", "use a name that GET /v1/graphs lists."),
    "no-such-run": (404, "There is no run of this id", "compare the id with GET /v1/runs, and use the key that started the run."),
    "no-such-question": (404, "There is no question of this id", "use an id that GET /v1/runs/{run}/questions lists."),
    "not-found": (404, "There is nothing here", "compare the path with /openapi.json."),
    "method-not-allowed": (405, "This cannot be done here", "use a method that the header Allow names."),
    "not-acceptable": (406, "No form of the answer is acceptable", "ask for a form that the detail names, or for none."),
    "body-too-slow": (408, "The body took too long to come", "send the whole body immediately after the headers."),
    "cannot-restart": (
        409,
        "The actor cannot be started again",
        "read the detail; what has ended permanently is not started again.",
    ),
    "run-exists": (409, "There is a run of this id already", "send another run_id, or none."),
    "idempotency-conflict": (409, "The idempotency key was used for another request", "use a new key for each new request."),
    "already-answered": (409, "The question has been answered", "nothing is left to do: the first answer counts."),
    "run-forgotten": (410, "Nothing is kept of this run any more", "ask sooner; a service with a store keeps runs for longer."),
    "body-too-large": (413, "The body is too large", "send less, or the address of what is large."),
    "not-json": (415, "The body must be application/json", "send the header 'Content-Type: application/json'."),
    "input-invalid": (
        422,
        "The input does not fit its type",
        "correct each place that errors names; /openapi.json has the schema.",
    ),
    "rate-limited": (429, "Too many requests", "wait for as many seconds as Retry-After gives."),
    "too-many-runs": (429, "Too many runs are in progress", "wait until one has ended, or cancel one."),
    "too-many-streams": (429, "Too many streams are open", "close one, or ask for the run without following it."),
    "budget-exhausted": (429, "A budget is used up", "give the run a larger budget, or wait until the service's is renewed."),
    "run-failed": (
        500,
        "The run failed",
        "look at the run with a key of the scope 'inspect', and tell the service's operator its id.",
    ),
    "run-cancelled": (500, "The run was cancelled", "start it again, if it wasn't you who cancelled it."),
    "internal": (500, "The service has failed", "tell the service's operator when it was; its log has the rest."),
    "model-failed": (502, "A language model failed", "look at error, if it is there, or give the operator the id of the run."),
    "draining": (503, "The service is shutting down", "send it again after as many seconds as Retry-After gives."),
    "model-overloaded": (
        503,
        "A language model is overloaded or cannot be reached",
        "try again after the seconds of Retry-After.",
    ),
    "store-failed": (503, "The store of runs failed", "send it again after as many seconds as Retry-After gives."),
    "deadline": (504, "The run took too long", "give it more time with timeout_s, or ask for less."),
}
"""Every kind of problem: its status, its title, and what its reader can do. No line tells what is inside, or who else calls."""
DAY_S: Final = 86_400
"""The longest time after which a client is asked to come again."""
RETRY_S: Final = 1
"""How long a caller is asked to wait where nothing better is known, in seconds."""


@final
class HttpProblem(Exception):
    """A request is answered with this. `detail` and `fix` are for people, and tell nothing of the inside."""

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        fix: str = "",
        errors: Sequence[FieldProblem] = (),
        run: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.status, self.title, usual = KINDS[kind]
        self.detail = detail or f"{self.title}."
        self.fix = fix or usual
        self.errors = tuple(errors)
        self.run = run
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(math.ceil(max(1, min(retry_after_s, DAY_S))))

    def document(self) -> dict[str, Any]:
        """The body."""
        document: dict[str, Any] = {
            "type": f"{URN}{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
            **self.more,
        }
        if self.errors:
            document["errors"] = [{"pointer": problem.pointer, "message": problem.message} for problem in self.errors]
        if self.run is not None:
            document["run"] = self.run
        return document


def invalid_input(error: MessageInvalid) -> HttpProblem:
    """A value that does not fit its type."""
    count = len(error.problems)
    return HttpProblem("input-invalid", f"{count} {'thing is' if count == 1 else 'things are'} wrong.", errors=error.problems)


def problem_of(error: BaseException, *, inside: bool, run: str | None = None) -> HttpProblem:
    """What to say of an error with which a run ended, or did not begin."""
    match error:
        case HttpProblem():
            return error
        case MessageInvalid():
            return invalid_input(error)
        case RuntimeDraining():
            return HttpProblem("draining", retry_after_s=RETRY_S, run=run)
        case RunExists():
            return HttpProblem("run-exists", run=run)
        case StoreError():
            return HttpProblem("store-failed", retry_after_s=RETRY_S, run=run, more=_told(error, inside=inside))
        case RunCancelled():
            return HttpProblem("run-cancelled", run=run)
        case _:
            pass
    model = next((each for each in _causes(error) if isinstance(each, LMError)), None)
    more = _told(error, inside=inside)
    if isinstance(model, LMBudgetExhausted):
        return HttpProblem("budget-exhausted", run=run, retry_after_s=RETRY_S, more=more)
    if isinstance(model, LMRateLimited | LMUnavailable | LMTimeout):
        wait_s = model.retry_after_s if model.retry_after_s is not None else RETRY_S
        return HttpProblem("model-overloaded", run=run, retry_after_s=wait_s, more=more)
    if model is not None:
        return HttpProblem("model-failed", run=run, more=more)
    if isinstance(error, UnderstudyError):
        return HttpProblem("run-failed", _words(error), run=run, more=more)
    return HttpProblem("internal", run=run, more=more if inside else {})


def model_error(error: BaseException) -> LMError | None:
    """The error of a language model that a run failed with, if that is what it failed with."""
    return next((each for each in _causes(error) if isinstance(each, LMError)), None)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    for leaf in leaves_of(error):
        each: BaseException | None = leaf
        while each is not None and len(found) < 100:
            found.append(each)
            each = each.__cause__
    return found


def _told(error: BaseException, *, inside: bool) -> dict[str, Any]:
    return {"error": error_told(error, inside=inside)}


def _words(error: UnderstudyError) -> str:
    if isinstance(error, RunFailed):
        nodes = ", ".join(repr(leaf.node) for leaf in leaves_of(error) if isinstance(leaf, NodeFailed))
        return f"Failed: node {nodes}."
    return f"The run ended with {kind_of(error)}."
