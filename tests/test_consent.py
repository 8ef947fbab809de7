"""What a person granted: its parts, its end, and its tools."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity.authorization_details import Detail
from identity.consent import MAX_DELEGATES, MAX_TOOLS, Consent
from identity.errors import ConsentError
from identity.scopes import MAX_SCOPES

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
TICKETS = "https://tickets.mesh.example"


def consent(**changes: Any) -> Consent:
    plain: dict[str, Any] = {
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "human": "https://idp.example#lead",
        "agent": "triage",
        "scopes": frozenset({"tickets:read"}),
        "tools": None,
        "delegates_to": frozenset(),
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return Consent.parse(**{**plain, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": ""},
        {"human": "lead"},
        {"human": "#lead"},
        {"agent": ""},
        {"agent": "Triage"},
        {"agent": "tri age"},
        {"scopes": frozenset()},
        {"scopes": frozenset({"a b"})},
        {"scopes": frozenset(f"s:{number}" for number in range(MAX_SCOPES + 1))},
        {"tools": frozenset()},
        {"tools": frozenset({"close"})},
        {"tools": frozenset({"tickets/"})},
        {"tools": frozenset({"/close"})},
        {"tools": frozenset({"tickets/a b"})},
        {"tools": frozenset({"tickets/close\n"})},
        {"tools": frozenset({"Tickets/close"})},
        {"tools": frozenset(f"tickets/t{number}" for number in range(MAX_TOOLS + 1))},
        {"delegates_to": frozenset({"triage"})},
        {"delegates_to": frozenset({""})},
        {"delegates_to": frozenset(f"a{number}" for number in range(MAX_DELEGATES + 1))},
        {"expires_at": NOW},
        {"expires_at": NOW - timedelta(seconds=1)},
    ],
)
def test_what_is_no_grant(changes: dict[str, Any]) -> None:
    with pytest.raises(ConsentError):
        consent(**changes)


def test_it_lives_from_its_beginning_to_its_end_or_its_revocation() -> None:
    held = consent()
    second = timedelta(seconds=1)
    assert [held.is_live(NOW + moment) for moment in (-second, 0 * second, timedelta(hours=1) - second)] == [
        False,
        True,
        True,
    ]
    assert not held.is_live(held.expires_at)
    assert not replace(held, revoked_at=NOW).is_live(NOW)


def test_tools_of_one_service_are_its_details() -> None:
    held = consent(tools=frozenset({"tickets/list", "tickets/close/all", "billing/pay"}))
    assert held.details_for("tickets", TICKETS) == (Detail(TICKETS, "close/all"), Detail(TICKETS, "list"))
    assert consent().details_for("tickets", TICKETS) is None
    for service in ("other", "ticket", ""):
        with pytest.raises(ConsentError):
            held.details_for(service, TICKETS)
