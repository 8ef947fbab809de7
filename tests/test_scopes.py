"""Scopes: sets of whole tokens."""

import pytest

from identity.scopes import MAX_SCOPES, ScopeError, format_scopes, parse_scopes


def test_round_trip_is_sorted() -> None:
    scopes = parse_scopes("tickets:write tickets:read")
    assert scopes == {"tickets:read", "tickets:write"}
    assert format_scopes(scopes) == "tickets:read tickets:write"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a ",
        " a",
        "a  b",
        "a a",
        "a\tb",
        "a\nb",
        'a"b',
        "a\\b",
        "é",
        "a\u00a0b",
        "a" * 129,
        " ".join(f"s{number}" for number in range(MAX_SCOPES + 1)),
    ],
)
def test_refuses_what_is_not_a_list_of_scopes(text: str) -> None:
    with pytest.raises(ScopeError):
        parse_scopes(text)


@pytest.mark.parametrize("byte", range(256))
def test_every_character_of_a_scope(byte: int) -> None:
    text = f"a{chr(byte)}b"
    if byte == 0x20:
        assert parse_scopes(text) == {"a", "b"}
    elif 0x21 <= byte <= 0x7E and chr(byte) not in '"\\':
        assert parse_scopes(text) == {text}
    else:
        with pytest.raises(ScopeError):
            parse_scopes(text)
