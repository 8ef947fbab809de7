"""How a client logs in at the server that is examined; what of it is sent, and what TLS shows.

- A secret and an assertion are in no `repr`.
- A certificate logs in by the connection: `certificate` names which one, and nothing of it is sent here.
- Where a server counts each assertion once, `SignedLogin` makes one for each request, when that is sent.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never
from urllib.parse import quote_plus

from authz.conformance.proof import Moment, nothing_else
from authz.conformance.signer import Signer
from authz.conformance.token import json_of
from identity.base64url import encode_base64url

Fields = tuple[tuple[str, str], ...]
# Whose certificate the connection shows: the client's, the second client's, that of a service which passes
# calls on, or a forgery: `stranger` signed itself, `issued` was signed with the client's own key.
Certificate = Literal["own", "other", "service", "stranger", "issued"]

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
_LIFETIME: Final = 60  # seconds of an assertion


@dataclass(frozen=True, slots=True)
class SecretLogin:
    """A client with a secret (RFC 6749 section 2.3.1)."""

    client_id: str
    secret: str = field(repr=False)
    method: Literal["basic", "post"] = "basic"


@dataclass(frozen=True, slots=True)
class AssertionLogin:
    """A client with a signed assertion (RFC 7521 section 4.2), such as a JWT-SVID."""

    assertion: str = field(repr=False)
    assertion_type: str | None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateLogin:
    """A client with a certificate (RFC 8705); `thumbprint` is its SHA-256 in base64url."""

    certificate: Certificate
    thumbprint: str
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignedLogin:
    """A client that signs an assertion for each request (`private_key_jwt`, RFC 7523).

    `changes` are claims that differ from the good ones; one whose value is None is left out. A number for
    `exp` or `nbf` is in seconds from now. Assertions of one `once` are one text.
    """

    client_id: str
    signer: Signer = field(repr=False)
    audience: str
    kid: str | None = None
    changes: Mapping[str, object] = field(default_factory=nothing_else)
    once: str = ""

    def at(self, moment: Moment) -> AssertionLogin:
        """Return the login of a request that is sent at this moment."""
        header = {"typ": "JWT", "alg": self.signer.algorithm, "kid": self.kid}
        claims: dict[str, object] = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.audience,
            "iat": moment.now,
            "exp": _LIFETIME,
            "jti": moment.name,
            **self.changes,
        }
        for name in ("exp", "nbf"):
            seconds = claims.get(name)
            claims[name] = moment.now + seconds if isinstance(seconds, int) else seconds
        unsigned = f"{_part(header)}.{_part(claims)}"
        signature = encode_base64url(self.signer.sign(unsigned.encode("ascii")))
        return AssertionLogin(f"{unsigned}.{signature}", JWT_BEARER, self.client_id)


Login = SecretLogin | AssertionLogin | CertificateLogin | SignedLogin


def _part(members: Mapping[str, object]) -> str:
    return encode_base64url(json_of({name: value for name, value in members.items() if value is not None}))


def login_fields(login: Login | None) -> Fields:
    """Return what a login adds to the form."""
    match login:
        case None | SecretLogin(method="basic"):
            return ()
        case SecretLogin(client_id, secret):
            return (("client_id", client_id), ("client_secret", secret))
        case AssertionLogin(assertion, kind, client_id):
            named = (("client_assertion_type", kind), ("client_id", client_id))
            return (("client_assertion", assertion), *((name, value) for name, value in named if value))
        case CertificateLogin(client_id=client_id) | SignedLogin(client_id=client_id):
            # The assertion of the latter is there from when the request is sent.
            return (("client_id", client_id),) if client_id else ()
        case _:
            assert_never(login)


def login_headers(login: Login | None) -> Fields:
    """Return what a login adds to the headers."""
    match login:
        case SecretLogin(client_id, secret, "basic"):
            return (("Authorization", basic(client_id, secret)),)
        case _:
            return ()


def basic(client_id: str, secret: str) -> str:
    """Return the value of the header; both parts are encoded as in a form first."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"
