"""Private keys in a PKCS#11 token: made there, used there, and never seen outside of it.

- A key is P-256, generated in the token, sensitive and never extractable; one that could be read, because
  somebody put it there, is refused.
- It is found by its `kid` (CKA_ID), which is the hash of its public part. Each signature is verified before
  it is given out: a handle of the token that came to mean another key, or a fault in it, signs nothing.
- A `SigningKey` over such a key signs certificates and tokens like any other; its private part cannot be
  asked for.
- A key that a crash left unnamed, between its making and its naming, signs nothing and is no risk; it is
  labelled "deputy new".
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from identity.errors import IssuanceUnavailableError, KeyMaterialError
from identity.keys import SigningKey, VerificationKey
from identity.pkcs11_token import Pkcs11Object, Pkcs11Token, Session

T = TypeVar("T")

_COORDINATE: Final = 32
_CURVE: Final = ec.SECP256R1()
_PREHASHED: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_PROBE: Final = b"deputy: is this the key that the token says it is?"
# DER: an octet string of 65 bytes, the uncompressed point (PKCS#11 section 6.3.3); some modules leave the
# octet string out.
_POINT_HEADER: Final = b"\x04\x41"
_POINT_BYTES: Final = 65
_NEW: Final = "deputy new"


class Pkcs11PrivateKey(ec.EllipticCurvePrivateKey):
    """A private key that stays in its token."""

    def __init__(self, token: Pkcs11Token, public_key: ec.EllipticCurvePublicKey) -> None:
        """Name a key by its public part."""
        self._token = token
        self._public_key = public_key
        self._kid = VerificationKey.of(public_key).kid

    def __repr__(self) -> str:
        return f"Pkcs11PrivateKey(kid={self._kid!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return _CURVE

    @property
    def key_size(self) -> int:
        """The size of the curve in bits."""
        return _CURVE.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public part."""
        return self._public_key

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ANN401 - any buffer
        """Return the ECDSA signature over the SHA-256 of some bytes, as DER.

        Raises:
            KeyMaterialError: if the token has no such key any more.
            IssuanceUnavailableError: if the token cannot be used now, or gives a signature of something else.
        """
        is_ours = isinstance(signature_algorithm, ec.ECDSA)
        if not is_ours or not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise KeyMaterialError("a key in a token signs with ECDSA and SHA-256 only")
        digest = hashlib.sha256(data).digest()
        signature = self._token.use(lambda session: _sign(self._token, session, self._kid, digest))
        r, s = signature[:_COORDINATE], signature[_COORDINATE:]
        der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        try:
            self._public_key.verify(der, digest, _PREHASHED)
        except InvalidSignature as error:
            raise IssuanceUnavailableError(f"a signature that is not of the key {self._kid!r}") from error
        return der

    def exchange(self, *_: object, **__: object) -> NoReturn:
        """Refuse: it only signs."""
        raise KeyMaterialError("a key in a token only signs")

    def private_numbers(self) -> NoReturn:
        """Refuse: it never leaves its token."""
        raise KeyMaterialError("a key that never leaves its token")

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """Refuse: it never leaves its token."""
        raise KeyMaterialError("a key that never leaves its token")


class Pkcs11KeyStore:
    """The port `KeyStore` over a token."""

    def __init__(self, token: Pkcs11Token) -> None:
        """Keep keys in an open token."""
        self._token = token

    @classmethod
    def open(cls, module: Path, token_label: str, pin_file: Path) -> Self:
        """Load a PKCS#11 module, and log in to one of its tokens.

        Raises:
            KeyMaterialError: with a sentence that says what to do.
        """
        return cls(Pkcs11Token.open(module, token_label, pin_file))

    def make(self) -> SigningKey:
        """Make a new P-256 key in the token."""
        return self._signing(self._use(lambda session: _make(self._token, session)))

    def load(self, kid: str) -> SigningKey:
        """Return a key that was made in the token."""
        return self._signing(self._use(lambda session: _public_key(self._token, session, kid)))

    def destroy(self, kid: str) -> None:
        """Forget a key for good, if it is there."""
        self._use(lambda session: _destroy(self._token, session, kid))

    def close(self) -> None:
        """Log out of the token."""
        self._token.close()

    def _use(self, work: Callable[[Any], T]) -> T:
        try:
            return self._token.use(work)
        except IssuanceUnavailableError as error:
            raise KeyMaterialError(str(error)) from error

    def _signing(self, public_key: ec.EllipticCurvePublicKey) -> SigningKey:
        """Return the key, after it has shown that it is the one of that public part."""
        key = SigningKey.of(Pkcs11PrivateKey(self._token, public_key))
        try:
            key.sign(_PROBE)
        except IssuanceUnavailableError as error:
            raise KeyMaterialError(f"the key {key.kid!r} does not sign as it should: {error}") from error
        return key


