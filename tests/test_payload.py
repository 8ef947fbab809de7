"""What a class of data is and what it is not; nobody can make the search slow, or see what it found."""

import json
import re
import re._parser as sre_parser  # type: ignore[import-not-found]  # the stubs do not know the parser of `re`
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from authz.payload import contacts, credentials, numbers, text
from authz.payload.classes import MEANINGS, PAYLOAD_CLASSES
from authz.payload.find import find_classes
from authz.payload.text import MAX_CHARS, MAX_PARTS, MAX_PLACES, Page
from identity.names import new_ulid
from tests.calls import count_calls

ALL = frozenset(PAYLOAD_CLASSES)
CARD = "4111111111111111"
MAIL = "jane@example.org"
IBAN = "DE89370400440532013000"


def found(value: object) -> tuple[str, ...]:
    return find_classes(value, ALL)


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# Built here, so that no file of ours looks to a scanner as if it held a credential.
JWT = f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{part({'sub': 'a'})}.{'A' * 86}"
ALNUM = "a1B2c3D4e5F6g7H8i9J0" * 5
HEX = "0123456789abcdef" * 5
TOKENS = [
    "AKIA" + "ABCDEFGH234567XY",
    "ASIA" + "ABCDEFGH234567XY",
    "AIza" + ALNUM[:35],
    "GOCSPX-" + ALNUM[:28],
    "SG." + ALNUM[:22] + "." + ALNUM[:43],
    "dckr_pat_" + ALNUM[:27],
    "dop_v1_" + HEX[:64],
    *(f"gh{kind}_" + ALNUM[:36] for kind in "ohprsu" if kind != "h"),
    "github_pat_" + ALNUM[:22] + "_" + ALNUM[:59],
    "glpat-" + ALNUM[:20],
    "hf_" + "abcDEF" * 5 + "abcd",
    "hvs." + ALNUM[:24],
    "npm_" + ALNUM[:36],
    "pypi-" + "AgEIcHlwaS5vcmc" + ALNUM[:40],
    "rk_live_" + ALNUM[:24],
    "sk_live_" + ALNUM[:24],
    "shpat_" + HEX[:32],
    "sk-" + ALNUM[:20] + "T3BlbkFJ" + ALNUM[:20],
    "sk-" + ALNUM[:48],
    *(f"sk-{kind}-" + ALNUM[:40] for kind in ("admin", "proj", "svcacct", "ant-api03")),
    "sk-or-v1-" + HEX[:64],
    "xapp-1-" + ALNUM[:30],
    *(f"xox{kind}-" + "1234567890-" + ALNUM[:24] for kind in "abeprs"),
    "ya29." + ALNUM[:40],
    JWT,
    f"{part({'alg': 'none'})}.{part({'sub': 'a'})}.",
]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:11])
@pytest.mark.parametrize(
    "around", ["{}", "use {}, please", "TOKEN={}", '{{"token":"{}"}}', "https://x/?t={}&a=1"]
)
def test_token_of_a_known_provider_is_a_secret(token: str, around: str) -> None:
    assert found({"text": around.format(token)}) == ("secret",)


@pytest.mark.parametrize(
    "value",
    [
        "Authorization: Bearer " + ALNUM[:32],
        "AUTHORIZATION: BEARER " + ALNUM[:32],
        "Authorization: Basic " + b64encode(b"jane:correct horse").decode(),
        "postgres://app:c0rrect-horse@db.internal/orders",
        "https://:c0rrect@host.example/",
        "https://a.blob.core.windows.net/c?sv=1&sig=" + "a1B2" * 10 + "abc%3D",
        "AccountName=a;AccountKey=" + "a1B2" * 21 + "ab==",
        "aws_secret_access_key = " + "a1B2/" * 8,
        'export AWS_SECRET_ACCESS_KEY="' + "a1B2+" * 8 + '"',
        {"password": "correct-horse-9"},
        {"clientSecret": "correct-horse-9"},
        {"API_KEY": HEX[:32]},
        {"rows": [{"Api-Key": HEX[:32]}]},
    ],
    ids=str,
)
def test_credential_is_known_by_where_it_stands(value: object) -> None:
    assert found({"value": value}) == ("secret",)


