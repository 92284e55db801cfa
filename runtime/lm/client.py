"""One language model over HTTP: the client that nodes, DSPy and users call.

The one retry owner: what fails is tried again here, at most ``Retry.max_attempts`` requests in all, and nowhere above or below.
A client is a declaration until it has a transport: ``async with LMClient(...) as lm`` opens one of its own, a runtime binds all
of its clients to the one it owns.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, cast, final

import attrs
import trio

from actors.checks import refuse
from actors.errors import DeclarationError, LMError, LMTimeout, UsageError
from runtime.lm.dspy_bridge import run_signature
from runtime.lm.providers import EXAMPLES, check_address
from runtime.lm.retry import Retry
from runtime.lm.translation import Exchange, Translator, warm_up
from runtime.lm.transport import HttpTransport, open_transport

if TYPE_CHECKING:
    from types import TracebackType

    from actors.lm import ChatMessage, Completion

DEADLINE_S = 600.0


@final
@attrs.frozen(eq=False)
class _Link:
    """What a client needs to be open: the transport it shares, its own share of it, and its randomness."""

    transport: HttpTransport
    limiter: trio.CapacityLimiter
    rng: random.Random


@attrs.define(eq=False)
class _Call:
    """How far one call has come."""

    requests: int = 0


@final
class LMClient:
    """A language model behind a provider's HTTP interface; satisfies ``actors.LM``.

    Args:
        model: LiteLLM's name of it, provider first: ``"openai/gpt-4o-mini"``, ``"anthropic/claude-sonnet-4-5"``.
        api_key: the key; left out, it comes from the provider's usual environment variable (``OPENAI_API_KEY``, …).
        api_base: the address of the interface, for gateways and servers of your own.
        max_connections: the most requests of this client in flight; further calls wait in order.
        retry: how often a failed request is made again.
        deadline_s: seconds that one call may take in all: waiting, every request and the pauses in between. ``math.inf`` for
            none. A shorter one for a single call is the caller's own: ``trio.fail_after(seconds)``.

    Raises:
        DeclarationError: an argument is wrong. An unknown provider shows when the client is opened or first called.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        api_base: str | None = None,
        max_connections: int = 100,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        deadline_s: float = DEADLINE_S,
    ) -> None:
        _check_arguments(model, api_key, max_connections, retry, deadline_s)
        check_address(api_base)
        self._model = model
        self._max_connections = max_connections
        self._retry = retry
        self._deadline_s = deadline_s
        self._translator = Translator(model, api_key=api_key, api_base=api_base)
        self._link: _Link | None = None
        self._own: AsyncExitStack | None = None

    def __repr__(self) -> str:
        return f"LMClient({self._model!r}, {'open' if self.is_open else 'not open'})"

    @property
    def model(self) -> str:
        """The model as it was asked for."""
        return self._model

    @property
    def is_open(self) -> bool:
        """Whether it has a transport that works."""
        return self._link is not None and not self._link.transport.closed

    # --- opening ---

    async def __aenter__(self) -> Self:
        """Open a transport of its own, and find out at once whether model and key are right.

        Raises:
            UsageError: it is open already.
            DeclarationError: no provider is known for the model.
            LMAuthFailed: there is no key.
        """
        self._refuse_second_link(None)
        await warm_up()
        self._translator.route()
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(open_transport(max_connections=self._max_connections))
            self.bind(transport, random.Random())
            self._own = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the transport; calls still in flight fail."""
        own, self._own = self._own, None
        self.unbind()
        if own is not None:
            await own.aclose()

    def bind(self, transport: HttpTransport, rng: random.Random) -> None:
        """Use `transport`, which the caller owns, until :meth:`unbind`; `rng` makes the jitter of the pauses.

        Binding again is how an owner replaces a transport that has been closed.

        Raises:
            UsageError: it is open on another transport.
        """
        self._refuse_second_link(transport)
        self._link = _Link(transport, trio.CapacityLimiter(self._max_connections), rng)

    def unbind(self) -> None:
        """Be a declaration again. Calls in flight end on the transport that they began on."""
        self._link = None

    def _refuse_second_link(self, transport: HttpTransport | None) -> None:
        if self._link is not None and not self._link.transport.closed and self._link.transport is not transport:
            raise UsageError(
                f"LMClient({self._model!r}) is open already.\n"
                "  Mend: use one client per runtime, or one 'async with' block at a time."
            )

    # --- calling ---

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Send `messages` and return the model's answer. `options` are OpenAI's: ``temperature``, ``max_tokens``, ``tools``.

        At most ``Retry.max_attempts`` requests are made, whatever fails. Cancelling it closes the request at the provider.

        Raises:
            UsageError: the client is not open, the messages are no messages, or an option belongs to the client.
            DeclarationError: no provider is known for the model.
            LMError: see ``actors.errors``; ``attempt`` is the number of requests made, and ``spent`` says that the client has
                tried more than once.
        """
        link = self._opened()
        plain = _checked_messages(messages)
        await warm_up()
        call = _Call()
        with trio.move_on_after(self._deadline_s):
            return await self._answer(link, call, plain, options)
        raise LMTimeout(
            f"{self._model!r}: no answer within {self._deadline_s:g} s ({call.requests} of {self._retry.max_attempts} requests "
            "made).\n  Mend: ask for less (max_tokens), or set LMClient(..., deadline_s=…).",
            model=self._model,
            attempt=call.requests,
            spent=call.requests > 1,
        )

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature (a class or a string such as ``"question -> answer"``) or module on `inputs`.

        Returns: a ``dspy.Prediction`` whose attributes are the signature's outputs, parsed to their types.

        Raises:
            UsageError: the client is not open.
            LMError: the call failed, or its answer does not fit the outputs (LMReplyUnreadable).
        """
        self._opened()
        return await run_signature(self, signature, inputs)

    async def _answer(self, link: _Link, call: _Call, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> Completion:
        exchange = await self._translated(messages, options)
        while True:
            try:
                return await self._attempt(link, call, exchange)
            except LMError as error:
                delay_s = self._retry.delay_s(error, call.requests, link.rng)
                if delay_s is None:
                    _finish(error, self._model, call.requests, self._retry.max_attempts)
                    raise
            await trio.sleep(delay_s)
            link = self._opened()  # the owner may have replaced the transport meanwhile

    async def _attempt(self, link: _Link, call: _Call, exchange: Exchange) -> Completion:
        async with link.limiter:
            call.requests += 1
            reply = await link.transport.send(exchange.request)
        return attrs.evolve(self._translator.completion(exchange, reply), attempts=call.requests)

    async def _translated(self, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> Exchange:
        """LiteLLM fetches remote images and files for some providers, without regard for the event loop: in a thread then."""
        if _names_remote_media(messages):
            return await trio.to_thread.run_sync(self._translator.request, messages, options)
        return self._translator.request(messages, options)

    def _opened(self) -> _Link:
        if self._link is None or self._link.transport.closed:
            raise UsageError(
                f"LMClient({self._model!r}) is not open.\n"
                "  Mend: call it inside 'async with LMClient(...) as lm:', or give it to open_runtime(lm=...)."
            )
        return self._link


def _finish(error: LMError, model: str, requests: int, max_attempts: int) -> None:
    """Write into `error` which call it ended."""
    error.model, error.attempt, error.spent = model, requests, requests > 1
    error.args = (f"{model!r}, request {requests} of {max_attempts}: {error}",)


def _checked_messages(messages: object) -> list[dict[str, Any]]:
    """A copy of `messages`; UsageError when they are not messages in OpenAI's form."""
    mend = "\n  Mend: pass a list such as [{'role': 'user', 'content': 'Hello'}]."
    kind = type(messages)
    if not isinstance(messages, list | tuple) or not messages:
        given = f"an empty {kind.__name__}" if kind in {list, tuple} else f"a {kind.__name__}"
        raise UsageError(f"chat(): expected a list of messages, got {given}.{mend}")
    checked: list[dict[str, Any]] = []
    for index, message in enumerate(cast("Sequence[object]", messages)):
        if not isinstance(message, Mapping):
            raise UsageError(f"chat(): message {index} is a {type(message).__name__}, not a mapping.{mend}")
        fields = dict(cast("Mapping[str, Any]", message))
        if not isinstance(fields.get("role"), str) or not fields["role"]:
            raise UsageError(f"chat(): message {index} has no 'role'.{mend}")
        if "content" not in fields and not fields.get("tool_calls"):
            raise UsageError(f"chat(): message {index} has no 'content'.{mend}")
        checked.append(fields)
    return checked


