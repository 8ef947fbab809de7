"""What the checklists, and the issue of tokens, say of where nobody configures anything else."""

from datetime import timedelta

from authz.config_identity import IdentityConfig
from authz.config_sections import AgentConfig, LimitsConfig
from authz.config_service import ServiceConfig
from authz.protocols.route import Route
from authz.services import Service
from identity.authority import Authority
from identity.bundle import REFRESH_HINT
from identity.caller import DEFAULT_DEPTH
from identity.certificate_authority import BACKDATE, load_certificate
from identity.federation import DEFAULT_INTERVAL
from identity.jws import UnverifiedToken
from identity.key_ring import KeyLife, KeyRing, KeySlot, Stage
from identity.keys import SigningKey
from identity.live_authority import AuthoritySettings
from identity.spiffe import MAX_ID_BYTES, SpiffeId
from identity.svid_source import SvidSettings
from tests.identity_world import NOW, TD

WORKLOAD = SpiffeId(TD, "/ns/a/sa/b")
DAY, LEAD = timedelta(days=1), timedelta(seconds=180)


def test_a_key_lives_for_a_day_and_is_published_for_three_hints() -> None:
    """B-5: a new key is published for at least three times the hint before it signs."""
    identity = IdentityConfig()
    assert (timedelta(seconds=identity.key_seconds), timedelta(seconds=identity.publish_seconds)) == (
        DAY,
        LEAD,
    )
    assert KeyLife() == KeyLife(DAY, LEAD)
    assert identity.refresh_hint_seconds == REFRESH_HINT == 60
    assert identity.publish_seconds >= 3 * identity.refresh_hint_seconds
    assert timedelta(minutes=5) == DEFAULT_INTERVAL  # of a federated bundle that has no hint


def test_the_next_key_is_prepared_at_a_half_and_signs_at_a_sixth() -> None:
    slot = KeySlot("jwt", Stage.ACTIVE, SigningKey.generate().public, NOW, NOW + DAY)
    ring = KeyRing("jwt", (slot,))
    assert ring.next_step(KeyLife()) == ("prepare", NOW + DAY / 2)
    following = KeySlot("jwt", Stage.PREPARED, SigningKey.generate().public, NOW + DAY / 2, NOW + DAY * 3 / 2)
    assert ring.with_prepared(following).next_step(KeyLife()) == ("activate", NOW + DAY * 5 / 6)


def test_svids_and_tokens_live_for_minutes() -> None:
    limits = LimitsConfig()
    assert (limits.x509_svid_seconds, limits.jwt_svid_seconds) == (600, 60)
    assert (limits.transaction_token_seconds, limits.clock_leeway_seconds) == (60, 30)
    settings = SvidSettings()
    assert (settings.x509_ttl, settings.wit_ttl, settings.jwt_ttl) == (600, 600, 60)


def test_wit_svids_are_off_where_nobody_asks_for_them() -> None:
    assert not IdentityConfig().wit_svid
    assert not AuthoritySettings().wit
    assert not SvidSettings().wit_enabled


def test_a_certificate_begins_ten_seconds_ago_and_a_token_says_no_beginning() -> None:
    authority = Authority.generate(TD, NOW)
    svid = load_certificate(
        authority.issue_workload_svid(WORKLOAD, SigningKey.generate().private_key.public_key(), NOW, 600)
    )
    assert NOW - svid.not_valid_before_utc == BACKDATE == timedelta(seconds=10)
    token = UnverifiedToken.parse(authority.issue_jwt_svid(WORKLOAD, "https://x.example", NOW, 60, NOW + DAY))
    assert "nbf" not in token.unverified_claims
    assert {token.unverified_claims["iat"], token.unverified_claims["exp"]} == {
        int(NOW.timestamp()),
        int(NOW.timestamp()) + 60,
    }


def test_an_id_has_255_bytes_and_a_chain_four_agents() -> None:
    assert MAX_ID_BYTES == 255
    assert LimitsConfig().delegation_depth == DEFAULT_DEPTH == 4
    assert AgentConfig.model_fields["max_depth"].default == DEFAULT_DEPTH


def test_a_transaction_token_is_for_one_call() -> None:
    assert ServiceConfig.model_fields["txn"].default == "per_call"
    assert Service("tickets", "https://tickets.mesh.example", Route("tickets", "mcp")).txn == "per_call"
