"""One language model over HTTP: the client that nodes, DSPy and users call.

The one retry owner: what fails is tried again by its ``Requester`` and its fallbacks, at most ``Retry.max_attempts`` requests in
all, and nowhere above or below. A client is a declaration until it has a transport: ``async with LMClient(...) as lm`` opens its
own, a runtime binds all of its clients to the one it owns.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, final

import trio

from actors.argument_checks import rejected
from actors.errors import (
    LMContextTooLong,
    LMError,
    LMRateLimited,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
    UsageError,
)
from runtime.lm.arguments import (
    check_arguments,
    check_instances,
    check_limits,
    check_provider_options,
    check_seconds,
    checked_messages,
    checked_texts,
)
from runtime.lm.client_link import ClientLink
from runtime.lm.dspy.bridge import run_signature
from runtime.lm.dspy.dspy_calls import check_truncated
from runtime.lm.http.http_messages import CONNECT_TIMEOUT_S
from runtime.lm.http.tape import Tape
from runtime.lm.http.transport import HttpTransport, open_transport
from runtime.lm.limits.abilities import Abilities
from runtime.lm.limits.allowance import Allowance, ModelShare
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.cache import AnswerCache
from runtime.lm.limits.common_store import Common
from runtime.lm.limits.retry import Retry
from runtime.lm.providers.import_litellm import is_warm, warm_up
from runtime.lm.providers.known import check_address
from runtime.lm.providers.translation import Translator
from runtime.lm.requester import DEADLINE_S, Requester, Settings
from runtime.lm.statistics import ModelStatistics
from runtime.lm.tools.offering import with_schemas
from runtime.record.cassettes import Cassettes

if TYPE_CHECKING:
    from types import TracebackType

    from actors.lm import ChatMessage, Completion, Embeddings, LMStream

T = TypeVar("T")
Ask = Callable[[Requester, ModelShare], Awaitable[T]]
"""Asks one model within its share of a call's requests."""

FALL_BACK_ON = (LMRateLimited, LMUnavailable, LMTimeout, LMReplyUnreadable, LMContextTooLong)
"""Failures after which another model may do better. Not a wrong key, a wrong request, a refusal or an empty budget."""


