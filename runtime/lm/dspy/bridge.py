"""DSPy on trio: signatures and modules run over a language model, and message types filled through DSPy signatures.

``fill`` and ``run_signature`` run a module inside ``dspy.context``, never ``dspy.configure``: concurrent tasks do not see each
other's model. DSPy formats the prompt and parses the answer; the call between them is ``lm.chat``. Nothing here repeats a request
that failed: an answer that cannot be read is the only thing asked for again, up to ``parse_attempts`` times, and then the prompt
holds the bad answer and what was wrong with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast, final

import attrs
import trio

from actors.errors import DeclarationError, LMError, UsageError
from actors.words import repr_of, words_of
from runtime.lm.dspy.careful import careful
from runtime.lm.dspy.dspy_calls import BridgeMisused, ChatLM, check_truncated
from runtime.lm.dspy.formats import reads_sections
from runtime.lm.dspy.from_threads import Crossing, with_crossing
from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.dspy.import_dspy import warm_up as warm_up
from runtime.lm.dspy.pieces import FieldListener
from runtime.lm.dspy.plans import SignaturePlan, make_plan
from runtime.lm.dspy.trained import Trained
from runtime.lm.dspy.trio_lm import AnswerListener, trio_lm
from runtime.lm.dspy.unmetered import reject_outside_calls
from runtime.lm.dspy.unreadable import Care, ill_made, unreadable
from runtime.lm.limits.abilities import warmed_up
from runtime.messages import schemas
from runtime.messages.fields import fields_of
from runtime.messages.problems import MessageInvalid

T = TypeVar("T")

MODULES = ("Predict", "ChainOfThought")
"""The DSPy modules that a node may name; any other is passed as a class."""

BLOCKING = ("RLM",)
"""Modules of DSPy's whose ``aforward`` blocks on something else than a language model: they run in a thread all the same."""

MAX_THREADS = 256
"""Modules in worker threads at the same time, in one run of trio; more wait. They have their own limit, because what such a
module waits for may need a thread of trio's usual ones."""

_OF_ASYNCIO = ("trio.run received unrecognized yield message", "no running event loop", "There is no current event loop")
"""How trio and asyncio begin what they say to a coroutine that awaits something of asyncio's on trio."""

_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("understudy_dspy_threads")

FieldTeller = Callable[[str, str, int], None]
"""Is told of a piece of an answer's field: the field, the text, and the number of the answer, counted from 1."""


async def run_signature(
    lm: ChatLM, signature: Any, inputs: Mapping[str, Any], *, parse_attempts: int = 1, truncated: str | None = None
) -> Any:
    """Run a DSPy signature or module on `inputs` with `lm` as its model.

    A module without ``aforward`` runs in a worker thread; its calls, and those of threads that it starts itself, come back to
    this task's cancel scope, limits and budgets.

    Args:
        lm: what answers.
        signature: a signature class, a string such as ``"question -> answer"`` (run by ``Predict``), a module, or a module class.
        inputs: the signature's inputs by name.
        parse_attempts: how many answers each step of the module may take to give one that can be read.
        truncated: what happens to an answer that stops in the middle because it reached the longest length allowed. ``"error"``:
            the run ends with LMTruncated. ``"widen"``: within `parse_attempts` it is asked for again with twice the room, and one
            step less of ``reasoning_effort`` where reasoning took it all. ``"accept"``: it is read as if it were whole. None: as
            the client is set, and ``"error"`` where it is not.

    Returns:
        The module's result, a ``dspy.Prediction``.

    Raises:
        LMReplyUnreadable: no answer could be parsed to the signature's outputs.
        LMTruncated: the answer stops in the middle.
        LMError: `lm` failed.
        DeclarationError: `signature` is none of the above.
    """
    _check_attempts(parse_attempts)
    check_truncated(run_signature, truncated)
    await _warmed_up(lm)
    care = Care(parse_attempts, subject=title_of(signature), truncated=truncated)
    return await run_module(lm, module_of(signature), inputs, care)


