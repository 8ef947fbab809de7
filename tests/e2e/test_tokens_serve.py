"""Tokens of a whole `deputy serve`, as clients of other people's libraries get, use and verify them.

- Nothing is known beforehand but an issuer or a resource: everything else is read in its documents.
- `joserfc` and PyJWT make proofs and verify tokens by the published keys; nothing of ours helps them.
"""

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import parse_http_list, parse_keqv_list

import httpx2
import jwt as pyjwt
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from joserfc.jwt import JWTClaimsRegistry

from authz.broker.token_request import ACCESS_TOKEN, ID_JAG, ID_TOKEN, TXN_TOKEN
from authz.codes import Code
from authz.response import REASON_HEADER
from identity.canonical import arguments_sha256
from tests.e2e.callers import READ
from tests.e2e.peopled import Task, World, audience, front, peopled, provider, sign_in, world

pytestmark = pytest.mark.e2e
PARTNER = "https://as.partner.example"
MCP = {"accept": "application/json, text/event-stream"}


class Key:
    """A client's own key; `joserfc` makes each proof (RFC 9449)."""

    def __init__(self) -> None:
        self.private = ECKey.generate_key("P-256")

    def proof(self, uri: str, token: str = "", **claims: str) -> str:
        jwk = {each: self.private.as_dict(private=False)[each] for each in ("kty", "crv", "x", "y")}
        plain = {"jti": secrets.token_urlsafe(16), "htm": "POST", "htu": uri, "iat": int(time.time())}
        if token:
            digest = hashlib.sha256(token.encode()).digest()
            plain["ath"] = urlsafe_b64encode(digest).rstrip(b"=").decode()
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
        return jwt.encode(header, {**plain, **claims}, self.private)


@dataclass
class Client:
    """Who has read the documents."""

    world: World
    url: str  # of the tool server, at its Envoy
    metadata: dict[str, Any]

    def keys(self) -> KeySet:
        found = self.world.anonymous().get(self.metadata["jwks_uri"]).raise_for_status()
        return KeySet.import_key_set(found.json())

    def verified(self, token: str, typ: str, **wanted: str) -> dict[str, Any]:
        """The claims of a token, by joserfc and the published keys."""
        read = jwt.decode(token, self.keys(), algorithms=["ES256"])
        assert read.header["typ"] == typ
        essential = {name: {"essential": True, "value": value} for name, value in wanted.items()}
        JWTClaimsRegistry(**essential).validate(read.claims)  # type: ignore[arg-type]  # options of claims
        return dict(read.claims)

    def call(self, task: Task, authorization: str, *proofs: str) -> httpx2.Response:
        headers = [*MCP.items(), ("authorization", authorization), *(("dpop", each) for each in proofs)]
        return task.http.post(self.url, json=READ, headers=headers)

    def bearer(self, task: Task, token: str) -> str:
        return reason_of(self.call(task, f"Bearer {token}"))

    def introspect(self, task: Task, token: str, **headers: str) -> httpx2.Response:
        where = self.metadata["introspection_endpoint"]
        return task.http.post(where, data={"token": token}, headers=headers)

    def revoke(self, task: Task, token: str) -> httpx2.Response:
        return task.http.post(self.metadata["revocation_endpoint"], data={"token": token})

    def dpop(self, task: Task, key: Key, **claims: str) -> httpx2.Response:
        """Ask for a token that is bound to a key, without a certificate: a JWT-SVID logs in."""
        endpoint = self.metadata["token_endpoint"]
        proof = key.proof(endpoint, **claims)
        subject = sign_in(self.world.people)
        return self.world.token(self.world.anonymous(), subject, dpop=proof, **task.assertion())


def reason_of(answer: httpx2.Response) -> str:
    """Why Envoy refused; empty where the tool answered."""
    reason = answer.headers.get(REASON_HEADER, "")
    assert bool(reason) != ("printer on fire" in answer.text), answer.text
    return str(reason)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with provider() as people:
        clients = [{"agent": "resolver", "id": "resolver-at-partner"}]
        target = {"issuer": PARTNER, "service": "billing", "clients": clients}
        service = peopled("mesh.example", people, broker={"dpop_nonces": True, "assertion_targets": [target]})
        with world(service, people) as made, front(made) as url:
            for agent in ("triage", "resolver"):
                made.grant(agent, scopes=("tickets:read", "tickets:write", "billing:read"))
            found = made.anonymous().get(f"{made.base}/.well-known/oauth-authorization-server")
            yield Client(made, url, found.raise_for_status().json())


