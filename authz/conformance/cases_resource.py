"""DM-02, and CA-05 where a token is used: what a protected resource says and asks for (RFC 9728, RFC 9449).

- The address is one that the operator gave; no login is sent there, and no token but one that was issued for
  a proof here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, Verdict, failed, passed, skipped
from authz.conformance.cases_dpop import proved
from authz.conformance.judge import short
from authz.conformance.message import Answer, Endpoint, Request
from authz.conformance.proof import Proof
from authz.conformance.signer import other_signer
from authz.conformance.situation import Need, Situation
from identity.base64url import encode_base64url

_PARAMETER: Final = "resource_metadata="
_REFUSED: Final = frozenset({400, 401})


def _get(
    endpoint: Endpoint, label: str = "", *, authorization: str = "", proof: Proof | None = None
) -> Request:
    headers = (("Authorization", authorization),) if authorization else ()
    proofs = () if proof is None else (proof,)
    return Request((), None, endpoint, label, "GET", headers=headers, proofs=proofs)


def _document(_: Situation) -> Sequence[Request]:
    return (_get("resource_metadata"),)


def _published(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if answer.status != 200 or not answer.is_json:
        return failed(answer.got)
    said = answer.members.get("resource")
    return (
        passed("as expected")
        if said == situation.inputs.protected_resource
        else failed(f"resource {short(said)}")
    )


def _servers(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    issuer = situation.inputs.issuer or situation.document.get("issuer")
    said = answers[0].members.get("authorization_servers")
    if issuer is None:
        return skipped("needs --issuer or --metadata")
    is_there = isinstance(said, list) and issuer in said
    return passed("as expected") if is_there else failed(f"authorization_servers {short(said)}")


def _methods(_: Situation, answers: Sequence[Answer]) -> Verdict:
    said = answers[0].members.get("bearer_methods_supported")
    return passed("as expected") if said == ["header"] else failed(f"bearer_methods_supported {short(said)}")


def _anonymous(_: Situation) -> Sequence[Request]:
    return (_get("resource"),)


def _challenge(_: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if answer.status != 401:
        return failed(answer.got)
    said = answer.headers.get("www-authenticate", "")
    return passed("as expected") if _PARAMETER in said else failed(f"401, WWW-Authenticate {short(said)}")


def _token(situation: Situation) -> Sequence[Request]:
    return (proved(situation, Proof(situation.signer)),)


def _calls(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    token = answers[0].unverified_token
    if token is None or not _is_bound(answers[0]):
        return ()
    ath = encode_base64url(hashlib.sha256(token.encode()).digest())
    other, signer, dpop = (
        encode_base64url(hashlib.sha256(b"other").digest()),
        situation.signer,
        f"DPoP {token}",
    )
    once = Proof(signer, claims={"ath": ath}, once="CA-05/resource")
    wrong: Mapping[str, Proof] = {
        "no ath": Proof(signer),
        "the ath of another token": Proof(signer, claims={"ath": other}),
        "another key": Proof(other_signer(), claims={"ath": ath}),
        "another method": Proof(signer, claims={"ath": ath, "htm": "POST"}),
        "the proof of the call before": once,
    }
    return (
        _get("resource", "the good call", authorization=dpop, proof=once),
        *(_get("resource", label, authorization=dpop, proof=proof) for label, proof in wrong.items()),
        _get("resource", "without a proof", authorization=dpop),
        _get("resource", "as a bearer token", authorization=f"Bearer {token}"),
    )


def _is_bound(answer: Answer) -> bool:
    said = answer.members.get("token_type")
    return answer.unverified_token is not None and isinstance(said, str) and said.lower() == "dpop"


def _possession(_: Situation, answers: Sequence[Answer]) -> Verdict:
    issued, *calls = answers
    if not _is_bound(issued):
        return skipped(f"no token that is bound to a proof: {issued.got}")
    good, *wrong = calls
    if not 200 <= good.status < 300:
        return skipped(f"the resource does not answer the good call: {good.status}")
    found = next((call for call in wrong if call.status not in _REFUSED), None)
    return passed("401") if found is None else failed(f"{found.label}: {found.status}")


_RESOURCE: Final = (Need.RESOURCE,)

CASES: Final = (
    Case(
        "DM-02", "published", "the metadata of the resource",
        "200 with JSON whose resource is its address", _document, _published, AGENTS, _RESOURCE,
    ),
    Case(
        "DM-02", "servers", "the metadata of the resource",
        "the issuer among authorization_servers", _document, _servers, AGENTS, _RESOURCE,
    ),
    Case(
        "DM-02", "header-only", "the metadata of the resource",
        "bearer_methods_supported header", _document, _methods, OURS, _RESOURCE,
    ),
    Case(
        "DM-02", "challenge", "a call of the resource without a token",
        "401 with resource_metadata in WWW-Authenticate", _anonymous, _challenge, AGENTS, _RESOURCE,
    ),
    Case(
        "CA-05", "resource", "calls of the resource with a bound token, and a proof that is wrong or missing",
        "401", _token, _possession, needs=(Need.RESOURCE, Need.DPOP), follow=_calls,
    ),
)  # fmt: skip