async def fill(
    lm: ChatLM,
    *,
    instruction: str,
    inputs: Mapping[str, object],
    output: type,
    module: str | type = "Predict",
    parse_attempts: int = 2,
    trained: Trained | None = None,
    on_field: FieldTeller | None = None,
    truncated: str | None = None,
) -> Any:
    """An instance of `output` whose fields `lm` filled, validated by their types and by the class itself.

    Args:
        lm: what answers; it is not called when `output` has no fields.
        instruction: what to do; when empty, a sentence made of the type names.
        inputs: message instances by parameter name; each of their fields is shown. Other values are shown under their own name.
        output: an attrs class, a dataclass or a pydantic model.
        module: ``"Predict"``, ``"ChainOfThought"``, or a ``dspy.Module`` class whose constructor takes the signature.
        parse_attempts: how many answers each step of the module may take to give one that fits.
        trained: what an optimiser has made of the module for this very signature.
        on_field: is told of the fields piece by piece as the answer comes, and of the ``reasoning`` of a ``ChainOfThought``; the
            answer is streamed then, if `lm` can stream. An answer that does not fit is followed by another of the next number.
            Of adapters that do not answer in sections nothing is told.
        truncated: see :func:`run_signature`.

    Raises:
        LMReplyUnreadable: no answer fits `output`; it shows what came and what is wrong with it.
        LMTruncated: the answer stops in the middle.
        LMError: `lm` failed.
        DeclarationError: `module` is unknown, or a type cannot be shown to a language model.
    """
    _check_attempts(parse_attempts)
    check_module(module)
    if not any(field.init for field in fields_of(output)):
        await trio.lowlevel.checkpoint()
        try:
            return schemas.build(output, {})
        except MessageInvalid as error:
            raise ill_made(error, output, lm.model, spent=False) from error
    await _warmed_up(lm)
    plan = plan_of({parameter: type(value) for parameter, value in inputs.items()}, output, instruction)
    made = module_for(module, plan.signature)
    if trained is not None:
        trained.given_to(made, library().Example)
    check_truncated(fill, truncated)
    care = Care(parse_attempts, subject=output.__name__, plan=plan, truncated=truncated)
    is_told = on_field is not None and reads_sections(library().settings.adapter or library().ChatAdapter())
    listening = Listening(_answers(plan, on_field)) if is_told and on_field is not None else None
    prediction = await run_module(lm, made, plan.shown(inputs), care, listening)
    if isinstance(prediction, output):
        return prediction
    try:
        return care.result(as_mapping(prediction, made))
    except MessageInvalid as error:
        raise ill_made(error, output, lm.model, spent=parse_attempts > 1) from error


async def run_dspy(lm: ChatLM, function: Callable[[], T], *, parse_attempts: int = 1) -> T:
    """What `function` gives, synchronous code of DSPy's such as an evaluation or an optimiser, run in a worker thread.

    Inside, `lm` is DSPy's language model. Its calls, and those of threads that the code starts itself, come back to this task's
    cancel scope, limits and budgets.

    Args:
        lm: what answers.
        function: what to run.
        parse_attempts: how many answers each call of a predictor may take to give one that can be read.

    Raises:
        LMError: `lm` failed, and DSPy let it through.
    """
    _check_attempts(parse_attempts)
    await _warmed_up(lm)
    bridge = trio_lm(lm)
    bridge.is_private = True
    with bridged(bridge, Care(parse_attempts, subject="answer")):
        result: T = await in_thread(bridge, function)
    return result


async def _warmed_up(lm: ChatLM) -> None:
    """DSPy is imported, and what `lm` needs: adapters ask for its abilities on the event loop, before the first call."""
    await warm_up()
    await warmed_up(lm)


# --- running a module -----------------------------------------------------------------------------------------------


@final
@attrs.frozen(eq=False)
class Listening:
    """Who is told of the answers of a run while they come."""

    answers: Callable[[], AnswerListener] | None = None
    """Makes what is told of one answer."""
    settings: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Settings of DSPy's own for streams."""


