"""What there is of keys and federation, as the messages of AuthorityService say it.

- The same answer is made of a live authority and of the files that it leaves: one form for both.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from identity.federation import Relationship, SpiffeProfile
from identity.key_ring import ROLES, KeyLife, KeyRing, KeySlot, Role, Stage
from identity.pb import authority_pb2 as pb

ROLE_NUMBERS: Final[Mapping[Role, pb.Role]] = {
    "x509": pb.ROLE_X509,
    "jwt": pb.ROLE_JWT,
    "tokens": pb.ROLE_TOKENS,
    "wit": pb.ROLE_WIT,
}
ROLE_NAMES: Final[Mapping[int, Role]] = {number: role for role, number in ROLE_NUMBERS.items()}
STAGE_NUMBERS: Final[Mapping[Stage, pb.Stage]] = {
    Stage.PREPARED: pb.STAGE_PREPARED,
    Stage.ACTIVE: pb.STAGE_ACTIVE,
    Stage.RETIRED: pb.STAGE_RETIRED,
}
STAGE_NAMES: Final = {number: stage.value for stage, number in STAGE_NUMBERS.items()}


def status_message(
    *,
    trust_domain: str,
    sequence: int,
    rings: Mapping[Role, KeyRing],
    life: KeyLife,
    key_store: str,
    federation: Iterable[Relationship],
    now: datetime,
) -> pb.AuthorityStatus:
    """Say which keys there are, what comes next, and which trust domains are federated."""
    return pb.AuthorityStatus(
        trust_domain=trust_domain,
        sequence=sequence,
        key_store=key_store,
        at=_timestamp(now),
        roles=[_role(rings[role], life) for role in ROLES if role in rings],
        federation=[domain_message(relationship) for relationship in federation],
    )


def domain_message(relationship: Relationship) -> pb.FederatedDomain:
    """Say what is known of a federated trust domain."""
    bundle, profile = relationship.bundle, relationship.profile
    return pb.FederatedDomain(
        trust_domain=relationship.trust_domain.name,
        url=relationship.url,
        profile=profile_name(relationship),
        endpoint_spiffe_id=str(profile.endpoint_id) if isinstance(profile, SpiffeProfile) else "",
        roots=len(bundle.roots) if bundle else 0,
        jwt_keys=len(bundle.jwt_keys.keys) if bundle else 0,
        sequence=bundle.sequence if bundle else None,
        fetched_at=_timestamp(relationship.fetched_at),
        tried_at=_timestamp(relationship.tried_at),
        problem=relationship.problem,
    )


def profile_name(relationship: Relationship) -> str:
    """Return the name of a profile (SPIFFE Federation section 5.2)."""
    return "https_spiffe" if isinstance(relationship.profile, SpiffeProfile) else "https_web"


def _role(ring: KeyRing, life: KeyLife) -> pb.RoleStatus:
    step = ring.next_step(life)
    return pb.RoleStatus(
        role=ROLE_NUMBERS[ring.role],
        keys=[_key(slot) for slot in ring],
        next_step=step[0] if step else "",
        next_step_at=_timestamp(step[1]) if step else None,
    )


def _key(slot: KeySlot) -> pb.KeyStatus:
    return pb.KeyStatus(
        key_id=slot.kid,
        stage=STAGE_NUMBERS[slot.stage],
        published_at=_timestamp(slot.published_at),
        not_after=_timestamp(slot.not_after),
        tainted=slot.tainted,
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment)
    return made
