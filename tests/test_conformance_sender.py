"""What is made when a request is sent, proofs, assertions, nonces, and what a hostile server makes of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.conformance.login import AssertionLogin, SecretLogin, SignedLogin
from authz.conformance.message import Answer, Request
from authz.conformance.proof import Moment, Proof
from authz.conformance.sender import RunError, Sender
from authz.conformance.signer import Signer, other_signer, own_signer, private_jwk
from authz.conformance.token import Jwt
from authz.errors import ConfigError
from identity.dpop import DpopProof
from identity.http_uri import HttpUri
from identity.keys import VerificationKey

URL = "https://as.example/token"
NOW = 1_800_000_000
LOGIN = SecretLogin("a", "b")
ASKED = b'{"error":"use_dpop_nonce"}'
Reply = Callable[[Request], Answer]


@dataclass
class Recorder:
    """A server that answers as it is told, and keeps what it was sent."""

    reply: Reply = lambda _: Answer.of(400, {}, b"{}")
    sent: list[Request] = field(default_factory=list)

    async def send(self, url: str, request: Request) -> Answer:
        self.sent.append(request)
        return self.reply(request)

    async def get(self, url: str) -> Answer:
        return Answer.of(200, {}, b"{}")

    def sender(self) -> Sender:
        names = count()
        return Sender(self, lambda: NOW, lambda: f"name-{next(names)}")

    def proofs(self) -> list[Jwt]:
        values = [value for request in self.sent for name, value in request.headers if name == "DPoP"]
        return [token for value in values if (token := Jwt.read(value)) is not None]


def proving(*proofs: Proof) -> Request:
    return Request((("a", "b"),), LOGIN, proofs=proofs, label="asked")


def sent(server: Recorder, *requests: Request) -> list[Answer]:
    async def all_of_them() -> list[Answer]:
        sender = server.sender()
        return [await sender.send(URL, request) for request in requests]

    return asyncio.run(all_of_them())


def nonces(server: Recorder) -> list[object]:
    return [proof.unverified_claims.get("nonce") for proof in server.proofs()]


# ---------------------------------------------------------------- proofs


def test_each_proof_is_new_and_for_its_request() -> None:
    server = Recorder()
    sent(server, proving(Proof(own_signer())), proving(Proof(own_signer())))

    first, second = (proof.unverified_claims for proof in server.proofs())
    assert first["jti"] != second["jti"]
    assert (first["htm"], first["htu"], first["iat"]) == ("POST", URL, NOW)
    assert server.proofs()[0].unverified_header["jwk"] == own_signer().jwk
    assert all(not request.proofs for request in server.sent)


def test_proofs_of_one_name_are_one_text() -> None:
    server = Recorder()
    again = proving(Proof(own_signer(), once="again"))
    sent(server, again, again)

    first, second = server.proofs()
    assert first.text == second.text


def test_whoever_asks_for_a_nonce_gets_it_once_and_then_always() -> None:
    def reply(_: Request) -> Answer:
        is_first = len(server.sent) == 1
        return Answer.of(400, {"DPoP-Nonce": "n"}, ASKED) if is_first else Answer.of(400, {}, b"{}")

    server = Recorder(reply)
    answers = sent(server, proving(Proof(own_signer())), proving(Proof(own_signer())))

    assert nonces(server) == [None, "n", "n"]
    assert [answer.label for answer in answers] == ["asked", "asked"]


def test_a_server_that_asks_for_ever_gets_each_request_twice() -> None:
    server = Recorder(lambda _: Answer.of(400, {"DPoP-Nonce": f"n{len(server.sent)}"}, ASKED))
    (answer,) = sent(server, proving(Proof(own_signer())))

    assert (len(server.sent), answer.error) == (2, "use_dpop_nonce")


def test_a_nonce_without_end_is_not_kept() -> None:
    server = Recorder(lambda _: Answer.of(400, {"DPoP-Nonce": "n" * 5000}, ASKED))
    sent(server, proving(Proof(own_signer())))

    assert nonces(server) == [None, None]


def test_a_proof_with_a_nonce_of_its_own_is_not_sent_again() -> None:
    server = Recorder(lambda _: Answer.of(400, {"DPoP-Nonce": "n"}, ASKED))
    sent(server, proving(Proof(own_signer(), claims={"nonce": "mine"})), replace(proving(), proofs=()))

    assert nonces(server) == ["mine"]


def test_requests_together_share_the_nonce_of_their_proof() -> None:
    """Else a server that asks for a nonce would grant each of them, and be found where it is right."""

    def reply(request: Request) -> Answer:
        proof = Jwt.read(dict(request.headers)["DPoP"])
        assert proof is not None
        has_nonce = proof.unverified_claims.get("nonce") == "n"
        return Answer.of(200, {}, b"{}") if has_nonce else Answer.of(400, {"DPoP-Nonce": "n"}, ASKED)

    server = Recorder(reply)
    requests = [proving(Proof(own_signer(), once="at once"))] * 3
    asyncio.run(server.sender().send_all(lambda _: URL, requests))

    granted = {proof.text for proof in server.proofs() if proof.unverified_claims.get("nonce") == "n"}
    assert len(granted) == 1


@pytest.mark.parametrize("signer", [own_signer(), Signer(rsa.generate_private_key(65537, 2048), "RS256")])
def test_a_good_proof_is_one_for_our_own_verifier(signer: Signer) -> None:
    text = Proof(signer).text(Moment("POST", f"{URL}?a=b", NOW, "a-name-of-16-characters", None))
    proof = DpopProof.verify(
        text, method="POST", targets=(HttpUri.parse(URL),), now=datetime.fromtimestamp(NOW, UTC)
    )
    assert proof.jkt == signer.jkt


# ---------------------------------------------------------------- assertions


def test_each_assertion_of_a_client_that_signs_is_new() -> None:
    login = SignedLogin("agent-a", own_signer(), "https://as.example", "k-1")
    server = Recorder()
    sent(server, *[Request((), login)] * 2, *[Request((), replace(login, once="again"))] * 2)

    logins = [request.login for request in server.sent]
    texts = [each.assertion for each in logins if isinstance(each, AssertionLogin)]
    assert len(texts) == 4
    assert len(set(texts)) == 3
    token = Jwt.read(texts[0])
    assert token is not None
    claims = token.unverified_claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("agent-a", "agent-a", "https://as.example")
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 60)
    assert token.unverified_header["kid"] == "k-1"


def test_times_of_an_assertion_are_of_the_moment() -> None:
    login = SignedLogin("a", own_signer(), "x", changes={"exp": -5, "nbf": 7, "iss": None})
    token = Jwt.read(login.at(Moment("POST", URL, NOW, "n")).assertion)

    assert token is not None
    assert (token.unverified_claims["exp"], token.unverified_claims["nbf"]) == (NOW - 5, NOW + 7)
    assert "iss" not in token.unverified_claims


# ---------------------------------------------------------------- patience, and keys


def test_a_server_that_lets_us_wait_too_often_ends_the_run() -> None:
    server = Recorder(lambda _: Answer.missing("late"))

    with pytest.raises(RunError, match="more than 10 answers were late"):
        sent(server, *[proving()] * 20)
    assert len(server.sent) == 11


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_key_signs_by_the_algorithm_of_its_kind() -> None:
    key = rsa.generate_private_key(65537, 2048)
    for said, algorithm in ((None, "RS256"), ("RS256", "RS256"), ("PS256", "PS256"), ("none", "RS256")):
        signer = Signer.parse_pem(pem(key), said)
        assert signer.algorithm == algorithm
        public = VerificationKey("-", (signer.algorithm,), key.public_key())
        public.verify(signer.sign(b"data"), b"data", algorithm)
    assert Signer.parse_pem(pem(ec.generate_private_key(ec.SECP256R1())), "PS256").algorithm == "ES256"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_what_is_no_key_that_signs_here_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError):
        Signer.parse_pem(content)


def test_no_private_part_is_shown_but_of_a_key_that_counts_nowhere() -> None:
    given = Signer(rsa.generate_private_key(65537, 2048), "RS256")

    assert private_jwk(given).keys() == private_jwk(own_signer()).keys() == {"kty", "crv", "x", "y", "d"}
    assert private_jwk(given)["x"] == own_signer().jwk["x"] != other_signer().jwk["x"]
    assert "private" not in repr(Proof(given))
