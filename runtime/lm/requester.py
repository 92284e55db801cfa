"""One model's part of a call: requests until one is answered, or until none may follow.

The one retry owner. What fails is tried again here, within the share of the call's requests that this model has, and nowhere
above or below. Around the requests: the cache, the budgets, the provider account's limits and pauses, the hedge, the deadlines.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar, final

import attrs
import trio

from actors.errors import LMBudgetExhausted, LMError, LMTimeout, UsageError
from actors.lm import Completion, Embeddings, LMRequest, LMStream, Usage
from runtime.lm.arguments import names_remote_media
from runtime.lm.client_link import ClientLink, ClientPlace
from runtime.lm.http.http_messages import CONNECT_TIMEOUT_S, HttpReply
from runtime.lm.kept import KeptStream
from runtime.lm.limits.account import Account, Ticket
from runtime.lm.limits.allowance import ModelShare
from runtime.lm.limits.budget import Budget, Reservation, budgets_with, held_by_block, reserve
from runtime.lm.limits.cache import AnswerCache, Forgiving, cache_key, is_bypassed, is_repeatable
from runtime.lm.limits.common_store import Common
from runtime.lm.limits.hedge import OnSent, first_of, nobody_asks
from runtime.lm.limits.quota import Quota
from runtime.lm.limits.retry import Retry
from runtime.lm.limits.sliced import SlicedLimit
from runtime.lm.providers import sending
from runtime.lm.providers.billed_errors import told_usage
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import is_warm, warm_up
from runtime.lm.providers.sending import Reading
from runtime.lm.providers.streaming import AnswerStream, Waits, timed_out
from runtime.lm.providers.translation import CHARS_PER_TOKEN, Translator

DEADLINE_S = 600.0
Messages = list[dict[str, Any]]
Answer = TypeVar("Answer", Completion, Embeddings)


@final
@attrs.frozen(kw_only=True)
class Settings:
    """How a client asks its model; see ``LMClient``."""

    max_connections: int = 100
    retry: Retry = attrs.field(factory=Retry)
    deadline_s: float = DEADLINE_S
    connect_s: float = CONNECT_TIMEOUT_S
    first_token_s: float = math.inf
    between_tokens_s: float = math.inf
    rpm: int | None = None
    tpm: int | None = None
    hedge_s: float | None = None
    cache: AnswerCache | None = None
    budget: Budget | None = None


@final
@attrs.frozen
class _Opening:
    """What each try to begin one stream needs."""

    share: ModelShare
    exchange: ModelExchange
    reservation: Reservation
    waits: Waits
    on_whole: Sequence[Callable[[Completion], None]]
    """Called when the whole answer has come."""


@final
@attrs.define(eq=False)
class _Passage:
    """One request, as far as it is known to have come. Times are the runtime's clock, in seconds."""

    asked_s: float = attrs.field(factory=trio.current_time)
    """When it was taken from the call's share."""
    sent_s: float | None = None
    reply: HttpReply | None = None
    answer: AnswerStream | None = None
    error: BaseException | None = None
    """Why there is no answer."""
    is_settled: bool = False
    """Whether what it used is charged, or nothing is known of it."""

    def sent(self) -> None:
        """It is about to go out."""
        if self.sent_s is None:  # the second time it is sent over another connection, because the first was stale
            self.sent_s = trio.current_time()

    @property
    def was_given_up(self) -> bool:
        """Whether it ended because no caller waited for its answer any longer."""
        return self.error is None or not isinstance(self.error, Exception) or isinstance(self.error, LMTimeout)


