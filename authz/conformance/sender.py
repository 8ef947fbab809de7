"""The server that is examined, as one run talks to it: patient to a point, and up to the second.

- What must be new in each request is made here: proofs, and assertions that a client signs.
- Whoever asks for a nonce (RFC 9449 section 8) gets the same request with it, once; its latest nonce is kept.
- A server that lets us wait too often ends the run.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.login import AssertionLogin, SignedLogin
from authz.conformance.message import Answer, Request
from authz.conformance.port import Server
from authz.conformance.proof import Moment, Proof
from authz.errors import AuthzError

_MAX_LATE: Final = 10
_MAX_NONCE: Final = 1024
_HEADER: Final = "DPoP"


class RunError(AuthzError):
    """The checklist could not run."""


class Sender:
    """Sends requests; `clock` is in seconds since 1970, and no two results of `new_name` are equal."""

    def __init__(self, server: Server, clock: Callable[[], float], new_name: Callable[[], str]) -> None:
        """Take the server and what changes with the time."""
        self._server, self._clock, self._new_name = server, clock, new_name
        self._late = 0
        self._nonce: str | None = None
        # What is sent more than once, by its name; a proof also by the nonce in it.
        self._proofs: dict[tuple[str, str | None], str] = {}
        self._logins: dict[str, AssertionLogin] = {}

    async def send(self, url: str, request: Request) -> Answer:
        """Send a request; its answer has the same label."""
        answer = await self._send(url, request)
        if answer.error == "use_dpop_nonce" and any(not proof.is_final for proof in request.proofs):
            answer = await self._send(url, request)
        return replace(answer, label=request.label)

    async def send_all(self, url: Callable[[Request], str], requests: Sequence[Request]) -> list[Answer]:
        """Send requests together."""
        return list(await asyncio.gather(*(self.send(url(request), request) for request in requests)))

    async def get(self, url: str) -> Answer:
        """Fetch a public document."""
        return await self._server.get(url)

    async def _send(self, url: str, request: Request) -> Answer:
        answer = await self._server.send(url, self._made(url, request))
        self._late += answer.problem == "late"
        if self._late > _MAX_LATE:
            raise RunError(f"more than {_MAX_LATE} answers were late: nothing can be said about this server")
        nonce = answer.headers.get("dpop-nonce")
        if nonce and len(nonce) <= _MAX_NONCE:
            self._nonce = nonce
        return answer

    def _made(self, url: str, request: Request) -> Request:
        proofs = tuple((_HEADER, self._proof(proof, url, request.method)) for proof in request.proofs)
        made = replace(request, headers=(*request.headers, *proofs), proofs=())
        if isinstance(request.login, SignedLogin):
            made = replace(made, login=self._login(request.login, url))
        return made

    def _moment(self, url: str, method: str = "POST") -> Moment:
        return Moment(method, url, int(self._clock()), self._new_name(), self._nonce)

    def _proof(self, proof: Proof, url: str, method: str) -> str:
        made = proof.text(self._moment(url, method))
        return self._proofs.setdefault((proof.once, self._nonce), made) if proof.once else made

    def _login(self, login: SignedLogin, url: str) -> AssertionLogin:
        made = login.at(self._moment(url))
        return self._logins.setdefault(login.once, made) if login.once else made
