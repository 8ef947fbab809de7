"""What is wrong with who acts for whom: each rule of `act`, `sub` and the client (token-exchange.md, 2.3).

- The human is the top-level subject; the outermost `act` presents, the innermost was first (ID-01).
- An actor is the pair of namespace and name (ID-03). Only a SPIFFE ID names its namespace itself.
- No actor counts for what it does not say: without `sub_profile` it is unclassified (ID-07).
- Ten thousand actors cost one walk: only the first are judged, the depth of all is (ID-04).
"""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby, pairwise
from typing import Final

from identity.caller import DEFAULT_DEPTH, MAX_DEPTH
from identity.dialect import ABOUT, Dialect, is_ours
from identity.dialect_actors import (
    AGENT_PROFILES,
    KNOWN_PROFILES,
    Actor,
    clients,
    inversion,
    is_agent_subject,
    is_workload_id,
    kind_of,
    names_its_namespace,
    profiles,
    text_or_none,
)
from identity.dialect_entra import AGENT_IDENTITY, AGENT_USER, entra_client, is_of_tenant, read_facets
from identity.dialect_findings import Finding, Judged, error, scope_findings, warning
from identity.inspection import shown

# `agent_instance` is our own; `agent_instance_id` that of draft-mcguinness-oauth-ai-agent-instance-00.
INSTANCE_MEMBERS: Final = ("agent_instance", "agent_instance_id")

_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")
_ACTOR_MEMBERS: Final = frozenset({"iss", "sub", "sub_profile", "act", "client_id", *INSTANCE_MEMBERS})
_ACTING: Final = frozenset(
    {Dialect.DEPUTY, Dialect.ACTOR_PROFILE, Dialect.RFC8693_ACT, Dialect.TRANSACTION_TOKEN}
)


def act_findings(judged: Judged) -> Iterator[Finding]:
    """Judge who acts for whom, by the rules of the token's dialect."""
    refused = ABOUT[judged.dialect].refused
    if refused is not None:
        yield error(refused.rule, refused.claim, refused.sentence)
    if judged.dialect is Dialect.INVERTED_ACT:
        # Nothing else of `act`: it would be read from the wrong side.
        yield _inverted(judged)
        return
    yield from _depth(judged)
    for actor in judged.actors.shown:
        yield from _actor(judged, actor)
    yield from _cycles(judged)
    yield from _beside(judged)
    match judged.dialect:
        case Dialect.ENTRA_AGENT:
            yield from _entra(judged.unverified_claims)
        case Dialect.AUTONOMOUS_AGENT:
            yield from _autonomous(judged.unverified_claims)
        case dialect if dialect in _ACTING and "act" in judged.unverified_claims:
            yield from _acting(judged)
        case Dialect.TRANSACTION_TOKEN:
            yield from _transaction(judged.unverified_claims)


def _depth(judged: Judged) -> Iterator[Finding]:
    actors = judged.actors
    if actors.broken_at is not None:
        yield error("ID-03", actors.broken_at, "an `act` that is not an object names nobody")
    if actors.depth > MAX_DEPTH:
        yield error(
            "ID-04",
            "act",
            f"{actors.depth} actors, more than {MAX_DEPTH}: nobody of ours reads so deep a chain",
        )
    elif actors.depth > DEFAULT_DEPTH:
        yield warning("ID-04", "act", f"{actors.depth} actors: others need to read {DEFAULT_DEPTH} only")


def _beside(judged: Judged) -> Iterator[Finding]:
    claims = judged.unverified_claims
    if "authorization_details" in claims:
        yield warning("NR-04", "authorization_details", "limits beyond the scopes, which are not shown here")
    if "may_act" in claims and judged.actors.depth:
        yield warning(
            "TX-08", "may_act", "`may_act` beside `act`: it permits the next exchange, and acts nowhere"
        )
    if claims.get("chain_complete") is False:
        yield warning("ID-06", "chain_complete", "the issuer left actors out: never decide by the inner ones")


