"""A small authorization server that keeps the checklist, and can be broken in one rule at a time.

- `broken` holds ids of cases (`TX-03/repeated-parameter`); the server breaks exactly these rules.
- `respond` is pure but for the tokens that it remembers; `app` serves it over HTTP, `InProcess` without.
- While a case of `lenient` runs, any subject token is taken for the good one: that is how a verifier is
  broken that the tricks of JW-01 to JW-05 get past.
"""

import json
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from authz.conformance.login import AssertionLogin, CertificateLogin, SecretLogin
from authz.conformance.message import Answer, Request, Wire, wire
from authz.conformance.situation import ACCESS_TOKEN, GRANT_TYPE, TOKEN_TYPE, Inputs, Presented
from identity.errors import IdentityError
from identity.jws import UnverifiedToken, sign, verify
from identity.keys import KeySet, SigningKey

ISSUER = "http://127.0.0.1"
TICKETS, BILLING = "https://tickets.example", "https://billing.example"
SCOPES = frozenset({"tickets:read", "tickets:write", "tickets:admin"})
OWN, OTHER, ACTOR, FIRST = "agent-a", "agent-b", "agent-c", "agent-first"
SECRETS = {OWN: "correct horse & battery", OTHER: "battery staple"}
THUMBPRINTS = {OWN: "o" * 43, OTHER: "p" * 43}
JWT = f"{TOKEN_TYPE}jwt"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = SigningKey.generate()
FORM_TYPE = "application/x-www-form-urlencoded"
NOW = 1_800_000_000


