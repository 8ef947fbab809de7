"""People's tokens: whatever a provider signs is read as a person or refused; wherever an address hides."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.broker.access_token import verify_person_access_token
from authz.broker.fetch_address import is_allowed
from authz.broker.id_token import IdentityProvider, verify_id_token
from authz.broker.person_token import PersonToken
from identity.errors import TokenError
from identity.jws import UnverifiedToken
from tests.identity_world import ISSUER, LEEWAY, NOW, SECONDS, TOKEN_KEY, TOKEN_KEYS, forge, header_of

PROVIDER = IdentityProvider("https://idp.example", frozenset({"runner"}))
# What a claim is, where it is not what it should be.
SCALARS = st.none() | st.booleans() | st.integers(-1, 2**53 - 1) | st.text(max_size=12)
ODD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
RIGHT: dict[str, Any] = {
    "iss": PROVIDER.issuer,
    "sub": "lead",
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "auth_time": SECONDS,
    "sid": "s",
    "azp": "runner",
    "groups": ["lead"],
    "amr": ["pwd"],
    "acr": "1",
}
OF_KIND: dict[str, dict[str, Any]] = {
    "id_token": {**RIGHT, "aud": "runner", "typ": "ID"},
    "access_token": {**RIGHT, "aud": ISSUER, "typ": "Bearer"},
}
OPTIONAL = ["may_act", "act", "cnf", "events", "client_id", "scope", "scp", "token_use", "nbf"]


def read(claims: dict[str, Any], kind: str) -> PersonToken | None:
    text = forge(TOKEN_KEY, header_of(TOKEN_KEY, "JWT"), claims)
    try:
        token = UnverifiedToken.parse(text)
        if kind == "id_token":
            return verify_id_token(token, TOKEN_KEYS, PROVIDER, NOW, LEEWAY)
        return verify_person_access_token(
            token, TOKEN_KEYS, PROVIDER, audience=ISSUER, now=NOW, leeway=LEEWAY
        )
    except TokenError:
        return None


@given(
    st.sampled_from(sorted(OF_KIND)),
    st.dictionaries(st.sampled_from([*RIGHT, "aud", "typ", *OPTIONAL]), ODD, max_size=3),
    st.sets(st.sampled_from([*RIGHT, "aud", "typ"]), max_size=2),
)
def test_whatever_a_provider_signs_is_a_person_or_our_error(
    kind: str, changes: dict[str, Any], left_out: set[str]
) -> None:
    claims = {**OF_KIND[kind], **changes}
    found = read({name: value for name, value in claims.items() if name not in left_out}, kind)
    if found is not None:
        assert (found.kind, found.human.issuer) == (kind, PROVIDER.issuer)
        assert found.client.client_id == "runner" != found.human.subject
        assert found.issued_at <= SECONDS + LEEWAY < found.expires_at + 2 * LEEWAY
        assert "act" not in claims.keys() - left_out
        assert "cnf" not in claims.keys() - left_out


@given(st.sampled_from(sorted(OF_KIND)), st.sampled_from(sorted(OF_KIND)))
def test_a_right_token_counts_as_its_own_kind_only(kind: str, asked: str) -> None:
    assert (read(OF_KIND[kind], asked) is not None) == (kind == asked)


@given(st.ip_addresses(v=4), st.booleans(), st.booleans())
def test_an_ipv4_address_hides_nowhere(address: IPv4Address, loopback: bool, private: bool) -> None:
    """JW-07: mapped, compatible, NAT64, 6to4."""
    plain = is_allowed(address, loopback=loopback, private=private)
    number = int(address)
    for hidden in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert is_allowed(IPv6Address(hidden), loopback=loopback, private=private) == plain
    if number > 1:
        assert is_allowed(IPv6Address(number), loopback=loopback, private=private) == plain


@given(st.ip_addresses())
def test_what_is_allowed_is_allowed_with_more_permission(address: IPv4Address | IPv6Address) -> None:
    for loopback in (False, True):
        for private in (False, True):
            if is_allowed(address, loopback=False, private=False):
                assert is_allowed(address, loopback=loopback, private=private)
