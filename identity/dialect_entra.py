"""Microsoft Entra: who acts for whom in its access tokens, which have no `act`.

- Facets are numbers in a text, in any order, with meanings of Microsoft's own beside ours: `11` in
  `xms_act_fct` means that the client (`azp`, in version 1 `appid`) is an agent identity; in `xms_sub_fct`
  that the subject is one; `13` there that the subject is an agent's user account, which is no person.
- Other facets say nothing here: the token of any managed identity has `xms_act_fct` too, with 3 and 9.
- `xms_par_app_azp` is the blueprint that the agent was made from: for the record, never to decide by.

Source: learn.microsoft.com/en-us/entra/agent-id/identity-platform/agent-token-claims and …/agent-tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity.dialect_actors import text_or_none

AGENT_IDENTITY: Final = 11
AGENT_USER: Final = 13
FACET_CLAIMS: Final = ("xms_act_fct", "xms_sub_fct", "xms_par_app_azp")

_FACETS: Final = re.compile(r"[0-9]{1,5}(?: [0-9]{1,5}){0,31}")
_AGENT_FACETS: Final = frozenset({AGENT_IDENTITY, AGENT_USER})


@dataclass(frozen=True, slots=True)
class Facets:
    """What Entra says of client and subject; None where a claim is there and cannot be read."""

    actor: frozenset[int] | None
    subject: frozenset[int] | None
    idtyp: str | None

    @property
    def is_malformed(self) -> bool:
        """Say whether a facet claim cannot be read, so that nobody may guess what it says."""
        return self.actor is None or self.subject is None

    @property
    def is_agent(self) -> bool:
        """Say whether an agent has any part in the token."""
        return bool(((self.actor or frozenset()) | (self.subject or frozenset())) & _AGENT_FACETS)


def read_facets(unverified_claims: Mapping[str, object]) -> Facets:
    """Read the facets of a token."""
    return Facets(
        _facets(unverified_claims, "xms_act_fct"),
        _facets(unverified_claims, "xms_sub_fct"),
        text_or_none(unverified_claims.get("idtyp")),
    )


def is_entra(unverified_claims: Mapping[str, object]) -> bool:
    """Say whether the claims are those of an access token of Entra."""
    if any(name in unverified_claims for name in FACET_CLAIMS):
        return True
    has = unverified_claims.keys()
    return "tid" in has and bool({"oid", "ver", "idtyp"} & has) and bool({"azp", "appid"} & has)


def is_of_tenant(unverified_claims: Mapping[str, object]) -> bool:
    """Say whether the issuer is that of the tenant in `tid`, as it is in each token of Entra."""
    issuer, tenant = unverified_claims.get("iss"), unverified_claims.get("tid")
    return isinstance(issuer, str) and isinstance(tenant, str) and tenant in issuer.split("/")[3:4]


def entra_client(unverified_claims: Mapping[str, object]) -> str | None:
    """Return the application that the token was issued to: `azp` in version 2, `appid` in version 1."""
    return text_or_none(unverified_claims.get("azp")) or text_or_none(unverified_claims.get("appid"))


def _facets(unverified_claims: Mapping[str, object], name: str) -> frozenset[int] | None:
    if name not in unverified_claims:
        return frozenset()
    value = unverified_claims[name]
    if not isinstance(value, str) or not _FACETS.fullmatch(value):
        return None
    return frozenset(int(facet) for facet in value.split(" "))
