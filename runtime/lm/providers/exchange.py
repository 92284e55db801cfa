"""One request to a model, and what is needed to read its reply."""

from __future__ import annotations

from typing import Any, final

import attrs

from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.providers.sign_in import SignIn
from runtime.lm.providers.threaded import ThreadedCall


@final
@attrs.frozen(eq=False)
class ModelExchange:
    """One request, and what is needed to read its reply."""

    request: HttpRequest
    """Without the authorisation of providers that sign in: that is added when it goes out."""
    data: dict[str, Any] = attrs.field(repr=False)
    messages: list[Any] = attrs.field(repr=False)
    optional_params: dict[str, Any] = attrs.field(repr=False)
    litellm_params: dict[str, Any] = attrs.field(repr=False)
    json_mode: bool = False
    texts: tuple[str, ...] | None = attrs.field(default=None, repr=False)
    """What is to be embedded; None for a chat."""
    sign_in: SignIn | None = attrs.field(default=None, repr=False)
    """Authorises the request when it goes out."""
    threaded: ThreadedCall | None = attrs.field(default=None, repr=False)
    """Makes the call in place of the request, which then only stands for it."""
