"""Administration over HTTP: the routes, below `<issuer path>/admin/v1`.

- The same routes are served by TLS, to workloads and people, and on the private socket, to this machine's
  operator. Which it is, is a property of the listener, never of the request.
- An answer is JSON that nobody keeps.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.admin import Actor, AdminRequest
from authz.administration import agents, approvals, grants, pins, withdrawals
from authz.administration.agents import Agents, Registry
from authz.administration.approvals import Inbox
from authz.administration.grants import Consents, Filter
from authz.administration.order import Desk, Order, OrderError, carry_out
from authz.administration.pins import PinDesk
from authz.administration.place import ADMIN
from authz.administration.withdrawals import Switch
from authz.approvals.approval import Verdict
from authz.broker.arrival import Arrival

_QUERIES: Final = {
    ("GET", "/grants"): ("human", "agent"),
    ("GET", "/approvals"): ("human", "state"),
    ("GET", "/pins"): ("service",),
}

Read = Callable[[Request], Awaitable[Arrival]]
Planner = Callable[[Request, Arrival, Actor, datetime], Awaitable[Order]]


class Administered(Agents, Consents, Switch, Protocol):
    """All that can be administered of the state."""


Reload = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Administration:
    """What the routes are about; `reload` reads the grants of the policy again."""

    desk: Desk
    state: Administered
    registry: Registry
    reload: Reload
    inbox: Inbox | None = None
    pins: PinDesk | None = None


def admin_routes(what: Administration, path: str, read: Read) -> list[Route]:
    """Return the routes; `path` is that of the issuer, and `read` makes an arrival of a request."""

    def route(at: str, method: str, action: str, plan: Planner) -> Route:
        async def endpoint(request: Request) -> Response:
            arrival = await read(request)

            async def planned(actor: Actor, now: datetime) -> Order:
                _check_query(request, frozenset(_QUERIES.get((method, at), ())))
                return await plan(request, arrival, actor, now)

            reply = await carry_out(action, planned, arrival, what.desk)
            headers = {"Cache-Control": "no-store", **reply.headers}
            if reply.status == 503:
                headers["Retry-After"] = "1"
            return JSONResponse(dict(reply.body or {}), reply.status, headers)

        return Route(f"{path}{ADMIN}{at}", endpoint, methods=[method])

    rows = (
        *_of_agents(what.registry),
        *_of_approvals(what),
        *_of_grants(what),
        *_of_pins(what.pins),
        *_of_the_switch(what),
    )
    return [route(*row) for row in rows]


Row = tuple[str, str, str, Planner]


def _of_agents(registry: Registry) -> list[Row]:
    # The rows with a verb come first: a name may have slashes.
    return [
        ("/agents", "GET", "agents/list", lambda *_: agents.list_agents(registry)),
        (
            "/agents",
            "POST",
            "agents/register",
            lambda _, arrival, __, now: agents.register_agent(arrival, registry, now),
        ),
        (
            "/agents/{name:path}/retire",
            "POST",
            "agents/retire",
            lambda request, arrival, _, now: agents.retire_agent(_name(request), arrival, registry, now),
        ),
        ("/agents/{name:path}", "GET", "agents/list", lambda r, *_: agents.show_agent(_name(r), registry)),
        (
            "/agents/{name:path}",
            "PUT",
            "agents/change",
            lambda request, arrival, _, now: agents.change_agent(_name(request), arrival, registry, now),
        ),
        ("/orphans", "GET", "agents/list", lambda _, __, ___, now: agents.list_orphans(registry, now)),
        (
            "/orphans/{name:path}/retire",
            "POST",
            "agents/retire",
            lambda request, arrival, _, now: agents.retire_orphan(_name(request), arrival, registry, now),
        ),
    ]


def _of_approvals(what: Administration) -> list[Row]:
    inbox = what.inbox
    if inbox is None:
        return []

    def deciding(verdict: Verdict) -> Planner:
        return lambda request, arrival, actor, now: approvals.decide_approval(
            _name(request), verdict, arrival, inbox, actor, now
        )

    return [
        (
            "/approvals",
            "GET",
            "approvals/list",
            lambda request, _, actor, now: approvals.list_approvals(
                request.query_params.get("human"), request.query_params.get("state"), inbox, actor, now
            ),
        ),
        (
            "/approvals/{name}",
            "GET",
            "approvals/show",
            lambda request, _, __, now: approvals.show_approval(_name(request), inbox, now),
        ),
        ("/approvals/{name}/approve", "POST", "approvals/approve", deciding("approved")),
        ("/approvals/{name}/deny", "POST", "approvals/deny", deciding("denied")),
    ]


def _of_grants(what: Administration) -> list[Row]:
    state, new_id = what.state, what.desk.broker.new_id
    return [
        ("/grants", "GET", "grants/list", lambda r, _, actor, now: _list_grants(r, state, actor, now)),
        (
            "/grants",
            "POST",
            "grants/create",
            lambda _, arrival, actor, now: grants.create_grant(arrival, new_id(now), state, actor, now),
        ),
        (
            "/grants/{name}/revoke",
            "POST",
            "grants/revoke",
            lambda request, arrival, actor, now: grants.revoke_grant(
                _name(request), arrival, state, actor, now
            ),
        ),
    ]


def _of_pins(desk: PinDesk | None) -> list[Row]:
    if desk is None:
        return []
    one = "/pins/{service}/{name}"
    return [
        ("/pins", "GET", "pins/list", lambda r, *_: pins.list_pins(r.query_params.get("service"), desk)),
        (one, "GET", "pins/show", lambda r, *_: pins.show_pin(_service(r), _name(r), desk)),
        (
            f"{one}/accept",
            "POST",
            "pins/accept",
            lambda r, arrival, actor, _: pins.accept_pin(_service(r), _name(r), arrival, desk, actor),
        ),
        (
            f"{one}/forget",
            "POST",
            "pins/forget",
            lambda r, arrival, *_: pins.forget_pin(_service(r), _name(r), arrival, desk),
        ),
    ]


def _of_the_switch(what: Administration) -> list[Row]:
    desk, state = what.desk, what.state
    return [
        ("/withdrawals", "GET", "epochs/show", lambda *_: withdrawals.list_withdrawals(state)),
        (
            "/withdrawals",
            "POST",
            "withdraw",
            lambda _, arrival, actor, now: withdrawals.withdraw(arrival, state, desk, actor, now),
        ),
        (
            "/releases",
            "POST",
            "release",
            lambda _, arrival, actor, now: withdrawals.release(arrival, state, actor, now),
        ),
        ("/policy/reload", "POST", "policy/reload", lambda *_: _reload(what)),
    ]


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _service(request: Request) -> str:
    return str(request.path_params["service"])


async def _list_grants(request: Request, state: Administered, actor: Actor, now: datetime) -> Order:
    return await grants.list_grants(_filter(request), state, actor, now)


async def _reload(what: Administration) -> Order:
    """Plan to read the grants of the policy now (POST /admin/v1/policy/reload)."""
    policy = what.desk.broker.policy

    async def run() -> None:
        await what.reload()

    return Order(
        request=AdminRequest("policy/reload"),
        subject="policy",
        body=lambda: {"policy": policy.revision},
        run=run,
    )


def _filter(request: Request) -> Filter:
    return Filter(request.query_params.get("human"), request.query_params.get("agent"))


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Refuse a query that is not wholly understood.

    Raises:
        OrderError: if it has an unknown member, or one twice.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if unknown := sorted(set(names) - known):
        raise OrderError(f"unknown in the query: {unknown[0][:64]}")
    if len(names) != len(set(names)):
        raise OrderError("the query names something twice")
