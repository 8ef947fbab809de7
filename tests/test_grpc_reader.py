"""Plain gRPC: one spelling of each method, and nothing that merely looks like gRPC."""

import pytest

from authz.protocols.inspect import inspect
from authz.protocols.route import Route
from tests.check_requests import request
from tests.reader_vectors import Case, check_case, params_of

LEDGER = Route("ledger", "grpc")
HEADERS = (("content-type", "application/grpc"),)


@pytest.mark.parametrize("case", params_of("grpc"))
def test_call_is_read_as_the_vector_says(case: Case) -> None:
    check_case(case, LEDGER, HEADERS)


def test_a_stream_is_one_call_whose_messages_are_not_read() -> None:
    """A proxy does not hold back a stream, so its size is not known and no body is there."""
    operation = inspect(request(path="/a.B/C", headers=HEADERS, size=-1), LEDGER)
    assert (operation.resource_name, operation.phase, operation.wire) == ("/a.B/C", "call", "grpc")
    assert (operation.arguments, operation.arguments_sha256, operation.payload) == (None, None, None)
