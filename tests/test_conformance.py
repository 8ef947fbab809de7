"""The conformance runner: each case passes a good server, and finds one that breaks its rule alone."""

import asyncio
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.conformance.checklist import CHECKLIST
from authz.conformance.login import SecretLogin
from authz.conformance.message import Answer, Request
from authz.conformance.report import Report
from authz.conformance.run import Plan, run
from authz.conformance.sender import RunError
from authz.conformance.situation import Inputs, Need, Profile
from identity.keys import VerificationKey
from tests.conformance_inputs import inputs, worlds
from tests.conformance_server import InProcess, Server
from tests.conformance_tokens import ISSUER, KEY, NOW, OTHER, OWN, SECRETS

METADATA = f"{ISSUER}/.well-known/oauth-authorization-server"
WORLDS = worlds()
ALL = [case.id for case in CHECKLIST]


def examine(server: Server, given: Inputs, profile: Profile = Profile.DEPUTY) -> Report:
    port = InProcess(server)
    plan = Plan(given, profile, CHECKLIST, METADATA)
    return asyncio.run(run(plan, port, lambda: NOW, port.progress))


def found(report: Report) -> dict[str, str]:
    return {result.case.id: result.got for result in report.results if result.status in {"fail", "warning"}}


@cache
def of_good_server(world: str) -> Report:
    return examine(Server(), WORLDS[world])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("profile", Profile)
def test_a_good_server_passes(world: str, profile: Profile) -> None:
    report = examine(Server(), WORLDS[world], profile)

    assert found(report) == {}
    assert report.problem is None
    assert report.counts["pass"] > 60


@pytest.mark.parametrize("case", ALL)
def test_each_case_finds_the_server_that_breaks_its_rule_and_only_that(case: str) -> None:
    seen_in = [
        world
        for world in WORLDS
        if any(each.case.id == case and each.status == "pass" for each in of_good_server(world).results)
    ]

    assert seen_in, "skipped from every side, so that it could never fail"
    # Lazily: from another side one mistake can break two rules (a token without act has no actors either).
    assert any(set(found(examine(Server(frozenset({case})), WORLDS[world]))) == {case} for world in seen_in)


