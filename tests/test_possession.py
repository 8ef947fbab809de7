"""The proof of a token's key where it is asked for: at the token endpoint, and at each call."""

from datetime import timedelta

import pytest

from authz.codes import Code
from authz.dpop import call_of, client_proof, spend, verify_possession
from authz.errors import AuthenticationError, RequestError, StoreError
from authz.form import Form
from authz.replay import Replay, ReplayKind, ReplayMemory
from authz.request import Request
from identity.dpop import DpopProof
from identity.dpop_nonce import KEY_BYTES, DpopNonces
from identity.errors import DpopError
from identity.http_uri import HttpUri
from identity.spiffe import SpiffeId
from tests.check_requests import MCP_HEADERS, check_request
from tests.dpop_proofs import KEY, URI, claims, forged, proof
from tests.identity_world import NOW, SECONDS, STRANGER_KEY

TOKEN = "the.access.token"
PROXY = SpiffeId.parse("spiffe://mesh.example/ns/tools/sa/envoy")
ENDPOINT = HttpUri.parse("https://broker.mesh.example/token")
NONCES = DpopNonces(bytes(KEY_BYTES), "https://broker.mesh.example")


def arrived(*proofs: str | bytes, scheme: str = "https", **parts: object) -> Request:
    """A request as Envoy describes it, with some DPoP headers."""
    fields = [*MCP_HEADERS, *(("dpop", text) for text in proofs)]
    message = check_request(headers=fields, **parts)  # type: ignore[arg-type]  # the parts of one case
    message.attributes.request.http.scheme = scheme
    return Request.parse(message.SerializeToString())


def refusal(request: Request, token: str = TOKEN, jkt: str = KEY.kid) -> Code:
    with pytest.raises(AuthenticationError) as refused:
        verify_possession(token, jkt, request, NOW)
    return refused.value.code


def found(request: Request) -> DpopProof:
    return verify_possession(TOKEN, KEY.kid, request, NOW)


def counts(request: Request) -> bool:
    return found(request).jkt == KEY.kid


# ---------------------------------------------------------------- at Check


def test_ca05_proof_of_the_token_s_key_for_this_call() -> None:
    """CA-05: method, URI and token of the call, and the key of the token."""
    assert found(arrived(proof(TOKEN))).jkt == KEY.kid


def test_ca05_a_bound_token_without_a_proof() -> None:
    """CA-05: the token alone is worth nothing."""
    assert refusal(arrived()) is Code.DPOP_MISSING


def test_ca05_two_headers_are_no_proof() -> None:
    """CA-05: two readers could believe two proofs (section 4.3, 1)."""
    for second in (proof(TOKEN), "x"):
        with pytest.raises(RequestError) as refused:
            found(arrived(proof(TOKEN), second))
        assert refused.value.code is Code.HEADER_DUPLICATE


def test_two_proofs_joined_by_a_comma_are_none() -> None:
    assert refusal(arrived(f"{proof(TOKEN)},{proof(TOKEN)}")) is Code.DPOP_INVALID
    assert refusal(arrived(f"{proof(TOKEN)}, {proof(TOKEN)}")) is Code.DPOP_INVALID


@pytest.mark.parametrize("value", [b"\xff", b"\x00", "\u00e9".encode()])
def test_header_that_is_not_text(value: bytes) -> None:
    with pytest.raises(RequestError):
        found(arrived(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        proof(),
        proof("another.access.token"),
        proof(TOKEN, htm="GET"),
        proof(TOKEN, htu="https://billing.mesh.example:8443/mcp"),
        proof(TOKEN, htu="https://tickets.mesh.example/mcp"),
        proof(TOKEN, htu="https://tickets.mesh.example:8443/mcp/../admin"),
        proof(TOKEN, iat=SECONDS - 61),
        forged(body=claims(ath=None)),
    ],
)
def test_ca05_proof_of_another_call(text: str) -> None:
    """CA-05: of another method, place, token or time."""
    assert refusal(arrived(text)) is Code.DPOP_INVALID


def test_ca05_proof_of_the_thief_s_own_key() -> None:
    """CA-05: a stolen token with a proof of another key."""
    assert refusal(arrived(proof(TOKEN)), jkt=STRANGER_KEY.kid) is Code.DPOP_INVALID


