"""Adapters of DSPy's that ask again for an answer that they cannot read, and never read one for longer than they may.

What is read on the event loop is read within a few thousandths of a second. An answer that takes longer goes to a thread, and one
that takes too long there, is too large or too deep cannot be read, like any other that does not fit.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Sequence
from typing import Any

import trio

from actors.errors import LMTruncated
from actors.lm import ChatMessage
from runtime.lm.dspy.formats import NotInFormat, arguments_of, as_said, value_of, written
from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.dspy.prompts import remembering
from runtime.lm.dspy.repair import IN_A_THREAD, ON_THE_LOOP, TooHard, limited, read
from runtime.lm.dspy.unreadable import Care, Unfit, correcting, fitting, hint_for, stands_in, widened
from runtime.messages.shapes import as_list, as_object, text_in

ON_THE_LOOP_CHARACTERS = 20_000
"""Longer answers are read in a thread."""
SHOWN_END = 1000
"""How much of each end of a field's text is kept for messages, which show less."""
UNREADABLE, TRUNCATED = "unreadable", "truncated"
"""Why a model is asked again; see ``LMCallStarted``."""
READ_S = 20.0
"""How long a thread may read one answer: with validators of the author's own, which count no looks."""


MAX_READERS = 2
"""Answers that are read in threads at the same time, in one run of trio. Each takes turns from the event loop, so only few."""

_readers: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("understudy_answer_readers")


def _places() -> trio.CapacityLimiter:
    try:
        return _readers.get()
    except LookupError:
        _readers.set(trio.CapacityLimiter(MAX_READERS))
        return _readers.get()


