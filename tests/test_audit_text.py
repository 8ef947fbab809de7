"""Text of strangers in a record: no line, no control, no token, no surprise."""

import pytest

from authz.audit.text import ascii_name, name, optional_name, sentence

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJsZWFkIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("read_ticket", "read_ticket"),
        ("Überweisung 送金", "Überweisung 送金"),
        ("", ""),
        ('a\n{"seq":9}', 'a\\x0a{"seq":9}'),
        ("a\r\x00\x1b[2J", "a\\x0d\\x00\\x1b[2J"),
        ("a\u2028b\u0085c", "a\\u2028b\\x85c"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("C:\\x0a", "C:\\\\x0a"),
    ],
)
def test_name_has_printable_characters_only(text: str, written: str) -> None:
    assert name(text) == written
    assert optional_name(text) == written


def test_missing_name_stays_missing() -> None:
    assert optional_name(None) is None


def test_two_names_never_become_one() -> None:
    names = [
        "a\n",
        "a\\n",
        "a\\x0a",
        "a\\\\x0a",
        "a",
        "a" * 255,
        "a" * 256,
        "a" * 257,
        "a" * 300 + "b",
        "a" * 301,
    ]

    assert len({name(text) for text in names}) == len(names)


def test_long_name_ends_in_a_hash_of_the_whole() -> None:
    written = name("x" * 1_000_000)

    assert len(written) == 255
    assert written.startswith("x" * 238 + "~")


@pytest.mark.parametrize("write", [name, sentence, lambda text: ascii_name(text, 100)])
@pytest.mark.parametrize("around", ["{}", "Bearer {}", "token={}&x=1", "'{}'", "é{}", "\n{}\n"])
def test_token_in_a_text_is_replaced(write: "object", around: str) -> None:
    assert callable(write)
    written = write(around.format(TOKEN))

    assert "eyJ" not in written
    assert "[redacted]" in written


@pytest.mark.parametrize("text", ["keyJsonExport", "eyJ", "monkeyJungle.v2", "eyJustAName"])
def test_name_that_only_looks_like_a_token_stays(text: str) -> None:
    assert name(text) == text


def test_token_that_is_cut_by_the_limit_is_replaced_too() -> None:
    written = name("x" * 200 + " " + TOKEN + "y" * 400)

    assert "eyJ" not in written


def test_ascii_name_is_one_byte_a_character() -> None:
    assert ascii_name("naïve", 50) == "na\\xefve"
    assert len(ascii_name("é" * 1000, 60).encode()) == 60


def test_sentence_keeps_its_backslashes_and_is_bounded() -> None:
    assert sentence("not a name: 'a\\n'") == "not a name: 'a\\n'"
    assert sentence("a\nb") == "a\\x0ab"
    assert len(sentence("word " * 1000)) == 512
