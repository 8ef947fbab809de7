"""JW-05 and ID-04: tokens that two readers could read in two ways, and tokens of any size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import OURS, Case, Judge
from authz.conformance.cases_jose import Changes, changed
from authz.conformance.judge import refused
from authz.conformance.message import Request
from authz.conformance.situation import Need, Situation
from authz.conformance.token import Jwt, json_of

_MIB: Final = 1024 * 1024
_DEEP: Final = 10_000
# Each stands where a claim's value stands.
_NUMBERS: Final = {
    "a text": b'"4102444800"',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "1e400": b"1e400",
    "negative": b"-1",
    "a huge integer": b"9" * 5000,
    "a list": b"[4102444800]",
    "null": b"null",
}
# The last characters of base64url of which decoders that are not strict see the same byte.
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _claims(token: Jwt) -> bytes:
    return json_of(token.unverified_claims)


def _raw(token: Jwt, name: str, value: bytes) -> Jwt:
    """Return the token with a claim whose value is these bytes, and stands last."""
    rest = {key: held for key, held in token.unverified_claims.items() if key != name}
    start = json_of(rest)[:-1] + (b"," if rest else b"")
    return token.with_claims(start + b'"' + name.encode() + b'":' + value + b"}")


def _duplicates(token: Jwt) -> Changes:
    doubled = b'{"sub":"deputy-conformance",' + _claims(token)[1:]
    header = b'{"alg":"none",' + json_of(token.unverified_header)[1:]
    return {"two sub": token.with_claims(doubled), "two alg": token.with_header(header)}


def _trailing(token: Jwt) -> Changes:
    claims = _claims(token)
    return {
        "a second value": token.with_claims(claims + b"{}"),
        "a comma": token.with_claims(claims[:-1] + b",}"),
        "a comment": token.with_claims(claims + b"/**/"),
        "no object": token.with_claims(b"[" + claims + b"]"),
        "nothing": token.with_claims(b""),
    }


def _not_utf8(token: Jwt) -> Changes:
    return {
        "a lone byte": _raw(token, "deputy", b'"\xff"'),
        "a surrogate": _raw(token, "deputy", b'"\xed\xa0\x80"'),
        "UTF-16": token.with_claims(_claims(token).decode("ascii").encode("utf-16")),
        "a byte order mark": token.with_claims(b"\xef\xbb\xbf" + _claims(token)),
    }


def _times(token: Jwt) -> Changes:
    return {f"exp is {label}": _raw(token, "exp", value) for label, value in _NUMBERS.items()}


def _nested(token: Jwt) -> Changes:
    return {"200 lists": _raw(token, "deputy", b"[" * 200 + b"]" * 200)}


def _deep_act(token: Jwt) -> Changes:
    deep = b'{"sub":"a","act":' * _DEEP + b"{}" + b"}" * _DEEP
    return {f"{_DEEP} actors": _raw(token, "act", deep)}


def _huge(situation: Situation) -> Sequence[Request]:
    token, good = situation.subject, situation.inputs.good
    found = [good.with_("subject_token", "A" * _MIB).labelled("a long text")]
    if token is not None:
        long = _raw(token, "deputy", b'"' + b"a" * (_MIB * 3 // 4) + b'"')
        found.append(good.with_("subject_token", long.text).labelled("a long claim"))
    return found


def _signatures(token: Jwt) -> Changes:
    """Write the same signature in other ways: whoever is not strict finds it good."""
    text = token.parts[2]
    padded = {"padding": f"{text}=="} if len(text) % 4 else {}
    other = _same_bytes(text)
    return {
        label: token.with_signature(each)
        for label, each in {
            **padded,
            "a line end": f"{text}\n",
            "a space within": f"{text[:4]} {text[4:]}",
            "a character of no alphabet": f"{text[:4]}!{text[4:]}",
            "a fourth part": f"{text}.",
            **({"other unused bits": other} if other is not None else {}),
        }.items()
    }


def _same_bytes(text: str) -> str | None:
    """Return another text for the same bytes, which differs in bits that no byte has."""
    unused = {2: 4, 3: 2}.get(len(text) % 4)
    if unused is None or text[-1] not in _ALPHABET:
        return None
    return text[:-1] + _ALPHABET[_ALPHABET.index(text[-1]) ^ (1 << (unused - 1))]


def _white_space(situation: Situation) -> Sequence[Request]:
    good, token = situation.inputs.good, situation.inputs.subject.unverified_token
    texts: Mapping[str, str] = {"before": f" {token}", "after": f"{token}\r\n", "NUL": f"{token}\x00"}
    return [good.with_("subject_token", text).labelled(label) for label, text in texts.items()]


def _not_utf8_form(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good.without("subject_token")
    rest = "&".join(f"{name}=x" for name, _ in good.form)
    bodies = {
        "a lone byte": f"{rest}&subject_token=%ff".encode(),
        "a stray percent": f"{rest}&subject_token=%zz".encode(),
        "bytes": rest.encode() + b"&subject_token=\xff\x00",
        "10,000 parameters": b"&".join(b"p%d=x" % number for number in range(10_000)),
    }
    return [replace(good, body=body, label=label) for label, body in bodies.items()]


def _case(
    rule: str, name: str, title: str, change: Callable[[Jwt], Changes], judge: Judge | None = None
) -> Case:
    send = changed(change)
    return Case(rule, name, title, "a refusal", send, judge or refused(), needs=(Need.JWT_SUBJECT,))


CASES: Final = (
    _case("JW-05", "duplicate-member", "the subject token with a member that stands twice", _duplicates),
    _case("JW-05", "trailing-data", "the subject token with more or less than one object", _trailing),
    _case("JW-05", "not-utf8", "the subject token with what is not UTF-8", _not_utf8),
    _case("JW-05", "times", "the subject token with an exp that is no number of seconds", _times),
    _case("JW-05", "nesting", "the subject token with 200 lists within each other", _nested),
    _case("JW-05", "base64", "the subject token with its signature written in another way", _signatures),
    Case(
        "JW-05", "white-space", "the subject token with white space or NUL around it",
        "a refusal", _white_space, refused(), OURS,
    ),
    Case(
        "JW-05", "form-bytes", "a form that is not UTF-8, or has 10,000 parameters",
        "a refusal", _not_utf8_form, refused(closed=True),
    ),
    Case(
        "JW-05", "one-mib", "a subject token of 1 MiB",
        "a refusal, or a closed connection", _huge, refused(closed=True),
    ),
    _case(
        "ID-04", "deep-act", "the subject token with 10,000 actors within each other",
        _deep_act, refused(closed=True),
    ),
)  # fmt: skip
