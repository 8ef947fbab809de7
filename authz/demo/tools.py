"""The MCP servers of the demo: tickets and billing, on the official `mcp` SDK.

- Each listens on a Unix socket in a directory of mode 0700, so that nobody can go round Envoy.
- The tool server's verifier checks every request's transaction token before the SDK sees it.
- What arrived is written down twice, before and behind the verifier: names of headers, claims of the token.
  The file is `upstream.jsonl` beside the socket.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from identity.tool_server import CLAIMS_KEY, TxnTokenMiddleware, TxnTokenVerifier

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TICKETS = {"T-1": "printer on fire", "T-2": "cannot sign in"}


def tickets_server() -> MCPServer:
    """Make the server of the ticket desk."""
    server = MCPServer("tickets")

    @server.tool()
    def read_ticket(ticket: str) -> str:
        """Read one ticket."""
        return TICKETS.get(ticket, "no such ticket")

    @server.tool()
    def close_ticket(ticket: str) -> str:
        """Close one ticket."""
        return f"closed {ticket}"

    @server.tool()
    def export_tickets() -> str:
        """Export all tickets, to a person."""
        return json.dumps(TICKETS)

    return server


def billing_server() -> MCPServer:
    """Make the server of the billing desk."""
    server = MCPServer("billing")

    @server.tool()
    def get_invoice(invoice: str) -> str:
        """Read one invoice."""
        return f"invoice {invoice}: 40 EUR"

    @server.tool()
    def refund(invoice: str, amount: int) -> str:
        """Pay money back."""
        return f"refunded {amount} EUR of {invoice}"

    @server.tool()
    def delete_customer(customer: str) -> str:
        """Delete a customer, for good."""
        return f"deleted {customer}"

    return server


SERVERS = {"tickets": tickets_server, "billing": billing_server}


class WriteDown:
    """Writes down what arrived: the names of its headers, and the claims of its transaction token."""

    def __init__(self, app: "ASGIApp", path: Path, seen: Literal["arrived", "verified"]) -> None:
        """Wrap an application; `seen` says where it stands, before or behind the verifier."""
        self._app = app
        self._path = path
        self._seen = seen

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Write down one request, then pass it on."""
        if scope["type"] == "http":
            names = sorted({name.decode("latin-1") for name, _ in scope["headers"]})
            line = json.dumps({"seen": self._seen, "headers": names, "transaction": scope.get(CLAIMS_KEY)})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        await self._app(scope, receive, send)


def make_app(service: str, verifier: TxnTokenVerifier, upstream_log: Path) -> "ASGIApp":
    """Make the application of one service, behind the verifier."""
    # The only way in is Envoy's socket, and Envoy writes this host.
    security = TransportSecuritySettings(allowed_hosts=[service])
    # Without sessions, so that one call by hand needs no `initialize` before it.
    app = SERVERS[service]().streamable_http_app(
        json_response=True, stateless_http=True, transport_security=security
    )
    verified = TxnTokenMiddleware(WriteDown(app, upstream_log, "verified"), verifier)
    return WriteDown(verified, upstream_log, "arrived")


def main() -> None:
    """Serve one service until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=sorted(SERVERS))
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--jwks", type=Path, required=True, help="file with the broker's keys")
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--trust-domain", required=True)
    options = parser.parse_args()
    verifier = TxnTokenVerifier(
        jwks=options.jwks, issuer=options.issuer, trust_domain=options.trust_domain, service=options.service
    )
    app = make_app(options.service, verifier, options.socket.parent / "upstream.jsonl")
    uvicorn.run(app, uds=str(options.socket), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
