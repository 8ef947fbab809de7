"""CA-02 and CA-03, and CA-01 for a client that signs: logins that a client could forge with what it has.

- A client with a certificate has a key, and could sign a further certificate with it.
- A client that signs assertions could say anything in one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import AGENTS, EVERY, OURS, Case, Verdict, skipped
from authz.conformance.judge import first_wrong, is_refusal, refused_login
from authz.conformance.login import CertificateLogin, SignedLogin
from authz.conformance.message import Answer, Request
from authz.conformance.signer import own_signer
from authz.conformance.situation import Need, Profile, Situation

_NOBODY: Final = "spiffe://deputy-conformance.invalid/nobody"
_ELSEWHERE: Final = "https://deputy-conformance.invalid"
_HOUR: Final = 3600

Changed = Mapping[str, SignedLogin]


def _issued_by_leaf(situation: Situation) -> Sequence[Request]:
    good, login = situation.inputs.good, situation.inputs.login
    if not isinstance(login, CertificateLogin):
        return ()
    return (replace(good, login=replace(login, certificate="issued")),)


def _another_name(situation: Situation) -> Sequence[Request]:
    good, login = situation.inputs.good, situation.inputs.login
    if not isinstance(login, CertificateLogin):
        return ()
    return (replace(good, login=replace(login, client_id=_NOBODY)),)


def _signed(change: Callable[[Situation, SignedLogin], Changed]) -> Callable[[Situation], Sequence[Request]]:
    def send(situation: Situation) -> Sequence[Request]:
        good, login = situation.inputs.good, situation.inputs.login
        if not isinstance(login, SignedLogin):
            return ()
        changed = change(situation, login).items()
        return [replace(good, login=each).labelled(label) for label, each in changed]

    return send


def _saying(login: SignedLogin, **claims: object) -> SignedLogin:
    return replace(login, changes=claims)


def _names(_: Situation, login: SignedLogin) -> Changed:
    return {
        "another iss": _saying(login, iss=_ELSEWHERE),
        "another sub": _saying(login, sub="deputy-conformance"),
        "no iss": _saying(login, iss=None),
    }


def _keys(_: Situation, login: SignedLogin) -> Changed:
    return {"another key": replace(login, signer=own_signer())}


def _times(_: Situation, login: SignedLogin) -> Changed:
    return {"expired": _saying(login, exp=-_HOUR), "no exp": _saying(login, exp=None)}


def _long(_: Situation, login: SignedLogin) -> Changed:
    return {"an hour": _saying(login, exp=_HOUR)}


def _nameless(_: Situation, login: SignedLogin) -> Changed:
    return {"no jti": _saying(login, jti=None)}


def _audiences(_: Situation, login: SignedLogin) -> Changed:
    return {"another": _saying(login, aud=_ELSEWHERE), "none": _saying(login, aud=None)}


def _strict_audiences(situation: Situation, login: SignedLogin) -> Changed:
    endpoint = situation.inputs.token_endpoint
    others = {"the token endpoint": endpoint} if login.audience != endpoint else {}
    said: Mapping[str, object] = {**others, "two": [login.audience, _ELSEWHERE]}
    return {label: _saying(login, aud=audience) for label, audience in said.items()}


def _twice(_: Situation, login: SignedLogin) -> Changed:
    once = replace(login, once="CA-03/replayed")
    return {"the first time": once, "the second time": once}


def _once(_: Situation, answers: Sequence[Answer]) -> Verdict:
    first, second = answers
    if first.unverified_token is None:
        return skipped(f"the assertion was refused: {first.got}")
    return first_wrong((second,), lambda each: not is_refusal(each))


def _case(
    rule: str,
    name: str,
    title: str,
    change: Callable[[Situation, SignedLogin], Changed],
    must: frozenset[Profile] = EVERY,
) -> Case:
    title = f"a client assertion {title}"
    return Case(
        rule, name, title, "401 invalid_client", _signed(change), refused_login(), must, (Need.SIGNED_LOGIN,)
    )


CASES: Final = (
    Case(
        "CA-02", "issued-by-leaf", "a certificate that was signed with the key of the client's own",
        "401 invalid_client, or no TLS", _issued_by_leaf, refused_login(), needs=(Need.CERTIFICATE,),
    ),
    Case(
        "CA-02", "client-id", "the client's certificate, and the SPIFFE ID of somebody else as client_id",
        "401 invalid_client", _another_name, refused_login(), needs=(Need.CERTIFICATE,),
    ),
    _case("CA-01", "audience-signed", "for another audience, or for none", _audiences),
    _case("CA-01", "issuer-alone", "for the token endpoint, or for two audiences", _strict_audiences, OURS),
    _case("CA-03", "names", "of which iss or sub is not the client", _names),
    _case("CA-03", "key", "that is signed with a key of nobody", _keys),
    _case("CA-03", "times", "that has expired, or never does", _times),
    _case("CA-03", "long", "that lives for an hour", _long, OURS),
    _case("CA-03", "name", "without jti", _nameless, AGENTS),
    Case(
        "CA-03", "replayed", "one client assertion in two requests",
        "a refusal of the second one", _signed(_twice), _once, AGENTS, (Need.SIGNED_LOGIN,),
    ),
)  # fmt: skip