async def run_module(lm: ChatLM, module: Any, inputs: Mapping[str, Any], care: Care, listening: Listening | None = None) -> Any:
    """What `module`, a ``dspy.Module``, makes of `inputs`; see :func:`run_signature`, which dspy must have been loaded for."""
    dspy = library()
    told = listening if listening is not None else Listening()
    bridge = trio_lm(lm, listening=told.answers, truncated=care.truncated)
    try:
        # The history of this bridge could never be read, and a module that stays would keep the prompts of every run.
        with bridged(bridge, care, disable_history=True, **told.settings):
            if is_native(module):
                return await _on_trio(module, inputs)
            return await in_thread(bridge, functools.partial(module, **inputs))
    except dspy.AdapterParseError as error:
        raise unreadable(error, lm.model, care, bridge.meter.requests) from error
    except dspy.ContextWindowExceededError as error:
        ours = _cause_of(error)
        if ours is None:
            raise
        raise ours from error


async def _on_trio(module: Any, inputs: Mapping[str, Any]) -> Any:
    try:
        return await module.acall(**inputs)
    except (TypeError, RuntimeError) as error:
        if not str(error).startswith(_OF_ASYNCIO):
            raise
        said = str(error).partition(". ")[0]
        raise DeclarationError(
            f"{type(module).__name__}.aforward, or what it calls, uses asyncio, but it runs on trio: {said}.\n"
            "  Fix: use trio or anyio in it; or give the module a forward() and no aforward(): it runs in a thread then."
        ) from error


def is_native(module: Any) -> bool:
    """Whether `module` runs on trio itself, and not in a worker thread.

    It has its own ``aforward``: one that it inherits from a class whose ``forward`` it replaces does another thing.
    """
    dspy = library()
    if isinstance(module, tuple(getattr(dspy, name) for name in BLOCKING)):
        return False
    ancestors = type(module).__mro__
    places = [
        next((at for at, each in enumerate(ancestors) if name in vars(each)), len(ancestors)) for name in ("aforward", "forward")
    ]
    return places[0] < len(ancestors) and places[0] <= places[1]


async def in_thread(bridge: Any, function: Callable[[], Any]) -> Any:
    """What `function` gives, run in a worker thread with `bridge` as its way back to this task, for the threads it starts too."""

    async def work(crossing: Crossing) -> Any:
        bridge.crossing = crossing
        try:
            return await trio.to_thread.run_sync(function, limiter=_limiter())
        except BridgeMisused as error:  # by a module of another language model's
            raise UsageError(str(error)) from error

    return await with_crossing(work)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = trio.CapacityLimiter(MAX_THREADS)
        _threads.set(limiter)
        return limiter


@contextmanager
def bridged(bridge: Any, care: Care, **more: Any) -> Generator[None]:
    """`bridge` and a careful copy of the adapter in force, for this task and what it starts; `more` are settings of DSPy's."""
    dspy = library()
    reject_outside_calls()
    settings = dspy.settings
    chosen: dict[str, Any] = {"lm": bridge, "adapter": careful(settings.adapter or dspy.ChatAdapter(), care), **more}
    if settings.trace is part("dsp.utils.settings").main_thread_config["trace"]:
        chosen["trace"] = []  # else every prediction of every run would stay in DSPy's process-wide list
    if care.plan is not None:
        chosen["warn_on_type_mismatch"] = False  # what we show is already JSON, not what the annotations say
    with dspy.context(**chosen):
        yield


def _cause_of(error: BaseException) -> LMError | None:
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and not isinstance(cause, LMError) and id(cause) not in seen:
        seen.add(id(cause))  # causes of a stranger's errors may form a ring
        cause = cause.__cause__
    return cause if isinstance(cause, LMError) else None


def _answers(plan: SignaturePlan, on_field: FieldTeller) -> Callable[[], AnswerListener]:
    names = {"reasoning": "reasoning", **{wire: field.name for wire, field in plan.outputs.items()}}
    answers = 0

    def listen() -> AnswerListener:
        nonlocal answers
        answers += 1
        number = answers
        return FieldListener(names, lambda field, text: on_field(field, text, number))

    return listen


# --- signatures and modules -----------------------------------------------------------------------------------------


