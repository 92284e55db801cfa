"""Calls of tools that a person has to agree to: each is a question of the run, with the arguments of the call as the form.

The question has its place in the run, so a call that waits when its process ends is asked about again by the same question, and
one that was answered is not asked about again.
"""

from __future__ import annotations

import json
from typing import Any, final

import attrs

from actors.errors import NodeTimedOut, ToolRefused, ToolTimedOut
from actors.graphs.approval import Approved, Arguments, Refused
from actors.graphs.node import NodeSpec
from actors.graphs.plan import Plan
from actors.graphs.toolboxes import OfferedTool
from actors.graphs.tools import ToolSpec
from runtime.graphs.nodes.asking import ask
from runtime.graphs.records.stored_answers import remember
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.lm.tools.rounds import Offered, ToolRequest
from runtime.lm.tools.tool_schemas import digest_of, result_text
from runtime.messages import schemas
from runtime.messages.kinds import union_of

MOST_SAID = 2_000
"""Characters of a person's reason that a model reads."""


def remember_forms(plan: Plan) -> None:
    """Let answers to stored questions about tools of `plan` be read before one of them is asked again."""
    for spec in plan.nodes.values():
        remember(*forms_of(spec))


def forms_of(spec: NodeSpec) -> list[Any]:
    """What people may answer when the tools of a node ask them, beside ``Approved`` and ``Refused``."""
    return [form_of(tool) for tool in spec.tools if tool.tool.approve is not False]


def form_of(tool: Offered) -> Any:
    """The class of the message that a person is shown, and may change."""
    return Arguments if isinstance(tool, OfferedTool) or tool.arguments is None else tool.arguments


@final
@attrs.frozen(eq=False)
class Agreed:
    """A call that may be made."""

    request: ToolRequest
    is_changed: bool = False
    """Whether the person has changed its arguments."""

    def told(self, text: str) -> str:
        """What the model reads of the result `text`."""
        if not self.is_changed:
            return text
        made = json.dumps(schemas.dump(self.request.arguments), ensure_ascii=False, default=str)
        return result_text(f"[A person has changed the arguments to {made}.]\n{text}")


async def agreed(active: ActiveDelivery, pulse: Pulse, request: ToolRequest, path: str) -> Agreed:
    """Ask a person about the call at `path`, and wait for what they decide.

    Raises:
        ToolRefused: they have rejected it. ToolTimedOut: no one has decided in time.
    """
    name, description = request.tool.name, request.tool.description
    options = request.tool.tool if isinstance(request.tool, ToolSpec) else None
    form = form_of(request.tool)
    limit_s = None if options is None else options.approve_s
    try:
        with pulse.rest():  # a person who thinks isn't a sign of a node that hangs
            answer = await ask(
                active,
                Arguments(dict(request.arguments)) if form is Arguments else request.arguments,
                union_of([form, Approved, Refused]),
                limit_s,
                text=f"May the tool {name!r} be called? {description}".strip(),
                to=None if options is None else options.approve_to,
                place=path,
            )
    except NodeTimedOut as error:
        raise ToolTimedOut(
            f"no one has agreed to the call of the tool {name!r} within approve_s={limit_s:g}, so it was not made.\n"
            "  Fix: give people more time.",
            run_id=active.run.id,
        ) from error
    if isinstance(answer, Refused):
        raise _rejected(name, answer.reason)
    if isinstance(answer, Approved):
        return Agreed(request)
    arguments: Any = answer.values if isinstance(answer, Arguments) else answer
    return Agreed(ToolRequest(request.index, request.tool, arguments), digest_of(arguments) != digest_of(request.arguments))


def _rejected(tool: str, reason: str) -> ToolRefused:
    why = f": {reason[:MOST_SAID]}" if reason.strip() else ", without a reason"
    return ToolRefused(f"a person has declined the call of {tool!r}{why}", tool=tool)
