"""SPIFFE IDs, rules ID-1 to ID-6: every byte value at every kind of place, and where IDs come from.

An ID reaches us as text, in a certificate's URI name and in a token's `sub`; all three must say the same.
"""

import contextlib
import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from identity.certificate_authority import CertificateAuthority
from identity.errors import AttestationError, CertificateError, SpiffeIdError, TokenError
from identity.jws import UnverifiedToken
from identity.jwt_svid import issue_jwt_svid, verify_jwt_svid
from identity.keys import SigningKey
from identity.spiffe import MAX_ID_BYTES, SpiffeId, TrustDomain, agent_task_id
from identity.wit_svid import issue_wit_svid
from identity.x509_svid import issue_x509_svid, leaf_spiffe_id
from tests.identity_world import AUDIENCE, NOW, SECONDS, SVID_KEY, SVID_KEYS, TD, forge_bytes, header_of, ulid

LOWER, UPPER, DIGITS = b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
DOMAIN = frozenset(LOWER + DIGITS + b"._-")
SEGMENT = DOMAIN | frozenset(UPPER)
NOTHING: frozenset[int] = frozenset()
# Each place of a byte, and the bytes that may stand there; `%` is where.
PLACES = {
    "before the scheme": (b"%spiffe://td/a", NOTHING),
    "first of the scheme": (b"%piffe://td/a", frozenset(b"s")),
    "within the scheme": (b"spi%fe://td/a", frozenset(b"f")),
    "last of the scheme": (b"spiff%://td/a", frozenset(b"e")),
    "after the scheme": (b"spiffe%://td/a", NOTHING),
    "the colon": (b"spiffe%//td/a", frozenset(b":")),
    "the first slash": (b"spiffe:%/td/a", frozenset(b"/")),
    "the second slash": (b"spiffe:/%td/a", frozenset(b"/")),
    "first of the trust domain": (b"spiffe://%d/a", DOMAIN),
    "within the trust domain": (b"spiffe://t%d/a", DOMAIN | frozenset(b"/")),
    "last of the trust domain": (b"spiffe://t%/a", DOMAIN),
    "all of the trust domain": (b"spiffe://%/a", DOMAIN),
    "end of an ID without a path": (b"spiffe://td%", DOMAIN),
    "the slash of the path": (b"spiffe://td%a", DOMAIN | frozenset(b"/")),
    "first of a segment": (b"spiffe://td/%b", SEGMENT),
    "within a segment": (b"spiffe://td/a%b", SEGMENT | frozenset(b"/")),
    "last of a segment": (b"spiffe://td/a%/b", SEGMENT),
    "all of a segment": (b"spiffe://td/%/b", SEGMENT - frozenset(b".")),
    "between two segments": (b"spiffe://td/a%c/b", SEGMENT | frozenset(b"/")),
    "all of the last segment": (b"spiffe://td/a/%", SEGMENT - frozenset(b".")),
    "end of the ID": (b"spiffe://td/a%", SEGMENT),
    "beside a dot": (b"spiffe://td/.%", SEGMENT - frozenset(b".")),
}
CA = CertificateAuthority.generate(TD, NOW)
KEY = SigningKey.generate()


def is_accepted(text: str) -> bool:
    try:
        spiffe_id = SpiffeId.parse(text)
    except SpiffeIdError:
        return False
    assert str(spiffe_id) == text
    return True


@pytest.mark.parametrize("place", PLACES)
def test_id_1_to_3_every_byte_at_every_place(place: str) -> None:
    """ID-1, ID-2, ID-3: exactly the bytes that the standard allows there, each of the 256 tried."""
    form, allowed = PLACES[place]
    accepted = {
        byte for byte in range(256) if is_accepted(form.replace(b"%", bytes([byte])).decode("latin-1"))
    }
    assert accepted == allowed


@pytest.mark.parametrize("place", PLACES)
def test_id_1_to_3_every_byte_of_utf_8_at_every_place(place: str) -> None:
    """ID-1, ID-2, ID-3: a byte beyond ASCII is part of a character, and none of these may stand there."""
    form, _ = PLACES[place]
    for character in ("ß", "é", "д", "．", "／", "ſ", "\u212a", "\u0130", "\u200b", "\ud800", "\U0001f600"):  # noqa: RUF001 - look-alikes
        assert not is_accepted(form.decode("ascii").replace("%", character))