def test_private_key_is_found_in_every_form_that_it_is_kept_in() -> None:
    for key in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words"))
        openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        for armoured in (pem, locked, openssh):
            assert found([armoured.decode()]) == ("private_key",)
            assert found([json.dumps({"key": armoured.decode()})]) == ("private_key",)
            assert found([b64encode(armoured).decode()]) == ("private_key",)
        assert found([b64encode(der).decode()]) == ("private_key",)
        assert found(["".join(openssh.decode().split("\n")[1:-2])]) == ("private_key",)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        assert found([public, b64encode(public.encode()).decode()]) == ()


@pytest.mark.parametrize(
    "value",
    [
        {"kty": "EC", "crv": "P-256", "x": ALNUM[:43], "y": ALNUM[:43], "d": ALNUM[:43]},
        {"keys": [{"kty": "oct", "k": ALNUM[:43]}]},
        "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" + "Q" * 26,
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines-Are-Here-Now: 1",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN RSA PRIVATE KEY-----\\nMIIE",
    ],
    ids=str,
)
def test_private_key_is_known_by_its_armour_or_its_members(value: object) -> None:
    assert found(value) == ("private_key",)


@pytest.mark.parametrize(
    "value",
    [
        *(CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", "card:4111111111111111,", "5555555555554444"),
        *("378282246310005", "3782 822463 10005", "30569309025904", "3056 930902 5904", "6011111111111117"),
        *(
            "3530111333300000",
            "6200000000000005",
            "2223003122003222",
            "2200000000000004",
            "4000000000000000006",
        ),
        *("the next is it: 0327 4111 1111 1111 1111", "4111 1111 1111 1111 123"),
        4111111111111111,
        4111111111111111.0,
        {CARD: True},
        {"rows": [[{"deep": [CARD]}]]},
    ],
    ids=str,
)
def test_card_number(value: object) -> None:
    assert found({"value": value}) == ("card_number",)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "4222222222222",
            "4111111111111112",
            "1234567890123456",
            "9999999999999995",
            "411111111111111",
            "a4111111111111111",
        ),
        *("4111111111111111a", "0.4111111111111111", "4111111111111111.5", "41 11 11 11 11 11 11 11"),
        *("4111-1111 1111-1111", "ORD-4111111111111111"),
        411111111111111,
        -4111111111111111,
        True,
        1e300,
    ],
    ids=str,
)
def test_number_that_is_no_card_number(value: object) -> None:
    assert found({"value": value}) == ()


@pytest.mark.parametrize(
    "value",
    [
        *(IBAN, "DE89 3704 0044 0532 0130 00", "DE89-3704-0044-0532-0130-00", IBAN.lower()),
        *("GB29NWBK60161331926819", "FR14 2004 1010 0505 0001 3M02 606", "NO93 8601 1117 947"),
        *(
            "BE68 5390 0754 7034 EURO 12",
            "MT84MALT011000012345MTLCAST001S",
            "pay DE89 3704 0044 0532 0130 00 EUR",
        ),
    ],
)
def test_iban(value: str) -> None:
    assert found([value]) == ("iban",)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "DE88370400440532013000",
            "DE8937040044053201300",
            "DE89 3704 0044 0532 0130 0012",
            "XX89370400440532",
        ),
        *("xDE89370400440532013000", "DE89370400440532013000x", "DE 89370400440532013000"),
    ],
)
def test_text_that_is_no_iban(value: str) -> None:
    assert found([value]) == ()


@pytest.mark.parametrize(
    "value",
    [
        MAIL,
        f"mail:{MAIL}",
        f"<{MAIL}>",
        "Jane.Doe+tag@mail.example.co.uk.",
        "jane@m\u00fcnchen.example",
        f"mailto:{MAIL}",
    ],
)
def test_email(value: str) -> None:
    assert found([value]) == ("email",)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "git@github.com:a/b.git",
            "ssh://git@host.example/a",
            "npm i @scope/name@1.2.3",
            "icon@2x.png",
            "a@b",
        ),
        *("@app.get", "user@host", "https://user@host.example/", "x@ y.example", "image@sha256:00"),
    ],
)
def test_text_that_is_no_email(value: str) -> None:
    assert found([value]) == ()


