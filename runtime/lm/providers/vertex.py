"""Google's Vertex AI: the project, the place, and an access token from the credentials that are found.

google-auth makes the tokens. Its own HTTP requests go over the client's transport, so a renewal is cancelled and timed like
any other request, and leaves no thread behind. LiteLLM knows every kind of credentials.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, final

import attrs

from actors.errors import DeclarationError, LMAuthFailed, LMError, LMUnavailable, UnderstudyError
from runtime.lm.http.http_messages import HttpReply, HttpRequest
from runtime.lm.limits.redaction import excerpt, raise_alone
from runtime.lm.providers.import_litellm import fitted, part
from runtime.lm.providers.sign_in import Post

USABLE_S = 60.0
"""How long a token serves before google-auth is asked again. It gives none out that ends within this time."""
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""What google-auth would try again on its own, asleep in its thread."""


@final
@attrs.frozen
class GoogleReply:
    """A reply in the form that google-auth reads."""

    status: int
    headers: Mapping[str, str]
    data: bytes = attrs.field(repr=False)


def caller(post: Post) -> Callable[..., GoogleReply]:
    """What google-auth sends its requests with."""

    def call(
        url: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> GoogleReply:
        raw = body.encode() if isinstance(body, str) else body or b""
        reply: HttpReply = post(HttpRequest(method, url, dict(headers or {}), raw))
        if reply.status in _BUSY:
            raise LMUnavailable(
                f"the token service answered HTTP {reply.status}.\n  Fix: try again later; check Google Cloud's status page.",
                status=reply.status,
            )
        return GoogleReply(reply.status, reply.headers, reply.body)

    return call


@final
class GoogleAuthority:
    """An access token for one model's requests.

    Args:
        name: the model as it was asked for, for messages.
        credentials: LiteLLM's ``vertex_credentials``: a file's name, its JSON, or None for those of the environment.
        project: the project that pays.
        token: an access token that is sent as it is; the credentials are then not asked.
    """

    def __init__(self, name: str, credentials: Any, project: str, token: str | None) -> None:
        self._name = name
        self._given = credentials
        self.project = project
        self._token = token
        self._is_given = token is not None
        self._credentials: Any = None  # google-auth's
        self._earlier: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"GoogleAuthority({self._name!r}, project={self.project!r})"

    @property
    def secrets(self) -> Sequence[str]:
        """See ``Authority``."""
        return tuple(secret for secret in (self._token, *self._earlier) if secret)

    @property
    def account(self) -> str:
        """See ``Authority``."""
        return self.project

    def renew(self, post: Post) -> float:
        """See ``Authority``."""
        if self._is_given:
            return math.inf  # it was given as it is
        try:
            if self._credentials is None:
                self._credentials = self._loaded(post)
            elif not self._credentials.valid:
                self._credentials.refresh(caller(post))
        except UnderstudyError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            raise_alone(self._rejected(error), error, self.secrets)
        token = str(self._credentials.token)
        if token != self._token:
            self._earlier = (self._token,) if self._token else ()  # calls that still use it may fail
            self._token = token
        return USABLE_S

    def _loaded(self, post: Post) -> Any:
        base = part("llms.vertex_ai.vertex_llm_base").VertexBase()

        def refresh(credentials: Any) -> None:
            credentials.refresh(caller(post))

        base.refresh_auth = refresh
        credentials, _ = base.load_auth(self._given, self.project)
        return credentials

    def _rejected(self, error: Exception) -> LMError:
        words = excerpt(str(error), self.secrets)
        return LMAuthFailed(
            f"Google gives no access token ({type(error).__name__}: {words}).\n"
            "  Fix: check vertex_credentials, VERTEXAI_CREDENTIALS or GOOGLE_APPLICATION_CREDENTIALS, and the account's rights.",
            model=self._name,
            attempt=0,
        )

    def authorised(self, request: HttpRequest) -> HttpRequest:
        """See ``Authority``."""
        if any(name.lower() == "authorization" for name in request.headers):  # the caller's own, by extra_headers
            return request
        return attrs.evolve(request, headers={**request.headers, "Authorization": f"Bearer {self._token}"})


def is_gemini(model: str) -> bool:
    """Whether `model` speaks Gemini's protocol. Those of other makers have their own protocols."""
    return bool(part("llms.vertex_ai.common_utils").get_vertex_ai_model_route(model).value == "gemini")


def url(model: str, project: str, options: Mapping[str, Any], base: str | None, *, stream: bool) -> str:
    """Where a call to `model` goes."""
    _, made = fitted(
        part("llms.vertex_ai.vertex_llm_base").VertexBase().get_token_and_url,
        model=model,
        auth_header=None,
        gemini_api_key=None,
        vertex_project=project,
        vertex_location=location_of(options),
        vertex_credentials=None,
        stream=stream,
        custom_llm_provider="vertex_ai",
        api_base=base,
    )
    return str(made)


def credentials_of(options: Mapping[str, Any]) -> Any:
    """The credentials that are given, by option or by LiteLLM's variable; None for those that google-auth finds."""
    return options.get("vertex_credentials") or os.environ.get("VERTEXAI_CREDENTIALS") or None


def location_of(options: Mapping[str, Any]) -> str | None:
    """Where the model runs; None for LiteLLM's choice."""
    return options.get("vertex_location") or os.environ.get("VERTEXAI_LOCATION") or None


def project_of(name: str, options: Mapping[str, Any]) -> str:
    """The project that pays: said outright, or named by the credentials.

    Raises:
        DeclarationError: neither.
    """
    said = options.get("vertex_project") or os.environ.get("VERTEXAI_PROJECT")
    given = credentials_of(options)
    if not said and given is None:
        said = os.environ.get("GOOGLE_CLOUD_PROJECT")
        given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    found = said or _named_project(given)
    if not found:
        raise DeclarationError(
            f"LMClient({name!r}): no project of Google Cloud is named, and the credentials name none.\n"
            "  Fix: set VERTEXAI_PROJECT, or pass LMClient(..., provider_options={'vertex_project': …})."
        )
    return str(found)


def _named_project(credentials: Any) -> str | None:
    """The project in `credentials`: a mapping, JSON, or the name of a file of JSON."""
    fields: object = credentials
    try:
        if isinstance(fields, str):
            # Not by asking whether there is such a file: systems call the text of a JSON too long a name.
            is_json = fields.lstrip().startswith("{")
            fields = json.loads(fields if is_json else Path(fields).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    named: Mapping[str, Any] = cast("Mapping[str, Any]", fields) if isinstance(fields, Mapping) else {}
    return named.get("project_id") or named.get("quota_project_id")


def check_google_auth(name: str, find: Callable[[str], object]) -> None:
    """DeclarationError when google-auth is not installed."""
    try:
        is_there = find("google.auth") is not None
    except ModuleNotFoundError:  # no package of Google's is
        is_there = False
    if not is_there:
        raise DeclarationError(
            f"LMClient({name!r}): Vertex AI's access tokens are made by google-auth, which is not installed.\n"
            "  Fix: pip install 'understudy[vertex]', or pass your own token as api_key."
        )