def _names_remote_media(messages: Sequence[Mapping[str, Any]]) -> bool:
    parts = (part for message in messages if isinstance(message.get("content"), list) for part in message["content"])
    return any(isinstance(part, Mapping) and "text" not in cast("Mapping[str, Any]", part) for part in parts)


def _check_arguments(model: object, api_key: object, max_connections: object, retry: object, deadline_s: object) -> None:
    if not isinstance(model, str) or not model.strip():
        raise DeclarationError(f"LMClient({model!r}): expected a model's name.\n  Mend: pass one such as {EXAMPLES}.")
    if api_key is not None and (not isinstance(api_key, str) or not api_key):
        raise DeclarationError(
            "LMClient(api_key=…): expected a non-empty string or None.\n  Mend: pass the key, or leave it out."
        )
    if not isinstance(max_connections, int) or isinstance(max_connections, bool) or max_connections < 1:
        raise refuse(LMClient, "max_connections", max_connections, "a whole number >= 1")
    if not isinstance(retry, Retry):
        raise refuse(LMClient, "retry", retry, "a Retry")
    if not isinstance(deadline_s, int | float) or isinstance(deadline_s, bool) or not deadline_s > 0 or math.isnan(deadline_s):
        raise refuse(LMClient, "deadline_s", deadline_s, "a number > 0")
