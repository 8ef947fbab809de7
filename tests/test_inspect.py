"""The protocol is the route's, and what did not arrive whole is refused for every one of them."""

from typing import cast

import pytest

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.inspect import inspect
from authz.protocols.operation import Protocol
from authz.protocols.route import Route
from tests.check_requests import FILES, TICKETS, request

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize("route", [TICKETS, FILES])
@pytest.mark.parametrize(("size", "partial"), [(len(PING), "true"), (len(PING) + 1, "false"), (-1, "false")])
def test_refuses_a_truncated_body(route: Route, size: int, partial: str) -> None:
    with pytest.raises(InspectionError) as refused:
        inspect(request(PING, size=size, partial=partial), route)
    assert refused.value.code == Code.BODY_TRUNCATED


def test_route_decides_the_protocol_and_no_header_does() -> None:
    headers = (("content-type", "text/plain"), ("x-protocol", "http"))
    with pytest.raises(InspectionError):
        inspect(request(PING, headers=headers), TICKETS)
    assert inspect(request(PING, headers=headers), FILES).protocol == "http"
    assert inspect(request(PING), TICKETS).protocol == "mcp"


def test_refuses_a_protocol_without_reader() -> None:
    with pytest.raises(InspectionError) as refused:
        inspect(request(PING), Route("tickets", cast("Protocol", "smtp")))
    assert refused.value.code == Code.SERVICE_UNKNOWN


def test_refusal_for_a_header_is_an_inspection_error() -> None:
    headers = (("content-type", "application/json"), ("content-type", "application/json"))
    with pytest.raises(InspectionError) as refused:
        inspect(request(PING, headers=headers), TICKETS)
    assert (refused.value.code, refused.value.rpc_id) == (Code.HEADER_DUPLICATE, None)
