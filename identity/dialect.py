"""How the token of some issuer says who acts for whom: its dialect, told by type and claims alone.

- A token has one dialect. The first entry of the table that fits speaks; the order is from what the header's
  type says, over `act`, to what has no sign of delegation.
- Nothing is verified here, and no dialect is trusted more than another: it says how to read, not to believe.
- Each dialect names where its claims are documented. A dialect that is not mapped says why not, and what
  its holder does instead.
- A client is no actor: `azp` or `client_id` beside a human alone is no delegation (ID-07).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from identity.actor_chain import parse_act
from identity.caller import MAX_DEPTH
from identity.dialect_actors import Actors, clients, inversion, is_workload_id, profiles, text_or_none
from identity.dialect_entra import is_entra, read_facets
from identity.errors import TokenError


class Dialect(StrEnum):
    """A way to say who acts for whom."""

    DEPUTY = "deputy"
    ACTOR_PROFILE = "actor-profile"
    RFC8693_ACT = "rfc8693-act"
    INVERTED_ACT = "inverted-act"
    ENTRA_AGENT = "entra-agent"
    ENTRA = "entra"
    MAY_ACT = "may-act"
    AUTONOMOUS_AGENT = "autonomous-agent"
    TRANSACTION_TOKEN = "transaction-token"  # noqa: S105 - the name of a form, no secret
    OLD_TXN_AGENTS = "old-txn-agents"
    ID_JAG = "id-jag"
    JWT_SVID = "jwt-svid"
    ID_TOKEN = "id-token"  # noqa: S105 - the name of a form, no secret
    AUTHORIZED_PARTY = "azp"
    ACCESS_TOKEN = "access-token"  # noqa: S105 - the name of a form, no secret
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why tokens of a dialect are never mapped, and what their holder does instead."""

    rule: str
    claim: str
    sentence: str


@dataclass(frozen=True, slots=True)
class About:
    """What a dialect is, where it is documented, and why it is refused if it always is."""

    title: str
    source: str
    refused: Refused | None = None


_RFC8693: Final = "RFC 8693 section 4.1"
_PROFILE: Final = "draft-mcguinness-oauth-actor-profile-00; auth0.com/docs/ai-agents-mcp/agents-as-principal"
ABOUT: Final[Mapping[Dialect, About]] = MappingProxyType(
    {
        Dialect.DEPUTY: About(
            "our own: the human in `sub`, each agent and its run in a nested `act`",
            "docs/reference/broker-api.md",
        ),
        Dialect.ACTOR_PROFILE: About(
            "OAuth Actor Profile: the human in `sub`, classified actors in a nested `act` (Auth0)", _PROFILE
        ),
        Dialect.RFC8693_ACT: About(
            "plain token exchange: the human in `sub`, actors in `act` without a classification (Keycloak's "
            "delegation, Airlock, IBM Verify)",
            _RFC8693,
        ),
        Dialect.INVERTED_ACT: About(
            "an inverted `act`: the agent in `sub`, whom it acts for in `act` (ZeroID)",
            "github.com/highflame-ai/zeroid docs/spec/zeroid-oauth-extensions.md section 4.4",
        ),
        Dialect.ENTRA_AGENT: About(
            "Microsoft Entra agent identity: the client is the agent, facets say so",
            "learn.microsoft.com/en-us/entra/agent-id/identity-platform/agent-token-claims",
        ),
        Dialect.ENTRA: About(
            "Microsoft Entra without an agent identity: on behalf of a user, or of an application",
            "learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference",
            Refused(
                "ID-07",
                "azp",
                "the client is not marked as an agent identity (no 11 in `xms_act_fct`), and a client is not "
                "an actor: give the agent an agent identity, or list the client at the agent and exchange",
            ),
        ),
        Dialect.MAY_ACT: About(
            "a permission: `may_act` names who may act for the subject; nobody acts yet",
            "RFC 8693 section 4.4",
            Refused(
                "TX-10",
                "may_act",
                "it permits somebody to act, and nobody does: the actor named there exchanges it, with its "
                "own login, for a token that has `act`",
            ),
        ),
        Dialect.AUTONOMOUS_AGENT: About(
            "an agent for nobody but itself: `sub` is the agent, there is no `act`", f"{_PROFILE} (ID-08)"
        ),
        Dialect.TRANSACTION_TOKEN: About(
            "a transaction token: one call inside a trust domain", "draft-ietf-oauth-transaction-tokens-10"
        ),
        Dialect.OLD_TXN_AGENTS: About(
            "an old draft of transaction tokens for agents: `actor` and `principal` beside `sub`",
            "draft-oauth-transaction-tokens-for-agents-05, replaced by draft-araut-…-02, which has `act`",
            Refused(
                "CL-02",
                "actor",
                "`actor` and `principal` are dropped from the draft, and nobody else reads them: update the "
                "issuer to the current draft, where the agent stands in `act` and the principal in `sub`",
            ),
        ),
        Dialect.ID_JAG: About(
            "an identity assertion grant (ID-JAG): to be redeemed at another authorization server",
            "draft-ietf-oauth-identity-assertion-authz-grant",
            Refused(
                "CL-05",
                "typ",
                "it is a grant, no access token: redeem it at the authorization server that `aud` names "
                "(urn:ietf:params:oauth:grant-type:jwt-bearer)",
            ),
        ),
        Dialect.JWT_SVID: About(
            "a JWT-SVID: which workload or agent's task is calling, never for whom",
            "SPIFFE JWT-SVID section 3",
            Refused(
                "ID-08",
                "sub",
                "it proves who is calling, not for whom: log in with it at the token endpoint, and see "
                "`deputy identity inspect` for its rules",
            ),
        ),
        Dialect.ID_TOKEN: About(
            "an ID token: that somebody signed in, for the client in `aud`",
            "OpenID Connect Core section 2",
            Refused(
                "ID-07",
                "aud",
                "it tells a client who signed in, and nobody acts: exchange it at the broker as the client's "
                "agent",
            ),
        ),
        Dialect.AUTHORIZED_PARTY: About(
            "the client stands in `azp` or `client_id`, without `act` (Keycloak's standard exchange, Google)",
            "keycloak.org/securing-apps/token-exchange; developers.google.com/identity/openid-connect",
            Refused(
                "ID-07",
                "azp",
                "a client beside a user is no delegation: list the client at the agent it belongs to and "
                "exchange the token at the broker, which then writes `act`",
            ),
        ),
        Dialect.ACCESS_TOKEN: About(
            "an access token without a sign of delegation",
            "RFC 9068",
            Refused(
                "ID-07", "act", "nobody acts in it: exchange it at the broker for a token that has `act`"
            ),
        ),
        Dialect.OTHER: About(
            "no token that says who is calling",
            "RFC 8725 section 3.11",
            Refused("JW-04", "typ", "its type and claims are of no token that stands for a caller"),
        ),
    }
)

