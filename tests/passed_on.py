"""A mesh in which services call each other: tickets passes calls on to billing, and billing to ledger."""

import json

from authz.pb import ext_authz_pb2 as pb
from authz.protocols.route import Route
from authz.services import Asker, Service, Services
from identity.jws import UnverifiedToken
from identity.spiffe import SpiffeId
from identity.transaction import TransactionToken, verify_transaction_token
from tests.check_requests import MCP_HEADERS, check_request
from tests.fakes import DOMAIN, GATEWAY, ISSUER, TICKETS, Run, World

TICKETS_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/tickets")
BILLING_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/billing")
LEDGER_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/ledger")
BILLING, LEDGER = "https://billing.mesh.example", "https://ledger.mesh.example"


def services(txn: str = "per_call") -> Services:
    """Three services that pass calls on, and one that does not."""
    made = [
        Service(
            name,
            audience,
            Route(name, "mcp"),
            workloads=frozenset({workload}),
            txn="per_tool" if txn == "per_tool" else "per_call",
        )
        for name, audience, workload in (
            ("tickets", TICKETS, TICKETS_WORKLOAD),
            ("billing", BILLING, BILLING_WORKLOAD),
            ("ledger", LEDGER, LEDGER_WORKLOAD),
        )
    ]
    made.append(Service("leaf", "https://leaf.mesh.example", Route("leaf", "mcp")))
    names = frozenset(service.name for service in made)
    return Services.of(tuple(made), (Asker(GATEWAY, names),), None)


def world(txn: str = "per_call") -> World:
    """A world with these services."""
    made = World()
    made.services = services(txn)
    return made


def call(tool: str, **arguments: object) -> bytes:
    """The body of a call of a tool."""
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()


def txn_of(response: pb.CheckResponse) -> str:
    """Return the transaction token that goes upstream."""
    assert response.status.code == 0, response
    return next(each.header.value for each in response.ok_response.headers if each.header.key == "txn-token")


def first(made: World, run: Run, service: str = "tickets", **more: object) -> str:
    """Let an agent call a service; return the transaction token that the service gets."""
    audience = made.services.by_name[service].audience
    token = made.token(run, **{"audience": audience, **more})  # type: ignore[arg-type]  # real fields
    return txn_of(made.check(made.request(token, run, extensions={"service": service})))


def on(  # noqa: PLR0917 - the parts of a request, most of them as they are
    made: World,
    txn: str | bytes,
    peer: SpiffeId = TICKETS_WORKLOAD,
    service: str = "billing",
    body: bytes | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> pb.CheckResponse:
    """Pass a call on: a workload calls a service with the token that it got."""
    headers = [*MCP_HEADERS, ("txn-token", txn), *extra]
    parts: dict[str, object] = {
        "body": body or call("read_ticket", ticket="T-1"),
        "headers": headers,
        "principal": str(peer),
        "extensions": {"service": service},
        "certificate": "",
    }
    return made.check(check_request(**parts).SerializeToString())  # type: ignore[arg-type]  # as it takes


def read(made: World, txn: str, service: str) -> TransactionToken:
    """Verify a token as the service that it is for does."""
    return verify_transaction_token(
        txn,
        made.authority.token_keys,
        issuer=ISSUER,
        trust_domain=DOMAIN,
        service=service,
        now=made.now,
        leeway=0,
    )


def claims(txn: str) -> dict[str, object]:
    """Return what a token says."""
    return dict(UnverifiedToken.parse(txn).unverified_claims)