def test_query_of_the_request_is_not_compared() -> None:
    assert counts(arrived(proof(TOKEN), path='/mcp?q="a|b"'))


def test_encoded_slash_is_another_path() -> None:
    assert refusal(arrived(proof(TOKEN, htu=f"{URI}/a%2fb"), path="/mcp/a/b")) is Code.DPOP_INVALID
    assert counts(arrived(proof(TOKEN, htu=f"{URI}/a%2fb"), path="/mcp/a%2Fb"))


@pytest.mark.parametrize("path", ["/mcp\\x", "/mcp%", "/mcp|", "/a^b"])
def test_path_that_is_no_uri_has_no_proof(path: str) -> None:
    assert refusal(arrived(proof(TOKEN), path=path)) is Code.DPOP_INVALID


def test_host_without_a_port_is_the_scheme_s() -> None:
    place = "https://tickets.mesh.example/mcp"
    assert counts(arrived(proof(TOKEN, htu=place), host="tickets.mesh.example"))
    assert counts(arrived(proof(TOKEN, htu=f"{place}?a#b"), host="TICKETS.mesh.example:443"))
    assert refusal(arrived(proof(TOKEN), host="tickets.mesh.example")) is Code.DPOP_INVALID


@pytest.mark.parametrize("scheme", ["http", "HTTP", "", "ipc"])
@pytest.mark.parametrize("written", ["http", "https"])
def test_ca05_scheme_that_the_proxy_cannot_know(scheme: str, written: str) -> None:
    """CA-05: a listener of the mesh is plain HTTP, and TLS ended before it; host, port and path count."""
    text = proof(TOKEN, htu=f"{written}://tickets.mesh.example:8443/mcp")
    assert counts(arrived(text, scheme=scheme))
    bare = proof(TOKEN, htu=f"{written}://tickets.mesh.example/mcp")
    assert counts(arrived(bare, scheme=scheme, host="tickets.mesh.example"))
    elsewhere = proof(TOKEN, htu=f"{written}://billing.mesh.example:8443/mcp")
    assert refusal(arrived(elsewhere, scheme=scheme)) is Code.DPOP_INVALID


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_ca05_proof_for_plain_http_where_the_proxy_saw_tls(scheme: str) -> None:
    """CA-05: what the proxy saw as https was https."""
    assert counts(arrived(proof(TOKEN), scheme=scheme))
    text = proof(TOKEN, htu="http://tickets.mesh.example:8443/mcp")
    assert refusal(arrived(text, scheme=scheme)) is Code.DPOP_INVALID


@pytest.mark.parametrize(
    ("said", "read"), [("https", "https"), ("HTTP", "http"), ("", ""), ("ws", ""), ("https ", "")]
)
def test_scheme_of_a_request(said: str, read: str) -> None:
    assert arrived(scheme=said).scheme == read


# ---------------------------------------------------------------- once


class Broken:
    """A memory that cannot be asked."""

    def first_time(self, kind: ReplayKind, key: str, expires_at: int, **named: object) -> bool:
        raise StoreError("the disk is gone")


def spent(memory: Replay, text: str, call: str = "") -> Code | None:
    try:
        spend(found(arrived(text)), memory, presenter="agent triage", now=NOW, call=call)
    except AuthenticationError as refused:
        return refused.code
    return None


def test_jw09_a_proof_counts_once() -> None:
    """JW-09, CA-05: `jti` is unique in the window."""
    memory = ReplayMemory()
    assert spent(memory, proof(TOKEN)) is None
    assert spent(memory, proof(TOKEN)) is Code.REPLAYED
    assert spent(memory, proof(TOKEN, iat=SECONDS + 1)) is Code.REPLAYED
    assert spent(memory, proof(TOKEN, jti="k" * 22)) is None


def test_jw09_signature_in_another_spelling_is_the_same_proof() -> None:
    """JW-09: an ECDSA signature can be written anew by whoever sees it; the name of the proof cannot."""
    from identity.base64url import decode_base64url, encode_base64url

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed, _, signature = proof(TOKEN).rpartition(".")
    raw = decode_base64url(signature)
    r, s = int.from_bytes(raw[:32]), order - int.from_bytes(raw[32:])
    other = f"{signed}.{encode_base64url(r.to_bytes(32) + s.to_bytes(32))}"
    memory = ReplayMemory()
    assert spent(memory, f"{signed}.{signature}") is None
    assert spent(memory, other) is Code.REPLAYED


