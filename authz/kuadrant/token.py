"""The signed header: a JWT that Kuadrant's broker verifies with the one public key that it was given.

- ES256, the one algorithm that the broker takes. The claim `allowed-capabilities` is JSON in a text, from the
  kind of a thing by server to names.
- The key is for this alone. The broker looks at nothing but signature and `exp`: with a key that signs other
  tokens, each of them would be one here, and it takes a PEM at its start, so that a key which is renewed each
  day would soon be unknown to it. `typ` says what it is to whoever looks.
- It is for the request that it travels with: it lives a minute. It names nobody.
- There is no `nbf`, and no `iat` that is ahead: a broker whose clock is behind would take everything out.
- A header has a bound: a list that does not fit is refused, for with a part of it things would be missing.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from authz.errors import PolicyShapeError
from authz.kuadrant.capabilities import Member
from identity.base64url import encode_base64url
from identity.keys import SigningKey

CLAIM: Final = "allowed-capabilities"
SECONDS: Final = 60
# Envoy takes 60 KiB of headers in all.
MAX_TOKEN: Final = 32 << 10

_TYP: Final = "mcp-authorized+jwt"


def sign_names(  # noqa: PLR0917 - what a token is made of
    names: Mapping[str, Sequence[str]],
    member: Member,
    key: SigningKey,
    issuer: str,
    audience: str,
    jti: str,
    now: datetime,
) -> str:
    """Sign the names of one kind, by server.

    Raises:
        PolicyShapeError: if they do not fit into a header.
    """
    seconds = int(now.timestamp())
    capabilities = {member: {server: sorted(of_server) for server, of_server in names.items()}}
    claims = {
        "iss": issuer,
        "aud": audience,
        "jti": jti,
        "iat": seconds,
        "exp": seconds + SECONDS,
        CLAIM: _dump(capabilities).decode(),
    }
    header = {"alg": "ES256", "typ": _TYP, "kid": key.kid}
    signing_input = f"{encode_base64url(_dump(header))}.{encode_base64url(_dump(claims))}"
    token = f"{signing_input}.{encode_base64url(key.sign(signing_input.encode('ascii')))}"
    if len(token) > MAX_TOKEN:
        raise PolicyShapeError(f"{member} of {len(token)} characters, at most {MAX_TOKEN} fit into a header")
    return token


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
