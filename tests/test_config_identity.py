"""`identity:` of `deputy.yaml`: what would mean two things, or nothing, is refused with a sentence."""

from pathlib import Path
from typing import Any

import pytest

from authz.errors import ConfigError
from identity.entitlement import Peer
from identity.spiffe import TrustDomain
from tests.test_config import HOME, RUNNER, full, minimal, parse

TD = TrustDomain.parse("mesh.example")
OWN = {"id": RUNNER, "socket": "unix:///run/deputy/runner.sock"}
SHARED = {"id": RUNNER, "uid": 1000}


def with_identity(**identity: Any) -> dict[str, Any]:
    return minimal() | {"identity": identity}


def refusal(value: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(value)
    return str(caught.value)


def test_nothing_is_served_to_anybody_by_default() -> None:
    identity = parse(minimal()).identity
    assert not identity.to_registrations(TD).of_peer(Peer(1, 0, 0))
    assert identity.to_own_sockets(TD) == ()
    assert (identity.socket, identity.bundle_endpoint, identity.upstream) == (None, None, None)
    assert identity.wit_svid is False


def test_workloads_reach_the_sockets() -> None:
    value = with_identity(socket="unix:///run/a.sock", workloads=[OWN, SHARED | {"gid": 7}])
    identity = parse(value).identity
    ((path, own),) = identity.to_own_sockets(TD)
    assert (path, str(own.spiffe_id), own.uid) == (Path("/run/deputy/runner.sock"), RUNNER, None)
    registrations = identity.to_registrations(TD)
    assert [str(each.spiffe_id) for each in registrations.of_peer(Peer(1, 1000, 7))] == [RUNNER]
    assert not registrations.of_peer(Peer(1, 1000, 8))


def test_relative_paths_are_relative_to_the_file() -> None:
    identity = parse(full()).identity
    assert identity.task_sockets == HOME / "tasks"
    assert identity.pkcs11 is not None
    assert identity.pkcs11.pin_file == HOME / "hsm/pin"
    assert identity.kubernetes is not None
    assert identity.kubernetes.token == HOME / "k8s/token"
    assert identity.bundle_endpoint is not None
    assert identity.bundle_endpoint.key == HOME / "tls/web-key.pem"


@pytest.mark.parametrize(
    "longest",
    ["x509_svid_seconds", "jwt_svid_seconds", "delegation_token_seconds", "transaction_token_seconds"],
)
def test_nothing_outlives_the_key_that_signs_it(longest: str) -> None:
    limits = dict.fromkeys(("jwt_svid_seconds", "delegation_token_seconds", "transaction_token_seconds"), 1)
    limits |= {"x509_svid_seconds": 60, longest: 60 if longest == "transaction_token_seconds" else 120}
    least = 6 * limits[longest]
    parse(with_identity(key_seconds=max(600, least)) | {"limits": limits})
    if least > 600:
        assert f"six times limits.{longest} at least, {least}" in refusal(
            with_identity(key_seconds=least - 1) | {"limits": limits}
        )


@pytest.mark.parametrize(
    ("identity", "sentence"),
    [
        ({"key_seconds": 3600, "publish_seconds": 1201}, "a third of key_seconds"),
        ({"key_seconds": 599}, "key_seconds"),
        ({"workloads": [{"id": RUNNER}]}, "needs a socket of its own, or the uid"),
        ({"workloads": [{"id": RUNNER, "gid": 5}]}, "needs a socket of its own, or the uid"),
        ({"workloads": [{"id": RUNNER, "executable_sha256": "0" * 64}]}, "needs a socket of its own"),
        ({"workloads": [OWN | {"executable_sha256": "0" * 64}]}, "goes with a uid"),
        ({"workloads": [SHARED]}, "need identity.socket"),
        ({"agent_uids": [{"uid": 5, "agent": "triage"}]}, "need identity.socket"),
        ({"workloads": [OWN, OWN | {"id": "spiffe://mesh.example/ns/a/sa/b"}]}, "two sockets with one path"),
        ({"socket": OWN["socket"], "workloads": [OWN]}, "two sockets with one path"),
        ({"workloads": [OWN | {"socket": "127.0.0.1:80"}]}, "only a Unix socket"),
        ({"workloads": [OWN | {"id": "spiffe://other.example/a"}]}, "not the ID of a workload of"),
        ({"workloads": [OWN | {"id": "spiffe://mesh.example"}]}, "not the ID of a workload of"),
        ({"workloads": [OWN | {"id": "spiffe://mesh.example/agent/triage"}]}, "whose tasks are started"),
        ({"workloads": [OWN | {"dns_names": ["a b"]}]}, "not a DNS name"),
        (
            {"socket": "unix:///a", "workloads": [SHARED], "agent_uids": [{"uid": 1000, "agent": "triage"}]},
            "it must be one",
        ),
        (
            {"socket": "unix:///a", "agent_uids": [{"uid": 9, "agent": "triage"}, {"uid": 9, "agent": "b"}]},
            "one uid runs one agent",
        ),
        ({"bundle_endpoint": {"listen": "0.0.0.0:1", "profile": "https_web"}}, "takes certificate and key"),
        ({"bundle_endpoint": {"listen": "0.0.0.0:1", "certificate": "a", "key": "b"}}, "https_spiffe takes"),
        (
            {"bundle_endpoint": {"listen": "0.0.0.0:1", "profile": "https_web", "certificate": "a"}},
            "takes certificate and key",
        ),
        ({"upstream": {"workload_api": "tcp://127.0.0.1:80"}}, "address"),
        ({"jwt_issuer": "http://oidc.mesh.example"}, "https URL"),
        ({"jwt_issuer": "https://oidc.mesh.example"}, "needs a bundle_endpoint"),
        ({"wit": True}, "wit"),
    ],
)
def test_what_would_mean_two_things_or_nothing_is_refused(identity: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(with_identity(**identity))
