"""The reference of the broker: the claims, errors, details and endpoints that it names are the code's."""

import re
from dataclasses import fields, replace
from typing import get_args

import pytest

from authz.broker import refusal
from authz.broker.token_request import ACCESS_TOKEN, ID_JAG, TXN_TOKEN
from identity.authorization_details import Detail, details_json, parse_details
from identity.caller import Human
from identity.delegation import MAX_PARENTS
from identity.id_jag import IdentityAssertion
from identity.strict_json import Limits, loads
from identity.transaction import Transaction
from tests.docs.blocks import ROOT, blocks_of
from tests.identity_world import ARGS_SHA256, AUDIENCE, ISSUER, NOW, RUNNER, TD, delegation, hop, ulid

PAGE = "docs/reference/broker-api.md"
TEXT = (ROOT / PAGE).read_text("utf-8")
LEAD = replace(
    Human.parse("https://idp.example", "lead", ("lead",), "urn:example:mfa", 1), amr=("pwd", "otp")
)
DETAILS = (Detail(AUDIENCE, "read_ticket"),)
EVERYTHING = {"human": LEAD, "details": DETAILS, "grants": (ulid(7),), "parents": ("P" * 22,)}


def _named(heading: str) -> set[str]:
    """The claims in the first column of a table."""
    table = TEXT.partition(f"| {heading} | |\n|---|---|\n")[2].partition("\n\n")[0]
    assert table, heading
    return {name for line in table.splitlines() for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])}


def _transaction() -> Transaction:
    return Transaction(
        issuer=ISSUER,
        trust_domain=TD,
        human=LEAD,
        chain=(hop("triage"),),
        scopes=frozenset({"tickets:read"}),
        requester=RUNNER,
        service="tickets",
        action="tools/call",
        resource="read_ticket",
        arguments_sha256=ARGS_SHA256,
        decision_id=ulid(9),
        txn="T" * 22,
        jti="J" * 22,
        issued_at=int(NOW.timestamp()),
        expires_at=int(NOW.timestamp()) + 60,
        requesters=(RUNNER,),
        per_tool=True,
        min_epoch=3,
        parents=("P" * 22,),
        grants=(ulid(7),),
        details=DETAILS,
    )


def _assertion() -> IdentityAssertion:
    made = delegation(**EVERYTHING)
    common = {each.name for each in fields(IdentityAssertion)} - {"client_id"}
    return IdentityAssertion(client_id="them", **{name: getattr(made, name) for name in common})


@pytest.mark.parametrize(
    ("heading", "claims"),
    [
        ("Delegation token (`at+jwt`)", delegation(**EVERYTHING).to_claims()),
        ("Transaction token (`txntoken+jwt`)", _transaction().to_claims()),
        ("Assertion for another domain (`oauth-id-jag+jwt`)", _assertion().to_claims()),
    ],
)
def test_the_claims_are_those_of_the_token(heading: str, claims: dict[str, object]) -> None:
    assert _named(heading) == claims.keys()


def test_the_context_of_a_transaction_is_whole() -> None:
    (row,) = re.findall(r"(?m)^\| `tctx` \|(.*)\|$", TEXT)
    context = _transaction().to_claims()["tctx"]
    assert isinstance(context, dict)
    assert context.keys() <= set(re.findall(r"`([a-z_0-9]+)`", row))


def test_every_oauth_error_is_explained() -> None:
    known = set(get_args(refusal.OAuthError))
    assert known <= set(re.findall(r"`([a-z_]+)`", TEXT))


def test_the_details_that_are_shown_are_read() -> None:
    (shown,) = [block for block in blocks_of(PAGE) if "mcp_tool_call" in block.text]
    read = parse_details(loads(shown.text.encode(), Limits(depth=8, keys=64)))
    assert len(details_json(read)) == 1


@pytest.mark.parametrize("kind", [ACCESS_TOKEN, TXN_TOKEN, ID_JAG])
def test_every_kind_of_token_is_named(kind: str) -> None:
    assert f"`…:{kind.rpartition(':')[2]}`" in TEXT


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/introspect",
        "/jwks",
        "/revoke",
        "/token",
    ],
)
def test_every_endpoint_is_named(path: str) -> None:
    assert re.search(rf"`(?:GET|POST) {re.escape(path)}`", TEXT)


def test_a_token_is_exchanged_as_often_as_it_says() -> None:
    assert MAX_PARENTS == 16
    assert "after sixteen such steps" in " ".join(TEXT.split())
