"""One normal form of an http URI (RFC 3986 section 6.2), and nothing that is read in two ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.http_uri import MAX_URI, HttpUri, HttpUriError

SAME = [
    ("https://a.example/x", "HTTPS://A.EXAMPLE:443/x"),
    ("http://a.example/", "http://a.example:80"),
    ("http://a.example/", "http://a.example:"),
    ("http://a.example/", "http://a.example?query#fragment"),
    ("https://a.example/~x-._", "https://a.example/%7Ex%2d%2E%5f"),
    ("https://a.example/a%2Fb", "https://a.example/a%2fb?x=/../"),
    ("https://a.example/b", "https://a.example/a/../b"),
    ("https://a.example/b", "https://a.example/./%2e%2E/../b"),
    ("https://a.example/a/", "https://a.example/a/b/.."),
    ("https://a.example/a/", "https://a.example/a/."),
    ("https://[::1]/", "https://[0:0:0:0:0:0:0:1]:443/"),
]
OTHER = [
    ("https://a.example/x", "http://a.example/x"),
    ("https://a.example/x", "https://a.example:8443/x"),
    ("https://a.example/x", "https://a.example./x"),
    ("https://a.example/x", "https://b.example/x"),
    ("https://a.example/x", "https://a.example/X"),
    ("https://a.example/x", "https://a.example/x/"),
    ("https://a.example/x", "https://a.example//x"),
    ("https://a.example/a/b", "https://a.example/a%2Fb"),
    ("https://a.example/a%2Fb", "https://a.example/a%252Fb"),
    ("https://a.example/?x", "https://a.example/%3Fx"),
]
REFUSED = {
    "userinfo": "https://tickets.mesh.example@evil.example/",
    "userinfo with a password": "https://a:b@evil.example/",
    "no scheme": "//a.example/x",
    "no host": "https:///x",
    "another scheme": "ftp://a.example/x",
    "a Kelvin sign in the host": "https://tic\u212aets.example/",
    "an umlaut": "https://m\u00fcnchen.example/",
    "a full-width dot": "https://a\uff0eexample/",
    "a percent-encoded host": "https://%61.example/",
    "a port out of range": "https://a.example:65536/",
    "a port of six digits": "https://a.example:000443/",
    "a port in Arabic digits": "https://a.example:\u0664\u0664\u0663/",
    "a backslash": "https://a.example\\@evil.example/",
    "a backslash in the path": "https://a.example/a\\b",
    "half an escape": "https://a.example/%2",
    "an escape that is none": "https://a.example/%zz",
    "a space": "https://a.example/a b",
    "a newline at the end": "https://a.example/x\n",
    "a letter beyond ASCII": "https://a.example/\u00e9",
    "no IPv6": "https://[::12345]/",
    "a zone": "https://[fe80::1%25eth0]/",
    "a bare bracket": "https://[::1/",
    "a second fragment": "https://a.example/#a#b",
    "too long": "https://a.example/" + "a" * MAX_URI,
    "nothing": "",
}


@pytest.mark.parametrize(("one", "another"), SAME)
def test_spellings_of_one_uri_are_equal(one: str, another: str) -> None:
    assert HttpUri.parse(one) == HttpUri.parse(another)


@pytest.mark.parametrize(("one", "another"), OTHER)
def test_uris_of_two_places_are_not(one: str, another: str) -> None:
    assert HttpUri.parse(one) != HttpUri.parse(another)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(HttpUriError):
        HttpUri.parse(text)


def test_message_holds_no_query() -> None:
    with pytest.raises(HttpUriError) as refused:
        HttpUri.parse("https://a.example/ ?access_token=secret")
    assert "secret" not in str(refused.value)


@given(
    st.text(max_size=60)
    | st.from_regex(r"https?://[a-z.]{1,8}(:[0-9]{0,4})?(/[a-z.%2ef/]{0,12})?", fullmatch=True)
)
def test_any_text_is_a_uri_whose_normal_form_stays_or_our_error(text: str) -> None:
    try:
        uri = HttpUri.parse(text)
    except HttpUriError:
        return
    assert HttpUri.parse(str(uri)) == uri
    assert not {".", ".."} & set(uri.path.split("/"))
