"""federation.json: what survives a restart, and what is refused at one."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity.authority import Authority
from identity.errors import FederationError
from identity.federation import MAX_RELATIONSHIPS, Relationship
from identity.federation_document import encode_relationships, parse_relationships
from tests.federation_world import ENDPOINT, NOW, OURS, THEIRS, URL, bundle_bytes

BUNDLE = bundle_bytes(Authority.generate(THEIRS, NOW))
SPIFFE = Relationship.parse(
    THEIRS.name, URL, "https_spiffe", endpoint_id=str(ENDPOINT), bundle=BUNDLE
).fetched(BUNDLE, NOW)
WEB = Relationship.parse("third.example", URL, "https_web", ca_file="/etc/ca.pem").failed(
    "it said: 'nö'\n", NOW + timedelta(minutes=1)
)
DOCUMENT = encode_relationships(OURS, [SPIFFE, WEB])


def parse(document: object) -> tuple[Relationship, ...]:
    return parse_relationships(json.dumps(document).encode(), OURS)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT)
    change(document["relationships"][0])
    return document


def test_round_trip() -> None:
    assert parse_relationships(DOCUMENT, OURS) == (SPIFFE, WEB)
    assert parse_relationships(encode_relationships(OURS, []), OURS) == ()


def test_the_bundle_is_kept_as_it_came() -> None:
    """A later version of us may know a use of a key that this one leaves out."""
    strange = bundle_bytes(Authority.generate(THEIRS, NOW), new_member={"é": "\u2028"})
    kept = replace(WEB, trust_domain=THEIRS).fetched(strange, NOW)
    (read,) = parse_relationships(encode_relationships(OURS, [kept]), OURS)
    assert read.received is not None
    assert read.received.document == strange


def test_as_many_as_there_may_be_are_read_again() -> None:
    names = [f"td{number}" for number in range(MAX_RELATIONSHIPS - 1)]
    many = [SPIFFE, *(Relationship.parse(name, URL, "https_web").failed("x", NOW) for name in names)]
    assert len(parse_relationships(encode_relationships(OURS, many), OURS)) == MAX_RELATIONSHIPS


def test_a_truncated_document_is_refused() -> None:
    for length in range(0, len(DOCUMENT) - 2, 7):
        with pytest.raises(FederationError, match="damaged"):
            parse_relationships(DOCUMENT[:length], OURS)


def test_a_document_of_another_trust_domain_is_refused() -> None:
    with pytest.raises(FederationError, match="of the trust domain"):
        parse_relationships(DOCUMENT, THEIRS)


def test_a_document_that_names_our_own_trust_domain_is_refused() -> None:
    """Whoever can write the file could else replace our own roots."""
    ours = bundle_bytes(Authority.generate(OURS, NOW))
    document = changed(lambda entry: entry.update(trust_domain=OURS.name, bundle=ours.decode()))
    with pytest.raises(FederationError, match="our own"):
        parse(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("problem"),
        lambda entry: entry.update(more=1),
        lambda entry: entry.update(trust_domain=7),
        lambda entry: entry.update(url="http://other.example/"),
        lambda entry: entry.update(profile=None),
        lambda entry: entry.update(endpoint_spiffe_id=None),
        lambda entry: entry.update(bundle="{}"),
        lambda entry: entry.update(bundle={"keys": []}),
        lambda entry: entry.update(bundle=bundle_bytes(Authority.generate(OURS, NOW)).decode()),
        lambda entry: entry.update(fetched_at="now"),
        lambda entry: entry.update(fetched_at=-1),
        lambda entry: entry.update(tried_at=True),
        lambda entry: entry.update(tried_at=10**12),
        lambda entry: entry.update(problem=None),
    ],
)
def test_a_changed_entry_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(FederationError):
        parse(changed(change))


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {**json.loads(DOCUMENT), "version": 2},
        {**json.loads(DOCUMENT), "more": 1},
        {**json.loads(DOCUMENT), "relationships": {}},
        {**json.loads(DOCUMENT), "relationships": ["x"]},
        {**json.loads(DOCUMENT), "relationships": json.loads(DOCUMENT)["relationships"] * 2},
    ],
)
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(FederationError):
        parse(document)