@final
class LMClient:
    """A language model behind a provider's HTTP interface; satisfies ``actors.LM``.

    Args:
        model: LiteLLM's name of it, provider first: ``"openai/gpt-4o-mini"``, ``"anthropic/claude-sonnet-4-5"``.
        api_key: the key; left out, it comes from the provider's usual environment variable (``OPENAI_API_KEY``, …).
        api_base: the address of the interface, for gateways and your own servers.
        max_connections: the most requests of this client in flight; further calls wait in order.
        retry: how often a failed request is made again.
        deadline_s: seconds that this model may take for one call: waiting, every request and the pauses in between.
            ``math.inf`` for none. A fallback has its own. A shorter one for a single call is the caller's:
            ``trio.fail_after(seconds)``.
        connect_s: seconds that a new connection may take, per request.
        first_token_s: seconds from a request of :meth:`stream` to the first piece of its answer.
        between_tokens_s: seconds from one piece of a streamed answer to the next.
        rpm: the most requests in any minute on this provider account; calls wait. Clients with the same provider, address and
            key share it, as they share the account's pauses; of several numbers the lowest holds.
        tpm: the same for tokens, prompt and completion together; estimated before a call and corrected after it.
        fallbacks: models that answer, in order, when this one cannot: it is unavailable, overloaded, too slow or too small for
            the prompt, or its answer cannot be read. A name stands for a client with the same settings and its own key from
            the environment. They share the call's ``max_attempts``: one request is kept for each of them while there are enough.
        hedge: seconds after which a second request is sent beside one that has no answer yet (of :meth:`stream`: no first piece);
            the first answer wins and the other request is cancelled at the provider. It counts as a request: with
            ``max_attempts=1`` there is none.
        cache: where answers are looked up and kept; see ``runtime.lm.limits.cache``. A kept answer is streamed as one piece.
        budget: what this client may spend; see ``runtime.lm.limits.budget``, also for budgets of a block of work. A run and a
            runtime have their own.
        truncated: what happens to an answer that stops in the middle where a value is read out of it, by :meth:`predict` and by
            nodes: ``"error"``, ``"widen"`` or ``"accept"``; see ``run_signature``. :meth:`chat` and :meth:`stream` give it as it
            is, with its ``finish_reason``.
        provider_options: what a provider asks for beside key and address, by LiteLLM's names: ``aws_region_name`` and similar of
            Bedrock, ``vertex_project``, ``vertex_location`` and ``vertex_credentials`` of Vertex AI,
            ``api_version`` of Azure. Left out, they come from the provider's usual environment variables.
        record: a folder, or ``Cassettes``, where its calls are recorded and replayed; see ``runtime.record``. None: that of the
            runtime, if it has one. Fallbacks that are names record there too.

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
        truncated: str = "error",
        provider_options: Mapping[str, Any] | None = None,
        record: str | os.PathLike[str] | Cassettes | None = None,
    ) -> None:
        check_truncated(LMClient, truncated)
        check_provider_options(LMClient, provider_options)
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
        self.truncated = truncated
        """What happens to an answer that stops in the middle; see ``run_signature``."""
        self._settings = Settings(
            max_connections=max_connections,
            retry=retry,
            deadline_s=deadline_s,
            connect_s=connect_s,
            first_token_s=first_token_s,
            between_tokens_s=between_tokens_s,
            rpm=rpm,
            tpm=tpm,
            hedge_s=hedge,
            cache=cache,
            budget=budget,
        )
        self._translator = Translator(model, api_key=api_key, api_base=api_base, provider_options=provider_options)
        self._requester = Requester(model, self._translator, self._settings)
        self._cassettes = Cassettes.of(record)
        self._tape = None if self._cassettes is None else self._cassettes.tape()
        self._fallbacks = tuple(self._fallback(each) for each in fallbacks)
        self._own: AsyncExitStack | None = None

    def _fallback(self, given: object) -> LMClient:
        if isinstance(given, LMClient):
            return given
        if not isinstance(given, str):
            raise rejected(LMClient, "fallbacks", given, "models' names or LMClients")
        settings = self._settings
        return LMClient(
            given,
            max_connections=settings.max_connections,
            retry=settings.retry,
            deadline_s=settings.deadline_s,
            connect_s=settings.connect_s,
            first_token_s=settings.first_token_s,
            between_tokens_s=settings.between_tokens_s,
            hedge=settings.hedge_s,
            cache=settings.cache,
            budget=settings.budget,
            record=self._cassettes,
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
        return self._settings.max_connections

    @property
    def is_open(self) -> bool:
        """Whether it has a transport that works."""
        link = self._requester.link
        return link is not None and not link.transport.closed

    def statistics(self) -> ModelStatistics:
        """One look at it: its limits, what is on its way, and whether its provider is down."""
        settings, link = self._settings, self._requester.link
        account = None if link is None else link.account
        return ModelStatistics(
            model=self._model,
            is_open=self.is_open,
            max_connections=settings.max_connections,
            in_flight=0 if link is None else link.limiter.borrowed_tokens,
            waiting=0 if link is None else link.limiter.statistics().tasks_waiting,
            rpm=account.quota.requests.most if account is not None else settings.rpm or math.inf,
            tpm=account.quota.tokens.most if account is not None else settings.tpm or math.inf,
            requests_used=0.0 if account is None else account.quota.requests.used,
            tokens_used=0.0 if account is None else account.quota.tokens.used,
            account=None if account is None else account.statistics(),
            budget=settings.budget,
            fallbacks=tuple(each.model for each in self._fallbacks),
        )

    # --- what it can do ---

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model, and each of its fallbacks, takes ``tools``. By LiteLLM's table; see :meth:`warm_up`."""
        return self._abilities.supports_function_calling

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model, and each of its fallbacks, can be asked to think before it answers."""
        return self._abilities.supports_reasoning

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model, and each of its fallbacks, can be held to a JSON schema."""
        return self._abilities.supports_response_schema

    @property
    def supported_params(self) -> frozenset[str]:
        """OpenAI's names of the options that the model, and each of its fallbacks, takes."""
        return self._abilities.supported_params

    @property
    def _abilities(self) -> Abilities:
        own = self._translator.abilities
        return Abilities.shared([own, *map(Abilities.of, self._fallbacks)]) if self._fallbacks else own

    async def warm_up(self) -> None:
        """Import what plain calls need, in a thread; no checkpoint when that has been done, or nothing is needed."""
        if not is_warm() and any(each._translator.plain is None for each in self._all()):
            await warm_up()

    def _all(self) -> Iterator[LMClient]:
        """It, and all that may answer in its place."""
        yield self
        for fallback in self._fallbacks:
            yield from fallback._all()

    # --- opening ---

    async def __aenter__(self) -> Self:
        """Open its own transport, and find out immediately whether model and key are right.

        Raises:
            UsageError: it is open already.
            DeclarationError: no provider is known for the model.
            LMAuthFailed: there is no key.
        """
        self._reject_second_link(None)
        models: list[LMClient] = [self, *self._fallbacks]
        for each in models:
            each._needs_no_key(each._tape)
        await self.warm_up()
        for each in models:
            each._translator.place()
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(open_transport(max_connections=self.max_connections))
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

    def bind(
        self,
        transport: HttpTransport,
        rng: random.Random,
        budget: Budget | None = None,
        tape: Tape | None = None,
        common: Common | None = None,
    ) -> None:
        """Use `transport`, which the caller owns, until :meth:`unbind`.

        Binding again is how an owner replaces a transport that has been closed.

        Args:
            transport: shared by all clients of one owner.
            rng: makes the jitter of the pauses.
            budget: the owner's; every call is charged to it as well.
            tape: the owner's, for clients without one.
            common: counts limits and budgets that several processes share; None: there are none.

        Raises:
            UsageError: it is open on another transport.
        """
        self._reject_second_link(transport)
        used = self._tape or tape
        self._needs_no_key(used)
        self._requester.rng = rng
        self._requester.link = ClientLink(transport, trio.CapacityLimiter(self.max_connections), budget, used, common)
        for fallback in self._fallbacks:
            if not fallback.is_open:
                fallback.bind(transport, rng, budget, tape, common)

    def _needs_no_key(self, tape: Tape | None) -> None:
        """A tape that only replays asks no provider, so a machine without keys can use it."""
        if tape is not None and not tape.may_send:
            self._translator.stand_in_key()

    def unbind(self) -> None:
        """Be a declaration again. Calls in flight end on the transport that they began on."""
        link, self._requester.link = self._requester.link, None
        for fallback in self._fallbacks:
            if link is not None and fallback.is_on(link.transport):
                fallback.unbind()

    def is_on(self, transport: HttpTransport) -> bool:
        """Whether it uses `transport`."""
        link = self._requester.link
        return link is not None and link.transport is transport

    def _reject_second_link(self, transport: HttpTransport | None) -> None:
        if self.is_open and (transport is None or not self.is_on(transport)):
            raise UsageError(
                f"LMClient({self._model!r}) is open already.\n"
                "  Fix: use one client per runtime, or one 'async with' block at a time."
            )

    # --- calling ---

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Send `messages` and return the model's answer. `options` are OpenAI's: ``temperature``, ``max_tokens``, ``tools``.

        Tools are functions, which are described by their signatures and docstrings, ``dspy.Tool`` instances, or mappings in
        OpenAI's form. What neither OpenAI nor the provider is known to take is sent by ``extra_body={…}``.

        At most ``Retry.max_attempts`` requests are made, for any failure and any model. Cancelling it closes the
        request at the provider.

        Raises:
            UsageError: the client is not open, the messages aren't messages, a tool isn't one, or an option is unknown or belongs
                to the client.
            DeclarationError: no provider is known for the model.
            LMError: see ``actors.errors``; ``attempt`` is the number of requests made, and ``spent`` shows that the client has
                tried more than once.
        """
        self._requester.opened()
        plain = checked_messages(messages)
        options = dict(with_schemas(options))

        async def ask(requester: Requester, share: ModelShare) -> Completion:
            return await requester.answer(share, plain, options)

        return await self._from_first(ask, Allowance(self._settings.retry.max_attempts))

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[LMStream]:
        """Send `messages` and give the answer as it comes: ``async with lm.stream(messages) as stream``.

        The block starts with the first piece; up to there a failed request is made again as :meth:`chat` does, after it never.
        Leaving the block early, and cancelling it, closes the request at the provider. No deadline of the client cancels the
        caller's own work in the block: they bound the waits for pieces.

        Raises:
            UsageError: see :meth:`chat`.
            DeclarationError: see :meth:`chat`.
            LMError: see :meth:`chat`; LMTimeout names the wait that was too long.
        """
        self._requester.opened()
        plain = checked_messages(messages)
        options = dict(with_schemas(options))
        async with AsyncExitStack() as stack:

            async def begin(requester: Requester, share: ModelShare) -> LMStream:
                async with AsyncExitStack() as held:
                    answer = await requester.begin(held, share, plain, options)
                    stack.push_async_exit(held.pop_all())
                return answer

            yield await self._from_first(begin, Allowance(self._settings.retry.max_attempts))

    async def _from_first(self, ask: Ask[T], allowance: Allowance, models_after: int = 0) -> T:
        """What `ask` gets from this model, or else from the first of its fallbacks that answers."""
        last = models_after + len(self._fallbacks)
        attempts = self._settings.retry.max_attempts
        share = allowance.share(attempts, last)
        try:
            return await ask(self._requester, share)
        except FALL_BACK_ON as error:
            for index, fallback in enumerate(self._fallbacks, 1):
                if not allowance.left:
                    error.add_note(f"fallback: {fallback.model!r} was not asked: all {allowance.made} requests have been made")
                    continue
                try:
                    return await fallback._from_first(ask, allowance, last - index)
                except LMError as another:
                    error.add_note(f"fallback: {another}")
            if share.is_handed_on and allowance.left:  # no other model can: then the pause is waited out
                return await ask(self._requester, allowance.share(attempts, models_after))
            error.attempt, error.spent = allowance.made, allowance.made > 1
            raise

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """The vectors of `texts`. `options` are OpenAI's: ``dimensions``, ``user``.

        At most ``Retry.max_attempts`` requests are made of this model. Fallbacks are not asked: the vectors of two models have
        nothing to do with each other.

        Raises:
            UsageError: the client is not open, the texts aren't texts, or an option belongs to the client.
            DeclarationError: no provider is known for the model.
            LMError: see :meth:`chat`.
        """
        self._requester.opened()
        plain = checked_texts(texts)
        attempts = self._settings.retry.max_attempts
        return await self._requester.embed(Allowance(attempts).share(attempts, 0), plain, options)

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature (a class or a string such as ``"question -> answer"``) or module on `inputs`.

        Returns: a ``dspy.Prediction`` whose attributes are the signature's outputs, parsed to their types.

        Raises:
            UsageError: the client is not open.
            LMError: the call failed, or its answer does not fit the outputs (LMReplyUnreadable).
        """
        self._requester.opened()
        return await run_signature(self, signature, inputs)
