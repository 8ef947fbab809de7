"""The headers that repeat an argument of a tool (`Mcp-Param-*`, specification 2026-07-28).

- Which argument one repeats stands in the tool's schema, which we do not have. So what can be known is
  checked: its value is the value of some argument that a schema could name; anything else cannot be a
  repetition, and something on the way may have been routed by it.
- A tool is called, or there is no such header.
- A server that has its schema compares the right one; some leave that out where their own list fails.
"""

from collections.abc import Iterator

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers
from authz.protocols.json_rpc import Params
from authz.protocols.mcp_era import decode_header

PREFIX = "mcp-param-"


def check_param_headers(headers: Headers, arguments: Params | None) -> None:
    """Compare the headers that repeat an argument with all arguments.

    Raises:
        InspectionError: with MCP_HEADER_MISMATCH.
        RequestError: if a header stands twice or is not text.
    """
    if PREFIX not in headers.joined:
        return
    values = set(_texts(arguments or {}))
    for name in headers.last:
        if name.startswith(PREFIX) and decode_header(headers.one(name) or "") not in values:
            raise InspectionError(Code.MCP_HEADER_MISMATCH, f"{name[:80]} is the value of no argument")


def _texts(arguments: Params) -> Iterator[str]:
    """Yield each value that a header can repeat: scalars, which objects alone lead to."""
    pending = [arguments]
    for members in pending:
        for value in members.values():
            if isinstance(value, dict):
                pending.append(value)
            elif isinstance(value, bool):
                yield "true" if value else "false"
            elif isinstance(value, str):
                yield value
            elif isinstance(value, int | float):
                # Numbers are compared as numbers by the servers, but written by clients in this way.
                yield str(value)
                if value == int(value):
                    yield str(int(value))
