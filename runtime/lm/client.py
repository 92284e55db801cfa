"""One language model over HTTP: the client that nodes, DSPy and users call.

The one retry owner: what fails is tried again here, at most ``Retry.max_attempts`` requests in all, and nowhere above or below.
A client is a declaration until it has a transport: ``async with LMClient(...) as lm`` opens one of its own, a runtime binds all
of its clients to the one it owns.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, final

import attrs
import trio

from actors.checks import refuse
from actors.errors import (
    LMContextTooLong,
    LMError,
    LMRateLimited,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
    UsageError,
)
from actors.lm import Usage
from runtime.lm.account import Account, Ticket
from runtime.lm.arguments import (
    check_arguments,
    check_instances,
    check_limits,
    check_seconds,
    checked_messages,
    names_remote_media,
)
from runtime.lm.budget import Budget, Reservation, budgets_with, reserved
from runtime.lm.cache import AnswerCache, cache_key, is_repeatable
from runtime.lm.dspy_bridge import run_signature
from runtime.lm.hedge import first_of
from runtime.lm.providers import check_address
from runtime.lm.retry import Retry
from runtime.lm.streaming import AnswerStream, Waits, timed_out
from runtime.lm.translation import Exchange, Translator, is_warm, warm_up
from runtime.lm.transport import CONNECT_TIMEOUT_S, HttpTransport, open_transport

if TYPE_CHECKING:
    from types import TracebackType

    from actors.lm import ChatMessage, Completion

DEADLINE_S = 600.0


FALL_BACK_ON = (LMRateLimited, LMUnavailable, LMTimeout, LMReplyUnreadable, LMContextTooLong)
"""Failures after which another model may do better. Not a wrong key, a wrong request, a refusal or an empty budget."""


@final
@attrs.define(eq=False)
class _Link:
    """What a client needs to be open: the transport it shares, its own share of it, and its randomness."""

    transport: HttpTransport
    limiter: trio.CapacityLimiter
    rng: random.Random
    account: Account | None = None
    """Found at the first call, when the provider and the key are known."""


@attrs.define(eq=False)
class _Call:
    """How far one call has come."""

    max_requests: int
    requests: int = 0

    def may_resend(self) -> bool:
        """Count one more request if the call may make one."""
        if self.requests >= self.max_requests:
            return False
        self.requests += 1
        return True


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
        connect_s: seconds that a new connection may take, per request.
        first_token_s: seconds from a request of :meth:`stream` to the first piece of its answer.
        between_tokens_s: seconds from one piece of a streamed answer to the next.
        rpm: the most requests in any minute on this provider account; calls wait. Clients with the same provider, address and
            key share it, as they share the account's pauses; of several numbers the lowest holds.
        tpm: the same for tokens, prompt and completion together; estimated before a call and corrected after it.
        fallbacks: models that answer, in order, when this one cannot: it is unavailable, overloaded, too slow or too small for
            the prompt, or its answer cannot be read. A name stands for a client with the same settings and a key of its own from
            the environment. Each makes its own ``max_attempts``.
        hedge: seconds after which a second request is sent beside one that has no answer yet; the first answer wins and the
            other request is cancelled at the provider. It counts as a request: with ``max_attempts=1`` there is none. Not for
            :meth:`stream`.
        cache: where answers are looked up and kept; see ``runtime.lm.cache``. Not for :meth:`stream`.
        budget: what this client may spend; see ``runtime.lm.budget``, also for budgets of a run.

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
        connect_s: float = CONNECT_TIMEOUT_S,
        first_token_s: float = math.inf,
        between_tokens_s: float = math.inf,
        rpm: int | None = None,
        tpm: int | None = None,
        fallbacks: Sequence[str | LMClient] = (),
        hedge: float | None = None,
        cache: AnswerCache | None = None,
        budget: Budget | None = None,
    ) -> None:
        check_arguments(LMClient, model, api_key, max_connections, retry)
        check_seconds(
            LMClient,
            deadline_s=deadline_s,
            connect_s=connect_s,
            first_token_s=first_token_s,
            between_tokens_s=between_tokens_s,
            **({} if hedge is None else {"hedge": hedge}),
        )
        check_limits(LMClient, rpm=rpm, tpm=tpm)
        check_instances(LMClient, budget=(budget, Budget), cache=(cache, AnswerCache))
        check_address(api_base)
        self._model = model
        self._max_connections = max_connections
        self._retry = retry
        self._deadline_s = deadline_s
        self._connect_s = connect_s
        self._first_token_s = first_token_s
        self._between_tokens_s = between_tokens_s
        self._rpm = rpm
        self._tpm = tpm
        self._hedge_s = hedge
        self._cache = cache
        self._budget = budget
        self._fallbacks = tuple(self._fallback(each) for each in fallbacks)
        self._translator = Translator(model, api_key=api_key, api_base=api_base)
        self._link: _Link | None = None
        self._own: AsyncExitStack | None = None

    def _fallback(self, given: object) -> LMClient:
        if isinstance(given, LMClient):
            return given
        if not isinstance(given, str):
            raise refuse(LMClient, "fallbacks", given, "models' names or LMClients")
        return LMClient(
            given,
            max_connections=self._max_connections,
            retry=self._retry,
            deadline_s=self._deadline_s,
            connect_s=self._connect_s,
            first_token_s=self._first_token_s,
            between_tokens_s=self._between_tokens_s,
            hedge=self._hedge_s,
            cache=self._cache,
            budget=self._budget,
        )

    def __repr__(self) -> str:
        return f"LMClient({self._model!r}, {'open' if self.is_open else 'not open'})"

    @property
    def model(self) -> str:
        """The model as it was asked for."""
        return self._model

    @property
    def max_connections(self) -> int:
        """The most requests of this client in flight."""
        return self._max_connections

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
        for fallback in self._fallbacks:
            fallback._translator.route()
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
        for fallback in self._fallbacks:
            if not fallback.is_open:
                fallback.bind(transport, rng)

    def unbind(self) -> None:
        """Be a declaration again. Calls in flight end on the transport that they began on."""
        link, self._link = self._link, None
        for fallback in self._fallbacks:
            if link is not None and fallback.is_on(link.transport):
                fallback.unbind()

    def is_on(self, transport: HttpTransport) -> bool:
        """Whether it uses `transport`."""
        return self._link is not None and self._link.transport is transport

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
        plain = checked_messages(messages)
        if not is_warm():
            await warm_up()
        call = _Call(self._retry.max_attempts)
        try:
            with trio.move_on_after(self._deadline_s):
                return await self._answer(link, call, plain, options)
            raise self._too_late(call)
        except FALL_BACK_ON as error:
            for fallback in self._fallbacks:
                try:
                    completion = await fallback.chat(plain, **options)
                except LMError as another:
                    error.add_note(f"fallback: {another}")
                else:
                    return attrs.evolve(completion, attempts=completion.attempts + call.requests)
            raise

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[AnswerStream]:
        """Send `messages` and give the answer as it comes: ``async with lm.stream(messages) as stream``.

        The block starts with the first piece; up to there a failed request is made again as :meth:`chat` does, after it never.
        Leaving the block early, and cancelling it, closes the request at the provider. No deadline of the client cancels the
        caller's own work in the block: they bound the waits for pieces.

        Raises:
            UsageError: see :meth:`chat`.
            DeclarationError: see :meth:`chat`.
            LMError: see :meth:`chat`; LMTimeout names the wait that was too long.
        """
        link = self._opened()
        plain = checked_messages(messages)
        await warm_up()
        call = _Call(self._retry.max_attempts)
        waits = Waits(
            first_token_s=self._first_token_s,
            between_tokens_s=self._between_tokens_s,
            until=trio.current_time() + self._deadline_s,
            total_s=self._deadline_s,
        )
        async with AsyncExitStack() as stack:
            answer: AnswerStream | None = None
            try:
                with trio.CancelScope(deadline=waits.until):
                    answer = await self._begun(stack, link, call, plain, options, waits)
                    answer.explain = functools.partial(_finish, call=call, model=self._model)
                if answer is None:
                    raise self._too_late(call)
            except FALL_BACK_ON as error:
                answer = await self._begun_elsewhere(stack, error, plain, options)
            yield answer

    async def _begun_elsewhere(
        self, stack: AsyncExitStack, error: LMError, messages: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> AnswerStream:
        """The stream of the first fallback that begins one; raises `error` when none does."""
        for fallback in self._fallbacks:
            try:
                return await stack.enter_async_context(fallback.stream(messages, **options))
            except LMError as another:
                error.add_note(f"fallback: {another}")
        raise error

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature (a class or a string such as ``"question -> answer"``) or module on `inputs`.

        Returns: a ``dspy.Prediction`` whose attributes are the signature's outputs, parsed to their types.

        Raises:
            UsageError: the client is not open.
            LMError: the call failed, or its answer does not fit the outputs (LMReplyUnreadable).
        """
        self._opened()
        return await run_signature(self, signature, inputs)

    def _too_late(self, call: _Call) -> LMTimeout:
        return LMTimeout(
            f"{self._model!r}: no answer within {self._deadline_s:g} s ({call.requests} of {self._retry.max_attempts} requests "
            "made).\n  Mend: ask for less (max_tokens), or set LMClient(..., deadline_s=…).",
            model=self._model,
            attempt=call.requests,
            spent=call.requests > 1,
        )

    async def _answer(self, link: _Link, call: _Call, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> Completion:
        exchange = await self._translated(messages, options)
        cache = self._cache if self._cache is not None and (self._cache.keeps_sampled or is_repeatable(options)) else None
        key = cache_key(exchange.request.url, exchange.request.body) if cache is not None else ""
        known = cache.get(key) if cache is not None else None
        if known is not None:
            await trio.lowlevel.checkpoint()
            return attrs.evolve(known, usage=Usage(cost_usd=0.0), attempts=0)
        with self._reserved(exchange) as reservation:
            completion = await self._asked(link, call, exchange)
            reservation.settle(completion.usage)
        if cache is not None:
            cache.put(key, completion)
        return completion

    def _reserved(self, exchange: Exchange) -> AbstractContextManager[Reservation]:
        budgets = budgets_with(self._budget)
        prompt_tokens, completion_tokens = self._translator.expected_tokens(exchange) if budgets else (0, 0)
        cost_usd = self._translator.price_usd(prompt_tokens, completion_tokens) if budgets else 0.0
        return reserved(budgets, prompt_tokens + completion_tokens, cost_usd)

    async def _asked(self, link: _Link, call: _Call, exchange: Exchange) -> Completion:
        while True:
            try:
                if self._hedge_s is None:
                    return await self._attempt(link, call, exchange)
                once = functools.partial(self._attempt, link, call, exchange)
                return await first_of(once, self._hedge_s, lambda: call.requests < call.max_requests)
            except LMError as error:
                delay_s = self._pause_s(error, link, call)
            await trio.sleep(delay_s)
            link = self._opened()  # the owner may have replaced the transport meanwhile

    def _pause_s(self, error: LMError, link: _Link, call: _Call) -> float:
        """Seconds until the next request; raises `error` when there is none."""
        delay_s = self._retry.delay_s(error, call.requests, link.rng)
        if delay_s is None:
            _finish(error, call=call, model=self._model)
            raise error
        return delay_s

    async def _begun(
        self,
        stack: AsyncExitStack,
        link: _Link,
        call: _Call,
        messages: list[dict[str, Any]],
        options: Mapping[str, Any],
        waits: Waits,
    ) -> AnswerStream:
        """A stream whose first piece is there; `stack` closes it."""
        exchange = await self._translated(messages, options, stream=True)
        reservation = stack.enter_context(self._reserved(exchange))
        while True:
            async with AsyncExitStack() as attempt:
                try:
                    answer = await self._begin(attempt, link, call, exchange, waits, reservation)
                    stack.push_async_callback(attempt.pop_all().aclose)
                    return answer
                except LMError as error:
                    delay_s = self._pause_s(error, link, call)
            await trio.sleep(delay_s)
            link = self._opened()

    async def _begin(
        self, attempt: AsyncExitStack, link: _Link, call: _Call, exchange: Exchange, waits: Waits, reservation: Reservation
    ) -> AnswerStream:
        await attempt.enter_async_context(_place_in(link.limiter))
        ticket = await attempt.enter_async_context(self._admitted(link, exchange))
        call.requests += 1
        with trio.move_on_after(waits.first_token_s):
            http = await attempt.enter_async_context(link.transport.stream(exchange.request, may_resend=call.may_resend))
            answer = AnswerStream(self._translator, exchange, http, waits, call.requests)
            answer.on_whole.append(lambda whole: ticket.used(whole.usage.total_tokens))
            answer.on_whole.append(lambda whole: reservation.settle(whole.usage))
            await answer.begin()
            return answer
        raise timed_out("no piece of an answer", waits.first_token_s, "first_token_s")

    async def _attempt(self, link: _Link, call: _Call, exchange: Exchange) -> Completion:
        async with _place_in(link.limiter), self._admitted(link, exchange) as ticket:
            call.requests += 1
            reply = await link.transport.send(exchange.request, may_resend=call.may_resend)
            completion = self._translator.completion(exchange, reply)
            ticket.used(completion.usage.total_tokens)
        return attrs.evolve(completion, attempts=call.requests)

    def _admitted(self, link: _Link, exchange: Exchange) -> AbstractAsyncContextManager[Ticket]:
        if link.account is None:
            link.account = link.transport.shared(self._translator.account, lambda: Account(exchange.request.host))
            link.account.declare(self._rpm, self._tpm)
        tokens = sum(self._translator.expected_tokens(exchange)) if self._tpm is not None else 0
        return link.account.admitted(tokens, self._retry.max_retry_after_s)

    async def _translated(self, messages: list[dict[str, Any]], options: Mapping[str, Any], *, stream: bool = False) -> Exchange:
        """LiteLLM fetches remote images and files for some providers, without regard for the event loop: in a thread then."""
        translate = functools.partial(self._translator.request, messages, options, stream=stream)
        exchange = await trio.to_thread.run_sync(translate) if names_remote_media(messages) else translate()
        return attrs.evolve(exchange, request=attrs.evolve(exchange.request, connect_s=self._connect_s))

    def _opened(self) -> _Link:
        if self._link is None or self._link.transport.closed:
            raise UsageError(
                f"LMClient({self._model!r}) is not open.\n"
                "  Mend: call it inside 'async with LMClient(...) as lm:', or give it to open_runtime(lm=...)."
            )
        return self._link


@asynccontextmanager
async def _place_in(limiter: trio.CapacityLimiter) -> AsyncGenerator[None]:
    """A place of `limiter`, without a turn of the scheduler where nobody waits."""
    borrower = object()  # not the task: one task may hold a stream and make another call meanwhile
    try:
        limiter.acquire_on_behalf_of_nowait(borrower)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(borrower)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


def _finish(error: LMError, *, call: _Call, model: str) -> None:
    """Write into `error` which call it ended."""
    error.model, error.attempt, error.spent = model, call.requests, call.requests > 1
    error.args = (f"{model!r}, request {call.requests} of {call.max_requests}: {error}",)
