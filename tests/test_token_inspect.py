"""`deputy token inspect`: files, standard input, keys, exit codes; what it must never show."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authz import cli
from authz.commands import token as token_commands
from identity.authority import Authority
from identity.base64url import encode_base64url
from identity.bundle import JWT_USE
from identity.delegation import issue_delegation_token
from identity.dialect import Dialect
from identity.inspect_keys import TrustMaterial
from identity.inspection import InspectionError
from identity.keys import SigningKey
from identity.token_inspection import MAX_TOKEN, TokenReport, inspect_token
from identity.transaction import TransactionIssuer
from tests.identity_world import (
    ISSUER,
    NOW,
    SECONDS,
    STRANGER_KEY,
    TD,
    TOKEN_KEY,
    caller,
    delegation,
    forge,
    forge_bytes,
    grant,
    header_of,
    hop,
)

ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e\u2066"
Inspect = Callable[..., tuple[int, str, str]]


def jwks(*keys: SigningKey, **more: object) -> bytes:
    return json.dumps({"keys": [dict(key.public.jwk()) | more for key in keys]}).encode()


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def own(**changes: Any) -> str:
    times = {"issued_at": now(), "expires_at": now() + 3600}
    return issue_delegation_token(TOKEN_KEY, delegation(**(times | changes)))


def report(text: str, keys: bytes | None = None) -> TokenReport:
    return inspect_token(text, None if keys is None else TrustMaterial.parse(keys), NOW)


def signed(**claims: object) -> str:
    right = {
        "iss": ISSUER,
        "sub": "alice",
        "sub_profile": "user",
        "aud": "https://x.example",
        "scope": "x",
        "exp": SECONDS + 60,
        "iat": SECONDS,
        "jti": "j",
        "client_id": "c",
        "cnf": {"jkt": "x"},
        "act": {"iss": ISSUER, "sub": "agent-1", "sub_profile": "ai_agent", "client_id": "c"},
    }
    return forge(TOKEN_KEY, header_of(TOKEN_KEY, "at+jwt"), right | claims)


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inspect:
    if all(group.name != "token" for group in cli.app.registered_groups):
        monkeypatch.setattr(cli.app, "registered_groups", list(cli.app.registered_groups))
        cli.app.add_typer(token_commands.app, name="token")

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run(["token", "inspect", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def token(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "token").write_text(text + "\n", "utf-8")
        return str(tmp_path / "token")

    return write


@pytest.fixture
def keys(tmp_path: Path) -> str:
    (tmp_path / "keys.json").write_bytes(jwks(TOKEN_KEY))
    return str(tmp_path / "keys.json")


def test_without_keys_the_caller_is_called_unverified(inspect: Inspect, token: Callable[[str], str]) -> None:
    path = token(own())
    code, out, err = inspect(path)
    assert (code, err) == (0, "")
    assert "unverified caller  deputy" in out
    assert "NOT VERIFIED  nothing is verified" in out
    code, out, err = inspect(path, "-o", "json")
    row = json.loads(out)
    assert code == 0
    assert (row["version"], row["ok"], row["dialect"]) == ("deputy.token-inspection/v1", True, "deputy")
    assert row["caller"] is None
    assert row["unverified_caller"]["human"] == {"issuer": "https://idp.example", "subject": "lead"}
    assert row["unverified_caller"]["presenter"]["sub"] == "spiffe://mesh.example/agent/triage"
    assert "NOTHING IS VERIFIED" in err


def test_with_the_issuers_keys_it_is_verified(
    inspect: Inspect, token: Callable[[str], str], keys: str
) -> None:
    path = token(own(chain=(hop("triage", 1), hop("resolver", 2))))
    code, out, err = inspect(path, "--jwks", keys)
    assert (code, err) == (0, "")
    assert "VERIFIED  the signature is right" in out
    assert "unverified" not in out
    assert "for        spiffe://mesh.example/agent/resolver" in out
    code, out, err = inspect(path, "--jwks", keys, "-o", "json")
    row = json.loads(out)
    assert (code, err, row["unverified_caller"]) == (0, "", None)
    assert [one["instance"] for one in row["caller"]["chain"]] == [hop("x", 1).task, hop("x", 2).task]
    assert inspect(path, "-o", "name")[1] == "deputy\n"


def test_a_refused_token_is_exit_3_with_one_reason(inspect: Inspect, token: Callable[[str], str]) -> None:
    inverted = signed(sub="spiffe://mesh.example/agent/a", sub_profile=None, act={"sub": "alice@x.example"})
    code, out, _ = inspect(token(inverted))
    assert code == 3
    assert "inverted-act" in out
    assert "REFUSED       ID-01: `sub` and `act` have changed places" in out
    assert "unverified caller" not in out
    code, out, _ = inspect(token(inverted), "-o", "json")
    row = json.loads(out)
    assert (code, row["ok"], row["unverified_caller"], row["caller"]) == (3, False, None, None)
    assert (row["refused"]["rule"], row["refused"]["severity"]) == ("ID-01", "error")


def test_a_wrong_signature_is_exit_3_whatever_else_it_says(
    inspect: Inspect, token: Callable[[str], str], keys: str
) -> None:
    path = token(own()[:-8] + "AAAAAAAA")
    assert inspect(path)[0] == 0
    code, out, _ = inspect(path, "--jwks", keys)
    assert code == 3
    assert "REFUSED  its signature is wrong" in out
    assert "caller" not in out.replace("whoever", "")


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml", "name"])
def test_cl03_neither_token_nor_signature_is_printed(
    inspect: Inspect, token: Callable[[str], str], keys: str, form: str
) -> None:
    """CL-03."""
    text = own()
    nested = signed(acr=text, kid=text, may_act={"sub": text})
    for one in (text, nested):
        for arguments in ((), ("--jwks", keys)):
            _, out, err = inspect(token(one), "-o", form, *arguments)
            for part in (*one.split("."), *text.split(".")[1:]):
                assert part not in out + err
                assert part[:40] not in out + err


@pytest.mark.parametrize("arguments", [(), ("--jwks", "keys.json"), ("-o", "json")])
def test_a_token_as_an_argument_is_refused_and_not_repeated(
    inspect: Inspect, arguments: tuple[str, ...]
) -> None:
    other = f"ewogICJhbGciOiAiRVMyNTYi.{'a' * 200}.{'b' * 86}"
    for text in (own(), other, other + ".c.d"):
        code, out, err = inspect(text, *arguments)
        assert (code, out) == (1, "")
        assert "treat this one as exposed" in err
        assert text[:30] not in err
    code, out, err = inspect("token", "--jwks", own())
    assert (code, out) == (1, "")
    assert "exposed" in err


def test_standard_input_is_read_within_bounds(inspect: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= MAX_TOKEN + 3
            return b"x" * size

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Endless()))
    code, out, err = inspect("-")
    assert (code, out) == (1, "")
    assert f"longer than {MAX_TOKEN} characters" in err
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(own().encode() + b"\r\n")))
    assert inspect()[0] == 0


def test_an_endless_file_is_read_within_bounds(inspect: Inspect, token: Callable[[str], str]) -> None:
    assert inspect("/dev/zero")[0] == 1
    assert inspect(token(own()), "--jwks", "/dev/zero")[0] == 1


def test_standard_input_cannot_be_both(inspect: Inspect) -> None:
    code, _, err = inspect("-", "--jwks", "-")
    assert code == 1
    assert "not both" in err


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"a.b", b"a.b.c.d", "ä.b.c".encode()])
def test_what_is_no_token_is_one_sentence(inspect: Inspect, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    code, out, err = inspect(str(tmp_path / "file"))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_one_sentence(inspect: Inspect, tmp_path: Path, name: str) -> None:
    code, out, err = inspect(str(tmp_path / name))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml", "name"])
def test_a_token_cannot_steer_the_terminal(inspect: Inspect, token: Callable[[str], str], form: str) -> None:
    actor = {"iss": ESCAPE, "sub": ESCAPE, "sub_profile": ESCAPE, ESCAPE: ESCAPE, "act": {"sub": ESCAPE}}
    claims: dict[str, Any] = dict.fromkeys(("iss", "sub", "aud", "scope", "azp", "exp", "idtyp"), ESCAPE)
    header = header_of(TOKEN_KEY, "JWT") | {"kid": ESCAPE, "alg": ESCAPE}
    code, out, err = inspect(
        token(forge(TOKEN_KEY, header, claims | {"act": actor, "cnf": {ESCAPE: 1}})), "-o", form
    )
    assert code == 3
    assert out.replace("\n", "").isprintable()
    assert err.replace("\n", "").isprintable()


def test_the_help_teaches_with_examples(inspect: Inspect) -> None:
    code, out, _ = inspect("--help")
    assert code == 0
    assert "deputy token inspect token.jwt --jwks keys.json" in out


def test_jw02_only_the_named_key_of_the_set_is_asked() -> None:
    """JW-02."""
    text = signed()
    assert report(text, jwks(TOKEN_KEY)).caller is not None
    for keys in (jwks(STRANGER_KEY), jwks(), jwks(STRANGER_KEY, kid="other")):
        told = report(text, keys)
        assert (told.verification, told.caller, told.unverified_caller) == ("failed", None, None)
        assert told.refusal is not None
        assert told.refusal.rule == "JW-02"
    for header in ({"alg": "ES256"}, {"alg": "ES256", "kid": ["x"]}):
        assert report(forge(TOKEN_KEY, header, {}), jwks(TOKEN_KEY)).verification == "failed"


def test_jw01_a_token_signed_by_another_key_of_that_name_is_refused() -> None:
    """JW-01."""
    told = report(signed(), jwks(STRANGER_KEY, kid=TOKEN_KEY.kid))
    assert told.refusal is not None
    assert (told.refusal.rule, told.refusal.claim) == ("JW-01", "signature")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384"])
def test_jw01_the_header_does_not_choose_the_algorithm(algorithm: str) -> None:
    """JW-01."""
    header = header_of(TOKEN_KEY, "at+jwt") | {"alg": algorithm}
    claims = json.loads('{"iss": "https://x.example", "sub": "a"}')
    told = report(forge(TOKEN_KEY, header, claims), jwks(TOKEN_KEY))
    assert (told.verification, told.caller) == ("failed", None)
    assert told.refusal is not None
    assert (told.refusal.rule, told.refusal.claim) == ("JW-01", "header.alg")


def test_jw01_an_unsigned_token_is_told_as_what_it_is() -> None:
    """JW-01."""
    text = forge(TOKEN_KEY, {"alg": "none", "typ": "at+jwt", "kid": "k"}, {"sub": "a"}).rpartition(".")[0]
    told = report(text + ".")
    assert ("JW-01", "header.alg") in {(one.rule, one.claim) for one in told.findings}
    assert told.unverified_caller is None


def test_the_key_of_a_jwt_svid_never_vouches_for_a_human() -> None:
    authority = Authority.generate(TD, NOW)
    bundle = json.dumps(authority.bundle()).encode()
    key = authority.jwt_key
    claims = {"sub": "alice", "iss": ISSUER, "aud": "https://x.example", "exp": SECONDS + 60}
    assert report(forge(key, header_of(key, "at+jwt"), claims), bundle).verification == "failed"
    svid = forge(key, header_of(key, "JWT"), claims | {"sub": "spiffe://mesh.example/ns/a/sa/b"})
    told = report(svid, bundle)
    assert (told.dialect, told.verification, told.caller) == (Dialect.JWT_SVID, "verified", None)
    assert JWT_USE in TrustMaterial.parse(bundle).keys


def test_jw07_a_set_with_a_private_or_symmetric_key_is_refused() -> None:
    """JW-07."""
    for secret in ({"d": "AAAA"}, {"kty": "oct", "k": "AAAA"}):
        with pytest.raises(InspectionError):
            report(signed(), jwks(TOKEN_KEY, **secret))


def test_a_refused_token_stays_refused_with_a_right_signature() -> None:
    told = report(signed(aud=["https://a.example", "https://b.example"]), jwks(TOKEN_KEY))
    assert (told.verification, told.caller, told.unverified_caller) == ("verified", None, None)
    assert told.refusal is not None
    assert told.refusal.rule == "NR-03"


def test_our_transaction_token_gives_back_human_and_agents() -> None:
    issuer = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60)
    told = report(issuer.issue(grant(), caller(), NOW, bytes).token, jwks(TOKEN_KEY))
    assert told.dialect is Dialect.TRANSACTION_TOKEN
    assert told.caller is not None
    assert told.caller.human is not None
    assert told.caller.human.uri == "https://idp.example#lead"
    assert told.caller.presenter.instance == hop("triage", 1).task


def test_jw03_an_encrypted_token_is_refused() -> None:
    """JW-03."""
    header = encode_base64url(b'{"alg":"dir","enc":"A256GCM"}')
    told = report(f"{header}..aa.bb.cc")
    assert told.refusal is not None
    assert told.refusal.rule == "JW-03"


@pytest.mark.parametrize(
    ("header", "claims", "rule"),
    [
        (b'{"alg":"ES256","alg":"none"}', b"{}", "JW-05"),
        (b'{"alg":"ES256"}', b'{"sub":"a","sub":"b"}', "JW-05"),
        (b'{"alg":"ES256"}', b'{"sub":"a","s\\u0075b":"b"}', "JW-05"),
        (b'{"alg":"ES256"}', b'{"exp":NaN}', "JW-05"),
        (b'{"alg":"ES256"}', b'{"exp":1e400}', "JW-05"),
        (b'{"alg":"ES256"}', b'{"exp":' + b"9" * 400 + b"}", "JW-05"),
        (b'{"alg":"ES256"}', b'{"sub":"\xff"}', "JW-05"),
        (b'{"alg":"ES256"}', b'{"sub":"\\ud800"}', "JW-05"),
        (b'{"alg":"ES256"}', b"[]", "JW-05"),
        (b'{"alg":"ES256"}', b"{} {}", "JW-05"),
        (b"[]", b"{}", "JW-05"),
        (b"{", b"{}", "JW-05"),
        (b'{"x":' * 33 + b"1" + b"}" * 33, b"{}", "JW-05"),
        (b'{"alg":"ES256"}', b'{"act":' * 33 + b"1" + b"}" * 33, "ID-04"),
        (b'{"alg":"ES256"}', b'{"act":' * 1400 + b"{}" + b"}" * 1400, "ID-04"),
        (b'{"alg":"ES256"}', json.dumps({f"k{n}": 1 for n in range(600)}).encode(), "JW-05"),
    ],
)
def test_jw05_what_has_two_readings_is_refused_before_it_is_read(
    header: bytes, claims: bytes, rule: str
) -> None:
    """JW-05."""
    told = report(forge_bytes(TOKEN_KEY, header, claims), jwks(TOKEN_KEY))
    assert (told.dialect, told.verification, told.unverified_caller) == (Dialect.OTHER, "failed", None)
    assert told.refusal is not None
    assert told.refusal.rule == rule


@pytest.mark.parametrize("bad", ["a=", "a+b", "a/b", " a", "a", "aaaaa", "Zh"])
def test_jw05_base64url_has_one_form(bad: str) -> None:
    """JW-05."""
    good = signed().split(".")
    for place in range(3):
        parts = [*good[:place], bad, *good[place + 1 :]]
        told = report(".".join(parts))
        assert told.refusal is not None
        assert told.refusal.rule == "JW-05"


def test_jw05_a_token_longer_than_16_kb_is_not_read() -> None:
    """JW-05."""
    report(signed(scope="x" * 100))
    with pytest.raises(InspectionError):
        report("a" * (MAX_TOKEN + 1))
    with pytest.raises(InspectionError):
        report(signed(x="x" * MAX_TOKEN))


@pytest.mark.parametrize("typ", [7, None, ["JWT"], "\uff41t+jwt", "at+jwt\u212a"])
def test_jw04_a_type_that_is_no_media_type_is_no_type_of_ours(typ: object) -> None:
    """JW-04."""
    told = report(forge(TOKEN_KEY, header_of(TOKEN_KEY, None) | {"typ": typ}, {"sub": "a"}))
    assert told.dialect is Dialect.OTHER


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_jw04_a_type_has_its_long_form_and_no_case(typ: str) -> None:
    """JW-04."""
    claims = {"sub": "a", "client_id": "b"}
    told = report(forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), claims))
    assert told.dialect is Dialect.AUTHORIZED_PARTY


def test_the_signature_is_in_no_repr() -> None:
    text = signed()
    told = report(text, jwks(TOKEN_KEY))
    assert text.rpartition(".")[2][:20] not in repr(told)
    assert len(repr(told)) < 20_000