@pytest.mark.parametrize(
    "value",
    [
        *(
            "+49 30 1234567",
            "+4915112345678",
            "+1 (555) 234-5678",
            "+1-202-555-0143",
            "tel:+33.1.23.45.67.89",
        ),
        *("call +44 20 7946 0958 today", "+79161234567", "+1 202-555-0143 at 12:30", "+49 30 1234567 12:30"),
    ],
)
def test_phone_number(value: str) -> None:
    assert found([value]) == ("phone",)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "2026-11-21T17:03:41+01:00",
            "+0100",
            "a+4915112345678",
            "+49",
            "+1234567890123456",
            "+1 2 3",
            "C++ 20",
        ),
        *("4915112345678", "+11234567890", "+12341567890", "+1 234 567", "+4915112345678x", "+712345"),
    ],
)
def test_text_that_is_no_phone_number(value: str) -> None:
    assert found([value]) == ()


@pytest.mark.parametrize(
    "value",
    [
        *("SSN 219-09-9998.", "AB123456C", "AB 12 34 56 C", "185057800608491", "1 85 05 78 006 084 91"),
        *("RSSMRA85T10A562S", "756.9217.0769.85", "529.982.247-25"),
    ],
)
def test_national_identity_number(value: str) -> None:
    assert found([value]) == ("national_id",)


FALSE_FRIENDS = [
    *(
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "219-00-9998",
        "219-09-0000",
        "1219-09-9998",
        "219-09-99981",
    ),
    *("BG123456C", "AB123456E", "RSSMRA85T10A562T", "756.9217.0769.86", "529.982.247-26", "111.111.111-11"),
    *(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "11111111-1111-1111-1111-111111111111",
    ),
    *("da39a3ee5e6b4b0d3255bfef95601890afd80709", HEX[:64], "2026-11-21T17:03:41.123456Z", "20261121170341"),
    *("1732208621123", "1732208621123456", "1732208621123456789", "ORD-2026-000123456", "INV 2026/11/000042"),
    *(
        "Bearer of good news",
        "bearer authentication-and-authorization",
        "Basic authentication",
        "Basic abcdefgh",
    ),
    *(
        "eyJub3QiOiJhIGp3dCJ9",
        f"{part({'typ': 'x'})}.{part({})}.aaaa",
        "eyJ...eyJ...aaaaaaaaaaaaaaaa",
        "ey" * 30,
    ),
    *(
        "sk-learn-contrib-and-other-names",
        "ghp_short",
        "AKIA_NOT_A_KEY_AT_ALL",
        "xoxb-no",
        "npm_config_registry=x",
    ),
    *("http://host:8080/a@b", "postgres://app:${PASSWORD}@db/x", "https://user:<password>@host/", "://"),
    *("PRIVATE KEY", "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----\nMIIB", "100% of 50%"),
    *(
        "arn:aws:iam::123456789012:role/deploy",
        "sha256:" + HEX[:64],
        "10.0.0.1",
        "1.2.3.4.5",
        "1-800-FLOWERS",
    ),
]


@pytest.mark.parametrize("value", FALSE_FRIENDS)
def test_id_hash_or_sentence_is_no_class_of_data(value: str) -> None:
    assert found({"value": value, value: 1}) == ()


@pytest.mark.parametrize(
    "value",
    [
        {"password": "secret"},
        {"password": "${DB_PASSWORD}"},
        {"password": "********"},
        {"password": "a sentence about it 1"},
        {"password": {"type": "string", "minLength": 8}},
        {"password": 12345678},
        {"kty": "EC", "crv": "P-256", "x": ALNUM[:43], "y": ALNUM[:43]},
        {"kty": "EC", "d": 5},
        {"kty": "EC", "d": "short"},
        {"token": ALNUM[:30], "cursor": ALNUM, "passwords": "hunter-22"},
    ],
    ids=str,
)
def test_member_without_a_password_in_it_is_no_secret(value: object) -> None:
    assert found(value) == ()


