"""Whose word counts for which group: groups have no issuer in their names, so each provider has its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from authz.broker.access_token import verify_person_access_token
from authz.broker.id_token import IdentityProvider, verify_id_token
from authz.broker_parts import providers
from authz.config import load_config
from authz.demo.world import HERE
from identity.jws import UnverifiedToken
from identity.keys import KeySet
from tests.broker_fakes import BROKER, CLIENT, ES256, ISSUER, NOW, id_token_with, provider_of

OTHER = "https://partner.example"
KEYS = KeySet.parse_jwks({"keys": [ES256.public]}, use=None)
LEEWAY = 30


def provider(groups: frozenset[str] | None) -> IdentityProvider:
    return IdentityProvider(ISSUER, frozenset({CLIENT}), groups=groups)


def groups_of(known: frozenset[str] | None) -> tuple[str, ...]:
    token = id_token_with(provider_of(), groups=["platform", "sales"])
    person = verify_id_token(UnverifiedToken.parse(token), KEYS, provider(known), NOW, LEEWAY)
    return person.human.groups


@pytest.mark.parametrize(
    ("known", "counting"),
    [
        (None, ("platform", "sales")),
        (frozenset({"sales", "lab"}), ("sales",)),
        (frozenset(), ()),
    ],
)
def test_a_person_is_in_those_groups_only_that_their_provider_may_name(
    known: frozenset[str] | None, counting: tuple[str, ...]
) -> None:
    assert groups_of(known) == counting


def test_an_access_token_says_no_more() -> None:
    claims = {"aud": BROKER, "azp": CLIENT, "typ": "Bearer", "sid": "s-1", "groups": ["platform", "sales"]}
    token = UnverifiedToken.parse(id_token_with(provider_of(), **claims))
    here = provider(frozenset({"sales"}))
    person = verify_person_access_token(token, KEYS, here, audience=BROKER, now=NOW, leeway=LEEWAY)
    assert person.human.groups == ("sales",)


def configured(directory: Path, *listed: dict[str, Any]) -> dict[str, frozenset[str] | None]:
    (directory / "grants.yaml").write_bytes((HERE / "grants.yaml").read_bytes())
    path = directory / "deputy.yaml"
    document = {
        "trust_domain": "mesh.example",
        "data_dir": "data",
        "check": {
            "listen": "127.0.0.1:9191",
            "callers": [{"id": "spiffe://mesh.example/gateway", "may_ask": ["tickets"]}],
        },
        "broker": {"issuer": BROKER, "listen": "127.0.0.1:9192"},
        "policy": {"grants": "grants.yaml"},
        "services": {"tickets": {"audience": "https://tickets.mesh.example"}},
        "providers": [{"audiences": [CLIENT], **each} for each in listed],
    }
    path.write_text(json.dumps(document))
    return {each.issuer: each.groups for each in providers(load_config(path))}


def test_the_only_provider_speaks_of_all_groups(tmp_path: Path) -> None:
    assert configured(tmp_path, {"issuer": ISSUER}) == {ISSUER: None}


def test_of_several_providers_none_puts_its_people_into_the_groups_of_another(tmp_path: Path) -> None:
    """Whoever runs the partner's provider could have made its people operators of ours."""
    found = configured(tmp_path, {"issuer": ISSUER, "groups": ["platform"]}, {"issuer": OTHER})
    assert found == {ISSUER: frozenset({"platform"}), OTHER: frozenset()}