def test_id_1_one_scheme_one_authority_and_nothing_behind_the_path() -> None:
    """ID-1: no query, no fragment, an authority; and canonical text only, since go-spiffe takes no other."""
    for text in (
        "http://td/a",
        "spiffe:td/a",
        "spiffe:///a",
        "spiffe://",
        "//td/a",
        "spiffe://td/a?",
        "spiffe://td#",
    ):
        assert not is_accepted(text)
    for text in ("Spiffe://td/a", "SPIFFE://td/a", "spiffe://TD/a", "spiffe://Td/a"):
        assert not is_accepted(text)
    assert SpiffeId.parse("spiffe://td/A") != SpiffeId.parse("spiffe://td/a")


def test_id_1_what_we_emit_is_in_lower_case() -> None:
    """ID-1: scheme and trust domain; the path stays as it is."""
    emitted = str(agent_task_id(TD, "triage", ulid(1)))
    assert emitted.startswith("spiffe://mesh.example/")
    with pytest.raises(SpiffeIdError):
        TrustDomain.parse("Mesh.example")


@pytest.mark.parametrize("name", ["_td", "-td.", "1.2.3.4", "localhost", "a", ".", "..", "-", "xn--td", "0"])
def test_id_2_trust_domain_is_no_host_name(name: str) -> None:
    """ID-2: addresses and odd names are as good as any other."""
    assert str(TrustDomain.parse(name)) == name
    assert SpiffeId.parse(f"spiffe://{name}/a").trust_domain.name == name


@pytest.mark.parametrize(
    "name", ["td:443", "u@td", "u:p@td", "t%64", "[::1]", "td ", "", "*", "*.td", "td,td"]
)
def test_id_2_trust_domain_has_no_user_no_port_and_no_encoding(name: str) -> None:
    """ID-2: none of what a URL's authority may have."""
    with pytest.raises(SpiffeIdError):
        TrustDomain.parse(name)
    assert not is_accepted(f"spiffe://{name}/a")


