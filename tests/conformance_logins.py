"""How a client logs in at the small server: a secret, an assertion, a certificate, and proofs."""

from datetime import UTC, datetime

from identity.dpop import DpopProof
from identity.errors import DpopError
from identity.http_uri import HttpUri
from tests.conformance_switches import Caller, Form, RefusedError, Switches
from tests.conformance_tokens import CLIENT_KEY, JWT_BEARER, OWN, SECRETS, THUMBPRINTS, Claims, verified

NONCE = "the-nonce-of-this-hour"
# What a proof is looked at for; a server that is broken there takes any.
PROOF_CASES = tuple(
    f"CA-05/{name}"
    for name in ("method", "uri", "time", "name", "header", "algorithm", "key", "signature", "two-", "hash")
)


class Logins(Switches):
    """Who the client is, and which key it proves."""

    def client(self, form: Form, caller: Caller) -> str:
        logins = [
            *(["basic"] if "authorization" in caller.headers else []),
            *(["post"] if "client_secret" in form.values else []),
            *(["assertion"] if {"client_assertion", "client_assertion_type"} & form.values.keys() else []),
            *(["certificate"] if caller.thumbprint else []),
        ]
        if len(logins) > 1 and self.ok("CA-04/two-logins"):
            raise RefusedError("invalid_request")
        if not logins and self.breaks("CA-04/no-login"):
            return OWN
        client = self._logged_in("basic" if "basic" in logins else (logins or [""])[0], form, caller)
        if len(logins) > 1:  # broken: the one that is good counts
            client = client or next(
                (who for each in logins if (who := self._logged_in(each, form, caller)) is not None), None
            )
        named = form.one("client_id")
        if client is None:
            raise RefusedError("invalid_client", 401)
        if named not in {None, client} and not self.breaks("TX-12/client-id", "CA-02/client-id"):
            raise RefusedError("invalid_client", 401)
        return client

    def _logged_in(self, how: str, form: Form, caller: Caller) -> str | None:
        fallback = OWN if self.breaks("CA-04/wrong-login", "CA-02/issued") else None
        match how:
            case "basic":
                pair = caller.basic
                named, secret = pair or ("", "")
            case "post":
                named, secret = form.one("client_id") or "", form.one("client_secret") or ""
            case "assertion":
                return self._asserted(form)
            case "certificate":
                found = [name for name, each in THUMBPRINTS.items() if each == caller.thumbprint]
                return found[0] if found else fallback
            case _:
                return None
        if SECRETS.get(named) == secret:
            return named
        return fallback

    def _asserted(self, form: Form) -> str | None:
        if form.one("client_assertion_type") != JWT_BEARER and self.ok("CA-01/untyped"):
            raise RefusedError("invalid_request")
        text = form.one("client_assertion") or ""
        careless = (
            "CA-01/forged",
            "CA-04/wrong",
            "CA-01/audience-",
            "CA-01/issuer",
            "CA-03/",
            "CL-03/no-cred",
        )
        if self.breaks(*careless):
            return OWN
        signed = verified(text, "jwt", CLIENT_KEY)
        claims = verified(text, "jwt") if signed is None else signed
        if claims is None or (signed is not None and not self._is_fresh(signed)):
            return None
        if claims.get("aud") != self.issuer and self.ok("CA-01/wrong-audience"):
            return None
        client = claims.get("sub")
        return client if client in SECRETS and claims.get("iss") == client else None

    def _is_fresh(self, claims: Claims) -> bool:
        """Whether an assertion that a client made for one request counts."""
        lives = isinstance(claims.get("exp"), int) and self.now < claims["exp"] <= self.now + 300
        return lives and "jti" in claims and self.first_time(f"assertion {claims['jti']}")

    def proved(self, caller: Caller) -> str | None:
        """Return the thumbprint of the key that the client proves to have; None without a proof."""
        if not caller.proofs or self.breaks("TX-06/dpop-proof"):
            return None
        if self.breaks(*PROOF_CASES):
            return "of-some-key"
        if len(caller.proofs) > 1:
            raise RefusedError("invalid_dpop_proof")
        try:
            proof = self.verified_proof(caller.proofs[0], "POST", "/token")
        except DpopError as error:
            is_told = error.error == "use_dpop_nonce" and not self.breaks("CA-05/nonce")
            raise RefusedError(error.error, headers={"dpop-nonce": NONCE} if is_told else {}) from None
        if not self.first_time(f"proof {proof.replay_key}") and not self.breaks("CA-05/replayed", "JW-09/"):
            raise RefusedError("invalid_dpop_proof")
        return proof.jkt

    def verified_proof(self, text: str, method: str, path: str, token: str | None = None) -> DpopProof:
        return DpopProof.verify(
            text,
            method=method,
            targets=(HttpUri.parse(f"{self.issuer}{path}"),),
            now=datetime.fromtimestamp(self.now, UTC),
            access_token=token,
            nonces=(NONCE,) if token is None else None,
            window=600,
            leeway=600,
        )