def test_a_client_finds_its_way_from_the_resource_to_the_tool(client: Client) -> None:
    """RFC 9728, RFC 8414, RFC 8693, and a call, with nothing known but the URL of the tool server."""
    made, http = client.world, client.world.anonymous()
    task = made.task()
    refused = task.http.post(client.url, json=READ, headers=MCP)
    assert (refused.status_code, reason_of(refused)) == (401, Code.TOKEN_MISSING)
    scheme, _, told = refused.headers["www-authenticate"].partition(" ")
    assert scheme == "Bearer"
    about = http.get(parse_keqv_list(parse_http_list(told))["resource_metadata"]).raise_for_status().json()
    resource = audience(made.service)
    assert about["resource"] == resource
    (issuer,) = about["authorization_servers"]
    server = http.get(f"{issuer}/.well-known/oauth-authorization-server").json()
    assert server["issuer"] == issuer
    assert resource in server["protected_resources"]
    form = {"grant_type": server["grant_types_supported"][0], "resource": about["resource"]}
    form |= {"subject_token": sign_in(made.people), "subject_token_type": ID_TOKEN}
    token = task.http.post(server["token_endpoint"], data=form).json()["access_token"]
    assert client.bearer(task, token) == ""
    # Another library verifies it by the same documents.
    key = pyjwt.PyJWKSet.from_dict(http.get(server["jwks_uri"]).json())[
        pyjwt.get_unverified_header(token)["kid"]
    ]
    claims = pyjwt.decode(token, key, algorithms=["ES256"], audience=resource, issuer=issuer)
    assert claims["sub"] == made.people.human("lead").uri
    assert claims["act"]["agent_instance"] == task.id


def test_ca05_a_proof_without_our_nonce_is_told_one_and_comes_again(client: Client) -> None:
    """CA-05: `use_dpop_nonce` with a nonce in `DPoP-Nonce`; the JWT-SVID counts once, after that."""
    task, key = client.world.task(), Key()
    first = client.dpop(task, key)
    assert (first.status_code, first.json()["error"]) == (400, "use_dpop_nonce")
    nonce = first.headers["dpop-nonce"]
    wrong = client.dpop(task, key, nonce=nonce[::-1])
    assert (wrong.status_code, wrong.json()["error"]) == (400, "use_dpop_nonce")
    second = client.dpop(task, key, nonce=nonce)
    assert second.status_code == 200, second.text
    assert second.json()["token_type"] == "DPoP"
    claims = client.verified(second.json()["access_token"], "at+jwt", aud=audience(client.world.service))
    assert claims["cnf"] == {"jkt": key.private.thumbprint()}


def test_ca05_a_jwt_svid_binds_one_token_to_a_key(client: Client) -> None:
    """CA-05: whoever has a copy of the assertion gets nothing for a key of theirs."""
    task, key, thief = client.world.task(), Key(), Key()
    nonce = client.dpop(task, key).headers["dpop-nonce"]
    login, subject = task.assertion(), sign_in(client.world.people)

    def ask(whose: Key) -> httpx2.Response:
        proof = whose.proof(client.metadata["token_endpoint"], nonce=nonce)
        return client.world.token(client.world.anonymous(), subject, dpop=proof, **login)

    assert ask(key).status_code == 200
    refused = ask(thief)
    assert refused.status_code in {400, 401}
    assert refused.json()["deputy_code"] == Code.REPLAYED


def test_ca05_a_call_through_envoy_takes_a_proof_of_its_own(client: Client) -> None:
    """CA-05: once; of this key, this token, this URI; and never as a bearer token."""
    task, key = client.world.task(), Key()
    nonce = client.dpop(task, key).headers["dpop-nonce"]
    token = client.dpop(task, key, nonce=nonce).json()["access_token"]
    proof = key.proof(client.url, token)
    assert reason_of(client.call(task, f"DPoP {token}", proof)) == ""
    assert reason_of(client.call(task, f"DPoP {token}", proof)) == Code.REPLAYED
    assert reason_of(client.call(task, f"DPoP {token}", key.proof(client.url, token))) == ""
    for bad in (
        Key().proof(client.url, token),
        key.proof(client.url),
        key.proof(client.url, "another.access.token"),
        key.proof(f"{client.url}/x", token),
        key.proof(client.url, token, htm="GET"),
        key.proof(client.metadata["token_endpoint"], token, nonce=nonce),
    ):
        assert reason_of(client.call(task, f"DPoP {token}", bad)) == Code.DPOP_INVALID
    assert reason_of(client.call(task, f"DPoP {token}")) == Code.DPOP_MISSING
    assert reason_of(client.call(task, f"Bearer {token}", key.proof(client.url, token))) != ""


