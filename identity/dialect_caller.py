"""What of our `Caller` a stranger's token alone can say, in whatever dialect it says it.

- The human is the subject, the presenter is `chain[0]`, and no hop is added, dropped or renamed.
- Nothing here is verified: a caller is called `unverified_caller` until a key set was given and the signature
  is right. Registry, binding and policy are still to be asked; this value opens no door.
- Refused is refused with one reason, the first error that was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from identity.caller import Human
from identity.claims import integer_claim, text_claim
from identity.dialect import Dialect, is_ours
from identity.dialect_act_findings import INSTANCE_MEMBERS, act_findings, is_autonomous_entra
from identity.dialect_actors import Actor, text_or_none
from identity.dialect_entra import entra_client
from identity.dialect_findings import Finding, Judged, error, read_audience, read_scopes, token_findings
from identity.errors import HumanError, SpiffeIdError, TokenError
from identity.spiffe import SpiffeId, agent_id, parse_agent_task


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who acts: a name in a namespace, and which instance of it; `iss` is None for a SPIFFE ID."""

    iss: str | None
    sub: str
    instance: str | None


@dataclass(frozen=True, slots=True)
class NormalisedCaller:
    """Who calls for whom, in our words; `human` is None where an agent acts for nobody."""

    dialect: Dialect
    human: Human | None
    chain: tuple[Party, ...]
    audience: str
    scopes: frozenset[str]
    expires_at: int

    @property
    def presenter(self) -> Party:
        """Who presents the token."""
        return self.chain[0]

    def row(self) -> dict[str, object]:
        """Return all of it, for machines."""
        human = self.human
        return {
            "human": None if human is None else {"issuer": human.issuer, "subject": human.subject},
            "presenter": _party_row(self.presenter),
            "chain": [_party_row(party) for party in self.chain],
            "audience": self.audience,
            "scopes": sorted(self.scopes),
            "expires_at": self.expires_at,
        }


def judge_token(judged: Judged) -> tuple[NormalisedCaller | None, tuple[Finding, ...]]:
    """Return what a token says, None if any finding is an error, and all findings."""
    findings = [*act_findings(judged), *token_findings(judged)]
    if any(finding.severity == "error" for finding in findings):
        return None, tuple(findings)
    try:
        return _caller(judged), tuple(findings)
    except (HumanError, TokenError) as problem:
        return None, (*findings, error("ID-01", "sub", f"no person that we accept: {problem}"))


def _caller(judged: Judged) -> NormalisedCaller:
    claims = judged.unverified_claims
    human, chain = _who(judged)
    scopes = read_scopes(claims) or frozenset()
    return NormalisedCaller(
        dialect=judged.dialect,
        human=human,
        chain=chain,
        audience=read_audience(claims),
        # Entra writes a slash where an agent has no delegated permission at all.
        scopes=scopes if human else scopes - {"/"},
        expires_at=integer_claim(claims, "exp"),
    )


def _who(judged: Judged) -> tuple[Human | None, tuple[Party, ...]]:
    claims = judged.unverified_claims
    issuer, subject = text_claim(claims, "iss"), text_claim(claims, "sub")
    if judged.dialect is Dialect.ENTRA_AGENT:
        agent = Party(issuer, entra_client(claims) or "", None)
        return None if is_autonomous_entra(claims) else _human(claims, issuer, subject), (agent,)
    if not judged.actors.shown:
        return None, (_autonomous(issuer, subject),)
    chain = tuple(_party(actor) for actor in judged.actors.shown)
    return _human(claims, issuer, subject, is_uri=is_ours(claims)), chain


def _human(claims: Mapping[str, object], issuer: str, subject: str, *, is_uri: bool = False) -> Human:
    # A person is `issuer#subject` where the actors are written as we write them.
    # Groups are left out: those of another issuer are not those that our grants name.
    acr, auth_time = claims.get("acr"), claims.get("auth_time")
    context = acr if isinstance(acr, str) else None
    signed_in = auth_time if type(auth_time) is int and auth_time >= 0 else None
    if is_uri:
        return Human.parse_uri(subject, acr=context, auth_time=signed_in)
    return Human.parse(issuer, subject, acr=context, auth_time=signed_in)


def _party(actor: Actor) -> Party:
    found = (text_or_none(actor.unverified_members.get(name)) for name in INSTANCE_MEMBERS)
    return Party(actor.unverified_iss, actor.unverified_sub or "", next((one for one in found if one), None))


def _autonomous(issuer: str, subject: str) -> Party:
    """Return an agent that acts for nobody; the ID of a task of ours is taken apart into agent and run."""
    try:
        spiffe_id = SpiffeId.parse(subject)
    except SpiffeIdError:
        return Party(issuer, subject, None)
    task = parse_agent_task(spiffe_id)
    if task is None:
        return Party(issuer, subject, None)
    return Party(issuer, str(agent_id(spiffe_id.trust_domain, task[0])), task[1])


def _party_row(party: Party) -> dict[str, object]:
    return {"iss": party.iss, "sub": party.sub, "instance": party.instance}
