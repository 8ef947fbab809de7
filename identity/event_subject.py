"""Whom a security event is about (RFC 9493; Shared Signals Framework 1.0 sections 3.2 and 3.3).

- A person counts only as `iss_sub`: the pair by which an OpenID Provider names them, and by which we do.
- A complex subject is about its `user`. Its other members (a session, a device, a tenant) narrow the event to
  a part of what that person does; we do not know that part, so all of it is meant.
- A `session` may be a JWT (`jwt_id`, SSF section 3.5.1): one token, and not all that its person does.
- An address, a telephone number, an opaque name and formats that we do not know name nobody here: None.
- A subject that is malformed, or that names two people, is refused: a half-read subject could be the wrong
  one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity.caller import Human
from identity.errors import HumanError, TokenClaimsError

MAX_ALIASES: Final = 16
MAX_SESSION: Final = 255


@dataclass(frozen=True, slots=True)
class JwtId:
    """The name of one JWT: who issued it, and its `jti`; as a text, what a record says of it."""

    issuer: str
    jti: str

    def __str__(self) -> str:
        """Return the record's text."""
        return f"token:{self.jti}"


def person_of(sub_id: object) -> Human | None:
    """Return the person of a `sub_id`; None, if it names nobody whom we could know.

    Raises:
        TokenClaimsError: if it is malformed, or names two people.
    """
    if _format(sub_id) != "complex":
        return _simple(sub_id)
    subject = _object(sub_id)
    if len(subject) == 1:
        raise TokenClaimsError("a complex subject without a member")
    return _simple(subject["user"]) if "user" in subject else None


def session_of(sub_id: object) -> str | JwtId | None:
    """Return the session of a complex subject: its opaque name, or the JWT that it is."""
    match sub_id:
        case {"format": "complex", "session": {"format": "jwt_id", "iss": str(issuer), "jti": str(jti)}}:
            return JwtId(issuer, jti[:MAX_SESSION])
        case {"format": "complex", "session": {"format": "opaque", "id": str(name)}}:
            return name[:MAX_SESSION]
        case _:
            return None


def encode_subject(person: Human, session: str | JwtId | None) -> dict[str, object]:
    """Return the `sub_id` of a person, or of one session or token of theirs."""
    user = {"format": "iss_sub", "iss": person.issuer, "sub": person.subject}
    if session is None:
        return dict(user)
    named: dict[str, object] = (
        {"format": "jwt_id", "iss": session.issuer, "jti": session.jti}
        if isinstance(session, JwtId)
        else {"format": "opaque", "id": session}
    )
    return {"format": "complex", "user": user, "session": named}


def _simple(subject: object) -> Human | None:
    match _format(subject):
        case "iss_sub":
            return _iss_sub(_object(subject))
        case "aliases":
            return _aliases(_object(subject).get("identifiers"))
        case "complex":
            # Section 3.3: the members of a complex subject are simple ones.
            raise TokenClaimsError("a complex subject within another")
        case _:
            return None


def _iss_sub(subject: Mapping[str, object]) -> Human:
    issuer, name = subject.get("iss"), subject.get("sub")
    if not isinstance(issuer, str) or not isinstance(name, str):
        raise TokenClaimsError("a subject of format iss_sub without iss or sub")
    try:
        return Human.parse(issuer, name)
    except HumanError as error:
        raise TokenClaimsError(f"a subject whom we cannot name: {error}") from error


def _aliases(identifiers: object) -> Human | None:
    """Return the one person among names of one subject (RFC 9493 section 3.2.8)."""
    if not isinstance(identifiers, list) or not 0 < len(identifiers) <= MAX_ALIASES:
        raise TokenClaimsError(f"a subject of format aliases without 1 to {MAX_ALIASES} identifiers")
    if any(_format(each) == "aliases" for each in identifiers):
        raise TokenClaimsError("aliases within aliases")
    people = {person for each in identifiers if (person := _simple(each)) is not None}
    if len(people) > 1:
        raise TokenClaimsError("a subject that names two people")
    return next(iter(people), None)


def _format(subject: object) -> str:
    form = _object(subject).get("format")
    if not isinstance(form, str) or not form:
        raise TokenClaimsError("a subject without a format")
    return form


def _object(subject: object) -> Mapping[str, object]:
    if not isinstance(subject, dict):
        raise TokenClaimsError("a subject that is not an object")
    return subject
