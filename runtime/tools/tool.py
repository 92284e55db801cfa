"""``tool``: a function, a graph, an actor or a tool of DSPy's as what a language model may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast, overload

from actors.argument_checks import rejected
from actors.graphs.effects import Effect
from actors.graphs.options import check_timeout
from actors.graphs.tools import Tool, as_tool, captured_here


@overload
def tool(what: Any, takes: type | None = None, /) -> Tool: ...
@overload
def tool(
    what: Any,
    takes: type | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    effect: Effect = Effect.REPEAT,
    approve: bool | Callable[..., bool] = False,
    approve_s: float | None = None,
    approve_to: str | None = None,
) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    effect: Effect = Effect.REPEAT,
    approve: bool | Callable[..., bool] = False,
    approve_s: float | None = None,
    approve_to: str | None = None,
) -> Callable[[Any], Tool]: ...
def tool(
    what: Any = None,
    takes: type | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    effect: Effect = Effect.REPEAT,
    approve: bool | Callable[..., bool] = False,
    approve_s: float | None = None,
    approve_to: str | None = None,
) -> Any:
    """Make `what` a tool: ``@tool``, ``@tool(timeout_s=5)``, ``tool(graph)``, ``tool(ref, Withdraw)``.

    A function's signature and docstring become the schema: Google's, NumPy's and Sphinx's forms of parameter descriptions are
    read, and texts in ``Annotated[str, "what to look for"]``. Parameters annotated with ``LM``, ``Run`` or ``Dep`` are injected
    and never shown to a model. A plain function runs in a worker thread. A function that needs no options may stand in
    ``tools=[…]`` as it is. Whether a tool can be described, the check of the graph says.

    Args:
        what: a function; a graph; an ``ActorRef``; a ``dspy.Tool``.
        takes: for an actor, and for a graph of several input types: the class of the message that the arguments make.
        name: what models call it by, at most 64 letters, digits, ``_`` and ``-``; None: the function's, the graph's, or the
            class's in small letters.
        description: what models are told; None: the docstring up to its first section.
        timeout_s: how many seconds one call may take; None: no limit but the node's and the run's.
        effect: whether a call may be made again after a crash.
        approve: whether a person has to agree to each call: True, or a function of some of the arguments, by name, that says so
            (for a graph and an actor: of the message). The call is then a question of the run, as that of a ``@graph.human`` node
            is, and the arguments are the form: ``Approved()``, other arguments, or ``Refused("why")``, which the model reads.
        approve_s: how many seconds people have for that; a call that no one has agreed to in time has failed. None: no limit.
        approve_to: who is asked; None: anybody.

    Raises:
        DeclarationError: an option has a wrong value.
    """
    check_timeout("tool", "timeout_s", timeout_s)
    if not isinstance(effect, Effect):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise rejected("tool", "effect", effect, "a member of Effect")
    if not isinstance(approve, bool) and (not callable(cast("object", approve)) or inspect.iscoroutinefunction(approve)):
        raise rejected("tool", "approve", approve, "True, False or a plain function of the arguments")
    check_timeout("tool", "approve_s", approve_s)
    if approve_to is not None and not isinstance(approve_to, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise rejected("tool", "approve_to", approve_to, "a name, or None for anybody")
    frame = inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "unknown place"
    names = captured_here(frame)

    def made(what: Any) -> Tool:
        return as_tool(
            what,
            names,
            takes=takes,
            name=name,
            description=description,
            place=place,
            timeout_s=timeout_s,
            effect=effect,
            approve=approve,
            approve_s=approve_s,
            approve_to=approve_to,
        )

    return made if what is None else made(what)
