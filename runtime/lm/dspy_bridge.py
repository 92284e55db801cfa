"""DSPy on trio: a language model that DSPy's modules can await, and message types filled through DSPy signatures.

``fill`` and ``run_signature`` run a module inside ``dspy.context``, never ``dspy.configure``: concurrent tasks do not see each
other's model. DSPy formats the prompt and parses the answer; the call between them is ``lm.chat``. Nothing here repeats a request
that failed: an answer that cannot be read is the only thing asked for again, up to ``parse_attempts`` times, and then the prompt
holds the bad answer and what was wrong with it.

dspy is imported here only, inside the functions that need it; ``warm_up`` does that first import in a worker thread.
"""

from __future__ import annotations

import copy
import functools
import importlib
import os
import sys
import types
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast, final

import attrs
import trio

from actors.errors import DeclarationError, LMContextTooLong, LMError, LMReplyUnreadable
from actors.lm import ChatMessage, Completion
from runtime.lm import schemas
from runtime.lm.calls import ChatLM, ask, on_trio, openai_shaped, options_of
from runtime.lm.fields import fields_of
from runtime.lm.plans import Plan, make_plan
from runtime.lm.reading import Care, Unfit, correcting, correction, fitting, hint_for, unreadable

MODULES = ("Predict", "ChainOfThought")
"""The DSPy modules that a node may name; any other is passed as a class."""


def __getattr__(name: str) -> Any:
    """``TrioLM``, made when it is first asked for, because its base class is DSPy's."""
    if name == "TrioLM":
        return _trio_lm_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def warm_up() -> None:
    """Import dspy in a worker thread, so that the second or so it takes does not hold the event loop; at once when it is loaded.

    ``run_signature`` and ``fill`` call it. Call it yourself before the first run to spare that run the wait.
    """
    # The last lines of dspy's own __init__ define `context`: a module without it is still being imported by another thread.
    if "context" not in vars(sys.modules.get("dspy", types.ModuleType("absent"))):
        await trio.to_thread.run_sync(_dspy)


def trio_lm(lm: ChatLM) -> Any:
    """`lm` as a ``dspy.BaseLM`` whose ``acall`` runs on trio: for ``dspy.context(lm=…)`` in code of your own."""
    return _trio_lm_class()(lm)


async def run_signature(lm: ChatLM, signature: Any, inputs: Mapping[str, Any], *, parse_attempts: int = 1) -> Any:
    """Run a DSPy signature or module on `inputs` with `lm` as its model.

    A module without ``aforward`` runs in a worker thread; its calls come back to this task, with its cancel scope and its limits.

    Args:
        lm: what answers.
        signature: a signature class, a string such as ``"question -> answer"`` (run by ``Predict``), a module, or a module class.
        inputs: the signature's inputs by name.
        parse_attempts: how many answers each step of the module may take to give one that can be read.

    Returns:
        The module's result, a ``dspy.Prediction``.

    Raises:
        LMReplyUnreadable: no answer could be parsed to the signature's outputs.
        LMError: `lm` failed.
        DeclarationError: `signature` is none of the above.
    """
    _check_attempts(parse_attempts)
    await warm_up()
    return await _run(lm, _module_of(signature), inputs, Care(parse_attempts, subject=_title(signature)))


async def fill(
    lm: ChatLM,
    *,
    instruction: str,
    inputs: Mapping[str, object],
    output: type,
    module: str | type = "Predict",
    parse_attempts: int = 2,
) -> Any:
    """An instance of `output` whose fields `lm` filled, validated by their types and by the class itself.

    Args:
        lm: what answers; it is not called when `output` has no fields.
        instruction: what to do; when empty, a sentence made of the type names.
        inputs: message instances by parameter name; each of their fields is shown. Other values are shown under their own name.
        output: an attrs class, a dataclass or a pydantic model.
        module: ``"Predict"``, ``"ChainOfThought"``, or a ``dspy.Module`` class whose constructor takes the signature.
        parse_attempts: how many answers each step of the module may take to give one that fits.

    Raises:
        LMReplyUnreadable: no answer fits `output`; it says what came and what is wrong with it.
        LMError: `lm` failed.
        DeclarationError: `module` is unknown, or a type cannot be shown to a language model.
    """
    _check_attempts(parse_attempts)
    if isinstance(module, str) and module not in MODULES:
        raise _unknown_module(module)
    if not any(field.init for field in fields_of(output)):
        await trio.lowlevel.checkpoint()
        return schemas.build(output, {})
    await warm_up()
    kinds = tuple((parameter, type(value)) for parameter, value in inputs.items())
    plan = _plan(kinds, output, instruction.strip())
    made = _module_for(module, plan.signature)
    prediction = await _run(lm, made, plan.shown(inputs), Care(parse_attempts, subject=output.__name__, plan=plan))
    if isinstance(prediction, output):
        return prediction
    try:
        return schemas.build(output, plan.values(_as_mapping(prediction, made)))
    except LMReplyUnreadable as error:
        raise LMReplyUnreadable(str(error), model=lm.model, spent=parse_attempts > 1) from error


