"""Bedrock: signatures that AWS would accept, credentials from wherever they are, and its binary streams."""

import importlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.errors import DeclarationError, LMAuthFailed, LMError, LMRateLimited, LMReplyUnreadable, LMUnavailable
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.lm.providers.bedrock import check_botocore
from runtime.lm.providers.translation import Translator
from tests.runtime.lm.recorder import Recorder, Seen, recording
from tests.runtime.lm.replies import aws_events, aws_message

pytestmark = pytest.mark.filterwarnings("ignore")  # botocore's, about what Python will do away with

HELLO = [{"role": "user", "content": "Grüße"}]
MODEL = "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0"
KEYS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "s3cret-aws"}
ATOMS = {**KEYS, "aws_region_name": "eu-central-1"}
AT_ONCE = Retry(max_attempts=3, backoff=Backoff(first_s=0.001, cap_s=0.001, jitter=0))
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_REGION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)


@pytest.fixture(autouse=True)
def _no_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@asynccontextmanager
async def asking(options: dict[str, Any] = ATOMS, **more: Any) -> AsyncIterator[tuple[Recorder, LMClient]]:
    with recording() as recorder:
        arguments = {"api_base": recorder.url, "retry": AT_ONCE, "provider_options": options, **more}
        async with LMClient(MODEL, **arguments) as lm:
            yield recorder, lm


def signature(seen: Seen, url: str, secret: str, token: str | None = None) -> str:
    """The signature that botocore makes of a request that has arrived, at the time that it says."""
    auth: Any = importlib.import_module("botocore.auth")
    requests: Any = importlib.import_module("botocore.awsrequest")
    credentials: Any = importlib.import_module("botocore.credentials")
    scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", seen.headers["authorization"])
    assert scope is not None
    key, region, service = scope.groups()
    signed = re.search(r"SignedHeaders=([^,]+)", seen.headers["authorization"])
    assert signed is not None
    headers = {name: seen.headers[name] for name in signed[1].split(";") if name != "host"}
    request = requests.AWSRequest("POST", url + seen.path, data=seen.raw, headers=headers)
    request.context["timestamp"] = seen.headers["x-amz-date"]
    signer = auth.SigV4Auth(credentials.Credentials(key, secret, token), service, region)
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))


async def test_the_signature_is_the_one_that_aws_would_make_of_what_arrives():
    async with asking() as (recorder, lm):
        await lm.chat(HELLO)
        (seen,) = recorder.seen
        wanted = signature(seen, recorder.url, "s3cret-aws")

    assert seen.headers["authorization"].endswith(f"Signature={wanted}")
    assert "Credential=AKIAEXAMPLE/" in seen.headers["authorization"]
    assert "/eu-central-1/bedrock/aws4_request" in seen.headers["authorization"]
    assert re.fullmatch(r"\d{8}T\d{6}Z", seen.headers["x-amz-date"])


async def test_a_stream_and_a_session_are_signed_too():
    async with asking({**ATOMS, "aws_session_token": "s3cret-session"}) as (recorder, lm):
        async with lm.stream(HELLO) as stream:
            assert "".join([getattr(delta, "text", "") async for delta in stream]) == "Hello!"
        (seen,) = recorder.seen
        wanted = signature(seen, recorder.url, "s3cret-aws", "s3cret-session")

    assert seen.headers["authorization"].endswith(f"Signature={wanted}")
    assert seen.headers["x-amz-security-token"] == "s3cret-session"
    assert (stream.completion.usage.prompt_tokens, stream.completion.usage.completion_tokens) == (1000, 100)


async def test_each_attempt_is_signed_anew():
    async with asking() as (recorder, lm):
        recorder.failures += [(500, {}, b"{}")] * 2
        completion = await lm.chat(HELLO)
        signatures = [(seen.headers["authorization"], signature(seen, recorder.url, "s3cret-aws")) for seen in recorder.seen]

    assert completion.attempts == len(signatures) == 3
    assert all(sent.endswith(f"Signature={wanted}") for sent, wanted in signatures)


async def test_credentials_and_region_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-env")
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    async with asking({}) as (recorder, lm):
        await lm.chat(HELLO)
        (seen,) = recorder.seen

    assert re.search(r"Credential=AKIAENV/\d{8}/ap-south-1/bedrock/", seen.headers["authorization"])