def plan_of(inputs: Mapping[str, type], output: type, instruction: str) -> SignaturePlan:
    """The plan of filling `output` from values of these types, by parameter; dspy must be loaded (see ``warm_up``)."""
    return _plan(tuple(inputs.items()), output, instruction.strip())


@functools.lru_cache(maxsize=256)
def _plan(kinds: tuple[tuple[str, type], ...], output: type, instruction: str) -> SignaturePlan:
    return make_plan(library(), kinds, output, instruction)


def module_of(signature: Any) -> Any:
    """The module that runs `signature`; see :func:`run_signature`.

    Raises:
        DeclarationError: it is neither a signature nor a module.
    """
    dspy = library()
    if isinstance(signature, dspy.Module):
        return signature
    if isinstance(signature, str) or (isinstance(signature, type) and issubclass(signature, dspy.Signature)):
        try:
            return dspy.Predict(signature)
        except (ValueError, SyntaxError) as error:
            raise DeclarationError(
                f"{repr_of(signature)} isn't a DSPy signature: {words_of(error)}\n"
                "  Fix: write inputs -> outputs, for example 'question -> answer: int'."
            ) from error
    if isinstance(signature, type) and issubclass(signature, dspy.Module):
        return _instantiate(signature)
    raise DeclarationError(
        f"{schemas.shorten(signature)} is neither a DSPy signature nor a module.\n"
        "  Fix: pass a dspy.Signature class, a string such as 'question -> answer', a dspy.Module, or a dspy.Module class."
    )


def module_for(module: str | type, signature: Any) -> Any:
    """A new module of that name or class for `signature`.

    Raises:
        DeclarationError: there is none, or it cannot be made.
    """
    dspy = library()
    if isinstance(module, str):
        return getattr(dspy, module)(signature)
    if not issubclass(module, dspy.Module):
        raise unknown_module(module)
    return _instantiate(module, signature)


def _instantiate(module: type, *arguments: Any) -> Any:
    try:
        return module(*arguments)
    except TypeError as error:
        takes = "the signature as its one argument" if arguments else "no arguments"
        raise DeclarationError(
            f"{module.__name__} could not be made: {words_of(error)}\n"
            f"  Fix: write a constructor that takes {takes}, or pass an instance."
        ) from error


def check_module(module: object) -> None:
    """Reject the name of a module that nodes cannot name.

    Raises:
        DeclarationError: it is not one of :data:`MODULES`.
    """
    if isinstance(module, str) and module not in MODULES:
        raise unknown_module(module)


def unknown_module(module: object) -> DeclarationError:
    """The error for a module that a node cannot name."""
    return DeclarationError(
        f"module={repr_of(module)}: expected one of {', '.join(map(repr, MODULES))} or a dspy.Module class.\n"
        "  Fix: name one of these, or pass the class itself."
    )


def _check_attempts(parse_attempts: int) -> None:
    if isinstance(parse_attempts, bool) or not isinstance(cast("object", parse_attempts), int) or parse_attempts < 1:
        raise DeclarationError(
            f"parse_attempts={repr_of(parse_attempts)}: expected a whole number >= 1.\n"
            "  Fix: pass 1 to take the first answer or none."
        )


def as_mapping(prediction: Any, module: Any) -> Mapping[str, Any]:
    """The outputs by name of what `module` returned.

    Raises:
        DeclarationError: it returned something else than a prediction or a mapping.
    """
    if isinstance(prediction, Mapping):
        return cast("Mapping[str, Any]", prediction)
    if isinstance(prediction, library().Prediction):
        return {name: prediction[name] for name in prediction.keys()}  # noqa: SIM118 - a Prediction isn't a mapping
    raise DeclarationError(
        f"{type(module).__name__} returned {schemas.shorten(prediction)}.\n"
        "  Fix: return a dspy.Prediction with the signature's output fields."
    )


def title_of(signature: Any) -> str:
    """What to call a signature or a module in a message."""
    if isinstance(signature, str):
        return repr_of(signature)
    return signature.__name__ if isinstance(signature, type) else type(signature).__name__
