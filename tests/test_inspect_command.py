"""`deputy identity inspect` as a command: files, standard input, exit codes, terminals."""

import io
import json
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from authz.cli import run
from identity.authority import Authority
from identity.inspection import MAX_INPUT
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from tests.identity_world import TD, forge, header_of

AUTHORITY = Authority.generate(TD, datetime.now(UTC))
AUDIENCE = "https://tickets.mesh.example"
WEB = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/web")
ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e\u2066"
Inspect = Callable[..., tuple[int, str, str]]


def token(**claims: object) -> str:
    now = datetime.now(UTC)
    if not claims:
        return AUTHORITY.issue_jwt_svid(WEB, AUDIENCE, now, 60, now + timedelta(hours=1))
    key = AUTHORITY.jwt_key
    right = {"sub": str(WEB), "aud": [AUDIENCE], "exp": int(now.timestamp()) + 60}
    return forge(key, header_of(key, "JWT"), right | claims)


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Inspect:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["identity", "inspect", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    (tmp_path / "bundle.json").write_text(json.dumps(AUTHORITY.bundle()))
    return str(tmp_path / "bundle.json")


def test_without_keys_it_says_loudly_that_nothing_is_verified(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token())
    code, out, err = inspect(str(tmp_path / "token"))
    assert (code, err) == (0, "")
    assert "NOT VERIFIED  NOTHING IS VERIFIED" in out
    code, out, err = inspect(str(tmp_path / "token"), "-o", "json")
    assert code == 0
    assert json.loads(out)["found"][0]["verified"] is False
    assert "NOTHING IS VERIFIED" in err


def test_with_keys_and_audience_it_verifies(inspect: Inspect, tmp_path: Path, bundle: str) -> None:
    (tmp_path / "token").write_text(token())
    code, out, err = inspect(
        str(tmp_path / "token"), "--bundle", bundle, "--audience", AUDIENCE, "-o", "json"
    )
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert (row["version"], row["ok"]) == ("deputy.identity-inspection/v1", True)
    assert row["found"][0]["verified"] is True
    rules = {(one["rule"], one["outcome"]) for one in row["found"][0]["rules"]}
    assert {("J-1", "ok"), ("J-9", "ok")} <= rules
    assert inspect(str(tmp_path / "token"), "-o", "name")[1] == "jwt-svid\n"


def test_a_broken_rule_and_a_wrong_signature_are_exit_3(
    inspect: Inspect, tmp_path: Path, bundle: str
) -> None:
    (tmp_path / "token").write_text(token(aud=[]))
    assert inspect(str(tmp_path / "token"))[0] == 3
    (tmp_path / "token").write_text(token()[:-8] + "AAAAAAAA"[:7] + "A")
    code, out, _ = inspect(str(tmp_path / "token"), "--bundle", bundle)
    assert code == 3
    assert "REFUSED" in out


def test_standard_input_is_read_within_bounds(inspect: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= MAX_INPUT + 1
            return b"x" * size

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Endless()))
    code, out, err = inspect("-")
    assert (code, out) == (1, "")
    assert "longer than 262144 bytes" in err
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(token().encode())))
    assert inspect()[0] == 0


def test_an_endless_file_is_read_within_bounds(inspect: Inspect) -> None:
    assert inspect("/dev/zero")[0] == 1


def test_standard_input_cannot_be_both(inspect: Inspect) -> None:
    code, _, err = inspect("-", "--bundle", "-")
    assert code == 1
    assert "not both" in err


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_one_sentence(inspect: Inspect, tmp_path: Path, name: str) -> None:
    code, out, err = inspect(str(tmp_path / name))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml", "name"])
def test_a_token_cannot_steer_the_terminal(inspect: Inspect, tmp_path: Path, form: str) -> None:
    hostile = token(
        **{"sub": f"spiffe://mesh.example/{ESCAPE}", ESCAPE: ESCAPE, "nested": [{ESCAPE: ESCAPE}]}
    )
    (tmp_path / "token").write_text(hostile)
    code, out, err = inspect(str(tmp_path / "token"), "-o", form)
    assert code == 3
    assert out.replace("\n", "").isprintable()
    assert err.replace("\n", "").isprintable()


def test_a_file_name_cannot_steer_the_terminal(inspect: Inspect, tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[31m"
    path.write_text("nothing")
    assert "\x1b" not in inspect(str(path))[2]


def test_a_private_key_is_not_printed_in_any_form(inspect: Inspect, tmp_path: Path) -> None:
    pem = SigningKey.generate().reveal_pem()
    (tmp_path / "key.pem").write_bytes(pem)
    for form in ("table", "json", "jsonl", "yaml", "name"):
        code, out, err = inspect(str(tmp_path / "key.pem"), "-o", form)
        assert code == 0
        for line in pem.decode().splitlines()[1:-1]:
            assert line not in out + err
    assert "PRIVATE key" in inspect(str(tmp_path / "key.pem"))[1]


def test_a_certificate_and_its_key_in_one_file(inspect: Inspect, tmp_path: Path) -> None:
    key = SigningKey.generate()
    leaf = AUTHORITY.issue_workload_svid(WEB, key.private_key.public_key(), datetime.now(UTC), 600)

    (tmp_path / "both.pem").write_text(ssl.DER_cert_to_PEM_cert(leaf) + key.reveal_pem().decode())
    code, out, _ = inspect(str(tmp_path / "both.pem"))
    assert code == 0
    assert "it is the key of certificate 1 in this input" in out
    assert str(WEB) in out
    assert os.linesep in out
