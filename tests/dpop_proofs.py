"""DPoP proofs as clients make them, by another library (PyJWT), and as forgers make them."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from joserfc.jwk import ECKey, RSAKey

from identity.base64url import encode_base64url
from identity.keys import SigningKey
from tests.identity_world import SECONDS, forge

METHOD = "POST"
URI = "https://tickets.mesh.example:8443/mcp"
KEY = SigningKey.generate()
JWK = {name: value for name, value in KEY.public.jwk().items() if name in {"kty", "crv", "x", "y"}}
HEADER: Mapping[str, object] = {"typ": "dpop+jwt", "alg": "ES256", "jwk": JWK}


def claims(**changes: object) -> dict[str, object]:
    """Return the claims of a right proof; a change to None takes a claim away."""
    right = {"jti": "j" * 22, "htm": METHOD, "htu": URI, "iat": SECONDS}
    return {name: value for name, value in (right | changes).items() if value is not None}


def ath(access_token: str) -> str:
    """Return the hash of an access token (RFC 9449 section 4.2)."""
    return encode_base64url(hashlib.sha256(access_token.encode("ascii")).digest())


def proof(access_token: str | None = None, **changes: object) -> str:
    """Make a proof with KEY; PyJWT does it."""
    bound = {} if access_token is None else {"ath": ath(access_token)}
    made: str = jwt.encode(
        claims(**(bound | changes)), KEY.reveal_pem(), "ES256", headers={"typ": "dpop+jwt", "jwk": JWK}
    )
    return made


def forged(header: Mapping[str, object] | None = None, body: object = None) -> str:
    """Sign a header and claims that no honest library would write, with KEY."""
    return forge(KEY, HEADER if header is None else header, claims() if body is None else body)


def with_header(**members: object) -> str:
    """Make a proof whose header has other members; one that is None is left out."""
    header = {name: value for name, value in (dict(HEADER) | members).items() if value is not None}
    return forged(header)


def with_key(**members: object) -> str:
    """Make a proof whose embedded key has other members; one that is None is left out."""
    return with_header(jwk={name: value for name, value in (JWK | members).items() if value is not None})


def foreign_proof(algorithm: str, **changes: object) -> tuple[str, str]:
    """Make a proof with a key for an algorithm; return it and what joserfc says the thumbprint is."""
    key = _key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}.get(algorithm))
    public = {name: value for name, value in key.as_dict(private=False).items() if name != "kid"}
    headers = {"typ": "dpop+jwt", "jwk": public}
    made = jwt.encode(claims(**changes), key.as_pem(private=True), algorithm, headers=headers)
    return made, key.thumbprint()


def unsigned(header: Mapping[str, object]) -> str:
    """Write a proof with no signature at all but one byte."""
    parts = [encode_base64url(json.dumps(part).encode()) for part in (dict(header), claims())]
    return ".".join([*parts, "AA"])


@cache
def _key(curve: Any) -> Any:
    return RSAKey.generate_key(2048) if curve is None else ECKey.generate_key(curve)
