"""A provider's reply as a completion, as embeddings or as an error, and the pieces of a streamed answer, by LiteLLM's parsers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import attrs

from actors.errors import LMError, LMRefused, LMReplyUnreadable, UsageError
from actors.lm import Completion, Embeddings, Usage, tool_calls_of
from runtime.lm.http.http_messages import HttpReply
from runtime.lm.http.request_keys import secrets_of
from runtime.lm.limits.redaction import MIN_KEY_CHARS, excerpt, raise_alone, redact
from runtime.lm.providers import embeddings
from runtime.lm.providers.chunks import ChunkReader, whole_characters
from runtime.lm.providers.dialects import SilentLog, parser_of, reader_of, reads_as_openai
from runtime.lm.providers.error_table import FIXES, error_for, has_error, is_page
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import fitted, is_warm, load, part
from runtime.lm.providers.lenient import put_right, readable
from runtime.lm.providers.model_routes import ModelRoute
from runtime.lm.providers.plain import PlainAnswer, plain_answer
from runtime.lm.providers.plain_calls import PlainModel
from runtime.lm.providers.price_list import cached_tokens
from runtime.lm.providers.prices import Prices
from runtime.lm.providers.reasons import known_reason, told_reason
from runtime.lm.providers.usage import usage_of
from runtime.messages.shapes import as_json, as_list, as_object, text_in

_NOTHING_USED: Mapping[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@final
class ReplyReader:
    """Reads the replies of one model.

    Args:
        model: as it was asked for.
        route: where it lives, asked when it is needed: it may not be resolved yet.
        plain: the model where plain answers are read without LiteLLM.
        secrets: texts that no message may contain.
        prices: the model's.
    """

    def __init__(
        self,
        model: str,
        *,
        route: Callable[[], ModelRoute],
        plain: Callable[[], PlainModel | None],
        secrets: Callable[[], tuple[str, ...]],
        prices: Prices,
    ) -> None:
        self._model = model
        self._route = route
        self._own = plain
        self._secrets = secrets
        self._prices = prices
        self._is_like_openai: bool | None = None

    def completion(self, exchange: ModelExchange, reply: HttpReply) -> Completion:
        """The answer in `reply`.

        Raises:
            LMError: there is none; the class is the error table's.
        """
        plain = self.plain_completion(exchange, reply)
        if plain is not None:
            return plain
        try:
            parsed = self._parse(exchange, attrs.evolve(reply, body=readable(reply.body, self._route().provider)))
            raw = _object_in(reply.body)
            answer = self._answer(parsed, told_reason(raw), raw)
            message = parsed.choices[0].message
            extras: Mapping[str, object] = getattr(message, "provider_specific_fields", None) or {}
        except UsageError:  # the installed litellm has not been tried
            raise
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._unreadable(exchange, reply, error, "answer"), error, self._secrets_in(exchange))
        return self._checked(answer, extras.get("refusal") or getattr(message, "refusal", None))  # the latter from 1.109 on

    def plain_completion(self, exchange: ModelExchange, reply: HttpReply) -> Completion | None:
        """The answer in `reply`; None where LiteLLM has to read it, which may not be imported yet.

        Raises:
            LMError: there is none; the class is the error table's.
        """
        if not 200 <= reply.status < 300 or has_error(reply.body):
            raise self.error(exchange, reply)
        try:
            plain = plain_answer(reply.body) if self._reads_as_openai() else None
            if plain is None or not (is_warm() or self._knows_cost(plain)):
                return None
            return self._plain(plain)
        except UsageError:  # the installed litellm has not been tried
            raise
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._unreadable(exchange, reply, error, "answer"), error, self._secrets_in(exchange))

    def _knows_cost(self, plain: PlainAnswer) -> bool:
        own = self._own()
        return own is not None and own.knows_cost(plain)

    def embedded(self, exchange: ModelExchange, reply: HttpReply) -> Embeddings:
        """The embeddings in `reply`.

        Raises:
            LMError: there are none; the class is the error table's.
        """
        if not 200 <= reply.status < 300 or has_error(reply.body):
            raise self.error(exchange, reply)
        route, texts = self._route(), exchange.texts or ()
        try:
            vectors, parsed = embeddings.read(load(), route, exchange, reply)
            if len(vectors) != len(texts):
                raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts")
        except UsageError:  # the installed litellm has not been tried
            raise
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._unreadable(exchange, reply, error, "embeddings"), error, self._secrets_in(exchange))
        usage = self._usage_of(parsed, "embedding")
        return Embeddings(vectors, self._model, usage)

    def _unreadable(self, exchange: ModelExchange, reply: HttpReply, error: Exception, what: str) -> LMReplyUnreadable:
        secrets = self._secrets_in(exchange)
        words = excerpt(reply.body, secrets)
        failure = LMReplyUnreadable(
            f"HTTP {reply.status} from {redact(exchange.request.place, secrets)} carries no {what} that can be read "
            f"({type(error).__name__}): {words!r}.\n  Fix: {FIXES[LMReplyUnreadable]}",
            model=self._model,
            status=reply.status,
        )
        if is_page(reply):
            failure.retryable = False  # the address is wrong, and stays so
        return failure

    def _checked(self, answer: Completion, refusal: object) -> Completion:
        if not answer.text and not answer.tool_calls and (refusal or answer.finish_reason == "content_filter"):
            words = f": {excerpt(str(refusal), self._secrets())}" if refusal else ""
            raise LMRefused(f"the model declined to answer{words}.\n  Fix: {FIXES[LMRefused]}", model=self._model, status=200)
        return answer

    def chunks(self, exchange: ModelExchange) -> ChunkReader:
        """What reads the events of a streamed answer to `exchange`."""
        return ChunkReader(
            functools.partial(self._chunk_parser, exchange), is_like_openai=self._own() is not None, is_loaded=is_warm
        )

    def _chunk_parser(self, exchange: ModelExchange) -> Callable[[Mapping[str, Any]], Any]:
        route = self._route()
        parser = parser_of(load(), route, json_mode=exchange.json_mode)
        if hasattr(parser, "tool_name_reverse_map"):  # names that Anthropic would reject have been rewritten
            parser.tool_name_reverse_map = exchange.litellm_params.get("_anthropic_tool_name_map") or {}
        read: Callable[[Mapping[str, Any]], Any] = parser.chunk_parser

        def read_leniently(chunk: Mapping[str, Any]) -> Any:
            put_right(chunk, route.provider)
            return read(chunk)

        return read_leniently

    def plain_streamed(self, chunks: ChunkReader) -> Completion | None:
        """The completion that the chunks of a stream make up; None where LiteLLM has to say what they are."""
        own = self._own()
        told: Mapping[str, Any] = chunks.plain_usage if chunks.is_plain else {}
        if own is None or not chunks.is_plain or (told and cached_tokens(told, None) is None):
            return None
        if not told.get("completion_tokens"):
            told = _NOTHING_USED
        cost_usd = own.prices.of_usage(told) if own.prices is not None else None
        return self._completed(
            text=chunks.text,
            finish_reason=chunks.finish_reason or "stop",
            usage=usage_of(told, lambda: cost_usd),
            id=chunks.id,
        )

    def streamed(self, exchange: ModelExchange, chunks: ChunkReader) -> Completion:
        """The completion that all chunks of a stream make up.

        Raises:
            LMRefused: the model declined to answer.
        """
        litellm = load()
        message = {
            "role": "assistant",
            "content": chunks.text,
            "tool_calls": chunks.tool_calls or None,
            "reasoning_content": chunks.reasoning,
            "thinking_blocks": chunks.thinking or None,
        }
        choice = {"index": 0, "finish_reason": chunks.finish_reason or "stop", "message": message}
        whole = litellm.ModelResponse(model=self._route().model, choices=[choice], usage=self._usage(litellm, exchange, chunks))
        answer = attrs.evolve(
            self._answer(whole, chunks.finish_reason, None),
            # LiteLLM's object would lose what is of the provider's own.
            tool_calls=tool_calls_of(chunks.tool_calls),
            logprobs=chunks.logprobs or None,
            citations=tuple(chunks.citations),
            id=chunks.id,
        )
        return self._checked(answer, chunks.refusal)

    def _usage(self, litellm: Any, exchange: ModelExchange, chunks: ChunkReader) -> Any:
        """The usage of a streamed answer; zero when the provider sent none."""
        if not any(chunk.usage.completion_tokens for chunk in chunks.priced):
            return litellm.Usage()  # LiteLLM would count the words itself, with a tokenizer that it first downloads
        builder = part("litellm_core_utils.streaming_chunk_builder_utils")
        return fitted(
            builder.ChunkProcessor(chunks.priced).calculate_usage,
            chunks=chunks.priced,
            model=self._route().model,
            completion_output=chunks.text,
            messages=exchange.messages,
        )

    def error(self, exchange: ModelExchange, reply: HttpReply) -> LMError:
        """The error that `reply`, which carries no answer, amounts to."""
        return error_for(reply, place=exchange.request.place, model=self._model, secrets=self._secrets_in(exchange))

    def _secrets_in(self, exchange: ModelExchange) -> tuple[str, ...]:
        """The client's, and those that a call has in its own ``extra_headers``: a provider may repeat what it was sent."""
        own = (secret for secret in secrets_of(exchange.request) if len(secret) >= MIN_KEY_CHARS)
        return (*self._secrets(), *own)

    def _parse(self, exchange: ModelExchange, reply: HttpReply) -> Any:
        litellm, route = load(), self._route()
        blank = litellm.ModelResponse()
        if route.provider != "openai":
            blank.model = f"{route.provider}/{route.model}"
        return fitted(
            reader_of(litellm, route).transform_response,
            model=route.model,
            raw_response=reply.as_httpx(),
            model_response=blank,
            logging_obj=SilentLog(),
            request_data=exchange.data,
            messages=exchange.messages,
            optional_params=exchange.optional_params,
            litellm_params=exchange.litellm_params,
            encoding=None,
            api_key=route.api_key,
            json_mode=exchange.json_mode,
        )

    def _reads_as_openai(self) -> bool:
        if self._is_like_openai is None:
            self._is_like_openai = self._own() is not None or reads_as_openai(load(), self._route())
        return self._is_like_openai

    def _place(self) -> ModelRoute:
        own = self._own()
        return own.route if own is not None else self._route()

    def _plain(self, plain: PlainAnswer) -> Completion:
        return self._completed(
            text=plain.text,
            finish_reason=plain.finish_reason,
            usage=usage_of(plain.usage, lambda: self._prices.of_plain(self._place(), plain)),
            id=text_in(plain.raw, "id"),
            raw=plain.raw,
        )

    def _answer(self, parsed: Any, told: str | None, raw: Mapping[str, Any] | None) -> Completion:
        """LiteLLM's reply `parsed`, whose reason the provider `told` in its own words."""
        choice = parsed.choices[0]
        message = choice.message
        extras: Mapping[str, Any] = getattr(message, "provider_specific_fields", None) or {}
        cited: Any = extras.get("citations") or getattr(message, "annotations", None) or getattr(parsed, "citations", None) or ()
        return self._completed(
            text=message.content or "",
            finish_reason=known_reason(told, choice.finish_reason or "stop"),
            usage=self._usage_of(parsed, "completion"),
            tool_calls=tuple(call.model_dump(exclude_none=True) for call in message.tool_calls or ()),
            reasoning=getattr(message, "reasoning_content", None) or None,
            thinking=tuple(dict(block) for block in getattr(message, "thinking_blocks", None) or ()),
            logprobs=as_json(getattr(choice, "logprobs", None)),
            citations=tuple(as_json(each) for each in cited),
            audio=as_json(getattr(message, "audio", None)),
            id=text_in(raw, "id") or text_in(raw, "responseId"),
            raw=raw,
        )

    def _completed(self, *, text: str, reasoning: str | None = None, **fields: Any) -> Completion:
        """The one place where an answer is made, of a plain reply, of any other and of a stream: its texts can be sent again."""
        return Completion(
            text=whole_characters(text),
            model=self._model,
            reasoning=None if reasoning is None else whole_characters(reasoning),
            is_cancellable=not self._place().is_threaded,
            **{name: _whole(value) if name != "usage" else value for name, value in fields.items()},
        )

    def _usage_of(self, parsed: Any, kind: str) -> Usage:
        return usage_of(getattr(parsed, "usage", None), lambda: self._prices.of_reply(self._route(), parsed, kind))


def _whole(found: Any) -> Any:
    """`found`, as JSON has it, with every text in it such that a file and another request can hold it."""
    if isinstance(found, str):
        return whole_characters(found)
    if isinstance(found, Mapping):
        return {_whole(name): _whole(value) for name, value in cast("dict[str, Any]", found).items()}
    if isinstance(found, list):
        return [_whole(value) for value in as_list(cast("object", found))]
    if isinstance(found, tuple):
        return tuple(_whole(value) for value in cast("Sequence[Any]", found))
    return found


def _object_in(body: bytes) -> Mapping[str, Any] | None:
    """The object that `body` is; None when it isn't one."""
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return as_object(found) or None