class _Later(Exception):
    """An answer is not read on the event loop."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__("an answer is read in a thread")
        self.arguments = arguments


def careful(adapter: Any, care: Care) -> Any:
    """A copy of `adapter` that asks again for an answer it cannot read, and shows the model what was wrong.

    DSPy's own second try, with a JSON prompt, is off: it would double the requests unseen. Asking again here, and not by running
    the module again, keeps what the module has done so far, such as the tools that an agent has called.
    """
    if not isinstance(adapter, library().Adapter):
        return adapter
    own = copy.copy(adapter)
    # A run inside a run finds the outer one's careful adapter: it replaces it, or the attempts of both would multiply.
    # With adapter.__class__ alone test_a_run_inside_a_run_does_not_multiply_the_attempts breaks.
    own.__class__ = _careful_class(getattr(adapter, "careful_base", adapter.__class__))
    own.care = care
    if hasattr(own, "use_json_adapter_fallback"):
        own.use_json_adapter_fallback = False
    return own


@functools.cache
def _careful_class(base: Any) -> Any:
    parse_error: Any = library().AdapterParseError
    parent: Any = remembering() if base is library().ChatAdapter else _extracting() if base is library().TwoStepAdapter else base

    class Careful(parent):  # type: ignore[misc]  # the base is known at run time only
        care: Care
        careful_base = base

        def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            again: str | None = None
            options = dict(lm_kwargs)
            for _ in range(1, self.care.parse_attempts):
                try:
                    with correcting(hint, again):
                        return parent.__call__(self, lm, dict(options), signature, demos, inputs)
                except parse_error as error:
                    hint, again = hint_for(error), UNREADABLE
                except LMTruncated as error:
                    options, again = widened(error, lm, options), TRUNCATED
            with correcting(hint, again):
                return parent.__call__(self, lm, dict(options), signature, demos, inputs)

        async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            again: str | None = None
            options = dict(lm_kwargs)
            for _ in range(1, self.care.parse_attempts):
                try:
                    return await self._once(hint, again, lm, options, signature, demos, inputs)
                except parse_error as error:
                    hint, again = hint_for(error), UNREADABLE
                except LMTruncated as error:
                    options, again = widened(error, lm, options), TRUNCATED
            return await self._once(hint, again, lm, options, signature, demos, inputs)

        async def _once(
            self, hint: tuple[ChatMessage, ...], again: str | None, lm: Any, options: Any, signature: Any, demos: Any, inputs: Any
        ) -> Any:
            try:
                with correcting(hint, again):
                    return await parent.acall(self, lm, dict(options), signature, demos, inputs)
            except TooHard as error:  # the arguments of a tool, beside a text for the second step of two
                raise self._unread(signature, (), str(error)) from error
            except _Later as later:
                arguments = later.arguments
            async with _places():
                with trio.move_on_after(READ_S):
                    limiter = trio.CapacityLimiter(1)  # the place is what limits, and the wait for it takes none of the time
                    return await trio.to_thread.run_sync(
                        self._read_at_length, *arguments, abandon_on_cancel=True, limiter=limiter
                    )
            raise self._unread(signature, arguments[2], f"it took longer than {READ_S:g} s to read")

        def _call_postprocess(self, processed: Any, original: Any, outputs: Any, *rest: Any) -> Any:
            if not trio.lowlevel.in_trio_run():
                return self._read_at_length(processed, original, outputs, *rest)
            if sum(map(_length, outputs)) > ON_THE_LOOP_CHARACTERS:
                raise _Later(processed, original, outputs, *rest)
            try:
                with limited(ON_THE_LOOP, is_last=False):
                    return self._read(processed, original, outputs, *rest)
            except TooHard:
                raise _Later(processed, original, outputs, *rest) from None

        def _read_at_length(self, *arguments: Any) -> Any:
            with limited(IN_A_THREAD, is_last=True):
                return self._read(*arguments)

        def _read(self, processed: Any, original: Any, outputs: Any, *rest: Any) -> Any:
            try:
                read = [_with_parsed_calls(output) for output in outputs]
                return base._call_postprocess(self, processed, original, read, *rest)
            except TooHard as error:
                if error.is_for_now:
                    raise
                raise self._unread(original, outputs, str(error)) from error
            except (RecursionError, MemoryError) as error:
                raise self._unread(original, outputs, f"it is too large or too deep ({type(error).__name__})") from error
            except NotInFormat as error:
                raise self._unread(original, outputs, str(error)) from error

        def _unread(self, signature: Any, outputs: Sequence[Any], why: str) -> Exception:
            said = next((text for text in map(_text, outputs) if text), "")
            problem: Exception = parse_error(base.__name__, signature, said, message=why)
            return problem

        def parse(self, signature: Any, completion: str) -> Any:
            care, wanted = self.care, signature.output_fields
            said = written(base, signature, completion)
            if said is None:  # an adapter of the user's own
                parsed = parent.parse(self, signature, completion)
                said = {name: parsed[name] for name in wanted if name in parsed and stands_in(name, completion)}
                return parsed if care.plan is None else self._fitting(signature, completion, said, parsed)
            as_written = frozenset[str]() if care.plan is None else care.plan.as_said
            parsed, problem = {}, None
            for name, value in said.items():
                try:
                    parsed[name] = value_of(value, wanted[name].annotation)
                except ValueError as error:
                    if name not in as_written:
                        raise self._misfit(signature, completion, name, value, error) from error
                    problem = error
            parsed = part("adapters.utils").apply_output_field_defaults(signature, parsed)
            if care.plan is None:
                if parsed.keys() != wanted.keys():
                    raise parse_error(base.__name__, signature, completion, parsed_result=parsed)
                return parsed
            kinds = {name: care.plan.outputs[name].type for name in as_written & said.keys()}
            first = {name: as_said(value, kinds[name]) if name in kinds else parsed[name] for name, value in said.items()}
            try:
                return self._fitting(signature, completion, first, parsed)
            except parse_error:
                if not kinds or problem is not None:
                    raise
            return self._fitting(signature, completion, {name: parsed[name] for name in said}, parsed)

        def _fitting(self, signature: Any, completion: str, said: dict[str, Any], parsed: dict[str, Any]) -> Any:
            try:
                return fitting(self.care, signature.output_fields, said, parsed)
            except Unfit as unfit:
                raise parse_error(base.__name__, signature, completion, message=str(unfit)) from unfit

        def _misfit(self, signature: Any, completion: str, name: str, value: Any, error: ValueError) -> Exception:
            told = ""
            if isinstance(value, str):
                shown = value if len(value) < 2 * SHOWN_END else value[:SHOWN_END] + value[-SHOWN_END:]
                told = f" with value {shown} from the LM response. Error message"
            problem: Exception = parse_error(
                base.__name__, signature, completion, message=f"Failed to parse field {name}{told}: {error}"
            )
            return problem

    # DSPy wraps `format` and `parse` of every subclass in its callbacks, and the inherited ones are wrapped already.
    made: Any = Careful
    made.parse = made.parse.__wrapped__
    del made.format
    made.__name__ = made.__qualname__ = base.__name__
    return made


@functools.cache
def _extracting() -> Any:
    """A ``dspy.TwoStepAdapter`` whose second step is read like every other answer.

    DSPy makes a plain ``ChatAdapter`` for that in the middle of its methods; they are kept, and find ours by its name.
    """
    dspy = library()
    base: Any = dspy.TwoStepAdapter
    names = {
        "ChatAdapter": lambda: careful(dspy.ChatAdapter(), Care(1, subject=base.__name__)),
        "json_repair": types.SimpleNamespace(loads=_soon_read),
    }

    def finding_ours(method: Any) -> Any:
        own = inspect.unwrap(method)
        found = types.FunctionType(own.__code__, {**own.__globals__, **names}, own.__name__, own.__defaults__, own.__closure__)
        return functools.update_wrapper(found, own)

    return type(base.__name__, (base,), {"parse": finding_ours(base.parse), "acall": finding_ours(base.acall)})


def _soon_read(text: str) -> Any:
    with limited(ON_THE_LOOP, is_last=True):
        return read(text)


def _text(output: Any) -> str:
    return output if isinstance(output, str) else text_in(output, "text") or ""


def _length(output: Any) -> int:
    calls = as_list(as_object(output).get("tool_calls"))
    return len(_text(output)) + sum(len(text_in(as_object(call).get("function"), "arguments") or "") for call in calls)


def _with_parsed_calls(output: Any) -> Any:
    """`output` with the arguments of its tool calls parsed; DSPy would repair them without bounds."""
    calls = as_list(as_object(output).get("tool_calls"))
    return {**output, "tool_calls": [arguments_of(call) for call in calls]} if calls else output
