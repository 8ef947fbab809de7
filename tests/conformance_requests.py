"""What the small server checks of a token request: its form, its tokens, and what is asked for."""

import json
from typing import Any
from urllib.parse import urlencode

from authz.conformance.message import Wire
from authz.conformance.situation import ACCESS_TOKEN, GRANT_TYPE, TOKEN_TYPE
from tests.conformance_switches import Caller, Form, RefusedError, Switches
from tests.conformance_tokens import (
    ACTOR,
    BILLING,
    ID_JAG,
    JWT,
    MESH,
    PARTNER,
    SCOPES,
    TICKETS,
    TXN_TOKEN,
    Claims,
    counts_at,
    verified,
)

FORM_TYPE = "application/x-www-form-urlencoded"
_REFRESH = f"{TOKEN_TYPE}refresh_token"


class Requests(Switches):
    """A request, read and looked at."""

    def form(self, sent: Wire, caller: Caller) -> Form:
        body = self._body(sent, caller.headers.get("content-type", ""))
        if len(body) > 300_000 and not self.lenient:
            raise RefusedError("invalid_request", 413)
        try:
            form = Form.parse(body)
        except ValueError:
            if self.lenient:
                return Form(self.good_form.values)
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

    def check_grant(self, form: Form) -> None:
        grant_type = form.one("grant_type")
        if not grant_type:
            if self.ok("TX-02/grant-missing"):
                raise RefusedError("invalid_request")
        elif grant_type != GRANT_TYPE and not self.breaks("TX-02/grant-unknown"):
            raise RefusedError("unsupported_grant_type")
        repeated = [name for name, values in form.values.items() if len(values) > 1]
        if set(repeated) - {"audience", "resource"} and self.ok("TX-03/repeated-parameter"):
            raise RefusedError("invalid_request")
        requested = form.one("requested_token_type")
        if requested == _REFRESH and self.ok("TX-05/refresh-token-requested"):
            raise RefusedError("invalid_request")
        known = {None, ACCESS_TOKEN, _REFRESH, TXN_TOKEN, ID_JAG}
        if requested not in known and self.ok("TX-04/requested-unknown"):
            raise RefusedError("invalid_request")

    # ------------------------------------------------------------ tokens

    def subject(self, form: Form) -> Claims:
        text, kind = form.one("subject_token"), form.one("subject_token_type")
        if not text:
            if self.ok("TX-03/no-subject-token"):
                raise RefusedError("invalid_request")
            text = self.good_form.one("subject_token")
        if not kind:
            if self.ok("TX-03/no-subject-token-type"):
                raise RefusedError("invalid_request")
            kind = ACCESS_TOKEN
        self._check_kind(kind, form)
        if kind == f"{TOKEN_TYPE}unsigned_json":
            if self.ok("TX-04/unsigned-json"):
                raise RefusedError("invalid_request")
            text = self.good_form.one("subject_token")
        claims = self._verified_subject(text, "txntoken+jwt" if kind == TXN_TOKEN else "at+jwt")
        is_taken = self.breaks("CL-05/not-here", "CL-03/no-credential", "JW-06/")
        if is_taken or (self.lenient and claims is None):
            claims = verified(self.good_form.one("subject_token"), "at+jwt")
        if claims is None:
            raise RefusedError(self._bad_token(text))
        if not counts_at(claims, self.now) and not self.lenient:
            raise RefusedError("invalid_request")
        if claims.get("sub") == "mallory" and self.ok("TX-10/no-grant"):
            raise RefusedError("invalid_request")
        return claims

    def _verified_subject(self, text: str, typ: str) -> Claims | None:
        return verified(text, typ) or self.verify(text)

    def _bad_token(self, text: str) -> str:
        case = "TX-06/garbage" if "." not in text else "TX-06/forged"
        return "invalid_request" if self.ok(case) or self.current != case else "invalid_token"

    def _check_kind(self, kind: str, form: Form) -> None:
        others = {f"{TOKEN_TYPE}{name}" for name in ("refresh_token", "saml1", "saml2")}
        if kind == TXN_TOKEN and form.one("requested_token_type") == TXN_TOKEN:
            return
        if kind in others:
            if self.ok("TX-04/another-type"):
                raise RefusedError("invalid_request")
        elif kind == f"{TOKEN_TYPE}id_token":
            if not self.lenient:
                raise RefusedError("invalid_request")
        elif kind not in {ACCESS_TOKEN, f"{TOKEN_TYPE}unsigned_json"} and self.ok("TX-04/unknown-type"):
            raise RefusedError("invalid_request")

    def actor(self, form: Form) -> Claims | None:
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
        claims = verified(text, "jwt")
        if claims is None and self.lenient:
            claims = {"sub": ACTOR, "exp": self.now + 600}
        if claims is None or kind != JWT:
            if self.breaks("TX-03/actor-token-alone"):
                return None
            raise RefusedError("invalid_request" if self.ok("TX-06/bad-actor") else "invalid_token")
        return claims

    def check_presenter(self, subject: Claims, client: str, caller: Caller) -> None:
        presenter = subject["act"]["sub"] if "act" in subject else subject.get("client_id")
        if self.breaks("TX-08", "ID-06"):
            return
        if presenter != client and self.ok("TX-09/found-token"):
            raise RefusedError("invalid_request")
        bound = subject.get("cnf", {})
        held = {"x5t#S256": caller.thumbprint, "jkt": caller.jkt}
        is_other = any(value not in {held[name], "q" * 43} for name, value in bound.items())
        if is_other and self.ok("TX-11/bound-to-another"):
            raise RefusedError("invalid_request")

    # ------------------------------------------------------------ what is asked for

    def scopes(self, form: Form, subject: Claims) -> frozenset[str]:
        held = frozenset(subject.get("scope", "").split())
        asked = form.one("scope")
        if self.breaks("NR-05/regained") and subject.get("jti") in self.issued:
            held |= SCOPES
        if self.breaks("ID-07/unclassified") and "sub_profile" not in subject:
            return SCOPES
        if not asked:
            return held if self.ok("NR-02/scope-omitted") else SCOPES
        wanted = frozenset(asked.split())
        if not self.ok("NR-01/part-of-a-scope") and "unknown" not in asked:
            held |= {each for each in wanted if each not in SCOPES}
        if self.breaks("NR-01/wider-scope"):
            held |= SCOPES
        if not wanted & held:
            if not self.ok("NR-01/unknown-scope") and "unknown" in asked:
                return held
            raise RefusedError("invalid_scope")
        return wanted & held

    def audience(self, form: Form) -> str | list[str]:
        asked = [*form.values.get("audience", ()), *form.values.get("resource", ())]
        of_kind = {TXN_TOKEN: {MESH}, ID_JAG: {PARTNER}}
        requested = form.one("requested_token_type") or ""
        known = of_kind.get(requested, {TICKETS, BILLING})
        strange = [each for each in asked if each not in known]
        if not asked and requested == TXN_TOKEN:
            return MESH  # transaction() says whether it may be absent
        if not asked:
            raise RefusedError("invalid_target")
        if not strange and len(asked) == 1:
            return asked[0]
        if len(asked) == 1:
            return self._strange(strange[0])
        if self.breaks("CL-05/two-audiences"):
            return asked
        if not self.breaks("NR-03/second-target"):
            raise RefusedError("invalid_target")
        return asked

    def _strange(self, one: str) -> str:
        case = (
            "NR-03/malformed-target" if one.startswith("/") or "#" in one
            else "NR-03/look-alike" if one.startswith(TICKETS)
            else self.current if self.breaks("CL-05/unknown")
            else "TX-06/unknown-target"
        )  # fmt: skip
        if not self.breaks(case):
            raise RefusedError("invalid_target")
        return one if case != "TX-06/unknown-target" else TICKETS

    def details(self, form: Form, subject: Claims) -> list[Any] | None:
        """Return the details that are granted: each is one that is held, or its only tool is ours."""
        text, held = form.one("authorization_details"), subject.get("authorization_details")
        if self.breaks("NR-04/widened") and held is not None:
            return None
        if text is None or self.breaks("TX-06/authorization-details"):
            return held
        try:
            wanted = json.loads(text)
        except ValueError:
            wanted = None
        if self.breaks("NR-04/malformed", "NR-04/unknown"):
            return held
        good = isinstance(wanted, list) and all(self._is_detail(each) for each in wanted)
        if not good or (held is not None and any(each not in held for each in wanted)):
            raise RefusedError("invalid_authorization_details")
        return wanted if self.ok("NR-04/granted") else [{**each, "tool": "any"} for each in wanted]

    def _is_detail(self, value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == {"type", "locations", "tool"}
            and value["type"] == "conformance_call"
        )