def test_jw09_no_answer_of_the_memory_is_no_yes() -> None:
    """JW-09: store down, closed."""
    assert spent(Broken(), proof(TOKEN)) is Code.REPLAY_UNKNOWN
    assert Code.REPLAY_UNKNOWN.form is Form.UNAVAILABLE
    full = ReplayMemory(max_entries=0)
    assert spent(full, proof(TOKEN)) is Code.REPLAY_UNKNOWN


def test_proxy_may_ask_again_about_one_request() -> None:
    memory, request = ReplayMemory(), arrived(proof(TOKEN))
    call = call_of(request, PROXY)
    assert spent(memory, proof(TOKEN), call) is None
    assert spent(memory, proof(TOKEN), call) is None
    assert spent(memory, proof(TOKEN), call_of(request, None)) is Code.REPLAYED
    assert spent(memory, proof(TOKEN), f"{call}1") is Code.REPLAYED
    assert spent(memory, proof(TOKEN)) is Code.REPLAYED


def test_call_is_named_by_the_proxy_and_not_by_a_header() -> None:
    message = check_request()
    message.attributes.request.http.id = ""
    assert not call_of(Request.parse(message.SerializeToString()), PROXY)
    message.attributes.request.http.id = "1"
    assert call_of(Request.parse(message.SerializeToString()), PROXY) == f"{PROXY} 1"


# ---------------------------------------------------------------- at the token endpoint


def at_endpoint(**changes: object) -> str:
    return proof(None, htu="https://broker.mesh.example/token", **changes)


def test_ca05_token_endpoint_learns_the_key_to_bind_to() -> None:
    """CA-05, TX-11: the new token is bound to the key that was proven (section 5)."""
    made = client_proof([at_endpoint()], ENDPOINT, NOW)
    assert made is not None
    assert made.jkt == KEY.kid


def test_no_header_is_no_proof() -> None:
    assert client_proof([], ENDPOINT, NOW, NONCES) is None


@pytest.mark.parametrize(
    "headers",
    [
        [""],
        [at_endpoint(), at_endpoint()],
        [at_endpoint(), ""],
        [f"{at_endpoint()},{at_endpoint()}"],
        [proof()],
        [at_endpoint(htm="GET")],
        [at_endpoint(ath="A" * 43)],
        [at_endpoint(iat=SECONDS + 31)],
    ],
)
def test_tx06_bad_proof_at_the_token_endpoint(headers: list[str]) -> None:
    """TX-06: `invalid_dpop_proof`, and never a token that is bound to nothing."""
    with pytest.raises(DpopError) as refused:
        client_proof(headers, ENDPOINT, NOW)
    assert refused.value.error == "invalid_dpop_proof"


def test_tx06_token_endpoint_asks_for_a_nonce() -> None:
    """TX-06, CA-05: `use_dpop_nonce`, and the nonce that comes with it counts."""
    for text in (at_endpoint(), at_endpoint(nonce="another")):
        with pytest.raises(DpopError) as refused:
            client_proof([text], ENDPOINT, NOW, NONCES)
        assert refused.value.error == "use_dpop_nonce"
    later = NOW + timedelta(seconds=NONCES.seconds)
    text = at_endpoint(nonce=NONCES.current(NOW), iat=int(later.timestamp()))
    assert client_proof([text], ENDPOINT, later, NONCES) is not None


def test_ca05_proof_of_the_token_endpoint_at_a_service() -> None:
    """CA-05: one place's proof is not another's, and the same memory knows both."""
    assert refusal(arrived(at_endpoint())) is Code.DPOP_INVALID
    memory = ReplayMemory()
    made = client_proof([at_endpoint()], ENDPOINT, NOW)
    assert made is not None
    spend(made, memory, presenter="spiffe://mesh.example/agent/triage/task/x", now=NOW)
    assert spent(memory, proof(TOKEN)) is Code.REPLAYED
