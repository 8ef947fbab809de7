"""Identity assertions for another domain's authorization server: ID-JAG.

- Claims and type are those of draft-ietf-oauth-identity-assertion-authz-grant (April 2026): `aud` is one
  issuer, `client_id` the name by which that server knows the agent (CL-05).
- `act` names the agents that stand behind it, as in a delegation token.
- It is no access token: its type keeps it from being read as one, here and there.
- What is limited to some tools stays so: the limits go with it (RFC 9396).
- It lives for minutes, is for one use, and never outlives what stands behind it (CL-07).
"""

from dataclasses import dataclass
from typing import Final

from identity.actor_chain import encode_act
from identity.authorization_details import Details, details_json
from identity.caller import Hop, Human
from identity.jws import sign
from identity.keys import SigningKey
from identity.scopes import format_scopes
from identity.spiffe import TrustDomain

ID_JAG_TYP: Final = "oauth-id-jag+jwt"


@dataclass(frozen=True, slots=True)
class IdentityAssertion:
    """What an ID-JAG says; times are in seconds since 1970."""

    issuer: str
    trust_domain: TrustDomain
    human: Human
    audience: str
    client_id: str
    scopes: frozenset[str]
    chain: tuple[Hop, ...]
    txn: str
    jti: str
    issued_at: int
    expires_at: int
    details: Details | None = None

    def to_claims(self) -> dict[str, object]:
        """Return the claims of the token; the person is named as their own provider names them."""
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": self.human.uri,
            "aud": self.audience,
            "client_id": self.client_id,
            "scope": format_scopes(self.scopes),
            "jti": self.jti,
            "txn": self.txn,
            "iat": self.issued_at,
            "exp": self.expires_at,
            "act": encode_act(self.chain, self.issuer, self.trust_domain),
        }
        optional = {
            "auth_time": self.human.auth_time,
            "acr": self.human.acr,
            "amr": list(self.human.amr),
            "authorization_details": details_json(self.details) if self.details is not None else None,
        }
        return claims | {name: value for name, value in optional.items() if value not in (None, [])}


def issue_id_jag(key: SigningKey, assertion: IdentityAssertion) -> str:
    """Sign an identity assertion.

    Raises:
        TokenMalformedError: if the token would be longer than we accept ourselves.
    """
    return sign(key, ID_JAG_TYP, assertion.to_claims())
