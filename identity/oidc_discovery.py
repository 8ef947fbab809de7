"""OpenID Connect Discovery for JWT-SVIDs, so that a cloud can trust them (OpenID Connect Discovery 1.0).

- The issuer is exactly the URL that is configured, as it stands in `iss`; a final slash of it is dropped only
  where a path is appended (section 4).
- The key set holds the published keys of JWT-SVIDs and no others: never those of tokens that name a human,
  which would let a token for a person pass as the identity of a workload, and none of X.509 or WIT-SVIDs.
- Nothing that does not exist is named: there is no authorization endpoint (that section 3 asks for one is for
  providers who sign people in), and no other algorithm than the one that signs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from identity.errors import IdentityError
from identity.keys import VerificationKey

WELL_KNOWN: Final = "/.well-known/openid-configuration"
KEYS: Final = "/keys"

_MAX_ISSUER: Final = 512
_ISSUER: Final = re.compile(
    r"https://(?:[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?"
    r"((?:/[A-Za-z0-9._~-]+)*)/?"
)


class IssuerError(IdentityError):
    """Not a URL that can be the issuer of JWT-SVIDs."""


@dataclass(frozen=True, slots=True)
class OidcIssuer:
    """The issuer that JWT-SVIDs name; `path` is the part of its URL below which its documents are."""

    url: str
    path: str

    @classmethod
    def parse(cls, url: str) -> "OidcIssuer":
        """Read an issuer: https, a host in lower case, plain path segments, and nothing else.

        Raises:
            IssuerError: if it is anything else.
        """
        parts = _ISSUER.fullmatch(url) if len(url) <= _MAX_ISSUER else None
        if parts is None or {".", ".."} & set(parts[1].split("/")):
            raise IssuerError(f"not an issuer (https, no query, plain path): {url[:300]!r}")
        return cls(url, parts[1])

    def configuration(self) -> dict[str, object]:
        """Return the discovery document (section 3)."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url.rstrip('/')}{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp"],
        }


def svid_jwks(keys: Iterable[VerificationKey]) -> dict[str, object]:
    """Return the JWK Set of the keys of JWT-SVIDs, for those who know OpenID Connect and not SPIFFE."""
    return {"keys": [{**key.jwk(), "use": "sig"} for key in keys]}