_ACCESS_TYPES: Final = frozenset({"", "jwt", "jose", "at+jwt"})
_ID_TOKEN_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash"})


def detect(typ: str, unverified_claims: Mapping[str, object], actors: Actors) -> Dialect:
    """Return the dialect of a token; `typ` is the header's, in lower case, without `application/`."""
    claims = unverified_claims
    if typ == "oauth-id-jag+jwt":
        return Dialect.ID_JAG
    # The principal of the old draft may be missing, where the agent was autonomous.
    if "act" not in claims and isinstance(claims.get("actor"), Mapping):
        return Dialect.OLD_TXN_AGENTS
    if typ == "txntoken+jwt":
        return Dialect.TRANSACTION_TOKEN
    if typ not in _ACCESS_TYPES:
        return Dialect.OTHER
    if "act" in claims:
        return _of_act(claims, actors)
    return _without_act(typ, claims)


def is_ours(unverified_claims: Mapping[str, object]) -> bool:
    """Say whether `act` is written exactly as we write it."""
    try:
        parse_act(unverified_claims.get("act"), str(unverified_claims.get("iss")), MAX_DEPTH)
    except TokenError:
        return False
    return True


def _of_act(claims: Mapping[str, object], actors: Actors) -> Dialect:
    if is_ours(claims) and not is_workload_id(text_or_none(claims.get("sub"))):
        return Dialect.DEPUTY
    if inversion(claims, actors) is not None:
        return Dialect.INVERTED_ACT
    has_profile = any("sub_profile" in actor.unverified_members for actor in actors.shown)
    return Dialect.ACTOR_PROFILE if has_profile or "sub_profile" in claims else Dialect.RFC8693_ACT


def _without_act(typ: str, claims: Mapping[str, object]) -> Dialect:
    if "may_act" in claims:
        return Dialect.MAY_ACT
    if is_entra(claims):
        facets = read_facets(claims)
        return Dialect.ENTRA_AGENT if facets.is_agent or facets.is_malformed else Dialect.ENTRA
    subject = text_or_none(claims.get("sub"))
    if "ai_agent" in (profiles(claims) or ()):
        return Dialect.AUTONOMOUS_AGENT
    if is_workload_id(subject) and typ != "at+jwt":
        return Dialect.JWT_SVID
    # Keycloak writes the kind into a claim of the same name as the header's.
    if _ID_TOKEN_CLAIMS & claims.keys() or claims.get("typ") == "ID":
        return Dialect.ID_TOKEN
    if any(client != subject for client in clients(claims).values()):
        return Dialect.AUTHORIZED_PARTY
    return Dialect.ACCESS_TOKEN if subject is not None else Dialect.OTHER
