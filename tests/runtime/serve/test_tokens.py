"""Tokens and keys: what is let in, and what only looks like it."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from actors.errors import DeclarationError
from runtime.serve import APIKeys
from runtime.serve.jwt import JWTBearer
from runtime.serve.keys import new_key
from tests.runtime.serve.cast import serving

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = ec.generate_private_key(ec.SECP256R1())
ISSUER, AUDIENCE = "https://login.example", "graphs"


def key_set(**keys: Any) -> str:
    told = []
    for kid, key in keys.items():
        kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        told.append({**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"})
    return json.dumps({"keys": told})


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(key_set(a=KEY))
    return file


def token(key: Any = KEY, algorithm: str = "RS256", kid: str | None = "a", **claims: Any) -> str:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 600, "scope": "run other", **claims}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({name: value for name, value in given.items() if value is not None}, key, algorithm, headers=headers)


async def caller(auth: Any, text: str) -> Any:
    return await auth({"headers": [(b"authorization", b"Bearer " + text.encode())]})


async def test_a_token_of_the_issuer_is_let_in_with_the_scopes_that_are_known(keys_file: Path) -> None:
    auth = JWTBearer(ISSUER, AUDIENCE, keys_file)

    found = await caller(auth, token())

    assert (found.name, found.scopes) == ("ann", {"run"})
    assert (await caller(auth, token(scope=["run", "inspect"]))).scopes == {"run", "inspect"}
    assert (await caller(auth, token(kid=None))).name == "ann"


def public_pem() -> bytes:
    return KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed_with_the_public_key() -> str:
    """What passes where the algorithm is the token's choice: the public key, as everybody has it, as a shared secret."""
    import base64
    import hashlib
    import hmac

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 600, "scope": "run"}
    text = part({"alg": "HS256", "typ": "JWT", "kid": "a"}) + b"." + part(claims)
    digest = hmac.new(public_pem(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


FORGED = {
    "none": lambda: jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 2**33, "scope": "run"}, "", "none"),
    "public key as secret": signed_with_the_public_key,
    "expired": lambda: token(exp=int(time.time()) - 600),
    "no expiry": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 600),
    "other audience": lambda: token(aud="others"),
    "no audience": lambda: token(aud=None),
    "other issuer": lambda: token(iss="https://evil.example"),
    "nobody": lambda: token(sub=None),
    "other key": lambda: token(OTHER, "ES256"),
    "other key, same kind": lambda: token(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "unknown key id": lambda: token(kid="b"),
    "changed": lambda: token()[:-4] + "AAAA",
    "no token": lambda: "a.b.c",
    "empty parts": lambda: "..",
    "long": lambda: "a" * 50_000,
    "deep": lambda: "W" * 10_000 + ".W.W",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_what_only_looks_like_a_token_is_not_let_in(keys_file: Path, forge: Any) -> None:
    assert await caller(JWTBearer(ISSUER, AUDIENCE, keys_file), forge()) is None


async def test_a_token_gets_through_a_service(keys_file: Path) -> None:
    async with serving(auth=JWTBearer(ISSUER, AUDIENCE, keys_file)) as client:
        assert (await client.of(token()).start("a")).status == 200
        assert (await client.of(token(scope="")).start("a")).problem == "forbidden"
        assert (await client.of(signed_with_the_public_key()).start("a")).status == 401


async def test_a_new_key_is_fetched_and_an_unknown_one_at_most_once_a_minute(virtual_clock: Any) -> None:
    fetched: list[int] = []
    served: dict[str, Any] = {"a": KEY}

    def answer(_: httpx.Request) -> httpx.Response:
        fetched.append(1)
        return httpx.Response(200, text=key_set(**served))

    auth = JWTBearer(ISSUER, AUDIENCE, "https://login.example/jwks.json")
    auth.transport = httpx.MockTransport(answer)
    async with trio.open_nursery() as nursery:  # at the same time: one fetch
        for _ in range(20):
            nursery.start_soon(caller, auth, token())
    for _ in range(20):
        assert await caller(auth, token(OTHER, "ES256", kid="b")) is None
    assert len(fetched) == 1
    served["b"] = OTHER
    await trio.sleep(61)
    assert (await caller(auth, token(OTHER, "ES256", kid="b"))).name == "ann"
    assert len(fetched) == 2


async def test_a_provider_that_is_away_lets_nobody_in_and_breaks_nothing(virtual_clock: Any) -> None:
    replies = [
        httpx.Response(503),
        httpx.Response(200, text="no JSON"),
        httpx.Response(200, text="[]"),
        httpx.Response(200, text=key_set(a=KEY)),
    ]
    auth = JWTBearer(ISSUER, AUDIENCE, "https://login.example/jwks.json")
    auth.transport = httpx.MockTransport(lambda _: replies.pop(0))

    found = []
    while replies:
        found.append(await caller(auth, token()))
        await trio.sleep(61)

    assert [each is not None for each in found] == [False, False, False, True]


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), (), ("RS256", "HS512"), "RS256"], ids=str)
def test_algorithms_without_a_public_key_cannot_be_chosen(algorithms: Any) -> None:
    with pytest.raises(DeclarationError, match="public key"):
        JWTBearer(ISSUER, AUDIENCE, "keys", algorithms)


def test_keys_do_not_come_without_tls() -> None:
    with pytest.raises(DeclarationError, match="without TLS"):
        JWTBearer(ISSUER, AUDIENCE, "http://login.example/jwks.json")


# --- API keys ---------------------------------------------------------------------------------------------------------


def test_a_key_is_kept_as_a_hash_in_a_file_of_its_owner(tmp_path: Path) -> None:
    key, line = new_key("ci", ["run", "inspect"])
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{line}\n\n")
    file.chmod(0o600)

    found = APIKeys.from_file(file).caller_of(key)

    assert key not in file.read_text()
    assert found is not None
    assert (found.name, sorted(found.scopes)) == ("ci", ["inspect", "run"])
    assert len(key) == len("usk_ci_") + 43


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(str(new_key("ci", ["run"])[1]))
    file.chmod(0o644)

    with pytest.raises(DeclarationError, match="chmod 600"):
        APIKeys.from_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_two_keys_of_one_name_are_one_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    old, old_line = new_key("ci", ["run"])
    new, new_line = new_key("ci", ["run"])
    monkeypatch.setitem(os.environ, "UNDERSTUDY_API_KEYS", f"{old_line};{new_line}")

    keys = APIKeys.from_environment()

    assert keys.caller_of(old) == keys.caller_of(new)
    assert keys.caller_of(old) is not None


@pytest.mark.parametrize("text", ["", "usk_ci_" + "a" * 43, "ci run", "ci fly " + "0" * 64, "c_i run " + "0" * 64])
def test_lines_that_are_none_are_refused_without_being_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "UNDERSTUDY_API_KEYS", text)

    with pytest.raises(DeclarationError) as caught:
        APIKeys.from_environment()
    assert "a" * 43 not in str(caught.value)


@pytest.mark.parametrize("key", ["", "usk_", "usk_ci_", "usk_ci_" + "é" * 43, "usk__" + "a" * 43, "\x00", "usk_ci_" + "a" * 4300])
def test_what_is_no_key_is_nobodys(key: str) -> None:
    assert APIKeys([new_key("ci", ["run"])[1]]).caller_of(key) is None
