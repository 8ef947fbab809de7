"""Keys of other authorities, for each algorithm that an SVID may have: other libraries make and use them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from joserfc.jwk import ECKey, RSAKey

from identity.signature_algorithms import Algorithm

_CURVES: Mapping[Algorithm, Any] = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def foreign_jwk(algorithm: Algorithm, **members: object) -> dict[str, object]:
    """Return a public key for an algorithm, which it does not name."""
    return {**_key(_CURVES.get(algorithm)).as_dict(private=False), "kid": f"{algorithm}-key", **members}


def foreign_signature(algorithm: Algorithm, data: bytes) -> bytes:
    """Sign bytes with the key of an algorithm."""
    scheme = jwt.get_algorithm_by_name(algorithm)
    return scheme.sign(data, scheme.prepare_key(_pem(algorithm)))


def foreign_token(algorithm: Algorithm, claims: dict[str, Any], **header: Any) -> str:
    """Sign a token with the key of an algorithm."""
    members = {"kid": f"{algorithm}-key", **header}
    return jwt.encode(claims, _pem(algorithm), algorithm, headers=members)


def _pem(algorithm: Algorithm) -> bytes:
    pem: bytes = _key(_CURVES.get(algorithm)).as_pem(private=True)
    return pem


@cache
def _key(curve: Any) -> Any:
    return RSAKey.generate_key(2048) if curve is None else ECKey.generate_key(curve)