# What is found although somebody wrote it otherwise.
@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("4111\u200b1111\u200b1111\u200b1111", "card_number"),
        ("4\u00ad1\u00ad1\u00ad1111111111111", "card_number"),
        (
            "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
            "card_number",
        ),
        ("4111\u20111111\u20111111\u20111111", "card_number"),
        ("4111\u00a01111\u20071111\u00a01111", "card_number"),
        (
            "\U0001d7d2\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf\U0001d7cf",
            "card_number",
        ),
        (
            "\u0664\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661",
            "card_number",
        ),
        (
            "\u096a\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967\u0967",
            "card_number",
        ),
        ("4111%201111%201111%201111", "card_number"),
        ("%34111111111111111", "card_number"),
        ("jane%40example.org", "email"),
        ("jane\uff20example\uff0eorg", "email"),
        ("ja\u200dne@exam\ufeffple.org", "email"),
        ("%2B4915112345678", "phone"),
        ("\uff0b4915112345678", "phone"),
        ("\uff24\uff2589370400440532013000", "iban"),
        ("\u24b9\u24ba89370400440532013000", "iban"),
        ("-----BEGIN\u2060 PRIVATE KEY-----", "private_key"),
        ("-----BEGIN\u00a0PRIVATE KEY-----", "private_key"),
        (f"first\\n{TOKENS[-3]}\\nlast", "secret"),
        ("gh\u200bp_" + ALNUM[:36], "secret"),
        ("ghp_" + "a\u0301" * 36, "secret"),
        ("219\u201309\u20139998", "national_id"),
    ],
)
def test_disguise_is_seen_through(value: str, name: str) -> None:
    assert found({"value": value}) == (name,)


