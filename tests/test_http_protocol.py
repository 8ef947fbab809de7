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


FORM = "application/x-www-form-urlencoded"
PART = 'multipart/form-data; boundary="b"'


@pytest.mark.parametrize(
    "query",
    [
        "_method=DELETE",
        "a=b&_method=DELETE",
        "a=b;_method=DELETE",
        "_METHOD=DELETE",
        "%5Fmethod=DELETE",
        "_%6Dethod=DELETE",
        "_method",
        "_method[]=DELETE",
        ".method=DELETE",
        "[method=DELETE",
        "%20_method=DELETE",
        "+_method=DELETE",
        "+method=DELETE",
        "%00_method=DELETE",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_parameter_turns_the_request_into_another(method: str, query: str) -> None:
    """Rails, Laravel, Symfony and WordPress run a POST with `_method=DELETE` as DELETE."""
    with pytest.raises(InspectionError) as refused:
        inspect(request(method=method, path=f"/reports/7?{query}", headers=()), FILES)
    assert refused.value.code == Code.REQUEST_MALFORMED
    assert "DELETE" not in str(refused.value)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"_method=DELETE"),
        (FORM, b"a=b&_method=DELETE"),
        (FORM, b"a=b&%5F%6d%65thod=DELETE"),
        (FORM, b"+.method=DELETE"),
        (FORM, b"a=b&" + b"+" * 100 + b"_method=DELETE"),
        (FORM, b"%20" * 100_000 + b"_method=DELETE"),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"_method=DELETE"),
        ("text/plain, " + FORM, b"_method=DELETE"),
        (PART, b'--b\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--b--'),
        (PART, b"--b\r\ncontent-disposition: form-data; NAME=_method\r\n\r\nDELETE\r\n--b--"),
        (PART, b"--b\r\nContent-Disposition: form-data; name='_method'\r\n\r\nDELETE\r\n--b--"),
        (PART, b"--b\r\nContent-Disposition: form-data; name*=utf-8''_method\r\n\r\nDELETE\r\n--b--"),
        (PART, b"--b\r\nContent-Disposition: form-data; name*=UTF-8'en'%5fm%65thod\r\n\r\nDELETE\r\n--b--"),
        (PART, b'--b\r\nContent-Disposition: form-data; name="\\_method"\r\n\r\nDELETE\r\n--b--'),
        ("application/json", b'{"_method":"DELETE"}'),
        ("application/json", b'{"\\u005Fmethod" : "DELETE"}'),
        ("application/vnd.api+json", b'{"a":1,"_method":"DELETE"}'),
        (None, b"_method=DELETE"),
        (None, b'{"_method":"DELETE"}'),
        (None, b'--b\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--b--'),
    ],
)
def test_no_form_turns_a_post_into_another_method(content_type: str | None, body: bytes) -> None:
    headers = () if content_type is None else (("content-type", content_type),)
    with pytest.raises(InspectionError) as refused:
        inspect(request(body, path="/reports/7", headers=headers), FILES)
    assert refused.value.code == Code.REQUEST_MALFORMED


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"payment_method=card&method=x&a=_method"),
        (FORM, b"_methods=x&x_method=y&_method_name=z"),
        (PART, b'--b\r\nContent-Disposition: form-data; name="payment_method"\r\n\r\nx\r\n--b--'),
        ("application/json", b'{"payment_method":"card","a":"_method"}'),
        ("application/octet-stream", b"a&_method=DELETE"),
    ],
)
def test_other_words_in_a_body_turn_nothing(content_type: str, body: bytes) -> None:
    headers = (("content-type", content_type),)
    assert inspect(request(body, path="/reports/7", headers=headers), FILES).method == "POST"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("content-type", FORM), ("content-encoding", "gzip")], b"\x1f\x8b"),
        ([("content-type", "application/json"), ("content-encoding", "br")], b"\x0b"),
        ([("content-encoding", "deflate")], b"x"),
        ([("content-type", f"{FORM}; charset=utf-16")], "_method=DELETE".encode("utf-16")),
        ([("content-type", "application/json; charset=UTF-16LE")], '{"_method":""}'.encode("utf-16-le")),
        ([("content-type", f'{FORM}; charset="utf-7"')], b"+AF8-method=DELETE"),
    ],
)
def test_no_body_hides_a_method_in_its_encoding(headers: list[tuple[str, str]], body: bytes) -> None:
    """Servers unpack a form before they look for `_method` in it."""
    with pytest.raises(InspectionError) as refused:
        inspect(request(body, path="/reports/7", headers=headers), FILES)
    assert refused.value.code == Code.BODY_ENCODING


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "application/x-protobuf"), ("content-encoding", "gzip")],
        [("content-type", f"{FORM}; charset=UTF-8"), ("content-encoding", "Identity")],
    ],
)
def test_what_holds_no_form_may_be_compressed(headers: list[tuple[str, str]]) -> None:
    assert inspect(request(b"x", path="/reports/7", headers=headers), FILES).method == "POST"


@pytest.mark.parametrize("name", ["x_http_method_override", "x-http_method-override", "x_original_url"])
def test_no_header_with_underscores_turns_the_request_into_another(name: str) -> None:
    """What CGI, WSGI and Rack make of a header has underscores, however it was written."""
    with pytest.raises(InspectionError) as refused:
        inspect(request(method="POST", path="/reports/7", headers=[(name, "DELETE")]), FILES)
    assert refused.value.code == Code.REQUEST_MALFORMED
    inspect(request(method="POST", path="/reports/7", headers=[("x_other", "DELETE")]), FILES)


def test_only_a_post_is_turned_by_its_body() -> None:
    headers = (("content-type", FORM),)
    put = inspect(request(b"_method=DELETE", method="PUT", path="/reports/7", headers=headers), FILES)
    assert put.method == "PUT"


def test_query_that_other_words_stand_in_is_no_method() -> None:
    path = "/reports?payment_method=card&method=x&q=_method"
    assert inspect(request(method="GET", path=path, headers=()), FILES).resource_name == "/reports"
