"""What never leaves the mesh, whatever a caller sends: the headers of a request that say something about us.

- Credentials of the mesh: they would let whoever is outside come back in as the agent.
- Credentials for the outside, and what chooses an account there: the operator's proxy puts in the one that
  counts. With one of its own an agent could use another account, and carry data there.
- Who calls and from where: identities, addresses, the way through our proxies.
- What joins their log with ours: traces, baggage and ids of requests.
- All other headers pass as the agent wrote them; they say what the body could say as well.
"""

from collections.abc import Iterable
from typing import Final

from identity.workload_proof import PROOF_HEADER, WIT_HEADER

OUR_PREFIX: Final = "x-deputy-"
TRANSACTION_HEADER: Final = "txn-token"
# What Kuadrant's MCP gateway believes of a caller (authz/kuadrant); a client's own would be believed as well.
NAMES_HEADER: Final = "x-mcp-authorized"
CREDENTIAL_HEADERS: Final = ("authorization", "proxy-authorization", "dpop", WIT_HEADER, PROOF_HEADER)

_OF_THE_OUTSIDE: Final = (
    "cookie",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
)
_CALLERS: Final = ("x-forwarded-client-cert", "l5d-client-id", "forwarded", "via", "x-real-ip", "from")
_TRACES: Final = (
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "grpc-trace-bin",
    "grpc-tags-bin",
    "uber-trace-id",
    "sentry-trace",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-request-id",
    "x-correlation-id",
)
KEPT_INSIDE: Final = (
    *CREDENTIAL_HEADERS,
    TRANSACTION_HEADER,
    NAMES_HEADER,
    *_OF_THE_OUTSIDE,
    *_CALLERS,
    *_TRACES,
)
KEPT_INSIDE_PREFIXES: Final = (
    OUR_PREFIX,
    "x-forwarded-",
    "x-b3-",
    "x-datadog-",
    "ot-baggage-",
    "ot-tracer-",
    "uberctx-",
)


def names_kept_inside(header_names: Iterable[str]) -> list[str]:
    """Return the names to remove: each of the list, and what a request has of the prefixes."""
    found = {name for name in header_names if name.startswith(KEPT_INSIDE_PREFIXES)}
    return [*KEPT_INSIDE, *sorted(found.difference(KEPT_INSIDE))]