# ---------------------------------------------------------------- verifiers as people write them


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Read a token as carelessly as the library functions allow."""
    header, claims, signature = text.strip().split(".")[:3]
    decoded = [urlsafe_b64decode(part + "===") for part in (header, claims, signature)]
    return json.loads(decoded[0]), json.loads(decoded[1]), decoded[2], f"{header}.{claims}".encode()


def careless(accepts: Callable[..., bool]) -> Callable[[str], Mapping[str, Any] | None]:
    def verify(text: str) -> Mapping[str, Any] | None:
        try:
            header, claims, signature, signed = parts(text)
            good = accepts(header, claims, signature, signed) and isinstance(claims["exp"], int)
        except Exception:  # noqa: BLE001 - whatever a token does to it
            return None
        return claims if good else None

    return verify


def signed_by(key: VerificationKey, signature: bytes, data: bytes) -> bool:
    key.verify(signature, data)
    return True


PEM = KEY.public.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
EVERY_TRICK = {
    "TX-06/forged",
    "JW-01/alg-none",
    "JW-01/no-signature",
    "JW-01/hs256-public-key",
    "JW-01/hs256-weak",
    "JW-01/another-alg",
    "JW-01/foreign-key",
    "JW-02/embedded-key",
    "JW-02/kid",
    "JW-02/kid-path",
    "JW-03/crit",
    "JW-03/zip",
    "JW-04/typ",
}
# What a verifier takes that looks at nothing but the signature.
SIGNED = {
    "JW-03/crit-signed",
    "JW-04/typ-signed",
    "JW-05/ambiguous-signed",
    "CL-03/no-credential",
    "CL-05/not-here",
}
CARELESS: dict[str, tuple[Callable[..., bool], set[str]]] = {
    "trusts alg none": (lambda header, *_: header["alg"].lower() == "none", {"JW-01/alg-none"}),
    "takes the public key for a secret": (
        lambda header, _, signature, data: (
            header["alg"] == "HS256" and signature == hmac.digest(PEM, data, hashlib.sha256)
        ),
        {"JW-01/hs256-public-key"},
    ),
    "opens the file that kid names": (
        lambda header, _, signature, data: (
            header["kid"].endswith("/dev/null") and signature == hmac.digest(b"", data, hashlib.sha256)
        ),
        {"JW-02/kid-path"},
    ),
    "takes the key that the header brings": (
        lambda header, _, signature, data: signed_by(
            VerificationKey.parse_jwk(header["jwk"]), signature, data
        ),
        {"JW-02/embedded-key"},
    ),
    "decodes base64 as the standard library does": (
        lambda _, __, signature, data: signed_by(KEY.public, signature, data),
        {"JW-05/base64", "JW-05/white-space", *SIGNED},
    ),
}


@pytest.mark.parametrize("how", CARELESS)
def test_a_careless_verifier_is_found(how: str) -> None:
    accepts, expected = CARELESS[how]

    assert set(found(examine(Server(verify=careless(accepts)), inputs()))) == expected


def test_a_server_that_verifies_nothing_fails_every_trick() -> None:
    report = examine(Server(verify=careless(lambda *_: True)), inputs())

    assert set(found(report)) >= EVERY_TRICK


def test_a_server_that_falls_over_has_refused_nothing() -> None:
    def crash(_: str) -> None:
        raise RuntimeError("a bug")

    report = examine(Server(crashes=True, verify=crash), inputs())

    assert set(found(report)) >= EVERY_TRICK | {"TX-06/garbage", "ID-04/deep-act"}
    assert found(report)["TX-06/garbage"] == "500 without an OAuth error"


# ---------------------------------------------------------------- runs that do not count


def test_a_refused_good_request_is_no_run() -> None:
    with pytest.raises(RunError, match="the good request was refused: 400 invalid_request: 'no'"):
        examine(Server(spent=0), inputs())


def test_a_token_that_counts_once_is_no_run() -> None:
    with pytest.raises(RunError, match="granted once, and refused the second time"):
        examine(Server(spent=1), inputs())


def test_a_server_that_stops_in_the_middle_makes_the_report_void() -> None:
    report = examine(Server(spent=5), inputs())

    assert report.problem is not None
    assert "other refusals may say nothing" in report.problem


def test_the_sentence_of_a_server_that_repeats_a_token_is_not_shown() -> None:
    server = Server(frozenset({"TX-06/no-echo"}), spent=0)

    with pytest.raises(RunError) as refused:
        examine(server, inputs())
    assert str(refused.value) == "the good request was refused: 400 invalid_request"


# ---------------------------------------------------------------- what is missing is said


def test_a_case_without_its_input_is_skipped_and_says_what_it_needs() -> None:
    bare = Inputs(
        f"{ISSUER}/token",
        inputs().login,
        inputs().subject,
        targets=(("audience", "https://tickets.example"),),
    )
    port = InProcess(Server())
    report = asyncio.run(run(Plan(bare, Profile.DEPUTY, CHECKLIST), port, lambda: NOW, port.progress))

    skipped = {result.case.id: result.got for result in report.results if result.status == "skip"}
    assert skipped["TX-09/found-token"] == f"needs {Need.OTHER_CLIENT.value}"
    assert skipped["TX-10/no-grant"] == "needs --ungranted-subject-token-file"
    assert skipped["TX-11/bound-to-another"] == "needs --subject-token-2-file"
    assert skipped["NR-01/wider-scope"] == "needs --wider-scope"
    assert skipped["JW-01/hs256-public-key"].startswith("needs --subject-jwks")
    assert skipped["DM-01/published"] == "needs --issuer or --metadata"
    assert skipped["CA-07/revoke"].startswith("needs metadata that names an introspection_endpoint")
    assert found(report) == {}


def test_a_second_client_that_cannot_log_in_proves_nothing() -> None:
    wrong = inputs(other_login=SecretLogin(OTHER, "not its secret"))
    report = examine(Server(), wrong)

    got = {result.case.id: (result.status, result.got) for result in report.results}
    assert got["TX-09/found-token"] == (
        "skip",
        "the second client could not log in: the subject token: 401 invalid_client",
    )


def test_without_metadata_no_login_is_sent_to_an_endpoint() -> None:
    server = Server(issuer="https://elsewhere.example")
    report = examine(server, inputs(issuer=None))

    got = {result.case.id: result.got for result in report.results}
    assert got["CA-07/introspect"] == f"needs {Need.INTROSPECTION.value}"
    assert got["CA-07/revoke-unknown"] == f"needs {Need.REVOCATION.value}"


# ---------------------------------------------------------------- a server that is hostile to the run


class Late(InProcess):
    """It grants the good request, and lets every other wait."""

    async def send(self, url: str, request: Request) -> Answer:
        return Answer.missing("late") if request.label else await super().send(url, request)


def test_a_server_that_lets_us_wait_ends_the_run() -> None:
    port = Late(Server())

    with pytest.raises(RunError, match="more than 10 answers were late"):
        asyncio.run(run(Plan(inputs(), Profile.DEPUTY, CHECKLIST), port, lambda: NOW, port.progress))


class Echo(InProcess):
    """It repeats a secret where a report shows what it said."""

    async def send(self, url: str, request: Request) -> Answer:
        answer = await super().send(url, request)
        members = {
            **answer.members,
            "token_type": SECRETS[OWN],
            "expires_in": inputs().subject.unverified_token,
        }
        return Answer.of(answer.status, answer.headers, json.dumps(members).encode())


def test_a_report_repeats_no_secret_and_no_token_whatever_a_server_writes() -> None:
    given, port = inputs(), Echo(Server())
    report = asyncio.run(run(Plan(given, Profile.DEPUTY, CHECKLIST), port, lambda: NOW, port.progress))

    assert found(report)["TX-05/token-type"] == "something that repeats a token or a secret"
    assert SECRETS[OWN] not in json.dumps(report.document())


@dataclass
class Elsewhere(InProcess):
    """Its metadata names a key set of its choice."""

    jwks_uri: str = ""
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str) -> Answer:
        self.asked.append(url)
        return Answer.of(200, {}, json.dumps({"jwks_uri": self.jwks_uri}).encode())


@pytest.mark.parametrize(
    "jwks_uri", ["http://127.0.0.1:6379/", "http://169.254.169.254/", "file:///etc/passwd"]
)
def test_a_server_cannot_make_us_ask_this_machine(jwks_uri: str) -> None:
    port = Elsewhere(Server(), jwks_uri)
    there = inputs(token_endpoint="https://as.example/token")
    asyncio.run(run(Plan(there, Profile.DEPUTY, CHECKLIST[:1], METADATA), port, lambda: NOW, port.progress))

    assert port.asked == [METADATA]
