"""Language models for systems whose nodes are types: four coroutines that make, choose and fill instances of them.

``make(source, Target)``, ``decide(source)``, ``choose_type(types, context)`` and ``fill(Target, resolved, instruction)``. Every
answer is validated by the type it becomes. Requests are tried again by the language model below, which owns that, and nowhere
here; what is asked again here is an answer that does not fit, and then the prompt holds the answer and what is wrong with it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast, final

import attrs
import trio

from actors.argument_checks import check_count
from actors.errors import DeclarationError, UsageError
from runtime.lm.dspy.bridge import fill
from runtime.lm.dspy.choosing import choose
from runtime.lm.dspy.dspy_calls import ChatLM, check_truncated
from runtime.lm.dspy.trained import Trained
from runtime.messages.fields import MessageField, fields_of
from runtime.messages.schemas import hooked, misgiven, plain, type_name

T = TypeVar("T")


class DSPyBackend:
    """The four coroutines by DSPy over `lm`, on trio: no thread, and no event loop besides.

    Args:
        lm: what answers; an ``LMClient``, for example.
        max_retries: how often an answer that does not fit is asked for again.
        truncated: what happens to an answer that stops in the middle; see ``run_signature``.
    """

    def __init__(self, lm: ChatLM, *, max_retries: int = 1, truncated: str | None = None) -> None:
        check_count(self, "max_retries", max_retries, least=0)
        self._lm = lm
        check_truncated(self, truncated)
        self._attempts = max_retries + 1
        self._truncated = truncated

    async def make(self, source: object, target: type[T]) -> T:
        """An instance of `target` made from `source`.

        Raises:
            LMReplyUnreadable: no answer fits `target`, after all attempts.
            LMError: the call failed.
        """
        return await self._filled(target, "", {"source": source})

    async def decide(self, source: object) -> Any:
        """The next instance after `source`: of one of the types that its ``__call__`` returns, or None where that may be.

        Raises:
            DeclarationError: its ``__call__`` names no type and not None.
            LMReplyUnreadable: see :meth:`make`; also when the model names none of the types.
        """
        candidates, may_end = what_follows(source)
        if not candidates:
            await trio.lowlevel.checkpoint()
            return None
        target: type[Any] | None = candidates[0]
        if len(candidates) > 1 or may_end:
            target = await self._chosen(candidates, source, may_end)
        return None if target is None else await self.make(source, target)

    async def choose_type(self, types: Sequence[type[T]], context: object) -> type[T]:
        """The one of `types` that fits `context`; without asking when there is only one.

        The model's answer must be one of the names exactly: no part of a name stands for it, and no type is taken in its
        stead.

        Raises:
            DeclarationError: there are none, or two that cannot be distinguished by their full names.
            LMReplyUnreadable: the model names none of them, after all attempts.
        """
        if len(types) == 1:
            await trio.lowlevel.checkpoint()
            return types[0]
        chosen = await self._chosen(types, context, may_end=False)
        assert chosen is not None, "None was not among the names"
        return chosen

    async def fill(self, target: type[T], resolved: Mapping[str, object], instruction: str, source: object | None = None) -> T:
        """An instance of `target` whose fields in `resolved` are given and whose other fields the model fills from all there is.

        Args:
            target: the type.
            resolved: values by field name; the model is shown them and does not change them.
            instruction: what to do; when empty, a sentence made of the type names.
            source: what the instance is made from besides.

        Raises:
            DeclarationError: `target` has no field of a name in `resolved`.
            UsageError: a value in `resolved` is of another type than its field.
            LMReplyUnreadable: see :meth:`make`.
        """
        inputs = {**resolved, **({} if source is None else {"source": source})}
        return await self._filled(target, instruction, inputs, given=resolved)

    async def _chosen(self, candidates: Sequence[type[T]], context: object, may_end: bool) -> type[T] | None:
        trained = self._trained_choice(type(context))
        chosen = await choose(
            self._lm,
            instruction="",
            inputs={"context": context},
            among=candidates,
            may_be_none=may_end,
            module="Predict" if trained is None else trained[0],
            parse_attempts=self._attempts,
            trained=None if trained is None else trained[1],
            truncated=self._truncated,
        )
        return cast("type[T] | None", chosen)

    async def _filled(
        self, target: type[T], instruction: str, inputs: Mapping[str, object], *, given: Mapping[str, object] | None = None
    ) -> T:
        output, build = partial_type(target, given or {})
        trained = self._trained_for(target)
        answer = await fill(
            self._lm,
            instruction=instruction,
            inputs=inputs,
            output=output,
            module="Predict" if trained is None else trained[0],
            parse_attempts=self._attempts,
            trained=None if trained is None else trained[1],
            truncated=self._truncated,
        )
        return cast("T", build(answer))

    def _trained_for(self, target: type) -> tuple[str, Trained] | None:
        """The module for `target` and what it has been trained to; None: there is no such thing."""
        return None

    def _trained_choice(self, source: type) -> tuple[str, Trained] | None:
        """The same for the choice of what follows an instance of `source`."""
        return None


@final
class OptimizedLM(DSPyBackend):
    """``DSPyBackend`` with predictors that an optimiser has trained, for the types that have one.

    Args:
        lm: see ``DSPyBackend``.
        optimized: the trained ``dspy.Predict`` or ``dspy.ChainOfThought`` by the type that it fills. Their demonstrations and
            instructions are copied for each call, so one may be used by many calls, and trained meanwhile.
        choices: the same by the type after which ``decide`` and ``choose_type`` choose what follows; see ``optimize_node``. A
            choice is not counted.
        max_retries: see ``DSPyBackend``.
        truncated: see ``DSPyBackend``.
    """

    def __init__(
        self,
        lm: ChatLM,
        optimized: Mapping[type, Any] | None = None,
        *,
        choices: Mapping[type, Any] | None = None,
        max_retries: int = 1,
        truncated: str | None = None,
    ) -> None:
        super().__init__(lm, max_retries=max_retries, truncated=truncated)
        self._optimized = dict(optimized or {})
        self._choices = dict(choices or {})
        self._stats = {"optimized": 0, "naive": 0}

    def get_stats(self) -> dict[str, int]:
        """How many instances were made with a trained predictor (``"optimized"``) and without (``"naive"``). A copy."""
        return dict(self._stats)

    def _trained_for(self, target: type) -> tuple[str, Trained] | None:
        predictor = self._optimized.get(target)
        self._stats["naive" if predictor is None else "optimized"] += 1
        return None if predictor is None else (type(predictor).__name__, Trained.of(predictor))

    def _trained_choice(self, source: type) -> tuple[str, Trained] | None:
        predictor = self._choices.get(source)
        return None if predictor is None else (type(predictor).__name__, Trained.of(predictor))


def successors(node: type[Any]) -> tuple[list[type[Any]], bool]:
    """The types that `node`'s ``__call__`` returns, and whether it may return None. ``X | None`` is ``Optional[X]``.

    A type without ``__call__``, or whose ``__call__`` has no return annotation, ends.
    """
    call: Any = inspect.getattr_static(node, "__call__", None)
    hint: Any = typing.get_type_hints(call).get("return", types.NoneType) if inspect.isfunction(call) else types.NoneType
    parts = typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else (hint,)
    return [part for part in parts if part is not types.NoneType], types.NoneType in parts


def what_follows(source: object) -> tuple[list[type[Any]], bool]:
    """:func:`successors` of the type of `source`.

    Raises:
        DeclarationError: there are none, and it may not end either.
    """
    candidates, may_end = successors(type(source))
    if not candidates and not may_end:
        raise DeclarationError(
            f"{type(source).__name__} doesn't declare what follows it.\n"
            "  Fix: annotate what its __call__ returns, for example '-> Answer | None'."
        )
    return candidates, may_end


def partial_type(target: type, given: Mapping[str, object]) -> tuple[type, Callable[[Any], object]]:
    """A type of `target`'s other fields, and what makes a `target` of one of its instances and `given`.

    Raises:
        DeclarationError: `target` has no field of a name in `given`.
        UsageError: a value in `given` is of another type than its field.
    """
    if not given:
        return target, lambda answer: answer
    fields = {field.name: field for field in fields_of(target) if field.init}
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise DeclarationError(
            f"{target.__name__} has no field {unknown[0]!r} to put what was resolved into; it has {', '.join(fields)}.\n"
            "  Fix: name the fields of the type."
        )
    converted = {field.name for field in attrs.fields(target) if field.converter} if attrs.has(target) else set[str]()
    for name, value in given.items():
        if name in converted:  # the author's own converter decides
            continue
        reason = misgiven(fields[name].type, value)
        if reason is not None:
            raise UsageError(
                f"{target.__name__}.{name} cannot be what was resolved: {reason}.\n"
                f"  Fix: resolve it to a {type_name(fields[name].type)}, or leave it to the model."
            )
    asked = [field for name, field in fields.items() if name not in given]
    read_by_author = hooked(target)

    def make(self: Any) -> None:
        """The whole, as soon as the rest has come: readers of the author's own then see what was said, and it is asked again."""
        whole = target(**given, **{field.name: getattr(self, field.name) for field in asked})
        for field in asked:
            setattr(self, field.name, getattr(whole, field.attribute, getattr(self, field.name)))
        self.__dict__[_WHOLE] = whole

    columns = {field.name: _column(field, is_raw=field.name in read_by_author) for field in asked}
    rest = attrs.make_class(target.__name__, columns, kw_only=True, slots=False, class_body={"__attrs_post_init__": make})
    return rest, lambda answer: answer.__dict__[_WHOLE]


_WHOLE: Final = "(whole)"
"""Where an instance of a partial type keeps what it is a part of: no name of a field."""


def _as_it_is(said: object) -> object:
    return said


def _column(field: MessageField, *, is_raw: bool) -> Any:
    """A field of a partial type; `is_raw`: its author reads what was said, so the part itself must not."""
    default = attrs.Factory(field.default_factory) if field.default_factory is not None else field.default
    options: dict[str, Any] = {"type": plain(field.type), "converter": _as_it_is} if is_raw else {"type": field.type}
    return attrs.field(default=default, metadata={"description": field.description}, **options)
