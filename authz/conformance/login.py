"""How a client logs in at the server that is examined; what of it is sent, and what TLS shows.

- A secret and an assertion are in no `repr`.
- A certificate logs in by the connection: `certificate` names which one, and nothing of it is sent here.
"""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never
from urllib.parse import quote_plus

Fields = tuple[tuple[str, str], ...]
# Whose certificate the connection shows: the client's, the second client's, or one that nobody vouches for.
Certificate = Literal["own", "other", "stranger"]

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"


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


Login = SecretLogin | AssertionLogin | CertificateLogin


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
        case CertificateLogin(client_id=client_id):
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
