"""Any bytes, and any CheckRequest, become a Request or our own error; nothing else comes out."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.errors import RequestError
from authz.pb import ext_authz_pb2 as pb
from authz.request import MAX_BODY_BYTES, MAX_PATH_CHARS, Request
from tests.check_requests import check_request
from tests.mutations import mutated

_REAL = check_request(
    b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
    certificate="-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----%0A",
    metadata={"envoy.filters.http.mcp": {"method": "ping", "params": {"name": "a"}}},
).SerializeToString()

_texts = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "spiffe://mesh.example/a",
        "GET",
        "POST",
        "/mcp",
        "h:1",
        "[::1]",
        "true",
        "x-envoy-auth-partial-body",
        "a" * 9000,
    ]
)
_headers = st.lists(
    st.fixed_dictionaries(
        {"key": _texts, "value": _texts | st.just(""), "raw_value": st.binary(max_size=20)}
    ),
    max_size=4,
)


def parsed(data: bytes) -> Request | None:
    """Parse, and check what holds for every request."""
    try:
        request = Request.parse(data)
    except RequestError as error:
        assert error.code
        return None
    assert len(request.body) <= MAX_BODY_BYTES
    assert request.path.startswith("/")
    assert len(request.path) <= MAX_PATH_CHARS
    assert request.path.isascii()
    assert request.path.isprintable()
    assert request.host
    assert request.host == request.host.lower()
    assert request.partial or request.size in {len(request.body), -1}
    return request


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    parsed(data)


@given(mutated(_REAL))
def test_any_change_of_a_real_request_is_read_or_refused(data: bytes) -> None:
    parsed(data)


@given(
    http=st.fixed_dictionaries(
        {},
        optional={
            "id": _texts,
            "method": _texts,
            "path": _texts,
            "host": _texts,
            "size": st.integers(-(2**63), 2**63 - 1),
            "body": _texts,
            "raw_body": st.binary(max_size=20),
            "headers": st.dictionaries(_texts, _texts, max_size=3),
            "header_map": st.fixed_dictionaries({"headers": _headers}),
        },
    ),
    principal=_texts,
    certificate=_texts,
    extensions=st.dictionaries(_texts, _texts, max_size=3),
)
def test_any_check_request_is_read_or_refused(
    http: dict[str, Any], principal: str, certificate: str, extensions: dict[str, str]
) -> None:
    message = pb.CheckRequest(
        attributes={
            "source": {"principal": principal, "certificate": certificate},
            "context_extensions": extensions,
            "request": {"http": http},
        }
    )
    parsed(message.SerializeToString())


def test_the_request_that_is_changed_is_accepted() -> None:
    assert parsed(_REAL) is not None