@pytest.mark.parametrize(
    "path", ["/", "//a", "/a/", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/%2e%2e", "/a%2Fb", "/a\\b"]
)
def test_id_3_refuses_empty_segments_and_those_that_move(path: str) -> None:
    """ID-3: two texts never name one path."""
    assert not is_accepted(f"spiffe://td{path}")


@pytest.mark.parametrize("path", ["/...", "/.x", "/x.", "/..x", "/a/.../b", "/-", "/_", "/A/a/0"])
def test_id_3_accepts_dots_that_do_not_move(path: str) -> None:
    """ID-3: `...` and `.x` are valid."""
    assert is_accepted(f"spiffe://td{path}")


@pytest.mark.parametrize(
    "name", ["lead@idp.example", "https://idp.example|lead", "urn:x:y", "a+b", "a=b", "~a"]
)
def test_id_3_no_person_can_stand_in_a_path(name: str) -> None:
    """ID-3: e-mail addresses, `iss|sub` and URNs have characters that a segment has not."""
    assert not is_accepted(f"spiffe://td/principal/{name}")


def test_id_4_at_most_255_bytes_of_trust_domain_and_of_all() -> None:
    """ID-4: the standard allows 2048; `sub` of OpenID Connect allows 255."""
    assert str(TrustDomain.parse("d" * 255)) == "d" * 255
    for length in (256, 2048, 100_000):
        with pytest.raises(SpiffeIdError) as caught:
            TrustDomain.parse("d" * length)
        assert len(str(caught.value)) < 400
    start = "spiffe://td/"
    assert is_accepted(start + "a" * (MAX_ID_BYTES - len(start)))
    for length in (MAX_ID_BYTES + 1, 2048, 2049, 1_000_000):
        assert not is_accepted(start + "a" * (length - len(start)))


def test_id_4_we_generate_nothing_longer() -> None:
    """ID-4: not for a long agent in a long trust domain either."""
    with pytest.raises(SpiffeIdError):
        agent_task_id(TrustDomain.parse("d" * 230), "triage", ulid(1))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x00", "\u2028", "\x85", " ", "\t", "\v", "\f", "\n\n"])
def test_id_5_the_whole_text_counts(end: str) -> None:
    """ID-5: `$` of a pattern would let a final newline pass; py-spiffe does so in both parts."""
    for text in (f"spiffe://td{end}", f"spiffe://td/a{end}", f"spiffe://td{end}/a", f"{end}spiffe://td/a"):
        assert not is_accepted(text)
    with pytest.raises(SpiffeIdError):
        TrustDomain.parse(f"td{end}")


def test_id_6_leaf_has_a_path_and_an_authority_has_none() -> None:
    """ID-6: nothing is issued for a whole trust domain, in any of the three forms."""
    assert TD.spiffe_id.path == ""
    public, end = KEY.private_key.public_key(), NOW + timedelta(minutes=1)
    with pytest.raises(CertificateError):
        issue_x509_svid(ca=CA, spiffe_id=TD.spiffe_id, public_key=public, not_after=end, now=NOW)
    with pytest.raises(TokenError):
        issue_jwt_svid(SVID_KEY, TD.spiffe_id, audience="a", now=NOW, ttl=60, not_after=end)
    with pytest.raises(TokenError):
        issue_wit_svid(SVID_KEY, TD.spiffe_id, public, now=NOW, ttl=60, not_after=end)


# ---------------------------------------------------------------- where IDs come from


def leaf(uri: bytes) -> bytes:
    """Sign a leaf whose one URI name is these bytes, whatever they are."""
    name = bytes([0x86, len(uri)]) + uri
    names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes([0x30, len(name)]) + name)
    usage = x509.KeyUsage(True, *[False] * 8)
    certificate = (
        x509.CertificateBuilder(CA.certificate.subject, x509.Name([]), KEY.private_key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(minutes=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(names, critical=True)
        .sign(CA.key.private_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "place", ["within the trust domain", "within a segment", "end of the ID", "all of a segment"]
)
def test_id_5_every_byte_in_the_name_of_a_certificate(place: str) -> None:
    """ID-5: what a certificate's name says is read by the same rules, byte for byte, or is our error."""
    form, allowed = PLACES[place]
    accepted = set()
    for byte in range(256):
        uri = form.replace(b"%", bytes([byte]))
        with contextlib.suppress(CertificateError):
            assert str(leaf_spiffe_id(leaf(uri))).encode() == uri
            accepted.add(byte)
    assert accepted == allowed


@pytest.mark.parametrize(
    "place", ["within the trust domain", "within a segment", "end of the ID", "all of a segment"]
)
def test_id_5_every_byte_in_the_subject_of_a_token(place: str) -> None:
    """ID-5: raw and escaped; an escape of JSON is another text for the same ID."""
    form, allowed = PLACES[place]
    form = form.replace(b"td", TD.name.encode()).replace(b"t%d", b"mesh%.example")
    header = json.dumps(header_of(SVID_KEY, "JWT")).encode()
    accepted = set()
    for byte in range(256):
        raw = form.replace(b"%", bytes([byte]))
        escaped = form.decode("ascii").replace("%", chr(byte))
        for subject in (b'"' + raw + b'"', json.dumps(escaped).encode()):
            claims = b'{"sub":' + subject + b',"aud":"' + AUDIENCE.encode() + b'","exp":%d}' % (SECONDS + 60)
            with contextlib.suppress(TokenError):
                token = UnverifiedToken.parse(forge_bytes(SVID_KEY, header, claims))
                found = verify_jwt_svid(token, SVID_KEYS, audience=AUDIENCE, now=NOW, leeway=0)
                assert str(found.spiffe_id) == escaped
                accepted.add(byte)
    # A byte in the trust domain makes another one, whose keys nobody has.
    expected = NOTHING if place == "within the trust domain" else allowed
    assert accepted == expected


def test_attested_names_follow_the_same_rules() -> None:
    """ID-3: what Kubernetes calls a service account becomes an ID, or none."""
    from identity.pod_identity import PodIdentity

    assert is_accepted(str(PodIdentity("agents", "runner.v2", "p", "u").workload(TD)))
    for namespace, account in (("..", "c"), ("a", ""), ("a", "c\n"), ("a", "c" * 255)):
        with pytest.raises(AttestationError):
            PodIdentity(namespace, account, "p", "u").workload(TD)