def _make(token: Pkcs11Token, session: Session) -> ec.EllipticCurvePublicKey:
    pkcs11 = token.pkcs11
    attribute = pkcs11.Attribute
    curve = pkcs11.util.ec.encode_named_curve_parameters("secp256r1")
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, {attribute.EC_PARAMS: curve}, local=True)
    secret = {attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False}
    public, private = parameters.generate_keypair(
        store=True,
        label=_NEW,
        capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        private_template=secret,
    )
    public_key = _point(public[attribute.EC_POINT])
    kid = VerificationKey.of(public_key).kid
    # The name is the hash of what was just made, so it can be given only now.
    for half in (public, private):
        half[attribute.ID] = kid.encode()
        half[attribute.LABEL] = f"deputy {kid}"
    return public_key


def _public_key(token: Pkcs11Token, session: Session, kid: str) -> ec.EllipticCurvePublicKey:
    attribute = token.pkcs11.Attribute
    private = _private_key(token, session, kid)
    readable = private[attribute.EXTRACTABLE] or not private[attribute.SENSITIVE]
    if readable or not private[attribute.NEVER_EXTRACTABLE]:
        raise KeyMaterialError(f"the key {kid!r} can be read out of its token, or once could: replace it")
    public = _objects(token, session, kid, "PUBLIC_KEY")
    if len(public) != 1:
        raise KeyMaterialError(f"the token {token.label!r} has not exactly one public key {kid!r}")
    public_key = _point(public[0][attribute.EC_POINT])
    if VerificationKey.of(public_key).kid != kid:
        raise KeyMaterialError(f"the token {token.label!r} has another key under the name {kid!r}")
    return public_key


def _sign(token: Pkcs11Token, session: Session, kid: str, digest: bytes) -> bytes:
    if kid not in token.handles:
        token.handles[kid] = _private_key(token, session, kid)
    signature: bytes = token.handles[kid].sign(digest, mechanism=token.pkcs11.Mechanism.ECDSA)
    if len(signature) != 2 * _COORDINATE:
        raise KeyMaterialError("a signature of the token that is not 64 bytes long")
    return signature


def _destroy(token: Pkcs11Token, session: Session, kid: str) -> None:
    token.handles.pop(kid, None)
    # The private half first: what is left of a crash between the two can sign nothing.
    for kind in ("PRIVATE_KEY", "PUBLIC_KEY"):
        for half in _objects(token, session, kid, kind):
            half.destroy()


def _private_key(token: Pkcs11Token, session: Session, kid: str) -> Pkcs11Object:
    found = _objects(token, session, kid, "PRIVATE_KEY")
    if len(found) != 1:
        raise KeyMaterialError(
            f"the token {token.label!r} has not exactly one key {kid!r}: restore it from a backup"
        )
    return found[0]


def _objects(token: Pkcs11Token, session: Session, kid: str, kind: str) -> list[Pkcs11Object]:
    pkcs11 = token.pkcs11
    wanted = {pkcs11.Attribute.ID: kid.encode(), pkcs11.Attribute.CLASS: pkcs11.ObjectClass[kind]}
    return list(session.get_objects(wanted))


def _point(value: bytes) -> ec.EllipticCurvePublicKey:
    point = value.removeprefix(_POINT_HEADER) if len(value) == _POINT_BYTES + len(_POINT_HEADER) else value
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    except ValueError as error:
        raise KeyMaterialError("a public key of the token that is not on P-256") from error