def like(trained: Any) -> type:
    """A module class for :func:`fill` whose instances have the demonstrations and instructions that `trained`, a Predict, has."""
    base: Any = _dspy().Predict

    class Trained(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, signature: Any) -> None:
            base.__init__(self, signature.with_instructions(trained.signature.instructions))
            self.demos = list(trained.demos)

    made: type = Trained
    return made


# --- running a module -----------------------------------------------------------------------------------------------


async def _run(lm: ChatLM, module: Any, inputs: Mapping[str, Any], care: Care) -> Any:
    dspy = _dspy()
    bridge = trio_lm(lm)
    try:
        with _context(dspy, bridge, care):
            if hasattr(module, "aforward"):
                return await module.acall(**inputs)
            return await trio.to_thread.run_sync(functools.partial(module, **inputs))
    except dspy.AdapterParseError as error:
        raise unreadable(error, lm.model, care, bridge.meter.requests) from error
    except dspy.ContextWindowExceededError as error:
        ours = _cause_of(error)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def _context(dspy: Any, bridge: Any, care: Care) -> Generator[None]:
    """`bridge` and a careful copy of the adapter in force, for this task and what it starts."""
    settings = dspy.settings
    chosen: dict[str, Any] = {"lm": bridge, "adapter": _careful(settings.adapter or dspy.ChatAdapter(), care)}
    if settings.trace is importlib.import_module("dspy.dsp.utils.settings").main_thread_config["trace"]:
        chosen["trace"] = []  # else every prediction of every run would stay in DSPy's process-wide list
    if care.plan is not None:
        chosen["warn_on_type_mismatch"] = False  # what we show is already JSON, not what the annotations say
    with dspy.context(**chosen):
        yield


def _cause_of(error: BaseException) -> LMError | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LMError):
        cause = cause.__cause__
    return cause


@functools.lru_cache(maxsize=256)
def _plan(kinds: tuple[tuple[str, type], ...], output: type, instruction: str) -> Plan:
    return make_plan(_dspy(), kinds, output, instruction)


def _module_of(signature: Any) -> Any:
    dspy = _dspy()
    if isinstance(signature, dspy.Module):
        return signature
    if isinstance(signature, str) or (isinstance(signature, type) and issubclass(signature, dspy.Signature)):
        try:
            return dspy.Predict(signature)
        except (ValueError, SyntaxError) as error:
            raise DeclarationError(
                f"{signature!r} is no DSPy signature: {error}\n"
                "  Mend: write inputs -> outputs, for example 'question -> answer: int'."
            ) from error
    if isinstance(signature, type) and issubclass(signature, dspy.Module):
        return _instantiate(signature)
    raise DeclarationError(
        f"{schemas.shorten(signature)} is no DSPy signature and no module.\n"
        "  Mend: pass a dspy.Signature class, a string such as 'question -> answer', a dspy.Module, or a dspy.Module class."
    )


def _module_for(module: str | type, signature: Any) -> Any:
    dspy = _dspy()
    if isinstance(module, str):
        return getattr(dspy, module)(signature)
    if not issubclass(module, dspy.Module):
        raise _unknown_module(module)
    return _instantiate(module, signature)


def _instantiate(module: type, *arguments: Any) -> Any:
    try:
        return module(*arguments)
    except TypeError as error:
        takes = "the signature as its one argument" if arguments else "no arguments"
        raise DeclarationError(
            f"{module.__name__} could not be made: {error}\n  Mend: write a constructor that takes {takes}, or pass an instance."
        ) from error


def _unknown_module(module: object) -> DeclarationError:
    return DeclarationError(
        f"module={module!r}: expected one of {', '.join(map(repr, MODULES))} or a dspy.Module class.\n"
        "  Mend: name one of these, or pass the class itself."
    )


def _check_attempts(parse_attempts: int) -> None:
    if isinstance(parse_attempts, bool) or not isinstance(cast("object", parse_attempts), int) or parse_attempts < 1:
        raise DeclarationError(
            f"parse_attempts={parse_attempts!r}: expected a whole number >= 1.\n  Mend: pass 1 to take the first answer or none."
        )


def _as_mapping(prediction: Any, module: Any) -> Mapping[str, Any]:
    if isinstance(prediction, Mapping):
        return cast("Mapping[str, Any]", prediction)
    if isinstance(prediction, _dspy().Prediction):
        return {name: prediction[name] for name in prediction.keys()}  # noqa: SIM118 - a Prediction is no mapping
    raise DeclarationError(
        f"{type(module).__name__} returned {schemas.shorten(prediction)}.\n"
        "  Mend: return a dspy.Prediction with the signature's output fields."
    )


def _title(signature: Any) -> str:
    if isinstance(signature, str):
        return repr(signature)
    return signature.__name__ if isinstance(signature, type) else type(signature).__name__


# --- answers that cannot be read ------------------------------------------------------------------------------------


