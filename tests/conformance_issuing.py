"""What the small server issues: access tokens, assertions for a partner, and transaction tokens."""

import secrets
from typing import Any

from authz.conformance.situation import ACCESS_TOKEN, TOKEN_TYPE
from identity.jws import sign
from identity.keys import SigningKey
from tests.conformance_switches import Asked, Caller, Form, RefusedError, Switches
from tests.conformance_tokens import ID_JAG, KEY, MESH, SERVICE, TICKETS, TXN_TOKEN, Claims

_INSTANCE = "01JD0000000000000000000000"


class Issuing(Switches):
    """Tokens that are made; what they hold and what is said of them."""

    def issue(self, asked: Asked) -> dict[str, object]:
        subject, actor = asked.subject, asked.actor
        presenter = actor["sub"] if actor else asked.client
        ends = [subject["exp"], *([actor["exp"]] if actor else [])]
        exp = min(self.now + 300, *ends) if self.ok("CL-07/lifetime") else max(ends) + 60
        name = presenter if self.ok("ID-02/stable") else f"{presenter}-{secrets.token_hex(4)}"
        claims: dict[str, Any] = {
            "iss": self.issuer if self.ok("CL-01/issuer") else "https://another.example",
            "sub": subject["sub"] if self.ok("ID-01/sub-kept") else "bob",
            "aud": asked.audience,
            "client_id": name if self.ok("ID-09/client-id") else subject["sub"],
            "scope": " ".join(sorted(asked.scopes)),
            "iat": self.now if self.ok("CL-07/no-future") else self.now + 3600,
            "exp": exp,
            "jti": self._jti(),
            "txn": subject.get("txn") if self.ok("CL-06/txn-kept") else "another",
            "act": self._act(subject, presenter),
            "cnf": self._cnf(actor, asked.caller),
            "authorization_details": asked.details,
        }
        self._spoil(claims, asked)
        self._spoil_chain(claims, subject, actor)
        claims = {name: value for name, value in claims.items() if value is not None}
        self.issued.add(claims["jti"])
        key = KEY if self.ok("CL-01/signature") else SigningKey.generate()
        token = sign(key, "at+jwt" if self.ok("CL-01/typ") else "JWT", claims)
        self.known[token] = claims
        return self._answer(token, claims, asked.form)

    def _spoil(self, claims: dict[str, Any], asked: Asked) -> None:
        form, subject = asked.form, asked.subject
        if not self.ok("CL-01/claims"):
            claims["jti_"] = claims["jti"]
            claims["iat"] = None
        if not self.ok("NR-03/audience"):
            claims["aud"] = "https://elsewhere.example"
        if not self.ok("NR-03/one-audience"):
            claims["aud"] = [TICKETS, TICKETS]
        if not self.ok("TX-12/override") and form.one("sub"):
            claims["sub"] = form.one("sub")
        if self.breaks("ID-07/client-profile") and "client_profile" in subject["act"]:
            claims["client_profile"] = subject["act"]["client_profile"]
        if self.breaks("NR-05/second-hop"):
            claims["txn"] = "another"

    def _spoil_chain(self, claims: dict[str, Any], subject: Claims, actor: Claims | None) -> None:
        if actor is None and not self.ok("TX-07/impersonation") and "act" not in subject:
            claims["act"] = None
        is_issued = subject.get("jti") in self.issued
        if actor is None and not self.ok("TX-08/subject-act") and "act" in subject and not is_issued:
            claims["act"] = None
        if actor is None and not self.ok("TX-08/issued-act") and is_issued:
            claims["act"] = None
        if not self.ok("ID-07/not-inferred") and "act" not in subject and claims["act"]:
            inferred = {"iss": self.issuer, "sub": "agent-x"}
            claims["act"]["act"] = {**inferred, "act": inferred}

    def _act(self, subject: Claims, presenter: str) -> dict[str, Any]:
        before = subject.get("act")
        if before is not None and before["sub"] == presenter:
            act = dict(before)
        else:
            act = {"iss": self.issuer, "sub": presenter} | ({"act": before} if before else {})
            act["agent_instance"] = _INSTANCE
        if self.current.startswith("TX-08"):
            return act
        if not self.ok("ID-02/instance"):
            act["agent_instance"] = secrets.token_hex(13)
        if not self.ok("ID-01/not-inverted"):
            act["sub"] = subject["sub"]
        if not self.ok("ID-03/namespace"):
            act.pop("iss")
        if not self.ok("ID-04/not-truncated"):
            act.pop("act", None)
        if not self.ok("ID-05/unchanged") and "act" in act:
            act["act"] = {**act["act"], "sub": "somebody"}
        if not self.ok("CL-08/no-inner-binding"):
            act["cnf"] = {"jkt": "x"}
        return act

    def _cnf(self, actor: Claims | None, caller: Caller) -> dict[str, str] | None:
        if not self.ok("TX-11/never-unbound") and caller.jkt is None:
            return None
        if actor is None and caller.jkt is not None:
            return {"jkt": caller.jkt if not self.breaks("CA-05/bound") else "of-somebody"}
        own = caller.thumbprint if actor is None else "a" * 43
        if own is None:
            return None
        cnf = {"x5t#S256": own if self.ok("CL-08/bound") else "q" * 43}
        return cnf if self.ok("CL-08/one-binding") else cnf | {"jkt": "x"}

    def _jti(self) -> str:
        if not self.ok("CL-06/jti-unique"):
            return "one-and-only-one-and-only"
        return secrets.token_urlsafe(16) if self.ok("CL-06/jti-long") else secrets.token_urlsafe(4)

    def _answer(self, token: str, claims: Claims, form: Form) -> dict[str, object]:
        is_proved = "jkt" in claims.get("cnf", {}) and len(claims["cnf"]) == 1
        answer: dict[str, object] = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "DPoP" if is_proved else "Bearer",
            "expires_in": claims["exp"] - self.now,
            "scope": claims["scope"],
        }
        if "authorization_details" in claims and self.ok("NR-04/told"):
            answer["authorization_details"] = claims["authorization_details"]
        if not self.ok("TX-05/issued-token-type"):
            del answer["issued_token_type"]
        if not self.ok("TX-05/token-type") and form.one("authorization_details") is None and not is_proved:
            answer["token_type"] = "mac"
        if not self.ok("TX-05/expires-in"):
            answer["expires_in"] = str(answer["expires_in"])
        if not self.ok("TX-05/expires-in-true"):
            answer["expires_in"] = 86400
        if not self.ok("TX-05/scope-told") and form.one("scope"):
            answer["scope"] = f"{claims['scope']} more"
        if not self.ok("TX-05/no-refresh-token") and form.one("requested_token_type") is None:
            answer["refresh_token"] = "secret"
        if form.one("requested_token_type") == f"{TOKEN_TYPE}refresh_token":
            answer["refresh_token"] = "secret"
        return answer

    # ------------------------------------------------------------ other kinds

    def assertion(self, asked: Asked) -> dict[str, object]:
        """An ID-JAG."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": asked.subject["sub"],
            "aud": asked.audience,
            "client_id": f"{asked.client}-at-partner",
            "jti": self._jti(),
            "iat": self.now,
            "exp": min(self.now + 300, asked.subject["exp"]),
            "scope": " ".join(sorted(asked.scopes)),
            "act": self._act(asked.subject, asked.client),
        }
        if self.breaks("CL-05/claims"):
            del claims["client_id"]
        token = sign(KEY, "oauth-id-jag+jwt", claims)
        kind = "N_A" if not self.breaks("CL-05/answer") else "Bearer"
        return self._other(token, ID_JAG, kind, claims)

    def transaction(self, asked: Asked) -> dict[str, object]:
        """A transaction token; a service gets one in place of another."""
        form, subject = asked.form, asked.subject
        if not (form.one("audience") and form.one("scope")) and not self.breaks("CL-02/incomplete"):
            raise RefusedError("invalid_request")
        is_replaced = subject.get("aud") == MESH
        if is_replaced and asked.client != SERVICE:
            raise RefusedError("invalid_request")
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject["sub"] if not (is_replaced and self.breaks("CL-04/kept")) else "bob",
            "aud": MESH,
            "txn": subject.get("txn"),
            "scope": " ".join(sorted(asked.scopes)),
            "req_wl": asked.client,
            "iat": self.now,
            "exp": min(self.now + 60, subject["exp"]) if self.ok("CL-07/transaction") else self.now + 3600,
            "jti": self._jti(),
            "act": subject.get("act"),
        }
        if is_replaced and self.breaks("CL-04/regained"):
            claims["scope"] = form.one("scope")
        if self.breaks("CL-02/claims"):
            del claims["req_wl"]
        if self.breaks("CL-03/no-inbound"):
            claims["tctx"] = {"token": form.one("subject_token")}
        token = sign(
            KEY, "txntoken+jwt", {name: value for name, value in claims.items() if value is not None}
        )
        kind = "N_A" if not self.breaks("CL-02/answer") else "Bearer"
        return self._other(token, TXN_TOKEN, kind, claims)

    def _other(self, token: str, issued: str, kind: str, claims: Claims) -> dict[str, object]:
        return {
            "access_token": token,
            "issued_token_type": issued,
            "token_type": kind,
            "expires_in": claims["exp"] - self.now,
            "scope": claims["scope"],
        }
