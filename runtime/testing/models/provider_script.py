"""What the loopback provider does with each request: answers, latencies and failures by model. Pure; JSON in and out.

The provider asks :meth:`Script.plan` once per request, when the request arrives, so sequences are used in arrival order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self, cast, final, get_args

import attrs

from actors.argument_checks import is_count, is_number, rejected
from actors.errors import DeclarationError
from actors.lm import Completion, Usage
from actors.words import repr_of, said
from runtime.testing.models.answers import Answer, AnswerFunction, AnswerValue, ChatRequest, completion_of
from runtime.testing.models.checked_scripts import ScriptQuestion, Tolerance, Tolerances, difference, excerpt

ANY_MODEL: Final = "*"
"""The key that stands for every model without its own script."""

FailureKind = Literal["status", "disconnect", "disconnect_mid_body", "garbage", "truncated_json", "slow_headers", "slow_body"]

_IS_ANSWER: Final = "_answer"
"""Marks an :class:`Answer` among the answers in JSON."""


def _is_failure_kind(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in get_args(FailureKind):
        raise rejected(owner, attribute.name, value, "one of " + ", ".join(map(repr, get_args(FailureKind))))


@final
@attrs.frozen
class Failure:
    """One way in which a provider fails. Made by the class methods; each is used up by one request."""

    kind: FailureKind = attrs.field(validator=_is_failure_kind)
    code: int = attrs.field(default=200, validator=is_count(least=200))
    """The HTTP status, for ``"status"``."""
    message: str = ""
    """The error's text, for ``"status"``."""
    retry_after_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(is_number(least=0)))
    """The ``retry-after`` header, for ``"status"``."""
    after_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(is_number(least=0, finite=True)))
    """Seconds until it strikes; None: the model's latency."""
    piece_bytes: int = attrs.field(default=16, validator=is_count(least=1))
    """For ``"slow_body"``."""
    interval_s: float = attrs.field(default=0.0, validator=is_number(least=0, finite=True))
    """For ``"slow_body"``."""

    def __str__(self) -> str:
        return f"{self.kind} {self.code}" if self.kind == "status" else self.kind

    @classmethod
    def status(
        cls, code: int, *, retry_after_s: float | None = None, message: str | None = None, after_s: float | None = 0.0
    ) -> Self:
        """An error status with a JSON error body; immediately unless `after_s` is set (None: after the model's latency)."""
        return cls("status", code, message or f"Scripted failure {code}.", retry_after_s, after_s)

    @classmethod
    def disconnect(cls, *, after_s: float | None = 0.0) -> Self:
        """The connection closes and not one byte came."""
        return cls("disconnect", after_s=after_s)

    @classmethod
    def disconnect_mid_body(cls) -> Self:
        """Head and half of the body come after the model's latency, then the connection closes."""
        return cls("disconnect_mid_body")

    @classmethod
    def garbage(cls) -> Self:
        """Status 200 and a body of HTML instead of JSON, as from a proxy in the way."""
        return cls("garbage")

    @classmethod
    def truncated_json(cls) -> Self:
        """A correct HTTP response whose JSON stops half-way; in a stream, one event is cut and the stream ends."""
        return cls("truncated_json")

    @classmethod
    def slow_headers(cls, delay_s: float) -> Self:
        """The right answer, but the first byte comes after `delay_s` instead of the model's latency."""
        return cls("slow_headers", after_s=delay_s)

    @classmethod
    def slow_body(cls, *, piece_bytes: int = 16, interval_s: float = 1.0) -> Self:
        """The right answer in pieces of `piece_bytes`, one at the model's latency and then one each `interval_s`."""
        return cls("slow_body", piece_bytes=piece_bytes, interval_s=interval_s)


def _failures_of(given: Failure | Iterable[Failure]) -> tuple[Failure, ...] | Failure:
    return given if isinstance(given, Failure) else tuple(given)


@final
@attrs.frozen
class ModelScript:
    """What one model does.

    `answer` is one answer for every request, a function of the request, or a list that is used up in arrival order (its items
    are answers or functions). The first ``len(failures)`` requests fail, one failure each, and use up no answer. One failure that
    is not in a list is like one answer: every request meets it.
    """

    answer: AnswerValue | Answer | AnswerFunction | Sequence[AnswerValue | Answer | AnswerFunction]
    latency_s: float | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(is_number(least=0, finite=True))
    )
    """Seconds until the first byte, from when the request is being served; None: the provider's default."""
    interval_s: float = attrs.field(default=0.0, kw_only=True, validator=is_number(least=0, finite=True))
    """Seconds between two events of a streamed answer."""
    failures: tuple[Failure, ...] | Failure = attrs.field(default=(), kw_only=True, converter=_failures_of)


_Item = AnswerValue | Answer | AnswerFunction

ScriptLike = ModelScript | AnswerValue | Answer | AnswerFunction | Sequence[AnswerValue | Answer | AnswerFunction]
"""A model's script, or its answer alone."""


