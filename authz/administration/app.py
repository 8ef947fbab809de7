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
from authz.administration import agents, grants, withdrawals
from authz.administration.agents import Agents, Registry
from authz.administration.grants import Consents, Filter
from authz.administration.order import Desk, Order, OrderError, carry_out
from authz.administration.withdrawals import Switch
from authz.broker.arrival import Arrival

ADMIN: Final = "/admin/v1"

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


def admin_routes(what: Administration, path: str, read: Read) -> list[Route]:
    """Return the routes; `path` is that of the issuer, and `read` makes an arrival of a request."""
    desk, state, registry = what.desk, what.state, what.registry

    def route(at: str, method: str, action: str, plan: Planner) -> Route:
        async def endpoint(request: Request) -> Response:
            arrival = await read(request)

            async def planned(actor: Actor, now: datetime) -> Order:
                return await plan(request, arrival, actor, now)

            reply = await carry_out(action, planned, arrival, desk)
            headers = {"Cache-Control": "no-store", **reply.headers}
            if reply.status == 503:
                headers["Retry-After"] = "1"
            return JSONResponse(dict(reply.body or {}), reply.status, headers)

        return Route(f"{path}{ADMIN}{at}", endpoint, methods=[method])

    name = "/{name:path}"
    return [
        route("/agents", "GET", "agents/list", lambda *_: agents.list_agents(registry)),
        route(
            "/agents",
            "POST",
            "agents/register",
            lambda _, a, __, now: agents.register_agent(a, registry, now),
        ),
        route(
            f"/agents{name}/retire",
            "POST",
            "agents/retire",
            lambda r, a, _, now: agents.retire_agent(r.path_params["name"], a, registry, now),
        ),
        route(
            f"/agents{name}",
            "GET",
            "agents/list",
            lambda r, *_: agents.show_agent(r.path_params["name"], registry),
        ),
        route(
            f"/agents{name}",
            "PUT",
            "agents/change",
            lambda r, a, _, now: agents.change_agent(r.path_params["name"], a, registry, now),
        ),
        route("/orphans", "GET", "agents/list", lambda _, __, ___, now: agents.list_orphans(registry, now)),
        route(
            f"/orphans{name}/retire",
            "POST",
            "agents/retire",
            lambda r, a, _, now: agents.retire_orphan(r.path_params["name"], a, registry, now),
        ),
        route(
            "/grants",
            "GET",
            "grants/list",
            lambda r, _, actor, now: grants.list_grants(_filter(r), state, actor, now),
        ),
        route(
            "/grants",
            "POST",
            "grants/create",
            lambda _, a, actor, now: grants.create_grant(a, desk.broker.new_id(now), state, actor, now),
        ),
        route(
            "/grants/{id}/revoke",
            "POST",
            "grants/revoke",
            lambda r, a, actor, now: grants.revoke_grant(r.path_params["id"], a, state, actor, now),
        ),
        route("/withdrawals", "GET", "epochs/show", lambda *_: withdrawals.list_withdrawals(state)),
        route(
            "/withdrawals",
            "POST",
            "withdraw",
            lambda _, a, actor, now: withdrawals.withdraw(a, state, desk, actor, now),
        ),
        route(
            "/releases",
            "POST",
            "release",
            lambda _, a, actor, now: withdrawals.release(a, state, actor, now),
        ),
        route("/policy/reload", "POST", "policy/reload", lambda *_: _reload(what)),
    ]


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
    query = request.query_params
    if unknown := sorted(query.keys() - {"human", "agent"}):
        raise OrderError(f"unknown: {unknown[0][:64]}")
    return Filter(query.get("human"), query.get("agent"))