@final
class Requester:
    """Asks one model.

    Args:
        model: as it was asked for.
        translator: the model's.
        settings: the client's.
    """

    def __init__(self, model: str, translator: Translator, settings: Settings) -> None:
        self._model = model
        self._translator = translator
        self._settings = settings
        self._chat = Reading(translator.completion, translator.plain_completion)
        self._embedding = Reading(translator.embedded)
        self.link: ClientLink | None = None
        """None while the client is not open."""
        self.rng = random.Random()
        """Makes the jitter of pauses."""

    def opened(self) -> ClientLink:
        """The link. Raises UsageError when there is none, or its transport is closed."""
        if self.link is None or self.link.transport.closed:
            raise UsageError(
                f"LMClient({self._model!r}) is not open.\n"
                "  Fix: call it inside 'async with LMClient(...) as lm:', or give it to open_runtime(lm=...)."
            )
        return self.link

    # --- whole answers ----------------------------------------------------------------------------------------------------

    async def answer(self, share: ModelShare, messages: Messages, options: Mapping[str, Any]) -> Completion:
        """The model's answer, within the deadline. Its ``attempts`` are the requests of the whole call; 0 from the cache."""
        plain = await self._plain_or_ready(messages, options)
        with trio.move_on_after(self._settings.deadline_s):
            exchange = plain or await self._translated(messages, options)
            cache, key = self._cache_for(exchange, options)
            known = cache.get(key) if cache is not None else None
            if known is not None:
                await trio.lowlevel.checkpoint()
                return _kept(known, share)
            with await self._reserved(exchange) as reservation:
                completion = await self._asked(share, exchange, reservation, self._chat)
                reservation.settle(self._charged(exchange, completion))
            if cache is not None:
                cache.put(key, completion)
            return completion
        raise self._too_late(share)

    async def embed(self, share: ModelShare, texts: Sequence[str], options: Mapping[str, Any]) -> Embeddings:
        """The vectors of `texts`, within the deadline."""
        if not is_warm():
            await warm_up()
        with trio.move_on_after(self._settings.deadline_s):
            make = functools.partial(self._translator.embedding, texts, options)
            exchange = self._on_time(await trio.to_thread.run_sync(make) if self._translator.is_slow else make())
            with await self._reserved(exchange) as reservation:
                embeddings = await self._asked(share, exchange, reservation, self._embedding)
                reservation.settle(self._charged(exchange, embeddings))
            return embeddings
        raise self._too_late(share)

    async def _asked(
        self, share: ModelShare, exchange: ModelExchange, reservation: Reservation, reading: Reading[Answer]
    ) -> Answer:
        hedge_s, once = self._settings.hedge_s, functools.partial(self._attempt, share, exchange, reservation, reading)

        async def discard(unwanted: Answer) -> None:
            reservation.lose(self._charged(exchange, unwanted))

        while share.take():
            try:
                if hedge_s is None:
                    return await once(nobody_asks)
                return await first_of(once, hedge_s, share.take, discard)
            except LMError as error:
                delay_s = self._pause_s(error, share)
            await trio.sleep(delay_s)
        raise AssertionError("a model is asked only while there is a request left, and again only then")

    async def _attempt(
        self,
        share: ModelShare,
        exchange: ModelExchange,
        reservation: Reservation,
        reading: Reading[Answer],
        sent: OnSent,
    ) -> Answer:
        passage = _Passage()
        link, place, ticket = await self._permitted(share, exchange)
        try:
            with place, ticket:
                sent()
                passage.reply = await sending.send(exchange, link.transport, share.take, passage.sent, link.tape)
                answer = await reading.of(exchange, passage.reply)
                ticket.used(self._charged(exchange, answer).total_tokens)
        except BaseException as error:
            passage.error = error
            self._without_an_answer(share, exchange, reservation, ticket, passage)
            raise
        self._report(reservation, passage, answer.usage, is_answered=True)
        made = share.allowance.made
        return answer if made == answer.attempts else attrs.evolve(answer, attempts=made)

    # --- streams ----------------------------------------------------------------------------------------------------------

    async def begin(self, stack: AsyncExitStack, share: ModelShare, messages: Messages, options: Mapping[str, Any]) -> LMStream:
        """A stream whose first piece is there, or one of a kept answer; `stack` closes it."""
        plain = await self._plain_or_ready(messages, options, stream=True)
        settings = self._settings
        waits = Waits(
            first_token_s=settings.first_token_s,
            between_tokens_s=settings.between_tokens_s,
            until=trio.current_time() + settings.deadline_s,
            total_s=settings.deadline_s,
        )
        with trio.CancelScope(deadline=waits.until):
            exchange = plain or await self._translated(messages, options, stream=True)
            cache, key = self._cache_for(exchange, options)
            known = cache.get(key) if cache is not None else None
            if known is not None:
                await trio.lowlevel.checkpoint()
                return KeptStream(_kept(known, share))
            reservation = await self._reserved(exchange, lasts=True)
            stack.enter_context(held_by_block(reservation))
            on_whole: list[Callable[[Completion], None]] = [lambda whole: reservation.settle(self._charged(exchange, whole))]
            if cache is not None:
                on_whole.append(functools.partial(cache.put, key))
            return await self._begun(stack, _Opening(share, exchange, reservation, waits, on_whole))
        raise self._too_late(share)

    async def _begun(self, stack: AsyncExitStack, opening: _Opening) -> AnswerStream:
        hedge_s, share, once = self._settings.hedge_s, opening.share, functools.partial(self._begin_once, opening)
        while share.take():
            try:
                if hedge_s is None:
                    answer, held = await once(nobody_asks)
                else:
                    answer, held = await first_of(once, hedge_s, share.take, lambda begun: begun[1].aclose())
            except LMError as error:
                delay_s = self._pause_s(error, share)
            else:
                stack.push_async_exit(held)
                return answer
            await trio.sleep(delay_s)
        raise AssertionError("a model is asked only while there is a request left, and again only then")

    async def _begin_once(self, opening: _Opening, sent: OnSent) -> tuple[AnswerStream, AsyncExitStack]:
        """One request, up to its first piece; the stack that comes with the answer closes it."""
        share, exchange, reservation = opening.share, opening.exchange, opening.reservation
        passage = _Passage()
        link, place, ticket = await self._permitted(share, exchange)
        async with AsyncExitStack() as held:
            held.enter_context(place)
            held.callback(ticket.close)
            held.callback(self._without_an_answer, share, exchange, reservation, ticket, passage)
            sent()
            try:
                answer = await self._first_piece(held, link, ticket, opening, passage)
            except BaseException as error:
                passage.error = error
                if isinstance(error, LMError):
                    ticket.failed(error)
                raise
            return answer, held.pop_all()

    async def _first_piece(
        self, held: AsyncExitStack, link: ClientLink, ticket: Ticket, opening: _Opening, passage: _Passage
    ) -> AnswerStream:
        share, exchange, waits = opening.share, opening.exchange, opening.waits

        def broke_off(error: LMError) -> None:
            ticket.failed(error)
            self._finish(error, share)

        def ended(whole: Completion) -> None:
            passage.is_settled = True
            ticket.used(self._charged(exchange, whole).total_tokens)
            ticket.succeeded()
            self._report(opening.reservation, passage, whole.usage, is_answered=True)

        with trio.move_on_after(waits.first_token_s):
            http = await held.enter_async_context(sending.stream(exchange, link.transport, share.take, passage.sent, link.tape))
            answer = passage.answer = AnswerStream(self._translator, exchange, http, waits, share.allowance.made)
            answer.explain = broke_off
            answer.limit = self._limit_of(opening)
            answer.on_whole += [ended, *opening.on_whole]
            await answer.begin()
            return answer
        raise timed_out("no piece of an answer", waits.first_token_s, "first_token_s")

    # --- around a request -------------------------------------------------------------------------------------------------

    async def _permitted(self, share: ModelShare, exchange: ModelExchange) -> tuple[ClientLink, ClientPlace, Ticket]:
        """Everything that the request last taken from `share` needs to go out. Cancelled or rejected, it was not made."""
        try:
            link = self.opened()  # again for each: the owner may have replaced the transport meanwhile
            place = await link.place()
            try:
                account = link.account or self._account(link, exchange)
                tokens = 0 if math.isinf(account.quota.tokens.most) else sum(self._translator.expected_tokens(exchange))
                return link, place, await account.admit(tokens, self._patience_s(share))
            except BaseException:
                place.release()
                raise
        except BaseException:
            share.give_back()
            raise

    def _account(self, link: ClientLink, exchange: ModelExchange) -> Account:
        """The account, whose quota is shared by its models; found once per link."""
        name, key = exchange.request.host, self._translator.account
        quota = link.transport.shared(("quota", key), functools.partial(_quota, name, key, link.common))
        account = link.transport.shared(("account", key, self._translator.place().model), lambda: Account(name, quota))
        account.declare(self._settings.rpm, self._settings.tpm)
        link.account = account
        return account

    def _patience_s(self, share: ModelShare) -> float:
        """The longest pause to wait out: a short one while there is another model to ask."""
        retry = self._settings.retry
        return min(retry.max_retry_after_s, retry.fall_back_after_s) if share.models_after else retry.max_retry_after_s

    async def _plain_or_ready(
        self, messages: Messages, options: Mapping[str, Any], *, stream: bool = False
    ) -> ModelExchange | None:
        """The request, where it is made without LiteLLM; else LiteLLM is imported, outside of the call's deadline."""
        plain = self._translator.plain_request(messages, options, stream=stream)
        if plain is not None:
            return self._on_time(plain)
        if not is_warm():
            await warm_up()
        return None

    async def _translated(self, messages: Messages, options: Mapping[str, Any], *, stream: bool = False) -> ModelExchange:
        """LiteLLM fetches remote images and files for some providers, without regard for the event loop: in a thread then."""
        translate = functools.partial(self._translator.request, messages, options, stream=stream)
        is_slow = names_remote_media(messages) or self._translator.is_slow
        return self._on_time(await trio.to_thread.run_sync(translate) if is_slow else translate())

    def _on_time(self, exchange: ModelExchange) -> ModelExchange:
        """`exchange` with the client's limit for a new connection."""
        if exchange.request.connect_s == self._settings.connect_s:
            return exchange
        return attrs.evolve(exchange, request=attrs.evolve(exchange.request, connect_s=self._settings.connect_s))

    def _cache_for(self, exchange: ModelExchange, options: Mapping[str, Any]) -> tuple[AnswerCache | None, str]:
        """Where the answer may be kept, and under which key; a stream and a whole answer share it."""
        cache = None if is_bypassed() else self._settings.cache
        if cache is None or not (cache.keeps_sampled or is_repeatable(options)):
            return None, ""
        return Forgiving(cache), cache_key(exchange.request.url, _whole_body(exchange), options.get("extra_headers"))

    async def _reserved(self, exchange: ModelExchange, *, lasts: bool = False) -> Reservation:
        link = self.opened()
        budgets = budgets_with(link.budget, self._settings.budget)
        prompt_tokens, completion_tokens = self._translator.expected_tokens(exchange) if budgets else (0, 0)
        cost_usd = self._translator.price_usd(prompt_tokens, completion_tokens) if budgets else 0.0
        return await reserve(budgets, prompt_tokens + completion_tokens, cost_usd, lasts=lasts, common=link.common)

    def _limit_of(self, opening: _Opening) -> Callable[[int], LMError | None]:
        """What asks the budgets, as the pieces of an answer come, whether they cover it still."""
        reservation = opening.reservation
        if not reservation.budgets:
            return lambda tokens: None
        prompt_tokens, _ = self._translator.expected_tokens(opening.exchange)
        prompt_usd = self._translator.price_usd(prompt_tokens, 0)
        token_usd = self._translator.price_usd(0, 1000) / 1000

        def limit(tokens: int) -> LMError | None:
            excess = reservation.excess(prompt_tokens + tokens, prompt_usd + tokens * token_usd)
            if excess is None:
                return None
            return LMBudgetExhausted(
                f"the budget does not cover the rest of the answer: {excess}; it was cut, and what came is charged.\n"
                "  Fix: ask for less (max_tokens), or raise the Budget."
            )

        return limit

    def _without_an_answer(
        self, share: ModelShare, exchange: ModelExchange, reservation: Reservation, ticket: Ticket, passage: _Passage
    ) -> None:
        """Book what a request has used that brought no whole answer, by what was seen of it."""
        if ticket.excess_beside > (0 if self._settings.hedge_s is None else 1):  # beside requests of other calls
            share.excuse()
        if passage.is_settled:
            return
        passage.is_settled = True
        used = None if passage.sent_s is None else self._seen(exchange, passage)
        if used is not None:
            ticket.used(used.total_tokens)
            if reservation.is_watched:
                cost_usd = self._translator.price_usd(used.prompt_tokens, used.completion_tokens)
                used = attrs.evolve(used, cost_usd=cost_usd)
                reservation.lose(used)
        self._report(reservation, passage, used or Usage(), is_answered=False)

    def _seen(self, exchange: ModelExchange, passage: _Passage) -> Usage | None:
        """What a request that was sent has used without a whole answer; None where nothing is known of it."""
        if passage.answer is not None:
            return passage.answer.seen(is_given_up=passage.was_given_up)
        if passage.reply is not None:
            return told_usage(passage.reply.body)
        if passage.was_given_up:
            return Usage(prompt_tokens=self._translator.expected_tokens(exchange)[0], is_estimate=True)
        return None

    def _report(self, reservation: Reservation, passage: _Passage, used: Usage, *, is_answered: bool) -> None:
        """Tell those who want to know of each request that this one has ended."""
        if not reservation.is_heard:
            return
        error = passage.error if isinstance(passage.error, Exception) else None
        now, name = trio.current_time(), None if error is None else type(error).__name__
        reservation.requested(LMRequest(self._model, passage.asked_s, passage.sent_s, now, name, is_answered, used))

    def _charged(self, exchange: ModelExchange, answer: Completion | Embeddings) -> Usage:
        """What budgets and limits are charged for `answer`: what the provider reports, or else by the lengths."""
        if answer.usage.total_tokens:
            return answer.usage
        prompt_tokens, _ = self._translator.expected_tokens(exchange)
        said = len(answer.text) + len(answer.reasoning or "") if isinstance(answer, Completion) else 0
        completion_tokens = said // CHARS_PER_TOKEN
        cost_usd = self._translator.price_usd(prompt_tokens, completion_tokens)
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost_usd=cost_usd, is_estimate=True)

    def _pause_s(self, error: LMError, share: ModelShare) -> float:
        """Seconds until the next request; raises `error` when there is none."""
        delay_s = None if share.is_used_up else self._settings.retry.wait_s(error, max(1, share.made), self.rng)
        if delay_s is not None and error.retry_after_s is not None and share.allowance.left > 0:
            share.is_handed_on = delay_s > self._patience_s(share)
        if delay_s is None or share.is_handed_on:
            self._finish(error, share)
            raise error
        return delay_s

    def _finish(self, error: LMError, share: ModelShare) -> None:
        """Write into `error` which call it ended."""
        made = share.allowance.made
        error.model, error.attempt, error.spent = self._model, made, made > 1
        error.args = (f"{self._model!r}, request {share.counted} of {share.max_requests}: {error}",)

    def _too_late(self, share: ModelShare) -> LMTimeout:
        made = share.allowance.made
        return LMTimeout(
            f"{self._model!r}: no answer within {self._settings.deadline_s:g} s ({share.counted} of {share.max_requests} "
            "requests made).\n  Fix: ask for less (max_tokens), or set LMClient(..., deadline_s=…).",
            model=self._model,
            attempt=made,
            spent=made > 1,
        )


def _quota(host: str, account: tuple[str, str, str], common: Common | None) -> Quota:
    """The limits of an account: of this process, or, where something counts for several, of them all."""
    if common is None:
        return Quota()
    digest = hashlib.sha256("\n".join(account).encode()).hexdigest()[:16]
    return Quota(lambda what: SlicedLimit(math.inf, f"{what} of {host} {digest}", common))


def _kept(known: Completion, share: ModelShare) -> Completion:
    """A kept answer, as this call has it: it costs nothing."""
    return attrs.evolve(known, usage=Usage(cost_usd=0.0), attempts=share.allowance.made)


def _whole_body(exchange: ModelExchange) -> bytes:
    """The body that asks for the same answer in one piece."""
    if not exchange.data.get("stream"):
        return exchange.request.body
    whole = {name: value for name, value in exchange.data.items() if name not in {"stream", "stream_options"}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