@final
@attrs.frozen
class RequestPlan:
    """What is done with one request. Either `completion` or `refusal` is given, or `failure` makes both unnecessary."""

    latency_s: float = 0.0
    interval_s: float = 0.0
    failure: Failure | None = None
    completion: Completion | None = None
    refusal: str | None = None
    """Why the script cannot answer; sent with status 400, which no client tries again."""


@final
@attrs.define(eq=False)
class FollowedScript:
    """A :class:`Script` that is compared, at the end of a test, with what came; see ``checked_scripts``."""

    script: Script
    owner: str
    """What it is the script of."""
    maker: str
    """What takes the options ``unused`` and ``unforeseen``."""
    allowed: Tolerances

    @classmethod
    def of(cls, script: Script, owner: str, maker: str, unused: Tolerance, unforeseen: Tolerance) -> FollowedScript:
        """With the options that `maker` was given."""
        return cls(script, owner, maker, Tolerances.of(maker, unused, unforeseen))

    def mismatch(self) -> str | None:
        """How what came differs from the script; None when it does not, or where that is allowed."""
        return difference(self.owner, self.maker, self.script.unused(), self.script.asked, self.allowed)


@final
@attrs.define(eq=False)
class Script:
    """The scripts of all models, and how far each is used up."""

    latency_s: float = attrs.field(default=0.0, validator=is_number(least=0, finite=True))
    """For models that say nothing else."""
    _models: dict[str, ModelScript] = attrs.field(factory=dict[str, ModelScript], init=False)
    _failed: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    _answered: dict[str, int] = attrs.field(factory=dict[str, int], init=False)
    _met: set[str] = attrs.field(factory=set[str], init=False)
    asked: list[ScriptQuestion] = attrs.field(factory=list[ScriptQuestion], init=False)
    """What came, in the order of arrival."""

    @property
    def models(self) -> tuple[str, ...]:
        """The names that have a script, in the order of their declaration, without ``"*"``."""
        return tuple(name for name in self._models if name != ANY_MODEL)

    def set(self, model: str, script: ScriptLike) -> None:
        """Give `model` (or ``"*"``) a script; the former one and its progress are forgotten."""
        self._models[model] = script if isinstance(script, ModelScript) else ModelScript(script)
        self._failed.pop(model, None)
        self._answered.pop(model, None)
        self._met.discard(model)

    def unused(self) -> list[str]:
        """What was never asked for: answers and failures of lists, and models."""
        left: list[str] = []
        for model, script in self._models.items():
            items, used, failed = _items(script), self._answered.get(model, 0), self._failed.get(model, 0)
            if items is not None:
                left += [f"{model!r}, answer {at}: {excerpt(repr_of(item))}" for at, item in enumerate(items, 1) if at > used]
            elif model not in self._met:
                left.append(f"{model!r}: {excerpt(repr_of(script.answer))}")
            failures = () if isinstance(script.failures, Failure) else script.failures
            left += [f"{model!r}, failure {at}: {each}" for at, each in enumerate(failures, 1) if at > failed]
        return left

    def plan(self, request: ChatRequest) -> RequestPlan:
        """Decide what happens to `request` and use up what that takes. A mistake in the script becomes an error reply."""
        name = request.model if request.model in self._models else ANY_MODEL
        script = self._models.get(name)
        self._met.add(name)
        in_vain = script is None or self._is_spent(name, script)
        self.asked.append(ScriptQuestion(f"{request.model}: {request.text}", in_vain))
        if script is None:
            return RequestPlan(refusal=_unscripted(request.model, self.models))
        latency_s = self.latency_s if script.latency_s is None else script.latency_s
        failure = self._next_failure(name, script)
        if failure is not None and failure.after_s is not None:
            latency_s = failure.after_s
        if failure is not None and failure.kind in {"status", "disconnect", "garbage"}:
            return RequestPlan(latency_s, failure=failure)
        return self._planned_answer(name, script, request, RequestPlan(latency_s, script.interval_s, failure))

    def _is_spent(self, name: str, script: ModelScript) -> bool:
        """Whether all of its answers and failures have been given."""
        items = _items(script)
        fails = isinstance(script.failures, Failure) or self._failed.get(name, 0) < len(script.failures)
        return items is not None and not fails and self._answered.get(name, 0) >= len(items)

    def _next_failure(self, name: str, script: ModelScript) -> Failure | None:
        if isinstance(script.failures, Failure):
            return script.failures
        used = self._failed.get(name, 0)
        if used >= len(script.failures):
            return None
        self._failed[name] = used + 1
        return script.failures[used]

    def _planned_answer(self, name: str, script: ModelScript, request: ChatRequest, plan: RequestPlan) -> RequestPlan:
        used, items = self._answered.get(name, 0), _items(script)
        if items is not None and used >= len(items):
            return RequestPlan(refusal=_used_up(request.model, len(items)))
        answer = cast("_Item", script.answer) if items is None else items[used]
        if plan.failure is None or plan.failure.kind in {"slow_headers", "slow_body"}:
            self._answered[name] = used + 1
        try:
            given = answer(request) if callable(answer) else answer
            completion = completion_of(given, model=request.model, messages=request.messages)
        except Exception as error:  # noqa: BLE001 - anything that a test's own function raises is shown to its client
            return RequestPlan(refusal=f"The script of model {request.model!r} raised {said(error)}")
        own_s = given.latency_s if isinstance(given, Answer) else None
        keeps = own_s is None or (plan.failure is not None and plan.failure.after_s is not None)
        return attrs.evolve(plan, completion=completion, latency_s=plan.latency_s if keeps or own_s is None else own_s)


