"""DM-01 and CA-07: what a server says about itself, and about its tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from authz.conformance.case import AGENTS, EVERY, OURS, Case, Judge, Verdict, failed, nothing, passed, skipped
from authz.conformance.cases_types import GARBAGE
from authz.conformance.judge import first_wrong, is_refusal, short
from authz.conformance.message import Answer, Endpoint, Request
from authz.conformance.situation import GRANT_TYPE, Need, Profile, Situation
from identity.errors import KeyMaterialError
from identity.keys import jwks

_REQUIRED: Final = ("issuer", "token_endpoint", "response_types_supported", "grant_types_supported")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def _of_document(look: Callable[[Situation, Mapping[str, object]], str | None]) -> Judge:
    """Judge the metadata."""

    def judge(situation: Situation, _: Sequence[Answer]) -> Verdict:
        if not situation.document:
            return skipped("there is no metadata: see DM-01/published")
        wrong = look(situation, situation.document)
        return failed(wrong) if wrong else passed("as expected")

    return judge


def _published(situation: Situation, _: Sequence[Answer]) -> Verdict:
    answer = situation.metadata
    if answer is None:
        return skipped(Need.METADATA.value)
    return passed("200 with JSON") if answer.status == 200 and answer.is_json else failed(answer.got)


def _members(_: Situation, document: Mapping[str, object]) -> str | None:
    absent = [name for name in _REQUIRED if name not in document]
    return f"no {', '.join(absent)}" if absent else None


def _issuer(situation: Situation, document: Mapping[str, object]) -> str | None:
    given, said = situation.inputs.issuer, document.get("issuer")
    if given is not None and said != given:
        return f"issuer {short(said)}"
    return None if isinstance(said, str) and said else "no issuer"


def _grant(_: Situation, document: Mapping[str, object]) -> str | None:
    said = document.get("grant_types_supported")
    return None if isinstance(said, list) and GRANT_TYPE in said else f"grant_types_supported {short(said)}"


def _methods(situation: Situation, document: Mapping[str, object]) -> str | None:
    said = document.get("token_endpoint_auth_methods_supported")
    if not isinstance(said, list) or not said:
        return f"token_endpoint_auth_methods_supported {short(said)}"
    is_open = "none" in said and situation.profile is not Profile.RFC8693
    return "a method of none" if is_open else None


def _endpoints(_: Situation, document: Mapping[str, object]) -> str | None:
    for name, value in document.items():
        if not name.endswith(("_endpoint", "_uri")) and name != "issuer":
            continue
        if not isinstance(value, str) or not _is_safe(value):
            return f"{name} {short(value)}"
    return None


def _is_safe(url: str) -> bool:
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    return split.scheme == "https" or (split.scheme == "http" and split.hostname in _LOOPBACK)


def _keys(situation: Situation, document: Mapping[str, object]) -> str | None:
    if "jwks_uri" not in document:
        return "no jwks_uri"
    answer = situation.key_set
    if answer is None:
        return "a jwks_uri that cannot be asked"
    try:
        found = list(jwks(answer.members))
    except KeyMaterialError as error:
        return str(error)
    kids = [jwk.get("kid") for jwk in found]
    if any(_PRIVATE & jwk.keys() for jwk in found):
        return "a private or symmetric key"
    if len({str(kid) for kid in kids}) != len(kids):
        return "two keys with one kid"
    return None if found else "no key"


# ---------------------------------------------------------------- introspection and revocation


def _asks(endpoint: Endpoint, token: str, situation: Situation, label: str = "") -> Request:
    return Request((("token", token),), situation.inputs.login, endpoint, label)


def _issued(situation: Situation) -> str:
    return situation.good[0].unverified_token or ""


def _introspect(situation: Situation) -> Sequence[Request]:
    return (_asks("introspection", _issued(situation), situation),)


def _introspect_unknown(situation: Situation) -> Sequence[Request]:
    token = situation.issued
    forged = [] if token is None else [token.with_claims({**token.unverified_claims, "sub": "deputy"}).text]
    texts = {"no token": GARBAGE, **({"a changed token": forged[0]} if forged else {})}
    return [_asks("introspection", text, situation, label) for label, text in texts.items()]


def _anonymous(endpoint: Endpoint) -> Callable[[Situation], Sequence[Request]]:
    def send(situation: Situation) -> Sequence[Request]:
        return (Request((("token", _issued(situation)),), None, endpoint),)

    return send


def _is_active(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    answer = answers[0]
    if answer.status == 200 and answer.members.get("active") is True:
        return passed("200 with active true")
    if situation.inputs.actor is not None and dict(answer.members) == {"active": False}:
        # RFC 7662 section 2.2: so is answered who may not ask about this token.
        return skipped("active false: the token is the actor's, and this client need not be told")
    return failed(f"{answer.status}, active {short(answer.members.get('active'))}")


def _is_inactive(_: Situation, answers: Sequence[Answer]) -> Verdict:
    for answer in answers:
        if answer.status != 200 or dict(answer.members) != {"active": False}:
            said = f"{answer.status}, active {short(answer.members.get('active'))}"
            more = ", and more" if len(answer.members) > 1 else ""
            return failed(f"{answer.label}: {said}{more}" if answer.label else f"{said}{more}")
    return passed("200 with active false and nothing else")


def _revoke_unknown(situation: Situation) -> Sequence[Request]:
    return (_asks("revocation", GARBAGE, situation),)


def _ok(_: Situation, answers: Sequence[Answer]) -> Verdict:
    return first_wrong(answers, lambda answer: answer.status != 200)


def _revoke(situation: Situation) -> Sequence[Request]:
    token = situation.good[1].unverified_token or ""
    return (
        _asks("introspection", token, situation, "before"),
        _asks("revocation", token, situation, "revocation"),
        _asks("introspection", token, situation, "after"),
    )


def _revoked(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    before, revoked, after = answers
    if before.members.get("active") is not True:
        return skipped("the token was not active before")
    if revoked.status != 200:
        return failed(revoked.got)
    return _is_inactive(situation, (after,))


def _refused_anonymous() -> Judge:
    def judge(_: Situation, answers: Sequence[Answer]) -> Verdict:
        return first_wrong(answers, lambda each: each.problem != "closed" and not is_refusal(each))

    return judge


def _document(
    name: str, expected: str, look: Callable[..., str | None], must: frozenset[Profile] = EVERY
) -> Case:
    title = "the metadata"
    return Case("DM-01", name, title, expected, nothing, _of_document(look), must, (Need.METADATA,))


_INTROSPECTION: Final = (Need.INTROSPECTION,)
_REVOCATION: Final = (Need.REVOCATION,)

CASES: Final = (
    Case("DM-01", "published", "the metadata", "200 with JSON", nothing, _published, needs=(Need.METADATA,)),
    _document("members", f"{', '.join(_REQUIRED)}", _members),
    _document("issuer", "the issuer that it was asked for", _issuer),
    _document("grant-type", "token exchange among grant_types_supported", _grant),
    _document("auth-methods", "token_endpoint_auth_methods_supported, without none", _methods, AGENTS),
    _document("https", "endpoints with https", _endpoints),
    _document("keys", "a jwks_uri with public keys, each with a kid of its own", _keys),
    Case(
        "CA-07", "introspect", "introspection of the issued token",
        "active true", _introspect, _is_active, OURS, _INTROSPECTION,
    ),
    Case(
        "CA-07", "introspect-unknown", "introspection of what was never issued",
        "active false, and nothing else", _introspect_unknown, _is_inactive, needs=_INTROSPECTION,
    ),
    Case(
        "CA-07", "introspect-anonymous", "introspection without a login",
        "a refusal", _anonymous("introspection"), _refused_anonymous(), needs=_INTROSPECTION,
    ),
    Case(
        "CA-07", "revoke-unknown", "revocation of what was never issued",
        "200", _revoke_unknown, _ok, needs=_REVOCATION,
    ),
    Case(
        "CA-07", "revoke-anonymous", "revocation without a login",
        "a refusal", _anonymous("revocation"), _refused_anonymous(), needs=_REVOCATION,
    ),
    # Last: what it revokes may be an ancestor of all that is issued for this subject token.
    Case(
        "CA-07", "revoke", "revocation of the issued token, introspection before and after",
        "active true, then false", _revoke, _revoked, needs=(Need.INTROSPECTION, Need.REVOCATION),
    ),
)  # fmt: skip
