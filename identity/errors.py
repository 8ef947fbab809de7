"""All errors of this package.

IdentityError
├── AgentNameError           an agent name, a ULID
├── SpiffeIdError         not a SPIFFE ID that we accept
├── CertificateError      an X.509-SVID, a CSR, a chain
├── KeyMaterialError      a key, a key set, a key file
├── HumanError            not a human that we accept
├── AttestationError      who is at the other end of a socket cannot be said for sure
├── SocketError           a Unix socket that others could reach or replace, or that is in use
├── NotEntitledError      whoever it is, this identity or audience is not theirs
├── IssuanceUnavailableError  nothing can be issued now, though it may be later
├── AuthorityStateError   a change of keys that their state does not allow
├── FederationError       another trust domain's bundle: its endpoint, or what it said
├── ConsentError          not a grant of a person that we accept
├── WithdrawalError       not a withdrawal that we accept
├── TokenError            a JWT; one child a reason, so that a caller can tell them apart
│   ├── TokenMalformedError
│   ├── TokenTypeError
│   ├── TokenAlgorithmError
│   ├── TokenKeyError
│   ├── TokenSignatureError
│   ├── TokenExpiredError
│   ├── TokenNotYetValidError
│   ├── TokenIssuerError
│   ├── TokenAudienceError
│   ├── TokenClaimsError
│   └── ChainError        the delegation chain is too deep, or visits an agent twice
├── DpopError             a proof of possession (RFC 9449); `reason` says which rule spoke
└── ExchangeError         RFC 8693 section 2.2.2: the OAuth error and its description

- A message never holds a token, a key or another secret.
"""

from typing import Literal

DpopReason = Literal[
    "malformed",
    "type",
    "algorithm",
    "key",
    "signature",
    "method",
    "uri",
    "expired",
    "future",
    "jti",
    "token",
    "nonce",
    "binding",
]


class IdentityError(Exception):
    """Base of every error of this package."""


class AgentNameError(IdentityError):
    """Not an agent name or a ULID that we accept."""


class SpiffeIdError(IdentityError):
    """Not a SPIFFE ID or trust domain that we accept (SPIFFE-ID section 2)."""


class CertificateError(IdentityError):
    """An X.509-SVID, certificate request or chain that we do not accept."""


class KeyMaterialError(IdentityError):
    """A key, key set or key file that we do not accept."""


class HumanError(IdentityError):
    """Not a description of a person that we accept."""


class AttestationError(IdentityError):
    """Who is at the other end cannot be said for sure, so nothing is issued."""


class SocketError(IdentityError):
    """A Unix socket that cannot be had, or that the wrong users could reach or replace."""


class NotEntitledError(IdentityError):
    """An identity or an audience that is not this caller's (SPIFFE Workload API: PermissionDenied)."""


class IssuanceUnavailableError(IdentityError):
    """Nothing can be issued now: no valid key, no record, a clock out of order (Unavailable)."""


class AuthorityStateError(IdentityError):
    """A change of keys that their state does not allow: the message says which step comes first."""


class FederationError(IdentityError):
    """A federated trust domain's endpoint, or the bundle that it served."""


class ConsentError(IdentityError):
    """A person's grant that is malformed, or that does not hold what is asked for."""


class WithdrawalError(IdentityError):
    """A withdrawal that names nothing that can be withdrawn, or has no reason."""


class TokenError(IdentityError):
    """A token that we do not accept."""


class TokenMalformedError(TokenError):
    """Not a compact JWS that we understand in full (RFC 7515 section 7.1)."""


class TokenTypeError(TokenError):
    """Another kind of token than the one that is asked for (RFC 8725 section 3.11)."""


class TokenAlgorithmError(TokenError):
    """An algorithm that is not on our list, or that does not fit the key (RFC 8725 section 3.1)."""


class TokenKeyError(TokenError):
    """No key of the one who should have signed has this `kid`."""


class TokenSignatureError(TokenError):
    """The signature is not one of the key's."""


class TokenExpiredError(TokenError):
    """`exp` has passed (RFC 7519 section 4.1.4)."""


class TokenNotYetValidError(TokenError):
    """`nbf` or `iat` is still to come (RFC 7519 sections 4.1.5 and 4.1.6)."""


class TokenIssuerError(TokenError):
    """Issued by another than the one that is asked for."""


class TokenAudienceError(TokenError):
    """Meant for another audience (RFC 7519 section 4.1.3)."""


class TokenClaimsError(TokenError):
    """A claim is missing, of the wrong type, or at odds with another."""


class ChainError(TokenError):
    """The delegation chain is too deep, or an agent comes back in it."""

    def __init__(self, reason: Literal["depth", "cycle"], message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason = reason


class DpopError(IdentityError):
    """A DPoP proof that we do not accept (RFC 9449 sections 4.3, 7.1 and 8).

    No child of TokenError: a token may be right where its proof is not.
    """

    def __init__(self, reason: DpopReason, message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason: DpopReason = reason

    @property
    def error(self) -> str:
        """The OAuth error: whoever lacks a nonce is given one (section 8)."""
        return "use_dpop_nonce" if self.reason == "nonce" else "invalid_dpop_proof"


class ExchangeError(IdentityError):
    """A token exchange that is refused (RFC 8693 section 2.2.2, RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str) -> None:
        """Keep the OAuth error code beside the description."""
        super().__init__(description)
        self.error = error
        self.description = description