class RefusedError(Exception):
    """An OAuth error."""

    def __init__(self, error: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.status = error, status


Reply = tuple[int, dict[str, str], bytes]


def jwt(typ: str = "at+jwt", **claims: object) -> str:
    plain = {"iss": ISSUER, "iat": NOW - 10, "exp": NOW + 600, "jti": secrets.token_urlsafe(16)}
    return sign(KEY, typ, {name: value for name, value in (plain | claims).items() if value is not None})


def subject_token(*hops: str, **claims: object) -> str:
    """A person's token; `hops` are its actors, the presenter first."""
    act: dict[str, object] | None = None
    for name in reversed(hops):
        act = {"iss": ISSUER, "sub": name} | ({"act": act} if act else {})
    plain: dict[str, Any] = {
        "sub": "alice",
        "aud": "https://front.example",
        "client_id": hops[0] if hops else OWN,
        "txn": "t-1",
    }
    return jwt(**{**plain, "scope": "tickets:read tickets:write", "act": act, **claims})


def actor_token(**claims: object) -> str:
    return jwt("JWT", **{"sub": ACTOR, "aud": ISSUER, "use": "actor", **claims})


def assertion(client: str = OWN, audience: str = ISSUER) -> str:
    return jwt("JWT", iss=client, sub=client, aud=audience)


@dataclass
class Server:
    """One server; `current` is the case that runs, as the run's progress says."""

    broken: frozenset[str] = frozenset()
    issuer: str = ISSUER
    now: int = NOW
    current: str = ""
    crashes: bool = False
    revoked: set[str] = field(default_factory=set)
    issued: set[str] = field(default_factory=set)
    known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    spent: int | None = None
    verify: Callable[[str], Mapping[str, Any] | None] = lambda _: None

    def ok(self, case: str) -> bool:
        return case not in self.broken

    @property
    def breaks_now(self) -> bool:
        return self.current in self.broken

    @property
    def lenient(self) -> bool:
        return self.breaks_now and self.current.startswith(("JW-", "ID-04/deep", "CL-07/exp"))

    # ------------------------------------------------------------ HTTP

    def respond(self, path: str, sent: Wire, thumbprint: str | None = None) -> Reply:
        caller = _Caller({name.lower(): value for name, value in sent.headers}, thumbprint)
        try:
            match path:
                case "/token":
                    return self._json(self._token(sent, caller))
                case "/introspect":
                    return self._json(self._introspect(sent.body, caller))
                case "/revoke":
                    return self._revoke(sent.body, caller)
                case "/jwks":
                    return self._json(self._jwks())
                case "/.well-known/oauth-authorization-server" if self.ok("DM-01/published"):
                    return self._json(self._metadata())
            return 404, {}, b""
        except RefusedError as refusal:
            return self._error(refusal, sent.body)

    def _json(self, members: Mapping[str, object]) -> Reply:
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        is_answer = "access_token" in members
        if is_answer and not self.ok("TX-01/no-store"):
            del headers["cache-control"]
        if is_answer and not self.ok("TX-01/json-answer"):
            headers["content-type"] = "text/html"
        return 200, headers, json.dumps(members).encode()

    def _error(self, refusal: RefusedError, body: bytes) -> Reply:
        description = "no" if self.ok("TX-06/error-form") else 'a "quoted" \u201ctext\u201d'
        if not self.ok("TX-06/no-echo"):
            description = dict(parse_qsl(body.decode("latin-1"))).get("subject_token", "no")
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        if refusal.status == 401 and self.ok("CA-04/challenge"):
            headers["www-authenticate"] = 'Basic realm="x"'
        members = {"error": refusal.error, "error_description": description}
        return refusal.status, headers, json.dumps(members, ensure_ascii=False).encode()

    # ------------------------------------------------------------ the token endpoint

    def _token(self, sent: Wire, caller: "_Caller") -> dict[str, object]:
        form = self._form(sent, caller)
        client = self._client(form, caller)
        self._check_grant(form)
        subject = self._subject(form)
        actor = self._actor(form)
        self._check_presenter(subject, actor, client, caller)
        asked = _Asked(
            form, subject, actor, client, caller, self._scopes(form, subject), self._audience(form)
        )
        self._check_extensions(form, caller)
        if self.spent is not None:
            self.spent -= 1
            if self.spent < 0:
                raise RefusedError("invalid_request")
        return self._issue(asked)

    def _form(self, sent: Wire, caller: "_Caller") -> "_Form":
        body = self._body(sent, caller.headers.get("content-type", ""))
        if len(body) > 300_000 and not self.lenient:
            raise RefusedError("invalid_request", 413)
        try:
            form = _Form.parse(body)
        except ValueError:
            if self.lenient:
                return _Form(self.good_form.values)
            if self.crashes:
                raise
            raise RefusedError("invalid_request") from None
        if "subject_token" in form.values and not self.current:
            self.good_form = form
        return form

    def _body(self, sent: Wire, content_type: str) -> bytes:
        query = sent.query.encode()
        if sent.method == "GET" and not self.ok("TX-01/get"):
            return query
        if sent.method == "GET":
            raise RefusedError("invalid_request", 405)
        if content_type == "application/json" and not self.ok("TX-01/json-body"):
            return urlencode(json.loads(sent.body)).encode()
        if content_type.startswith("multipart/") and not self.ok("TX-01/multipart"):
            return urlencode([(name, values[0]) for name, values in self.good_form.values.items()]).encode()
        if content_type != FORM_TYPE:
            raise RefusedError("invalid_request", 415)
        if query and self.ok("TX-01/query"):
            raise RefusedError("invalid_request")
        return b"&".join(part for part in (sent.body, query) if part)

    good_form: Any = None

    def _client(self, form: "_Form", caller: "_Caller") -> str:
        logins = [
            *(["basic"] if "authorization" in caller.headers else []),
            *(["post"] if "client_secret" in form.values else []),
            *(["assertion"] if {"client_assertion", "client_assertion_type"} & form.values.keys() else []),
            *(["certificate"] if caller.thumbprint else []),
        ]
        if len(logins) > 1 and self.ok("CA-04/two-logins"):
            raise RefusedError("invalid_request")
        if not logins and self.breaks_now and self.current == "CA-04/no-login":
            return OWN
        client = self._logged_in("basic" if "basic" in logins else (logins or [""])[0], form, caller)
        if len(logins) > 1:  # broken: the one that is good counts
            client = client or next(
                (who for each in logins if (who := self._logged_in(each, form, caller)) is not None), None
            )
        named = form.one("client_id")
        if client is None:
            raise RefusedError("invalid_client", 401)
        if named not in {None, client} and self.ok("TX-12/client-id"):
            raise RefusedError("invalid_client", 401)
        return client

    def _logged_in(self, how: str, form: "_Form", caller: "_Caller") -> str | None:
        fallback = OWN if self.breaks_now and self.current == "CA-04/wrong-login" else None
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

    def _asserted(self, form: "_Form") -> str | None:
        if form.one("client_assertion_type") != JWT_BEARER and self.ok("CA-01/untyped"):
            raise RefusedError("invalid_request")
        text = form.one("client_assertion") or ""
        if not self.ok("CA-01/forged") and self.current == "CA-01/forged":
            return OWN
        if not self.ok("CA-04/wrong-login") and self.current == "CA-04/wrong-login":
            return OWN
        claims = _verified(text, "jwt") or {}
        if claims.get("aud") != ISSUER and self.ok("CA-01/wrong-audience"):
            return None
        client = claims.get("sub")
        return client if client in SECRETS and claims.get("iss") == client else None

    def _check_grant(self, form: "_Form") -> None:
        grant_type = form.one("grant_type")
        if not grant_type:
            if self.ok("TX-02/grant-missing"):
                raise RefusedError("invalid_request")
        elif grant_type != GRANT_TYPE and self.ok("TX-02/grant-unknown"):
            raise RefusedError("unsupported_grant_type")
        repeated = [name for name, values in form.values.items() if len(values) > 1]
        if set(repeated) - {"audience", "resource"} and self.ok("TX-03/repeated-parameter"):
            raise RefusedError("invalid_request")
        requested = form.one("requested_token_type")
        if requested == f"{TOKEN_TYPE}refresh_token" and self.ok("TX-05/refresh-token-requested"):
            raise RefusedError("invalid_request")
        known = {None, ACCESS_TOKEN, f"{TOKEN_TYPE}refresh_token"}
        if requested not in known and self.ok("TX-04/requested-unknown"):
            raise RefusedError("invalid_request")

    def _subject(self, form: "_Form") -> Mapping[str, Any]:
        text, kind = form.one("subject_token"), form.one("subject_token_type")
        if not text:
            if self.ok("TX-03/no-subject-token"):
                raise RefusedError("invalid_request")
            text = self.good_form.one("subject_token")
        if not kind:
            if self.ok("TX-03/no-subject-token-type"):
                raise RefusedError("invalid_request")
            kind = ACCESS_TOKEN
        self._check_kind(kind)
        if kind == f"{TOKEN_TYPE}unsigned_json":
            if self.ok("TX-04/unsigned-json"):
                raise RefusedError("invalid_request")
            text = self.good_form.one("subject_token")
        claims = self._verified_subject(text)
        if self.lenient and claims is None:
            claims = _verified(self.good_form.one("subject_token"), "at+jwt")
        if claims is None:
            raise RefusedError(self._bad_token(text))
        if claims["exp"] <= self.now and not self.lenient:
            raise RefusedError("invalid_request")
        if claims.get("sub") == "mallory" and self.ok("TX-10/no-grant"):
            raise RefusedError("invalid_request")
        return claims

    def _verified_subject(self, text: str) -> Mapping[str, Any] | None:
        return _verified(text, "at+jwt") or self.verify(text)

    def _bad_token(self, text: str) -> str:
        case = "TX-06/garbage" if "." not in text else "TX-06/forged"
        return "invalid_request" if self.ok(case) or self.current != case else "invalid_token"

    def _check_kind(self, kind: str) -> None:
        others = {f"{TOKEN_TYPE}{name}" for name in ("refresh_token", "saml1", "saml2")}
        if kind in others:
            if self.ok("TX-04/another-type"):
                raise RefusedError("invalid_request")
        elif kind == f"{TOKEN_TYPE}id_token":
            if not self.lenient:
                raise RefusedError("invalid_request")
        elif kind not in {ACCESS_TOKEN, f"{TOKEN_TYPE}unsigned_json"} and self.ok("TX-04/unknown-type"):
            raise RefusedError("invalid_request")

    def _actor(self, form: "_Form") -> Mapping[str, Any] | None:
        text, kind = form.one("actor_token"), form.one("actor_token_type")
        if text and not kind:
            if self.ok("TX-03/actor-token-alone"):
                raise RefusedError("invalid_request")
            kind = JWT
        if kind and not text:
            if self.ok("TX-03/actor-token-type-alone"):
                raise RefusedError("invalid_request")
            return None
        if not text:
            return None
        claims = _verified(text, "jwt")
        if claims is None and self.lenient:
            claims = {"sub": ACTOR, "exp": self.now + 600}
        if claims is None or kind != JWT:
            if not self.ok("TX-03/actor-token-alone") and self.current == "TX-03/actor-token-alone":
                return None
            raise RefusedError("invalid_request" if self.ok("TX-06/bad-actor") else "invalid_token")
        return claims

    def _check_presenter(
        self, subject: Mapping[str, Any], actor: Mapping[str, Any] | None, client: str, caller: "_Caller"
    ) -> None:
        presenter = subject["act"]["sub"] if "act" in subject else subject.get("client_id")
        if self.breaks_now and self.current.startswith("TX-08"):
            return
        if presenter != client and self.ok("TX-09/found-token"):
            raise RefusedError("invalid_request")
        bound = subject.get("cnf", {}).get("x5t#S256")
        if bound is not None and bound != caller.thumbprint and self.ok("TX-11/bound-to-another"):
            raise RefusedError("invalid_request")

    def _scopes(self, form: "_Form", subject: Mapping[str, Any]) -> frozenset[str]:
        held = frozenset(subject.get("scope", "").split())
        asked = form.one("scope")
        if not asked:
            return held if self.ok("NR-02/scope-omitted") else SCOPES
        wanted = frozenset(asked.split())
        if not self.ok("NR-01/part-of-a-scope") and "unknown" not in asked:
            held |= {each for each in wanted if each not in SCOPES}
        if not self.ok("NR-01/wider-scope"):
            held |= SCOPES
        if not wanted & held:
            if not self.ok("NR-01/unknown-scope") and "unknown" in asked:
                return held
            raise RefusedError("invalid_scope")
        return wanted & held

    def _audience(self, form: "_Form") -> str | list[str]:
        asked = [*form.values.get("audience", ()), *form.values.get("resource", ())]
        known = {TICKETS, BILLING}
        strange = [each for each in asked if each not in known]
        if not asked:
            raise RefusedError("invalid_target")
        if not strange and len(asked) == 1:
            return asked[0]
        if len(asked) == 1:
            (one,) = strange
            case = (
                "NR-03/malformed-target" if one.startswith("/") or "#" in one
                else "NR-03/look-alike" if one.startswith(TICKETS)
                else "TX-06/unknown-target"
            )  # fmt: skip
            if self.ok(case):
                raise RefusedError("invalid_target")
            return one if case != "TX-06/unknown-target" else TICKETS
        if self.ok("NR-03/second-target"):
            raise RefusedError("invalid_target")
        return asked

    def _check_extensions(self, form: "_Form", caller: "_Caller") -> None:
        details = form.one("authorization_details")
        if details is not None and self.ok("TX-06/authorization-details"):
            raise RefusedError("invalid_authorization_details")
        if "dpop" in caller.headers and self.ok("TX-06/dpop-proof"):
            raise RefusedError("invalid_dpop_proof")

    def _issue(self, asked: "_Asked") -> dict[str, object]:
        form, subject, actor, caller = asked.form, asked.subject, asked.actor, asked.caller
        presenter = actor["sub"] if actor else asked.client
        ends = [subject["exp"], *([actor["exp"]] if actor else [])]
        exp = min(self.now + 300, *ends) if self.ok("CL-07/lifetime") else max(ends) + 60
        claims: dict[str, Any] = {
            "iss": self.issuer if self.ok("CL-01/issuer") else "https://another.example",
            "sub": subject["sub"] if self.ok("ID-01/sub-kept") else "bob",
            "aud": asked.audience,
            "client_id": presenter if self.ok("ID-09/client-id") else subject["sub"],
            "scope": " ".join(sorted(asked.scopes)),
            "iat": self.now if self.ok("CL-07/no-future") else self.now + 3600,
            "exp": exp,
            "jti": self._jti(),
            "txn": subject["txn"] if self.ok("CL-06/txn-kept") else "another",
            "act": self._act(subject, presenter),
            "cnf": self._cnf(subject, actor, caller),
        }
        self._spoil(claims, form, subject, actor)
        claims = {name: value for name, value in claims.items() if value is not None}
        self.issued.add(claims["jti"])
        key = KEY if self.ok("CL-01/signature") else SigningKey.generate()
        token = sign(key, "at+jwt" if self.ok("CL-01/typ") else "JWT", claims)
        self.known[token] = claims
        return self._answer(token, claims, form)

    def _spoil(
        self,
        claims: dict[str, Any],
        form: "_Form",
        subject: Mapping[str, Any],
        actor: Mapping[str, Any] | None,
    ) -> None:
        if not self.ok("CL-01/claims"):
            claims["jti_"] = claims["jti"]
            claims["iat"] = None
        if not self.ok("NR-03/audience"):
            claims["aud"] = "https://elsewhere.example"
        if not self.ok("NR-03/one-audience"):
            claims["aud"] = [TICKETS, TICKETS]
        if not self.ok("TX-12/override") and form.one("sub"):
            claims["sub"] = form.one("sub")
        if actor is None and not self.ok("TX-07/impersonation") and "act" not in subject:
            claims["act"] = None
        is_issued = subject.get("jti") in self.issued
        if actor is None and not self.ok("TX-08/subject-act") and "act" in subject and not is_issued:
            claims["act"] = None
        if actor is None and not self.ok("TX-08/issued-act") and is_issued:
            claims["act"] = None

    def _act(self, subject: Mapping[str, Any], presenter: str) -> dict[str, Any]:
        before = subject.get("act")
        if before is not None and before["sub"] == presenter:
            act = dict(before)
        else:
            act = {"iss": self.issuer, "sub": presenter} | ({"act": before} if before else {})
        if self.current.startswith("TX-08"):
            return act
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

    def _cnf(
        self, subject: Mapping[str, Any], actor: Mapping[str, Any] | None, caller: "_Caller"
    ) -> dict[str, str] | None:
        if not self.ok("TX-11/never-unbound"):
            return None
        own = caller.thumbprint if actor is None else "a" * 43
        if own is None:
            return None
        cnf = {"x5t#S256": own if self.ok("CL-08/bound") else "q" * 43}
        return cnf if self.ok("CL-08/one-binding") else cnf | {"jkt": "x"}

    def _jti(self) -> str:
        if not self.ok("CL-06/jti-unique"):
            return "one-and-only-one-and-only"
        return secrets.token_urlsafe(16) if self.ok("CL-06/jti-long") else secrets.token_urlsafe(4)

    def _answer(self, token: str, claims: Mapping[str, Any], form: "_Form") -> dict[str, object]:
        answer: dict[str, object] = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": claims["exp"] - self.now,
            "scope": claims["scope"],
        }
        if not self.ok("TX-05/issued-token-type"):
            del answer["issued_token_type"]
        if not self.ok("TX-05/token-type"):
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

    # ------------------------------------------------------------ the other endpoints

    def _introspect(self, body: bytes, caller: "_Caller") -> dict[str, object]:
        form = _Form.parse(body)
        if self.ok("CA-07/introspect-anonymous"):
            self._client(form, caller)
        claims = self.known.get(form.one("token") or "")
        if claims is None:
            return (
                {"active": False}
                if self.ok("CA-07/introspect-unknown")
                else {"active": False, "sub": "alice"}
            )
        if claims["jti"] in self.revoked or (self.breaks_now and self.current == "CA-07/introspect"):
            return {"active": False}
        return {"active": True, "sub": claims["sub"]}

    def _revoke(self, body: bytes, caller: "_Caller") -> Reply:
        form = _Form.parse(body)
        if self.ok("CA-07/revoke-anonymous"):
            self._client(form, caller)
        claims = self.known.get(form.one("token") or "")
        if claims is None and not self.ok("CA-07/revoke-unknown"):
            raise RefusedError("invalid_request")
        if claims is not None and self.ok("CA-07/revoke"):
            self.revoked.add(claims["jti"])
        return 200, {}, b""

    def _jwks(self) -> dict[str, object]:
        jwk = dict(KEY.public.jwk())
        return {"keys": [jwk] if self.ok("DM-01/keys") else [jwk, {**jwk, "kid": "other", "d": "AA"}]}

    def _metadata(self) -> dict[str, object]:
        base = self.issuer
        document: dict[str, object] = {
            "issuer": base if self.ok("DM-01/issuer") else f"{base}/",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/jwks",
            "response_types_supported": [],
            "grant_types_supported": [GRANT_TYPE] if self.ok("DM-01/grant-type") else ["implicit"],
            "introspection_endpoint": f"{base}/introspect",
            "revocation_endpoint": f"{base}/revoke",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_details_types_supported": [],
            "dpop_signing_alg_values_supported": ["ES256"],
        }
        if not self.ok("DM-01/members"):
            del document["response_types_supported"]
        if not self.ok("DM-01/auth-methods"):
            document["token_endpoint_auth_methods_supported"] = ["none"]
        if not self.ok("DM-01/https"):
            document["device_authorization_endpoint"] = "http://elsewhere.example/device"
        return document