def test_ca07_introspection_by_its_document(client: Client) -> None:
    """CA-07: whom it concerns is told, signed where they ask for it; nobody else learns anything."""
    task, other = client.world.task(), client.world.task("resolver")
    token = task.token()
    told = client.introspect(task, token).json()
    assert (told["active"], told["sub"]) == (True, client.world.people.human("lead").uri)
    assert told["cnf"].keys() == {"x5t#S256"}
    assert client.introspect(other, token).json() == {"active": False}
    assert client.introspect(task, "not.a.token").json() == {"active": False}
    signed = client.introspect(task, token, accept="application/token-introspection+jwt")
    assert signed.headers["content-type"].startswith("application/token-introspection+jwt")
    claims = client.verified(signed.text, "token-introspection+jwt", aud=task.caller.id)
    assert claims["token_introspection"]["jti"] == told["jti"]


def test_ca07_revocation_by_its_document_counts_at_the_next_call(client: Client) -> None:
    """CA-07: what came of the token falls with it; what a stranger finds, they cannot revoke."""
    task, other = client.world.task(), client.world.task("resolver")
    token, kept = task.token(), task.token()
    child = task.exchange(token, ACCESS_TOKEN, scope="tickets:read").json()["access_token"]
    assert client.revoke(other, token).status_code != 200
    assert client.bearer(task, token) == ""
    assert client.revoke(task, token).status_code == 200
    assert client.revoke(task, "unknown").status_code == 200
    assert [client.bearer(task, each) for each in (token, child, kept)] == [Code.REVOKED, Code.REVOKED, ""]
    assert client.introspect(task, token).json() == {"active": False}
    again = task.exchange(token, ACCESS_TOKEN)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_request")


def test_cl05_an_identity_assertion_for_another_companys_server(client: Client) -> None:
    """CL-05: made for one server and for the agent as that one knows it; no access token here."""
    assert ID_JAG in client.metadata["identity_chaining_requested_token_types_supported"]
    task, unknown = client.world.task("resolver"), client.world.task("triage")
    wanted = {"requested_token_type": ID_JAG, "audience": PARTNER, "scope": "billing:read"}
    answer = task.exchange(sign_in(client.world.people), **wanted)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["issued_token_type"], body["token_type"]) == (ID_JAG, "N_A")
    assertion = body["access_token"]
    claims = client.verified(assertion, "oauth-id-jag+jwt", aud=PARTNER, client_id="resolver-at-partner")
    assert claims["act"]["agent_instance"] == task.id
    assert {"iss", "sub", "jti", "exp", "iat"} <= claims.keys()
    assert "refresh_token" not in body
    assert client.bearer(task, assertion) == Code.TOKEN_TYPE
    refused = unknown.exchange(sign_in(client.world.people), **wanted)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


def test_cl02_a_transaction_token_from_the_token_endpoint(client: Client) -> None:
    """CL-02: for one call of one tool with these arguments; CL-03: it is no access token."""
    task = client.world.task()
    call = {"service": "tickets", "action": "tools/call", **_named(READ["params"])}
    answer = task.exchange(
        task.token(),
        ACCESS_TOKEN,
        requested_token_type=TXN_TOKEN,
        audience=client.world.service.name,
        scope="tickets:read",
        request_details=json.dumps(call),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "N_A"
    token = answer.json()["access_token"]
    claims = client.verified(token, "txntoken+jwt", aud=client.world.service.name, iss=client.world.base)
    assert claims["req_wl"] == task.caller.id
    assert claims["tctx"]["tool"] == "read_ticket"
    assert arguments_sha256(call["arguments"]) in json.dumps(claims["tctx"])
    assert client.bearer(task, token) == Code.TOKEN_TYPE


def _named(params: Any) -> dict[str, Any]:
    return {"tool": params["name"], "arguments": params["arguments"]}
