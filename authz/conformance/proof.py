"""A DPoP proof that is made when its request is sent (RFC 9449), good or wrong in one thing.

- A `Proof` says in what it differs from the good one: members of header and claims, its age, its signature.
- Time, name and nonce are those of the moment; proofs of one `once` are one text.
- A proof that says something of its own about the nonce is sent as it is, and not again with a better one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from authz.conformance.signer import Signer
from authz.conformance.token import Jwt, json_of
from identity.base64url import encode_base64url

PROOF_TYP: Final = "dpop+jwt"
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


def nothing_else() -> Mapping[str, object]:
    """Return no changes."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where something is sent; `name` was used by nothing before."""

    method: str
    url: str
    now: int
    name: str
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof says; a member whose value is None is left out."""

    signer: Signer
    header: Mapping[str, object] = field(default_factory=nothing_else)
    claims: Mapping[str, object] = field(default_factory=nothing_else)
    age: int = 0
    sign: Callable[[bytes], bytes] | None = None
    once: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it is sent as it is, also where the server asks for a nonce."""
        return "nonce" in self.claims

    def text(self, moment: Moment) -> str:
        """Make the proof."""
        signer = self.signer
        header = {"typ": PROOF_TYP, "alg": signer.algorithm, "jwk": signer.jwk, **self.header}
        claims = {
            "htm": moment.method,
            "htu": moment.url.partition("?")[0],
            "iat": moment.now - self.age,
            "jti": moment.name,
            "nonce": moment.nonce,
            **self.claims,
        }
        unsigned = f"{_part(header)}.{_part(claims)}"
        signature = (self.sign or signer.sign)(unsigned.encode("ascii"))
        return f"{unsigned}.{encode_base64url(signature)}"


def resigned(token: Jwt, signer: Signer) -> Jwt:
    """Return a token with a good signature over what it holds now."""
    return token.signed(signer.sign(token.signing_input))


def _part(members: Mapping[str, object]) -> str:
    return encode_base64url(json_of({name: value for name, value in members.items() if value is not None}))
