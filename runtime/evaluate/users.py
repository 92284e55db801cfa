"""Simulated users: an actor on the other side of a conversation, with somebody's ways, a goal, and a rule for when to stop."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import attrs
import trio

from actors.actor import Actor, Request
from actors.argument_checks import is_count
from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.lm import LM
from actors.restarts import RestartType
from runtime.messages.fields import fields_of, message_kind

if TYPE_CHECKING:
    from runtime.app import Runtime

MAX_TURNS: Final = 10
LEAVE_S: Final = 10.0
"""How long it may take to stop the user and to forget the conversation."""
_ASKS: Final = "persona, goal, conversation -> has_reached_goal: bool, next_message"
"""What the user's language model is asked before each of its turns; it plays the persona."""


@final
@attrs.frozen
class Exchange:
    """What the user said, and what was answered."""

    said: str
    answered: str


@final
@attrs.frozen
class Persona:
    """A user who is played by a language model."""

    who: str
    """Such as ``"an impatient customer who writes in short sentences"``."""
    goal: str
    """What ends the conversation when it is reached, such as ``"to know when the parcel comes"``."""
    opening: str | None = None
    """The first message; None lets the model write it."""
    max_turns: int = attrs.field(default=MAX_TURNS, validator=is_count(least=1))
    stop: Callable[[Sequence[Exchange]], bool] | None = attrs.field(default=None, repr=False)
    """Asked after each exchange: whether the user leaves, for example since the last two answers were the same."""


@final
@attrs.frozen
class Dialogue:
    """A whole conversation of a simulated user."""

    persona: Persona
    exchanges: tuple[Exchange, ...]
    ended: str
    """``"goal"``: the user says that it is reached; ``"stop"``: by the rule; ``"turns"``: after ``max_turns``."""
    outputs: tuple[Any, ...] = attrs.field(default=(), repr=False)
    """What the graph made in each turn."""

    @property
    def reached_goal(self) -> bool:
        """Whether the user got what it wanted."""
        return self.ended == "goal"

    def __str__(self) -> str:
        return "\n".join(f"user: {each.said}\nanswer: {each.answered}" for each in self.exchanges)


@final
@attrs.frozen
class Spoken:
    """What the user says next; None when its goal is reached."""

    text: str | None


@final
@attrs.frozen
class NextSaying(Request[Spoken]):
    """What was said so far: what does the user say now?"""

    exchanges: tuple[Exchange, ...]


@final
class SimulatedUser(Actor[NextSaying]):
    """Plays a ``Persona``. Spawned by :func:`converse`, or by hand: ``await runtime.spawn(SimulatedUser, persona, lm)``."""

    def __init__(self, persona: Persona, lm: LM) -> None:
        self._persona = persona
        self._lm = lm

    async def receive(self, message: NextSaying) -> Spoken:
        """The next message of the user."""
        persona = self._persona
        if not message.exchanges and persona.opening is not None:
            return Spoken(persona.opening)
        talk = "\n".join(f"me: {each.said}\nthem: {each.answered}" for each in message.exchanges) or "(not begun)"
        said = await self._lm.predict(_ASKS, persona=persona.who, goal=persona.goal, conversation=talk)
        return Spoken(None if said.has_reached_goal and message.exchanges else str(said.next_message))


async def converse(
    runtime: Runtime,
    graph: Graph[Any, Any],
    persona: Persona,
    *,
    lm: LM | None = None,
    says: Callable[[str], Any] | None = None,
    key: str | None = None,
) -> Dialogue:
    """Let a simulated user talk with `graph`, until it has what it wants, its rule stops it, or its turns are used up.

    Args:
        runtime: where the conversation is held, by ``runtime.conversation``; it is forgotten when it is over.
        graph: the other side.
        persona: the user.
        lm: plays the user; None: the runtime's default model. Best another one than the graph's.
        says: makes an input of the graph of a text; None: its input has one field without a default, a text.
        key: names the conversation.

    Raises:
        DeclarationError: `says` is needed. What ``Conversation.send`` raises when a run of the graph fails, and ``LMError``.
    """
    make = says if says is not None else _maker(graph)
    talk = runtime.conversation(graph, key=key or f"simulated-{secrets.token_hex(8)}")
    user = await runtime.spawn(SimulatedUser, persona, runtime.lm if lm is None else lm, restart=RestartType.TEMPORARY)
    exchanges: tuple[Exchange, ...] = ()
    outputs: tuple[Any, ...] = ()
    try:
        for turn in itertools.count():
            if turn == persona.max_turns:
                return Dialogue(persona, exchanges, "turns", outputs)
            spoken = await user.ask(NextSaying(exchanges))
            if spoken.text is None:
                return Dialogue(persona, exchanges, "goal", outputs)
            output = await talk.send(make(spoken.text))
            exchanges, outputs = (*exchanges, Exchange(spoken.text, _text_of(output))), (*outputs, output)
            if persona.stop is not None and persona.stop(exchanges):
                return Dialogue(persona, exchanges, "stop", outputs)
        raise AssertionError("the count has no end")
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_S):  # cancelled, too: no one else knows of either
            await runtime.stop(user)
            await talk.forget()


def _maker(graph: Graph[Any, Any]) -> Callable[[str], Any]:
    if len(graph.input_types) == 1:
        [kind] = graph.input_types
        wanted = [field for field in fields_of(kind) if field.init and field.required]
        if len(wanted) == 1 and wanted[0].type is str:
            name = wanted[0].name
            return lambda text: kind(**{name: text})
    raise DeclarationError(
        f"converse({graph.name!r}): its input isn't made of one text.\n  Fix: says=lambda text: Message(text, …)."
    )


def _text_of(output: object) -> str:
    """What a person would read: the one text of a message, else all of it."""
    if message_kind(type(output)) is None:
        return str(output)
    texts = [getattr(output, field.attribute) for field in fields_of(type(output)) if field.init and field.type is str]
    return texts[0] if len(texts) == 1 else str(output)