def _actor(judged: Judged, actor: Actor) -> Iterator[Finding]:
    members = actor.unverified_members
    name, namespace = members.get("sub"), members.get("iss")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield error(
            "ID-03", f"{actor.path}.sub", "an actor without a name of at most 255 printable characters"
        )
    if "iss" in members and (not isinstance(namespace, str) or not _NAME.fullmatch(namespace)):
        yield error("ID-03", f"{actor.path}.iss", "a namespace that is not at most 255 printable characters")
    elif "iss" not in members:
        is_global = judged.dialect is not Dialect.ACTOR_PROFILE and names_its_namespace(actor.unverified_sub)
        make = warning if is_global else error
        yield make(
            "ID-03",
            f"{actor.path}.iss",
            "no `act.iss`, so the name could be anybody's: the issuer says in which namespace it is; it is "
            "never guessed",
        )
    yield from _profile(actor)
    yield from _members(actor)


def _profile(actor: Actor) -> Iterator[Finding]:
    members, said = actor.unverified_members, profiles(actor.unverified_members)
    claim = f"{actor.path}.sub_profile"
    if "sub_profile" in members and said is None:
        yield error("ID-07", claim, "`sub_profile` is not text")
    elif said is None or not said & KNOWN_PROFILES:
        yield warning(
            "ID-07", claim, "the actor is not classified, so the most restrictive rule counts: say `ai_agent`"
        )
    elif not said & (AGENT_PROFILES | {"user"}):
        yield warning(
            "ID-07", claim, "no agent, but an application that people use: it counts as a hop of the chain"
        )
    if actor.kind == "human":
        yield error(
            "ID-01",
            actor.path,
            "the actor is, or is named as, a person: an agent acts for a person, never the other way; say "
            "`ai_agent` if it is one",
        )
    elif said is not None and "user" in said:
        yield error("ID-07", claim, "an actor that is a user and something else: it can be one of them only")


def _members(actor: Actor) -> Iterator[Finding]:
    members = actor.unverified_members
    if "client_profile" in members:
        yield warning(
            "ID-07",
            f"{actor.path}.client_profile",
            "`client_profile` in an actor is ignored: it speaks of the token's client",
        )
    if "cnf" in members:
        yield warning(
            "CL-08",
            f"{actor.path}.cnf",
            "a `cnf` in an actor proves nothing: only the top-level one is of the presenter",
        )
    for name in INSTANCE_MEMBERS:
        if name in members and not (isinstance(value := members[name], str) and _NAME.fullmatch(value)):
            yield error(
                "ID-02", f"{actor.path}.{name}", "an instance that is not at most 255 printable characters"
            )
    unknown = sorted(members.keys() - _ACTOR_MEMBERS - {"client_profile", "cnf"})
    if unknown:
        yield warning(
            "RFC 8693 4.1",
            actor.path,
            f"members that say nothing of who the actor is are ignored: {', '.join(unknown)[:128]!r}",
        )


def _cycles(judged: Judged) -> Iterator[Finding]:
    named = [(a.unverified_iss, a.unverified_sub) for a in judged.actors.shown if a.unverified_sub]
    visits = [one for one, _ in groupby(named)]
    if len(set(visits)) != len(visits):
        yield error("ID-05", "act", "an actor comes back after another one: the chain runs in a circle")
    runs = [
        (
            a.unverified_iss,
            a.unverified_sub,
            *(str(a.unverified_members.get(name)) for name in INSTANCE_MEMBERS),
        )
        for a in judged.actors.shown
    ]
    if any(one == next_ for one, next_ in pairwise(runs)):
        yield warning(
            "ID-05",
            "act",
            "the same actor stands twice in a row: it counts once for its rights, twice for the depth",
        )
    subject = text_or_none(judged.unverified_claims.get("sub"))
    issuer = text_or_none(judged.unverified_claims.get("iss"))
    if any(name == subject and namespace in {issuer, None} for namespace, name in named):
        yield error("ID-05", "act", "the subject acts for itself: leave `act` out, or name who really acts")


def _acting(judged: Judged) -> Iterator[Finding]:
    claims, outer = judged.unverified_claims, judged.actors.shown[0] if judged.actors.shown else None
    is_own = is_ours(claims)
    if not is_own and is_agent_subject(claims):
        yield error(
            "ID-08",
            "sub",
            "an agent acts for an agent, and for no human: the subject of a chain is the human; an agent "
            "that acts for nobody has no `act`",
        )
    elif not is_own and kind_of(claims) != "human":
        yield warning(
            "ID-07",
            "sub_profile",
            "the subject is not classified: say `user`, or nobody can tell a person from a service",
        )
    if any(facet == AGENT_IDENTITY for facet in read_facets(claims).actor or ()):
        yield error(
            "ID-09", "xms_act_fct", "two dialects in one token: `act` and Entra's facets each name an actor"
        )
    if outer is not None:
        yield from _reconciled(claims, outer, is_own=is_own)
    yield from scope_findings(claims)


