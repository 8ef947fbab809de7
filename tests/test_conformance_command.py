"""`deputy conformance delegation` over HTTP and TLS: exit codes, forms of output, what it never prints."""

import asyncio
import json
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import typer

from authz.commands.conformance import app as command
from authz.conformance.run import metadata_url
from authz.conformance.sender import RunError
from authz.errors import ConfigError
from identity.keys import SigningKey
from tests.broker_fakes import TICKETS as BROKER_TICKETS
from tests.broker_fakes import broker_world, serving
from tests.conformance_server import Server, app
from tests.conformance_tokens import (
    CLIENT_KEY,
    DETAIL,
    FIRST,
    KEY,
    MESH,
    OTHER,
    OWN,
    PARTNER,
    SECRETS,
    SERVICE,
    TICKETS,
    actor_token,
    signer_of,
    subject_token,
)

PROOF = SigningKey.generate()


class Files:
    """The files of an operator, beside a server on the loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        now = int(time.time())
        times = {"iat": now - 10, "exp": now + 3600}
        self.now = now
        self.secrets = [*SECRETS.values()]
        self.write("secret", f"{SECRETS[OWN]}\n")
        self.write("other-secret", SECRETS[OTHER])
        self.write("subject.jwt", f"{subject_token(OWN, FIRST, **times)}\n")
        self.write("actor.jwt", actor_token(**times))
        self.write("bound.jwt", subject_token(OWN, cnf={"x5t#S256": "z" * 43}, **times))
        self.write("mallory.jwt", subject_token(OWN, sub="mallory", **times))
        self.write("expired.jwt", subject_token(OWN, iat=now - 7200, exp=now - 3600))

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        if name.endswith(".jwt"):
            self.secrets.append(text.strip())
        return str(self.folder / name)

    def options(self, base: str) -> list[str]:
        named = {
            "--token-endpoint": f"{base}/token",
            "--issuer": base,
            "--client-id": OWN,
            "--audience": TICKETS,
            "--scope": "tickets:read tickets:write",
            "--wider-scope": "tickets:admin",
            "--other-client-id": OTHER,
        }
        files = {
            "--client-secret-file": "secret",
            "--other-client-secret-file": "other-secret",
            "--subject-token-file": "subject.jwt",
            "--actor-token-file": "actor.jwt",
            "--subject-token-2-file": "bound.jwt",
            "--ungranted-subject-token-file": "mallory.jwt",
            "--expired-subject-token-file": "expired.jwt",
        }
        named |= {name: str(self.folder / file) for name, file in files.items()}
        return [part for pair in named.items() for part in pair]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def deputy(*arguments: str) -> int:
    code = command(args=["delegation", *arguments], prog_name="deputy conformance", standalone_mode=False)
    assert isinstance(code, int)
    return code


def examine(files: Files, *more: str, broken: frozenset[str] = frozenset()) -> int:
    async def scenario() -> int:
        server = Server(broken, now=files.now)
        async with serving(app(server)) as base:
            server.issuer = base
            return await asyncio.to_thread(deputy, *files.options(base), *more)

    return asyncio.run(scenario())


def test_a_good_server_is_0_and_nothing_secret_is_printed(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(files, "--profile", "deputy") == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].split() == ["rule", "case", "expected", "got"]
    assert lines[-1].endswith("skipped (profile deputy)")
    assert " 0 failed, 0 with a warning" in lines[-1]
    assert not any(secret in printed.out for secret in files.secrets)


def test_findings_are_3_and_in_the_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(files, "-o", "json", broken=frozenset({"TX-05/token-type"})) == 3

    document = json.loads(capsys.readouterr().out)
    (found,) = [result for result in document["results"] if result["status"] == "fail"]
    assert (found["rule"], found["case"], found["got"]) == ("TX-05", "token-type", "token_type 'mac'")
    assert document["profile"] == "rfc8693"
    assert document["problem"] is None


def test_a_warning_is_0_and_a_failure_where_the_profile_says_so(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = frozenset({"CL-07/lifetime"})

    assert examine(files, "--only", "CL", broken=broken) == 0
    assert " 0 failed, 1 with a warning" in capsys.readouterr().out
    assert examine(files, "--only", "CL", "--profile", "deputy", broken=broken) == 3


def test_junit_holds_every_case(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(files, "-o", "junit", "--only", "TX", "--skip", "TX-06/garbage") == 0

    names = [case.get("name") or "" for case in ET.fromstring(capsys.readouterr().out).iter("testcase")]
    assert len(names) > 30
    assert not any(name.startswith("garbage:") for name in names)


def test_a_client_that_cannot_log_in_is_told_so(files: Files) -> None:
    files.write("secret", "not it")

    with pytest.raises(RunError, match="the good request was refused: 401 invalid_client"):
        examine(files)


def test_a_server_that_cannot_be_reached_is_told_so(files: Files) -> None:
    with pytest.raises(RunError, match="closed without an answer: cannot connect"):
        deputy(*files.options("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--token-endpoint and --subject-token-file are both needed"),
        (["--token-endpoint", "http://as.example/token"], "nor http on this machine"),
        (["--token-endpoint", "https://u:p@as.example/token"], "with credentials or a fragment"),
        (["--metadata", "file:///etc/passwd"], "not an https URL"),
        (["--only", "TX-99"], "no rule and no case"),
        (["--list", "-o", "junit"], "no form of junit"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], says: str) -> None:
    with pytest.raises(typer.BadParameter, match=says):
        deputy(*arguments)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--client-cert", "x.pem"], "one of a secret, a certificate and an assertion"),
        (["--client-secret-file"], "a client logs in with --client-secret-file"),
        (["--client-id"], "a client with a secret has an id"),
    ],
)
def test_a_client_has_exactly_one_login(files: Files, change: list[str], says: str) -> None:
    options = files.options("http://127.0.0.1:1")
    if len(change) == 1:
        at = options.index(change[0])
        options = options[:at] + options[at + 2 :]
    else:
        options += change

    with pytest.raises(typer.BadParameter, match=says):
        deputy(*options)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "an empty file"), (b"a" * 300_000, "longer than"), (b"\xff\xfe", "not text")],
)
def test_a_file_that_is_no_token_is_refused_without_its_content(
    files: Files, content: bytes, says: str
) -> None:
    (files.folder / "subject.jwt").write_bytes(content)

    with pytest.raises(ConfigError, match=says):
        deputy(*files.options("http://127.0.0.1:1"))


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_checklist_is_printed_without_a_server(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert deputy("--list", "--only", "TX-09", "-o", output) == 0

    out = capsys.readouterr().out
    assert "found-token" in out
    assert "--other-client-cert" in out


def test_an_issuer_with_a_path_has_its_metadata_where_rfc_8414_says() -> None:
    assert (
        metadata_url("https://as.example/a/") == "https://as.example/.well-known/oauth-authorization-server/a"
    )


# ---------------------------------------------------------------- what more can be handed in


def pem(key: SigningKey) -> str:
    return key.reveal_pem().decode()


def handed_in(files: Files) -> list[str]:
    """All that the checklist can use beside tokens and logins."""
    files.write("service-secret", SECRETS[SERVICE])
    options = {
        "--subject-key-file": files.write("subject.key", pem(KEY)),
        "--authorization-details-file": files.write("details.json", json.dumps([DETAIL])),
        "--request-details-file": files.write("call.json", "{}"),
        "--next-request-details-file": files.write("next.json", "{}"),
        "--id-jag-audience": PARTNER,
        "--txn-audience": MESH,
        "--service-client-id": SERVICE,
        "--service-client-secret-file": str(files.folder / "service-secret"),
        "--login-hint": "alice",
    }
    return [part for pair in options.items() for part in pair]


def test_everything_that_is_handed_in_is_used(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(files, *handed_in(files), "--profile", "deputy", "-o", "json") == 0

    document = json.loads(capsys.readouterr().out)
    status = {row["rule"]: row["status"] for row in document["rules"]}
    assert len(status) == 52
    for rule in ("NR-04", "CL-02", "CL-03", "CL-04", "CL-05", "CA-06", "JW-06", "JW-09", "ID-07"):
        assert status[rule] == "pass", rule
    assert status["JW-07"] == status["JW-08"] == "not observable"
    assert not any(secret in json.dumps(document) for secret in files.secrets)


def test_a_client_that_signs_and_proves_is_examined_to_the_end(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"iat": files.now - 10, "exp": files.now + 3600}
    proof, given = files.write("proof.key", pem(PROOF)), files.options
    bound = files.write("subject.jwt", subject_token(OWN, cnf={"jkt": signer_of(PROOF).jkt}, **times))

    def options(base: str) -> list[str]:
        kept, left_out = [], {"--client-secret-file", "--actor-token-file", "--actor-token-type"}
        pairs = given(base)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            kept += [] if name in left_out else [name, value]
        signs = ["--client-assertion-key-file", files.write("client.key", pem(CLIENT_KEY))]
        signs += ["--client-assertion-kid", CLIENT_KEY.kid]
        return [*kept, *signs, "--protected-resource", f"{base}/api"]

    files.options = options  # type: ignore[method-assign]  # this client has other files
    more = ["--dpop-key-file", proof, "--subject-token-file", bound, "--profile", "deputy", "-o", "json"]
    assert examine(files, *more) == 0

    document = json.loads(capsys.readouterr().out)
    status = {f"{row['rule']}/{row['case']}": row["status"] for row in document["results"]}
    for case in ("CA-03/replayed", "CA-01/issuer-alone", "CA-05/bound", "CA-05/resource", "CA-05/nonce"):
        assert status[case] == "pass", case
    assert {status[each] for each in status if each.startswith("DM-02/")} == {"pass"}


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--authorization-details-file", "{}", "not a list of authorization details"),
        ("--authorization-details-file", "[]", "not a list of authorization details"),
        ("--authorization-details-file", '[{"a":1,"a":2}]', "not strict JSON"),
        ("--dpop-key-file", "no key", "not the PEM of an unencrypted private key"),
        ("--subject-key-file", "no key", "not the PEM of an unencrypted private key"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    files: Files, option: str, content: str, says: str
) -> None:
    file = files.write("given", content)

    with pytest.raises(ConfigError, match=says):
        deputy(*files.options("http://127.0.0.1:1"), option, file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--client-assertion-key-file", "client.key"], "one of a secret, a certificate and an assertion"),
        (["--protected-resource", "http://elsewhere.example/api"], "nor http on this machine"),
        (["--service-client-secret-file", "secret"], "a client with a secret has an id"),
    ],
)
def test_what_is_handed_in_wrongly_is_a_usage_error(files: Files, change: list[str], says: str) -> None:
    files.write("client.key", pem(CLIENT_KEY))
    given = [str(files.folder / part) if "." in part and "/" not in part else part for part in change]
    given = [str(files.folder / part) if part == "secret" else part for part in given]

    with pytest.raises(typer.BadParameter, match=says):
        deputy(*files.options("http://127.0.0.1:1"), *given)


@pytest.mark.e2e
def test_the_broker_is_examined_over_mtls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(name: str, text: str | bytes) -> str:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return str(tmp_path / name)

    async def scenario() -> int:
        async with broker_world() as world:
            own, other = await world.start("triage"), await world.start("resolver", person="clerk")
            options = ["--token-endpoint", f"{world.base}/token", "--ca", write("roots.pem", world.roots)]
            for prefix, task in (("--client", own), ("--other-client", other)):
                chain = task.answer["certificate_chain"]
                options += [f"{prefix}-cert", write(f"{task.id}.pem", chain)]
                options += [f"{prefix}-key", write(f"{task.id}.key", task.identity.key.reveal_pem())]
            options += ["--subject-token-file", write("alice.jwt", world.id_token())]
            options += ["--subject-jwks", write("jwks.json", json.dumps(world.provider.jwks()))]
            options += ["--subject-token-type", "id_token", "--audience", BROKER_TICKETS]
            options += ["--scope", "tickets:read", "--wider-scope", "tickets:admin", "--profile", "deputy"]
            # The broker has another name here than the one that its proofs are for.
            options += ["--skip", "CA-05/bound"]
            return await asyncio.to_thread(deputy, *options)

    assert asyncio.run(scenario()) == 0
    out = capsys.readouterr().out
    (stranger,) = [line for line in out.splitlines() if " wrong-login " in line]
    assert stranger.startswith("pass")
    assert "closed without an answer" in stranger
