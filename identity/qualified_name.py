"""Names under which agents are registered: ours by their label, others' by their trust domain and label.

- `triage` is an agent of our own trust domain, `other.example/triage` one of `other.example`. A label has no
  slash, so neither form is ever read as the other, and no trust domain can name an agent of another one.
- Our own trust domain is never written out: an agent has one name.
- A name is short enough for the SPIFFE ID of a task (255 bytes).
- It is the verified ID that says whose agent it is; the task's ULID is unique within its trust domain only.
"""

from typing import Final

from identity.caller import Hop
from identity.errors import AgentNameError, SpiffeIdError
from identity.names import parse_agent_name
from identity.spiffe import MAX_ID_BYTES, SpiffeId, TrustDomain, agent_task_id, parse_agent_task

_ANY_TASK: Final = "0" * 26
# spiffe://<trust domain>/agent/<label>/task/<ULID> in 255 bytes leaves this for `<trust domain>/<label>`.
MAX_NAME: Final = MAX_ID_BYTES - len("spiffe://") - len("agent/") - len("/task/") - len(_ANY_TASK)


def parse_registered_name(text: str) -> str:
    """Read the name of an agent of ours, or of an agent of another trust domain.

    Raises:
        AgentNameError: if it is neither.
    """
    domain, slash, label = text.rpartition("/")
    if not slash:
        return parse_agent_name(text)
    try:
        agent_task_id(TrustDomain.parse(domain), label, _ANY_TASK)
    except SpiffeIdError as error:
        raise AgentNameError(f"not an agent of another trust domain (domain/name): {error}") from error
    return text


def domain_of(name: str) -> TrustDomain | None:
    """Return the trust domain that a registered name says, None if the agent is ours."""
    domain, slash, _ = name.rpartition("/")
    return TrustDomain(domain) if slash else None


def hop_of(spiffe_id: SpiffeId, own: TrustDomain) -> Hop | None:
    """Return agent and run of a task's ID, the agent as it would be registered here."""
    named = parse_agent_task(spiffe_id)
    if named is None:
        return None
    label, task = named
    is_ours = spiffe_id.trust_domain == own
    return Hop(label if is_ours else f"{spiffe_id.trust_domain.name}/{label}", task)


def task_id_of(hop: Hop, own: TrustDomain) -> SpiffeId:
    """Return the ID of a run, in the trust domain that the agent's name says.

    Raises:
        AgentNameError: if the label or the task's ULID is not canonical.
        SpiffeIdError: if the trust domain is not canonical, or the ID would be longer than 255 bytes.
    """
    domain, slash, label = hop.agent.rpartition("/")
    return agent_task_id(TrustDomain.parse(domain) if slash else own, label, hop.task)