def test_disguise_is_seen_through_among_many_other_characters() -> None:
    full_width = "".join(chr(ord(char) + 0xFEE0) for char in f"{CARD}!ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert found({"value": f"\u0430\u0431\u0432 \U0001f600 {full_width}"}) == ("card_number",)
    assert found({"value": f"\U0001f600 {CARD} \u00e9"}) == ("card_number",)


# docs/how-to/keep-data-in.md says so; who changes it, changes that.
@pytest.mark.parametrize(
    "value",
    [
        b64encode(CARD.encode()).decode(),
        CARD.encode().hex(),
        CARD[::-1] + "7",
        [CARD[:8], CARD[8:]],
        {"a": CARD[:8], "b": CARD[8:]},
        "%2534111111111111111",
        "four one one one",
        "j\u0430ne@ex\u0430mple dot org",
        "4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1",
        "030 1234567",
    ],
    ids=str,
)
def test_who_wants_to_hide_it_can(value: object) -> None:
    assert found({"value": value}) == ()


def test_each_class_has_a_sentence_and_only_wanted_classes_are_named() -> None:
    everything = {"a": f"{CARD} {MAIL} {IBAN} +4915112345678 219-09-9998", "b": JWT, "kty": "oct", "k": ALNUM}
    assert found(everything) == PAYLOAD_CLASSES == tuple(sorted(MEANINGS))
    for name in PAYLOAD_CLASSES:
        assert find_classes(everything, frozenset({name})) == (name,)
        assert MEANINGS[name]
    assert find_classes(everything, frozenset()) == ()


class Endless(dict[str, object]):
    def values(self) -> list[object]:  # type: ignore[override]  # a list is as good for the walk
        return [self, self]


@pytest.mark.parametrize(
    "value",
    [
        "a" * (MAX_CHARS + 1),
        ["ab"] * (MAX_CHARS // 2),
        [1] * MAX_PARTS,
        "a@ " * (MAX_PLACES + 1),
        b"bytes",
        object(),
        [{"a": ("tuple",)}],
        Endless(a=1),
    ],
    ids=["text", "texts", "parts", "places", "bytes", "object", "tuple", "endless"],
)
def test_what_cannot_be_looked_through_counts_as_everything_wanted(value: object) -> None:
    assert found(value) == PAYLOAD_CLASSES
    assert find_classes(value, frozenset({"email"})) == ("email",)


def test_class_that_nobody_knows_counts_as_found() -> None:
    assert find_classes({}, frozenset({"email", "gossip"})) == ("email", "gossip")


def test_value_of_the_largest_size_is_looked_through() -> None:
    assert found("a" * MAX_CHARS) == ()
    assert found(" " * (MAX_CHARS - len(CARD)) + CARD) == ("card_number",)
    deep: object = CARD
    for _ in range(30_000):
        deep = [deep]
    assert found(deep) == ("card_number",)


def test_what_was_found_is_shown_nowhere() -> None:
    page = Page.parse({"password": "correct-horse-9", "card": CARD}, credentials.TELLING_NAMES)
    assert "correct" not in repr(page)
    assert CARD not in repr(page)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=20,
)


@given(JSON)
def test_any_json_has_an_answer(value: object) -> None:
    assert set(found(value)) <= ALL


@given(st.text(), st.text())
def test_card_is_found_between_whatever_words(before: str, behind: str) -> None:
    assert "card_number" in found(f"{before}\n{CARD}\n{behind}")


# ---- No text costs more than its length.

# Each is one unit of a text made to keep a search busy.
UNITS = [
    *(
        "4444 ",
        "4111111111111112 ",
        "DE00 1111 ",
        "DE00370400440532013000 ",
        "@a.a",
        "a@",
        "+1 ",
        "+49 1 1 1 1 1 ",
    ),
    *(
        "eyJhbGciOiJIUzI1NiJ9.a.",
        "eyJhbGciOiJIUzI1NiJ9.a. ",
        "eyJ",
        "://a:",
        "://",
        "%41",
        "%41a",
        "%",
        "\uff14a",
        "\uff14",
    ),
    *(
        "ghp_aaaaaaaaaaaaaaaaaaaaaaaaa ",
        "1",
        "1 ",
        "1-",
        "a1",
        "aa00",
        "bearer ",
        "bearer aaaaaaaaaaaaaaaaaaaaaaaa ",
    ),
    *(
        "Basic ",
        "Basic aaaaaaaaaaaa ",
        "LS0tLS1CRUdJTi",
        "a.b-c%",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY",
        "\u200b",
    ),
    *(
        "a\u0300\u0323",
        "123-45-0000 ",
        "123.456.789-00 ",
        "AAAAAA00A00A000A ",
        "AB 12 34 56 ",
        "sig=",
        "ccess",
    ),
    *(
        "secret_access_key=",
        "MIIE",
        "\\n",
        "\\",
        "AGE-SECRET-KEY-1",
        "756.0000.0000.00 ",
        "\u0430\u0431",
        "\u2013",
        "a b c ",
    ),
]


@pytest.mark.parametrize("unit", UNITS)
def test_work_grows_no_faster_than_the_text(unit: str) -> None:
    def calls(size: int) -> int:
        value = {"text": unit * (size // len(unit))}
        return count_calls(lambda: find_classes(value, ALL))

    small, large = calls(8_000), calls(64_000)
    assert large <= 8.5 * small + 400
    assert large < 8 * 64_000


def patterns(module: ModuleType) -> Iterator[re.Pattern[str]]:
    for value in vars(module).values():
        if isinstance(value, re.Pattern):
            yield value
        elif isinstance(value, numbers.Form):
            yield value.pattern
        elif isinstance(value, dict):
            yield from (each for each in value.values() if isinstance(each, re.Pattern))
    if module is numbers:
        yield from (form.pattern for form, _ in numbers._NATIONAL)


def longest(tree: object) -> int:
    """How many characters the pattern can look at from one place, taking each repeat at its most."""
    total = 0
    for name, argument in tree:  # type: ignore[attr-defined]  # the parser's own list
        match str(name):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                _, most, inner = argument
                total += min(int(most), 1 << 40) * longest(inner)
            case "SUBPATTERN":
                total += longest(argument[-1])
            case "BRANCH":
                total += sum(longest(branch) for branch in argument[1])
            case "ASSERT" | "ASSERT_NOT":
                total += longest(argument[1])
            case _:
                total += 1
    return total


@pytest.mark.parametrize("module", [contacts, credentials, numbers, text], ids=lambda module: module.__name__)
def test_each_pattern_looks_at_a_bounded_number_of_characters(module: ModuleType) -> None:
    seen = list(patterns(module))
    assert seen
    for pattern in seen:
        if pattern is credentials._PLACEHOLDER:
            continue  # used on one text from its beginning only
        assert longest(sre_parser.parse(pattern.pattern, pattern.flags)) < 2_000, pattern.pattern


def test_ids_of_ours_are_no_class_of_data() -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 21, tzinfo=UTC)
    for number in range(2_000):
        entropy = number.to_bytes(2) * 5
        assert found([new_ulid(now, entropy)]) == ()
