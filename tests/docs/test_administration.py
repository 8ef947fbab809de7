"""The pages about administration and AuthZEN: they name the routes that there are."""

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast, get_args

from authz.admin import Action
from authz.administration.app import Administration, admin_routes
from authz.administration.approvals import approval_json
from authz.administration.grants import DEFAULT_SECONDS, MAX_SECONDS
from authz.administration.pins import MAX_LISTED as MAX_PINS
from authz.administration.pins import pin_json
from authz.administration.place import ADMIN
from authz.administration.withdrawals import MAX_LISTED
from authz.approvals.approval import STATES, Approval
from authz.authzen.endpoint import EVALUATION, EVALUATIONS, METADATA
from authz.authzen.evaluation import MAX_EVALUATIONS
from authz.authzen.question import _TARGETS
from authz.broker.app import read_arrival
from authz.pins.differences import MAX_LINES
from authz.pins.pin import Pin, State
from identity.withdrawal import KINDS, MAX_REASON
from tests.approvals_world import KEY
from tests.docs.blocks import ROOT

API = (ROOT / "docs/reference/admin-api.md").read_text("utf-8")
AUTHZEN = (ROOT / "docs/reference/authzen.md").read_text("utf-8")
HOW_TO = (ROOT / "docs/how-to/administer.md").read_text("utf-8")


def test_the_page_has_each_route_and_no_other() -> None:
    # The routes, over nothing that runs.
    desk = SimpleNamespace(broker=SimpleNamespace(new_id=None))
    nothing: Any = SimpleNamespace(
        desk=desk, state=None, registry=None, reload=None, inbox=SimpleNamespace(), pins=SimpleNamespace()
    )
    routes = admin_routes(cast("Administration", nothing), "", read_arrival)
    there = {
        f"{method} {route.path.removeprefix(ADMIN).replace(':path', '')}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) /[^`]*)` \|", API, re.MULTILINE)) == there


def test_the_page_has_each_action() -> None:
    for action in get_args(Action):
        assert f"`{action}`" in API, action


def test_the_page_has_each_kind_and_the_limits() -> None:
    table = API[API.index("**A withdrawal**") :]
    for kind in KINDS:
        assert f"`{kind}`" in table, kind
    assert f"at most {MAX_REASON} characters" in API
    assert f"newest {MAX_LISTED};" in API
    for text in (API, HOW_TO):
        assert f"{DEFAULT_SECONDS // 86400} days" in text
        assert f"{MAX_SECONDS // 86400}" in text


def test_the_page_has_each_member_and_state_of_an_approval() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    shown = approval_json(Approval("01", KEY, "pending", now, now), whole=True)
    table = API[API.index("**A request for approval**") :]
    for name in (*shown, *STATES):
        assert f"`{name}`" in table, name


def test_the_page_has_each_member_and_state_of_a_tool() -> None:
    table = API[API.index("**A tool**") :]
    for name in (*pin_json(Pin("billing", "x"), "learn", {}, whole=True), *get_args(State)):
        assert f"`{name}`" in table, name
    assert f"at most {MAX_LINES + 1} lines" in table
    assert f"at most {MAX_PINS}; `total`" in table


def test_the_page_about_authzen_has_each_path_and_target() -> None:
    for path in (EVALUATION, EVALUATIONS, METADATA):
        assert f"{path}`" in AUTHZEN
    assert f"up to {MAX_EVALUATIONS} questions" in AUTHZEN
    for method, (kind, _) in _TARGETS.items():
        rows = [line for line in AUTHZEN.splitlines() if f"`{method}`" in line]
        assert any(f"| `{kind}` |" in row for row in rows), method
