"""Messages to one provider's HTTP request, by LiteLLM's provider configurations; ``replies`` has the way back.

LiteLLM translates and prices here and nothing more: it opens no connection, runs no event loop, retries nothing and logs nothing.
The requests equal those that ``litellm.acompletion`` sends. litellm is imported on first use: see
``runtime.lm.providers.import_litellm``. For a provider that LiteLLM must call itself, the call is prepared here, and made by
``runtime.lm.providers.sending``.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, final

from actors.errors import LMAuthFailed, LMBadRequest, LMError, UnderstudyError, UsageError
from actors.lm import ChatMessage, Completion, Embeddings
from runtime.lm.http.http_messages import HttpReply, HttpRequest
from runtime.lm.limits.abilities import Abilities
from runtime.lm.limits.redaction import MIN_KEY_CHARS, excerpt, long_enough, raise_alone
from runtime.lm.providers import embeddings
from runtime.lm.providers.call_options import check_known, known_options
from runtime.lm.providers.chunks import ChunkReader
from runtime.lm.providers.dialects import longest_answer_tokens, outgoing
from runtime.lm.providers.error_table import FIXES
from runtime.lm.providers.exchange import ModelExchange as ModelExchange
from runtime.lm.providers.import_litellm import fitted, load, part, quiet, untried
from runtime.lm.providers.import_litellm import is_warm as is_warm
from runtime.lm.providers.import_litellm import warm_up as warm_up
from runtime.lm.providers.known import (
    ADDRESS_OPTION,
    CLOUDS,
    KEPT_LITELLM_OPTIONS,
    METADATA_PROVIDERS,
    PARTS,
    REJECTED_OPTIONS,
)
from runtime.lm.providers.model_abilities import abilities_of
from runtime.lm.providers.model_routes import ModelRoute, resolve
from runtime.lm.providers.plain_calls import PlainModel, plain_model
from runtime.lm.providers.prices import Prices
from runtime.lm.providers.replies import ReplyReader
from runtime.lm.providers.sendable import json_bytes, own, owned, sendable, stand_in
from runtime.lm.providers.threaded import ThreadedCall

_LOG = logging.getLogger("understudy.lm")
MAX_MAPPED = 64
"""How many combinations of plain options a translator remembers."""
CHARS_PER_TOKEN = 4
USUAL_ANSWER_TOKENS = 1024
"""For estimates, where a call says nothing."""
NO_KEY = "recorded"
"""Stands for a key where none is needed, as every call is answered from a recording."""


@final
class Translator:
    """Translates for one model. Construction is cheap; the first other call imports litellm (see :func:`warm_up`).

    Keys are read once: `api_key`, or else the environment variable that LiteLLM uses for the provider.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        api_base: str | None = None,
        provider_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._api_key = api_key
        self._api_base = api_base
        self._options = dict(provider_options or {})
        self._needs_no_key = False
        self._found: ModelRoute | None = None
        self._is_placed = False
        self._plain: PlainModel | None = None
        self._prices = Prices(lambda: self.plain)
        self._mapped: dict[str, dict[str, Any]] = {}
        self._replies = ReplyReader(model, route=self.route, plain=lambda: self.plain, secrets=self._secrets, prices=self._prices)
        self._abilities: Abilities | None = None
        self._known: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"Translator({self.model!r})"

    def stand_in_key(self) -> None:
        """Let requests be made without a key, as none will be sent; one that is given, or in the environment, is used still."""
        self._needs_no_key = True

    # --- out ---

    def request(self, messages: Sequence[ChatMessage], options: Mapping[str, Any], *, stream: bool = False) -> ModelExchange:
        """The request that asks the model to answer `messages`. `options` are OpenAI's.

        With `stream` the answer is asked for in pieces, and its usage with the last of them.

        Raises:
            UsageError: an option belongs to the client, not to a call.
            DeclarationError: LiteLLM does not know the model's provider, or it is not served here.
            LMAuthFailed: there is no key.
            LMBadRequest: the provider does not know an option, or a value cannot be sent.
        """
        plain = self.plain_request(messages, options, stream=stream)
        if plain is not None:
            return plain
        wanted = {name: value for name, value in options.items() if value is not None}
        litellm = load()
        route = self.route()
        self._reject_options(litellm, wanted)
        self._check_known(litellm, route, wanted, "chat", "chat")
        # LiteLLM translates in place: what the caller has given stays as it is.
        wanted = {name: owned(value) for name, value in wanted.items()}
        try:
            if route.is_threaded:
                return self._call_in_thread(litellm, route, messages, wanted)
            if stream:
                wanted = {**wanted, **self._stream_options(litellm, route)}
            return self._exchange(litellm, route, messages, wanted)
        except UnderstudyError:
            raise
        except (AttributeError, ImportError) as error:
            raise untried(f"{type(error).__name__}: {error}") from error
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._refusal(error), error, self._secrets())

    def plain_request(
        self, messages: Sequence[ChatMessage], options: Mapping[str, Any], *, stream: bool = False
    ) -> ModelExchange | None:
        """The same request, where it is made without LiteLLM; else None, and :meth:`request` imports LiteLLM if it must."""
        plain = self.plain
        if plain is None:
            return None
        wanted = {name: value for name, value in options.items() if value is not None}
        return plain.request(messages, wanted, stream=stream)

    def embedding(self, texts: Sequence[str], options: Mapping[str, Any]) -> ModelExchange:
        """The request for the embeddings of `texts`. `options` are OpenAI's.

        Raises:
            DeclarationError: see :meth:`request`.
            LMAuthFailed: there is no key.
            LMBadRequest: the provider does not know an option, or has no embeddings.
        """
        litellm = load()
        route = self.route()
        wanted = {name: value for name, value in options.items() if value is not None}
        self._reject_options(litellm, wanted)
        self._check_known(litellm, route, wanted, "embeddings", "embed")
        try:
            if route.is_threaded or not embeddings.is_native(route):
                arguments = {**self._call_arguments(route), **wanted, "input": list(texts)}
                call = ThreadedCall(litellm, "embedding", arguments)
                instead = stand_in(route, {**wanted, "input": list(texts)})
                return ModelExchange(instead, {}, [], {}, {}, texts=tuple(texts), threaded=call)
            url, headers, data = embeddings.outgoing(litellm, route, texts, wanted)
            return ModelExchange(
                HttpRequest("POST", url, sendable(headers), json_bytes(data)), data, [], {}, {}, texts=tuple(texts)
            )
        except UnderstudyError:
            raise
        except (AttributeError, ImportError) as error:
            raise untried(f"{type(error).__name__}: {error}") from error
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._refusal(error), error, self._secrets())

    def _stream_options(self, litellm: Any, route: ModelRoute) -> dict[str, Any]:
        supported: list[str] = litellm.get_supported_openai_params(model=route.model, custom_llm_provider=route.provider) or []
        return {"stream": True, **({"stream_options": {"include_usage": True}} if "stream_options" in supported else {})}

    def _exchange(
        self, litellm: Any, route: ModelRoute, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> ModelExchange:
        headers = {**route.headers, **options.pop("extra_headers", {})}
        noted = {"metadata": options.pop("metadata")} if "metadata" in options and route.provider in METADATA_PROVIDERS else {}
        if "tools" in options:
            options["tools"] = self._tools(litellm, route, options["tools"])
        if "tool_choice" in options:
            options["tool_choice"] = litellm.utils.validate_chat_completion_tool_choice(options["tool_choice"], model=route.model)
        plain: list[Any] = litellm.utils.validate_and_fix_openai_messages(messages=[own(message) for message in messages])
        plain = list(
            fitted(
                route.config.translate_developer_role_to_system_role,
                messages=plain,
                model=route.model,
                custom_llm_provider=route.provider,
                api_base=route.api_base,
                model_info=None,
            )
        )
        params = self._params(litellm, route, plain, options)
        json_mode = bool(params.pop("json_mode", False))
        if params.pop("fake_stream", False):  # the provider would stream no such answer
            params.pop("stream", None)
        described = params.pop("functions_unsupported_model", None)
        plain = self._with_tools_in_words(litellm, route, plain, described, drop=bool(options.get("drop_params")))
        extra_body: Mapping[str, Any] = params.pop("extra_body", None) or {}
        litellm_params = route.litellm_params
        common = {"model": route.model, "messages": plain, "optional_params": params, "litellm_params": litellm_params}
        url, headers, data = outgoing(litellm, route, headers, common, stream=bool(params.get("stream")))
        if extra_body:
            data = {
                **data,
                **fitted(
                    route.config.transform_extra_body,
                    extra_body=extra_body,
                    request=data,
                    model=route.model,
                    litellm_params=litellm_params,
                ),
            }
        data = {**data, **noted}
        request = HttpRequest("POST", url, sendable(headers), json_bytes(data))
        return ModelExchange(request, data, plain, params, litellm_params, json_mode, sign_in=route.sign_in)

    def _call_in_thread(
        self, litellm: Any, route: ModelRoute, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> ModelExchange:
        plain = copy.deepcopy([dict(message) for message in messages])
        call = ThreadedCall(litellm, "completion", {**self._call_arguments(route), **options, "messages": plain})
        shown = {**options, "messages": plain}
        if isinstance(options.get("response_format"), type):  # a class of pydantic's, which the call itself takes as it is
            shown["response_format"] = litellm.utils.type_to_response_format_param(options["response_format"])
        return ModelExchange(stand_in(route, shown), shown, plain, {}, {}, threaded=call)

    def _call_arguments(self, route: ModelRoute) -> dict[str, Any]:
        given = {"api_key": self._api_key, "api_base": self._api_base}
        return {"model": self.model, **route.options, **{name: value for name, value in given.items() if value is not None}}

    def _params(self, litellm: Any, route: ModelRoute, messages: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        """The options as the provider calls them. For plain values they are computed once: half of a translation's cost."""
        is_plain = all(isinstance(value, str | int | float) for value in options.values())
        key = repr(options) if is_plain else None
        if key is not None and key in self._mapped:
            return copy.deepcopy(self._mapped[key])
        params: dict[str, Any] = litellm.get_optional_params(
            model=route.model, custom_llm_provider=route.provider, messages=messages, **{"stream": None, **options}
        )
        if key is not None and len(self._mapped) < MAX_MAPPED:
            self._mapped[key] = copy.deepcopy(params)
        return params

    def _tools(self, litellm: Any, route: ModelRoute, tools: Any) -> Any:
        checked = litellm.utils.validate_and_fix_openai_tools(tools=tools)
        return checked if route.provider == "anthropic" else litellm.main._drop_anthropic_only_tool_keys(tools=checked)

    def _with_tools_in_words(self, litellm: Any, route: ModelRoute, messages: list[Any], tools: Any, *, drop: bool) -> list[Any]:
        """For an interface without tools, LiteLLM describes them in the prompt."""
        if not tools:
            return messages
        describe: Any = litellm.main.function_call_prompt
        return list(
            fitted(describe, messages=messages, functions=tools, model=route.model, llm_provider=route.provider, drop_params=drop)
        )

    def _reject_options(self, litellm: Any, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if name in REJECTED_OPTIONS:
                raise UsageError(f"chat() does not take the option {name!r}.\n  Fix: {REJECTED_OPTIONS[name]}.")
            if ADDRESS_OPTION.search(name):
                raise UsageError(
                    f"a call does not take the option {name!r}: the client decides where requests go and as whom.\n"
                    "  Fix: LMClient(..., api_base=…, provider_options={…}); or send it to the provider in extra_body={…}."
                )
            if name == "n" and value != 1:
                raise UsageError(f"chat(n={value!r}): one call gives one answer.\n  Fix: make {value!r} calls in a nursery.")
            if name not in KEPT_LITELLM_OPTIONS and litellm.types.utils.is_litellm_owned_kwarg(name):
                raise UsageError(
                    f"chat() does not take the option {name!r}: it steers parts of LiteLLM that are not in use here.\n"
                    "  Fix: leave it out, or send it to the provider in extra_body={…}."
                )

    def _check_known(self, litellm: Any, route: ModelRoute, options: Mapping[str, Any], operation: str, method: str) -> None:
        if not options:
            return
        if operation not in self._known:
            with quiet():
                self._known[operation] = known_options(litellm, route, operation)
        check_known(options, self._known[operation], method)

    def _refusal(self, error: Exception) -> LMError:
        """Our error for what LiteLLM raised while it translated: nothing has been sent."""
        name = type(error).__name__
        said = str(getattr(error, "message", "") or error).removeprefix(f"litellm.{name}: ").partition(" To drop these")[0]
        kind = LMAuthFailed if name == "AuthenticationError" else LMBadRequest
        fix = "leave it out, or pass drop_params=True to leave out what the provider does not take."
        fix = fix if name == "UnsupportedParamsError" else FIXES[kind]
        return kind(
            f"no request to {self.model!r} could be made of the messages and options: {name}: "
            f"{excerpt(said, self._secrets())}.\n  Fix: {fix}",
            model=self.model,
            attempt=0,
        )

    # --- back ---

    def completion(self, exchange: ModelExchange, reply: HttpReply) -> Completion:
        """The answer in `reply`.

        Raises:
            LMError: there is none; the class is the error table's.
        """
        return self._replies.completion(exchange, reply)

    def embedded(self, exchange: ModelExchange, reply: HttpReply) -> Embeddings:
        """The embeddings in `reply`.

        Raises:
            LMError: there are none; the class is the error table's.
        """
        return self._replies.embedded(exchange, reply)

    def plain_completion(self, exchange: ModelExchange, reply: HttpReply) -> Completion | None:
        """The answer in `reply`; None where LiteLLM has to read it. Raises as :meth:`completion` does."""
        return self._replies.plain_completion(exchange, reply)

    def chunks(self, exchange: ModelExchange) -> ChunkReader:
        """What reads the events of a streamed answer to `exchange`."""
        return self._replies.chunks(exchange)

    def plain_streamed(self, chunks: ChunkReader) -> Completion | None:
        """The completion that the chunks of a stream make up; None where LiteLLM has to say what they are."""
        return self._replies.plain_streamed(chunks)

    def streamed(self, exchange: ModelExchange, chunks: ChunkReader) -> Completion:
        """The completion that all chunks of a stream make up.

        Raises:
            LMRefused: the model declined to answer.
        """
        return self._replies.streamed(exchange, chunks)

    def error(self, exchange: ModelExchange, reply: HttpReply) -> LMError:
        """The error that `reply`, which carries no answer, amounts to."""
        return self._replies.error(exchange, reply)

    # --- about the model ---

    @property
    def abilities(self) -> Abilities:
        """What the model can do by LiteLLM's table, asked exactly as ``dspy.LM`` asks it. Opens no connection."""
        if self._abilities is None:
            plain = self.plain
            self._abilities = plain.abilities if plain is not None else abilities_of(load(), self.model)
        return self._abilities

    @property
    def account(self) -> tuple[str, str, str]:
        """What tells one provider account from another: provider, address, and a digest of the key."""
        route = self.place()
        digest = hashlib.sha256(route.account.encode()).hexdigest()
        return route.provider, route.api_base or "", digest

    def expected_tokens(self, exchange: ModelExchange) -> tuple[int, int]:
        """Roughly what a request will use: its prompt, by its length, and the longest answer that it allows."""
        if exchange.texts is not None:
            return len(exchange.request.body) // CHARS_PER_TOKEN, 0
        longest = longest_answer_tokens(exchange.data)
        return len(exchange.request.body) // CHARS_PER_TOKEN, USUAL_ANSWER_TOKENS if longest is None else longest

    def price_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost by LiteLLM's table; 0 for a model without a price."""
        return self._prices.of_tokens(self.place(), prompt_tokens, completion_tokens)

    def excerpt(self, text: str) -> str:
        """The beginning of `text`, as it may stand in a message: without this model's key and anything that looks like one."""
        return excerpt(text, self._secrets())

    def raise_alone(self, failure: LMError, original: Exception) -> NoReturn:
        """Raise `failure` in place of `original`, whose own words may hold what must not be shown."""
        raise_alone(failure, original, self._secrets())

    def _secrets(self) -> tuple[str, ...]:
        known = self._found or (self._plain.route if self._plain is not None else None)
        found = known.secrets if known is not None else ()
        keys = {self._api_key or "", (known.api_key if known is not None else None) or ""}
        return long_enough(secret for secret in {*keys, *found} if secret not in keys or len(secret) >= MIN_KEY_CHARS)

    # --- where to ---

    @property
    def is_slow(self) -> bool:
        """Whether the next translation reads files first: a cloud's own settings, to find out where the model lives."""
        return self._found is None and self.model.partition("/")[0] in CLOUDS

    @property
    def plain(self) -> PlainModel | None:
        """The model where plain calls are made without LiteLLM; found once."""
        if not self._is_placed:
            base, options = self._api_base, self._options
            self._plain = plain_model(self.model, api_key=self._api_key, api_base=base, options=options)
            if self._plain is None and self._needs_no_key:
                self._plain = plain_model(self.model, api_key=NO_KEY, api_base=base, options=options)
            self._is_placed = True
            if self._plain is not None:
                self._check_length(self._plain.route)
        return self._plain

    def place(self) -> ModelRoute:
        """Where the model lives. Without LiteLLM's configuration, where plain calls are made without it.

        Raises:
            DeclarationError: see :meth:`route`.
            LMAuthFailed: see :meth:`route`.
        """
        plain = self.plain
        return plain.route if plain is not None else self.route()

    def _resolved(self) -> ModelRoute:
        base, options = self._api_base, self._options
        try:
            return resolve(load(), self.model, api_key=self._api_key, api_base=base, options=options)
        except LMAuthFailed:
            if not self._needs_no_key:
                raise
            return resolve(load(), self.model, api_key=NO_KEY, api_base=base, options=options)

    def route(self) -> ModelRoute:
        """Resolve model, provider, address and key, once.

        Raises:
            DeclarationError: LiteLLM does not know the provider, or it is not served here.
            LMAuthFailed: there is no key.
        """
        if self._found is None:
            try:
                with quiet():
                    self._found = self._resolved()
                    for name in PARTS.get(self._found.provider, ()):
                        part(name)
            except (AttributeError, ImportError) as error:
                raise untried(f"{type(error).__name__}: {error}") from error
            if self._plain is None:
                self._check_length(self._found)
        return self._found

    def _check_length(self, route: ModelRoute) -> None:
        if 0 < len(route.api_key or "") < MIN_KEY_CHARS:
            _LOG.warning(
                "the key for %r has fewer than %d characters: it is not taken out of errors that quote it, because it would "
                "be taken out of the middle of words, too",
                self.model,
                MIN_KEY_CHARS,
            )
