"""JSON Web Tokens of an identity provider: verification alone. Needs the extra ``jwt``."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import httpx
import trio

from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.serve.auth import SCOPES, Caller, bearer_of

try:
    import jwt
except ImportError as missing:
    raise ImportError("JWTBearer needs pyjwt.\n  Fix: pip install 'understudy[jwt]'", name=missing.name) from missing

ALGORITHMS: Final = ("RS256", "ES256")
_ALLOWED: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Those with a public key: with a shared secret, anyone who can verify can also sign."""
_REFETCH_S: Final = 60.0
"""How often an unknown key may have the key set fetched again."""
_FETCH_S: Final = 10.0
_MAX_BYTES: Final = 256 * 1024
_MAX_TOKEN: Final = 16 * 1024
LEEWAY_S: Final = 30


@final
class JWTBearer:
    """An ``Authenticator``: callers send ``Authorization: Bearer`` and a signed token.

    Args:
        issuer: who must have issued it (``iss``).
        audience: for whom it must be (``aud``).
        jwks: the address or the file of the issuer's public keys.
        algorithms: by which it may be signed.
        scope_claim: where its scopes stand, separated by spaces, or as a list.

    Raises:
        DeclarationError: an algorithm is none with a public key, or an address isn't https.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        jwks: str | Path,
        algorithms: Sequence[str] = ALGORITHMS,
        scope_claim: str = "scope",
    ) -> None:
        wrong = [each for each in algorithms if each not in _ALLOWED]
        if wrong or not algorithms or isinstance(algorithms, str):
            raise DeclarationError(
                f"JWTBearer(algorithms={repr_of(algorithms)}): expected some with a public key.\n  Fix: {ALGORITHMS}."
            )
        self._is_url = isinstance(jwks, str) and "://" in jwks
        if self._is_url and not str(jwks).startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise DeclarationError(f"JWTBearer(jwks={jwks!r}): keys that come without TLS may be anybody's.\n  Fix: https://…")
        self._issuer = issuer
        self._audience = audience
        self._jwks = jwks
        self._algorithms = list(algorithms)
        self._claim = scope_claim
        self._keys: Mapping[str | None, Any] = {}
        self._fetched_at_s: float | None = None
        self._fetching = trio.Lock()
        self.transport: httpx.AsyncBaseTransport | None = None
        """For tests: by what the key set is fetched."""

    async def __call__(self, scope: MutableMapping[str, Any], /) -> Caller | None:
        """See ``Authenticator``."""
        token = bearer_of(scope)
        if token is None or len(token) > _MAX_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        if header.get("alg") not in self._algorithms:
            return None
        key = await self._key(header.get("kid"))
        return None if key is None else self._caller(token, key)

    def _caller(self, token: str, key: Any) -> Caller | None:
        required = ["exp", "iss", "aud", "sub"]
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": required},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        given = claims.get(self._claim, "")
        names = given.split() if isinstance(given, str) else given
        if not isinstance(names, list) or not isinstance(claims["sub"], str) or not claims["sub"]:
            return None
        return Caller(claims["sub"], frozenset(scope for scope in SCOPES if scope in names))

    async def _key(self, kid: Any) -> Any:
        """The public key of that id; of a token without one, the only key that there is."""
        if kid is not None and not isinstance(kid, str):
            return None
        found = self._found(kid)
        if found is not None:
            return found
        async with self._fetching:
            found = self._found(kid)
            now = trio.current_time()
            if found is None and (self._fetched_at_s is None or now - self._fetched_at_s >= _REFETCH_S):
                self._fetched_at_s = now
                await self._fetch()
                found = self._found(kid)
        return found

    def _found(self, kid: str | None) -> Any:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        try:
            text = await (self._download() if self._is_url else trio.Path(self._jwks).read_bytes())
            keys = jwt.PyJWKSet.from_dict(json.loads(text)).keys
        except (OSError, httpx.HTTPError, jwt.PyJWTError, ValueError, AttributeError, TypeError, trio.TooSlowError):
            return  # those that are known stay; a new attempt in a minute
        self._keys = {key.key_id: key.key for key in keys if key.public_key_use in (None, "sig")}

    async def _download(self) -> bytes:
        with trio.fail_after(_FETCH_S):
            async with httpx.AsyncClient(transport=self.transport, timeout=None) as client:  # bounded above
                response = await client.get(str(self._jwks))
                response.raise_for_status()
                if len(response.content) > _MAX_BYTES:
                    raise ValueError("too many keys")
                return response.content