@dataclass(frozen=True)
class _Caller:
    headers: Mapping[str, str]
    thumbprint: str | None

    @property
    def basic(self) -> tuple[str, str] | None:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        try:
            pair = b64decode(value, validate=True).decode() if kind == "Basic" else ""
        except (Base64Error, UnicodeDecodeError):
            return None
        named, colon, secret = pair.partition(":")
        return (unquote_plus(named), unquote_plus(secret)) if colon else None


@dataclass(frozen=True)
class _Asked:
    form: "_Form"
    subject: Mapping[str, Any]
    actor: Mapping[str, Any] | None
    client: str
    caller: _Caller
    scopes: frozenset[str]
    audience: str | list[str]


@dataclass(frozen=True)
class _Form:
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, body: bytes) -> "_Form":
        values: dict[str, tuple[str, ...]] = {}
        text = body.decode("ascii")
        if "%zz" in text:
            raise ValueError("a stray percent")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=64
        )
        for name, value in pairs:
            values[name] = (*values.get(name, ()), value)
        return cls(values)

    def one(self, name: str) -> str | None:
        found = self.values.get(name, ())
        return found[0] if found else None


def _verified(text: str, typ: str) -> Mapping[str, Any] | None:
    try:
        return verify(UnverifiedToken.parse(text), KeySet.of([KEY.public]), typ=frozenset({typ})).claims
    except IdentityError:
        return None