async def test_a_profile_is_read(tmp_path: Any):
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = s3cret-work\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-3\n")
    async with asking({"aws_profile_name": "work", "aws_region_name": "eu-west-3"}) as (recorder, lm):
        await lm.chat(HELLO)
        (seen,) = recorder.seen

    assert re.search(r"Credential=AKIAWORK/\d{8}/eu-west-3/bedrock/", seen.headers["authorization"])


async def test_an_api_key_of_bedrocks_is_sent_as_it_is():
    async with asking({"aws_region_name": "eu-central-1"}, api_key="s3cret-key") as (recorder, lm):
        await lm.chat(HELLO)

    assert recorder.seen[0].headers["authorization"] == "Bearer s3cret-key"


@pytest.mark.parametrize("options", [{}, {"aws_profile_name": "nowhere"}])
async def test_without_credentials_nothing_is_sent(options: dict[str, str]):
    async with asking({"aws_region_name": "eu-central-1", **options}) as (recorder, lm):
        with pytest.raises(LMAuthFailed) as caught:
            await lm.chat(HELLO)

    what = "AWS credentials cannot be had (ProfileNotFound)" if options else "there are no AWS credentials"
    assert str(caught.value) == (
        f"{MODEL!r}, request 1 of 3: {what}.\n  Fix: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), "
        "or pass LMClient(..., provider_options={'aws_access_key_id': …, 'aws_secret_access_key': …, 'aws_region_name': …})."
    )
    assert recorder.seen == []


def test_an_option_that_bedrock_does_not_know_is_refused_without_showing_its_value():
    with pytest.raises(DeclarationError) as caught:
        Translator(MODEL, provider_options={**ATOMS, "aws_secret": "s3cret"}).route()

    assert str(caught.value).startswith(
        f"LMClient({MODEL!r}, provider_options=…): no option 'aws_secret' is known; 'bedrock' has aws_"
    )
    assert "s3cret" not in str(caught.value)


def test_without_botocore_the_error_says_what_to_install():
    with pytest.raises(DeclarationError, match=r"signed by botocore, which is not installed\.\n  Fix: pip install boto3"):
        check_botocore(MODEL, lambda name: None)


def test_models_of_other_interfaces_are_left_to_litellm():
    assert Translator("bedrock/invoke/anthropic.claude-v2", provider_options=ATOMS).route().is_threaded
    assert not Translator("bedrock/converse/my.own-model", provider_options=ATOMS).route().is_threaded


# --- what goes wrong in a stream --------------------------------------------------------------------------------------

START = {"messageStart": {"role": "assistant"}}
HALF = {"contentBlockDelta": {"delta": {"text": "Hel"}, "contentBlockIndex": 0}}


async def read(lm: LMClient) -> None:
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass


def refusing(kind: str) -> bytes:
    said = {"message": "Too much for s3cret-aws."}
    return aws_events([START, HALF]) + aws_message(said, exception_type=kind, message_type="exception")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (refusing("throttlingException"), LMRateLimited, r"HTTP 429 .*Too much for \[redacted\]"),
        (refusing("internalServerException"), LMUnavailable, "HTTP 500 "),
        (aws_events([START, HALF]), LMReplyUnreadable, "the stream ended before the answer did: 'Hel'"),
        (aws_events([START, HALF])[:-3] + b"xyz", LMReplyUnreadable, "the checksum of a message is wrong"),
        (aws_events([START, HALF]) + b"x" * 20, LMReplyUnreadable, "the checksum of a prelude is wrong"),
    ],
    ids=["throttled", "broken", "cut", "damaged", "garbage"],
)
async def test_a_stream_that_breaks_off_is_an_error_of_the_table(body: bytes, kind: type[LMError], words: str):
    async with asking(retry=Retry(max_attempts=1)) as (recorder, lm):
        recorder.failures.append((200, {"content-type": "application/vnd.amazon.eventstream"}, body))
        with pytest.raises(kind, match=words) as caught:
            await read(lm)

    assert type(caught.value) is kind
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("attribute", [repr, lambda route: repr(route.authority), lambda route: repr(route.sign_in)])
def test_nothing_about_the_route_shows_a_secret(attribute: Callable[[Any], str]):
    route = Translator(MODEL, provider_options={**ATOMS, "aws_session_token": "s3cret-session"}).route()

    assert "s3cret" not in attribute(route)
    assert json.dumps(sorted(route.secrets)) == '["s3cret-aws", "s3cret-session"]'
