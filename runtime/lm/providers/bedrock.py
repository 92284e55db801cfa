"""Amazon Bedrock's Converse interface: address, region and credentials as LiteLLM finds them, and AWS's signatures.

LiteLLM's handler decides all of it and sends in the same breath; here it is asked for everything up to the sending.
botocore comes with LiteLLM and makes the signatures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, final

import attrs

from actors.errors import DeclarationError, LMAuthFailed
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.limits.redaction import raise_alone
from runtime.lm.providers.import_litellm import fitted, part
from runtime.lm.providers.known import PROVIDER_OPTIONS
from runtime.lm.providers.sign_in import Post

USABLE_S = 45.0
"""How long credentials serve before LiteLLM is asked for them again. It gives none out that end within a minute."""
BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
_SECRETS = ("aws_secret_access_key", "aws_session_token", "aws_web_identity_token")
_COMPUTED = frozenset({"content-length", "host"})
_FIX = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), or pass "
    "LMClient(..., provider_options={'aws_access_key_id': …, 'aws_secret_access_key': …, 'aws_region_name': …})"
)


@final
@attrs.frozen
class Target:
    """Where one call goes, and what remains of its options."""

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    optional_params: dict[str, Any] = attrs.field(repr=False)
    litellm_params: dict[str, Any] = attrs.field(repr=False)


def is_converse(model: str) -> bool:
    """Whether LiteLLM sends `model` to the Converse interface."""
    return bool(part("llms.bedrock.common_utils").BedrockModelInfo.get_bedrock_route(model) == "converse")


def model_name(model: str) -> str:
    """`model` without the words that choose an interface."""
    return str(part("llms.bedrock.common_utils").without_bedrock_route_prefix(model))


def target(handler: Any, model: str, params: Mapping[str, Any], headers: Mapping[str, str], base: str | None) -> Target:
    """What LiteLLM's `handler` makes of a call before it signs and sends it."""
    kept: dict[str, Any] = fitted(
        handler.completion,
        model=model,
        messages=[],
        api_base=base,
        custom_prompt_dict={},
        model_response=None,
        encoding=None,
        logging_obj=None,
        optional_params=dict(params),
        acompletion=True,
        timeout=None,
        litellm_params={},
        extra_headers=dict(headers),
    )
    return Target(kept["api_base"], kept["headers"], kept["optional_params"], kept["litellm_params"])


def handler_of() -> Any:
    """LiteLLM's handler of Converse calls, which gives back what it would send, and has credentials looked up later."""
    handler = part("llms.bedrock.chat.converse_handler").BedrockConverseLLM()
    handler.find_credentials = handler.resolve_credentials
    handler.resolve_credentials = _no_credentials
    handler.async_completion = handler.async_streaming = _kept
    return handler


def _no_credentials(auth_params: object, region: object) -> None:
    """They are looked up in a thread, when a request goes out."""


def _kept(**arguments: Any) -> dict[str, Any]:
    return arguments


@final
class ConverseParser:
    """Reads the events of a Converse stream by LiteLLM's decoder, which also takes other interfaces' and mistakes some."""

    def __init__(self, model: str, *, json_mode: bool) -> None:
        self._decoder = part("llms.bedrock.chat.invoke_handler").AWSEventStreamDecoder(model=model, json_mode=json_mode)

    def chunk_parser(self, chunk: Mapping[str, Any]) -> Any:
        """The event `chunk` as LiteLLM's ``ModelResponseStream``."""
        return self._decoder.converse_chunk_parser(dict(chunk))


@final
class AwsAuthority:
    """Signs requests with the credentials that LiteLLM finds: given, in the environment, of a profile or of a role.

    Args:
        name: the model as it was asked for, for messages.
        model: the model as LiteLLM's handler knows it; it may name the region.
        options: LiteLLM's ``aws_…`` options.
        token: Bedrock's API key, which is sent as it is in place of a signature.
    """

    def __init__(self, name: str, model: str, options: Mapping[str, Any], token: str | None) -> None:
        self._name = name
        self._token = token or os.environ.get(BEARER_VARIABLE) or None
        self._options = dict(options)
        self._parameters = part("types.llms.bedrock").AwsAuthParams.model_validate(self._options)
        self.handler = handler_of()
        self.region = str(target(self.handler, model, self._options, {}, None).litellm_params["aws_region_name"])
        self._credentials: Any = None  # botocore's ReadOnlyCredentials
        self._secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"AwsAuthority({self._name!r})"

    @property
    def secrets(self) -> Sequence[str]:
        """See ``Authority``."""
        given = (str(self._options.get(name) or os.environ.get(name.upper(), "")) for name in _SECRETS)
        return tuple(secret for secret in (self._token or "", *given, *self._secrets) if secret)

    @property
    def account(self) -> str:
        """See ``Authority``."""
        names = sorted(PROVIDER_OPTIONS["bedrock"] - {"aws_session_tags"})
        return self._token or "\n".join(str(self._options.get(name) or os.environ.get(name.upper(), "")) for name in names)

    def renew(self, post: Post) -> float:
        """See ``Authority``."""
        if self._token is not None:
            return math.inf
        try:
            found = self.handler.find_credentials(self._parameters, self.region)
            frozen = found.get_frozen_credentials() if found is not None else None
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            # Its words may hold what was sent; the class says enough.
            raise_alone(self._rejected(f"AWS credentials cannot be had ({type(error).__name__})"), error, self.secrets)
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise self._rejected("there are no AWS credentials")
        self._credentials = frozen
        self._secrets = tuple(secret for secret in (frozen.secret_key, frozen.token) if secret)
        return USABLE_S

    def _rejected(self, what: str) -> LMAuthFailed:
        return LMAuthFailed(f"{what}.\n  Fix: {_FIX}.", model=self._name, attempt=0)

    def authorised(self, request: HttpRequest) -> HttpRequest:
        """See ``Authority``."""
        headers = dict(request.headers)
        signed = fitted(
            self.handler.get_request_headers,
            credentials=self._credentials,
            aws_region_name=self.region,
            extra_headers=headers,
            endpoint_url=request.url,
            data=request.body,
            headers=headers,
            api_key=self._token,
        )
        sent = {name: _text(value) for name, value in dict(signed.headers).items() if name.lower() not in _COMPUTED}
        return attrs.evolve(request, headers=sent)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def check_botocore(name: str, find: Any) -> None:
    """DeclarationError when botocore is not installed."""
    if find("botocore") is None or find("boto3") is None:
        raise DeclarationError(
            f"LMClient({name!r}): Bedrock's requests are signed by botocore, which is not installed.\n"
            "  Fix: pip install boto3, which litellm asks for."
        )
