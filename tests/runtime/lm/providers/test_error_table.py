import json

import pytest

from actors.errors import (
    LMAuthFailed,
    LMBadRequest,
    LMContextTooLong,
    LMError,
    LMRateLimited,
    LMRefused,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
)
from runtime.lm.http.http_messages import HttpReply
from runtime.lm.limits.redaction import redact
from runtime.lm.providers.error_table import error_class, error_for, has_error

TABLE = {
    100: LMReplyUnreadable,
    301: LMBadRequest,
    307: LMBadRequest,
    400: LMBadRequest,
    401: LMAuthFailed,
    402: LMAuthFailed,
    403: LMAuthFailed,
    404: LMBadRequest,
    405: LMBadRequest,
    407: LMAuthFailed,
    408: LMTimeout,
    409: LMUnavailable,
    413: LMBadRequest,
    418: LMBadRequest,
    422: LMBadRequest,
    425: LMUnavailable,
    429: LMRateLimited,
    498: LMRateLimited,
    500: LMUnavailable,
    502: LMUnavailable,
    503: LMUnavailable,
    504: LMUnavailable,
    524: LMUnavailable,
    529: LMRateLimited,
    999: LMReplyUnreadable,
}


def failed(status: int, body: object = "", **headers: str) -> LMError:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_for(HttpReply(status, names, raw), place="http://provider/v1/chat", model="openai/m", secrets=("s3cret-key",))


@pytest.mark.parametrize(("status", "kind"), TABLE.items())
def test_every_status_has_its_error(status: int, kind: type[LMError]):
    assert error_class(status) is kind
    assert type(failed(status)) is kind
    assert failed(status).status == status


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", LMContextTooLong),
        (400, "content_filter", LMRefused),
        (400, "content_policy_violation", LMRefused),
        (403, "content_filter", LMRefused),
        (500, "overloaded_error", LMRateLimited),
        (400, "invalid_request_error", LMBadRequest),
        (500, "context_length_exceeded", LMUnavailable),
    ],
)
def test_a_code_of_the_provider_is_more_exact_than_the_status(status: int, code: str, kind: type[LMError]):
    assert type(failed(status, {"error": {"message": "no", "code": code}})) is kind


def test_a_rate_limit_carries_the_wait_and_the_providers_words():
    error = failed(429, {"error": {"message": "Rate limit reached for m."}}, retry_after="20")

    assert isinstance(error, LMRateLimited)
    assert error.retry_after_s == 20.0
    assert str(error) == (
        "HTTP 429 from http://provider/v1/chat: Rate limit reached for m (retry after 20 s).\n"
        "  Fix: wait; lower max_connections; or ask the provider for a higher limit."
    )


def test_waiting_does_not_help_an_account_without_credit():
    assert failed(429, {"error": {"message": "no credit", "code": "insufficient_quota"}}).retryable is False


def test_a_redirect_is_named_and_not_followed():
    error = failed(307, location="https://elsewhere/v1?key=s3cret-key")

    assert str(error) == (
        "HTTP 307 from http://provider/v1/chat to https://elsewhere/v1, which is not followed because the key would go with it.\n"
        "  Fix: fix the messages or options; check the model's name and api_base."
    )


@pytest.mark.parametrize(
    "body", [{"error": "plain"}, {"message": "plain"}, {"detail": "plain"}, "plain", {"error": {"message": "plain"}}]
)
def test_the_words_are_found_wherever_the_provider_puts_them(body: object):
    assert str(failed(500, body)).startswith("HTTP 500 from http://provider/v1/chat: plain.")


def test_long_words_are_shortened():
    text = str(failed(500, "x" * 1000))

    assert "x" * 400 + "… (1000 characters)" in text
    assert "x" * 401 not in text


@pytest.mark.parametrize(
    "text",
    [
        "s3cret-key",
        "Incorrect API key provided: sk-proj-abc***wxyz",
        "Bearer abcdefghijk",
        "AIzaSyA1234567890abc",
        "gsk_abcdefgh1234",
    ],
)
def test_keys_do_not_show(text: str):
    shown = redact(text, ("s3cret-key",))

    assert shown.endswith("[redacted]")
    assert not any(secret in shown for secret in ("s3cret", "abc", "SyA"))


def test_an_error_in_the_body_of_a_success_is_an_error():
    body = json.dumps({"error": {"message": "upstream is full", "code": 429}}).encode()

    assert has_error(body)
    assert type(error_for(HttpReply(200, {}, body), place="p", model="m")) is LMRateLimited


def test_an_answer_beside_an_empty_error_is_no_error():
    assert not has_error(b'{"error": null, "choices": [{}]}')
    assert not has_error(b'{"error": {"code": 1}, "choices": [{}]}')
    assert not has_error(b'not json "error"')