# ---------------------------------------------------------------- how a run reaches it


@dataclass
class InProcess:
    """The port of a run, without a network."""

    server: Server

    async def send(self, url: str, request: Request) -> Answer:
        sent = wire(request)
        login = request.login
        thumbprint = None
        if isinstance(login, CertificateLogin):
            thumbprint = login.thumbprint if login.certificate != "stranger" else "stranger"
        path = urlsplit(url).path
        try:
            status, headers, body = self.server.respond(path, sent, thumbprint)
        except Exception:
            if not self.server.crashes:
                raise
            status, headers, body = 500, {}, b"Internal Server Error"
        return Answer.of(status, headers, body, request.label)

    async def get(self, url: str) -> Answer:
        return Answer.of(*self.server.respond(urlsplit(url).path, Wire("GET", "", (), b"")))

    def progress(self, _number: int, _total: int, case: str) -> None:
        self.server.current = case


def app(server: Server) -> Starlette:
    """Serve it over HTTP, where nobody has a certificate."""

    async def answer(request: HttpRequest) -> Response:
        sent = Wire(request.method, request.url.query, tuple(request.headers.items()), await request.body())
        status, headers, body = server.respond(request.url.path, sent)
        return Response(body, status, headers)

    methods = ["GET", "POST"]
    return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])