def _reconciled(claims: Mapping[str, object], outer: Actor, *, is_own: bool) -> Iterator[Finding]:
    said = clients(claims)
    if len(set(said.values())) > 1:
        yield error(
            "ID-09", "client_id", f"{' and '.join(said)} name different clients: there is one presenter"
        )
        return
    client = next(iter(said.values()), None)
    own = (outer.unverified_sub or "").rpartition("/")[2] if is_own else outer.unverified_sub
    inner = text_or_none(outer.unverified_members.get("client_id"))
    if client is not None and inner is not None and client != inner:
        yield error("ID-09", "act.client_id", "the presenter's client is another than the token's")
    elif client is not None and client not in {own, inner}:
        yield warning(
            "ID-09",
            "client_id",
            f"the client {shown(client)[:64]!r} is not the outermost actor: register it as a client of that "
            "agent, or they cannot be reconciled",
        )


def _inverted(judged: Judged) -> Finding:
    evidence = inversion(judged.unverified_claims, judged.actors)
    return error(
        "ID-01",
        "act",
        f"`sub` and `act` have changed places: {evidence}. Read as it stands, the agent would have the "
        "rights of its principal for its own. Issue it with the human in `sub` and the agent in `act`",
    )


def _entra(claims: Mapping[str, object]) -> Iterator[Finding]:
    facets, autonomous = read_facets(claims), is_autonomous_entra(claims)
    if facets.is_malformed:
        yield error(
            "ID-07", "xms_act_fct", "facets that are not numbers with spaces between: nobody may guess them"
        )
    elif AGENT_USER in (facets.subject or ()) or AGENT_USER in (facets.actor or ()):
        yield error(
            "ID-01", "xms_sub_fct", "an agent's user account (13): it looks like a person, and is none"
        )
    elif AGENT_IDENTITY not in (facets.actor or ()):
        yield error("ID-07", "xms_act_fct", "the subject is an agent, but not the client that acts (no 11)")
    elif not autonomous and (AGENT_IDENTITY in (facets.subject or ()) or facets.idtyp != "user"):
        yield error(
            "ID-07",
            "idtyp",
            "`idtyp` and `xms_sub_fct` do not agree on a person (`user`) or an agent (`app` and 11): add "
            "`idtyp` to the optional claims",
        )
    if (client := entra_client(claims)) is None or not _NAME.fullmatch(client):
        yield error("ID-09", "azp", "no `azp` or `appid`: it does not say which agent acts")
    elif len(set(clients(claims).values())) > 1:
        yield error("ID-09", "azp", "`azp` and `appid` name different clients: there is one presenter")
    if not is_of_tenant(claims):
        yield error("CL-01", "tid", "the issuer is not that of the tenant `tid`: it is not Entra's own token")
    if "xms_par_app_azp" in claims:
        yield Finding(
            "ID-02",
            "note",
            "xms_par_app_azp",
            "the blueprint is for the record; deciding by it lets in each of its agents",
        )
    if autonomous:
        yield Finding("ID-08", "note", "roles", "roles are no scopes: an autonomous agent has none here")
    else:
        yield from scope_findings(claims)
        yield Finding(
            "ID-01",
            "note",
            "sub",
            "`sub` is another for each application; `oid` is the same for all of the tenant",
        )


def is_autonomous_entra(unverified_claims: Mapping[str, object]) -> bool:
    """Say whether Entra's token is of an agent for nobody: an application, and an agent as the subject."""
    facets = read_facets(unverified_claims)
    return facets.idtyp in {"app", None} and AGENT_IDENTITY in (facets.subject or ())


def _autonomous(claims: Mapping[str, object]) -> Iterator[Finding]:
    if "user" in (profiles(claims) or ()):
        yield error(
            "ID-07", "sub_profile", "a subject that is a user and an agent: it can be one of them only"
        )
    yield from scope_findings(claims)


def _transaction(claims: Mapping[str, object]) -> Iterator[Finding]:
    said = profiles(claims)
    if not is_workload_id(text_or_none(claims.get("sub"))) and not (said and said & AGENT_PROFILES):
        yield error(
            "ID-08", "act", "no agent acts, and the subject is none: it says nothing about an agent's call"
        )
    yield from scope_findings(claims) if claims.get("scope") != "" else ()