def script_to_json(model: str, script: ScriptLike) -> dict[str, Any]:
    """`script` as a JSON object, for a provider in another process.

    Raises:
        DeclarationError: it holds a function, which cannot cross to another process.
    """
    whole = script if isinstance(script, ModelScript) else ModelScript(script)
    rest = {
        "latency_s": whole.latency_s,
        "interval_s": whole.interval_s,
        "failures": _failures_to_json(whole.failures),
    }
    items = _items(whole)
    if items is not None:
        return {"answers": [_answer_to_json(model, item) for item in items], **rest}
    return {"answer": _answer_to_json(model, whole.answer), **rest}


def script_from_json(data: Mapping[str, Any]) -> ModelScript:
    """The script that :func:`script_to_json` wrote, or one written by hand: ``{"answer": "…", "latency_s": 0.7}``.

    Raises:
        ValueError: it has no answer.
        TypeError: a failure has a field that there is not.
        DeclarationError: a value is not one that it may be.
    """
    listed = "answers" in data
    if not listed and "answer" not in data:
        raise ValueError(f"a model's script needs 'answer' or 'answers'; it has {sorted(data)}.")
    return ModelScript(
        [_answer_from_json(item) for item in data["answers"]] if listed else _answer_from_json(data["answer"]),
        latency_s=data.get("latency_s"),
        interval_s=data.get("interval_s", 0.0),
        failures=_failures_from_json(data.get("failures", ())),
    )


def _failures_to_json(failures: tuple[Failure, ...] | Failure) -> Any:
    return attrs.asdict(failures) if isinstance(failures, Failure) else [attrs.asdict(failure) for failure in failures]


def _failures_from_json(data: Any) -> list[Failure] | Failure:
    if isinstance(data, Mapping):
        return Failure(**cast("dict[str, Any]", data))
    return [Failure(**failure) for failure in data]


def _items(script: ModelScript) -> Sequence[_Item] | None:
    """The script's answers when it lists them; a text is one answer, although it is a sequence too."""
    answer: object = script.answer
    listed = isinstance(answer, Sequence) and not isinstance(answer, str)
    return cast("Sequence[_Item]", answer) if listed else None


def _answer_to_json(model: str, answer: object) -> dict[str, Any]:
    if callable(answer):
        raise DeclarationError(
            f"The answer of model {model!r} is a function, and functions do not cross to another process.\n"
            "  Fix: give loopback_process() texts, mappings or lists of them, or use open_loopback() in the same trio.run."
        )
    wrapped = answer if isinstance(answer, Answer) else Answer(cast("AnswerValue", answer))
    value = wrapped.value
    encoded = {"completion": attrs.asdict(value)} if isinstance(value, Completion) else {"value": value}
    usage = None if wrapped.usage is None else attrs.asdict(wrapped.usage)
    return {**encoded, "latency_s": wrapped.latency_s, "usage": usage, "finish_reason": wrapped.finish_reason, _IS_ANSWER: True}


def _answer_from_json(data: Any) -> Answer:
    if not isinstance(data, Mapping) or _IS_ANSWER not in data:
        return Answer(cast("AnswerValue", data))
    whole = cast("Mapping[str, Any]", data)
    completion = whole.get("completion")
    value = whole.get("value") if completion is None else _completion_from_json(completion)
    usage = whole.get("usage")
    return Answer(
        cast("AnswerValue", value),
        latency_s=whole.get("latency_s"),
        usage=None if usage is None else Usage(**usage),
        finish_reason=whole.get("finish_reason"),
    )


def _completion_from_json(data: Mapping[str, Any]) -> Completion:
    collected = {name: tuple(data.get(name, ())) for name in ("tool_calls", "thinking", "citations")}
    fields: dict[str, Any] = {**data, "usage": Usage(**data["usage"]), **collected}
    return Completion(**fields)


def _unscripted(model: str, models: Sequence[str]) -> str:
    known = ", ".join(repr(name) for name in models) or "none"
    return (
        f"The loopback provider has no script for model {model!r}; scripted models: {known}.\n"
        f"  Fix: open_loopback({{{model!r}: 'an answer'}}), or provider.script({model!r}, 'an answer'); '*' is any model."
    )


def _used_up(model: str, count: int) -> str:
    return (
        f"The script of model {model!r} has {count} answer(s) and all have been given.\n"
        "  Fix: list one answer for each request, or give a single answer or a function, which never run out."
    )
