"""Plain HTTP: one spelling of each path, or a refusal."""

import pytest

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.http_path import HttpPath
from authz.protocols.inspect import inspect
from tests.check_requests import FILES, request


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a", "/a", ""),
        ("/a/", "/a/", ""),
        ("/a/b.c/..d/.e/f..", "/a/b.c/..d/.e/f..", ""),
        ("/a?", "/a", ""),
        ("/a?b=c&d=%2f..//;?x", "/a", "b=c&d=%2f..//;?x"),
        ("/a~!$&'()*+,=:@-_b", "/a~!$&'()*+,=:@-_b", ""),
        ("/a%20b", "/a%20b", ""),
        ("/%c3%a9", "/%C3%A9", ""),
        ("/%C3%a9/%22", "/%C3%A9/%22", ""),
    ],
)
def test_accepts_what_every_server_reads_alike(target: str, path: str, query: str) -> None:
    assert HttpPath.parse(target) == HttpPath(path, query)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "?a",
        "*",
        "//",
        "//a",
        "/a//",
        "/a//b",
        "/.",
        "/..",
        "/./a",
        "/../a",
        "/a/.",
        "/a/..",
        "/a/./b",
        "/a/../b",
        "/a;b",
        "/a;x=y/b",
        "/..;/a",
        "/a\\b",
        "/a#b",
        "/a b",
        '/a"b',
        "/a<b",
        "/a[b",
        "/a{b",
        "/a|b",
        "/a^b",
        "/a`b",
        "/a\x00",
        "/a\n",
        "/é",
        "http://a/b",
        "/a%",
        "/a%2",
        "/a%2g",
        "/a%2F",
        "/a%2f",
        "/a%5c",
        "/a%5C",
        "/a%2e",
        "/%2E%2e/a",
        "/a%25",
        "/a%252f",
        "/a%3b",
        "/a%23",
        "/a%3f",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/%61",
        "/a%40",
        "/a%2d",
        "/%ff",
        "/%c0%af",
        "/%c3",
        "/%ed%a0%80",
        "/a?b c",
        "/a?é",
        "/a?b#c",
        "/a?b\x00",
    ],
)
def test_refuses_what_two_servers_read_in_two_ways(target: str) -> None:
    with pytest.raises(InspectionError) as refused:
        HttpPath.parse(target)
    assert refused.value.code == Code.PATH


@pytest.mark.parametrize("byte", range(256))
def test_no_byte_has_two_spellings(byte: int) -> None:
    """A byte may stand in plain or encoded, never both; many may do neither."""
    plain, escaped = f"/a{chr(byte)}b", f"/a%{byte:02X}b"
    accepted = []
    for target in (plain, escaped):
        try:
            accepted.append(HttpPath.parse(target).path)
        except InspectionError:
            continue
    assert len(accepted) <= 1


def test_operation_is_the_method_on_the_path() -> None:
    operation = inspect(request(method="DELETE", path="/reports/7?force=1", headers=()), FILES)
    assert (operation.protocol, operation.method, operation.phase) == ("http", "DELETE", "call")
    assert (operation.resource_type, operation.resource_name) == ("path", "/reports/7")
    assert (operation.arguments, operation.arguments_sha256, operation.rpc_id) == (None, None, None)
    assert operation.wire == "http"


def test_body_of_plain_http_is_not_read() -> None:
    assert inspect(request(b"[not JSON", path="/upload", headers=()), FILES).resource_name == "/upload"