# ---------------------------------------------------------------- who asks

SECRET = SecretLogin(OWN, SECRETS[OWN])
POST = SecretLogin(OWN, SECRETS[OWN], "post")


def inputs(login: Any = SECRET, **fields: Any) -> Inputs:
    """Everything that any case needs, for a client that passes on a token of two hops."""
    plain: dict[str, Any] = {
        "token_endpoint": f"{ISSUER}/token",
        "login": login,
        "subject": Presented(subject_token(OWN, FIRST), ACCESS_TOKEN),
        "actor": Presented(actor_token(), JWT),
        "targets": (("audience", TICKETS),),
        "scope": "tickets:read tickets:write",
        "issuer": ISSUER,
        "other_login": SecretLogin(OTHER, SECRETS[OTHER]),
        "second_subject": Presented(subject_token(OWN, cnf={"x5t#S256": "z" * 43}), ACCESS_TOKEN),
        "ungranted_subject": Presented(subject_token(OWN, sub="mallory"), ACCESS_TOKEN),
        "expired_subject": Presented(subject_token(OWN, exp=NOW - 3600), ACCESS_TOKEN),
        "wider_scope": "tickets:admin",
    }
    return Inputs(**{**plain, **fields})


def worlds() -> dict[str, Inputs]:
    """The clients from whose side the checklist is run; each case has something to see in one of them."""
    certificate = CertificateLogin("own", THUMBPRINTS[OWN], OWN)
    bound = subject_token(OWN, FIRST, cnf={"x5t#S256": THUMBPRINTS[OWN]})
    return {
        "secret": inputs(),
        "post": inputs(POST),
        "first hop": inputs(subject=Presented(subject_token(), ACCESS_TOKEN)),
        "assertion": inputs(
            AssertionLogin(assertion(), JWT_BEARER),
            other_audience=AssertionLogin(assertion(audience="https://elsewhere.example"), JWT_BEARER),
        ),
        "certificate": inputs(
            certificate,
            subject=Presented(bound, ACCESS_TOKEN),
            actor=None,
            other_login=CertificateLogin("other", THUMBPRINTS[OTHER], OTHER),
        ),
    }