def _careful(adapter: Any, care: Care) -> Any:
    """A copy of `adapter` that asks again for an answer it cannot read, and shows the model what was wrong.

    DSPy's own second try, with a JSON prompt, is off: it would double the requests unseen. Asking again here, and not by running
    the module again, keeps what the module has done so far, such as the tools that an agent has called.
    """
    if not isinstance(adapter, _dspy().Adapter):
        return adapter
    own = copy.copy(adapter)
    # A run inside a run finds the outer one's careful adapter: it replaces it, or the attempts of both would multiply.
    own.__class__ = _careful_class(getattr(adapter, "careful_base", adapter.__class__))
    own.care = care
    if hasattr(own, "use_json_adapter_fallback"):
        own.use_json_adapter_fallback = False
    return own


@functools.cache
def _careful_class(base: Any) -> Any:
    parse_error: Any = _dspy().AdapterParseError

    class Careful(base):  # type: ignore[misc]  # the base is known at run time only
        care: Care
        careful_base = base

        def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            for _ in range(1, self.care.parse_attempts):
                try:
                    with correcting(hint):
                        return base.__call__(self, lm, dict(lm_kwargs), signature, demos, inputs)
                except parse_error as error:
                    hint = hint_for(error)
            with correcting(hint):
                return base.__call__(self, lm, dict(lm_kwargs), signature, demos, inputs)

        async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            for _ in range(1, self.care.parse_attempts):
                try:
                    with correcting(hint):
                        return await base.acall(self, lm, dict(lm_kwargs), signature, demos, inputs)
                except parse_error as error:
                    hint = hint_for(error)
            with correcting(hint):
                return await base.acall(self, lm, dict(lm_kwargs), signature, demos, inputs)

        def parse(self, signature: Any, completion: str) -> Any:
            fields = base.parse(self, signature, completion)
            if self.care.plan is None:
                return fields
            try:
                return fitting(self.care.plan, signature, completion, fields)
            except Unfit as unfit:
                raise parse_error(base.__name__, signature, completion, message=str(unfit)) from unfit

    # DSPy wraps `format` and `parse` of every subclass in its callbacks, and the inherited ones are wrapped already.
    made: Any = Careful
    made.parse = made.parse.__wrapped__
    del made.format
    made.__name__ = made.__qualname__ = base.__name__
    return made


# --- the language model that DSPy sees ------------------------------------------------------------------------------


@functools.cache
def _dspy() -> Any:
    # LiteLLM, which DSPy loads for some of its own clients, asks the network for a price list unless this is set.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return importlib.import_module("dspy")


@final
@attrs.define
class _Meter:
    requests: int = 0


@functools.cache
def _trio_lm_class() -> Any:
    dspy = _dspy()
    base: Any = dspy.BaseLM
    with_callbacks: Any = importlib.import_module("dspy.utils.callback").with_callbacks

    class TrioLM(base):  # type: ignore[misc]  # the base is known at run time only
        """A ``dspy.BaseLM`` whose calls are ``await lm.chat(…)`` on trio.

        DSPy's history, usage tracker and callbacks see every call. Its retries and its cache are off: they belong to `lm`. The
        synchronous call works in a thread that trio started, or that such a thread started.
        """

        def __init__(self, lm: ChatLM) -> None:
            base.__init__(self, lm.model, cache=False, num_retries=0)
            self.lm = lm
            self.meter = _Meter()
            self.token = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None

        @property
        def supports_function_calling(self) -> bool:
            return bool(getattr(self.lm, "supports_function_calling", False))

        @property
        def supports_reasoning(self) -> bool:
            return bool(getattr(self.lm, "supports_reasoning", False))

        @property
        def supports_response_schema(self) -> bool:
            return bool(getattr(self.lm, "supports_response_schema", False))

        @property
        def supported_params(self) -> set[str]:
            return set(getattr(self.lm, "supported_params", ()))

        async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            response = await self.aforward(prompt, messages, **kwargs)
            return base._process_lm_response(self, response, prompt, messages, **kwargs)

        def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            response = self.forward(prompt, messages, **kwargs)
            return base._process_lm_response(self, response, prompt, messages, **kwargs)

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            chat, count = self._call(prompt, messages, kwargs)
            return openai_shaped(await ask(chat, count))

        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            chat, count = self._call(prompt, messages, kwargs)
            return openai_shaped(on_trio(self.token, functools.partial(ask, chat, count)))

        def _call(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[Callable[[], Awaitable[Completion]], int]:
            sent = [*(messages or [{"role": "user", "content": prompt}]), *correction.get()]
            options, count = options_of({**cast("Any", self).kwargs, **kwargs})

            async def chat() -> Completion:
                try:
                    completion = await self.lm.chat(sent, **options)
                except LMContextTooLong as error:
                    # DSPy's agents shorten their history when they see their own error; `_run` gives ours back to the caller.
                    raise dspy.ContextWindowExceededError(model=self.lm.model, message=str(error)) from error
                self.meter.requests += completion.attempts
                return completion

            return chat, count

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return cast("Any", self).copy()  # a deep copy of a module must not copy the client and its connections

    for name in ("acall", "__call__"):
        setattr(TrioLM, name, with_callbacks(getattr(TrioLM, name)))
    return TrioLM
