"""A key of an agent's own, and proofs that it is held (DPoP, RFC 9449), as a developer would write them.

- Each request has a proof of its own: of this method, this URI and this token, and for once.
- The key stays with the agent; a token that is bound to it is worth nothing without it.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

_PUBLIC = frozenset({"kty", "crv", "x", "y"})


@dataclass(frozen=True, slots=True)
class ProofKey:
    """A key that tokens can be bound to."""

    private: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"), repr=False)

    def proof(self, method: str, uri: str, token: str = "") -> str:
        """Prove that the key is held, for one request (section 4.2)."""
        public = {
            name: value for name, value in self.private.as_dict(private=False).items() if name in _PUBLIC
        }
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": uri,
            "iat": int(time.time()),
        }
        if token:
            digest = hashlib.sha256(token.encode("ascii")).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return jwt.encode({"typ": "dpop+jwt", "alg": "ES256", "jwk": public}, claims, self.private)


@dataclass(frozen=True, slots=True)
class ProofAuth(httpx2.Auth):
    """Shows a token with a new proof at each request."""

    key: ProofKey
    token: str = field(repr=False)

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add both headers (section 7.1)."""
        uri = str(request.url.copy_with(query=None, fragment=None))
        request.headers["authorization"] = f"DPoP {self.token}"
        request.headers["dpop"] = self.key.proof(request.method, uri, self.token)
        yield request
