"""A Kubernetes API server as far as TokenReview goes, over real TLS and in the real wire format.

- It verifies tokens as the real one does: signature, time, audience, and that the pod lives.
- Its answers have the members, the order and the words of kube-apiserver 1.33: managed fields, the token
  echoed in `spec`, errors as `kind: Status`.
- `answer` replaces what it says, for a server that is broken, older, or somebody else.
"""

import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from identity.certificate_authority import CertificateAuthority
from identity.keys import SigningKey
from identity.kubernetes import ApiServer
from identity.pod_identity import REVIEW_PATH
from identity.spiffe import SpiffeId, TrustDomain
from identity.x509_svid import issue_x509_svid

AUDIENCE = "deputy"
API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
ISSUER = API_AUDIENCE
CLUSTER = TrustDomain.parse("cluster.example")
_KEY = rsa.generate_private_key(65537, 2048)
_CA = CertificateAuthority.generate(CLUSTER, datetime.now(UTC))
OTHER_CA = CertificateAuthority.generate(CLUSTER, datetime.now(UTC))

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeApi:
    """The API server of a cluster with two pods."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca_file, self.token_file = directory / "ca.crt", directory / "token"
        self.ca_file.write_bytes(_CA.certificate_pem())
        self.pods = {
            "runner-7d4b9c5f6-x2x1z": "0b9c0f3e-7a0e-4f0f-9d57-2a4b7c1f0c11",
            "deputy-0": "5ac2e4d4-54f0-4a4e-8a3f-6f9c7a1be0aa",
        }
        self.reviews: list[Mapping[str, Any]] = []
        self.knows_audiences = True
        self.answer: Answer | None = None
        self.base = ""
        self.token_file.write_text(self.own_token())

    def token(
        self,
        account: str = "runner",
        audiences: list[str] | None = None,
        pod: str | None = "runner-7d4b9c5f6-x2x1z",
        key: rsa.RSAPrivateKey = _KEY,
        seconds: int = 3600,
        **changes: object,
    ) -> str:
        """Project a token into a pod, as the kubelet does."""
        now = datetime.now(UTC)
        names: dict[str, object] = {
            "namespace": "agents",
            "node": {"name": "node-1", "uid": "1dd8a4d0-5a7c-4b8f-a7c3-0f2d2a6f6a01"},
            "serviceaccount": {"name": account, "uid": "f3b7a1c2-98d4-4a8f-8d6e-6a1f4e0b7c55"},
            "warnafter": int(now.timestamp()) + 3607,
        }
        if pod is not None:
            names["pod"] = {"name": pod, "uid": self.pods[pod]}
        claims = {
            "aud": [AUDIENCE] if audiences is None else audiences,
            "exp": int((now + timedelta(seconds=seconds)).timestamp()),
            "iat": int(now.timestamp()),
            "iss": ISSUER,
            "jti": "0a0c9d3e-5b7a-4f3e-8f5c-b5d7c3a9e1f2",
            "kubernetes.io": names,
            "nbf": int(now.timestamp()),
            "sub": f"system:serviceaccount:agents:{account}",
        }
        return jwt.encode({**claims, **changes}, key, "RS256", headers={"kid": "cluster-key"})

    def own_token(self, **changes: Any) -> str:
        """Project our own token, which is for the API server itself."""
        return self.token(**{"account": "deputy", "audiences": [API_AUDIENCE], "pod": "deputy-0", **changes})

    def settings(self, **changes: Any) -> ApiServer:
        given = {
            "url": self.base,
            "ca_file": self.ca_file,
            "token_file": self.token_file,
            "audience": AUDIENCE,
        }
        return ApiServer.parse(**{**given, **changes})

    async def review(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            return await self.answer(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller, _ = self._authenticate(token, [API_AUDIENCE])
        if scheme != "Bearer" or caller is None:
            return failure(401, "Unauthorized", "Unauthorized")
        if caller["username"] != "system:serviceaccount:agents:deputy":
            words = f'tokenreviews.authentication.k8s.io is forbidden: User "{caller["username"]}" cannot'
            return failure(403, "Forbidden", f'{words} create resource "tokenreviews" at the cluster scope')
        asked = await request.json()
        self.reviews.append(asked)
        audiences = asked["spec"].get("audiences", [])
        if self.knows_audiences:
            user, error = self._authenticate(asked["spec"]["token"], audiences or [API_AUDIENCE])
        else:
            user, error = self._authenticate(asked["spec"]["token"], None)
            audiences = []
        if user is None:
            return created(review(asked["spec"], {"user": {}, "error": error}))
        status = {"authenticated": True, "user": user}
        return created(review(asked["spec"], status | ({"audiences": audiences} if audiences else {})))

    def _authenticate(self, token: str, audiences: list[str] | None) -> tuple[dict[str, Any] | None, str]:
        try:
            claims = jwt.decode(token, _KEY.public_key(), ["RS256"], options={"verify_aud": False})
        except jwt.ExpiredSignatureError:
            return None, "[invalid bearer token, service account token has expired]"
        except jwt.InvalidTokenError:
            return None, "invalid bearer token"
        if audiences is not None and not set(audiences) & set(claims["aud"]):
            said, wanted = (json.dumps(names).replace(", ", " ") for names in (claims["aud"], audiences))
            words = f"token audiences {said} is invalid for the target audiences {wanted}"
            return None, f"[invalid bearer token, {words}]"
        pod = claims["kubernetes.io"].get("pod")
        if pod is not None and self.pods.get(pod["name"]) != pod["uid"]:
            return None, "[invalid bearer token, service account token has been invalidated]"
        return user_of(claims), ""

    @asynccontextmanager
    async def serving(self, ca: CertificateAuthority = _CA) -> AsyncIterator["KubeApi"]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_post(REVIEW_PATH, self.review)
        app.router.add_post(f"/k8s/clusters/c-1{REVIEW_PATH}", self.review)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_server_tls(ca))
            await site.start()
            self.base = f"https://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


def user_of(claims: Mapping[str, Any]) -> dict[str, Any]:
    names = claims["kubernetes.io"]
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
    if "pod" in names:
        extra |= {
            "authentication.kubernetes.io/node-name": [names["node"]["name"]],
            "authentication.kubernetes.io/node-uid": [names["node"]["uid"]],
            "authentication.kubernetes.io/pod-name": [names["pod"]["name"]],
            "authentication.kubernetes.io/pod-uid": [names["pod"]["uid"]],
        }
    accounts = "system:serviceaccounts"
    return {
        "username": claims["sub"],
        "uid": names["serviceaccount"]["uid"],
        "groups": [accounts, f"{accounts}:{names['namespace']}", "system:authenticated"],
        "extra": extra,
    }


def review(spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Put a status into the answer that the API server gives."""
    fields: dict[str, object] = {"f:spec": {"f:audiences": {}, "f:token": {}}}
    entry = {
        "manager": "Python",
        "operation": "Update",
        "apiVersion": "authentication.k8s.io/v1",
        "time": "2026-11-21T12:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return {
        "kind": "TokenReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": None, "managedFields": [entry]},
        "spec": dict(spec),
        "status": dict(status),
    }


def created(document: object) -> web.Response:
    body = json.dumps(document, separators=(",", ":")) + "\n"
    return web.Response(status=201, body=body.encode(), content_type="application/json")


def failure(code: int, reason: str, message: str) -> web.Response:
    """Answer as the API server does when it does not do what it is asked."""
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    body = json.dumps(document, separators=(",", ":")) + "\n"
    return web.Response(status=code, body=body.encode(), content_type="application/json")


def _server_tls(ca: CertificateAuthority) -> ssl.SSLContext:
    key, now = SigningKey.generate(), datetime.now(UTC)
    der = issue_x509_svid(
        ca=ca,
        spiffe_id=SpiffeId.parse("spiffe://cluster.example/kube-apiserver"),
        public_key=key.private_key.public_key(),
        not_after=now + timedelta(hours=1),
        now=now,
        dns_names=["127.0.0.1", "kubernetes.default.svc"],
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key.reveal_pem() + ssl.DER_cert_to_PEM_cert(der).encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context
