"""How a tool is called: a function with what is injected, a graph, an actor, a tool of DSPy's, or one of a toolbox."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

import trio

from actors.actor import ActorRef
from actors.errors import ActorError, ActorFailed, ToolTimedOut
from actors.graphs.dependencies import Injected
from actors.graphs.node import NodeSpec
from actors.graphs.toolboxes import CallTool, CancelTool, OfferedTool, Toolbox
from actors.graphs.tools import ToolForm, ToolSpec
from runtime.core.worker_threads import run_in_thread
from runtime.graphs.nodes.injected import NodeLM, NodeRun
from runtime.graphs.records.cut_calls import name_of
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.lm.tools.rounds import ToolRequest
from runtime.lm.tools.tool_schemas import by_name

RunInside = Callable[[Any, object, ActiveDelivery, str, str], Awaitable[Any]]
"""Runs a graph as a part of the work on a message, under the name of its call and its own path."""


@final
class Calling:
    """Calls the tools of one attempt."""

    def __init__(self, spec: NodeSpec, run_inside: RunInside, lm: NodeLM | None, message: ActiveDelivery, pulse: Pulse) -> None:
        self._spec = spec
        self._run_inside = run_inside
        self._lm = lm
        self._message = message
        self._pulse = pulse
        self.boxes: dict[str, tuple[Toolbox, ActorRef[Any]]] = {}
        """The toolbox of each offered tool that has one, with its actor, by the tool's name."""

    def needs_approval(self, request: ToolRequest) -> bool:
        """Whether a person has to agree to a call.

        Raises:
            Exception: what the author's predicate raises; the call is not made then.
        """
        if isinstance(request.tool, OfferedTool):
            return self.boxes[request.tool.name][0].approves(request.tool.name)
        approve = request.tool.tool.approve
        if isinstance(approve, bool):
            return approve
        if request.tool.tool.form is ToolForm.FUNCTION:
            given = by_name(request.arguments)
            return bool(approve(**{name: given[name] for name in inspect.signature(approve).parameters}))
        return bool(approve(request.arguments))

    async def in_time(self, request: ToolRequest, path: str) -> Any:
        """What a call gives.

        Raises:
            ToolTimedOut: it takes longer than the tool's ``timeout_s``.
        """
        timeout_s = request.tool.tool.timeout_s if isinstance(request.tool, ToolSpec) else None
        if timeout_s is None:
            return await self._called(request, path)
        with trio.move_on_after(timeout_s) as scope:
            return await self._called(request, path)
        assert scope.cancelled_caught, "only its deadline lets the block end without a value"
        raise ToolTimedOut(
            f"the tool {request.tool.name!r} did not finish within timeout_s={timeout_s:g}.\n"
            "  Fix: give it more time, or find what it waits for.",
            run_id=self._message.run.id,
        )

    async def _called(self, request: ToolRequest, path: str) -> Any:
        tool, arguments = request.tool, request.arguments
        if isinstance(tool, OfferedTool):
            key = f"{self._message.run.id}:{path}"
            return await answer_or_cancel(self.boxes[tool.name][1], CallTool(tool.name, arguments, key))
        what = tool.tool.what
        match tool.tool.form:
            case ToolForm.GRAPH:
                return await self._run_inside(what, arguments, self._message, name_of(request), path)
            case ToolForm.ACTOR:
                return await answer_of(what, arguments)
            case ToolForm.SERVED:
                return await what(**arguments)
            case ToolForm.DSPY:
                if inspect.iscoroutinefunction(what.func):
                    return await what.acall(**arguments)
                return await run_in_thread(functools.partial(what, **arguments))
            case _:
                call: Any = functools.partial(what, **await self._parameters(tool, arguments, path))
                if not tool.is_thread:
                    return await call()
                (returned,) = await run_in_thread(lambda: (call(),))
                return await returned if inspect.isawaitable(returned) else returned

    async def _parameters(self, tool: ToolSpec, arguments: Any, path: str) -> Mapping[str, Any]:
        """A function's parameters: what the model gave, and what is injected."""
        active, run = self._message, self._message.run
        given = by_name(arguments)
        if tool.needs:
            assert run.dependencies is not None, "a run of a graph with dependencies keeps them"
            given.update(await run.dependencies.resolve(tool.needs, node=self._spec.name, path=path))
        for parameter, wanted in tool.injected.items():
            given[parameter] = self._lm if wanted is Injected.LM else NodeRun.of(active, self._pulse, path)
        return given


async def answer_or_cancel(ref: ActorRef[Any], call: CallTool) -> str:
    """What a toolbox gives; when no one wants that any more, it is told."""
    try:
        text: str = await answer_of(ref, call)
    except trio.Cancelled:
        with contextlib.suppress(ActorError):
            ref.tell_nowait(CancelTool(call.key))
        raise
    return text


async def answer_of(ref: ActorRef[Any], message: Any) -> Any:
    """What the actor answers; what it raised while it handled the message is raised here."""
    try:
        return await ref.ask(message)
    except ActorFailed as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise
