"""The other endpoints of the small server: introspection, revocation, documents, a resource, approvals."""

from authz.conformance.situation import GRANT_TYPE
from identity.errors import DpopError
from tests.conformance_logins import Logins
from tests.conformance_switches import Caller, Form, RefusedError, Reply
from tests.conformance_tokens import KEY

CIBA = "urn:openid:params:grant-type:ciba"
QUESTION = "the-question-to-alice"


class Documents(Logins):
    """All that is asked for elsewhere than at the token endpoint."""

    def introspect(self, body: bytes, caller: Caller) -> dict[str, object]:
        form = Form.parse(body)
        if self.ok("CA-07/introspect-anonymous"):
            self.client(form, caller)
        claims = self.known.get(form.one("token") or "")
        if claims is None:
            is_quiet = self.ok("CA-07/introspect-unknown")
            return {"active": False} if is_quiet else {"active": False, "sub": "alice"}
        if claims["jti"] in self.revoked or self.breaks("CA-07/introspect"):
            return {"active": False}
        return {"active": True, "sub": claims["sub"]}

    def revoke(self, body: bytes, caller: Caller) -> Reply:
        form = Form.parse(body)
        if self.ok("CA-07/revoke-anonymous"):
            self.client(form, caller)
        claims = self.known.get(form.one("token") or "")
        if claims is None and not self.ok("CA-07/revoke-unknown"):
            raise RefusedError("invalid_request")
        if claims is not None and self.ok("CA-07/revoke"):
            self.revoked.add(claims["jti"])
        return 200, {}, b""

    def jwks(self) -> dict[str, object]:
        jwk = dict(KEY.public.jwk())
        return {"keys": [jwk] if self.ok("DM-01/keys") else [jwk, {**jwk, "kid": "other", "d": "AA"}]}

    def metadata(self) -> dict[str, object]:
        base = self.issuer
        document: dict[str, object] = {
            "issuer": base if self.ok("DM-01/issuer") else f"{base}/",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/jwks",
            "response_types_supported": [],
            "grant_types_supported": [GRANT_TYPE] if self.ok("DM-01/grant-type") else ["implicit"],
            "introspection_endpoint": f"{base}/introspect",
            "revocation_endpoint": f"{base}/revoke",
            "backchannel_authentication_endpoint": f"{base}/bc-authorize",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_details_types_supported": ["conformance_call"],
            "dpop_signing_alg_values_supported": ["ES256"],
        }
        if not self.ok("DM-01/members"):
            del document["response_types_supported"]
        if not self.ok("DM-01/auth-methods"):
            document["token_endpoint_auth_methods_supported"] = ["none"]
        if not self.ok("DM-01/https"):
            document["device_authorization_endpoint"] = "http://elsewhere.example/device"
        return document

    # ------------------------------------------------------------ approvals

    def ask(self, body: bytes, caller: Caller) -> dict[str, object]:
        form = Form.parse(body)
        if not self.breaks("CA-06/anonymous"):
            self.client(form, caller)
        return {"auth_req_id": QUESTION, "expires_in": 120, "interval": 5}

    def check_poll(self, form: Form) -> None:
        """Nobody answers here, so a poll waits for ever."""
        if form.one("grant_type") == CIBA and form.one("auth_req_id") == QUESTION:
            raise RefusedError("authorization_pending" if self.ok("CA-06/pending") else "access_denied")

    # ------------------------------------------------------------ a protected resource

    def resource_metadata(self) -> dict[str, object]:
        is_right = self.ok("DM-02/published")
        servers = [self.issuer] if self.ok("DM-02/servers") else []
        methods = ["header"] if self.ok("DM-02/header-only") else ["header", "query"]
        return {
            "resource": f"{self.issuer}/api" if is_right else self.issuer,
            "authorization_servers": servers,
            "bearer_methods_supported": methods,
        }

    def call(self, caller: Caller) -> Reply:
        """Answer who shows a token that is bound to the key of the proof."""
        kind, _, token = caller.headers.get("authorization", "").partition(" ")
        claims = self.known.get(token)
        if claims is not None and self.breaks("CA-05/resource"):
            return 200, {}, b"{}"
        where = f'{self.issuer}/.well-known/oauth-protected-resource/api"'
        said = f'DPoP resource_metadata="{where}' if self.ok("DM-02/challenge") else "DPoP"
        refused = 401, {"www-authenticate": said}, b""
        if claims is None or kind != "DPoP" or len(caller.proofs) != 1:
            return refused
        try:
            proof = self.verified_proof(caller.proofs[0], "GET", "/api", token)
            proof.require_key(claims.get("cnf", {}).get("jkt", ""))
        except DpopError:
            return refused
        return (200, {}, b"{}") if self.first_time(f"call {proof.replay_key}") else refused
