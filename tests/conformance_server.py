"""A small authorization server that keeps the checklist, and can be broken in one rule at a time.

- `broken` holds ids of cases (`TX-03/repeated-parameter`); the server breaks exactly these rules.
- `respond` is pure but for the tokens that it remembers; `app` serves it over HTTP, `InProcess` without.
- While a case of `lenient` runs, any subject token is taken for the good one: that is how a verifier is
  broken that the tricks of JW-01 to JW-06 get past.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from authz.conformance.login import CertificateLogin
from authz.conformance.message import Answer, Request, Wire, wire
from tests.conformance_documents import Documents
from tests.conformance_issuing import Issuing
from tests.conformance_requests import Requests
from tests.conformance_switches import Asked, Caller, RefusedError, Reply
from tests.conformance_tokens import ID_JAG, TXN_TOKEN

_RESOURCE = "/.well-known/oauth-protected-resource/api"
# Grants that a server could be careless about, by the case that finds it.
_CARELESS = ("ID-08/autonomous", "CA-06/unknown", "CL-05/not-here")


@dataclass
class Server(Documents, Requests, Issuing):
    """One server."""

    def respond(self, path: str, sent: Wire, thumbprint: str | None = None) -> Reply:
        headers = {name.lower(): value for name, value in sent.headers}
        proofs = tuple(value for name, value in sent.headers if name.lower() == "dpop")
        caller = Caller(headers, thumbprint, proofs)
        try:
            return self._respond(path, sent, caller)
        except RefusedError as refusal:
            return self._error(refusal, sent.body)

    def _respond(self, path: str, sent: Wire, caller: Caller) -> Reply:
        match path:
            case "/token":
                return self._json(self._token(sent, caller))
            case "/introspect":
                return self._json(self.introspect(sent.body, caller))
            case "/revoke":
                return self.revoke(sent.body, caller)
            case "/bc-authorize":
                return self._json(self.ask(sent.body, caller))
            case "/jwks":
                return self._json(self.jwks())
            case "/api":
                return self.call(caller)
            case "/.well-known/oauth-authorization-server" if self.ok("DM-01/published"):
                return self._json(self.metadata())
            case _ if path == _RESOURCE:
                return self._json(self.resource_metadata())
        return 404, {}, b""

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
        headers = {"content-type": "application/json", "cache-control": "no-store", **refusal.headers}
        if refusal.status == 401 and self.ok("CA-04/challenge"):
            headers["www-authenticate"] = 'Basic realm="x"'
        members = {"error": refusal.error, "error_description": description}
        return refusal.status, headers, json.dumps(members, ensure_ascii=False).encode()

    def _token(self, sent: Wire, caller: Caller) -> dict[str, object]:
        form = self.form(sent, caller)
        client = self.client(form, caller)
        self.check_poll(form)
        if self.breaks(*_CARELESS) and form.one("subject_token") is None:
            form = self.good_form
        self.check_grant(form)
        caller = replace(caller, jkt=self.proved(caller))
        subject = self.subject(form)
        actor = self.actor(form)
        is_service = form.one("subject_token_type") == TXN_TOKEN
        if not is_service:
            self.check_presenter(subject, client, caller)
        scopes, audience = self.scopes(form, subject), self.audience(form)
        details = self.details(form, subject)
        asked = Asked(form, subject, actor, client, caller, scopes, audience, details)
        if self.spent is not None:
            self.spent -= 1
            if self.spent < 0:
                raise RefusedError("invalid_request")
        makers = {TXN_TOKEN: self.transaction, ID_JAG: self.assertion}
        return makers.get(form.one("requested_token_type") or "", self.issue)(asked)


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
            forged = login.certificate in {"stranger", "issued"}
            thumbprint = login.certificate if forged else login.thumbprint
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
        pairs: Any = tuple(request.headers.items())
        sent = Wire(request.method, request.url.query, pairs, await request.body())
        status, headers, body = server.respond(request.url.path, sent)
        return Response(body, status, headers)

    methods = ["GET", "POST"]
    return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
